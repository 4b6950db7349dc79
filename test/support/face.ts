/** The faces an app can be served by: every suite that uses `serve()` runs over the one that `SOJOURN_FACE` names. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import type { Request as ExpressRequest } from 'express'

import { mcpExpress } from '../../src/adapters/express.ts'
import { mcpFastify } from '../../src/adapters/fastify.ts'
import { mcpHono } from '../../src/adapters/hono.ts'
import type { App } from '../../src/http-app.ts'
import type { AuthInfo } from '../../src/types.ts'

/** What takes requests of Node's HTTP server. */
export type NodeListener = (req: IncomingMessage, res: ServerResponse) => unknown

/** An app mounted in a framework. */
export interface Mounted {
  readonly listener: NodeListener
  /** Closes the framework, which may be done twice. */
  close(): Promise<unknown>
}

/** An app that the runtime's own server serves. */
export interface Listening {
  readonly port: number
  /** Cuts what is open and ends the server, which may be done twice. */
  close(): Promise<unknown>
}

/** What takes requests of the Web. */
export type FetchHandler = (request: Request) => Promise<Response>

/** What a framework's own authentication middleware does: gives the authentication of a request, where it has one. */
export type Middleware = (headers: IncomingMessage['headers']) => AuthInfo | undefined

/** One way to serve an app over HTTP. Where it may differ from `node:http`, the difference has a name here, and nowhere else. */
export interface Face {
  readonly name: 'node' | 'fetch' | 'express' | 'fastify' | 'hono' | 'deno' | 'bun'
  /**
   * Whether the app sees Node's own request and response. A `Request` and a `Response` do not carry everything:
   *
   * - the address the server is bound to, so that only `allowedHosts` and `allowedOrigins` count, nor that of the peer;
   * - requests whose target and `Host` make no URL: the runtime answers those with 400 itself; where the two name different hosts, `Host`
   *   counts;
   * - how the bytes of a response are cut into packets.
   */
  readonly node: boolean
  /** Whether the framework answers 404 where no path of its own matches, before the app is asked. */
  readonly routed: boolean
  /** Whether the framework knows only the common methods, and answers others itself; and 415 for a `Content-Type` that is none. */
  readonly selective: boolean
  /** Serves the app in Node's HTTP server … */
  mount?(app: App, middleware?: Middleware): Promise<Mounted>
  /** … or in the runtime's own, with something in front of it where a test has that. */
  listen?(handler: FetchHandler, hostname: string): Promise<Listening>
}

/** `app.fetch` as a handler of requests alone. */
export function fetchHandler(app: App, middleware?: Middleware): FetchHandler {
  const { fetch } = app
  return (request) => fetch(request, { authInfo: middleware?.(Object.fromEntries(request.headers)) })
}

/** What is used of Deno's global. */
interface DenoRuntime {
  serve(
    options: { port: number; hostname: string; signal: AbortSignal; onListen(): void },
    handler: FetchHandler,
  ): { readonly addr: { readonly port: number }; readonly finished: Promise<void> }
}

/** What is used of Bun's global. */
interface BunRuntime {
  serve(options: { port: number; hostname: string; idleTimeout: number; fetch: FetchHandler }): {
    readonly port: number
    stop(closeActiveConnections: boolean): Promise<void>
  }
}

/** The global object of another runtime, where this is one. */
function runtime<T>(name: 'Deno' | 'Bun'): T {
  const found = (globalThis as { Deno?: unknown; Bun?: unknown })[name]
  if (found === undefined) throw new Error(`this face needs ${name}: npm run check:${name.toLowerCase()}`)
  return found as T
}

const done = async (): Promise<void> => {}

const FACES: Readonly<Record<Face['name'], Face>> = {
  node: {
    name: 'node',
    node: true,
    routed: false,
    selective: false,
    async mount(app, middleware) {
      const listener: NodeListener = (req: IncomingMessage & { auth?: AuthInfo }, res) => {
        const auth = middleware?.(req.headers)
        if (auth !== undefined) req.auth = auth
        app.node(req, res)
      }
      return { listener, close: done }
    },
  },
  fetch: {
    name: 'fetch',
    node: false,
    routed: false,
    selective: false,
    async mount(app, middleware) {
      const { getRequestListener } = await import('@hono/node-server')
      return { listener: getRequestListener(fetchHandler(app, middleware)), close: done }
    },
  },
  express: {
    name: 'express',
    node: true,
    routed: true,
    selective: false,
    async mount(app, middleware) {
      const { default: express } = await import('express')
      const server = express().disable('x-powered-by')
      server.use((req: ExpressRequest & { auth?: AuthInfo | undefined }, _res, next) => {
        req.auth = middleware?.(req.headers)
        next()
      })
      server.all('/{*path}', mcpExpress(app))
      return { listener: server, close: done }
    },
  },
  fastify: {
    name: 'fastify',
    node: true,
    routed: true,
    selective: true,
    async mount(app, middleware) {
      const { fastify } = await import('fastify')
      const server = fastify()
      server.decorateRequest('auth')
      server.addHook('onRequest', (request, _reply, next) => {
        Object.assign(request, { auth: middleware?.(request.headers) })
        next()
      })
      server.register(mcpFastify(app), { prefix: '/mcp' })
      await server.ready()
      return { listener: (req, res) => server.routing(req, res), close: () => server.close() }
    },
  },
  hono: {
    name: 'hono',
    node: false,
    routed: false,
    selective: false,
    async mount(app, middleware) {
      const { getRequestListener } = await import('@hono/node-server')
      const { Hono } = await import('hono')
      const hono = new Hono<{ Variables: { auth: AuthInfo | undefined } }>()
      hono.use(async (c, next) => {
        c.set('auth', middleware?.(c.req.header()))
        await next()
      })
      hono.all('*', mcpHono(app))
      return { listener: getRequestListener(hono.fetch), close: done }
    },
  },
  // These two are not of the gate: `npm run check:deno` and `npm run check:bun` run them.
  deno: {
    name: 'deno',
    node: false,
    routed: false,
    selective: false,
    async listen(handler, hostname) {
      const cut = new AbortController()
      const options = { port: 0, hostname, signal: cut.signal, onListen() {} }
      const server = runtime<DenoRuntime>('Deno').serve(options, handler)
      return { port: server.addr.port, close: () => (cut.abort(), server.finished) }
    },
  },
  bun: {
    name: 'bun',
    node: false,
    routed: false,
    selective: false,
    async listen(handler, hostname) {
      // Bun cuts a connection that is quiet for 10 s unless told otherwise: keep-alives come every 15 s.
      const options = { port: 0, hostname, idleTimeout: 0, fetch: handler }
      const server = runtime<BunRuntime>('Bun').serve(options)
      return { port: server.port, close: () => server.stop(true) }
    },
  },
}

function faceOf(name: string): Face {
  if (Object.hasOwn(FACES, name)) return FACES[name as Face['name']]
  throw new Error(`SOJOURN_FACE takes ${Object.keys(FACES).join(', ')}; got ${name}`)
}

/** The face that suites run over; Node's own by default. */
export const FACE: Face = faceOf(process.env['SOJOURN_FACE'] ?? 'node')
