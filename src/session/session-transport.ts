/** One session without a manager: a transport to connect one server to, for those who keep their own map of transports. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import { systemClock } from '../clock.ts'
import { DeadlineCall, Deadlines } from '../deadlines.ts'
import type { Exchange } from '../http/exchange.ts'
import { NodeExchange } from '../http/node-exchange.ts'
import { resolveOptions, type ResolvedOptions } from '../options.ts'
import type {
  AppOptions,
  JsonRpcMessage,
  McpServerLike,
  MessageExtra,
  RequestId,
  ServerTransport,
} from '../types.ts'
import type { InstanceTransport, ScopeChallengeResolver } from './instance-transport.ts'
import { StreamableHTTPSessionManager } from './session-manager.ts'
import type { SessionHandle, Sessions } from './sessions.ts'

/**
 * A Streamable HTTP transport that serves exactly one session and ends by itself: when the session is idle for `sessionIdleTimeout`,
 * deleted or failed, or when no session is opened within `unusedSessionTimeout`, `onclose` is called and later requests get 404. Holds,
 * resuming and limits are those of a managed session.
 *
 * @example
 * const transport = new SessionTransport({ sessionIdleTimeout: '10m' })
 * await server.connect(transport)
 * transport.handleRequest(req, res)
 */
export class SessionTransport implements ServerTransport {
  onclose: (() => void) | undefined
  onerror: ((error: Error) => void) | undefined
  onmessage: ((message: JsonRpcMessage, extra?: MessageExtra) => void) | undefined
  /** The session's id, once `initialize` was received. */
  sessionId: string | undefined
  readonly #options: ResolvedOptions
  readonly #manager: StreamableHTTPSessionManager
  readonly #deadlines: Deadlines
  /** Due when nobody opens a session: a transport that was made for nothing must not stay in its owner's map. */
  readonly #unopened: DeadlineCall
  #handling = 0
  #inner: InstanceTransport | undefined
  #supportedVersions: string[] | undefined
  #scopeChallengeResolver: ScopeChallengeResolver | undefined
  #started = false
  #closed = false

  /**
   * @param newSessionId @internal makes the session's id; default 192 random bits
   * @throws RangeError, TypeError naming the option that has a value it cannot take
   */
  constructor(options: AppOptions = {}, newSessionId?: () => string) {
    this.#options = resolveOptions(options)
    if (this.#options.stateless) {
      throw new RangeError('stateless must be false for a SessionTransport, which is one session, got true')
    }
    for (const key of ['store', 'sleepAfter', 'maxAwake'] as const) {
      if (options[key] === undefined) continue
      throw new RangeError(
        `${key} must be left out of a SessionTransport: its one server cannot be built again; httpApp takes a function that builds servers`,
      )
    }
    this.#manager = new StreamableHTTPSessionManager(() => this.#adopt(), options, 'single', newSessionId)
    this.#unopened = new DeadlineCall(() => this.#end())
    this.#deadlines = new Deadlines(this.#options.clock ?? systemClock, (thrown) => this.#failed(thrown))
  }

  /** The session, once it is open; undefined before and after. */
  get session(): SessionHandle | undefined {
    return this.#manager.sessions.list()[0]
  }

  /** Its events, and everything else a manager offers. */
  get sessions(): Sessions {
    return this.#manager.sessions
  }

  /** Serves one request of Node's HTTP server. Never rejects; resolves when the request was dispatched or refused. */
  handleRequest(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { clock = systemClock, trustedProxies } = this.#options
    return this.handle(new NodeExchange(req, res, { clock, trustedProxies }))
  }

  /** Serves one exchange, whatever its runtime. */
  async handle(exchange: Exchange): Promise<void> {
    this.#handling += 1
    this.#deadlines.disarm(this.#unopened)
    await this.#manager.handle(exchange)
    this.#handling -= 1
    this.#awaitOpening()
  }

  /** Called by the SDK when a server connects. */
  start(): Promise<void> {
    if (this.#started)
      return Promise.reject(new Error('The transport was already started: it serves one server'))
    this.#started = true
    this.#awaitOpening()
    return Promise.resolve()
  }

  /** Called by the SDK for every message the server sends. Before the session is open there is nobody to send to. */
  send(message: JsonRpcMessage, options?: { relatedRequestId?: RequestId }): Promise<void> {
    return this.#inner?.send(message, options) ?? Promise.reject(new Error('No session is open yet'))
  }

  /** Ends the session and the transport; idempotent. */
  async close(): Promise<void> {
    this.#end()
    await this.#manager.close()
  }

  /** Called by SDK v2 when a server connects. */
  setSupportedProtocolVersions(versions: string[]): void {
    this.#supportedVersions = versions
    this.#inner?.setSupportedProtocolVersions(versions)
  }

  /** Called by SDK v2 after `initialize`. */
  setProtocolVersion(): void {}

  /** Called by SDK v2 when a server connects. */
  setScopeChallengeResolver(resolver: ScopeChallengeResolver): void {
    this.#scopeChallengeResolver = resolver
    this.#inner?.setScopeChallengeResolver(resolver)
  }

  /** What the manager takes for the author's server: it passes on to the one that is connected here. */
  #adopt(): McpServerLike {
    if (!this.#started)
      throw new Error('No server is connected: call server.connect(transport) before the first request')
    return {
      connect: async (inner: InstanceTransport) => {
        this.#inner = inner
        this.sessionId = inner.sessionId
        inner.onmessage = (message, extra) => this.onmessage?.(message, extra)
        inner.onclose = () => this.#end()
        if (this.#supportedVersions !== undefined) inner.setSupportedProtocolVersions(this.#supportedVersions)
        if (this.#scopeChallengeResolver !== undefined)
          inner.setScopeChallengeResolver(this.#scopeChallengeResolver)
        await inner.start()
      },
      close: async () => this.#inner?.close(),
    }
  }

  /** While there is no session whose clock could run, and no request that may open one. */
  #awaitOpening(): void {
    if (!this.#started || this.#closed || this.#inner !== undefined || this.#handling > 0) return
    const { sessionIdleTimeout: idle, unusedSessionTimeout: unused } = this.#options
    this.#deadlines.arm(this.#unopened, typeof idle === 'number' ? Math.min(idle, unused) : unused)
  }

  #end(): void {
    if (this.#closed) return
    this.#closed = true
    this.#deadlines.disarm(this.#unopened)
    // The session is over by now, or ends with the manager; either way nothing is left to serve.
    this.#manager.close().catch((thrown: unknown) => this.#failed(thrown))
    this.onclose?.()
  }

  #failed(thrown: unknown): void {
    this.onerror?.(thrown instanceof Error ? thrown : new Error(String(thrown)))
  }
}
