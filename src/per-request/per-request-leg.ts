/**
 * The era without handshake and sessions: every POST is answered by a server of its own. The official v2 handler checks the request and
 * prepares the server; when it connects the server, the call takes both from it.
 */

import type { McpHttpHandler, ServerEvent } from '@modelcontextprotocol/server'

import { messageOf } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import { type ModernPost, unsupportedRevision } from '../http/era.ts'
import { responseHeaders } from '../http/response-headers.ts'
import { isObject } from '../json.ts'
import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { Caller } from '../session/http-front.ts'
import { MEMORY_SHORT } from '../session/memory-pressure.ts'
import type { Refusal } from '../session/refusal.ts'
import { ACCESS_ENDED } from '../session/refusals.ts'
import type { Runtime } from '../session/runtime.ts'
import type { McpServerLike, ResponseMode } from '../types.ts'
import { Answer, sendWhole } from './answer.ts'
import { HandlerRequest } from './handler-request.ts'
import { InstancePool } from './instance-pool.ts'
import { PerRequestCall } from './per-request-call.ts'
import { RequestTransport } from './request-transport.ts'
import { importedSdk, type Sdk, sdkOf } from './sdk.ts'
import type { Connect, ServerLease } from './server-lease.ts'

const JSON_HEADERS = { 'Content-Type': 'application/json' } as const

const FULL: Refusal = {
  status: 503,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Service Unavailable: too many requests',
  cause: 'full',
  headers: { 'Retry-After': '10' },
}

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
  readonly #byPrincipal = new Map<string, number>()
  /** The copy of the SDK whose servers the factory builds; known after the first. */
  #sdk: Sdk | 'none' | undefined
  /** Where instances serve more than one request. */
  readonly #pool: InstancePool | undefined
  #streams = 0
  #draining = false

  constructor(runtime: Runtime) {
    this.#runtime = runtime
    this.#pool = runtime.options.instances === 'pooled' ? new InstancePool(runtime) : undefined
  }

  /** Takes no further calls; those that run go on. */
  drain(): void {
    this.#draining = true
  }

  /** Lets go of pooled servers that wait for a request; how many those were. */
  dropIdle(): number {
    return this.#pool?.dropIdle() ?? 0
  }

  /** Ends what still runs: calls are answered with an error, those who listen are told that it is over. */
  async close(): Promise<void> {
    this.#draining = true
    const { shuttingDown } = this.#runtime
    for (const call of [...this.#calls]) if (!call.listens) call.stop(shuttingDown)
    await this.#handler?.close()
    for (const call of [...this.#calls]) call.stop(shuttingDown)
    this.#pool?.close()
  }

  /** Ends what runs for a principal, and lets go of the servers that wait for it. */
  closePrincipal(principal: string, refusal: Refusal): void {
    for (const call of [...this.#calls]) if (call.caller.principal === principal) call.dismiss(refusal)
    this.#pool?.dropPrincipal(principal)
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
    if (this.#draining) return { ...this.#runtime.shuttingDown, id }
    if (this.#sdk === 'none') return this.#notSpoken(post)
    const wrong = this.#checkSubscriptions(post)
    if (wrong !== undefined) {
      exchange.respond(200, JSON_HEADERS, errorBody(JsonRpcErrorCode.INVALID_PARAMS, wrong, id))
      return undefined
    }
    if (this.#runtime.memory?.short === true) return { ...MEMORY_SHORT, id }
    const limit = this.#limitReached(caller.principal)
    if (limit !== undefined) return { ...FULL, option: limit, id }
    if (this.#runtime.revocations.since(caller.principal, caller.since)) return { ...ACCESS_ENDED, id }
    const call = new PerRequestCall(this.#runtime, exchange, caller, post, this.#pool)
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
    const headers = responseHeaders(response, 'createMcpHandler')
    sendWhole(this.#runtime, exchange, response.status, headers, await response.text())
  }

  async #answer(call: PerRequestCall, mode: ResponseMode): Promise<Refusal | undefined> {
    const { post } = call
    let sdk = this.#sdk
    if (sdk === undefined) {
      const lease = await call.server()
      if (lease === undefined) return call.refusal
      sdk = this.#recognize(lease.server)
    }
    if (sdk === 'none') return this.#notSpoken(post)
    call.start()
    return await this.#ask(call, mode, this.#handlerOf(sdk))
  }

  /** Resolves when the call is answered, or with what it is to be refused with. */
  #ask(call: PerRequestCall, mode: ResponseMode, handler: McpHttpHandler): Promise<Refusal | undefined> {
    return new Promise((resolve) => {
      const answer = new Answer(this.#runtime, call, mode, this.#nextStream, resolve)
      call.answer = answer
      answer.begin()
      handler
        .fetch(HandlerRequest.of(call), { authInfo: call.caller.authInfo, parsedBody: call.post.body })
        .then((response) => answer.responded(response))
        .catch((thrown: unknown) => answer.failed(thrown))
    })
  }

  readonly #nextStream = (): number => {
    this.#streams += 1
    return this.#streams
  }

  #handlerOf(sdk: Sdk): McpHttpHandler {
    this.#handler ??= sdk.createMcpHandler(
      (context) => this.#serverOf(HandlerRequest.callOf(context.requestInfo)),
      {
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
      },
    )
    return this.#handler
  }

  /** What the official handler gets for a request. It was promised a server of the SDK's own. */
  async #serverOf(call: PerRequestCall | undefined): Promise<never> {
    const lease = await call?.server()
    if (call === undefined || lease === undefined) throw new NoServer()
    if (sdkOf(lease.server) !== this.#sdk) {
      // A factory may build this and that.
      call.stop(this.#notSpoken(call.post))
      throw new NoServer()
    }
    lease.onConnect = (connect) => this.#takeOver(call, lease, connect)
    return lease.server as never
  }

  /** The request passed the official handler's checks, and its server is ready to be connected. Never resolves: the handler has done its part. */
  async #takeOver(call: PerRequestCall, lease: ServerLease, connect: Connect): Promise<void> {
    const { answer, post, caller, exchange } = call
    if (answer === undefined || call.stopped) throw new NoServer()
    const transport = new RequestTransport(answer, post.message, lease.innerId)
    call.transport = transport
    await connect(transport)
    // Whoever asked may have gone meanwhile; the handler closes what it prepared.
    if (call.stopped) throw new NoServer()
    const extra = {
      classification: post.classification,
      request: exchange.request,
      authInfo: caller.authInfo,
    }
    transport.deliver(extra)
    if (post.id === null) answer.acknowledged()
    await new Promise<never>(() => {})
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

function noServer(): never {
  throw new NoServer()
}
