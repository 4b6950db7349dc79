/** The answer to one call, as it comes: one JSON body, or a stream. */

import { Deadline } from '../deadlines.ts'
import { messageOf } from '../errors.ts'
import type { Exchange, ResponseHeaders } from '../http/exchange.ts'
import { responseHeaders } from '../http/response-headers.ts'
import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { RequestOutcome, StreamKind } from '../session/events.ts'
import type { Refusal } from '../session/refusal.ts'
import type { Runtime } from '../session/runtime.ts'
import { sseEvent } from '../stream/sse.ts'
import { UnsentWatch } from '../stream/unsent-watch.ts'
import type { JsonRpcMessage, RequestId, ResponseMode } from '../types.ts'
import { AnswerStream, outcomeOf } from './answer-stream.ts'
import type { PerRequestCall } from './per-request-call.ts'
import type { TransportSink } from './request-transport.ts'

const JSON_HEADERS: ResponseHeaders = { 'Content-Type': 'application/json' }

const SERVER_CLOSED: Refusal = {
  status: 500,
  code: JsonRpcErrorCode.INTERNAL_ERROR,
  message: 'Internal error: the server closed its connection',
  cause: 'internal',
}

/**
 * One answer. It ends once: with what the server said, with what the official handler answered in its place, or with a refusal. Its
 * deadline is how long it may become one JSON body: in `auto` the status of an error counts for more than an early head, but proxies cut
 * what sends nothing for a minute, so after one keep-alive interval a stream is opened that can show that it lives.
 */
export class Answer extends Deadline implements TransportSink {
  readonly #runtime: Runtime
  readonly #call: PerRequestCall
  readonly #mode: ResponseMode
  readonly #nextStream: () => number
  readonly #finish: (refusal: Refusal | undefined) => void
  #over = false

  /** @param finish called once, with what the call is to be refused with, if it is */
  constructor(
    runtime: Runtime,
    call: PerRequestCall,
    mode: ResponseMode,
    nextStream: () => number,
    finish: (refusal: Refusal | undefined) => void,
  ) {
    super()
    this.#runtime = runtime
    this.#call = call
    this.#mode = mode
    this.#nextStream = nextStream
    this.#finish = finish
  }

  /** The call is handed over: from here on it may take too long for a JSON body. */
  begin(): void {
    const { deadlines, options } = this.#runtime
    if (this.#mode === 'json') return
    deadlines.arm(this, this.#mode === 'sse' ? options.jsonResponseWindow : options.keepAliveInterval)
  }

  /** @internal It takes longer than a JSON body may. */
  override onDue(): void {
    const { exchange, stopped } = this.#call
    if (!this.#over && !exchange.closed && !stopped) this.#openStream().flush()
  }

  said(message: JsonRpcMessage): void {
    if (this.#over || this.#call.exchange.closed || this.#mode === 'json') return
    const text = JSON.stringify(message)
    if (this.#fits(text)) (this.#call.stream ?? this.#openStream()).send(sseEvent(text))
    else {
      this.#complete('error', this.#tooLarge())
      this.#call.stop()
    }
  }

  answered(message: JsonRpcMessage, status: number, early: boolean): void {
    if (this.#over) return
    this.#call.answered(early || 'result' in message)
    const text = this.#serialized(message)
    // What cannot be sent as it is has become an error.
    const outcome = 'error' in message || text === undefined ? 'error' : 'ok'
    if (this.#call.exchange.closed) this.#end()
    else if (this.#call.stream !== undefined || (this.#mode === 'sse' && status === 200))
      this.#complete(outcome, text ?? this.#tooLarge())
    else this.#whole(status, JSON_HEADERS, text ?? this.#tooLarge(), outcome)
  }

  changed(): void {
    this.#call.spoil()
  }

  disconnected(): void {
    if (this.#over) return
    this.#call.spoil()
    this.refuse(this.#call.refusal ?? SERVER_CLOSED)
  }

  /** A notification was handed over: nothing is said about it. */
  acknowledged(): void {
    if (!this.#over) this.#whole(202, {}, '', 'ok')
  }

  /** There is no server, or it is gone. */
  refuse(refusal: Refusal): void {
    if (this.#over) return
    const { exchange, post } = this.#call
    if (this.#call.stream === undefined || exchange.closed) this.#end(exchange.closed ? undefined : refusal)
    else this.#complete('aborted', errorBody(refusal.code, refusal.message, post.id))
  }

  /** What the official handler answers by itself: its refusals, and the stream of one who listens. */
  async responded(response: Response): Promise<void> {
    const { exchange } = this.#call
    if (this.#over || exchange.closed) {
      response.body?.cancel().catch(() => {})
      this.#end()
      return
    }
    // The server was not even connected.
    this.#call.answered(response.status < 500)
    if (response.headers.get('content-type') === 'text/event-stream' && response.body !== null) {
      // Who only listens needs no server any more.
      this.#call.letServerGo()
      await this.#pump(this.#call.stream ?? this.#openStream(), response.body)
    } else {
      const text = await response.text()
      if (this.#over) return
      const outcome = response.ok ? (outcomeOf(text) ?? 'ok') : 'error'
      if (this.#call.stream !== undefined) this.#complete(outcome, text)
      else this.#whole(response.status, responseHeaders(response, 'createMcpHandler'), text, outcome)
    }
  }

  /** What is left of the way to an answer failed. */
  failed(thrown: unknown): void {
    this.#runtime.log.debug('a request without handshake failed', { error: messageOf(thrown) })
    this.refuse(this.#call.refusal ?? SERVER_CLOSED)
  }

  async #pump(stream: AnswerStream, body: ReadableStream<Uint8Array>): Promise<void> {
    // From here on the stream shows itself that it lives.
    this.#runtime.deadlines.disarm(this)
    const end = await stream.pump(body)
    if (this.#over) return
    if (end === 'unanswered') {
      const { code, message } = this.#call.refusal ?? SERVER_CLOSED
      this.#complete('aborted', errorBody(code, message, this.#call.post.id))
    } else if (end === 'too-large') {
      stream.stop()
      this.#complete('error', this.#tooLarge())
    } else this.#complete(end)
  }

  /** Sends one body and ends. */
  #whole(status: number, headers: ResponseHeaders, text: string, outcome: RequestOutcome): void {
    const tooLarge = !this.#fits(text)
    if (tooLarge) sendWhole(this.#runtime, this.#call.exchange, 200, JSON_HEADERS, this.#tooLarge())
    else sendWhole(this.#runtime, this.#call.exchange, status, headers, text)
    this.#call.end(tooLarge ? 'error' : outcome)
    this.#end()
  }

  /** Ends the stream, which is opened for it where there is none. */
  #complete(outcome: RequestOutcome, message?: string): void {
    const { hub, clock } = this.#runtime
    const stream = this.#call.stream ?? this.#openStream()
    stream.end(message === undefined ? undefined : sseEvent(message))
    this.#call.end(outcome)
    if (hub.active) {
      hub.emit({
        type: 'stream.closed',
        time: clock.wallTime(),
        session: undefined,
        stream: stream.number,
        kind: kindOf(this.#call),
        durationMs: clock.now() - stream.openedAt,
      })
    }
    this.#end()
  }

  #end(refusal?: Refusal): void {
    if (this.#over) return
    this.#over = true
    this.#runtime.deadlines.disarm(this)
    this.#finish(refusal)
  }

  #openStream(): AnswerStream {
    const { hub, clock } = this.#runtime
    const stream = new AnswerStream(this.#runtime, this.#call.exchange, this.#nextStream())
    this.#call.stream = stream
    if (hub.active) {
      hub.emit({
        type: 'stream.opened',
        time: clock.wallTime(),
        session: undefined,
        stream: stream.number,
        kind: kindOf(this.#call),
      })
    }
    return stream
  }

  /** Undefined when it is too large, or no JSON. */
  #serialized(message: JsonRpcMessage): string | undefined {
    try {
      const text = JSON.stringify(message)
      return this.#fits(text) ? text : undefined
    } catch (thrown) {
      this.#runtime.log.warn('an answer could not be serialized', { error: messageOf(thrown) })
      this.#call.spoil()
      return undefined
    }
  }

  #fits(text: string): boolean {
    const { maxMessageSize } = this.#runtime.options
    return text.length <= maxMessageSize / 3 || Buffer.byteLength(text) <= maxMessageSize
  }

  #tooLarge(): string {
    const id: RequestId | null = this.#call.post.id
    return errorBody(
      JsonRpcErrorCode.INTERNAL_ERROR,
      `The answer is larger than maxMessageSize (${this.#runtime.options.maxMessageSize} bytes)`,
      id,
    )
  }
}

/** Sends a whole response, and cuts its connection when the peer does not take it. */
export function sendWhole(
  { deadlines, options }: Runtime,
  exchange: Exchange,
  status: number,
  headers: ResponseHeaders,
  text: string,
): void {
  exchange.respond(status, headers, text)
  if (exchange.closed) return
  const over = exchange.onclose
  const watch = new UnsentWatch(deadlines, options.unsentTimeout, exchange, exchange)
  exchange.onclose = (completed) => {
    watch.stop()
    over?.(completed)
  }
  watch.completed()
}

function kindOf(call: PerRequestCall): StreamKind {
  return call.listens ? 'listen' : 'post'
}
