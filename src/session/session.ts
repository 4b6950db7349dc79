/** A session: its record, its instance, what holds it, and the one door it leaves by. */

import { createHash } from 'node:crypto'

import { DeadlineCall } from '../deadlines.ts'
import { messageOf, SojournError } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { Linked } from '../linked-list.ts'
import type {
  AuthInfo,
  ClientIdentity,
  CloseReason,
  JsonRpcMessage,
  JsonRpcRequest,
  JsonRpcResponse,
  JsonValue,
  MessageExtra,
} from '../types.ts'
import type { AwakeHold } from './instance-life.ts'
import type { RequestOutcome, StreamKind } from './events.ts'
import { type Hold, IdleClock, type IdleClockOwner } from './idle-clock.ts'
import type { Instance } from './instance.ts'
import { errorResponse, sessionClosed } from './outbound.ts'
import type { PostAnswer } from './post-answer.ts'
import {
  type AnswerSink,
  type RequestsOwner,
  RunningRequest,
  type RunningRequests,
} from './running-request.ts'
import type { Runtime } from './runtime.ts'
import type { ServerRequests } from './server-requests.ts'
import { SessionInstance, type SleepOutcome } from './session-instance.ts'
import { serializeOutgoing } from './serialize.ts'
import {
  asksClient,
  capabilityOf,
  clientIdentity,
  keptData,
  remember,
  type SessionRecord,
} from './session-record.ts'
import { SessionStreams, STREAM_LIMIT } from './session-streams.ts'
import type { IdleSessions, Slot } from './session-table.ts'
import type { Refusal } from './refusal.ts'
import { NOT_FOUND } from './refusals.ts'

/** The first revision whose clients take events of empty data. */
const FIRST_PRIMING_VERSION = '2025-11-25'

/**
 * - `opening`: `initialize` is on its way; nobody can find the session yet.
 * - `open`: in the table.
 * - `closed`: gone; answers 404.
 */
export type SessionState = 'opening' | 'open' | 'closed'

/** What a session tells the table it is in. */
export interface SessionOwner {
  /** The session became busy or idle. */
  activityChanged(session: Session): void
  /** The session is closed; it must not be found any more when this returns. */
  closed(session: Session, reason: CloseReason): void
}

/** One session. What not every session needs is made on first use, and let go when it sleeps. */
export class Session implements IdleClockOwner, RequestsOwner, Linked<Session> {
  readonly runtime: Runtime
  readonly record: SessionRecord
  /** Under `stateless`: lives for one POST, has no id and no place in the table. */
  readonly ephemeral: boolean
  readonly clock: IdleClock
  /** Whether the client said that it can be asked something (sampling, elicitation, roots). */
  readonly asksClient: boolean
  /** @internal Where the table keeps the session: its slot, and its place among the idle. */
  slot: Slot | undefined
  /** @internal */ idleList: IdleSessions | undefined
  /** @internal Links of that list. */ next: Session | undefined
  /** @internal */ previous: Session | undefined
  /** @internal Whether the store has yet to be told of a change of the record. */
  unsaved = false
  /** @internal Whether the store counts the session as in use. */
  storedBusy = true
  readonly #owner: SessionOwner
  readonly #openedAt: number
  #key: string | undefined
  #streams: SessionStreams | undefined
  #awake: SessionInstance | undefined
  #state: SessionState = 'opening'
  #abort: AbortController | undefined
  #closeReason: CloseReason | undefined
  #idleTimeout = 0
  #idleSince: number
  #maxAge: DeadlineCall | undefined
  #tooOld = false

  /** `openedAt`: monotonic time of `initialize`; now unless the session comes from a store. `key`: as {@link Session.key}, where the id is not known. */
  constructor(
    runtime: Runtime,
    record: SessionRecord,
    owner: SessionOwner,
    ephemeral: boolean,
    stored?: { readonly openedAt: number; readonly key: string },
  ) {
    this.runtime = runtime
    this.record = record
    this.ephemeral = ephemeral
    this.asksClient = asksClient(record)
    this.#owner = owner
    this.#openedAt = stored?.openedAt ?? runtime.clock.now()
    this.#key = stored?.key
    this.#idleSince = this.#openedAt
    this.clock = new IdleClock(runtime.deadlines, this)
  }

  get #part(): SessionInstance {
    return (this.#awake ??= new SessionInstance(this))
  }

  /** The running requests. */
  get requests(): RunningRequests {
    return this.#part.requests
  }

  /** What the client was asked. */
  get serverRequests(): ServerRequests {
    return this.#part.serverRequests
  }

  /** The streams. */
  get streams(): SessionStreams {
    return (this.#streams ??= new SessionStreams(this))
  }

  get state(): SessionState {
    return this.#state
  }

  /** SHA-256 of the id (base64url): what logs and stores know the session by, since the id is a credential. */
  get key(): string {
    return (this.#key ??= sessionKey(this.record.id))
  }

  /** The beginning of the id, for people. */
  get label(): string {
    return this.record.id.slice(0, LABEL_LENGTH)
  }

  /** Whether a request other than `ping` was accepted, or a GET opened, since the handshake. */
  get used(): boolean {
    return this.record.used
  }

  /** Monotonic time since which nothing holds the session. */
  get idleSince(): number {
    return this.#idleSince
  }

  /** Monotonic time of `initialize`. */
  get openedAt(): number {
    return this.#openedAt
  }

  /** The id clients and authors know; undefined under `stateless`. */
  get publicId(): string | undefined {
    return this.ephemeral ? undefined : this.record.id
  }

  /** The instance, once it is built and while it does not sleep. */
  get instance(): Instance | undefined {
    return this.#awake?.current
  }

  /** Why it ended; undefined until it has. */
  get closeReason(): CloseReason | undefined {
    return this.#closeReason
  }

  /** How many requests run. */
  get running(): number {
    return this.#awake?.requests.size ?? 0
  }

  /** How many SSE connections are open. */
  get openStreams(): number {
    return this.#streams?.open ?? 0
  }

  /** Whether a GET connection is attached. */
  get standaloneOpen(): boolean {
    return this.#streams?.standaloneOpen ?? false
  }

  /** Whether another stream may be opened; a refusal when not. */
  admitStream(): Refusal | undefined {
    return this.openStreams >= this.runtime.options.maxStreamsPerSession ? STREAM_LIMIT : undefined
  }

  /** The client as it named itself. */
  get client(): ClientIdentity | undefined {
    return clientIdentity(this.record.initialize.parse()['clientInfo'])
  }

  /** Whether SSE streams start with a priming event. */
  get primes(): boolean {
    return (
      !this.ephemeral &&
      this.runtime.eventLog !== undefined &&
      this.record.protocolVersion >= FIRST_PRIMING_VERSION
    )
  }

  /** Aborts when the session ends. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController()
      if (this.#closeReason !== undefined) this.#abort.abort(this.#closeReason)
    }
    return this.#abort.signal
  }

  /** Replaces the author's data. */
  setData(value: JsonValue): void {
    this.record.data = keptData(value, this.runtime.options.maxSessionDataSize)
    this.recordChanged()
  }

  /** Notes what the server declared. */
  setCapabilities(json: string): void {
    const { record, runtime } = this
    const before = record.capabilities
    record.capabilities = runtime.shared.hold(json)
    if (before !== undefined) runtime.shared.release(before)
    this.recordChanged()
  }

  /** The log lost what it held. */
  logEmptied(): void {
    this.#streams?.logEmptied()
  }

  /** A connection took a message of the GET stream that none had taken before. */
  delivered(position: number): void {
    this.record.delivered = position
    this.runtime.keeper?.delivered(this)
  }

  /** The record is to be kept as it is now, at the latest with the next answer. */
  recordChanged(): void {
    this.runtime.keeper?.changed(this)
  }

  /** Builds the instance. May throw whatever the factory throws; the caller closes the session then. */
  build(exchange: Exchange, authInfo: AuthInfo | undefined): Promise<void> {
    return this.#part.build(exchange, authInfo)
  }

  /**
   * Makes sure that there is an instance, and keeps it until the result is released; a refusal when there cannot be one. Requests at once
   * wake the session once.
   */
  async wake(exchange: Exchange, authInfo: AuthInfo | undefined): Promise<Refusal | AwakeHold> {
    while (true) {
      const hold = this.#awake?.hold()
      if (hold !== undefined) return hold
      if (this.#state !== 'open') return NOT_FOUND
      const refusal = await this.#part.wake(exchange, authInfo)
      if (refusal !== undefined) return refusal
    }
  }

  /** Lets the instance go, where nothing needs it. The record stays, and with it the session. */
  sleep(): SleepOutcome {
    return this.#awake?.sleep() ?? 'asleep'
  }

  /** Runs what the author wants done before the instance is let go. Resolves, never rejects, with whether it was done. */
  runSleepHooks(): Promise<boolean> {
    return this.#awake?.runSleepHooks() ?? Promise.resolve(true)
  }

  /** @internal The instance was let go. */
  fellAsleep(): void {
    const { hub, clock } = this.runtime
    this.#trim()
    if (this.#streams?.blank === true) this.#streams = undefined
    if (hub.active) hub.emit({ type: 'session.slept', time: clock.wallTime(), session: this.publicId })
  }

  /** Lets go what is made again on first use. */
  #trim(): void {
    if (this.#awake?.blank === true) this.#awake = undefined
  }

  /** The instance was used, or is not needed for what it was any more. */
  instanceUsed(): void {
    this.#awake?.used()
  }

  /** `initialize` succeeded: the session may be found, and its clock runs. */
  open(): void {
    this.#state = 'open'
    if (this.ephemeral) return
    this.#setTimeouts()
    this.#part.opened()
    this.clock.start()
    this.#owner.activityChanged(this)
  }

  /**
   * The session comes from a store: asleep, and idle since a monotonic time that may be before this process. One whose time was over when
   * the app began, at `began`, ends at once: the requests that wait for the store to be read came too late for it.
   */
  restore(idleSince: number, began: number = Number.NEGATIVE_INFINITY): void {
    this.#state = 'open'
    this.#idleSince = idleSince
    this.#setTimeouts()
    if (idleSince + this.idleTimeout() < began) {
      this.onExpired()
      return
    }
    this.clock.startSince(idleSince)
    this.#owner.activityChanged(this)
  }

  #setTimeouts(): void {
    const { options, deadlines } = this.runtime
    this.#idleTimeout =
      typeof options.sessionIdleTimeout === 'number'
        ? options.sessionIdleTimeout
        : options.sessionIdleTimeout({ principal: this.record.principal, client: this.client })
    if (options.sessionMaxAge === Number.POSITIVE_INFINITY) return
    this.#maxAge = new DeadlineCall(() => this.#maxAgeReached())
    deadlines.armAt(this.#maxAge, this.#openedAt + options.sessionMaxAge)
  }

  /** Takes note that the client uses the session, so that `unusedSessionTimeout` no longer applies. */
  markUsed(): void {
    if (this.record.used) return
    this.record.used = true
    this.recordChanged()
    // Until the store knows, a crash would make the session one that was never used. Answers wait for it, a stream does not.
    this.runtime.keeper?.commit(this)?.catch(() => {})
    this.#owner.activityChanged(this)
  }

  /** The client finished the handshake. */
  initialized(): void {
    if (this.record.initialized) return
    this.record.initialized = true
    this.recordChanged()
    const { hub, clock } = this.runtime
    if (hub.active && !this.ephemeral) {
      hub.emit({ type: 'session.initialized', time: clock.wallTime(), session: this.publicId })
    }
  }

  /** Hands a message to the instance. What it throws is the caller's to answer. */
  deliver(message: JsonRpcMessage, extra: MessageExtra | undefined): void {
    this.#awake?.deliver(message, extra)
  }

  /** Registers a request that is about to be handed to the instance. */
  start(request: JsonRpcRequest, sink: AnswerSink, hold: Hold | undefined): RunningRequest {
    const running = new RunningRequest(
      this.requests.nextPrivateId(),
      request,
      sink,
      this.runtime.clock.now(),
      hold,
    )
    this.requests.add(running)
    this.runtime.load.started()
    if (this.runtime.hub.active && this.#state === 'open') {
      running.announced = true
      this.runtime.hub.emit({
        type: 'request.started',
        time: this.runtime.clock.wallTime(),
        session: this.publicId,
        request: running.id,
        method: running.method,
        name: running.target,
      })
    }
    return running
  }

  // The hold goes last in each of these: it may end a session whose age is over, and then nothing could be answered any more.

  /**
   * Answers a running request, once; the response still has the private id. What it may have changed about the session is kept first;
   * without `changes` there is nothing but the use itself.
   */
  settle(request: RunningRequest, response: JsonRpcResponse, changes = true): void {
    if (request.answered || !request.running) return
    if (!('error' in response) && remember(this.record, request)) this.recordChanged()
    const { keeper } = this.runtime
    const kept = changes ? keeper?.commit(this) : keeper?.expectUse(this)
    if (kept === undefined) {
      this.#answer(request, response)
      return
    }
    // Until then it counts as running: the end of the session must still be able to answer it.
    request.answered = true
    kept.then(
      () => this.#answer(request, response),
      () => this.#answer(request, errorResponse(request.id, JsonRpcErrorCode.INTERNAL_ERROR, NOT_KEPT), 503),
    )
  }

  #answer(request: RunningRequest, response: JsonRpcResponse, status?: number): void {
    if (!this.requests.settle(request, 'error' in response ? 'error' : 'ok')) return
    request.sink.answer(request, response, status)
    request.releaseHold()
  }

  /** Ends a running request because of something else than its handler. */
  abort(request: RunningRequest, response: JsonRpcResponse): void {
    if (!this.requests.settle(request, 'aborted')) return
    request.sink.answer(request, response)
    request.releaseHold()
  }

  /** The client cancelled: neither SDK answers after that, so the request is settled here. */
  cancel(request: RunningRequest): void {
    if (!this.requests.settle(request, 'cancelled')) return
    request.sink.cancelled(request)
    request.releaseHold()
  }

  /** A call went on without its connection for as long as it may. */
  abortDetached(answer: PostAnswer): void {
    for (const request of this.requests.all()) {
      if (request.sink !== answer) continue
      this.tellCancelled(request, 'the client did not come back for it')
      this.abort(
        request,
        errorResponse(
          request.id,
          JsonRpcErrorCode.SERVER_ERROR,
          'Request aborted: its connection was gone for too long',
        ),
      )
    }
  }

  /** Aborts the handler of a request, as if the client had cancelled it. */
  tellCancelled(request: RunningRequest, reason: string): void {
    try {
      this.deliver(
        {
          jsonrpc: '2.0',
          method: 'notifications/cancelled',
          params: { requestId: request.privateId, reason },
        },
        undefined,
      )
    } catch (thrown) {
      this.instanceError(thrown)
    }
  }

  /** Sends a notification from outside any handler. */
  notify(method: string, params: Readonly<Record<string, unknown>> | undefined): void {
    const data = serializeOutgoing(this, { jsonrpc: '2.0', method, ...(params && { params }) })
    if (data === undefined)
      throw new SojournError('limit-exceeded', 'The notification is larger than maxMessageSize')
    this.streams.standalone.notify(data)
  }

  /** Sends a request from outside any handler. `onAnswer` gets the client's response, or undefined when the session ends first. */
  async request(
    method: string,
    params: Readonly<Record<string, unknown>> | undefined,
    onAnswer: (response: JsonRpcResponse | undefined) => void,
  ): Promise<number> {
    const id = this.serverRequests.add({ answered: onAnswer, abandoned: () => onAnswer(undefined) })
    const data = serializeOutgoing(this, { jsonrpc: '2.0', id, method, ...(params && { params }) })
    try {
      if (data === undefined)
        throw new SojournError('limit-exceeded', 'The request is larger than maxMessageSize')
      await this.#part.outbound.sendUnrelated(data)
    } catch (thrown) {
      this.serverRequests.remove(id)
      throw thrown
    }
    return id
  }

  /** @internal An instance that was built again is not known to have the lists that its client knows. */
  listsMayDiffer(): void {
    if (this.record.changed) {
      this.record.changed = false
      this.recordChanged()
    }
    this.announceLists((data) => this.streams.standalone.notify(data))
  }

  /** Tells clients on a stream with a gap that every list may have changed. */
  announceLists(write: (data: string) => void): void {
    for (const list of ['tools', 'prompts', 'resources']) {
      if (capabilityOf(this.record, list) === undefined) continue
      write(JSON.stringify({ jsonrpc: '2.0', method: `notifications/${list}/list_changed` }))
    }
  }

  /** The one door. Idempotent: the first reason counts. */
  close(reason: CloseReason, detail?: string, retry?: number): void {
    if (this.#state === 'closed') return
    const wasOpen = this.#state === 'open'
    this.#state = 'closed'
    this.#closeReason = reason
    this.clock.stop()
    if (this.#maxAge !== undefined) this.runtime.deadlines.disarm(this.#maxAge)
    // Nothing finds the session from here on; whoever is told of its end must not be able to revive it.
    this.#owner.closed(this, reason)
    // A shutdown ends the process, not the session, where a store keeps it.
    const kept = wasOpen && reason === 'shutdown' && this.runtime.keeper !== undefined
    if (kept) this.runtime.keeper?.leave(this)
    else if (wasOpen) this.runtime.keeper?.forget(this)
    for (const request of this.#awake?.requests.all() ?? [])
      this.abort(request, sessionClosed(request.id, reason))
    this.#streams?.close(retry, kept)
    this.#abort?.abort(reason)
    this.#awake?.end(reason)
    if (!kept) this.#release()
    if (wasOpen && !this.ephemeral) this.#emitClosed(reason, detail, kept)
  }

  /** Nobody needs what was shared with other sessions. */
  #release(): void {
    const { record, runtime } = this
    runtime.shared.release(record.initialize)
    if (record.capabilities !== undefined) runtime.shared.release(record.capabilities)
  }

  /** The instance announced that one of its lists changed, which one built again will not know. */
  listChanged(): void {
    this.#awake?.listChanged()
  }

  /** The instance reported what no message answers. */
  instanceError(thrown: unknown): void {
    this.runtime.log.warn('the server reported an error', {
      session: this.label,
      error: messageOf(thrown),
    })
  }

  // What the idle clock asks and tells

  idleTimeout(): number {
    if (this.record.used) return this.#idleTimeout
    return Math.min(this.#idleTimeout, this.#unusedTimeout)
  }

  onBusy(): void {
    this.runtime.keeper?.busy(this)
    this.#owner.activityChanged(this)
  }

  onIdle(): void {
    this.#idleSince = this.runtime.clock.now()
    // Under `stateless` a session is its one POST.
    if (this.ephemeral) this.close('shutdown')
    else if (this.#tooOld) this.clock.expireWhenFree()
    else this.#owner.activityChanged(this)
    this.runtime.keeper?.idle(this)
  }

  onExpired(): void {
    if (this.#tooOld) this.close('max-age')
    else this.close(!this.record.used && this.#unusedTimeout < this.#idleTimeout ? 'unused' : 'idle')
  }

  /** Emits an event of a stream; called by its connections. */
  emitStream(
    type: 'stream.opened' | 'stream.closed',
    stream: number,
    kind: StreamKind,
    durationMs: number,
  ): void {
    const { hub, clock } = this.runtime
    if (!hub.active) return
    const base = { time: clock.wallTime(), session: this.publicId, stream, kind }
    hub.emit(type === 'stream.opened' ? { type, ...base } : { type, ...base, durationMs })
  }

  get #unusedTimeout(): number {
    const { unusedSessionTimeout, handshakeTimeout } = this.runtime.options
    return this.record.initialized ? unusedSessionTimeout : Math.min(unusedSessionTimeout, handshakeTimeout)
  }

  #maxAgeReached(): void {
    // Work in flight, an upload included, may finish, for as long as a shutdown would wait for it.
    this.#tooOld = true
    this.clock.expireWhenFree()
    if (this.#state === 'closed') return
    this.#maxAge = new DeadlineCall(() => this.close('max-age'))
    this.runtime.deadlines.arm(this.#maxAge, this.runtime.options.drainTimeout)
  }

  /** @internal A request was answered, or given up. */
  requestEnded(request: RunningRequest, outcome: RequestOutcome): void {
    const { hub, clock, load } = this.runtime
    load.ended()
    this.instanceUsed()
    // A ping of one that sleeps.
    if (this.#awake?.current === undefined && this.#state === 'open') this.#trim()
    if (!request.announced) return
    hub.emit({
      type: 'request.ended',
      time: clock.wallTime(),
      session: this.publicId,
      request: request.id,
      method: request.method,
      name: request.target,
      outcome,
      durationMs: clock.now() - request.startedAt,
    })
  }

  #emitClosed(reason: CloseReason, detail: string | undefined, kept: boolean): void {
    const { hub, clock } = this.runtime
    if (!hub.active) return
    if (kept) {
      hub.emit({ type: 'session.slept', time: clock.wallTime(), session: this.publicId })
      return
    }
    hub.emit({
      type: 'session.closed',
      time: clock.wallTime(),
      session: this.publicId,
      reason,
      durationMs: clock.now() - this.#openedAt,
      detail,
    })
  }
}

/** How much of an id stands in logs and stores. */
const LABEL_LENGTH = 8

/** What a call is told whose changes could not be kept. */
const NOT_KEPT = 'Internal error: what the call changed in its session could not be stored, try again'

/** What logs and stores know a session by: SHA-256 of its id (base64url). */
export function sessionKey(id: string): string {
  return createHash('sha256').update(id).digest('base64url')
}
