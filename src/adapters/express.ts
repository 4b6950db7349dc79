/** `sojourn/express`: the endpoint as an Express handler. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import { decodeJson } from '../http/body.ts'
import type { App } from '../http-app.ts'
import type { AppOptions, CreateServer } from '../types.ts'
import { appOf, isWellKnown } from './mounted.ts'

/** The endpoint, for `server.all(path, …)` or `server.use(path, …)`; it answers every request that reaches it. */
export interface McpExpressHandler {
  (req: IncomingMessage, res: ServerResponse): void
  /** The app behind it: its sessions, and `close()`. */
  readonly app: App
  /**
   * Answers at `app.wellKnownPaths`, and leaves everything else to what comes after it: `server.use(handler.wellKnown)`, before whatever asks
   * for a token.
   */
  readonly wellKnown: (req: IncomingMessage, res: ServerResponse, next: () => void) => void
}

/**
 * Mounts the whole endpoint (POST, GET, DELETE, and OPTIONS where CORS is on) in Express 5.
 *
 * `express.json()` may stand before it, after it or nowhere. Where nothing parsed the body, it is read here, with its limit, its deadline
 * and its checks. Where `express.json()` did, those are its own: its limit (100 kB unless set), its answers to a body that is too large
 * or no JSON (413 and 400, as HTML unless an error handler of yours says otherwise), no deadline; `Content-Encoding` it has undone, and
 * we still refuse. What `express.raw()` or `express.text()` left is parsed here. Authentication of Express middleware counts where it
 * left `req.auth`, as that of both official SDKs does.
 *
 * @param given an app, or the function it is made of
 * @param options of the app, when a function was given
 * @throws RangeError, TypeError for options that are wrong
 * @example
 * const server = express()
 * server.all('/mcp', mcpExpress(createServer, { sessionIdleTimeout: '30m' }))
 * server.listen(3000, '127.0.0.1')
 */
export function mcpExpress(given: App): McpExpressHandler
export function mcpExpress(given: CreateServer, options?: AppOptions): McpExpressHandler
export function mcpExpress(given: App | CreateServer, options?: AppOptions): McpExpressHandler {
  const app = appOf(given, options)
  const handler = (req: IncomingMessage & { body?: unknown }, res: ServerResponse): void => {
    const { body } = req
    if (typeof body === 'string' || body instanceof Uint8Array) {
      const decoded = decodeJson(typeof body === 'string' ? Buffer.from(body) : body)
      // Nothing is left to be read where a body was: what is no JSON is answered like an empty one, which is none either.
      req.body = decoded.ok ? decoded.value : undefined
    }
    app.node(req, res)
  }
  const wellKnown = (req: IncomingMessage, res: ServerResponse, next: () => void): void => {
    const { originalUrl } = req as { originalUrl?: string }
    if (isWellKnown(app, originalUrl ?? req.url)) app.node(req, res)
    else next()
  }
  return Object.assign(handler, { app, wellKnown })
}
