/** "When sessions are full" in docs/wire.md: who makes room for whom, and who never does. */

import { describe, expect, test } from 'vitest'

import type { AppOptions, AuthInfo } from '../../src/types.ts'
import { deferred } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import {
  del,
  expectError,
  get,
  ID,
  initialize,
  openSession,
  post,
  POST_HEADERS,
  rpc,
  type WireSession,
} from '../support/mcp-wire.ts'
import { encodeRequest, type RawConnection, type RawResponse } from '../support/raw-http.ts'
import { serve, type Served } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const MINUTE = 60_000
const FULL = {
  status: 503,
  code: -32000,
  message: 'Service Unavailable: too many sessions',
  id: ID,
  headers: { 'retry-after': /^[1-9]\d*$/ },
}

/** Who a client is; undefined is anonymous. */
type Who = 'alice' | 'bob' | undefined

/** A client of one principal, and what it does with its sessions. */
class Person {
  readonly #house: House
  readonly #who: Who

  constructor(house: House, who: Who) {
    this.#house = house
    this.#who = who
  }

  get headers(): Record<string, string> {
    return this.#who === undefined ? {} : { Authorization: this.#who }
  }

  /** Opens a session and waits until nothing holds it; it is unused. */
  async open(): Promise<WireSession> {
    const session = await openSession(this.#house.server, { headers: this.headers })
    await this.#house.idle(session)
    return session
  }

  /** Opens a session and uses it once. */
  async openUsed(): Promise<WireSession> {
    const session = await this.open()
    await this.use(session)
    return session
  }

  /** Tries to open a session. */
  async knock(): Promise<RawResponse> {
    const response = await this.#house.server.request(post(initialize(), this.headers))
    await response.ended()
    return response
  }

  async use(session: WireSession, method = 'tools/list'): Promise<void> {
    const response = await this.#house.server.request(
      post(rpc(method), { ...session.headers, ...this.headers }),
    )
    if (response.status !== 200) throw new Error(`${method} was answered with ${response.status}`)
    await response.ended()
    await this.#house.idle(session)
  }

  listen(session: WireSession): Promise<RawResponse> {
    return this.#house.server.request(get({ ...session.headers, ...this.headers }))
  }
}

/** A server with three people around it. */
class House {
  readonly server: Served
  readonly clock: VirtualClock
  readonly alice: Person
  readonly bob: Person
  readonly stranger: Person

  constructor(server: Served) {
    this.server = server
    this.clock = server.clock
    this.alice = new Person(this, 'alice')
    this.bob = new Person(this, 'bob')
    this.stranger = new Person(this, undefined)
  }

  /** Which of these sessions are alive, by position. */
  alive(...sessions: WireSession[]): number[] {
    return sessions.flatMap(({ id }, index) =>
      this.server.app.sessions.get(id) === undefined ? [] : [index],
    )
  }

  idle({ id }: WireSession): Promise<void> {
    return this.server.waitFor(
      () => this.server.app.sessions.get(id)?.state !== 'active',
      'the end of the exchange',
    )
  }

  /** Ids and reasons of sessions that ended. */
  get closed(): [string | undefined, string][] {
    return this.server.events.flatMap((event) =>
      event.type === 'session.closed' ? [[event.session, event.reason]] : [],
    )
  }
}

async function house(options: AppOptions = {}): Promise<House> {
  const clock = new VirtualClock()
  const server = await serve(() => new FakeServer({ clock, tag: 'fake' }), {
    clock,
    sessionIdleTimeout: '30m',
    unusedSessionTimeout: 'Infinity',
    authenticate: (request): AuthInfo | undefined => {
      const sub = request.headers.get('authorization')
      return sub === null ? undefined : { token: sub, clientId: 'app', scopes: [], extra: { sub } }
    },
    ...options,
  })
  return new House(server)
}

describe('an authenticated caller', () => {
  test('its never-used session goes first, however idle its others are', async () => {
    const it = await house({ maxSessions: 3 })
    const idlest = await it.alice.openUsed()
    await it.clock.advance(10 * MINUTE)
    const unused = await it.alice.open()
    const used = await it.alice.openUsed()
    expect((await it.alice.knock()).status).toBe(200)
    expect(it.alive(idlest, unused, used)).toEqual([0, 2])
    expect(it.closed).toEqual([[unused.id, 'evicted']])
    expect(it.server.app.sessions.counts).toMatchObject({ total: 3, opening: 0 })
  })

  test('then its idlest, by its last activity and not by its age', async () => {
    const it = await house({ maxSessions: 3 })
    const first = await it.alice.openUsed()
    await it.clock.advance(1000)
    const second = await it.alice.openUsed()
    await it.clock.advance(1000)
    const third = await it.alice.openUsed()
    await it.clock.advance(1000)
    await it.alice.use(first)
    const fourth = await it.alice.open()
    await it.alice.use(fourth)
    expect(it.alive(first, second, third, fourth)).toEqual([0, 2, 3])
    await it.alice.open()
    expect(it.alive(first, second, third, fourth)).toEqual([0, 3])
  })

  test('its idlest at once: it need not have been idle for evictableAfter', async () => {
    const it = await house({ maxSessions: 1 })
    const session = await it.alice.openUsed()
    expect((await it.alice.knock()).status).toBe(200)
    expect(it.alive(session)).toEqual([])
  })

  test('of the never-used the oldest goes first', async () => {
    const it = await house({ maxSessions: 2 })
    const first = await it.alice.open()
    await it.clock.advance(1)
    const second = await it.alice.open()
    await it.alice.knock()
    expect(it.alive(first, second)).toEqual([1])
  })

  test("never another principal's, never an anonymous one, used or not, however idle: 503", async () => {
    const it = await house({ maxSessions: 4 })
    const others = [
      await it.bob.openUsed(),
      await it.bob.open(),
      await it.stranger.openUsed(),
      await it.stranger.open(),
    ]
    await it.clock.advance(29 * MINUTE)
    await expectError(await it.alice.knock(), FULL)
    expect(it.alive(...others)).toEqual([0, 1, 2, 3])
    expect(it.closed).toEqual([])
  })

  test('one of its own where there is one, and not the older ones of others', async () => {
    const it = await house({ maxSessions: 4 })
    const sessions = [
      await it.bob.open(),
      await it.stranger.open(),
      await it.stranger.openUsed(),
      await it.alice.openUsed(),
    ]
    await it.clock.advance(29 * MINUTE)
    await it.alice.use(sessions[3] as WireSession)
    expect((await it.alice.knock()).status).toBe(200)
    expect(it.alive(...sessions)).toEqual([0, 1, 2])
  })

  test('two principals of one OAuth client are not the same', async () => {
    const it = await house({ maxSessions: 1 })
    const session = await it.alice.openUsed()
    await expectError(await it.bob.knock(), FULL)
    expect(it.alive(session)).toEqual([0])
  })
})

describe('an anonymous caller', () => {
  test('an anonymous session that was used must have been idle for 5 minutes', async () => {
    const it = await house({ maxSessions: 2 })
    const first = await it.stranger.openUsed()
    await it.clock.advance(1000)
    const second = await it.stranger.openUsed()
    await it.clock.advance(5 * MINUTE - 1001)
    await expectError(await it.stranger.knock(), FULL)
    expect(it.alive(first, second)).toEqual([0, 1])
    await it.clock.advance(1)
    expect((await it.stranger.knock()).status).toBe(200)
    expect(it.alive(first, second)).toEqual([1])
    expect(it.closed).toEqual([[first.id, 'evicted']])
  })

  test('a never-used anonymous session goes at once', async () => {
    const it = await house({ maxSessions: 2 })
    const used = await it.stranger.openUsed()
    await it.clock.advance(4 * MINUTE)
    const unused = await it.stranger.open()
    expect((await it.stranger.knock()).status).toBe(200)
    expect(it.alive(used, unused)).toEqual([0])
  })

  test("never an authenticated principal's, used or not, however idle: 503", async () => {
    const it = await house({ maxSessions: 2 })
    const sessions = [await it.alice.open(), await it.alice.openUsed()]
    await it.clock.advance(29 * MINUTE)
    await expectError(await it.stranger.knock(), FULL)
    expect(it.alive(...sessions)).toEqual([0, 1])
  })

  test('evictableAfter is an option', async () => {
    const it = await house({ maxSessions: 1, evictableAfter: '10s' })
    const session = await it.stranger.openUsed()
    await it.clock.advance(9999)
    await expectError(await it.stranger.knock(), FULL)
    await it.clock.advance(1)
    expect((await it.stranger.knock()).status).toBe(200)
    expect(it.alive(session)).toEqual([])
  })

  test('the idlest of those idle enough, and only one', async () => {
    const it = await house({ maxSessions: 3 })
    const sessions = [
      await it.stranger.openUsed(),
      await it.stranger.openUsed(),
      await it.stranger.openUsed(),
    ]
    await it.clock.advance(MINUTE)
    await it.stranger.use(sessions[0] as WireSession)
    await it.clock.advance(10 * MINUTE)
    expect((await it.stranger.knock()).status).toBe(200)
    expect(it.alive(...sessions)).toEqual([0, 2])
  })
})

describe('never one with a hold', () => {
  /** Each holds the session and gives what lets go of it. */
  const holds: readonly (readonly [string, (it: House, session: WireSession) => Promise<() => unknown>])[] = [
    [
      'an open GET stream',
      async (it, session) => {
        const connection = await it.server.connect()
        const response = await connection.request(get({ ...session.headers, ...it.alice.headers }))
        expect(response.status).toBe(200)
        return () => connection.destroy()
      },
    ],
    [
      'a running call',
      async (it, session) => {
        const connection = await it.server.connect()
        await connection.send(call(session, it.alice, 1000))
        await it.server.until('request.started')
        return () => it.clock.advance(1000)
      },
    ],
    [
      'a running call whose connection is gone',
      async (it, session) => {
        const connection = await it.server.connect()
        await connection.send(call(session, it.alice, 1000))
        await it.server.until('request.started')
        connection.destroy()
        await it.server.waitFor(() => connection.socket.destroyed, 'the end of the connection')
        return () => it.clock.advance(1000)
      },
    ],
    [
      'an upload on its way',
      async (it, session) => {
        const connection = await it.server.connect()
        const timers = it.server.timers
        await upload(connection, it, session)
        await it.server.waitFor(() => it.server.timers > timers, 'reading of the body')
        return () => connection.destroy()
      },
    ],
  ]

  test.each(holds)('%s: 503, and room again when it is let go', async (_, hold) => {
    const it = await house({ maxSessions: 1 })
    const session = await it.alice.openUsed()
    const letGo = await hold(it, session)
    await expectError(await it.alice.knock(), FULL)
    expect(it.alive(session)).toEqual([0])
    await letGo()
    await it.idle(session)
    await it.server.waitFor(() => it.server.events.length > 0, 'anything')
    let status = 503
    for (let attempt = 0; attempt < 50 && status === 503; attempt++) status = (await it.alice.knock()).status
    expect(status).toBe(200)
    expect(it.alive(session)).toEqual([])
  })

  test.each(holds)('%s: the next in line goes instead', async (_, hold) => {
    const it = await house({ maxSessions: 2 })
    const held = await it.alice.openUsed()
    await it.clock.advance(1000)
    const next = await it.alice.openUsed()
    await hold(it, held)
    expect((await it.alice.knock()).status).toBe(200)
    expect(it.alive(held, next)).toEqual([0])
  })

  test('a never-used session that is being used for the first time is no longer never-used', async () => {
    const it = await house({ maxSessions: 2 })
    const first = await it.alice.open()
    const second = await it.alice.openUsed()
    const connection = await it.server.connect()
    await connection.send(call(first, it.alice, 1000))
    await it.server.until('request.started', 2)
    expect((await it.alice.knock()).status).toBe(200)
    expect(it.alive(first, second)).toEqual([0])
  })

  test('one whose opening is not finished is not displaced: 503', async () => {
    const it = await house({ maxSessions: 1 })
    const factory = deferred<FakeServer>()
    const clock = new VirtualClock()
    const server = await serve(() => factory.promise, { clock, maxSessions: 1 })
    const connection = await server.connect()
    await connection.send(post(initialize()))
    await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
    await expectError(await server.request(post(initialize())), FULL)
    factory.resolve(new FakeServer({ clock, tag: 'slow' }))
    expect((await connection.response()).status).toBe(200)
    expect(it.server.app.sessions.size).toBe(0)
  })
})

describe('what counts as use', () => {
  test('ping does not', async () => {
    const it = await house({ maxSessions: 2 })
    const pinged = await it.alice.open()
    const used = await it.alice.openUsed()
    await it.clock.advance(1000)
    await it.alice.use(pinged, 'ping')
    expect((await it.alice.knock()).status).toBe(200)
    expect(it.alive(pinged, used)).toEqual([1])
  })

  test('a GET that ended does', async () => {
    const it = await house({ maxSessions: 2 })
    const listened = await it.alice.open()
    const connection = await it.server.connect()
    await connection.request(get({ ...listened.headers, ...it.alice.headers }))
    connection.destroy()
    await it.idle(listened)
    await it.clock.advance(1000)
    const unused = await it.alice.open()
    expect((await it.alice.knock()).status).toBe(200)
    expect(it.alive(listened, unused)).toEqual([0])
  })

  test('a refused request does not, and makes nobody less idle', async () => {
    const it = await house({ maxSessions: 2 })
    const first = await it.alice.openUsed()
    await it.clock.advance(1000)
    const second = await it.alice.openUsed()
    await it.clock.advance(1000)
    const headers = { ...first.headers, ...it.alice.headers }
    for (const request of [
      post(rpc('tools/list'), { ...headers, 'Mcp-Protocol-Version': '1999-01-01' }),
      post('{', headers),
      post(initialize(), headers),
      get({ ...headers, 'Last-Event-ID': 'garbage' }),
      get({ ...headers, Accept: 'text/html' }),
    ]) {
      const { status } = await it.server.request(request)
      expect(status).toBeGreaterThanOrEqual(400)
    }
    // Nor does somebody else's.
    expect(
      (await it.server.request(post(rpc('tools/list'), { ...first.headers, ...it.bob.headers }))).status,
    ).toBe(404)
    expect((await it.alice.knock()).status).toBe(200)
    expect(it.alive(first, second)).toEqual([1])
  })

  test('neither does failing to open: the session that made room is gone, its place is free', async () => {
    const clock = new VirtualClock()
    let fail = false
    const server = await serve(
      () => {
        if (fail) throw new Error('no')
        return new FakeServer({ clock, tag: 'fake' })
      },
      { clock, maxSessions: 1 },
    )
    await openSession(server)
    fail = true
    expect((await server.request(post(initialize()))).status).toBe(500)
    expect(server.app.sessions.counts).toMatchObject({ total: 0, opening: 0 })
    fail = false
    await openSession(server)
    expect(server.app.sessions.counts).toMatchObject({ total: 1, opening: 0 })
  })
})

describe('the expired', () => {
  test("those whose time is over make room for anybody, when the event loop was too busy to end them: another principal's too", async () => {
    const it = await house({ maxSessions: 2 })
    const sessions = [await it.bob.openUsed(), await it.stranger.openUsed()]
    it.clock.jump(30 * MINUTE)
    expect((await it.alice.knock()).status).toBe(200)
    expect(it.alive(...sessions)).toEqual([])
    expect(it.closed.map(([, reason]) => reason)).toEqual(['idle', 'idle'])
  })

  test('a millisecond before that they do not', async () => {
    const it = await house({ maxSessions: 2 })
    const sessions = [await it.bob.openUsed(), await it.bob.openUsed()]
    it.clock.jump(30 * MINUTE - 1)
    await expectError(await it.alice.knock(), FULL)
    expect(it.alive(...sessions)).toEqual([0, 1])
  })

  test('before the never-used and the idlest of the caller: nothing of hers goes', async () => {
    const it = await house({ maxSessions: 3 })
    const bobs = await it.bob.openUsed()
    await it.clock.advance(MINUTE)
    const hers = [await it.alice.openUsed(), await it.alice.open()]
    it.clock.jump(29 * MINUTE)
    expect((await it.alice.knock()).status).toBe(200)
    expect(it.alive(bobs, ...hers)).toEqual([1, 2])
  })

  test('one whose time is over but that has a hold stays', async () => {
    const it = await house({ maxSessions: 1 })
    const session = await it.bob.openUsed()
    const connection = await it.server.connect()
    await upload(connection, it, session, it.bob)
    await it.server.waitFor(() => it.server.timers > 1, 'reading of the body')
    it.clock.jump(30 * MINUTE)
    await expectError(await it.alice.knock(), FULL)
    expect(it.alive(session)).toEqual([0])
  })
})

describe('maxSessionsPerPrincipal', () => {
  test('at the limit the caller’s own never-used goes, then her idlest; nobody else’s, though there is room', async () => {
    const it = await house({ maxSessionsPerPrincipal: 2 })
    const others = [await it.bob.open(), await it.stranger.open(), await it.bob.openUsed()]
    const first = await it.alice.openUsed()
    await it.clock.advance(1000)
    const second = await it.alice.open()
    const third = await it.alice.open()
    expect(it.alive(first, second, third)).toEqual([0, 2])
    await it.alice.use(third)
    await it.alice.open()
    expect(it.alive(first, second, third)).toEqual([2])
    expect(it.alive(...others)).toEqual([0, 1, 2])
  })

  test('where all are held: 503 for her, not for others; the event names the option', async () => {
    const it = await house({ maxSessionsPerPrincipal: 2 })
    const sessions = [await it.alice.open(), await it.alice.open()]
    for (const session of sessions) expect((await it.alice.listen(session)).status).toBe(200)
    await expectError(await it.alice.knock(), FULL)
    expect(it.server.events.at(-1)).toMatchObject({
      type: 'request.refused',
      status: 503,
      cause: 'full',
      option: 'maxSessionsPerPrincipal',
    })
    expect(it.alive(...sessions)).toEqual([0, 1])
    expect((await it.bob.knock()).status).toBe(200)
    expect((await it.stranger.knock()).status).toBe(200)
  })

  test('anonymous callers are not one principal: it does not count for them', async () => {
    const it = await house({ maxSessionsPerPrincipal: 1 })
    const sessions = [await it.stranger.open(), await it.stranger.open(), await it.stranger.open()]
    expect(it.alive(...sessions)).toEqual([0, 1, 2])
  })

  test('sessions that are opening count', async () => {
    const clock = new VirtualClock()
    const factory = deferred<FakeServer>()
    const server = await serve(() => factory.promise, {
      clock,
      maxSessionsPerPrincipal: 1,
      authenticate: () => ({ token: 't', clientId: 'app', scopes: [], extra: { sub: 'alice' } }),
    })
    const connection = await server.connect()
    await connection.send(post(initialize()))
    await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
    await expectError(await server.request(post(initialize())), FULL)
    connection.destroy()
    await server.waitFor(() => server.app.sessions.counts.opening === 0, 'the end of the opening')
    factory.resolve(new FakeServer({ clock, tag: 'late' }))
    // The place is free again: the attempt that left does not count for ever.
    const late = await server.request(post(initialize()))
    expect([200, 500]).toContain(late.status)
    expect(late.status).not.toBe(503)
  })

  test('a place is given back by every way a session ends', async () => {
    const it = await house({ maxSessionsPerPrincipal: 1, maxSessions: 1 })
    for (let round = 0; round < 3; round++) {
      const session = await it.alice.open()
      expect((await it.server.request(del({ ...session.headers, ...it.alice.headers }))).status).toBe(200)
    }
    const expiring = await it.alice.openUsed()
    await it.clock.advance(30 * MINUTE)
    expect(it.alive(expiring)).toEqual([])
    const closed = await it.alice.open()
    it.server.app.sessions.close(closed.id)
    const last = await it.alice.open()
    expect(it.alive(last)).toEqual([0])
    expect(it.closed.map(([, reason]) => reason)).toEqual(['deleted', 'deleted', 'deleted', 'idle', 'admin'])
  })
})

describe('an evicted session', () => {
  test('is closed like any other: its server closed, its signal aborted with the reason, 404 from then on', async () => {
    const clock = new VirtualClock()
    const built: FakeServer[] = []
    const signals: AbortSignal[] = []
    const server = await serve(
      ({ session }) => {
        const one = new FakeServer({ clock, tag: 'fake' })
        built.push(one)
        signals.push(session.signal)
        return one
      },
      { clock, maxSessions: 1 },
    )
    const session = await openSession(server)
    await server.waitFor(
      () => server.app.sessions.get(session.id)?.state === 'idle',
      'the end of the exchange',
    )
    await openSession(server)
    expect(built[0]?.closedAt).toBeDefined()
    expect(signals[0]?.reason).toBe('evicted')
    const expected = { status: 404, code: -32001, message: 'Session not found' }
    await expectError(await server.request(post(rpc('ping'), session.headers)), { ...expected, id: ID })
    await expectError(await server.request(get(session.headers)), expected)
    await expectError(await server.request(del(session.headers)), expected)
  })
})

test('maxSessions is 10,000 unless it is said otherwise', { timeout: 60_000 }, async () => {
  const clock = new VirtualClock()
  const server = await serve(() => new FakeServer({ clock, tag: 'fake' }), { clock })
  const connection = await server.connect()
  const request = encodeRequest(post(initialize()), `127.0.0.1:${server.port}`)
  const batch = 100
  const many = Buffer.concat(Array.from({ length: batch }, () => request))
  for (let count = 0; count < 10_000; count += batch) {
    await connection.write(many)
    for (let one = 0; one < batch; one++) expect((await connection.response()).status).toBe(200)
  }
  expect(server.app.sessions.size).toBe(10_000)
  expect(server.events.some(({ type }) => type === 'session.closed')).toBe(false)
  await connection.write(request)
  expect((await connection.response()).status).toBe(200)
  expect(server.app.sessions.size).toBe(10_000)
  expect(server.events.filter(({ type }) => type === 'session.closed')).toMatchObject([{ reason: 'evicted' }])
})

/** A call that goes on for so many virtual milliseconds. */
function call(session: WireSession, person: Person, duration: number): ReturnType<typeof post> {
  const params = { name: 'run', arguments: { tag: 't', duration } }
  return post(rpc('tools/call', params), { ...session.headers, ...person.headers })
}

/** The head of a POST to a session, and a byte of its body. */
async function upload(
  connection: RawConnection,
  it: House,
  session: WireSession,
  person = it.alice,
): Promise<void> {
  const headers = { ...POST_HEADERS, ...session.headers, ...person.headers, 'Content-Length': '1000' }
  await connection.write(encodeRequest({ method: 'POST', headers }, `127.0.0.1:${it.server.port}`))
  await connection.write('{')
}
