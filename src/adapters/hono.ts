/** `sojourn/hono`: the endpoint as a Hono handler. */

import type { Context, Handler, MiddlewareHandler } from 'hono'

import type { App } from '../http-app.ts'
import type { AppOptions, AuthInfo, CreateServer } from '../types.ts'
import { appOf } from './mounted.ts'

/** The endpoint, for `hono.all(path, …)`. */
export type McpHonoHandler = Handler & {
  /** The app behind it: its sessions, and `close()`. */
  readonly app: App
  /** Answers at `app.wellKnownPaths`, and leaves everything else to what comes after it: `hono.use(handler.wellKnown)`. */
  readonly wellKnown: MiddlewareHandler
}

/**
 * Mounts the whole endpoint (POST, GET, DELETE, and OPTIONS where CORS is on) in Hono 4, on whatever runs it.
 *
 * The raw body is taken where nothing read it. Where a middleware did, what Hono kept of it is taken instead: then the limit and the
 * deadline are those of the middleware. What an authentication middleware left with `c.set('auth', authInfo)` counts. As for every
 * `app.fetch`, `allowedHosts` has to be given.
 *
 * @param given an app, or the function it is made of
 * @param options of the app, when a function was given
 * @throws TypeError without `allowedHosts`; RangeError, TypeError for options that are wrong
 * @example
 * const hono = new Hono()
 * hono.all('/mcp', mcpHono(createServer, { allowedHosts: ['mcp.example.com'] }))
 * export default hono
 */
export function mcpHono(given: App): McpHonoHandler
export function mcpHono(given: CreateServer, options?: AppOptions): McpHonoHandler
export function mcpHono(given: App | CreateServer, options?: AppOptions): McpHonoHandler {
  const app = appOf(given, options)
  const { fetch } = app
  const handler = async (c: Context): Promise<Response> =>
    fetch(c.req.raw.bodyUsed ? await unread(c) : c.req.raw, {
      authInfo: c.get('auth') as AuthInfo | undefined,
    })
  const wellKnown: MiddlewareHandler = async (c, next) =>
    app.wellKnownPaths.includes(new URL(c.req.url).pathname) ? fetch(c.req.raw) : await next()
  return Object.assign(handler, { app, wellKnown })
}

/** The request once more, with the body that Hono kept when a middleware read it. */
async function unread(c: Context): Promise<Request> {
  const { url, method, headers, signal } = c.req.raw
  return new Request(url, { method, headers, signal, body: await c.req.arrayBuffer() })
}
