/** The idle clock on virtual time: what holds a session, what does not, and to the millisecond when it ends (promise 1). */

import { describe, expect, test } from 'vitest'

import type { AppOptions } from '../../src/types.ts'
import { del, get, notification, openSession, post, rpc, type WireSession } from '../support/mcp-wire.ts'
import { SimApp } from '../support/sim-app.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { call, getStream, open, serveFake, type FakeApp } from '../support/wire-app.ts'

const IDLE = 60_000

/** A session that was used, and whose clock starts now. */
async function idleSession(options: AppOptions = {}): Promise<{ server: FakeApp; session: WireSession }> {
  const server = await serveFake({ sessionIdleTimeout: IDLE, ...options })
  const session = await openSession(server)
  await (await server.request(post(rpc('tools/list'), session.headers))).text()
  await server.idle()
  return { server, session }
}

/** The session lives up to the millisecond before, and has ended at it, once, for this reason. */
async function endsIn(
  server: FakeApp,
  session: WireSession,
  milliseconds: number,
  reason = 'idle',
): Promise<void> {
  await server.clock.advance(milliseconds - 1)
  expect(server.app.sessions.get(session.id)?.state, 'one millisecond before').toBe('idle')
  await server.clock.advance(1)
  expect(server.app.sessions.get(session.id)).toBeUndefined()
  const closed = server.events.filter((event) => event.type === 'session.closed')
  expect(closed).toMatchObject([{ session: session.id, reason }])
  const after = await server.request(post(rpc('tools/list'), session.headers))
  expect(after.status).toBe(404)
}

describe('a session lives for its timeout after', () => {
  test('its last request', async () => {
    const { server, session } = await idleSession()
    await server.clock.advance(IDLE - 1)
    await (await server.request(post(rpc('tools/list'), session.headers))).text()
    await server.idle()
    await endsIn(server, session, IDLE)
  })

  test('a call that takes longer than the timeout', async () => {
    const { server, session } = await idleSession()
    const { response } = await open(server, post(call({ duration: 3 * IDLE }), session.headers))
    await server.called(2)
    await server.clock.advance(3 * IDLE - 1)
    expect(server.app.sessions.get(session.id)?.state).toBe('active')
    await server.clock.advance(1)
    expect(await (await response).messages()).toMatchObject([{ result: {} }])
    await server.idle()
    await endsIn(server, session, IDLE)
  })

  test('such a call whose connection dropped', async () => {
    const { server, session } = await idleSession()
    const { connection } = await open(server, post(call({ duration: 3 * IDLE }), session.headers))
    const running = await server.called(2)
    await server.clock.advance(1000)
    connection.destroy()
    await server.until('stream.closed')
    await server.clock.advance(3 * IDLE - 1001)
    expect(running.abortedAt).toBeUndefined()
    expect(server.app.sessions.get(session.id)?.state).toBe('active')
    await server.clock.advance(1)
    await server.idle()
    await endsIn(server, session, IDLE)
  })

  test('a slow upload', async () => {
    const { server, session } = await idleSession({ bodyTimeout: 10 * IDLE })
    const body = JSON.stringify(rpc('tools/list'))
    const connection = await server.connect()
    await server.clock.advance(IDLE - 10)
    await connection.send(post(undefined, { ...session.headers, 'Content-Length': String(body.length) }))
    await connection.write(body.slice(0, 10))
    // Node hands the head over before time passes.
    await server.waitFor(() => server.timers > 1, 'the head being read')
    await server.clock.advance(5 * IDLE)
    expect(server.app.sessions.get(session.id)?.state, 'far beyond its deadline').toBe('idle')
    await connection.write(body.slice(10))
    const response = await connection.response()
    expect(response.status).toBe(200)
    await response.text()
    await server.idle()
    await endsIn(server, session, IDLE)
  })

  test('the end of an open GET', async () => {
    const { server, session } = await idleSession()
    const { connection, response } = await open(server, getStream(session))
    expect((await response).status).toBe(200)
    await server.clock.advance(10 * IDLE)
    expect(server.app.sessions.get(session.id)?.state).toBe('active')
    connection.destroy()
    await server.idle()
    await endsIn(server, session, IDLE)
  })

  test('a notification, and an answer to a request of the server', async () => {
    const { server, session } = await idleSession()
    await server.clock.advance(IDLE - 1)
    await (
      await server.request(post(notification('notifications/roots/list_changed'), session.headers))
    ).ended()
    await server.idle()
    await server.clock.advance(IDLE - 1)
    const { connection, response } = await open(server, getStream(session))
    const stream = await response
    const asked = server.app.sessions.get(session.id)?.request('roots/list')
    const question = (await stream.nextMessage()) as { id: number }
    connection.destroy()
    await server.idle()
    await server.clock.advance(IDLE - 1)
    await (
      await server.request(post({ jsonrpc: '2.0', id: question.id, result: { roots: [] } }, session.headers))
    ).ended()
    expect(await asked).toEqual({ roots: [] })
    await server.idle()
    await endsIn(server, session, IDLE)
  })
})

test('a session lives for its timeout after an answer that its client took its time to read', async () => {
  const app = new SimApp(new VirtualClock(), { sessionIdleTimeout: IDLE, unsentTimeout: 10 * IDLE })
  const id = await app.open()
  app.post(id, rpc('tools/list'), {}, { finishAfter: 3 * IDLE })
  await app.clock.advance(4 * IDLE - 1)
  expect(app.closings(id)).toEqual([])
  await app.clock.advance(1)
  expect(app.closings(id)).toEqual(['idle'])
})

test('a GET whose peer is gone without a word stops holding: no answer to a ping in two intervals', async () => {
  const { server, session } = await idleSession({ keepAliveInterval: 15_000 })
  const { connection, response } = await open(server, getStream(session))
  const stream = await response
  await server.clock.advance(30_000)
  const ping = (await stream.nextMessage()) as { id: number; method: string }
  expect(ping.method).toBe('ping')
  await (await server.request(post({ jsonrpc: '2.0', id: ping.id, result: {} }, session.headers))).ended()
  await server.clock.advance(30_000)
  await stream.nextMessage()
  // It is not answered: the network has gone silent.
  connection.pause()
  await server.clock.advance(30_000)
  await server.until('stream.closed')
  await server.idle()
  await endsIn(server, session, IDLE)
})

describe('nothing is won by', () => {
  const refusals: Record<string, (session: WireSession) => Parameters<FakeApp['request']>[0]> = {
    'a wrong version': ({ headers }) =>
      post(rpc('tools/list'), { ...headers, 'Mcp-Protocol-Version': '1999-01-01' }),
    'a body that is no JSON': ({ headers }) => post('{', headers),
    'a body that is no JSON-RPC': ({ headers }) => post({ jsonrpc: '1.0' }, headers),
    'a second initialize': ({ headers }) =>
      post(rpc('initialize', { protocolVersion: '2025-11-25' }), headers),
    'a batch': ({ headers }) => post([rpc('tools/list')], headers),
    'a GET that does not take a stream': ({ headers }) => get({ ...headers, Accept: 'application/json' }),
    'a cursor of nobody': ({ headers }) => get({ ...headers, 'Last-Event-ID': 'garbage' }),
    'a foreign host': ({ headers }) => post(rpc('tools/list'), { ...headers, Host: 'evil.example' }),
    'a DELETE with a wrong version': ({ headers }) =>
      del({ ...headers, 'Mcp-Protocol-Version': '1999-01-01' }),
    'a wrong content type': ({ headers }) =>
      post(rpc('tools/list'), { ...headers, 'Content-Type': 'text/plain' }),
    'a body that is too large': ({ headers }) => post(rpc('x', { padding: 'x'.repeat(2000) }), headers),
  }
  test.each(Object.keys(refusals))('%s', async (name) => {
    const { server, session } = await idleSession({ maxBodySize: 1000 })
    await server.clock.advance(IDLE - 10)
    for (let n = 0; n < 3; n++) {
      const response = await server.request(refusals[name]?.(session) ?? get())
      expect(response.status).toBeGreaterThanOrEqual(400)
      expect(server.app.sessions.get(session.id)).toMatchObject({ state: 'idle', expiresIn: 10 })
    }
    await endsIn(server, session, 10)
  })

  test('a refused upload that outlasts the deadline: it waits for the refusal, and ends with it', async () => {
    const { server, session } = await idleSession({ bodyTimeout: 10 * IDLE })
    await server.clock.advance(IDLE - 10)
    const connection = await server.connect()
    await connection.send(post(undefined, { ...session.headers, 'Content-Length': '10' }))
    await server.waitFor(() => server.timers > 1, 'the head being read')
    await server.clock.advance(100)
    expect(server.app.sessions.get(session.id)?.state).toBe('idle')
    await connection.write('not JSON !')
    expect((await connection.response()).status).toBe(400)
    expect(await server.until('session.closed')).toMatchObject({ session: session.id, reason: 'idle' })
    expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(404)
  })

  test('an answer to a keep-alive ping, which proves the peer and is no activity', async () => {
    const { server, session } = await idleSession({ keepAliveInterval: 15_000 })
    const { connection, response } = await open(server, getStream(session))
    const stream = await response
    await server.clock.advance(30_000)
    const ping = (await stream.nextMessage()) as { id: number }
    connection.destroy()
    await server.idle()
    await server.clock.advance(IDLE - 10)
    await (await server.request(post({ jsonrpc: '2.0', id: ping.id, result: {} }, session.headers))).ended()
    await endsIn(server, session, 10)
  })
})

describe('a session that is never used ends early', () => {
  test('on its handshake alone: after unusedSessionTimeout, as unused', async () => {
    const server = await serveFake({ sessionIdleTimeout: IDLE, unusedSessionTimeout: 5000 })
    const session = await openSession(server)
    await server.idle()
    await endsIn(server, session, 5000, 'unused')
  })

  test('without initialized: after handshakeTimeout', async () => {
    const server = await serveFake({
      sessionIdleTimeout: IDLE,
      unusedSessionTimeout: 5000,
      handshakeTimeout: 1000,
    })
    const session = await openSession(server, { initialized: false })
    await server.idle()
    await endsIn(server, session, 1000, 'unused')
  })

  test('a ping does not make it used; a request does, and a GET', async () => {
    const server = await serveFake({ sessionIdleTimeout: IDLE, unusedSessionTimeout: 5000 })
    const [pinged, requested, listened] = [
      await openSession(server),
      await openSession(server),
      await openSession(server),
    ]
    await (await server.request(post(rpc('ping'), pinged.headers))).text()
    await (await server.request(post(rpc('tools/list'), requested.headers))).text()
    const { connection, response } = await open(server, getStream(listened))
    await response
    connection.destroy()
    await server.idle()
    await server.clock.advance(5000)
    const left = server.app.sessions.list().map(({ id }) => id)
    expect(left.sort()).toEqual([requested.id, listened.id].sort())
    await server.clock.advance(IDLE - 5000)
    expect(server.app.sessions.size).toBe(0)
  })

  test('not before sessionIdleTimeout where that is shorter, and then as idle', async () => {
    const server = await serveFake({ sessionIdleTimeout: 2000, unusedSessionTimeout: 5000 })
    const session = await openSession(server)
    await server.idle()
    await endsIn(server, session, 2000)
  })
})

describe('the timeout', () => {
  test('may depend on principal and client', async () => {
    const asked: unknown[] = []
    const server = await serveFake({
      unusedSessionTimeout: Number.POSITIVE_INFINITY,
      sessionIdleTimeout: (session) => {
        asked.push(session)
        return session.client?.name === 'wire' ? '7s' : '1h'
      },
    })
    const session = await openSession(server)
    await server.idle()
    expect(asked).toEqual([{ principal: undefined, client: { name: 'wire', version: '1' } }])
    await endsIn(server, session, 7000)
  })

  test('is 30 minutes by default, 5 for a session that was never used, and off with Infinity', async () => {
    const server = await serveFake()
    const used = await openSession(server)
    const unused = await openSession(server)
    await (await server.request(post(rpc('tools/list'), used.headers))).text()
    await server.idle()
    expect(server.app.sessions.get(used.id)?.expiresIn).toBe(30 * 60_000)
    expect(server.app.sessions.get(unused.id)?.expiresIn).toBe(5 * 60_000)
    const endless = await serveFake({
      sessionIdleTimeout: Number.POSITIVE_INFINITY,
      unusedSessionTimeout: 'Infinity',
    })
    const session = await openSession(endless)
    await endless.idle()
    await endless.clock.advance(1e12)
    expect(endless.app.sessions.get(session.id)).toMatchObject({ state: 'idle', expiresIn: undefined })
    expect(endless.timers).toBe(0)
  })
})

test('sessionMaxAge waits for the last hold, at most drainTimeout', async () => {
  const server = await serveFake({ sessionMaxAge: 10_000, drainTimeout: 2000 })
  const [idle, short, long] = [
    await openSession(server),
    await openSession(server),
    await openSession(server),
  ]
  await open(server, post(call({ duration: 11_000 }), short.headers))
  await server.called(1, server.fakes[1])
  const { response } = await open(server, post(call({ duration: 60_000 }), long.headers))
  await server.called(1, server.fakes[2])
  await server.waitFor(() => server.app.sessions.get(idle.id)?.state === 'idle', 'the end of the handshake')
  const left = (): string[] => server.app.sessions.list().map(({ id }) => id)
  await server.clock.advance(9999)
  expect(left()).toHaveLength(3)
  await server.clock.advance(1)
  expect(left()).toEqual([short.id, long.id])
  await server.clock.advance(1000)
  await server.until('session.closed', 2)
  expect(left()).toEqual([long.id])
  await server.clock.advance(1000)
  expect(left()).toEqual([])
  expect(await (await response).messages()).toMatchObject([{ error: { message: 'Session closed: max-age' } }])
  const reasons = server.events.flatMap((event) => (event.type === 'session.closed' ? [event.reason] : []))
  expect(reasons).toEqual(['max-age', 'max-age', 'max-age'])
})
