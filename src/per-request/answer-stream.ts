/** One SSE answer: keep-alive, and the bounds on what its peer has not read. */

import { Deadline } from '../deadlines.ts'
import type { Exchange } from '../http/exchange.ts'
import type { RequestOutcome } from '../session/events.ts'
import type { Runtime } from '../session/runtime.ts'
import { SSE_HEADERS, SSE_KEEPALIVE } from '../stream/sse.ts'
import { UnsentWatch } from '../stream/unsent-watch.ts'

/** How a stream ended. `unanswered`: the server closed it without a response. */
export type StreamEnd = RequestOutcome | 'unanswered' | 'too-large'

/** The members of a response that come before the one that tells which kind it is, in any order; frames of the SDK hold one line of JSON. */
const RESPONSE =
  /^(?:event: message\ndata: )?\{(?:"jsonrpc":"2\.0",|"id":(?:"(?:[^"\\]|\\.)*"|[-+.\deE]+|null),)*"(result|error)":/

/** What a serialized message means for its request; undefined for what is no response. */
export function outcomeOf(message: string): 'ok' | 'error' | undefined {
  const kind = RESPONSE.exec(message)?.[1]
  return kind === undefined ? undefined : kind === 'result' ? 'ok' : 'error'
}

/** One SSE response. Its head goes out with the first frame, or by {@link AnswerStream.flush}: the SDK opens no stream without a frame. */
export class AnswerStream extends Deadline {
  /** The stream's number in its app. */
  readonly number: number
  readonly openedAt: number
  readonly #runtime: Runtime
  readonly #exchange: Exchange
  readonly #watch: UnsentWatch
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined
  #cut = false

  /** Opens the response. */
  constructor(runtime: Runtime, exchange: Exchange, number: number) {
    super()
    const { clock, deadlines, options } = runtime
    this.number = number
    this.openedAt = clock.now()
    this.#runtime = runtime
    this.#exchange = exchange
    this.#watch = new UnsentWatch(deadlines, options.unsentTimeout, exchange, {
      destroy: () => this.#destroy(),
    })
    exchange.openStream(SSE_HEADERS)
    deadlines.arm(this, options.keepAliveInterval)
  }

  /** Writes the body as it comes, until it ends or the connection does. The caller ends the response. */
  async pump(body: ReadableStream<Uint8Array>): Promise<StreamEnd> {
    const { options } = this.#runtime
    const reader = body.getReader()
    this.#reader = reader
    let end: StreamEnd = 'unanswered'
    try {
      while (!this.#exchange.closed) {
        const { done, value } = await reader.read()
        if (done || this.#exchange.closed) break
        if (value.byteLength > options.maxMessageSize) return 'too-large'
        // The SDK makes every frame whole.
        const frame = new TextDecoder().decode(value)
        end = outcomeOf(frame) ?? end
        this.send(frame)
      }
    } catch {
      // A body that fails is one that ends without a response.
    }
    if (this.#cut) return 'aborted'
    return end === 'unanswered' && this.#exchange.closed ? 'cancelled' : end
  }

  /** Writes one frame. Nobody waits for its readers: only a bound keeps a slow one from filling the memory. */
  send(frame: string): void {
    if (this.#exchange.unsentBytes > this.#runtime.options.maxStreamBuffer) this.#destroy()
    this.#write(frame)
  }

  /** Sends the head while there is nothing to send with it. */
  flush(): void {
    this.#exchange.flush()
  }

  /** Completes the response. */
  end(frame?: string): void {
    this.#runtime.deadlines.disarm(this)
    const before = this.#exchange.unsentBytes
    this.#exchange.end(frame)
    if (!this.#exchange.closed) this.#watch.wrote(before)
  }

  /** Nobody wants the rest: the handler is told. */
  stop(): void {
    this.#runtime.deadlines.disarm(this)
    this.#reader?.cancel().catch(() => {})
  }

  /** Nothing is left that could stay unsent. */
  exchangeOver(): void {
    this.#runtime.deadlines.disarm(this)
    this.#watch.stop()
  }

  /** Whether the connection was cut because its peer does not read. */
  get cut(): boolean {
    return this.#cut
  }

  /** @internal The keep-alive interval passed. */
  override onDue(): void {
    if (this.#exchange.closed) return
    // A peer that has not read what it was sent must not collect keep-alives; the unsent watch decides about it.
    if (this.#exchange.unsentBytes === 0) this.#write(SSE_KEEPALIVE)
    this.#runtime.deadlines.arm(this, this.#runtime.options.keepAliveInterval)
  }

  #write(frame: string): void {
    if (this.#cut) return
    const before = this.#exchange.unsentBytes
    this.#exchange.write(frame)
    this.#watch.wrote(before)
  }

  #destroy(): void {
    this.#cut = true
    this.#exchange.destroy()
  }
}
