/** The era without handshake and sessions: every POST is answered by a server of its own, through the official v2 handler. */

import type { McpHttpHandler, ServerEvent } from '@modelcontextprotocol/server'

import { DeadlineCall } from '../deadlines.ts'
import { messageOf } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import { type ModernPost, unsupportedRevision } from '../http/era.ts'
import { responseHeaders } from '../http/response-headers.ts'
import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { RequestOutcome, StreamKind } from '../session/events.ts'
import type { Caller } from '../session/http-front.ts'
import { type Refusal, SHUTTING_DOWN } from '../session/refusal.ts'
import type { Runtime } from '../session/runtime.ts'
import { isObject } from '../session/session-record.ts'
import { sseEvent } from '../stream/sse.ts'
import { UnsentWatch } from '../stream/unsent-watch.ts'
import type { McpServerLike, ResponseMode } from '../types.ts'
import { AnswerStream, outcomeOf, responseIn } from './answer-stream.ts'
import { PerRequestCall } from './per-request-call.ts'
import { importedSdk, type Sdk, sdkOf } from './sdk.ts'

const JSON_HEADERS = { 'Content-Type': 'application/json' } as const

const FULL: Refusal = {
  status: 503,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Service Unavailable: too many requests',
  cause: 'full',
  headers: { 'Retry-After': '10' },
}

const SERVER_CLOSED: Refusal = {
  status: 500,
  code: JsonRpcErrorCode.INTERNAL_ERROR,
  message: 'Internal error: the server closed its connection',
  cause: 'internal',
}

/** How the official handler answers a call whose server closed its connection; nobody else uses that status. */
const CONNECTION_CLOSED = 499

/** What the factory throws into the official handler when there is no server: the refusal is known by then. */
class NoServer extends Error {}

/** The 2026-07-28 leg of one endpoint. */
export class PerRequestLeg {
  /** Who hears announcements: one listener per open `subscriptions/listen`. */
  readonly listeners: Set<(event: ServerEvent) => void> = new Set()
  readonly #runtime: Runtime
  /** In its `auto` mode always: its `sse` streams before the status is known, and a missing capability has to be 400. */
  #handler: McpHttpHandler | undefined
  #strict: McpHttpHandler | undefined
  /** Every call until its exchange is over. */
  readonly #calls = new Set<PerRequestCall>()
  readonly #byRequest = new WeakMap<Request, PerRequestCall>()
  readonly #byPrincipal = new Map<string, number>()
  /** The copy of the SDK whose servers the factory builds; known after the first. */
  #sdk: Sdk | 'none' | undefined
  #streams = 0
  #draining = false

  constructor(runtime: Runtime) {
    this.#runtime = runtime
  }

  /** Takes no further calls; those that run go on. */
  drain(): void {
    this.#draining = true
  }

  /** Ends what still runs: calls are answered with an error, those who listen are told that it is over. */
  async close(): Promise<void> {
    this.#draining = true
    for (const call of [...this.#calls]) if (!call.listens) call.stop(SHUTTING_DOWN)
    await this.#handler?.close()
    for (const call of [...this.#calls]) call.stop(SHUTTING_DOWN)
  }

  /** Serves one POST. Resolves when it is answered, or with what it is to be refused with. */
  async serve(
    exchange: Exchange,
    caller: Caller,
    post: ModernPost,
    mode: ResponseMode,
  ): Promise<Refusal | undefined> {
    const { id } = post
    if (exchange.closed) return undefined
    if (this.#draining) return { ...SHUTTING_DOWN, id }
    if (this.#sdk === 'none') return this.#notSpoken(post)
    const wrong = this.#checkSubscriptions(post)
    if (wrong !== undefined) {
      exchange.respond(200, JSON_HEADERS, errorBody(JsonRpcErrorCode.INVALID_PARAMS, wrong, id))
      return undefined
    }
    const limit = this.#limitReached(caller.principal)
    if (limit !== undefined) return { ...FULL, option: limit, id }
    const call = new PerRequestCall(this.#runtime, exchange, caller, post)
    this.#admit(call)
    try {
      const refusal = await this.#answer(call, mode)
      return refusal === undefined ? undefined : { ...refusal, id }
    } finally {
      call.letServerGo()
      call.end(call.stopped ? 'aborted' : 'error')
    }
  }

  /** Answers what belongs to the handshake where only this era is served, in the official handler's words. */
  async refuseHandshake(exchange: Exchange, body: unknown): Promise<void> {
    this.#strict ??= importedSdk.createMcpHandler(noServer, { legacy: 'reject' })
    const response = await this.#strict.fetch(exchange.request, { parsedBody: body })
    await this.#respond(exchange, response)
  }

  async #answer(call: PerRequestCall, mode: ResponseMode): Promise<Refusal | undefined> {
    const { exchange, post } = call
    let sdk = this.#sdk
    if (sdk === undefined) {
      const server = await call.server()
      if (server === undefined) return call.refusal
      sdk = this.#recognize(server)
    }
    if (sdk === 'none') return this.#notSpoken(post)
    call.start()
    this.#byRequest.set(exchange.request, call)
    const answering = this.#handlerOf(sdk).fetch(exchange.request, {
      authInfo: call.caller.authInfo,
      parsedBody: post.body,
    })
    let stream: AnswerStream | undefined
    if (!(await this.#inTime(answering, mode)) && !exchange.closed && !call.stopped) {
      stream = this.#openStream(call)
      stream.flush()
    }
    const response = await answering
    // The official handler is done with the server of one who only listens.
    if (call.listens) call.letServerGo()
    const refusal = call.refusal ?? (response.status === CONNECTION_CLOSED ? SERVER_CLOSED : undefined)
    if (refusal !== undefined || exchange.closed) {
      response.body?.cancel().catch(() => {})
      if (stream === undefined) return refusal
      const message = refusal && errorBody(refusal.code, refusal.message, post.id)
      this.#endStream(call, stream, 'aborted', message)
    } else if (response.body !== null && response.headers.get('content-type') === 'text/event-stream') {
      if (mode === 'json' && !call.listens) return this.#answerWhole(call, response.body)
      stream ??= this.#openStream(call)
      await this.#pump(call, stream, response.body)
    } else if (stream !== undefined || (mode === 'sse' && response.status === 200)) {
      const text = await response.text()
      const sent = this.#fits(text) ? text : this.#tooLarge(post)
      this.#endStream(call, stream ?? this.#openStream(call), outcomeOf(sent) ?? 'ok', sent)
    } else call.end((await this.#respond(exchange, response, post)) ? 'ok' : 'error')
    return undefined
  }

  /** Sends what a stream comes to as one JSON body; what was said on the way is dropped, as `responseMode: 'json'` has it. */
  async #answerWhole(call: PerRequestCall, body: ReadableStream<Uint8Array>): Promise<Refusal | undefined> {
    const text = await responseIn(body)
    if (text === undefined) return call.refusal ?? SERVER_CLOSED
    const whole = await this.#respond(call.exchange, new Response(text, { headers: JSON_HEADERS }), call.post)
    call.end(whole ? 'ok' : 'error')
    return undefined
  }

  /**
   * Waits for the answer for as long as it may become one JSON body. In `auto` the status of an error counts for more than an early
   * head, but proxies cut what sends nothing for a minute: after one keep-alive interval a stream is opened that can show that it lives.
   */
  #inTime(answering: Promise<Response>, mode: ResponseMode): Promise<boolean> {
    const { deadlines, options } = this.#runtime
    if (mode === 'json') return Promise.resolve(true)
    return new Promise((resolve) => {
      const deadline = new DeadlineCall(() => resolve(false))
      deadlines.arm(deadline, mode === 'sse' ? options.jsonResponseWindow : options.keepAliveInterval)
      const there = (): void => {
        deadlines.disarm(deadline)
        resolve(true)
      }
      answering.then(there, there)
    })
  }

  /** Sends a whole answer; tells whether it was a result. */
  async #respond(exchange: Exchange, response: Response, post?: ModernPost): Promise<boolean> {
    const { deadlines, options } = this.#runtime
    const text = await response.text()
    if (exchange.closed) return false
    const tooLarge = !this.#fits(text)
    if (tooLarge) exchange.respond(200, JSON_HEADERS, this.#tooLarge(post))
    else exchange.respond(response.status, responseHeaders(response, 'createMcpHandler'), text)
    const over = exchange.onclose
    if (!exchange.closed) {
      const watch = new UnsentWatch(deadlines, options.unsentTimeout, exchange, exchange)
      exchange.onclose = (completed) => {
        watch.stop()
        over?.(completed)
      }
      watch.completed()
    }
    return response.ok && !tooLarge && outcomeOf(text) !== 'error'
  }

  #openStream(call: PerRequestCall): AnswerStream {
    const { hub, clock } = this.#runtime
    this.#streams += 1
    const stream = new AnswerStream(this.#runtime, call.exchange, this.#streams)
    call.stream = stream
    if (hub.active) {
      hub.emit({
        type: 'stream.opened',
        time: clock.wallTime(),
        session: undefined,
        stream: stream.number,
        kind: kindOf(call),
      })
    }
    return stream
  }

  async #pump(call: PerRequestCall, stream: AnswerStream, body: ReadableStream<Uint8Array>): Promise<void> {
    const end = await stream.pump(body)
    if (end === 'unanswered') {
      const { code, message } = call.refusal ?? SERVER_CLOSED
      this.#endStream(call, stream, 'aborted', errorBody(code, message, call.post.id))
    } else if (end === 'too-large') {
      stream.stop()
      this.#endStream(call, stream, 'error', this.#tooLarge(call.post))
    } else this.#endStream(call, stream, end)
  }

  #endStream(call: PerRequestCall, stream: AnswerStream, outcome: RequestOutcome, message?: string): void {
    const { hub, clock } = this.#runtime
    stream.end(message === undefined ? undefined : sseEvent(message))
    call.end(outcome)
    if (!hub.active) return
    hub.emit({
      type: 'stream.closed',
      time: clock.wallTime(),
      session: undefined,
      stream: stream.number,
      kind: kindOf(call),
      durationMs: clock.now() - stream.openedAt,
    })
  }

  #fits(text: string): boolean {
    const { maxMessageSize } = this.#runtime.options
    return text.length <= maxMessageSize / 3 || Buffer.byteLength(text) <= maxMessageSize
  }

  #tooLarge(post: ModernPost | undefined): string {
    return errorBody(
      JsonRpcErrorCode.INTERNAL_ERROR,
      `The answer is larger than maxMessageSize (${this.#runtime.options.maxMessageSize} bytes)`,
      post?.id,
    )
  }

  #handlerOf(sdk: Sdk): McpHttpHandler {
    this.#handler ??= sdk.createMcpHandler((context) => this.#serverOf(context.requestInfo), {
      legacy: 'reject',
      // Keep-alives and bounds are ours, on one clock; the number of subscriptions is bounded with all other calls.
      keepAliveMs: 0,
      maxSubscriptions: Number.POSITIVE_INFINITY,
      bus: {
        publish: (event) => {
          for (const listener of this.listeners) listener(event)
        },
        subscribe: (listener) => {
          this.listeners.add(listener)
          return () => this.listeners.delete(listener)
        },
      },
      onerror: (error) => {
        if (!(error instanceof NoServer))
          this.#runtime.log.debug('a request without handshake failed', { error: messageOf(error) })
      },
    })
    return this.#handler
  }

  /** What the official handler gets for a request. It was promised a server of the SDK's own. */
  async #serverOf(request: Request | undefined): Promise<never> {
    const call = request === undefined ? undefined : this.#byRequest.get(request)
    const server = await call?.server()
    if (call === undefined || server === undefined) throw new NoServer()
    if (sdkOf(server) !== this.#sdk) {
      // A factory may build this and that.
      call.stop(this.#notSpoken(call.post))
      throw new NoServer()
    }
    return server as never
  }

  #recognize(server: McpServerLike): Sdk | 'none' {
    const { log, options } = this.#runtime
    const sdk = sdkOf(server)
    if (sdk === 'other-copy') {
      log.warn(
        'createServer builds servers with another copy of @modelcontextprotocol/server than this package uses, so revision 2026-07-28 ' +
          'is not served: install one copy (npm dedupe)',
      )
    } else if (sdk === 'not-v2') {
      const line = 'createServer builds servers of SDK v1, which does not speak revision 2026-07-28'
      if (options.protocolEras === 'modern') log.error(`${line}; with protocolEras 'modern' nobody is served`)
      else log.debug(`${line}: clients are sent to the handshake`)
    }
    this.#sdk = typeof sdk === 'string' ? 'none' : sdk
    return this.#sdk
  }

  #notSpoken(post: ModernPost): Refusal {
    const nothing = this.#runtime.options.protocolEras === 'modern'
    return { ...unsupportedRevision(post, nothing ? [] : undefined), cause: 'era' }
  }

  /** The limits of subscriptions hold for both eras. */
  #checkSubscriptions({ message }: ModernPost): string | undefined {
    if (message.method !== 'subscriptions/listen') return undefined
    const filter = message.params?.['notifications']
    const uris = isObject(filter) ? filter['resourceSubscriptions'] : undefined
    if (!Array.isArray(uris)) return undefined
    const { maxSubscriptions, maxSubscriptionUriSize } = this.#runtime.options
    if (uris.length > maxSubscriptions)
      return `There may be at most ${maxSubscriptions} subscriptions (maxSubscriptions)`
    const long = uris.some(
      (uri) => typeof uri === 'string' && Buffer.byteLength(uri) > maxSubscriptionUriSize,
    )
    return long
      ? `The URI of a subscription must be at most ${maxSubscriptionUriSize} bytes (maxSubscriptionUriSize)`
      : undefined
  }

  /** Each call costs what an awake session costs, a server: as many are let in as there may be sessions, counted apart. */
  #limitReached(principal: string | undefined): 'maxSessions' | 'maxSessionsPerPrincipal' | undefined {
    const { maxSessions, maxSessionsPerPrincipal } = this.#runtime.options
    if (this.#calls.size >= maxSessions) return 'maxSessions'
    if (principal === undefined) return undefined
    return (this.#byPrincipal.get(principal) ?? 0) >= maxSessionsPerPrincipal
      ? 'maxSessionsPerPrincipal'
      : undefined
  }

  /** Counts a call until its exchange is over, whoever ends it. */
  #admit(call: PerRequestCall): void {
    const { principal } = call.caller
    this.#calls.add(call)
    if (principal !== undefined) this.#byPrincipal.set(principal, (this.#byPrincipal.get(principal) ?? 0) + 1)
    call.exchange.onclose = (completed) => {
      this.#calls.delete(call)
      if (principal !== undefined) {
        const others = (this.#byPrincipal.get(principal) ?? 1) - 1
        if (others === 0) this.#byPrincipal.delete(principal)
        else this.#byPrincipal.set(principal, others)
      }
      call.stream?.exchangeOver()
      if (completed) return
      call.cancel()
      call.end(call.stream?.cut === true ? 'aborted' : 'cancelled')
    }
  }
}

function kindOf(call: PerRequestCall): StreamKind {
  return call.listens ? 'listen' : 'post'
}

function noServer(): never {
  throw new NoServer()
}
