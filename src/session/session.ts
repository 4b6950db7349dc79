/** A session: its record, its instance, what holds it, and the one door it leaves by. */

import { DeadlineCall } from '../deadlines.ts'
import { messageOf, SojournError } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
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
import type { RequestOutcome, StreamKind } from './events.ts'
import { type Hold, IdleClock, type IdleClockOwner } from './idle-clock.ts'
import { Instance } from './instance.ts'
import type { InstanceTransport, TransportHost } from './instance-transport.ts'
import { Outbound, sessionClosed, errorResponse } from './outbound.ts'
import type { PostAnswer } from './post-answer.ts'
import { type AnswerSink, RunningRequest, RunningRequests } from './running-request.ts'
import type { Runtime } from './runtime.ts'
import { FactoryContext } from './server-context.ts'
import { ServerRequests } from './server-requests.ts'
import { clientIdentity, keptData, type SessionRecord } from './session-record.ts'
import { SessionStreams } from './session-streams.ts'

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

/** One session. */
export class Session implements TransportHost, IdleClockOwner {
  readonly runtime: Runtime
  readonly record: SessionRecord
  /** Under `stateless`: lives for one POST, has no id and no place in the table. */
  readonly ephemeral: boolean
  readonly clock: IdleClock
  readonly requests: RunningRequests
  readonly serverRequests: ServerRequests
  readonly streams: SessionStreams
  readonly #owner: SessionOwner
  readonly #outbound: Outbound
  readonly #openedAt: number
  #state: SessionState = 'opening'
  #used = false
  #instance: Instance | undefined
  #abort: AbortController | undefined
  #closeReason: CloseReason | undefined
  #idleTimeout = Number.POSITIVE_INFINITY
  #idleSince: number
  #maxAge: DeadlineCall | undefined
  #tooOld = false

  constructor(runtime: Runtime, record: SessionRecord, owner: SessionOwner, ephemeral: boolean) {
    this.runtime = runtime
    this.record = record
    this.ephemeral = ephemeral
    this.#owner = owner
    this.#openedAt = runtime.clock.now()
    this.#idleSince = this.#openedAt
    this.clock = new IdleClock(runtime.deadlines, this)
    this.requests = new RunningRequests((request, outcome) => this.#requestEnded(request, outcome))
    this.serverRequests = new ServerRequests(runtime.options.maxServerRequestsPerSession, () => {
      record.serverRequests += 1
      return record.serverRequests
    })
    this.streams = new SessionStreams(this)
    this.#outbound = new Outbound(this)
  }

  get state(): SessionState {
    return this.#state
  }

  /** Whether a request other than `ping` was accepted, or a GET opened, since the handshake. */
  get used(): boolean {
    return this.#used
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

  /** The instance, once it is built. */
  get instance(): Instance | undefined {
    return this.#instance
  }

  /** The client as it named itself. */
  get client(): ClientIdentity | undefined {
    return clientIdentity(this.record.initializeParams['clientInfo'])
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
  }

  /** Builds the instance. May throw whatever the factory throws; the caller closes the session then. */
  async build(exchange: Exchange, authInfo: AuthInfo | undefined): Promise<void> {
    const context = new FactoryContext(this, exchange, authInfo)
    const instance = await Instance.create(this.runtime, this, context, this.publicId)
    // From here on the end of the session closes the server, even one whose connect() never comes back.
    if (this.#state !== 'closed') this.#instance = instance
    await instance.connect()
    // The session was given up while the factory worked. Its late server was connected all the same: only then does the SDK tell the
    // author's onclose of the end.
    if (this.#instance === undefined) instance.close()
  }

  /** `initialize` succeeded: the session may be found, and its clock runs. */
  open(): void {
    this.#state = 'open'
    if (this.ephemeral) return
    const { options } = this.runtime
    this.#idleTimeout =
      typeof options.sessionIdleTimeout === 'number'
        ? options.sessionIdleTimeout
        : options.sessionIdleTimeout({ principal: this.record.principal, client: this.client })
    if (options.sessionMaxAge !== Number.POSITIVE_INFINITY) {
      this.#maxAge = new DeadlineCall(() => this.#maxAgeReached())
      this.runtime.deadlines.arm(this.#maxAge, options.sessionMaxAge)
    }
    this.clock.start()
    this.#owner.activityChanged(this)
  }

  /** Takes note that the client uses the session, so that `unusedSessionTimeout` no longer applies. */
  markUsed(): void {
    if (this.#used) return
    this.#used = true
    this.#owner.activityChanged(this)
  }

  /** The client finished the handshake. */
  initialized(): void {
    if (this.record.initialized) return
    this.record.initialized = true
    const { hub, clock } = this.runtime
    if (hub.active && !this.ephemeral) {
      hub.emit({ type: 'session.initialized', time: clock.wallTime(), session: this.publicId })
    }
  }

  /** Hands a message to the instance. What it throws is the caller's to answer. */
  deliver(message: JsonRpcMessage, extra: MessageExtra | undefined): void {
    this.#instance?.transport.onmessage?.(message, extra)
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

  /** Answers a running request, once; the response still has the private id. */
  settle(request: RunningRequest, response: JsonRpcResponse): void {
    const failed = 'error' in response
    if (!this.requests.settle(request, failed ? 'error' : 'ok')) return
    if (!failed) this.#remember(request)
    request.sink.answer(request, response)
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
    const data = this.serializeOutgoing({ jsonrpc: '2.0', method, ...(params && { params }) })
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
    const data = this.serializeOutgoing({ jsonrpc: '2.0', id, method, ...(params && { params }) })
    try {
      if (data === undefined)
        throw new SojournError('limit-exceeded', 'The request is larger than maxMessageSize')
      await this.#outbound.sendUnrelated(data)
    } catch (thrown) {
      this.serverRequests.remove(id)
      throw thrown
    }
    return id
  }

  /** The serialized form of an answer under the id the client knows; an error in its place when it cannot be sent. */
  serialize(response: JsonRpcResponse, id: RequestId): string {
    try {
      const data =
        'error' in response
          ? JSON.stringify({ jsonrpc: '2.0', id, error: response.error })
          : JSON.stringify({ jsonrpc: '2.0', id, result: response.result })
      if (!this.#tooLarge(data)) return data
      return errorBody(
        JsonRpcErrorCode.INTERNAL_ERROR,
        `The answer is larger than maxMessageSize (${this.runtime.options.maxMessageSize} bytes)`,
        id,
      )
    } catch (thrown) {
      this.instanceError(thrown)
      return errorBody(JsonRpcErrorCode.INTERNAL_ERROR, 'The answer could not be serialized', id)
    }
  }

  /** The serialized form of a notification or request; undefined, and logged, when it cannot be sent. */
  serializeOutgoing(message: JsonRpcMessage): string | undefined {
    try {
      const data = JSON.stringify(message)
      if (!this.#tooLarge(data)) return data
      this.runtime.log.warn('a message to the client was dropped: it is larger than maxMessageSize')
    } catch (thrown) {
      this.instanceError(thrown)
    }
    return undefined
  }

  /** Tells clients on a stream with a gap that every list may have changed. */
  announceLists(write: (data: string) => void): void {
    for (const list of ['tools', 'prompts', 'resources']) {
      if (this.record.serverCapabilities[list] === undefined) continue
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
    for (const request of this.requests.all()) this.abort(request, sessionClosed(request.id, reason))
    this.streams.close(retry)
    this.#abort?.abort(reason)
    this.#instance?.close()
    this.serverRequests.abandonAll()
    if (wasOpen && !this.ephemeral) this.#emitClosed(reason, detail)
  }

  // What the instance says

  sendFromInstance(
    transport: InstanceTransport,
    message: JsonRpcMessage,
    relatedRequestId: RequestId | undefined,
  ): Promise<void> {
    if (this.#state === 'closed') {
      // Only a request has a caller who waits; what else a dying server says is of no use to anyone.
      return 'method' in message && 'id' in message
        ? Promise.reject(new SojournError('session-closed', `The session has ended (${this.#closeReason})`))
        : Promise.resolve()
    }
    return this.#outbound.send(transport, message, relatedRequestId)
  }

  closedByInstance(): void {
    this.close('failed', 'the server closed its own connection')
  }

  instanceError(thrown: unknown): void {
    this.runtime.log.warn('the server reported an error', {
      session: this.#shortId,
      error: messageOf(thrown),
    })
  }

  // What the idle clock asks and tells

  idleTimeout(): number {
    if (this.#used) return this.#idleTimeout
    return Math.min(this.#idleTimeout, this.#unusedTimeout)
  }

  onBusy(): void {
    this.#owner.activityChanged(this)
  }

  onIdle(): void {
    this.#idleSince = this.runtime.clock.now()
    // Under `stateless` a session is its one POST.
    if (this.ephemeral) this.close('shutdown')
    else if (this.#tooOld) this.clock.expireWhenFree()
    else this.#owner.activityChanged(this)
  }

  onExpired(): void {
    if (this.#tooOld) this.close('max-age')
    else this.close(!this.#used && this.#unusedTimeout < this.#idleTimeout ? 'unused' : 'idle')
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

  get #shortId(): string {
    return this.record.id.slice(0, 8)
  }

  get #unusedTimeout(): number {
    const { unusedSessionTimeout, handshakeTimeout } = this.runtime.options
    return this.record.initialized ? unusedSessionTimeout : Math.min(unusedSessionTimeout, handshakeTimeout)
  }

  #tooLarge(data: string): boolean {
    const limit = this.runtime.options.maxMessageSize
    // UTF-8 needs at most three bytes per UTF-16 unit: short strings need no count.
    return data.length * 3 > limit && Buffer.byteLength(data) > limit
  }

  /** Keeps what a rebuilt instance would have to be told again. */
  #remember(request: RunningRequest): void {
    const { record } = this
    const uri = request.params?.['uri']
    if (request.method === 'resources/subscribe' && typeof uri === 'string') {
      record.subscriptions ??= new Set()
      record.subscriptions.add(uri)
    } else if (request.method === 'resources/unsubscribe' && typeof uri === 'string') {
      record.subscriptions?.delete(uri)
    } else if (request.method === 'logging/setLevel') {
      const level = request.params?.['level']
      if (LOG_LEVELS.has(level)) record.logLevel = level as string
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

  #requestEnded(request: RunningRequest, outcome: RequestOutcome): void {
    const { hub, clock, load } = this.runtime
    load.ended()
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

  #emitClosed(reason: CloseReason, detail: string | undefined): void {
    const { hub, clock } = this.runtime
    if (!hub.active) return
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
