/**
 * "Limits" in docs/wire.md, each with its default and as an option. Bodies and their deadline are in bodies.test.ts, `initialize` params in
 * opening.test.ts, sessions in eviction.test.ts, stream buffer and message size in answers.test.ts.
 */

import { describe, expect, test } from 'vitest'

import { SojournError } from '../../src/errors.ts'
import type { AppOptions, ServerContext } from '../../src/types.ts'
import { within } from '../support/deferred.ts'
import { type CallPlan, FakeServer } from '../support/fake-server.ts'
import {
  expectError,
  get,
  ID,
  notification,
  openSession,
  post,
  rpc,
  type WireSession,
} from '../support/mcp-wire.ts'
import type { RawResponse } from '../support/raw-http.ts'
import { serve, type Served } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const KIB = 1024
const MINUTE = 60_000

interface Setup {
  readonly server: Served
  readonly clock: VirtualClock
  readonly session: WireSession
  /** The server of the session. */
  readonly fake: FakeServer
  readonly context: ServerContext
}

/** A server with one session. */
async function setUp(options: AppOptions = {}, version?: string): Promise<Setup> {
  const clock = new VirtualClock()
  const fakes: FakeServer[] = []
  const contexts: ServerContext[] = []
  const server = await serve(
    (context) => {
      const fake = new FakeServer({ clock, tag: `fake-${fakes.length}` })
      fakes.push(fake)
      contexts.push(context)
      return fake
    },
    { clock, ...options },
  )
  const session = await openSession(server, version === undefined ? {} : { version })
  const [fake] = fakes
  const [context] = contexts
  if (fake === undefined || context === undefined) throw new Error('the factory was not called')
  return { server, clock, session, fake, context }
}

/** A call whose handler does what the plan says. */
function call(plan: Partial<CallPlan> = {}, id: string | number = ID): object {
  return rpc('tools/call', { name: 'run', arguments: { tag: String(id), ...plan } }, id)
}

describe('batch 100', () => {
  const batch = (size: number): object[] =>
    Array.from({ length: size }, (_, index) => rpc('ping', undefined, index))

  test.each(['2025-03-26', '2024-11-05'])(
    '%s: 100 messages are executed, 101 are refused and nothing is',
    async (version) => {
      const { server, session, fake } = await setUp({}, version)
      const calls = Array.from({ length: 100 }, (_, index) => rpc('tools/list', undefined, index))
      const response = await server.request(post(calls, session.headers))
      expect(await response.json()).toHaveLength(100)
      expect(fake.calls).toHaveLength(100)
      await expectError(await server.request(post([...calls, rpc('tools/list')], session.headers)), {
        status: 400,
        code: -32600,
        message: 'Invalid Request: Batch must not exceed 100 messages',
      })
      expect(fake.calls).toHaveLength(100)
      expect(server.events.at(-1)).toMatchObject({
        type: 'request.refused',
        cause: 'batch',
        option: 'maxBatchSize',
      })
    },
  )

  test('notifications count, too', async () => {
    const { server, session, fake } = await setUp({}, '2025-03-26')
    const many = (size: number): object[] =>
      Array.from({ length: size }, () => notification('notifications/x'))
    expect((await server.request(post(many(100), session.headers))).status).toBe(202)
    const seen = fake.notifications.length
    expect((await server.request(post(many(101), session.headers))).status).toBe(400)
    expect(fake.notifications).toHaveLength(seen)
  })

  test('maxBatchSize is an option', async () => {
    const { server, session } = await setUp({ maxBatchSize: 2 }, '2025-03-26')
    expect((await server.request(post(batch(2), session.headers))).status).toBe(200)
    await expectError(await server.request(post(batch(3), session.headers)), {
      status: 400,
      code: -32600,
      message: 'Invalid Request: Batch must not exceed 2 messages',
    })
  })
})

describe('streams per session 64', () => {
  const TOO_MANY = {
    status: 429,
    code: -32000,
    message: 'Too Many Requests: the session has too many open streams',
    headers: { 'retry-after': /^[1-9]\d*$/ },
  }

  /** Opens SSE streams of calls that never end. */
  async function openStreams({ server, clock, session }: Setup, count: number): Promise<RawResponse[]> {
    const responses: RawResponse[] = []
    const handle = server.app.sessions.get(session.id)
    const before = handle?.streams ?? 0
    const running = handle?.requests ?? 0
    for (let index = 0; index < count; index++) {
      const connection = await server.connect()
      await connection.send(post(call({ ending: 'never' }, `s${before + index}`), session.headers))
    }
    await server.waitFor(() => (handle?.requests ?? 0) >= running + count, `${count} more calls`)
    await clock.advance(25)
    expect(handle?.streams).toBe(before + count)
    return responses
  }

  test('64 are served; the next request is 429 and not executed; notifications still pass', async () => {
    const setup = await setUp()
    const { server, session, fake } = setup
    await openStreams(setup, 64)
    await expectError(await server.request(post(call({}, 'more'), session.headers)), {
      ...TOO_MANY,
      id: 'more',
    })
    expect(server.events.at(-1)).toMatchObject({
      type: 'request.refused',
      status: 429,
      cause: 'limit',
      option: 'maxStreamsPerSession',
    })
    await expectError(await server.request(get(session.headers)), TOO_MANY)
    expect(fake.calls).toHaveLength(64)
    expect((await server.request(post(notification('notifications/x'), session.headers))).status).toBe(202)
    expect(server.app.sessions.get(session.id)?.streams).toBe(64)
  })

  test('another session is not concerned', async () => {
    const setup = await setUp({ maxStreamsPerSession: 2 })
    await openStreams(setup, 2)
    const other = await openSession(setup.server)
    expect((await setup.server.request(get(other.headers))).status).toBe(200)
  })

  test('one that ends makes room, and a GET counts; its takeover needs none', async () => {
    const setup = await setUp({ maxStreamsPerSession: 3 })
    const { server, session } = setup
    await openStreams(setup, 2)
    const stream = await server.request(get(session.headers))
    expect(stream.status).toBe(200)
    await expectError(await server.request(post(rpc('tools/list'), session.headers)), { ...TOO_MANY, id: ID })
    const second = await server.request(get(session.headers))
    expect(second.status).toBe(200)
    expect(await stream.ended()).toBe('complete')
    const cancel = notification('notifications/cancelled', { requestId: 's0' })
    expect((await server.request(post(cancel, session.headers))).status).toBe(202)
    expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(200)
  })

  test('a resumed stream counts', async () => {
    const setup = await setUp({ maxStreamsPerSession: 2 })
    const { server, clock, session } = setup
    const connection = await server.connect()
    await connection.send(post(call({ ending: 'never' }, 'cut'), session.headers))
    await server.until('request.started')
    await clock.advance(25)
    const first = await connection.response()
    const cursor = (await first.nextEvent())?.id
    connection.destroy()
    await server.until('stream.closed')
    await openStreams(setup, 2)
    await expectError(await server.request(get({ ...session.headers, 'Last-Event-ID': cursor })), TOO_MANY)
    const cancel = notification('notifications/cancelled', { requestId: 's0' })
    await server.request(post(cancel, session.headers))
    await server.waitFor(() => server.app.sessions.get(session.id)?.streams === 1, 'the end of a stream')
    const resumed = await server.request(get({ ...session.headers, 'Last-Event-ID': cursor }))
    expect(resumed.status).toBe(200)
    expect(resumed.header('content-type')).toBe('text/event-stream')
  })
})

describe('running requests per session 256', () => {
  const BUSY = {
    status: 429,
    code: -32000,
    message: 'Too Many Requests: the session has too many running requests',
    headers: { 'retry-after': /^[1-9]\d*$/ },
  }

  /** Starts calls that end when so much time has passed, in batches. */
  async function start({ server, session }: Setup, count: number, duration: number): Promise<void> {
    const handle = server.app.sessions.get(session.id)
    const before = handle?.requests ?? 0
    for (let left = count; left > 0; left -= 100) {
      const size = Math.min(left, 100)
      const connection = await server.connect()
      const calls = Array.from({ length: size }, (_, index) => call({ duration }, `r${left - index}`))
      await connection.send(post(calls, session.headers))
    }
    await server.waitFor(() => handle?.requests === before + count, `${count} calls`)
  }

  test('256 run; the next is 429 with Retry-After and not executed; one that ends makes room', async () => {
    const setup = await setUp({}, '2025-03-26')
    const { server, clock, session, fake } = setup
    await start(setup, 255, 60_000)
    await start(setup, 1, 1000)
    await expectError(await server.request(post(call({}, 'more'), session.headers)), { ...BUSY, id: 'more' })
    expect(server.events.at(-1)).toMatchObject({
      type: 'request.refused',
      status: 429,
      cause: 'limit',
      option: 'maxRequestsPerSession',
    })
    expect(fake.calls).toHaveLength(256)
    expect((await server.request(post(notification('notifications/x'), session.headers))).status).toBe(202)
    await clock.advance(1000)
    expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(200)
    await clock.advance(60_000)
    expect(server.app.sessions.counts.requests).toBe(0)
  })

  test('a batch that does not fit is refused whole', async () => {
    const setup = await setUp({ maxRequestsPerSession: 5 }, '2025-03-26')
    const { server, clock, session, fake } = setup
    await start(setup, 3, 1000)
    await expectError(
      await server.request(post([call({}, 1), call({}, 2), call({}, 3)], session.headers)),
      BUSY,
    )
    expect(fake.calls).toHaveLength(3)
    const fits = await server.request(post([call({}, 1), call({}, 2)], session.headers))
    expect(await fits.json()).toHaveLength(2)
    await clock.advance(1000)
  })

  test('a call whose connection is gone still counts', async () => {
    const setup = await setUp({ maxRequestsPerSession: 1 })
    const { server, clock, session } = setup
    const connection = await server.connect()
    await connection.send(post(call({ duration: 1000 }, 'gone'), session.headers))
    await server.until('request.started')
    connection.destroy()
    await server.waitFor(() => connection.socket.destroyed, 'the end of the connection')
    await expectError(await server.request(post(rpc('tools/list'), session.headers)), { ...BUSY, id: ID })
    await clock.advance(1000)
    expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(200)
  })

  test('another session is not concerned', async () => {
    const setup = await setUp({ maxRequestsPerSession: 1 })
    const { server, clock, session } = setup
    const connection = await server.connect()
    await connection.send(post(call({ duration: 1000 }), session.headers))
    await server.until('request.started')
    const other = await openSession(server)
    expect((await server.request(post(rpc('tools/list'), other.headers))).status).toBe(200)
    await clock.advance(1000)
  })

  test('a refused request prolongs nothing', async () => {
    const setup = await setUp({ maxRequestsPerSession: 1 }, '2025-03-26')
    const { server, session } = setup
    await server.waitFor(
      () => server.app.sessions.get(session.id)?.state === 'idle',
      'the end of the exchange',
    )
    const expiresIn = server.app.sessions.get(session.id)?.expiresIn ?? 0
    await setup.clock.advance(1000)
    await expectError(await server.request(post([call({}, 1), call({}, 2)], session.headers)), BUSY)
    expect(server.app.sessions.get(session.id)?.expiresIn).toBe(expiresIn - 1000)
  })
})

describe('pending server→client requests 64', () => {
  test('the 65th is rejected, by server and by handle; an answer makes room', async () => {
    const { server, session, fake } = await setUp({ sessionIdleTimeout: 'Infinity' })
    const stream = await server.request(get(session.headers))
    const asked = Array.from({ length: 64 }, () => fake.ask(undefined, 10 * MINUTE))
    for (const one of asked) one.catch(() => {})
    const ids: unknown[] = []
    while (ids.length < 64) {
      const message = (await stream.nextMessage()) as { id: unknown }
      ids.push(message.id)
    }
    await expect(fake.ask(undefined, MINUTE)).rejects.toMatchObject({
      name: 'SojournError',
      code: 'limit-exceeded',
      message: expect.stringContaining('maxServerRequestsPerSession is 64'),
    })
    await expect(server.app.sessions.get(session.id)?.request('roots/list')).rejects.toMatchObject({
      code: 'limit-exceeded',
    })
    const answer = { jsonrpc: '2.0', id: ids[0], result: { action: 'decline' } }
    expect((await server.request(post(answer, session.headers))).status).toBe(202)
    expect(await within(asked[0] as Promise<unknown>, 'the answer')).toMatchObject({
      result: { action: 'decline' },
    })
    const next = fake.ask(undefined, MINUTE)
    next.catch(() => {})
    expect(await stream.nextMessage()).toMatchObject({ method: 'elicitation/create' })
  })

  test('keep-alive pings do not count', async () => {
    const { server, clock, session, fake } = await setUp({
      maxServerRequestsPerSession: 1,
      sessionIdleTimeout: 'Infinity',
    })
    const stream = await server.request(get(session.headers))
    await clock.advance(40_000)
    const ask = fake.ask(undefined, MINUTE)
    ask.catch(() => {})
    const methods: unknown[] = []
    while (!methods.includes('elicitation/create')) {
      methods.push(((await stream.nextMessage()) as { method: unknown }).method)
    }
    expect(methods).toContain('ping')
  })

  test('one that was given up on counts no longer', async () => {
    const { server, session, fake, clock } = await setUp({
      maxServerRequestsPerSession: 1,
      undeliveredRequestTimeout: '1s',
    })
    const parked = fake.ask(undefined, MINUTE)
    parked.catch(() => {})
    await expect(fake.ask(undefined, MINUTE)).rejects.toMatchObject({ code: 'limit-exceeded' })
    await clock.advance(1000)
    await expect(parked).rejects.toMatchObject({ code: 'undeliverable' })
    const stream = await server.request(get(session.headers))
    const next = fake.ask(undefined, MINUTE)
    next.catch(() => {})
    expect(await stream.nextMessage()).toMatchObject({ method: 'elicitation/create' })
  })
})

describe('session.data 64 KiB', () => {
  /** JSON of exactly so many bytes. */
  const data = (bytes: number): { text: string } => ({ text: 'x'.repeat(bytes - '{"text":""}'.length) })

  test('64 KiB of JSON are kept, one byte more throws to the author and changes nothing', async () => {
    const { server, session, context } = await setUp()
    expect(context.session.data).toEqual({})
    context.session.data = data(64 * KIB)
    const handle = server.app.sessions.get(session.id)
    expect(handle?.data).toEqual(data(64 * KIB))
    expect(() => {
      context.session.data = data(64 * KIB + 1)
    }).toThrow(SojournError)
    expect(() => {
      if (handle !== undefined) handle.data = data(64 * KIB + 1)
    }).toThrow(
      expect.objectContaining({
        code: 'limit-exceeded',
        message: expect.stringContaining('maxSessionDataSize'),
      }),
    )
    expect(context.session.data).toEqual(data(64 * KIB))
    expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(200)
  })

  test('bytes count, not characters', async () => {
    const { context } = await setUp({ maxSessionDataSize: 100 })
    context.session.data = '€'.repeat(32)
    expect(() => {
      context.session.data = '€'.repeat(33)
    }).toThrow(/at most 100 bytes/)
  })

  test('in the factory: the session is not opened', async () => {
    const server = await serve(({ session }) => {
      session.data = data(64 * KIB + 1)
      return new FakeServer({ clock: new VirtualClock(), tag: 'fake' })
    })
    const response = await server.request(post(rpc('initialize', { protocolVersion: '2025-11-25' })))
    expect(response.status).toBe(500)
    expect(server.app.sessions.size).toBe(0)
  })
})

describe('subscriptions 1,000 × 2 KiB', () => {
  const subscribe = (uri: string, method = 'subscribe'): object => rpc(`resources/${method}`, { uri })

  async function ask({ server, session }: Setup, message: object): Promise<unknown> {
    const response = await server.request(post(message, session.headers))
    expect(response.status).toBe(200)
    return response.json()
  }

  test('1,000 are taken, the next is -32602 and does not reach the server; the same again, and one in exchange, are taken', async () => {
    const setup = await setUp()
    const { server, session, fake } = setup
    const connection = await server.connect()
    for (let index = 0; index < 1000; index++) {
      const response = await connection.request(post(subscribe(`r:${index}`), session.headers))
      expect(await response.json()).toMatchObject({ result: {} })
    }
    const refused = {
      jsonrpc: '2.0',
      id: ID,
      error: { code: -32602, message: 'A session may have at most 1000 subscriptions (maxSubscriptions)' },
    }
    const before = fake.calls.length
    expect(await ask(setup, subscribe('r:1000'))).toEqual(refused)
    expect(fake.calls).toHaveLength(before)
    expect(server.app.sessions.get(session.id)?.subscriptions).toHaveLength(1000)
    expect(await ask(setup, subscribe('r:7'))).toMatchObject({ result: {} })
    expect(await ask(setup, subscribe('r:7', 'unsubscribe'))).toMatchObject({ result: {} })
    expect(await ask(setup, subscribe('r:1000'))).toMatchObject({ result: {} })
    expect(await ask(setup, subscribe('r:1001'))).toEqual(refused)
  })

  test('a URI of 2 KiB is taken, one byte more is -32602; bytes count', async () => {
    const setup = await setUp()
    expect(await ask(setup, subscribe('x'.repeat(2048)))).toMatchObject({ result: {} })
    for (const uri of ['x'.repeat(2049), 'ü'.repeat(1025)]) {
      expect(await ask(setup, subscribe(uri))).toMatchObject({
        id: ID,
        error: { code: -32602, message: expect.stringContaining('maxSubscriptionUriSize') },
      })
    }
    expect(setup.server.app.sessions.get(setup.session.id)?.subscriptions).toHaveLength(1)
  })

  test('both are options', async () => {
    const setup = await setUp({ maxSubscriptions: 1, maxSubscriptionUriSize: 10 })
    expect(await ask(setup, subscribe('12345678901'))).toMatchObject({ error: { code: -32602 } })
    expect(await ask(setup, subscribe('1234567890'))).toMatchObject({ result: {} })
    expect(await ask(setup, subscribe('2'))).toMatchObject({ error: { code: -32602 } })
  })
})

describe('event log', () => {
  /** Opens the GET stream and leaves it again; gives a cursor from which everything after is to be had. */
  async function visit({ server, session }: Setup): Promise<string> {
    const connection = await server.connect()
    const stream = await connection.request(get(session.headers))
    const cursor = (await stream.nextEvent())?.id
    connection.destroy()
    await server.waitFor(() => server.app.sessions.get(session.id)?.streams === 0, 'the end of the stream')
    if (cursor === undefined) throw new Error('the stream was not primed')
    return cursor
  }

  /** What a client that comes back gets: how many of the notifications, or that a gap was admitted. */
  async function comeBack(setup: Setup, cursor: string): Promise<number | 'gap'> {
    const { server, session, fake } = setup
    const stream = await server.request(get({ ...session.headers, 'Last-Event-ID': cursor }))
    expect(stream.status).toBe(200)
    await fake.transport?.send({ jsonrpc: '2.0', method: 'notifications/end' })
    let count = 0
    let gap = false
    while (true) {
      const message = (await stream.nextMessage()) as { method: string }
      if (message.method === 'notifications/end') return gap ? 'gap' : count
      if (message.method === 'notifications/tools/list_changed') gap = true
      else count += 1
    }
  }

  test('1,000 events: so many are kept for a client that comes back, with one more there is a gap', async () => {
    const setup = await setUp()
    const cursor = await visit(setup)
    for (let count = 0; count < 999; count++) void setup.fake.broadcast()
    // The one that marks the end is the thousandth.
    expect(await comeBack(setup, cursor)).toBe(999)
    const other = await setUp()
    const otherCursor = await visit(other)
    for (let count = 0; count < 1001; count++) void other.fake.broadcast()
    expect(await comeBack(other, otherCursor)).toBe('gap')
  })

  test('1 MiB: so much is kept, with more there is a gap', async () => {
    const setup = await setUp()
    const cursor = await visit(setup)
    for (let count = 0; count < 9; count++) void setup.fake.broadcast(100 * KIB)
    expect(await comeBack(setup, cursor)).toBe(9)
    const other = await setUp()
    const otherCursor = await visit(other)
    for (let count = 0; count < 11; count++) void other.fake.broadcast(100 * KIB)
    expect(await comeBack(other, otherCursor)).toBe('gap')
  })

  test('10 minutes: so long it is kept, longer there is a gap', async () => {
    const setup = await setUp()
    const cursor = await visit(setup)
    void setup.fake.broadcast()
    await setup.clock.advance(10 * MINUTE - 1)
    expect(await comeBack(setup, cursor)).toBe(1)
    const other = await setUp()
    const otherCursor = await visit(other)
    void other.fake.broadcast()
    await other.clock.advance(10 * MINUTE + 1)
    expect(await comeBack(other, otherCursor)).toBe('gap')
  })

  test.each<[string, AppOptions, (fake: FakeServer, clock: VirtualClock) => unknown]>([
    ['eventLogMaxEvents', { eventLogMaxEvents: 2 }, (fake) => [1, 2, 3].map(() => fake.broadcast())],
    ['eventLogMaxBytes', { eventLogMaxBytes: '2KiB' }, (fake) => [1, 2, 3].map(() => fake.broadcast(KIB))],
    [
      'eventLogMaxAge',
      { eventLogMaxAge: '2s' },
      (fake, clock) => {
        void fake.broadcast()
        return clock.advance(2001)
      },
    ],
    [
      'eventLogMaxTotalBytes',
      { eventLogMaxTotalBytes: '2KiB' },
      (fake) => [1, 2, 3].map(() => fake.broadcast(KIB)),
    ],
  ])('%s is an option', async (_, options, act) => {
    const setup = await setUp(options)
    const cursor = await visit(setup)
    await act(setup.fake, setup.clock)
    expect(await comeBack(setup, cursor)).toBe('gap')
  })

  test('256 MiB in all: one session after the other fills it, the oldest events go first, whoever’s they are', async () => {
    const clock = new VirtualClock()
    const fakes: FakeServer[] = []
    const server = await serve(
      () => {
        const fake = new FakeServer({ clock, tag: 'fake' })
        fakes.push(fake)
        return fake
      },
      // The default in all, but more than that for one session.
      { clock, eventLogMaxBytes: '512MiB' },
    )
    const setups: Setup[] = []
    for (let index = 0; index < 2; index++) {
      const session = await openSession(server)
      setups.push({ server, clock, session, fake: fakes[index] as FakeServer, context: undefined as never })
    }
    const [first, second] = setups as [Setup, Setup]
    const cursors = [await visit(first), await visit(second)] as const
    void first.fake.broadcast()
    // 8 MiB a message, 31 of them: 248 MiB.
    for (let count = 0; count < 31; count++) void second.fake.broadcast(8 * KIB * KIB)
    expect(await comeBack(first, cursors[0])).toBe(1)
    void second.fake.broadcast(8 * KIB * KIB)
    expect(await comeBack(first, cursors[0])).toBe('gap')
  })
})
