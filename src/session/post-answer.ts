/** How one POST with requests is answered: one JSON body where that is possible, a stream otherwise. */

import { Deadline } from '../deadlines.ts'
import type { Exchange } from '../http/exchange.ts'
import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { ParsedMessage } from '../jsonrpc/message.ts'
import type { MessageStream } from '../stream/message-stream.ts'
import { SseConnection, type SseConnectionOwner } from '../stream/sse-connection.ts'
import { UnsentWatch } from '../stream/unsent-watch.ts'
import type { JsonRpcResponse, RequestId, ResponseMode } from '../types.ts'
import type { Hold } from './idle-clock.ts'
import type { Answerable, AnswerSink } from './running-request.ts'
import { serialize } from './serialize.ts'
import type { Session } from './session.ts'

const JSON_HEADERS = { 'Content-Type': 'application/json' } as const
/** What could not be stored may be asked for again. */
const RETRY_HEADERS = { ...JSON_HEADERS, 'Retry-After': '1' } as const

/**
 * - `waiting`: nothing was sent; a JSON body is still possible.
 * - `streaming`: an SSE stream was opened; its connection may be gone.
 * - `over`: answered, or nobody can be answered any more.
 */
type State = 'waiting' | 'streaming' | 'over'

/**
 * What became of one request while a JSON body was still possible. A list through itself: where V8 saw array literals of an allocation
 * site live long, it makes all of them in the old space, and each keeps what it leads to until the next full collection.
 */
class Collected {
  readonly request: Answerable
  readonly body: string
  readonly cancelled: boolean
  next: Collected | undefined

  constructor(request: Answerable, body: string, cancelled: boolean) {
    this.request = request
    this.body = body
    this.cancelled = cancelled
  }
}

/** The answer of one POST. As a deadline it is the JSON window at first, and the limit of a detached call later. */
export class PostAnswer extends Deadline implements AnswerSink, SseConnectionOwner {
  readonly #session: Session
  readonly #exchange: Exchange
  readonly #hold: Hold | undefined
  readonly #messages: readonly ParsedMessage[]
  readonly #batch: boolean
  readonly #mode: ResponseMode
  #state: State = 'waiting'
  /** The peer is gone, or was never going to be answered. */
  #gone = false
  #outstanding = 0
  #status = 200
  #collected: Collected | undefined
  #lastCollected: Collected | undefined
  #stream: MessageStream | undefined
  #watch: UnsentWatch | undefined

  constructor(
    session: Session,
    exchange: Exchange,
    hold: Hold | undefined,
    messages: readonly ParsedMessage[],
    batch: boolean,
    mode: ResponseMode,
  ) {
    super()
    this.#session = session
    this.#exchange = exchange
    this.#hold = hold
    this.#messages = messages
    for (const { kind } of messages) if (kind === 'request') this.#outstanding += 1
    this.#batch = batch
    this.#mode = mode
    if (exchange.closed) {
      // The client was gone before its request could be looked at: it is served all the same.
      this.#exchangeOver()
      return
    }
    exchange.onclose = () => this.#exchangeOver()
    if (mode !== 'json') session.runtime.deadlines.arm(this, session.runtime.options.jsonResponseWindow)
  }

  /** The ids of its requests. */
  get requests(): readonly RequestId[] {
    const ids: RequestId[] = []
    for (const { kind, message } of this.#messages) if (kind === 'request') ids.push(message.id)
    return ids
  }

  /** The stream, once there is one. */
  get stream(): MessageStream | undefined {
    return this.#stream
  }

  related(message: string, expectsAnswer: boolean): boolean {
    // Under `stateless` the client's answer would come to a server that never asked.
    if (this.#mode === 'json' || (expectsAnswer && this.#session.ephemeral)) return false
    if (this.#state === 'waiting') {
      // Without a stream no cursor was ever given out, so nobody could come back for it.
      if (this.#gone) return false
      this.#openStream()
    }
    const stream = this.#stream
    if (this.#state !== 'streaming' || stream === undefined) return false
    if (stream.connection?.writable !== true && this.#session.runtime.eventLog === undefined)
      return !expectsAnswer
    stream.send(message)
    return true
  }

  answer(request: Answerable, response: JsonRpcResponse, status?: number): void {
    this.#outstanding -= 1
    if (status !== undefined) this.#status = status
    const body = serialize(this.#session, response, request.id)
    if (this.#state === 'streaming')
      this.#stream?.send(body, { answer: request.id, last: this.#outstanding === 0 })
    else if (this.#mode === 'sse') {
      if (this.#state === 'waiting' && !this.#gone) {
        this.#openStream()
        this.#stream?.send(body, { answer: request.id, last: this.#outstanding === 0 })
      }
    } else this.#collect(request, body, false)
    if (this.#outstanding === 0) this.#complete()
  }

  cancelled(request: Answerable): void {
    this.#outstanding -= 1
    // A stream ends without a response; a JSON body cannot be left out, so it says what happened.
    if (this.#state === 'waiting' && this.#mode !== 'sse') {
      this.#collect(
        request,
        errorBody(JsonRpcErrorCode.REQUEST_CANCELLED, 'Request cancelled', request.id),
        true,
      )
    }
    if (this.#outstanding === 0) this.#complete()
  }

  closeConnection(): void {
    if (this.#mode === 'json' || !this.#session.primes) return
    if (this.#state === 'waiting' && !this.#gone) this.#openStream()
    this.#stream?.endConnection(this.#session.runtime.options.retryInterval)
  }

  /** A resume took the stream over: the call is attached again. */
  attach(connection: SseConnection): void {
    this.#session.runtime.deadlines.disarm(this)
    this.#stream?.attach(connection)
  }

  /** @internal The JSON window passed, or a detached call took too long. */
  override onDue(): void {
    if (this.#state === 'waiting' && !this.#gone) {
      this.#openStream()
      this.#stream?.sendHead()
    } else this.#session.abortDetached(this)
  }

  /** @internal */
  beat(): string {
    return SseConnection.comment
  }

  /** @internal */
  connectionGone(connection: SseConnection): void {
    if (this.#stream?.detach(connection) === true && this.#state === 'streaming') this.#detached()
  }

  #openStream(): void {
    this.#state = 'streaming'
    this.#session.runtime.deadlines.disarm(this)
    const stream = this.#session.streams.addPost(this)
    this.#stream = stream
    const connection = new SseConnection(
      this.#session.streams.context,
      this,
      this.#exchange,
      this.#hold,
      stream.number,
      'post',
      this.#session.primes,
    )
    stream.prime(connection, 0)
    stream.attach(connection)
    for (let one = this.#collected; one !== undefined; one = one.next) {
      if (!one.cancelled) stream.send(one.body, { answer: one.request.id })
    }
    this.#collected = undefined
    this.#lastCollected = undefined
  }

  #collect(request: Answerable, body: string, cancelled: boolean): void {
    const collected = new Collected(request, body, cancelled)
    if (this.#lastCollected === undefined) this.#collected = collected
    else this.#lastCollected.next = collected
    this.#lastCollected = collected
  }

  #complete(): void {
    const { deadlines, options } = this.#session.runtime
    deadlines.disarm(this)
    const state = this.#state
    this.#state = 'over'
    if (state === 'streaming') {
      const stream = this.#stream
      if (stream !== undefined) {
        if (!stream.finished) stream.finish()
        this.#session.streams.postFinished(stream)
      }
      return
    }
    if (this.#gone) return
    const collected = this.#collected
    if (collected === undefined) {
      // Everything was cancelled before a stream was opened under `responseMode: 'sse'`: an empty stream says so.
      this.#openStream()
      this.#state = 'over'
      this.#stream?.finish()
      if (this.#stream !== undefined) this.#session.streams.postFinished(this.#stream)
      return
    }
    let body = collected.body
    for (let one = collected.next; one !== undefined; one = one.next) body += `,${one.body}`
    if (this.#batch) body = `[${body}]`
    this.#exchange.respond(this.#status, this.#status === 503 ? RETRY_HEADERS : JSON_HEADERS, body)
    if (!this.#exchange.closed) {
      this.#watch = new UnsentWatch(deadlines, options.unsentTimeout, this.#exchange, this.#exchange)
      this.#watch.completed()
    }
  }

  /** The exchange ended before any stream was opened on it. */
  #exchangeOver(): void {
    this.#gone = true
    this.#watch?.stop()
    if (this.#state === 'waiting') this.#detached()
    this.#hold?.release()
  }

  /** The call goes on without its connection, but not for ever. */
  #detached(): void {
    const { deadlines, options } = this.#session.runtime
    if (this.#outstanding > 0) deadlines.arm(this, options.detachedRequestTimeout)
  }
}
