/** The app: a factory of servers becomes an HTTP endpoint with sessions. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import type { FetchOptions } from './http/web-exchange.ts'
import type { Announcements } from './session/announcements.ts'
import { StreamableHTTPSessionManager } from './session/session-manager.ts'
import type { Sessions } from './session/sessions.ts'
import type { AppOptions, CreateServer, Duration } from './types.ts'

/** An MCP endpoint, to be mounted in whatever serves HTTP. */
export interface App {
  /**
   * Serves one request of `node:http` or Express: `http.createServer(app.node)`, `server.all('/mcp', app.node)`. Does not look at the
   * path: where it is mounted decides. Needs no `this`.
   */
  readonly node: (req: IncomingMessage, res: ServerResponse) => void
  /**
   * Serves one Web-standard request: `export default { fetch: app.fetch }`, Hono `hono.all('/mcp', (c) => app.fetch(c.req.raw))`. Does
   * not look at the path: where it is mounted decides. Needs no `this`; the promise never rejects. `authInfo` is what the framework's own
   * authentication found, `parsedBody` the JSON of a body that was read before.
   *
   * A `Request` does not tell which address its server is bound to, nor who sent it: `allowedHosts` has to be given, and an address is known
   * only where `trustedProxies` counts the proxies that report it.
   * @throws TypeError when it is read without `allowedHosts` (names, or `'any'`)
   */
  readonly fetch: (request: Request, options?: FetchOptions) => Promise<Response>
  /** The sessions: list, get, close, size, events; `get(id)` pushes to a client. */
  readonly sessions: Sessions
  /** Tells clients of both eras that tools, prompts or resources changed: on GET streams and on `subscriptions/listen` streams. */
  readonly notify: Announcements
  /**
   * URL paths beside the endpoint's own that are to be routed to the app: where clients look for its metadata when they have to log in (RFC
   * 9728). Empty unless `authenticate` is one of `sojourn/auth`. {@link runHttp} routes them itself; the adapters have a `wellKnown` for them.
   */
  readonly wellKnownPaths: readonly string[]
  /**
   * Whether sessions can be opened: not from `close()` on, nor while another process owns the store. What a readiness probe asks: `res.writeHead(app.ready ? 200 : 503).end()`.
   * {@link runHttp} answers probes itself.
   */
  readonly ready: boolean
  /**
   * Resolves when requests can be answered: at once without a store. With one, when what it keeps is loaded, or when another process turns
   * out to own it; requests are refused with 503 then until that is gone. Requests that come before wait. Rejects with a SojournError
   * `store-unavailable` when the store cannot be used at all: corrupt, of a newer version, no permission. {@link runHttp} waits for it.
   */
  readonly opened: Promise<void>
  /**
   * Ends everything; running calls may finish within `drain` (default 0). With a store the sessions only leave the process: they are served
   * again by the next that opens it. Idempotent.
   */
  close(options?: { drain?: Duration }): Promise<void>
  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Makes an MCP endpoint of a function that builds an `McpServer` (either official SDK).
 *
 * @param createServer called once per session; must return a new server each time
 * @param options every one has a default and an environment variable; a wrong one fails here
 * @throws RangeError, TypeError naming the option, what it got and what it takes
 * @example
 * const app = httpApp(() => createMyServer(), { sessionIdleTimeout: '30m' })
 * http.createServer(app.node).listen(3000, '127.0.0.1')
 * @example
 * const app = httpApp(() => createMyServer(), { allowedHosts: ['mcp.example.com'] })
 * export default { fetch: app.fetch }
 */
export function httpApp(createServer: CreateServer, options: AppOptions = {}): App {
  const manager = new StreamableHTTPSessionManager(createServer, options)
  return {
    node: (req, res) => manager.handleRequest(req, res),
    get fetch() {
      return manager.fetch
    },
    sessions: manager.sessions,
    notify: manager.notify,
    wellKnownPaths: manager.wellKnownPaths,
    get ready() {
      return manager.ready
    },
    opened: manager.opened,
    close: (closeOptions) => manager.close(closeOptions),
    [Symbol.asyncDispose]: () => manager.close(),
  }
}
