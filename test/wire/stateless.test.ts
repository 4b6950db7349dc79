/** `stateless` in docs/wire.md: a server is built for one POST and closed after it, whatever becomes of it. */

import { McpServer, requireScopes, type ScopeChallengeHandler } from '@modelcontextprotocol/server'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'

import type { AppOptions, AuthInfo, CreateServer, McpServerLike, ServerContext } from '../../src/types.ts'
import { deferred, within } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import {
  del,
  expectError,
  expectNothing,
  get,
  ID,
  initialize,
  notification,
  openSession,
  post,
  rpc,
} from '../support/mcp-wire.ts'
import { SDKS, type SdkServer } from '../support/sdk-servers.ts'
import { serve, type Served } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const NOT_CREATED = {
  status: 500,
  code: -32603,
  message: 'Internal error: the server could not be created',
  id: ID,
}

function serveStateless(createServer: CreateServer, options: AppOptions = {}): Promise<Served> {
  return serve(createServer, { stateless: true, ...options })
}

describe.each(SDKS)('$name', (sdk) => {
  test('each POST has its own server, which is closed after it; no id is named or asked for', async () => {
    const built: SdkServer[] = []
    const server = await serveStateless(() => {
      const one = sdk.build()
      built.push(one)
      return one
    })
    const opened = await server.request(post(initialize()))
    expect(await opened.json()).toMatchObject({ id: ID, result: { serverInfo: { name: `sdk-${sdk.name}` } } })
    expect((await server.request(post(notification('notifications/initialized')))).status).toBe(202)
    const called = await server.request(
      post(rpc('tools/call', { name: 'echo', arguments: { text: 'hi' } }), { 'Mcp-Session-Id': 'whatever' }),
    )
    expect(await called.json()).toMatchObject({ id: ID, result: { content: [{ text: 'hi' }] } })
    for (const response of [opened, called]) expect(response.header('mcp-session-id')).toBeUndefined()
    await server.waitFor(() => built.every(({ closed }) => closed), 'the end of both servers')
    // Notifications need none.
    expect(built).toHaveLength(2)
    expectNothing(server)
  })
})

test('GET and DELETE → 405', async () => {
  const server = await serveStateless(() => {
    throw new Error('nothing may be built')
  })
  for (const request of [get(), get({ 'Mcp-Session-Id': 'x' }), del(), del({ 'Mcp-Session-Id': 'x' })]) {
    await expectError(await server.request(request), {
      status: 405,
      code: -32000,
      message: 'Method not allowed.',
      headers: { allow: 'POST' },
    })
  }
})

test('a factory that throws → 500', async () => {
  const server = await serveStateless(() => {
    throw new Error('the secret of the author')
  })
  await expectError(await server.request(post(rpc('tools/list'))), NOT_CREATED)
  expectNothing(server)
})

test('a factory that takes longer than initializeTimeout → 504, its place free, the late server closed', async () => {
  const clock = new VirtualClock()
  const factory = deferred<McpServerLike>()
  const server = await serveStateless(() => factory.promise, { clock, maxSessions: 1 })
  const connection = await server.connect()
  await connection.send(post(rpc('tools/list')))
  await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the call of the factory')
  await clock.advance(59_999)
  expect(connection.bytesReceived).toBe(0)
  await clock.advance(1)
  await expectError(await connection.response(), {
    status: 504,
    code: -32000,
    message: 'createServer took longer than 60 s',
    id: ID,
  })
  expectNothing(server)
  const late = new FakeServer({ clock, tag: 'late' })
  factory.resolve(late)
  await server.waitFor(() => late.closedAt !== undefined, 'the end of the late server')
  expectNothing(server)
})

test('the client goes away during a slow factory → its place is free at once, the late server closed', async () => {
  const clock = new VirtualClock()
  const called = deferred<ServerContext>()
  const factory = deferred<McpServerLike>()
  const server = await serveStateless(
    (context) => {
      called.resolve(context)
      return factory.promise
    },
    { clock },
  )
  const connection = await server.connect()
  await connection.send(post(rpc('tools/list')))
  const context = await within(called.promise, 'the call of the factory')
  expect(context.session.id).toBeUndefined()
  connection.destroy()
  await server.waitFor(() => context.session.signal.aborted, 'the end of the session')
  expectNothing(server)
  expect(server.timers).toBe(0)
  const late = new FakeServer({ clock, tag: 'late' })
  factory.resolve(late)
  await server.waitFor(() => late.closedAt !== undefined, 'the end of the late server')
  expectNothing(server)
})

test('app.close() during a slow factory → 503 at once', async () => {
  const factory = deferred<McpServerLike>()
  const server = await serveStateless(() => factory.promise, { clock: new VirtualClock() })
  const connection = await server.connect()
  await connection.send(post(rpc('tools/list')))
  await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the call of the factory')
  await within(server.app.close(), 'app.close()')
  await expectError(await connection.response(), {
    status: 503,
    code: -32000,
    message: 'Service Unavailable: the server is shutting down',
    id: ID,
  })
  expectNothing(server)
})

test('maxSessions bounds the servers there are at once', async () => {
  const clock = new VirtualClock()
  const server = await serveStateless(() => new FakeServer({ clock, tag: 'fake' }), { clock, maxSessions: 1 })
  const connection = await server.connect()
  await connection.send(post(rpc('tools/call', { name: 'run', arguments: { tag: 't', duration: 1000 } })))
  await server.waitFor(() => server.app.sessions.counts.requests === 1, 'the call')
  await expectError(await server.request(post(rpc('tools/list'))), {
    status: 503,
    code: -32000,
    message: 'Service Unavailable: too many sessions',
    id: ID,
    headers: { 'retry-after': /^\d+$/ },
  })
  await clock.advance(1000)
  expect((await connection.response()).status).toBe(200)
  expect((await server.request(post(rpc('tools/list')))).status).toBe(200)
})

describe('per-tool scopes of SDK v2', () => {
  const secret = (scopeChallenge: ScopeChallengeHandler): McpServerLike => {
    const server = new McpServer({ name: 'scoped', version: '1' })
    server.registerTool('secret', { inputSchema: z.object({}), scopeChallenge }, () => ({
      content: [{ type: 'text', text: 'told' }],
    }))
    return server
  }
  const authenticate = (request: Request): AuthInfo => ({
    token: 't',
    clientId: 'c',
    scopes: (request.headers.get('x-scopes') ?? '').split(' '),
    extra: { sub: 'alice' },
  })
  const call = rpc('tools/call', { name: 'secret', arguments: {} })

  test.each([true, false])('count with sessions and without: stateless %s', async (stateless) => {
    const server = await serve(() => secret(requireScopes('read', 'write')), { stateless, authenticate })
    const headers = stateless ? {} : (await openSession(server)).headers
    const refused = await server.request(post(call, { ...headers, 'X-Scopes': 'read' }))
    expect(refused.status).toBe(403)
    expect(refused.header('www-authenticate')).toContain('insufficient_scope')
    const served = await server.request(post(call, { ...headers, 'X-Scopes': 'read write' }))
    expect(await served.json()).toMatchObject({ result: { content: [{ text: 'told' }] } })
    if (stateless) expectNothing(server)
  })

  test.each([true, false])('a check that throws → 500, nothing is held: stateless %s', async (stateless) => {
    const check: ScopeChallengeHandler = () => {
      throw new Error('no')
    }
    const server = await serve(() => secret(check), { stateless, authenticate })
    const headers = stateless ? {} : (await openSession(server)).headers
    const response = await server.request(post(call, headers))
    expect(response.status).toBe(500)
    await server.waitFor(() => server.app.sessions.counts.active === 0, 'the end of the exchange')
    if (stateless) expectNothing(server)
  })
})

test('a version header that is not spoken → 400, nothing executed', async () => {
  const built: FakeServer[] = []
  const server = await serveStateless(() => {
    const one = new FakeServer({ clock: new VirtualClock(), tag: 'fake' })
    built.push(one)
    return one
  })
  await expectError(await server.request(post(rpc('tools/list'), { 'Mcp-Protocol-Version': '1999-01-01' })), {
    status: 400,
    code: -32000,
    message: /^Bad Request: Unsupported protocol version: 1999-01-01 /,
    id: ID,
  })
  expect(built.flatMap(({ calls }) => calls)).toEqual([])
  expectNothing(server)
})

test('arrays: executed where the header says 2025-03-26 or nothing, refused where it says later', async () => {
  const clock = new VirtualClock()
  const server = await serveStateless(() => new FakeServer({ clock, tag: 'fake' }))
  const batch = [rpc('tools/list', undefined, 1), rpc('tools/list', undefined, 2)]
  for (const version of [undefined, '2025-03-26']) {
    const response = await server.request(post(batch, { 'Mcp-Protocol-Version': version }))
    expect(await response.json()).toMatchObject([{ id: 1 }, { id: 2 }])
  }
  await expectError(await server.request(post(batch, { 'Mcp-Protocol-Version': '2025-06-18' })), {
    status: 400,
    code: -32600,
    message: /^Invalid Request: JSON-RPC batches/,
  })
  expectNothing(server)
})
