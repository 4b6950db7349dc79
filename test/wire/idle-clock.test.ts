/** "The idle clock" of docs/wire.md over real sockets: never early, never much later (promises 1 to 3). */

import { describe, expect, test } from 'vitest'

import { systemClock } from '../../src/clock.ts'
import { httpApp } from '../../src/http-app.ts'
import type { AppOptions } from '../../src/types.ts'
import {
  del,
  expectError,
  expectNothing,
  notification,
  openSession,
  post,
  rpc,
  type WireSession,
} from '../support/mcp-wire.ts'
import { encodeRequest } from '../support/raw-http.ts'
import {
  as,
  authenticateByName,
  call,
  expectPriming,
  getStream,
  open,
  serveFake,
  type FakeApp,
} from '../support/wire-app.ts'

const MINUTE = 60_000

/** A session that was used, idle since now. */
async function usedSession(server: FakeApp): Promise<WireSession> {
  const session = await openSession(server)
  await (await server.request(post(rpc('tools/list'), session.headers))).ended()
  await server.idle()
  return session
}

function expiresIn(server: FakeApp, session: WireSession): number | undefined {
  return server.app.sessions.get(session.id)?.expiresIn
}

/** On the system's clock, for what only real time shows. */
function serveReal(options: AppOptions): Promise<FakeApp> {
  return serveFake({ ...options, clock: systemClock })
}

/** That it ends exactly `milliseconds` from now, not a millisecond earlier. */
async function expectEnd(
  server: FakeApp,
  session: WireSession,
  milliseconds: number,
  reason: string = 'idle',
): Promise<void> {
  const handle = server.app.sessions.get(session.id)
  await server.clock.advance(milliseconds - 1)
  expect(handle?.state).not.toBe('closed')
  await server.clock.advance(1)
  expect(handle?.state).toBe('closed')
  expect(server.events.findLast(({ type }) => type === 'session.closed')).toMatchObject({
    session: session.id,
    reason,
  })
  await expectError(await server.request(post(rpc('tools/list'), session.headers)), {
    status: 404,
    code: -32001,
    message: 'Session not found',
    id: 'q1',
  })
}

describe('on expiry', () => {
  test('after 30 min by default: server closed, events dropped, 404 on everything, no timer left', async () => {
    const server = await serveFake()
    const session = await usedSession(server)
    server.app.sessions.get(session.id)?.notify('notifications/marker')
    expect(server.fakes[0]?.closedAt).toBeUndefined()
    await expectEnd(server, session, 30 * MINUTE)
    expect(server.fakes[0]?.closedAt).toBe(server.clock.now())
    for (const request of [getStream(session), getStream(session, 'AAAAAAAA.0.0'), del(session.headers)]) {
      expect((await server.request(request)).status).toBe(404)
    }
    expectNothing(server)
    expect(server.timers).toBe(0)
    expect(server.events.filter(({ type }) => type === 'session.closed').length).toBe(1)
  })

  test('each session at its own time', async () => {
    const server = await serveFake({ sessionIdleTimeout: '10m', unusedSessionTimeout: '10m' })
    const first = await openSession(server)
    await server.idle()
    await server.clock.advance(1_000)
    const second = await openSession(server)
    await server.idle()
    await expectEnd(server, first, 10 * MINUTE - 1_000, 'idle')
    await expectEnd(server, second, 1_000, 'idle')
  })

  test('a step of the wall clock changes nothing', async () => {
    const server = await serveFake()
    const session = await usedSession(server)
    server.clock.stepWall(86_400_000)
    await server.clock.advance(15 * MINUTE)
    server.clock.stepWall(-2 * 86_400_000)
    await expectEnd(server, session, 15 * MINUTE)
  })
})

describe('holds: the clock stands still', () => {
  test('while a JSON-RPC request runs, and restarts when it ends', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await usedSession(server)
    await server.clock.advance(59_000)
    const { response } = await open(server, post(call({ duration: 10 * MINUTE }, 'c'), session.headers))
    await server.called(2)
    expect(expiresIn(server, session)).toBeUndefined()
    await server.clock.advance(10 * MINUTE)
    await (await response).ended()
    await server.idle()
    await expectEnd(server, session, MINUTE)
  })

  test('also when its connection is gone', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await usedSession(server)
    const { connection, response } = await open(
      server,
      post(call({ duration: 5 * MINUTE }, 'c'), session.headers),
    )
    await server.called(2)
    await server.clock.advance(25)
    await response
    connection.destroy()
    await server.until('stream.closed')
    await server.clock.advance(5 * MINUTE - 26)
    expect(server.app.sessions.counts).toMatchObject({ active: 1, requests: 1 })
    await server.clock.advance(1)
    await server.idle()
    await expectEnd(server, session, MINUTE)
  })

  test('while a GET is open, and restarts when it ends', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await openSession(server)
    const { connection, response } = await open(server, getStream(session))
    await expectPriming(await response)
    await server.clock.advance(60 * MINUTE)
    expect(server.app.sessions.get(session.id)?.state).toBe('active')
    connection.destroy()
    await server.idle()
    await expectEnd(server, session, MINUTE)
  })

  test('while a resumed stream is open', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await openSession(server)
    const first = await open(server, getStream(session))
    const cursor = await expectPriming(await first.response)
    first.connection.destroy()
    await server.idle()
    await server.clock.advance(59_999)
    const second = await open(server, getStream(session, cursor))
    await second.response
    await server.clock.advance(10 * MINUTE)
    second.connection.destroy()
    await server.idle()
    await expectEnd(server, session, MINUTE)
  })

  test('only the last of several to end restarts it', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await usedSession(server)
    const { connection, response } = await open(server, getStream(session))
    await response
    for (const duration of [1_000, 30_000]) {
      await open(server, post(call({ duration }, duration), session.headers))
    }
    await server.called(3)
    connection.destroy()
    await server.until('stream.closed')
    await server.clock.advance(29_999)
    expect(expiresIn(server, session)).toBeUndefined()
    await server.clock.advance(1)
    await server.idle()
    await expectEnd(server, session, MINUTE)
  })

  test('a notification and a response to the server are activity as well', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await usedSession(server)
    await server.clock.advance(30_000)
    await (await server.request(post(notification('notifications/x'), session.headers))).ended()
    await server.idle()
    expect(expiresIn(server, session)).toBe(MINUTE)
  })
})

describe('provisional holds', () => {
  /** Begins a POST whose body does not come yet. */
  async function slowUpload(
    server: FakeApp,
    session: WireSession,
    body: string,
  ): Promise<{ finish: () => Promise<void>; connection: Awaited<ReturnType<FakeApp['connect']>> }> {
    const connection = await server.connect()
    const headers = { ...session.headers, 'Content-Length': String(Buffer.byteLength(body)) }
    await connection.write(encodeRequest(post(undefined, headers), `127.0.0.1:${server.port}`))
    await connection.write(body.slice(0, 1))
    // The head was read when the session looks held against eviction; no number shows it, so one turn on the wire is awaited.
    await (await server.request(post(rpc('ping'), { 'Mcp-Session-Id': 'x'.repeat(32) }))).ended()
    return { connection, finish: () => connection.write(body.slice(1)) }
  }

  test('a slow upload is safe: expiry waits, then it is served', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await usedSession(server)
    await server.clock.advance(59_000)
    const upload = await slowUpload(server, session, JSON.stringify(rpc('tools/list', {}, 'late')))
    // The deadline stays where it was.
    expect(expiresIn(server, session)).toBe(1_000)
    await server.clock.advance(20_000)
    expect(server.app.sessions.size).toBe(1)
    await upload.finish()
    const response = await upload.connection.response()
    expect(await response.json()).toMatchObject({ id: 'late', result: {} })
    await server.idle()
    await expectEnd(server, session, MINUTE)
  })

  test('a refusal restores the deadline: it prolonged nothing', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await usedSession(server)
    await server.clock.advance(30_000)
    const refused = [
      post('{', session.headers),
      post('[]', session.headers),
      post({ jsonrpc: '2.0', id: null, method: 'x' }, session.headers),
      post([rpc('tools/list')], session.headers),
      post(rpc('tools/list'), { ...session.headers, Accept: 'text/html' }),
      post(rpc('tools/list'), { ...session.headers, 'Content-Type': 'text/plain' }),
      post(rpc('tools/list'), { ...session.headers, 'Mcp-Protocol-Version': '1999-01-01' }),
      post(rpc('initialize', { protocolVersion: '2025-11-25' }), session.headers),
      { ...getStream(session, 'garbage') },
      getStream(session, undefined, { Accept: 'application/json' }),
      getStream(session, undefined, { 'Mcp-Protocol-Version': '1999-01-01' }),
      { ...del({ ...session.headers, 'Mcp-Protocol-Version': '1999-01-01' }) },
      { method: 'PUT', headers: session.headers },
    ]
    for (const request of refused) {
      const response = await server.request(request)
      await response.ended()
      expect(response.status).toBeGreaterThanOrEqual(400)
      expect([expiresIn(server, session), server.app.sessions.get(session.id)?.state]).toEqual([
        30_000,
        'idle',
      ])
    }
    await expectEnd(server, session, 30_000)
  })

  test('refused after the deadline: it expires at once', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await usedSession(server)
    await server.clock.advance(59_000)
    const upload = await slowUpload(server, session, '{not JSON}')
    await server.clock.advance(20_000)
    expect(server.app.sessions.size).toBe(1)
    await upload.finish()
    const response = await upload.connection.response()
    expect(response.status).toBe(400)
    await response.ended()
    await server.until('session.closed')
    expect(server.app.sessions.size).toBe(0)
  })

  test('a client that goes away in the middle of its upload: the same', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await usedSession(server)
    await server.clock.advance(59_000)
    const upload = await slowUpload(server, session, JSON.stringify(rpc('tools/list')))
    await server.clock.advance(20_000)
    expect(server.app.sessions.size).toBe(1)
    upload.connection.destroy()
    expect(await server.until('session.closed')).toMatchObject({ reason: 'idle' })
  })

  test('an upload that never ends is given up by its own deadline, and the session with it', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await usedSession(server)
    await server.clock.advance(59_000)
    const upload = await slowUpload(server, session, JSON.stringify(rpc('tools/list')))
    await server.clock.advance(30_000)
    expect((await upload.connection.response()).status).toBe(408)
    expect(await server.until('session.closed')).toMatchObject({ session: session.id, reason: 'idle' })
  })

  test('one of two uploads is refused: the other still holds', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1m' })
    const session = await usedSession(server)
    await server.clock.advance(50_000)
    const bad = await slowUpload(server, session, '{not JSON}')
    const good = await slowUpload(server, session, JSON.stringify(rpc('tools/list', {}, 'good')))
    await server.clock.advance(15_000)
    await bad.finish()
    expect((await bad.connection.response()).status).toBe(400)
    expect(server.app.sessions.size).toBe(1)
    await good.finish()
    expect(await (await good.connection.response()).json()).toMatchObject({ id: 'good' })
    await server.idle()
    expect(expiresIn(server, session)).toBe(MINUTE)
  })
})

describe('in real time', () => {
  test('never early, and at most 250 ms late', async () => {
    const server = await serveReal({ sessionIdleTimeout: 300 })
    const session = await openSession(server)
    const response = await server.request(post(rpc('tools/list'), session.headers))
    const before = performance.now()
    await response.ended()
    await server.until('session.closed')
    const took = performance.now() - before
    // The clock restarted a moment before the client had read the end of the answer.
    expect(took).toBeGreaterThan(300 - 50)
    expect(took).toBeLessThan(300 + 250)
  })

  test('a timer that comes late first lets waiting sockets be read', async () => {
    const server = await serveReal({ sessionIdleTimeout: 200 })
    const session = await openSession(server)
    const connection = await server.connect()
    await (await connection.request(post(rpc('tools/list', {}, 'early'), session.headers))).ended()
    await server.waitFor(() => server.app.sessions.counts.active === 0, 'the last hold being released')
    // The loop stands still over the deadline; the request waits in the socket when the timer comes.
    const answered = connection.request(post(rpc('tools/list', {}, 'in time'), session.headers))
    const until = performance.now() + 300
    while (performance.now() < until);
    expect(await (await answered).json()).toMatchObject({ id: 'in time', result: {} })
    expect(server.app.sessions.size).toBe(1)
    await server.until('session.closed')
  })
})

describe('unused sessions', () => {
  test('the handshake alone: 5 min', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    await server.idle()
    await expectEnd(server, session, 5 * MINUTE, 'unused')
  })

  test('while `initialized` is missing: 60 s', async () => {
    const server = await serveFake()
    const session = await openSession(server, { initialized: false })
    await server.idle()
    await expectEnd(server, session, MINUTE, 'unused')
  })

  test('`ping` restarts the clock, but is no use', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    await server.idle()
    await server.clock.advance(4 * MINUTE)
    await (await server.request(post(rpc('ping'), session.headers))).ended()
    await server.idle()
    await expectEnd(server, session, 5 * MINUTE, 'unused')
  })

  for (const [name, use] of [
    ['a request', (session: WireSession) => post(rpc('tools/list'), session.headers)],
    ['a request that the server refuses', (session: WireSession) => post(rpc('nope'), session.headers)],
  ] as const) {
    test(`${name}: used from then on`, async () => {
      const server = await serveFake()
      const session = await openSession(server, { initialized: false })
      await (await server.request(use(session))).ended()
      await server.idle()
      await expectEnd(server, session, 30 * MINUTE)
    })
  }

  test('a GET: used from then on', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { connection, response } = await open(server, getStream(session))
    await response
    connection.destroy()
    await server.idle()
    await expectEnd(server, session, 30 * MINUTE)
  })

  test('a refused request is no use', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    await server.idle()
    await (await server.request(getStream(session, 'garbage'))).ended()
    await (await server.request(post('{', session.headers))).ended()
    await expectEnd(server, session, 5 * MINUTE, 'unused')
  })

  test('never later than sessionIdleTimeout', async () => {
    const server = await serveFake({ sessionIdleTimeout: '10s' })
    const session = await openSession(server)
    await server.idle()
    await expectEnd(server, session, 10_000, 'idle')
  })
})

describe('sessionMaxAge', () => {
  test('ends an idle session, however recently it was used', async () => {
    const server = await serveFake({ sessionMaxAge: '1h' })
    const session = await usedSession(server)
    for (let use = 0; use < 5; use++) {
      await server.clock.advance(10 * MINUTE)
      await (await server.request(post(rpc('tools/list'), session.headers))).ended()
      await server.idle()
    }
    await expectEnd(server, session, 10 * MINUTE, 'max-age')
  })

  test('waits for the last hold', async () => {
    const server = await serveFake({ sessionMaxAge: '1h' })
    const session = await usedSession(server)
    await server.clock.advance(29 * MINUTE)
    await (await server.request(post(rpc('tools/list'), session.headers))).ended()
    await server.idle()
    await server.clock.advance(29 * MINUTE)
    const { response } = await open(
      server,
      post(call({ duration: 2 * MINUTE + 20_000 }, 'c'), session.headers),
    )
    await server.called(3)
    await server.clock.advance(2 * MINUTE + 19_999)
    expect(server.app.sessions.size).toBe(1)
    await server.clock.advance(1)
    expect((await (await response).messages()).at(-1)).toMatchObject({ id: 'c', result: {} })
    expect(await server.until('session.closed')).toMatchObject({ reason: 'max-age' })
  })

  test('but at most drainTimeout', async () => {
    const server = await serveFake({ sessionMaxAge: '1m', drainTimeout: '30s' })
    const session = await openSession(server)
    const stream = await server.request(getStream(session))
    await expectPriming(stream)
    await server.clock.advance(MINUTE + 29_999)
    expect(server.app.sessions.size).toBe(1)
    await server.clock.advance(1)
    expect(await stream.ended()).toBe('complete')
    expect(await server.until('session.closed')).toMatchObject({ reason: 'max-age' })
  })
})

describe('sessionIdleTimeout', () => {
  test('`Infinity` turns it off', async () => {
    const server = await serveFake({ sessionIdleTimeout: Infinity })
    const session = await usedSession(server)
    await server.clock.advance(365 * 24 * 60 * MINUTE)
    expect(server.app.sessions.get(session.id)).toMatchObject({ state: 'idle', expiresIn: undefined })
    expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(200)
  })

  for (const [value, what] of [
    [0, '0'],
    [-1, '-1'],
    [Number.NaN, 'NaN'],
    ['soon', 'soon'],
    ['5', '5'],
    [null, 'null'],
  ] as const) {
    test(`not a positive duration (${what}): RangeError when the app is made, naming option and value`, () => {
      expect(() =>
        httpApp(() => Promise.reject(new Error()), { sessionIdleTimeout: value } as unknown as AppOptions),
      ).toThrow(new RegExp(`sessionIdleTimeout.*${what}`))
    })
  }

  test('0 and -1 are RangeErrors', () => {
    for (const sessionIdleTimeout of [0, -1]) {
      expect(() => httpApp(() => Promise.reject(new Error()), { sessionIdleTimeout })).toThrow(RangeError)
    }
  })

  test('given explicitly with `stateless`: an error when the app is made', () => {
    expect(() =>
      httpApp(() => Promise.reject(new Error()), { sessionIdleTimeout: '5m', stateless: true }),
    ).toThrow(/sessionIdleTimeout.*stateless|stateless.*sessionIdleTimeout/)
  })

  test("a function of the session's principal and client", async () => {
    const asked: unknown[] = []
    const server = await serveFake({
      authenticate: authenticateByName,
      unusedSessionTimeout: Infinity,
      handshakeTimeout: Infinity,
      sessionIdleTimeout: (session) => {
        asked.push(session)
        return session.principal?.includes('alice') === true ? '1m' : '2m'
      },
    })
    const alice = await openSession(server, { headers: as('alice') })
    const anyone = await openSession(server)
    expect(asked).toMatchObject([
      { principal: expect.stringContaining('alice'), client: { name: 'wire', version: '1' } },
      { principal: undefined, client: { name: 'wire', version: '1' } },
    ])
    await server.idle()
    const handles = [alice, anyone].map(({ id }) => server.app.sessions.get(id))
    await server.clock.advance(MINUTE - 1)
    expect(handles.map((handle) => handle?.state)).toEqual(['idle', 'idle'])
    await server.clock.advance(1)
    expect(handles.map((handle) => handle?.state)).toEqual(['closed', 'idle'])
    await server.clock.advance(MINUTE)
    expect(handles.map((handle) => handle?.state)).toEqual(['closed', 'closed'])
  })
})

test('many sessions at once: all end, each once, nothing is left', async () => {
  const server = await serveFake({ sessionIdleTimeout: '1m' })
  const connection = await server.connect()
  for (let n = 0; n < 200; n++) {
    const response = await connection.request(post(rpc('initialize', { protocolVersion: '2025-11-25' }, n)))
    expect(response.status).toBe(200)
    await response.ended()
  }
  await server.idle()
  expect(server.app.sessions.size).toBe(200)
  await server.clock.advance(MINUTE)
  expect(server.app.sessions.size).toBe(0)
  expect(server.events.filter(({ type }) => type === 'session.closed').length).toBe(200)
  expect(server.timers).toBe(0)
})
