/** `app.fetch` as runtimes and frameworks call it, without a socket. */

import { expect, onTestFinished, test } from 'vitest'

import { type App, httpApp, StreamableHTTPSessionManager } from '../../src/index.ts'
import type { AppOptions, AuthInfo } from '../../src/types.ts'
import { within } from '../support/deferred.ts'
import { initialize, POST_HEADERS, rpc } from '../support/mcp-wire.ts'
import { SDKS } from '../support/sdk-servers.ts'

const [, v2] = SDKS
const create = () => {
  if (v2 === undefined) throw new Error('no SDK')
  return v2.build()
}

function appWith(options: AppOptions = {}): App {
  const app = httpApp(create, { allowedHosts: ['mcp.example.com'], ...options })
  onTestFinished(async () => {
    await within(app.close(), 'close()')
    await within(app.close(), 'the second close()')
    expect(app.sessions.counts).toMatchObject({ total: 0, active: 0, opening: 0, requests: 0 })
  })
  return app
}

function request(
  body: unknown,
  headers: Record<string, string> = {},
  url = 'http://mcp.example.com/mcp',
): Request {
  return new Request(url, {
    method: 'POST',
    headers: { ...POST_HEADERS, ...headers },
    body: JSON.stringify(body),
  })
}

test.each([{}, { allowedHosts: [] }])('without allowedHosts it says what is missing: %o', async (options) => {
  const app = httpApp(create, options)
  expect(() => app.fetch).toThrow(TypeError)
  expect(() => app.fetch).toThrow(/app\.fetch needs the option allowedHosts.*'mcp\.example\.com'.*'any'/s)
  const manager = new StreamableHTTPSessionManager(create, options)
  expect(() => manager.fetch).toThrow(/allowedHosts/)
  await Promise.all([app.close(), manager.close()])
})

test('allowedHosts from the environment count', async () => {
  process.env['SOJOURN_ALLOWED_HOSTS'] = 'mcp.example.com'
  onTestFinished(() => void delete process.env['SOJOURN_ALLOWED_HOSTS'])
  const app = httpApp(create)
  expect((await app.fetch(request(initialize()))).status).toBe(200)
  await app.close()
})

test('a session, by nothing but requests and responses; no `this`, and what runtimes pass beside the request does no harm', async () => {
  const worker = { fetch: appWith().fetch }
  const { fetch } = worker
  const env: Record<string, unknown> = { SECRET: 'x' }
  const opened = await fetch(request(initialize()), env)
  expect([opened.status, opened.headers.get('content-type')]).toEqual([200, 'application/json'])
  expect(await opened.json()).toMatchObject({ result: { serverInfo: { name: 'sdk-v2' } } })
  const session = { 'Mcp-Session-Id': opened.headers.get('mcp-session-id') ?? '' }
  const answer = await worker.fetch(
    request(rpc('tools/call', { name: 'echo', arguments: { text: 'hi' } }), session),
  )
  expect(await answer.json()).toMatchObject({ result: { content: [{ text: 'hi' }] } })
  const get = new Request('http://mcp.example.com/mcp', {
    headers: { Accept: 'text/event-stream', ...session },
  })
  const stream = await fetch(get)
  expect([stream.status, stream.headers.get('content-type')]).toEqual([200, 'text/event-stream'])
  const ended = await fetch(new Request('http://mcp.example.com/mcp', { method: 'DELETE', headers: session }))
  expect(ended.status).toBe(200)
  expect(await within(stream.text(), 'the end of the stream')).toContain('data: \n')
})

test('a host that is not listed → 403, by `Host` or else by the URL', async () => {
  const app = appWith()
  expect((await app.fetch(request(initialize(), {}, 'http://evil.example/mcp'))).status).toBe(403)
  expect((await app.fetch(request(initialize(), { Host: 'evil.example' }))).status).toBe(403)
  expect(
    (await app.fetch(request(initialize(), { Host: 'mcp.example.com:8443' }, 'http://localhost/mcp'))).status,
  ).toBe(200)
})

test('authInfo of a framework names the owner; another does not find the session', async () => {
  const app = appWith()
  const alice: AuthInfo = {
    token: 't',
    clientId: 'c',
    scopes: [],
    extra: { iss: 'https://i.example', sub: 'alice' },
  }
  const opened = await app.fetch(request(initialize()), { authInfo: alice })
  const id = opened.headers.get('mcp-session-id') ?? ''
  expect(app.sessions.get(id)?.principal).toContain('alice')
  const ping = () => request(rpc('ping'), { 'Mcp-Session-Id': id })
  expect((await app.fetch(ping(), { authInfo: alice })).status).toBe(200)
  expect(
    (await app.fetch(ping(), { authInfo: { ...alice, extra: { ...alice.extra, sub: 'bob' } } })).status,
  ).toBe(404)
  expect((await app.fetch(ping())).status).toBe(404)
})

test('a body that was read before comes as parsedBody; without it the author is told, not the client', async () => {
  const errors: unknown[][] = []
  const ignore = (): void => {}
  const app = appWith({
    logger: { debug: ignore, info: ignore, warn: ignore, error: (...args) => errors.push(args) },
  })
  const read = request(initialize())
  const parsedBody: unknown = await read.json()
  expect((await app.fetch(read, { parsedBody })).status).toBe(200)
  expect(errors).toEqual([])
  const refused = await app.fetch(read)
  expect([refused.status, await refused.json()]).toMatchObject([
    500,
    { error: { message: 'Internal error' } },
  ])
  expect(JSON.stringify(errors)).toContain('parsedBody')
})

test('a refusal is one of whichever class: @hono/node-server replaces the global Response', async () => {
  const { Request: NativeRequest, Response: NativeResponse } = globalThis
  onTestFinished(() => void Object.assign(globalThis, { Request: NativeRequest, Response: NativeResponse }))
  const { getRequestListener } = await import('@hono/node-server')
  getRequestListener(() => new Response())
  expect(globalThis.Response).not.toBe(NativeResponse)
  for (const authenticate of [
    () => new NativeResponse('no', { status: 401 }),
    () => new Response('no', { status: 401 }),
  ]) {
    const app = appWith({ authenticate })
    const refused = await app.fetch(request(initialize()))
    expect([refused.status, await refused.text()]).toEqual([401, 'no'])
  }
})

test('a client that goes away while its call runs: the call goes on, and the response is let go', async () => {
  const app = appWith()
  const controller = new AbortController()
  const body = new ReadableStream<Uint8Array>()
  const upload = new Request('http://mcp.example.com/mcp', {
    method: 'POST',
    headers: POST_HEADERS,
    body,
    duplex: 'half',
    signal: controller.signal,
  } as RequestInit)
  const response = app.fetch(upload)
  controller.abort()
  expect((await within(response, 'a response')).status).toBe(499)
})
