/** `sojourn/fastify`: the endpoint as a Fastify plugin. */

import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify'

import type { App } from '../http-app.ts'
import type { AppOptions, AuthInfo, CreateServer } from '../types.ts'
import { appOf } from './mounted.ts'

/** The endpoint, for `fastify.register(…, { prefix })`. */
export type McpFastifyPlugin = FastifyPluginCallback & {
  /** The app behind it: its sessions, and `close()`. */
  readonly app: App
  /** Answers at `app.wellKnownPaths`; to be registered without a prefix: `server.register(plugin.wellKnown)`. */
  readonly wellKnown: FastifyPluginCallback
}

/**
 * Mounts the whole endpoint (POST, GET, DELETE, and OPTIONS where CORS is on) in Fastify 5, at the prefix it is registered with.
 *
 * The plugin has its own content type parser, which leaves the body to us: its limit, its deadline and its checks are those of the app,
 * whatever parsers and `bodyLimit` the rest of the server has. What is Fastify's own: the 415 for a `Content-Type` that is none, the 404
 * for methods it does not know. Hooks run; headers they set on the reply are sent; what an authentication hook left in `request.auth`
 * (or `request.raw.auth`) counts. `fastify.close()` closes the app first, so that no stream keeps the server from ending: running calls
 * may go on for `drainTimeout`.
 *
 * @param given an app, or the function it is made of
 * @param options of the app, when a function was given; else only `drainTimeout` (default 30 s)
 * @throws RangeError, TypeError for options that are wrong
 * @example
 * const server = Fastify()
 * server.register(mcpFastify(createServer, { sessionIdleTimeout: '30m' }), { prefix: '/mcp' })
 * await server.listen({ port: 3000 })
 */
export function mcpFastify(given: App, options?: Pick<AppOptions, 'drainTimeout'>): McpFastifyPlugin
export function mcpFastify(given: CreateServer, options?: AppOptions): McpFastifyPlugin
export function mcpFastify(given: App | CreateServer, options?: AppOptions): McpFastifyPlugin {
  const app = appOf(given, options)
  const drain = options?.drainTimeout ?? DRAIN_TIMEOUT
  const plugin: FastifyPluginCallback = (fastify, _options, done) => {
    fastify.removeAllContentTypeParsers()
    fastify.addContentTypeParser('*', (_request, _payload, parsed) => parsed(null))
    fastify.all('/', (request, reply) => serve(app, request, reply))
    // Before the server stops listening and waits for its connections: `onClose` would come after the last stream has ended.
    fastify.addHook('preClose', () => app.close({ drain }))
    done()
  }
  const wellKnown: FastifyPluginCallback = (fastify, _options, done) => {
    for (const path of app.wellKnownPaths) {
      fastify.route({
        url: path,
        method: ['GET', 'HEAD', 'OPTIONS'],
        handler: (request, reply) => serve(app, request, reply),
      })
    }
    done()
  }
  return Object.assign(plugin, { app, wellKnown })
}

const DRAIN_TIMEOUT = '30s'

function serve(app: App, request: FastifyRequest & { auth?: AuthInfo }, reply: FastifyReply): void {
  const raw: FastifyRequest['raw'] & { auth?: AuthInfo } = request.raw
  if (request.auth !== undefined) raw.auth = request.auth
  reply.hijack()
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) reply.raw.setHeader(name, value)
  }
  app.node(raw, reply.raw)
}
