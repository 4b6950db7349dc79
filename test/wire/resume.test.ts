/** The `Last-Event-ID` table of docs/wire.md, row by row, over real sockets (promise 4). */

import { describe, expect, test } from 'vitest'

import type { EventLog, EventLogPage } from '../../src/stream/event-log.ts'
import { MemoryEventLog } from '../../src/stream/memory-event-log.ts'
import { deferred, type Deferred } from '../support/deferred.ts'
import { expectError, notification, openSession, post, rpc, type WireSession } from '../support/mcp-wire.ts'
import type { RawResponse } from '../support/raw-http.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import {
  call,
  expectPriming,
  expectStream,
  getStream,
  messageOf,
  open,
  serveFake,
  type FakeApp,
} from '../support/wire-app.ts'

type Plan = NonNullable<Parameters<typeof call>[0]>

/** A call whose connection dropped right after its priming event. */
async function dropped(
  server: FakeApp,
  session: WireSession,
  plan: Plan,
  id: string = 'c',
): Promise<{ cursor: string }> {
  const calls = server.fakes.at(-1)?.calls.length ?? 0
  const closed = server.events.filter(({ type }) => type === 'stream.closed').length
  const { connection, response } = await open(server, post(call({ tag: id, ...plan }, id), session.headers))
  await server.called(calls + 1)
  await server.clock.advance(25)
  const cursor = await expectPriming(await response)
  connection.destroy()
  await server.until('stream.closed', closed + 1)
  return { cursor }
}

async function resume(
  server: FakeApp,
  session: WireSession,
  cursor: string,
): Promise<{ stream: RawResponse; cursor: string }> {
  const stream = await server.request(getStream(session, cursor))
  expectStream(stream)
  return { stream, cursor: await expectPriming(stream) }
}

/** The whole stream: its messages, and the id of its last event. */
async function drain(stream: RawResponse): Promise<{ messages: unknown[]; last: string }> {
  const messages = await stream.messages()
  expect(await stream.ended()).toBe('complete')
  return { messages, last: stream.blocks.findLast(({ id }) => id !== undefined)?.id ?? '' }
}

async function expectNothingLeft(server: FakeApp, session: WireSession, cursor: string): Promise<void> {
  const response = await server.request(getStream(session, cursor))
  expect([response.status, response.framing, await response.text()]).toEqual([204, 'none', ''])
  expect(response.header('content-type')).toBeUndefined()
}

function notify(server: FakeApp, session: WireSession, n: number, padding = 0): void {
  server.app.sessions
    .get(session.id)
    ?.notify('notifications/marker', { n, ...(padding > 0 && { padding: 'x'.repeat(padding) }) })
}

describe('not an id of this session: 400, nothing leaks', () => {
  const error = {
    status: 400,
    code: -32000,
    message: 'Bad Request: Last-Event-ID is not an event id of this session',
  }

  test('garbage, too long, a position or a stream that does not exist yet', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, { ending: 'never' })
    const [tag = ''] = cursor.split('.')
    for (const bad of [
      'garbage',
      '0',
      '../../etc/passwd',
      '__proto__',
      'ÿ',
      `${tag}.1.1.1.1`,
      `${tag}.-1.0`,
      `${tag}.1.99`,
      `${tag}.0.1`,
      `${tag}.99.0`,
      `${tag}.1.00000000000000000000`,
      `AAAAAAAA.1.0`,
      cursor.slice(1),
      `${cursor}x`,
      cursor.padEnd(257, '1'),
    ]) {
      await expectError(await server.request(getStream(session, bad)), error)
    }
    expect(server.app.sessions.get(session.id)).toMatchObject({ streams: 0, requests: 1 })
  })

  test("another session's, whoever owns it", async () => {
    const server = await serveFake()
    const mine = await openSession(server)
    const other = await openSession(server)
    const theirs = await dropped(server, other, { ending: 'never', progress: { count: 1, every: 30 } })
    await server.clock.advance(30)
    await expectError(await server.request(getStream(mine, theirs.cursor)), error)
    const { stream } = await resume(server, other, theirs.cursor)
    expect(messageOf(await stream.nextEvent())).toMatchObject({ method: 'notifications/progress' })
  })

  test('without an event log every id is none of ours', async () => {
    const server = await serveFake({ eventLog: false })
    const session = await openSession(server)
    await expectError(await server.request(getStream(session, 'AAAAAAAA.0.0')), error)
  })

  test('two different values are refused; an empty one is none', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, { ending: 'never' })
    const { headers } = getStream(session, cursor)
    const response = await server.request({
      method: 'GET',
      headers: [...Object.entries(headers ?? {}), ['Last-Event-ID', 'other']] as [string, string][],
    })
    await expectError(response, {
      status: 400,
      code: -32000,
      message: /Last-Event-ID has two different values/,
    })
    const plain = await server.request(getStream(session, ''))
    expectStream(plain)
    await expectPriming(plain)
  })

  test('a refused resume prolongs nothing', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    await server.idle()
    const handle = server.app.sessions.get(session.id)
    await server.clock.advance(1_000)
    const before = handle?.expiresIn
    await expectError(await server.request(getStream(session, 'garbage')), error)
    expect([handle?.state, handle?.expiresIn]).toEqual(['idle', before])
  })
})

describe('its stream has more, or its call still runs', () => {
  const plan: Plan = { progress: { count: 4, every: 100 }, duration: 500 }

  test("what was missed, then live: each event once, in order, only that stream's", async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const one = await dropped(server, session, plan, 'one')
    const two = await dropped(server, session, plan, 'two')
    notify(server, session, 1)
    await server.clock.advance(250)
    const resumed = await resume(server, session, one.cursor)
    await server.clock.advance(1_000)
    const { messages, last } = await drain(resumed.stream)
    expect(messages).toMatchObject([
      ...[1, 2, 3, 4].map((progress) => ({ params: { call: 'one', progress } })),
      { id: 'one', result: { call: 'one' } },
    ])
    const ids = resumed.stream.blocks.map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    await expectNothingLeft(server, session, last)
    const other = await resume(server, session, two.cursor)
    expect((await drain(other.stream)).messages).toMatchObject([
      ...[1, 2, 3, 4].map((progress) => ({ params: { call: 'two', progress } })),
      { id: 'two' },
    ])
  })

  test('from any event on; the priming event of a resumed stream names the same place, under a fresh id', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, plan)
    await server.clock.advance(1_000)
    const whole = await resume(server, session, cursor)
    await drain(whole.stream)
    const ids = whole.stream.blocks.map(({ id }) => id ?? '')
    expect(ids.length).toBe(6)
    const primings = new Set([cursor])
    for (const [index, id] of ids.entries()) {
      if (index === ids.length - 1) {
        await expectNothingLeft(server, session, id)
        continue
      }
      const part = await resume(server, session, id)
      expect(primings.has(part.cursor)).toBe(false)
      primings.add(part.cursor)
      const { messages } = await drain(part.stream)
      expect(messages.length).toBe(5 - index)
      // Cut after the priming event, the client comes back with its id: to the same place.
      const again = await resume(server, session, part.cursor)
      expect((await drain(again.stream)).messages).toEqual(messages)
    }
  })

  test('a resume takes a call from its own connection, when that is still open', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { response } = await open(server, post(call(plan, 'c'), session.headers))
    await server.called()
    await server.clock.advance(150)
    const first = await response
    const cursor = await expectPriming(first)
    expect(messageOf(await first.nextEvent())).toMatchObject({ params: { progress: 1 } })
    const resumed = await resume(server, session, cursor)
    expect(await first.nextBlock()).toBeUndefined()
    expect(await first.ended()).toBe('complete')
    await server.clock.advance(1_000)
    expect((await drain(resumed.stream)).messages.length).toBe(5)
  })

  test('B: resumed without events of empty data', async () => {
    const server = await serveFake()
    const session = await openSession(server, { version: '2025-06-18' })
    const { connection, response } = await open(server, post(call(plan, 'c'), session.headers))
    await server.called()
    await server.clock.advance(100)
    const progress = await (await response).nextEvent()
    expect(progress).toMatchObject({ id: expect.any(String) })
    connection.destroy()
    await server.until('stream.closed')
    const resumed = await open(server, getStream(session, progress?.id))
    await server.clock.advance(1_000)
    const { messages } = await drain(await resumed.response)
    expect(messages).toMatchObject(
      [2, 3, 4].map((n) => ({ params: { progress: n } })).concat([{ id: 'c' }] as never),
    )
    expect((await resumed.response).blocks.filter(({ data }) => data === '')).toEqual([])
  })

  test('the GET stream: what was missed, then live', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const first = await open(server, getStream(session))
    const cursor = await expectPriming(await first.response)
    notify(server, session, 1)
    const one = await (await first.response).nextEvent()
    first.connection.destroy()
    await server.until('stream.closed')
    for (const n of [2, 3]) notify(server, session, n)
    for (const [from, expected] of [
      [cursor, [1, 2, 3, 4]],
      [one?.id ?? '', [2, 3, 4, 5]],
    ] as const) {
      const { stream } = await resume(server, session, from)
      notify(server, session, expected.at(-1) ?? 0)
      const found: unknown[] = []
      while (found.length < 4) found.push((messageOf(await stream.nextEvent())['params'] as { n: number }).n)
      expect(found).toEqual(expected)
    }
  })
})

describe('nothing left: 204, no priming, no hold', () => {
  test('answered at the cursor', async () => {
    const server = await serveFake({ responseMode: 'sse' })
    const session = await openSession(server)
    const stream = await server.request(post(rpc('tools/list'), session.headers))
    const { last } = await drain(stream)
    await server.idle()
    const handle = server.app.sessions.get(session.id)
    await server.clock.advance(1_000)
    const before = handle?.expiresIn
    for (let n = 0; n < 3; n++) await expectNothingLeft(server, session, last)
    expect([handle?.state, handle?.expiresIn]).toEqual(['idle', before])
  })

  test('its tail was replayed: the stream ends after it, and the next resume gets 204', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, { duration: 100 })
    await server.clock.advance(100)
    const resumed = await resume(server, session, cursor)
    const { messages, last } = await drain(resumed.stream)
    expect(messages).toMatchObject([{ id: 'c', result: {} }])
    await expectNothingLeft(server, session, last)
  })

  test('cancelled while its connection was gone', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, { ending: 'never', progress: { count: 1, every: 30 } })
    await server.clock.advance(30)
    await server.request(post(notification('notifications/cancelled', { requestId: 'c' }), session.headers))
    await expectNothingLeft(server, session, cursor)
    expect(server.app.sessions.counts.requests).toBe(0)
  })
})

describe('evicted', () => {
  test('a GET stream: 200, a fresh stream, and list-changed for each declared capability', async () => {
    const server = await serveFake({ eventLogMaxEvents: 2 })
    const session = await openSession(server)
    const first = await open(server, getStream(session))
    const cursor = await expectPriming(await first.response)
    first.connection.destroy()
    await server.until('stream.closed')
    for (const n of [1, 2, 3, 4]) notify(server, session, n)
    const { stream } = await resume(server, session, cursor)
    notify(server, session, 5)
    const messages = []
    while (messages.length < 5) messages.push(await stream.nextMessage())
    expect(messages).toMatchObject([
      { jsonrpc: '2.0', method: 'notifications/tools/list_changed' },
      { jsonrpc: '2.0', method: 'notifications/resources/list_changed' },
      { params: { n: 3 } },
      { params: { n: 4 } },
      { params: { n: 5 } },
    ])
    // Made for this connection alone: they are no events to come back to.
    expect(stream.blocks.slice(1, 3).map(({ id }) => id)).toEqual([undefined, undefined])
  })

  test('a POST still running: 200, live from now', async () => {
    const server = await serveFake({ eventLogMaxEvents: 1 })
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, { progress: { count: 4, every: 100 }, duration: 500 })
    await server.clock.advance(300)
    const resumed = await resume(server, session, cursor)
    await server.clock.advance(1_000)
    const { messages } = await drain(resumed.stream)
    expect(messages.slice(-2)).toMatchObject([{ params: { progress: 4 } }, { id: 'c', result: {} }])
    expect(messages).not.toContainEqual(
      expect.objectContaining({ params: expect.objectContaining({ progress: 1 }) }),
    )
    expect(messages).not.toContainEqual(expect.objectContaining({ error: expect.anything() }))
  })

  const lost = { jsonrpc: '2.0', id: 'c', error: { code: -32603, message: 'result no longer available' } }

  test('a POST whose answer was evicted: 200 SSE with -32603 for its request id', async () => {
    const server = await serveFake({ eventLogMaxEvents: 1 })
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, { duration: 100 })
    await server.clock.advance(100)
    notify(server, session, 1)
    const resumed = await resume(server, session, cursor)
    const { messages, last } = await drain(resumed.stream)
    expect(messages).toStrictEqual([lost])
    await expectNothingLeft(server, session, last)
  })

  test('by age: 10 minutes', async () => {
    const server = await serveFake({ sessionIdleTimeout: '1d', unusedSessionTimeout: '1d' })
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, { duration: 100 })
    await server.clock.advance(75)
    await server.clock.advance(599_999)
    expect((await drain((await resume(server, session, cursor)).stream)).messages).toMatchObject([
      { id: 'c', result: {} },
    ])
    await server.clock.advance(1)
    expect((await drain((await resume(server, session, cursor)).stream)).messages).toStrictEqual([lost])
  })

  test('by the bytes of all sessions together', async () => {
    const server = await serveFake({ eventLogMaxTotalBytes: '4KiB' })
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, { duration: 100 })
    await server.clock.advance(100)
    const other = await openSession(server)
    for (let n = 0; n < 4; n++) notify(server, other, n, 1000)
    expect((await drain((await resume(server, session, cursor)).stream)).messages).toStrictEqual([lost])
  })

  test('an event larger than the log is written but cannot be resumed', async () => {
    const server = await serveFake({ eventLogMaxBytes: '8KiB', responseMode: 'sse' })
    const session = await openSession(server)
    const written = await server.request(post(call({ padding: 10_000 }, 'c'), session.headers))
    const cursor = await expectPriming(written)
    expect((await drain(written)).messages).toMatchObject([{ id: 'c', result: { call: 'call' } }])
    expect((await drain((await resume(server, session, cursor)).stream)).messages).toStrictEqual([lost])
  })

  test('of streams further back than the log has events (at least 256) only that they ended is known: 204', async () => {
    const server = await serveFake({ responseMode: 'sse', eventLogMaxEvents: 256 })
    const session = await openSession(server)
    const stream = async (): Promise<string> => {
      const response = await server.request(post(rpc('tools/list'), session.headers))
      return (await drain(response)).last.replace(/\.1$/, '.0')
    }
    const first = await stream()
    const second = await stream()
    for (let n = 0; n < 255; n++) await stream()
    await expectNothingLeft(server, session, first)
    expect((await drain((await resume(server, session, second)).stream)).messages).toMatchObject([
      { id: 'q1' },
    ])
  })

  test('each answer of a batch that was evicted is reported, what is left is replayed', async () => {
    const server = await serveFake({ eventLogMaxEvents: 1 })
    const session = await openSession(server, { version: '2025-03-26' })
    const { connection, response } = await open(
      server,
      post(
        [
          call({ tag: 'a', progress: { count: 1, every: 0 }, duration: 100 }, 'a'),
          call({ tag: 'b', duration: 200 }, 'b'),
        ],
        session.headers,
      ),
    )
    const progress = await (await response).nextEvent()
    connection.destroy()
    await server.until('stream.closed')
    await server.clock.advance(200)
    const resumed = await server.request(getStream(session, progress?.id))
    expect((await drain(resumed)).messages).toMatchObject([
      { id: 'a', error: { code: -32603, message: 'result no longer available' } },
      { id: 'b', result: { call: 'b' } },
    ])
  })
})

/** A log that answers later: `read` when the test lets it, `append` some turns of the event loop after the call. */
class SlowLog implements EventLog {
  readonly #log: MemoryEventLog
  reads: Deferred<void>[] = []
  appends = 0
  failReads = false
  #last: Promise<void> = Promise.resolve()

  constructor(log: MemoryEventLog) {
    this.#log = log
  }

  append(session: string, stream: number, position: number, data: string): Promise<void> {
    this.appends += 1
    const turns = this.appends % 3
    return this.#inOrder(async () => {
      for (let turn = turns; turn >= 0; turn--) await new Promise((resolve) => setImmediate(resolve))
      this.#log.append(session, stream, position, data)
    })
  }

  async read(session: string, stream: number, after: number): Promise<EventLogPage> {
    const gate = deferred()
    this.reads.push(gate)
    await gate.promise
    if (this.failReads) throw new Error('the disk is gone')
    return this.#log.read(session, stream, after)
  }

  dropStream(session: string, stream: number): Promise<void> {
    return this.#inOrder(() => this.#log.dropStream(session, stream))
  }

  dropSession(session: string): Promise<void> {
    return this.#inOrder(() => this.#log.dropSession(session))
  }

  close(): Promise<void> {
    return this.#inOrder(() => this.#log.close())
  }

  #inOrder(work: () => void | Promise<void>): Promise<void> {
    this.#last = this.#last.then(work)
    return this.#last
  }
}

describe('with an event log that answers later', () => {
  async function serveSlow(): Promise<{ server: FakeApp; log: SlowLog }> {
    const clock = new VirtualClock({ turns: 12 })
    const limits = { maxBytes: 1 << 20, maxEvents: 1000, maxAge: 600_000, maxTotalBytes: 1 << 28 }
    const eventLog = new SlowLog(new MemoryEventLog(clock, limits))
    return { server: await serveFake({ clock, eventLog }, { clock }), log: eventLog }
  }

  test('no gap and no double between replay and live, however long the log takes', async () => {
    const { server, log } = await serveSlow()
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, { progress: { count: 8, every: 100 }, duration: 900 })
    await server.clock.advance(250)
    // The head does not wait for the log.
    const { stream } = await resume(server, session, cursor)
    await server.waitFor(() => log.reads.length === 1, 'the first read')
    // Goes on while the first page is read, and while what came meanwhile is read.
    await server.clock.advance(200)
    log.reads[0]?.resolve()
    await server.waitFor(() => log.reads.length === 2, 'the second read')
    await server.clock.advance(200)
    log.reads[1]?.resolve()
    await server.waitFor(() => log.reads.length === 3, 'the third read')
    log.reads[2]?.resolve()
    await server.clock.advance(1_000)
    const { messages, last } = await drain(stream)
    expect(messages).toMatchObject([
      ...[1, 2, 3, 4, 5, 6, 7, 8].map((progress) => ({ params: { progress } })),
      { id: 'c', result: {} },
    ])
    await expectNothingLeft(server, session, last)
  })

  test('live events keep their order, and the answer ends the stream after all of them', async () => {
    const { server } = await serveSlow()
    const session = await openSession(server)
    const { response } = await open(
      server,
      post(call({ progress: { count: 5, every: 0 }, duration: 100 }, 'c'), session.headers),
    )
    await server.called()
    await server.clock.advance(200)
    const stream = await response
    await expectPriming(stream)
    const { messages } = await drain(stream)
    expect(messages).toMatchObject([
      ...[1, 2, 3, 4, 5].map((progress) => ({ params: { progress } })),
      { id: 'c', result: {} },
    ])
  })

  test('a log that cannot be read: the connection is cut, for a silent gap would be worse', async () => {
    const { server, log } = await serveSlow()
    log.failReads = true
    const session = await openSession(server)
    const { cursor } = await dropped(server, session, { duration: 100 })
    await server.clock.advance(100)
    const { stream: broken } = await resume(server, session, cursor)
    log.reads[0]?.resolve()
    expect(await broken.ended()).toBe('cut')
    await server.until('stream.closed', 2)
    expect(server.logs.some(({ level, message }) => level === 'error' && message.includes('event log'))).toBe(
      true,
    )
    // Mended, it has lost nothing.
    log.failReads = false
    const again = await open(server, getStream(session, cursor))
    await server.waitFor(() => log.reads.length === 2, 'the second read')
    log.reads[1]?.resolve()
    const stream = await again.response
    await expectPriming(stream)
    expect((await drain(stream)).messages).toMatchObject([{ id: 'c', result: {} }])
  })

  test('a log that cannot be written: streams go on without it', async () => {
    const failing: EventLog = {
      append: () => Promise.reject(new Error('the disk is full')),
      read: () => ({ events: [], trimmed: 0 }),
      dropStream: () => {},
      dropSession: () => {},
      close: () => {},
    }
    const server = await serveFake({ eventLog: failing, responseMode: 'sse' })
    const session = await openSession(server)
    const stream = await server.request(
      post(call({ progress: { count: 2, every: 0 } }, 'c'), session.headers),
    )
    await expectPriming(stream)
    expect((await drain(stream)).messages.length).toBe(3)
  })
})
