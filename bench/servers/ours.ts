/** Sojourn as its users have it: the built package, every check and the memory event log on. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { FastifyPluginCallback } from 'fastify'
import type { Handler } from 'hono'

import { loadEchoServer } from './echo-server.ts'
import { listen, portOf, type Served } from './served.ts'
import type { ServerSpec } from '../shared/types.ts'

/** The part of our built app that is used; stated here because it need not be built to check these types. */
interface App {
  readonly node: RequestListener
  readonly fetch: (request: Request) => Promise<Response>
  readonly opened: Promise<void>
  readonly notify: { toolsChanged(): void }
  readonly sessions: { readonly counts: { total: number; awake: number } }
}

interface Built {
  httpApp(createServer: () => unknown, options: object): App
}

/** Serves sessions with Sojourn in the mode and behind the face that `spec` names. */
export async function serveOurs(spec: ServerSpec): Promise<Served> {
  const { httpApp } = (await import(`${spec.dist}index.js`)) as Built
  const app = httpApp(await loadEchoServer(spec.sdk, spec.tools, ownSdk(spec.dist)), {
    responseMode: spec.mode,
    allowedHosts: ['127.0.0.1', 'localhost'],
    // Above what any row opens; the default of 10,000 would refuse some of them.
    maxSessions: 50_000,
    ...(spec.sqlite === true && { store: `sqlite:${temporaryFile()}` }),
    ...spec.options,
  })
  await app.opened
  const { port } = await mount(spec, app)
  const awake = Number(spec.options?.['maxAwake'] ?? Number.POSITIVE_INFINITY)
  const sleeps = spec.options?.['sleepAfter'] !== undefined
  return {
    port,
    broadcast: () => app.notify.toolsChanged(),
    async settled() {
      while (app.sessions.counts.awake > (sleeps ? 0 : awake)) {
        await new Promise((resolve) => {
          setTimeout(resolve, 20)
        })
      }
    },
  }
}

async function mount(spec: ServerSpec, app: App): Promise<{ port: number }> {
  switch (spec.face) {
    case 'fetch':
      return await serveFetch(app.fetch)
    case 'express': {
      const { default: express } = await import('express')
      const { mcpExpress } = (await import(`${spec.dist}express.js`)) as {
        mcpExpress(app: App): (req: IncomingMessage, res: ServerResponse) => void
      }
      const server = express()
      server.all('/mcp', mcpExpress(app))
      return await listen(server)
    }
    case 'fastify': {
      const { fastify } = await import('fastify')
      const { mcpFastify } = (await import(`${spec.dist}fastify.js`)) as {
        mcpFastify(app: App): FastifyPluginCallback
      }
      const server = fastify()
      server.register(mcpFastify(app), { prefix: '/mcp' })
      await server.listen({ port: 0, host: '127.0.0.1' })
      return { port: portOf(server.server) }
    }
    case 'hono': {
      const { Hono } = await import('hono')
      const { mcpHono } = (await import(`${spec.dist}hono.js`)) as {
        mcpHono(app: App): Handler
      }
      const hono = new Hono()
      hono.all('/mcp', mcpHono(app))
      return await serveFetch(hono.fetch)
    }
    default:
      return await listen(app.node)
  }
}

/** Puts a fetch handler on Node's sockets with @hono/node-server. */
export async function serveFetch(
  handle: (request: Request) => Response | Promise<Response>,
): Promise<{ port: number }> {
  const { serve } = await import('@hono/node-server')
  return await new Promise((resolve) => {
    serve({ fetch: (request) => handle(request), port: 0, hostname: '127.0.0.1' }, ({ port }) =>
      resolve({ port }),
    )
  })
}

/** The copy of the v2 package that our own build imports. */
function ownSdk(dist: string): string {
  const folder = new URL('../node_modules/@modelcontextprotocol/server/', dist)
  const described = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8')) as {
    exports: { '.': { import: string | { default: string } } }
  }
  const entry = described.exports['.'].import
  return new URL(typeof entry === 'string' ? entry : entry.default, folder).href
}

function temporaryFile(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sojourn-bench-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'sessions.db')
}
