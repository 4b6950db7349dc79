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
  RequestId,
} from '../types.ts'
import type { AwakeHold, InstanceLife } from './instance-life.ts'
import type { AwakePlace } from './awake-sessions.ts'
import type { RequestOutcome, StreamKind } from './events.ts'
import { type Hold, IdleClock, type IdleClockOwner } from './idle-clock.ts'
import { Instance } from './instance.ts'
import type { InstanceTransport, TransportHost } from './instance-transport.ts'
import { Outbound, sessionClosed, errorResponse } from './outbound.ts'
import type { PostAnswer } from './post-answer.ts'
import { type AnswerSink, type RequestsOwner, RunningRequest, RunningRequests } from './running-request.ts'
import type { Runtime } from './runtime.ts'
import { FactoryContext } from './server-context.ts'
import { ServerRequests } from './server-requests.ts'
import { serializeOutgoing } from './serialize.ts'
import { asksClient, capabilityOf, clientIdentity, keptData, type SessionRecord } from './session-record.ts'
import { SessionStreams, STREAM_LIMIT } from './session-streams.ts'
import type { IdleSessions, Slot } from './session-table.ts'
import { NOT_WOKEN, rebuild, WAKE_PAUSE } from './waking.ts'
import type { Refusal } from './refusal.ts'
import { NOT_FOUND } from './refusals.ts'

/** The first revision whose clients take events of empty data. */
const FIRST_PRIMING_VERSION = '2025-11-25'

/** What `logging/setLevel` can set (server/utilities/logging, all revisions); a client may send anything of any size. */
const LOG_LEVELS: ReadonlySet<unknown> = new Set([
  'debug',
  'info',
  'notice',
  'warning',
  'error',
  'critical',
  'alert',
  'emergency',
])

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

/** What going to sleep came to; `awake`: something needs the instance. */
export type SleepOutcome = 'asleep' | 'awake' | 'falling-asleep'

/** How long an author's `onSleep` may take, in milliseconds. */
const SLEEP_HOOK_TIMEOUT = 5_000

/** What a session has only while it has an instance, or is about to have one: a million that sleep have none of it. */
class AwakePart {
  readonly requests: RunningRequests
  serverRequests: ServerRequests | undefined
  outbound: Outbound | undefined
  instance: Instance | undefined
  place: AwakePlace | undefined
  /** The instance that is being built again. */
  rebuilding: Instance | undefined
  /** The life that the factory was told of. */
  building: InstanceLife | undefined
  waking: Promise<Refusal | undefined> | undefined
  wakeFailedAt: number | undefined
  fallingAsleep = false

  constructor(owner: RequestsOwner) {
    this.requests = new RunningRequests(owner)
  }

  /** Whether all of it can be let go: one made anew would be the same. */
  get blank(): boolean {
    return (
      this.instance === undefined &&
      this.waking === undefined &&
      this.wakeFailedAt === undefined &&
      this.requests.size === 0 &&
      (this.serverRequests?.empty ?? true)
    )
  }
}

/** One session. What not every session needs is made on first use, and let go when it sleeps. */
export class Session implements TransportHost, IdleClockOwner, Linked<Session> {
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
  #awake: AwakePart | undefined
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

  get #part(): AwakePart {
    return (this.#awake ??= new AwakePart(this))
  }

  /** The running requests. */
  get requests(): RunningRequests {
    return this.#part.requests
  }

  /** What the client was asked. */
  get serverRequests(): ServerRequests {
    const { record, runtime } = this
    return (this.#part.serverRequests ??= new ServerRequests(
      runtime.options.maxServerRequestsPerSession,
      () => {
        record.serverRequests += 1
        return record.serverRequests
      },
      () => this.instanceUsed(),
    ))
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
    return this.#awake?.instance
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
  async build(exchange: Exchange, authInfo: AuthInfo | undefined): Promise<void> {
    const context = new FactoryContext(this, exchange, authInfo, false)
    this.#part.building = context.life
    const instance = await Instance.create(this.runtime, this, context, this.publicId)
    // From here on the end of the session closes the server, even one whose connect() never comes back.
    if (this.#state !== 'closed') this.#part.instance = instance
    await instance.connect()
    // The session was given up while the factory worked. Its late server was connected all the same: only then does the SDK tell the
    // author's onclose of the end.
    if (this.#awake?.instance === undefined) instance.close(this.#closeReason ?? 'failed')
  }

  /**
   * Makes sure that there is an instance, and keeps it until the result is released; a refusal when there cannot be one. Requests at once
   * wake the session once.
   */
  async wake(exchange: Exchange, authInfo: AuthInfo | undefined): Promise<Refusal | AwakeHold> {
    while (true) {
      const part = this.#part
      if (part.instance !== undefined) return part.instance.life.hold()
      if (this.#state !== 'open') return NOT_FOUND
      if (part.waking === undefined) {
        if (this.#failedLately()) return NOT_WOKEN
        part.waking = this.#rebuild(exchange, authInfo)
      }
      const refusal = await part.waking
      if (refusal !== undefined) return refusal
    }
  }

  #failedLately(): boolean {
    const failedAt = this.#awake?.wakeFailedAt
    return failedAt !== undefined && this.runtime.clock.now() - failedAt < WAKE_PAUSE
  }

  async #rebuild(exchange: Exchange, authInfo: AuthInfo | undefined): Promise<Refusal | undefined> {
    const { clock, hub } = this.runtime
    const began = clock.now()
    const context = new FactoryContext(this, exchange, authInfo, true)
    this.#part.building = context.life
    const woken = await rebuild(this, context, (instance) => {
      this.#part.rebuilding = instance
    })
    this.#part.waking = undefined
    this.#part.rebuilding = undefined
    if (woken.kind === 'other-version' && this.#state === 'open')
      this.close('failed', `the server speaks ${woken.version} now, not ${this.record.protocolVersion}`)
    // What an instance asked that was given up is waited for by nobody.
    if (woken.kind !== 'awake') this.#awake?.outbound?.abandon()
    if (this.#state !== 'open') return NOT_FOUND
    if (woken.kind !== 'awake') {
      this.#part.wakeFailedAt = clock.now()
      return NOT_WOKEN
    }
    this.#part.instance = woken.instance
    this.#part.place = this.runtime.awake?.add(this)
    if (hub.active)
      hub.emit({
        type: 'session.woken',
        time: clock.wallTime(),
        session: this.publicId,
        durationMs: clock.now() - began,
      })
    if (woken.announces) {
      if (this.record.changed) {
        this.record.changed = false
        this.recordChanged()
      }
      this.announceLists((data) => this.streams.standalone.notify(data))
    }
    return undefined
  }

  /** Whether something needs the instance: a request, one on its way to the client, whatever the author keeps awake. */
  get needsInstance(): boolean {
    const instance = this.#awake?.instance
    if (instance === undefined) return this.#awake?.waking !== undefined
    return this.running > 0 || (this.#awake?.serverRequests?.size ?? 0) > 0 || instance.life.held
  }

  /** Lets the instance go, where nothing needs it. The record stays, and with it the session. */
  sleep(): SleepOutcome {
    const instance = this.#awake?.instance
    if (instance === undefined) return 'asleep'
    if (this.#state !== 'open' || this.needsInstance || this.#awake?.fallingAsleep) return 'awake'
    if (!instance.life.hasSleepHooks) {
      if (instance.life.changed) {
        this.runtime.warnOnce(
          'a session stays awake because its server announced changes of its own (tools, prompts or resources registered after it was built), which a rebuilt one would not know of: keep them in session.data with context.onSleep(), or register them in createServer',
          { session: this.label },
        )
        return 'awake'
      }
      this.#fallAsleep(instance)
      return 'asleep'
    }
    const place = this.#awake?.place
    const uses = place?.uses
    void this.runSleepHooks().then((done) => {
      if (this.#awake?.instance !== instance || this.#state !== 'open') return
      // When it was used meanwhile, what the hooks put down may be out of date.
      if (done && !this.needsInstance && place?.uses === uses) this.#fallAsleep(instance)
      else if (place !== undefined) this.runtime.awake?.stays(place)
    })
    return 'falling-asleep'
  }

  /** Runs what the author wants done before the instance is let go. Resolves, never rejects, with whether it was done. */
  async runSleepHooks(): Promise<boolean> {
    const life = this.#awake?.instance?.life
    if (life === undefined || !life.hasSleepHooks || this.#awake?.fallingAsleep) return true
    const { deadlines, log } = this.runtime
    this.#part.fallingAsleep = true
    let timedOut = (): void => {}
    const deadline = new DeadlineCall(() => timedOut())
    const timeout = new Promise<never>((_resolve, reject) => {
      timedOut = () =>
        reject(new SojournError('timeout', `onSleep took longer than ${SLEEP_HOOK_TIMEOUT} ms`))
      life.onEnded = () =>
        reject(new SojournError('session-closed', 'The session ended before onSleep was done'))
    })
    deadlines.arm(deadline, SLEEP_HOOK_TIMEOUT)
    try {
      await Promise.race([life.runSleepHooks(), timeout])
      return true
    } catch (thrown) {
      if (this.#state !== 'closed')
        log.error('onSleep failed; the session stays awake', { session: this.label, error: thrown })
      return false
    } finally {
      deadlines.disarm(deadline)
      life.onEnded = undefined
      this.#part.fallingAsleep = false
    }
  }

  #fallAsleep(instance: Instance): void {
    const { hub, clock } = this.runtime
    this.#letGo()
    instance.close('sleep')
    const part = this.#awake
    if (part !== undefined) {
      part.building = undefined
      part.outbound = undefined
      part.wakeFailedAt = undefined
    }
    this.#trim()
    if (this.#streams?.blank === true) this.#streams = undefined
    if (hub.active) hub.emit({ type: 'session.slept', time: clock.wallTime(), session: this.publicId })
  }

  /** Lets go what is made again on first use. */
  #trim(): void {
    if (this.#awake?.blank === true) this.#awake = undefined
  }

  #letGo(): void {
    const part = this.#awake
    if (part === undefined) return
    part.instance = undefined
    if (part.place !== undefined) this.runtime.awake?.remove(part.place)
    part.place = undefined
  }

  /** The instance was used, or is not needed for what it was any more. */
  instanceUsed(): void {
    const place = this.#awake?.place
    if (place !== undefined) this.runtime.awake?.touch(place)
  }

  /** `initialize` succeeded: the session may be found, and its clock runs. */
  open(): void {
    this.#state = 'open'
    if (this.ephemeral) return
    this.#setTimeouts()
    this.#part.place = this.runtime.awake?.add(this)
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
    this.instanceUsed()
    this.#awake?.instance?.transport.onmessage?.(message, extra)
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
    if (!('error' in response)) this.#remember(request)
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
      this.#part.outbound ??= new Outbound(this)
      await this.#part.outbound.sendUnrelated(data)
    } catch (thrown) {
      this.serverRequests.remove(id)
      throw thrown
    }
    return id
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
    const instance = this.#awake?.instance
    this.#letGo()
    instance?.close(reason)
    this.#awake?.rebuilding?.close(reason)
    this.#awake?.building?.end(reason)
    this.#awake?.serverRequests?.abandonAll()
    if (!kept) this.#release()
    if (wasOpen && !this.ephemeral) this.#emitClosed(reason, detail, kept)
  }

  /** Nobody needs what was shared with other sessions. */
  #release(): void {
    const { record, runtime } = this
    runtime.shared.release(record.initialize)
    if (record.capabilities !== undefined) runtime.shared.release(record.capabilities)
  }

  // What the instance says

  sendFromInstance(
    transport: InstanceTransport,
    message: JsonRpcMessage,
    relatedRequestId: RequestId | undefined,
  ): Promise<void> {
    if (transport !== this.#awake?.instance?.transport && transport !== this.#awake?.rebuilding?.transport) {
      // Only a request has a caller who waits; what else a dying server says is of no use to anyone.
      const why =
        this.#closeReason === undefined
          ? 'The instance was put to sleep'
          : `The session has ended (${this.#closeReason})`
      return 'method' in message && 'id' in message
        ? Promise.reject(new SojournError('session-closed', why))
        : Promise.resolve()
    }
    this.#part.outbound ??= new Outbound(this)
    return this.#part.outbound.send(transport, message, relatedRequestId)
  }

  closedByInstance(transport: InstanceTransport): void {
    if (transport === this.#awake?.instance?.transport)
      this.close('failed', 'the server closed its own connection')
  }

  /** The instance announced that one of its lists changed, which one built again will not know. */
  listChanged(): void {
    const life = this.#awake?.instance?.life
    if (life === undefined || life.changed) return
    life.changed = true
    this.record.changed = true
    this.recordChanged()
  }

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

  /** Keeps what a rebuilt instance would have to be told again. */
  #remember(request: RunningRequest): void {
    const { record } = this
    const uri = request.params?.['uri']
    if (request.method === 'resources/subscribe' && typeof uri === 'string') {
      record.subscriptions ??= new Set()
      record.subscriptions.add(uri)
      this.recordChanged()
    } else if (request.method === 'resources/unsubscribe' && typeof uri === 'string') {
      if (record.subscriptions?.delete(uri) === true) this.recordChanged()
    } else if (request.method === 'logging/setLevel') {
      const level = request.params?.['level']
      if (!LOG_LEVELS.has(level)) return
      record.logLevel = level as string
      this.recordChanged()
    }
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
    if (this.#awake?.instance === undefined && this.#state === 'open') this.#trim()
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
