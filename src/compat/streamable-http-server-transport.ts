/** The transport of the official SDKs by its own name and options, for those who keep the documented map of transports. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import { messageOf } from '../errors.ts'
import { SessionTransport } from '../session/session-transport.ts'
import type { AppOptions } from '../types.ts'
import { fromEventStore, type SdkEventStore } from './event-store.ts'

/**
 * The options of the SDKs' transport, and those of a {@link SessionTransport} beside them. `allowedHosts` and `allowedOrigins` are the
 * SDKs': they count when `enableDnsRebindingProtection` is on.
 *
 * Not here: `closeSSEStream(id)` and `closeStandaloneSSEStream()` of the transport; handlers have both in the `extra` they are given.
 * Servers without sessions (`sessionIdGenerator: undefined`) are refused when made.
 */
export interface StreamableHTTPServerTransportOptions extends Omit<
  AppOptions,
  'allowedHosts' | 'allowedOrigins' | 'stateless' | 'retryInterval'
> {
  /**
   * Makes the session's id: visible ASCII, at most 256 characters; default 192 random bits. The SDKs have no session when it is absent;
   * here that is an option of the app, `httpApp(createServer, { stateless: true })`.
   */
  sessionIdGenerator?: () => string
  /** Called once when the session has opened, before the client is told; a promise is not waited for. */
  onsessioninitialized?: (sessionId: string) => void | Promise<void>
  /** Called once when the client ended the session by DELETE. For every end, however it came, there is `onclose`. */
  onsessionclosed?: (sessionId: string) => void | Promise<void>
  /** `true` is `responseMode: 'json'`. Otherwise `responseMode` decides, by default `auto`. */
  enableJsonResponse?: boolean
  /** Keeps events for clients that come back; see {@link fromEventStore}. Without it a bounded log in memory does. */
  eventStore?: SdkEventStore
  /** Hosts, with or without port. */
  allowedHosts?: readonly string[]
  /** Origins, exactly as browsers send them. */
  allowedOrigins?: readonly string[]
  /** Whether those two are checked; default false, as in the SDKs, where a middleware in front is meant to. */
  enableDnsRebindingProtection?: boolean
  /** The `retry:` hint of SSE streams, in milliseconds; default 3 s. */
  retryInterval?: number
  /** The interval of SSE keep-alives in milliseconds; default 15 s, below 1 there are none. */
  keepAliveMs?: number
  /** Largest request body in bytes, where it is read here; default 4 MiB. */
  maxRequestBodySize?: number
}

/** What a session id may consist of (MCP transports, "Session Management"). */
const SESSION_ID = /^[\x21-\x7e]{1,256}$/

/**
 * Stands in for the `StreamableHTTPServerTransport` of `@modelcontextprotocol/sdk` and the `NodeStreamableHTTPServerTransport` of
 * `@modelcontextprotocol/node`: same constructor options, `handleRequest(req, res, parsedBody)`, `sessionId`, `onclose`, `close()`. The
 * difference is that it ends by itself when its session is idle for `sessionIdleTimeout` (default 30 minutes), and then calls `onclose`,
 * which is where the documented handler takes it out of its map.
 *
 * @example
 * const transport = new StreamableHTTPServerTransport({
 *   sessionIdGenerator: () => randomUUID(),
 *   onsessioninitialized: (id) => { transports[id] = transport },
 * })
 * transport.onclose = () => { delete transports[transport.sessionId] }
 * await server.connect(transport)
 * await transport.handleRequest(req, res, req.body)
 */
export class StreamableHTTPServerTransport extends SessionTransport {
  /** @throws RangeError, TypeError naming the option that has a value it cannot take */
  constructor(options: StreamableHTTPServerTransportOptions = {}) {
    const { sessionIdGenerator, onsessioninitialized, onsessionclosed } = options
    if ('sessionIdGenerator' in options && sessionIdGenerator === undefined) {
      throw new TypeError(
        'sessionIdGenerator must be a function that returns the id of the session, got undefined: a server without sessions is httpApp(createServer, { stateless: true })',
      )
    }
    super(appOptions(options), sessionIdGenerator === undefined ? undefined : checked(sessionIdGenerator))
    if (onsessioninitialized === undefined && onsessionclosed === undefined) return
    const call = async (callback: typeof onsessionclosed, session: string): Promise<void> => {
      try {
        await callback?.(session)
      } catch (thrown) {
        this.onerror?.(thrown instanceof Error ? thrown : new Error(messageOf(thrown)))
      }
    }
    this.sessions.subscribe((event) => {
      if (event.type === 'session.opened') void call(onsessioninitialized, event.session ?? '')
      if (event.type === 'session.closed' && event.reason === 'deleted')
        void call(onsessionclosed, event.session ?? '')
    })
  }

  /**
   * Serves one request of Node's HTTP server. Never rejects; resolves when the request was dispatched or refused.
   *
   * @param parsedBody what a middleware made of the body, where one read it; default `req.body`
   */
  override handleRequest(
    req: IncomingMessage & { body?: unknown },
    res: ServerResponse,
    parsedBody?: unknown,
  ): Promise<void> {
    if (parsedBody !== undefined) req.body = parsedBody
    return super.handleRequest(req, res)
  }
}

/** The SDKs' options as ours. */
function appOptions(options: StreamableHTTPServerTransportOptions): AppOptions {
  const {
    sessionIdGenerator: _generator,
    onsessioninitialized: _initialized,
    onsessionclosed: _closed,
    enableJsonResponse,
    eventStore,
    allowedHosts,
    allowedOrigins,
    enableDnsRebindingProtection,
    keepAliveMs,
    maxRequestBodySize,
    ...own
  } = options
  const guarded = enableDnsRebindingProtection === true
  return {
    ...own,
    ...(enableJsonResponse === true ? { jsonResponse: true } : {}),
    ...(eventStore === undefined
      ? {}
      : { eventLog: fromEventStore(eventStore, own.clock === undefined ? {} : { clock: own.clock }) }),
    // The SDKs take an empty list for none, too.
    allowedHosts: guarded && allowedHosts?.length ? allowedHosts : 'any',
    allowedOrigins: guarded && allowedOrigins?.length ? allowedOrigins : 'any',
    ...(keepAliveMs === undefined ? {} : { keepAliveInterval: keepAliveMs < 1 ? Infinity : keepAliveMs }),
    ...(maxRequestBodySize === undefined ? {} : { maxBodySize: maxRequestBodySize }),
  }
}

/** An id that HTTP cannot carry, or that a promise was taken for, would be told as a session that nobody can name. */
function checked(generate: () => string): () => string {
  return () => {
    const id: unknown = generate()
    if (typeof id === 'string' && SESSION_ID.test(id)) return id
    throw new TypeError(
      `sessionIdGenerator must return 1 to 256 characters of visible ASCII, got ${typeof id === 'string' ? JSON.stringify(id) : typeof id}`,
    )
  }
}
