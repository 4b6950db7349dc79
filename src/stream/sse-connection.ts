/** One SSE response: framing, keep-alive, rotation, and the bounds on what its peer has not read. */

import { Deadline } from '../deadlines.ts'
import type { Exchange } from '../http/exchange.ts'
import type { StreamKind } from '../session/events.ts'
import type { Hold } from '../session/idle-clock.ts'
import { SSE_HEADERS, SSE_KEEPALIVE, sseEvent, ssePriming, sseRetry } from './sse.ts'
import type { StreamContext } from './stream-context.ts'
import { UnsentWatch } from './unsent-watch.ts'

/** What an SSE connection asks and tells the stream it carries. */
export interface SseConnectionOwner {
  /** Called every keep-alive interval; gives what to write, or undefined when the peer is proven dead and the connection is to be cut. */
  beat(connection: SseConnection): string | undefined
  /** The connection is over, whoever ended it; exactly once. */
  connectionGone(connection: SseConnection): void
}

/** An open SSE response. Its head goes out together with the first event, or by {@link SseConnection.flush}. */
export class SseConnection extends Deadline {
  readonly exchange: Exchange
  readonly kind: StreamKind
  readonly stream: number
  readonly openedAt: number
  /** Highest position written; the stream's to use. */
  sent = 0
  /** While missed events are read from the log, live ones are not written: they are in the log too. */
  replaying = false
  /** Highest position that was not written because of that. */
  missed = 0
  readonly #context: StreamContext
  readonly #owner: SseConnectionOwner
  readonly #watch: UnsentWatch
  readonly #hold: Hold | undefined
  readonly #rotation: Rotation | undefined
  #pending: string | undefined
  /** The response was completed by us; its last bytes may still be on their way. */
  #ended = false
  #over = false

  /**
   * Opens the response. `hold` is released when it is over. `primingId` is the id of the priming event, where the protocol version allows one; `rotates` whether
   * `streamMaxAge` may end the connection early, which only a stream that can be resumed survives.
   */
  constructor(
    context: StreamContext,
    owner: SseConnectionOwner,
    exchange: Exchange,
    hold: Hold | undefined,
    stream: number,
    kind: StreamKind,
    primingId: string | undefined,
    rotates: boolean,
  ) {
    super()
    this.exchange = exchange
    this.kind = kind
    this.stream = stream
    this.openedAt = context.now()
    this.#context = context
    this.#owner = owner
    this.#hold = hold
    this.#watch = new UnsentWatch(context.deadlines, context.options.unsentTimeout, exchange)
    this.#pending = primingId === undefined ? undefined : ssePriming(primingId, context.options.retryInterval)
    exchange.onclose = () => this.#gone()
    exchange.openStream(SSE_HEADERS)
    context.deadlines.arm(this, context.options.keepAliveInterval)
    if (rotates && context.options.streamMaxAge !== Number.POSITIVE_INFINITY) {
      this.#rotation = new Rotation(this)
      context.deadlines.arm(this.#rotation, context.options.streamMaxAge)
    }
    context.connectionOpened(stream, kind)
  }

  /** Whether the connection is over. */
  get closed(): boolean {
    return this.#over
  }

  /** Sends the head (and priming) if it is still waiting. */
  flush(): void {
    if (this.#over || this.#ended) return
    if (this.#pending === undefined) this.exchange.flush()
    else this.#write('')
  }

  /**
   * Writes one message, and with `last` ends the response in the same write. Returns false when the peer left more than
   * `maxStreamBuffer` unread: then the connection is cut instead, and the client resumes.
   */
  send(data: string, eventId: string | undefined, last: boolean): boolean {
    if (this.#over || this.#ended) return false
    if (this.exchange.unsentBytes > this.#context.options.maxStreamBuffer) {
      this.exchange.destroy()
      return false
    }
    const frame = sseEvent(data, eventId)
    if (last) this.#finish(frame)
    else this.#write(frame)
    return true
  }

  /** Ends the response, with a hint when to come back where the client is expected to. */
  end(retry?: number): void {
    if (!this.#over && !this.#ended) this.#finish(retry === undefined ? '' : sseRetry(retry))
  }

  /** @internal The keep-alive interval passed. */
  override onDue(): void {
    if (this.#over) return
    const beat = this.#owner.beat(this)
    if (beat === undefined) {
      this.exchange.destroy()
      return
    }
    // A peer that reads nothing must not collect keep-alives; the unsent watch decides about it.
    if (this.exchange.unsentBytes === 0) this.#write(beat)
    this.#context.deadlines.arm(this, this.#context.options.keepAliveInterval)
  }

  #write(frame: string): void {
    const chunk = this.#pending === undefined ? frame : this.#pending + frame
    this.#pending = undefined
    this.exchange.write(chunk)
    this.#watch.wrote(chunk.length)
  }

  #finish(frame: string): void {
    const chunk = this.#pending === undefined ? frame : this.#pending + frame
    this.#pending = undefined
    this.#ended = true
    this.#context.deadlines.disarm(this)
    if (this.#rotation !== undefined) this.#context.deadlines.disarm(this.#rotation)
    this.exchange.end(chunk)
    if (!this.#over) this.#watch.wrote(chunk.length)
  }

  #gone(): void {
    if (this.#over) return
    this.#over = true
    this.#context.deadlines.disarm(this)
    if (this.#rotation !== undefined) this.#context.deadlines.disarm(this.#rotation)
    this.#watch.stop()
    this.#owner.connectionGone(this)
    this.#context.connectionClosed(this.stream, this.kind, this.#context.now() - this.openedAt)
    this.#hold?.release()
  }

  /** The plain keep-alive: a comment, for streams whose peer cannot be asked. */
  static readonly comment: string = SSE_KEEPALIVE

  /** Ends the connection because it is old: load balancers cut long answers, and a cut of our own loses nothing. */
  rotate(): void {
    this.end(this.#context.options.retryInterval)
  }
}

class Rotation extends Deadline {
  readonly #connection: SseConnection

  constructor(connection: SseConnection) {
    super()
    this.#connection = connection
  }

  override onDue(): void {
    this.#connection.rotate()
  }
}
