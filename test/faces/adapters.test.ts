/** What each adapter does with the habits of its framework: bodies that were parsed, middleware, closing. */

import type { AddressInfo } from 'node:net'

import express from 'express'
import { fastify, type FastifyInstance } from 'fastify'
import { Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { describe, expect, onTestFinished, test } from 'vitest'

import { mcpExpress } from '../../src/adapters/express.ts'
import { mcpFastify } from '../../src/adapters/fastify.ts'
import { mcpHono } from '../../src/adapters/hono.ts'
import { httpApp } from '../../src/http-app.ts'
import type { AuthInfo } from '../../src/types.ts'
import { deferred, within } from '../support/deferred.ts'
import type { Face } from '../support/face.ts'
import { expectError, get, initialize, openSession, post, rpc } from '../support/mcp-wire.ts'
import { RawConnection } from '../support/raw-http.ts'
import { SDKS } from '../support/sdk-servers.ts'
import { serve, type Served } from '../support/serve.ts'
import { open } from '../support/wire-app.ts'

const sdk = SDKS[1] ?? SDKS[0]
const create = () => {
  if (sdk === undefined) throw new Error('no SDK')
  return sdk.build()
}

const alice: AuthInfo = {
  token: 't',
  clientId: 'c',
  scopes: [],
  extra: { iss: 'https://i.example', sub: 'alice' },
}

const PARSE_ERROR = { status: 400, code: -32700, message: /^Parse error/ }

/** Calls the tool with a text of this many characters, and checks that it comes back. */
async function expectEcho(server: Served, length: number): Promise<void> {
  const session = await openSession(server)
  const text = 'x'.repeat(length)
  const answer = await server.request(
    post(rpc('tools/call', { name: 'echo', arguments: { text } }), session.headers),
  )
  expect(await answer.json()).toMatchObject({ result: { content: [{ text }] } })
}

describe('Express', () => {
  type Middleware = 'before' | 'after' | 'raw' | 'text' | 'use'

  function expressFace(middleware: Middleware): Face {
    return {
      name: 'express',
      node: true,
      routed: true,
      selective: false,
      async mount(app) {
        const server = express()
        server.disable('x-powered-by')
        // As Express does in production: no stack in the page.
        server.set('env', 'test')
        if (middleware === 'before') server.use(express.json())
        if (middleware === 'raw') server.use(express.raw({ type: '*/*' }))
        if (middleware === 'text') server.use(express.text({ type: '*/*' }))
        if (middleware === 'use') server.use('/mcp', mcpExpress(app))
        else server.all('/mcp', mcpExpress(app))
        if (middleware === 'after') server.use(express.json())
        return { listener: server, close: async () => {} }
      },
    }
  }

  test.each(['before', 'after', 'raw', 'text', 'use'] as const)(
    'express.json() and the like: %s',
    async (middleware) => {
      const server = await serve(create, {}, { face: expressFace(middleware) })
      await expectEcho(server, 1_000)
      const session = await openSession(server)
      const stream = await server.request(get(session.headers))
      expect(stream.status).toBe(200)
      expect((await server.request({ method: 'DELETE', headers: session.headers })).status).toBe(200)
      expect(await stream.ended()).toBe('complete')
      await expectError(await server.request({ method: 'PUT', body: '{}' }), {
        status: 405,
        code: -32000,
        message: 'Method not allowed.',
      })
    },
  )

  test.each(['after', 'use', 'raw', 'text'] as const)(
    'what is no JSON is refused by us: %s',
    async (middleware) => {
      const server = await serve(create, {}, { face: expressFace(middleware) })
      await expectError(await server.request(post('{"jsonrpc"')), PARSE_ERROR)
      await expectError(await server.request(post('')), PARSE_ERROR)
      await expectError(await server.request(post({ jsonrpc: '1.0' })), {
        status: 400,
        code: -32600,
        message: /./,
      })
    },
  )

  test('exempt where express.json() stands before: what is no JSON, and what is too large, it answers itself', async () => {
    const server = await serve(create, {}, { face: expressFace('before') })
    const malformed = await server.request(post('{"jsonrpc"'))
    expect([malformed.status, malformed.header('content-type')]).toEqual([400, 'text/html; charset=utf-8'])
    const large = await server.request(
      post(initialize('2025-11-25', { experimental: { x: 'x'.repeat(101 * 1024) } })),
    )
    expect([large.status, large.header('content-type')]).toEqual([413, 'text/html; charset=utf-8'])
    // No body at all is to it an empty object.
    await expectError(await server.request(post('')), { status: 400, code: -32600, message: /./ })
    // Nothing of the two ever reached the app.
    expect(server.events.filter(({ type }) => type !== 'request.refused')).toEqual([])
  })

  test('where nothing parses before, bodies may be as large as the app takes', async () => {
    const server = await serve(create, {}, { face: expressFace('after') })
    await expectEcho(server, 3 * 1024 * 1024)
  })
})

describe('Fastify', () => {
  function fastifyFace(prepare: (server: FastifyInstance) => void): Face {
    return {
      name: 'fastify',
      node: true,
      routed: true,
      selective: true,
      async mount(app) {
        const server = fastify()
        prepare(server)
        server.register(mcpFastify(app), { prefix: '/mcp' })
        await server.ready()
        return { listener: (req, res) => server.routing(req, res), close: () => server.close() }
      },
    }
  }

  test('bodies may be as large as the app takes; the parsers and limits of other routes stay as they were', async () => {
    const face = fastifyFace((server) => {
      server.post('/other', (request, reply) => reply.send({ got: request.body }))
    })
    const server = await serve(create, {}, { face })
    await expectEcho(server, 3 * 1024 * 1024)
    const other = { method: 'POST', target: '/other', headers: { 'Content-Type': 'application/json' } }
    expect(await (await server.request({ ...other, body: { a: 1 } })).json()).toEqual({ got: { a: 1 } })
    expect((await server.request({ ...other, body: '{' })).status).toBe(400)
    expect((await server.request({ ...other, body: { a: 'x'.repeat(1024 * 1024) } })).status).toBe(413)
  })

  test('headers that hooks set on the reply are sent, on answers and on streams', async () => {
    const face = fastifyFace((server) => {
      server.addHook('onRequest', (_request, reply, next) => {
        reply.header('x-frame-options', 'DENY')
        next()
      })
    })
    const server = await serve(create, {}, { face })
    const session = await openSession(server)
    expect(session.response.header('x-frame-options')).toBe('DENY')
    expect((await server.request(get(session.headers))).header('x-frame-options')).toBe('DENY')
  })

  test.each(['request.auth', 'request.raw.auth'])(
    'authentication of a hook, in %s, also late',
    async (where) => {
      const face = fastifyFace((server) => {
        server.addHook('preHandler', async (request) => {
          await new Promise((resolve) => setImmediate(resolve))
          Object.assign(where === 'request.auth' ? request : request.raw, { auth: alice })
        })
      })
      const server = await serve(create, {}, { face })
      const session = await openSession(server)
      expect(server.app.sessions.get(session.id)?.principal).toContain('alice')
    },
  )

  test('a hook that refuses: the app is not asked', async () => {
    const face = fastifyFace((server) => {
      server.addHook('onRequest', (_request, reply) => void reply.code(401).send({ error: 'who are you' }))
    })
    const server = await serve(create, {}, { face })
    expect((await server.request(post(initialize()))).status).toBe(401)
    expect(server.events).toEqual([])
  })

  test('close() ends streams, lets calls finish, and returns; twice', async () => {
    const called = deferred()
    const gate = deferred()
    const plugin = mcpFastify(
      () => {
        const server = create()
        return server
      },
      { drainTimeout: '10s' },
    )
    const server = fastify()
    server.register(plugin, { prefix: '/mcp' })
    server.get('/slow', async () => {
      called.resolve()
      await gate.promise
      return 'slow'
    })
    await server.listen({ port: 0, host: '127.0.0.1' })
    const { port } = server.server.address() as AddressInfo
    const connections: RawConnection[] = []
    onTestFinished(() => connections.forEach((connection) => connection.destroy()))
    const request = async (given: Parameters<RawConnection['request']>[0]) => {
      const connection = await RawConnection.open(port)
      connections.push(connection)
      return connection.request(given)
    }
    const opened = await request(post(initialize()))
    const session = { 'Mcp-Session-Id': opened.header('mcp-session-id') ?? '' }
    const stream = await request(get(session))
    expect([stream.status, plugin.app.sessions.size]).toEqual([200, 1])
    const slow = request({ target: '/slow' })
    await within(called.promise, 'the call of another route')
    const closed = server.close()
    expect(await stream.ended()).toBe('complete')
    gate.resolve()
    expect(await (await slow).text()).toBe('slow')
    for (const connection of connections) connection.end()
    await within(closed, 'fastify.close()')
    await within(server.close(), 'the second fastify.close()')
    await within(plugin.app.close(), 'app.close()')
    expect(plugin.app.sessions.counts.total).toBe(0)
  })
})

describe('Hono', () => {
  function honoFace(prepare: (hono: Hono) => void): Face {
    return {
      name: 'hono',
      node: false,
      routed: false,
      selective: false,
      async mount(app) {
        const { getRequestListener } = await import('@hono/node-server')
        const hono = new Hono()
        prepare(hono)
        hono.all('/mcp', mcpHono(app))
        return { listener: getRequestListener(hono.fetch), close: async () => {} }
      },
    }
  }

  test.each(['text', 'json', 'arrayBuffer'] as const)(
    'a middleware that read the body: %s()',
    async (how) => {
      const face = honoFace((hono) => {
        hono.use(async (c, next) => {
          if (c.req.method === 'POST') await c.req[how]().catch(() => {})
          await next()
        })
      })
      const server = await serve(create, {}, { face })
      await expectEcho(server, 1_000)
      await expectError(await server.request(post('{"jsonrpc"')), PARSE_ERROR)
      await expectError(await server.request(post(Buffer.from([0xff, 0x22]))), PARSE_ERROR)
    },
  )

  test('a middleware that wraps the body', async () => {
    const face = honoFace((hono) => void hono.use(bodyLimit({ maxSize: 64 * 1024 })))
    const server = await serve(create, {}, { face })
    await expectEcho(server, 1_000)
    expect((await server.request(post({ x: 'x'.repeat(65 * 1024) }))).status).toBe(413)
  })

  test('headers of a middleware are sent, on answers and on streams', async () => {
    const face = honoFace((hono) => {
      hono.use(async (c, next) => {
        await next()
        c.header('x-frame-options', 'DENY')
      })
    })
    const server = await serve(create, {}, { face })
    const session = await openSession(server)
    expect(session.response.header('x-frame-options')).toBe('DENY')
    expect((await server.request(get(session.headers))).header('x-frame-options')).toBe('DENY')
  })

  test("with the runtime's own Request and Response, which @hono/node-server replaces by default", async () => {
    const face: Face = {
      ...honoFace(() => {}),
      async mount(app) {
        const { getRequestListener } = await import('@hono/node-server')
        const hono = new Hono().all('/mcp', mcpHono(app))
        const listener = getRequestListener(hono.fetch, { overrideGlobalObjects: false })
        return { listener, close: async () => {} }
      },
    }
    const server = await serve(create, { responseMode: 'sse' }, { face })
    const session = await openSession(server)
    const text = 'x'.repeat(300_000)
    const answer = await server.request(
      post(rpc('tools/call', { name: 'echo', arguments: { text } }), session.headers),
    )
    expect(await answer.messages()).toMatchObject([{ result: { content: [{ text }] } }])
    const { connection, response } = await open(server, get(session.headers))
    expect((await response).status).toBe(200)
    expect(server.app.sessions.get(session.id)?.streams).toBe(1)
    connection.destroy()
    await server.waitFor(() => server.app.sessions.get(session.id)?.streams === 0, 'the end of the stream')
  })

  test('without a socket: hono.request()', async () => {
    const handler = mcpHono(create, { allowedHosts: ['localhost'] })
    const hono = new Hono().all('/mcp', handler)
    const { headers, body } = post(initialize()) as { headers: Record<string, string>; body: object }
    const response = await hono.request('/mcp', { method: 'POST', headers, body: JSON.stringify(body) })
    expect(response.status).toBe(200)
    expect(handler.app.sessions.size).toBe(1)
    await handler.app.close()
    await handler.app.close()
  })

  test('without allowedHosts it fails when it is made', () => {
    expect(() => mcpHono(create)).toThrow(/allowedHosts/)
  })
})

describe('all', () => {
  test('an app that is given is the one that is served; options belong to a function', async () => {
    const app = httpApp(create, { allowedHosts: 'any' })
    expect([mcpExpress(app).app, mcpFastify(app).app, mcpHono(app).app]).toEqual([app, app, app])
    const made = [
      mcpExpress(create, { maxSessions: 1 }),
      mcpFastify(create, { maxSessions: 1 }),
      mcpHono(create, { maxSessions: 1, allowedHosts: 'any' }),
    ]
    expect(new Set([app, ...made.map((each) => each.app)]).size).toBe(4)
    expect(() => mcpExpress(create, { maxSessions: -1 })).toThrow(/maxSessions/)
    await Promise.all([app, ...made.map((each) => each.app)].map((each) => each.close()))
  })
})
