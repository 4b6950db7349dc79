/** One SSE response: framing, keep-alive, rotation, and the bounds on what its peer has not read. */

import { Deadline } from '../deadlines.ts'
import type { Exchange } from '../http/exchange.ts'
import type { StreamKind } from '../session/events.ts'
import type { Hold } from '../session/idle-clock.ts'
import { SSE_HEADERS, SSE_KEEPALIVE, sseEvent, ssePriming, sseRetry } from './sse.ts'
import type { StreamContext } from './stream-context.ts'
import { UnsentWatch } from './unsent-watch.ts'
import { Validity } from './validity.ts'

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
  readonly #validity: Validity | undefined
  #pending: string | undefined
  #flushed = false
  /** We completed the response (its last bytes may still be on their way) or cut it: nothing more is written. */
  #ended = false
  #over = false

  /**
   * Opens the response. `hold` is released when it is over. `rotates`: whether `streamMaxAge`, and the end of the token that it was opened
   * with, may end the connection early, which only a stream that can be resumed survives.
   */
  constructor(
    context: StreamContext,
    owner: SseConnectionOwner,
    exchange: Exchange,
    hold: Hold | undefined,
    stream: number,
    kind: StreamKind,
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
    this.#watch = new UnsentWatch(context.deadlines, context.options.unsentTimeout, exchange, this)
    exchange.onclose = () => this.#gone()
    exchange.openStream(SSE_HEADERS)
    context.deadlines.arm(this, context.options.keepAliveInterval)
    if (rotates && context.options.streamMaxAge !== Number.POSITIVE_INFINITY) {
      this.#rotation = new Rotation(this)
      context.deadlines.arm(this.#rotation, context.options.streamMaxAge)
    }
    const { validUntil } = exchange
    if (rotates && validUntil !== undefined)
      this.#validity = new Validity(context.deadlines, context.clock, validUntil, () => this.rotate())
  }

  /** Tells that the connection is attached. Whoever listens may end the session, so the stream must already have the connection. */
  announce(): void {
    this.#context.connectionOpened(this.stream, this.kind)
  }

  /** Puts a priming event with this id before everything else that is sent. */
  prime(id: string): void {
    if (this.#over || this.#ended) return
    this.#pending = ssePriming(id, this.#context.options.retryInterval)
    // The head is out already: what comes with it must not wait for the first message.
    if (this.#flushed) this.#write('')
  }

  /** Whether the connection is over. */
  get closed(): boolean {
    return this.#over
  }

  /** Whether messages can still be written to it. */
  get writable(): boolean {
    return !this.#over && !this.#ended
  }

  /** Sends the head (and priming) if it is still waiting. */
  flush(): void {
    if (this.#over || this.#ended) return
    this.#flushed = true
    if (this.#pending === undefined) this.exchange.flush()
    else this.#write('')
  }

  /**
   * Writes one message, and with `last` ends the response in the same write. Returns false when the peer left more than
   * `maxStreamBuffer` unread: then the connection is over instead, and the client resumes.
   */
  send(data: string, eventId: string | undefined, last: boolean): boolean {
    if (this.#over || this.#ended) return false
    if (this.exchange.unsentBytes > this.#context.options.maxStreamBuffer) {
      // What is replayed was written in one go, and a cut would lose all of it, every time: it ends in good order instead.
      if (this.replaying) this.end(this.#context.options.retryInterval)
      else this.destroy()
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

  /** Cuts the connection; what the peer did not take is lost with it, except to the event log. */
  destroy(): void {
    if (this.#over) return
    // The socket's end is told later: until then nothing may count as sent.
    this.#ended = true
    this.#disarm()
    this.exchange.destroy()
  }

  /** @internal The keep-alive interval passed. */
  override onDue(): void {
    if (this.#over) return
    // A peer that has not read what it was sent must not collect keep-alives, nor be asked for a sign of life behind
    // them; the unsent watch decides about it.
    if (this.exchange.unsentBytes === 0) {
      const beat = this.#owner.beat(this)
      if (beat === undefined) {
        this.destroy()
        return
      }
      this.#write(beat)
    }
    this.#context.deadlines.arm(this, this.#context.options.keepAliveInterval)
  }

  #write(frame: string): void {
    const chunk = this.#pending === undefined ? frame : this.#pending + frame
    this.#pending = undefined
    const before = this.exchange.unsentBytes
    this.exchange.write(chunk)
    this.#watch.wrote(before)
  }

  #finish(frame: string): void {
    const chunk = this.#pending === undefined ? frame : this.#pending + frame
    this.#pending = undefined
    this.#ended = true
    this.#disarm()
    const before = this.exchange.unsentBytes
    this.exchange.end(chunk)
    if (!this.#over) this.#watch.wrote(before)
  }

  #gone(): void {
    if (this.#over) return
    this.#over = true
    this.#disarm()
    this.#watch.stop()
    this.#owner.connectionGone(this)
    this.#context.connectionClosed(this.stream, this.kind, this.#context.now() - this.openedAt)
    this.#hold?.release()
  }

  #disarm(): void {
    this.#context.deadlines.disarm(this)
    if (this.#rotation !== undefined) this.#context.deadlines.disarm(this.#rotation)
    this.#validity?.stop()
  }

  /** The plain keep-alive: a comment, for streams whose peer cannot be asked. */
  static readonly comment: string = SSE_KEEPALIVE

  /**
   * Ends the connection though its stream goes on: it is old, and load balancers cut long answers; or the token that it was opened with has
   * expired. A cut of our own loses nothing.
   */
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
