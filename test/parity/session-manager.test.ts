/** Parity with the session manager of the Python SDK (python-sdk #1994, #2022, #3395): one test per row of the table, named after it. */

import { describe, expect, test } from 'vitest'

import { httpApp } from '../../src/http-app.ts'
import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import type { AppOptions, AuthInfo } from '../../src/types.ts'
import { FakeServer } from '../support/fake-server.ts'
import {
  del,
  expectError,
  get,
  initialize,
  notification,
  openSession,
  post,
  rpc,
} from '../support/mcp-wire.ts'
import { SimApp } from '../support/sim-app.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { call, getStream, open, serveFake } from '../support/wire-app.ts'

const NOT_FOUND = { status: 404, code: -32001, message: 'Session not found' }

const build = (): FakeServer => new FakeServer({ clock: new VirtualClock(), tag: 'fake' })

/** Authenticates `Bearer <subject>.<number of the token>`: tokens are refreshed, the subject stays. */
function bySubject(request: Request): AuthInfo | undefined {
  const token = request.headers.get('authorization')?.slice('Bearer '.length)
  if (token === undefined) return undefined
  const [sub] = token.split('.')
  return { token, clientId: 'client', scopes: [], extra: { iss: 'https://issuer.example', sub } }
}

describe('one manager per application, run once, use before run is an error', () => {
  test('usable once made', async () => {
    const app = new SimApp(new VirtualClock())
    const id = await app.open()
    expect(app.manager.sessions.get(id)?.state).toBe('idle')
    await app.manager.close()
  })

  test('use after close() is a clear error', async () => {
    const app = new SimApp(new VirtualClock())
    const id = await app.open()
    const session = app.manager.sessions.get(id)
    await app.manager.close()
    await app.manager.close()
    const refused = app.post(undefined, initialize())
    const late = app.post(id, rpc('tools/list'))
    await app.clock.settle()
    expect(refused.status).toBe(503)
    expect(refused.json()).toMatchObject({
      error: { message: 'Service Unavailable: the server is shutting down' },
    })
    expect(late.status).toBe(404)
    expect(() => session?.notify('notifications/message')).toThrow('The session has ended')
    await expect(session?.request('roots/list')).rejects.toMatchObject({ code: 'session-closed' })
  })

  test('two managers in one process do not meet', async () => {
    const clock = new VirtualClock()
    const [one, other] = [new SimApp(clock, { maxSessions: 1 }), new SimApp(clock, { maxSessions: 1 })]
    const id = await one.open()
    await other.open()
    const foreign = other.post(id, rpc('tools/list'))
    await clock.settle()
    expect(foreign.status).toBe(404)
    expect(one.events.filter(({ type }) => type === 'session.opened')).toHaveLength(1)
    await other.manager.close()
    expect(one.manager.sessions.size).toBe(1)
    await one.manager.close()
  })
})

test('session tracking; unknown or expired id: 404', async () => {
  const server = await serveFake({ sessionIdleTimeout: 1000 })
  const session = await openSession(server)
  expect(server.app.sessions.list().map(({ id }) => id)).toEqual([session.id])
  expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(200)
  await server.idle()
  await server.clock.advance(1000)
  for (const id of [session.id, 'unknown']) {
    const response = await server.request(post(rpc('tools/list'), { 'Mcp-Session-Id': id }))
    await expectError(response, { ...NOT_FOUND, id: 'q1' })
    await expectError(await server.request(get({ 'Mcp-Session-Id': id })), NOT_FOUND)
    await expectError(await server.request(del({ 'Mcp-Session-Id': id })), NOT_FOUND)
  }
})

describe('resumability by an event store: built-in bounded logs, scoped to the session', () => {
  test('a call is resumed without configuring anything', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { connection, response } = await open(server, post(call({ duration: 1000 }), session.headers))
    await server.called()
    await server.clock.advance(500)
    const cursor = (await (await response).nextEvent())?.id
    connection.destroy()
    await server.until('stream.closed')
    await server.clock.advance(500)
    const resumed = await server.request(getStream(session, cursor))
    expect(await resumed.messages()).toMatchObject([{ id: 'q1', result: {} }])
  })

  test('bounded: what is trimmed is told, not skipped', async () => {
    const server = await serveFake({ eventLogMaxEvents: 1 })
    const session = await openSession(server)
    const { connection, response } = await open(server, post(call({ duration: 1000 }), session.headers))
    await server.called()
    await server.clock.advance(500)
    const cursor = (await (await response).nextEvent())?.id
    connection.destroy()
    await server.until('stream.closed')
    await server.clock.advance(500)
    server.app.sessions.get(session.id)?.notify('notifications/message', { level: 'info', data: 'newer' })
    const resumed = await server.request(getStream(session, cursor))
    expect(await resumed.messages()).toMatchObject([
      { id: 'q1', error: { message: 'result no longer available' } },
    ])
  })

  test('scoped: the cursor of one session is garbage to another', async () => {
    const server = await serveFake({ jsonResponseWindow: 0 })
    const [mine, other] = [await openSession(server), await openSession(server)]
    const { response } = await open(server, post(call({ ending: 'never' }), other.headers))
    await server.called()
    await server.clock.advance(1)
    const cursor = (await (await response).nextEvent())?.id
    expect((await server.request(getStream(mine, cursor))).status).toBe(400)
    const garbage = await server.request(getStream(mine, 'garbage'))
    expect(garbage.status).toBe(400)
  })
})

describe('json_response, stateless, retry_interval, security_settings', () => {
  test('jsonResponse', async () => {
    const server = await serveFake({ jsonResponse: true })
    const session = await openSession(server)
    const { response } = await open(
      server,
      post(call({ duration: 1000, progress: { count: 2, every: 100 } }), session.headers),
    )
    await server.called()
    await server.clock.advance(1000)
    expect((await response).header('content-type')).toBe('application/json')
    expect(await (await response).json()).toMatchObject({ id: 'q1', result: {} })
  })

  test('stateless', async () => {
    const server = await serveFake({ stateless: true })
    const opened = await server.request(post(initialize()))
    expect(opened.status).toBe(200)
    expect(opened.header('mcp-session-id')).toBeUndefined()
    expect((await server.request(post(rpc('tools/list')))).status).toBe(200)
    expect(server.fakes).toHaveLength(2)
    expect(server.app.sessions.size).toBe(0)
  })

  test('retryInterval', async () => {
    const server = await serveFake({ retryInterval: '7s' })
    const session = await openSession(server)
    const { response } = await open(server, getStream(session))
    expect(await (await response).nextEvent()).toMatchObject({ data: '', retry: 7000 })
  })

  test('allowed hosts and origins, on by default on loopback', async () => {
    const server = await serveFake()
    for (const headers of [
      { Host: 'evil.example' },
      { Origin: 'https://evil.example' },
      { Origin: 'null' },
    ]) {
      expect((await server.request(post(initialize(), headers))).status).toBe(403)
    }
    expect(
      (await server.request(post(initialize(), { Host: 'localhost', Origin: 'http://localhost:1234' })))
        .status,
    ).toBe(200)
    const open = await serveFake({ allowedHosts: ['mcp.example'], allowedOrigins: ['https://app.example'] })
    const headers = { Host: 'mcp.example', Origin: 'https://app.example' }
    expect((await open.request(post(initialize(), headers))).status).toBe(200)
  })
})

describe('session_idle_timeout: finite, positive; recommended, now the default', () => {
  test.each([0, -1, Number.NaN, 'soon', '5'])('RangeError for %s', (value) => {
    expect(() => httpApp(build, { sessionIdleTimeout: value })).toThrow(RangeError)
    expect(() => httpApp(build, { sessionIdleTimeout: value })).toThrow(
      /^sessionIdleTimeout must be a positive duration/,
    )
  })

  test('30 minutes by default', async () => {
    const app = new SimApp(new VirtualClock())
    const id = await app.open()
    app.post(id, rpc('tools/list'))
    await app.clock.advance(30 * 60_000 - 1)
    expect(app.manager.sessions.size).toBe(1)
    await app.clock.advance(1)
    expect(app.closings(id)).toEqual(['idle'])
  })
})

test('with stateless: an error when the app is made', () => {
  const options: AppOptions = { stateless: true, sessionIdleTimeout: '30m' }
  expect(() => httpApp(build, options)).toThrow(/^stateless and sessionIdleTimeout exclude each other/)
  expect(() => new StreamableHTTPSessionManager(build, options)).toThrow(RangeError)
  expect(() => httpApp(build, { stateless: true })).not.toThrow()
})

describe('each request pushes the deadline; idle from the end of the last request in flight, an open GET holds', () => {
  const IDLE = 1000

  async function used(): Promise<{ app: SimApp; id: string }> {
    const app = new SimApp(new VirtualClock(), { sessionIdleTimeout: IDLE, unusedSessionTimeout: IDLE })
    return { app, id: await app.open() }
  }

  /** Alive until the millisecond before, ended at it. */
  async function endsIn({ app, id }: { app: SimApp; id: string }, milliseconds: number): Promise<void> {
    await app.clock.advance(milliseconds - 1)
    expect(app.closings(id)).toEqual([])
    await app.clock.advance(1)
    expect(app.closings(id)).toEqual(['idle'])
  }

  test('each request pushes it', async () => {
    const { app, id } = await used()
    for (let n = 0; n < 3; n++) {
      await app.clock.advance(IDLE - 1)
      app.post(id, rpc('tools/list'))
      await app.clock.settle()
    }
    await endsIn({ app, id }, IDLE)
  })

  test('to the end of the last request in flight', async () => {
    const { app, id } = await used()
    app.post(id, call({ duration: 3 * IDLE }))
    app.post(id, call({ duration: 5 * IDLE }))
    await app.clock.advance(5 * IDLE)
    await endsIn({ app, id }, IDLE)
  })

  test('an open GET holds', async () => {
    const { app, id } = await used()
    const stream = app.get(id)
    await app.clock.advance(5 * IDLE)
    stream.drop()
    await app.clock.settle()
    await endsIn({ app, id }, IDLE)
  })

  test('also while the handler runs on after its connection dropped', async () => {
    const { app, id } = await used()
    const exchange = app.post(id, call({ duration: 5 * IDLE }))
    await app.clock.advance(100)
    exchange.drop()
    await app.clock.advance(5 * IDLE - 100)
    expect(app.fakes[0]?.calls[0]).toMatchObject({ abortedAt: undefined })
    await endsIn({ app, id }, IDLE)
  })
})

test('on expiry: server cancelled, session removed, transport terminated, later requests 404, told once', async () => {
  const server = await serveFake({ sessionIdleTimeout: 1000, unusedSessionTimeout: 1000 })
  const session = await openSession(server)
  const { signal } = server.app.sessions.get(session.id) ?? {}
  await server.idle()
  await server.clock.advance(1000)
  expect(signal).toMatchObject({ aborted: true, reason: 'idle' })
  expect(server.fakes[0]?.closedAt).toBeDefined()
  await expect(server.fakes[0]?.ask(undefined, 10)).rejects.toThrow()
  expect(server.app.sessions.size).toBe(0)
  await expectError(await server.request(post(rpc('tools/list'), session.headers)), {
    ...NOT_FOUND,
    id: 'q1',
  })
  await server.clock.advance(10_000)
  const closed = server.events.filter(({ type }) => type === 'session.closed')
  expect(closed).toMatchObject([{ session: session.id, reason: 'idle' }])
})

describe('terminate() is idempotent; crashed sessions are removed, and told of', () => {
  test('one idempotent close(reason): the first counts', async () => {
    const app = new SimApp(new VirtualClock())
    const id = await app.open()
    const session = app.manager.sessions.get(id)
    expect(session?.close('evicted')).toBe(true)
    expect(session?.close()).toBe(false)
    expect(app.manager.sessions.close(id)).toBe(false)
    await app.fakes[0]?.close()
    await app.manager.close()
    expect(app.closings(id)).toEqual(['evicted'])
    expect(app.leftovers()).toEqual([])
  })

  test('a server that ends itself takes its session along, with its calls answered', async () => {
    const app = new SimApp(new VirtualClock())
    const id = await app.open()
    const exchange = app.post(id, call({ duration: 10, ending: 'close' }))
    await app.clock.advance(100)
    expect(exchange.json()).toMatchObject({ error: { message: 'Session closed: failed' } })
    const closed = app.events.filter(({ type }) => type === 'session.closed')
    expect(closed).toMatchObject([
      { session: id, reason: 'failed', detail: 'the server closed its own connection' },
    ])
    expect(app.leftovers()).toEqual([])
  })

  test('a factory that throws is logged with what it threw', async () => {
    const lines: unknown[][] = []
    const log = (...args: unknown[]): number => lines.push(args)
    const manager = new StreamableHTTPSessionManager(
      () => {
        throw new Error('no database')
      },
      { logger: { debug: log, info: log, warn: log, error: log } },
    )
    const clock = new VirtualClock()
    const app = new SimApp(clock)
    Object.assign(app, { manager })
    const exchange = app.post(undefined, initialize())
    await clock.settle()
    expect(exchange.status).toBe(500)
    expect(exchange.text).not.toContain('no database')
    expect(JSON.stringify(lines)).toContain('no database')
    expect(manager.sessions.counts).toMatchObject({ total: 0, opening: 0 })
    await manager.close()
  })
})

describe('max_sessions 10,000: 503', () => {
  test('with Retry-After, and without a slot lost', async () => {
    const server = await serveFake({ maxSessions: 2, evictableAfter: Number.POSITIVE_INFINITY })
    const sessions = [await openSession(server), await openSession(server)]
    for (const session of sessions)
      await (await server.request(post(rpc('tools/list'), session.headers))).text()
    const response = await server.request(post(initialize()))
    expect(response.header('retry-after')).toMatch(/^\d+$/)
    await expectError(response, {
      status: 503,
      code: -32000,
      message: 'Service Unavailable: too many sessions',
      id: 'q1',
    })
    // Only initialize is refused.
    expect((await server.request(post(rpc('tools/list'), sessions[0]?.headers))).status).toBe(200)
    expect((await server.request(post(rpc('tools/list'), { 'Mcp-Session-Id': 'unknown' }))).status).toBe(404)
    await (await server.request(del(sessions[0]?.headers))).ended()
    expect((await server.request(post(initialize()))).status).toBe(200)
  })

  test('10,000 by default', async () => {
    const app = new SimApp(new VirtualClock())
    const exchanges = Array.from({ length: 10_001 }, () => app.post(undefined, initialize()))
    await app.clock.settle()
    expect(exchanges.filter(({ status }) => status === 200)).toHaveLength(10_000)
    expect(exchanges.at(-1)?.status).toBe(503)
    await app.manager.close()
  })

  test('reclaiming first: what has expired, what was never used, what is idle for long enough', async () => {
    const app = new SimApp(new VirtualClock(), {
      maxSessions: 2,
      sessionIdleTimeout: 600_000,
      unusedSessionTimeout: 60_000,
      evictableAfter: 300_000,
    })
    const [used, unused] = [await app.open(), await app.open()]
    app.post(used, rpc('tools/list'))
    await app.clock.settle()
    const next = await app.open()
    expect(app.closings(unused)).toEqual(['evicted'])
    app.post(next, rpc('tools/list'))
    await app.clock.settle()
    await expect(app.open()).rejects.toThrow('503')
    await app.clock.advance(300_000)
    await app.open()
    expect(app.closings(used)).toEqual(['evicted'])
    await app.manager.close()
  })
})

describe('a session is bound to the credential; a mismatch gets the same 404', () => {
  const as = (token: string): { Authorization: string } => ({ Authorization: `Bearer ${token}` })

  test('bound to the principal', async () => {
    const server = await serveFake({ authenticate: bySubject })
    const session = await openSession(server, { headers: as('alice.1') })
    for (const headers of [as('bob.1'), {}]) {
      const response = await server.request(post(rpc('tools/list'), { ...session.headers, ...headers }))
      await expectError(response, { ...NOT_FOUND, id: 'q1' })
    }
    expect(server.fakes[0]?.calls).toEqual([])
  })

  test('a refreshed token still matches', async () => {
    const server = await serveFake({ authenticate: bySubject })
    const session = await openSession(server, { headers: as('alice.1') })
    const response = await server.request(post(rpc('tools/list'), { ...session.headers, ...as('alice.2') }))
    expect(response.status).toBe(200)
  })
})

describe('max_request_body_size 4 MiB: 413', () => {
  test('by its declared length, before a byte of it came', async () => {
    const server = await serveFake()
    const connection = await server.connect()
    await connection.send(post(undefined, { 'Content-Length': String(4 * 1024 ** 2 + 1) }))
    expect((await connection.response()).status).toBe(413)
  })

  test('by its real length, without buffering past the limit', async () => {
    const server = await serveFake()
    const connection = await server.connect()
    await connection.send(post(undefined, { 'Transfer-Encoding': 'chunked' }))
    const chunk = Buffer.from(`10000\r\n${'x'.repeat(0x10000)}\r\n`)
    let sent = 0
    // An endless body: the answer comes after 4 MiB of it, or never.
    const answer = connection.response()
    let answered = false
    void answer.finally(() => (answered = true)).catch(() => {})
    while (!answered && sent < 64 * 1024 ** 2) {
      await connection.write(chunk).catch(() => {})
      sent += 0x10000
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect((await answer).status).toBe(413)
    expect(sent).toBeLessThan(32 * 1024 ** 2)
  })

  test('exactly 4 MiB is taken', async () => {
    const server = await serveFake()
    const body = JSON.stringify(notification('notifications/x', { padding: '' }))
    const session = await openSession(server)
    const padded = body.replace('"padding":""', `"padding":"${'x'.repeat(4 * 1024 ** 2 - body.length)}"`)
    expect((await server.request(post(padded, session.headers))).status).toBe(202)
    expect((await server.request(post(`${padded} `, session.headers))).status).toBe(413)
  })
})
