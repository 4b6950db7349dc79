/**
 * What is open in the SDKs and frameworks this comes from, and closed here: one test per item, named by its number (python-sdk unless
 * named). Restart and other workers (#880, typescript-sdk #1658, #1882) come with the durable stores.
 */

import { expect, test } from 'vitest'

import { runHttp } from '../../src/run-http.ts'
import type { EventLog, EventLogPage } from '../../src/stream/event-log.ts'
import { MemoryEventLog } from '../../src/stream/memory-event-log.ts'
import { deferred } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import { expectError, get, initialize, notification, openSession, post, rpc } from '../support/mcp-wire.ts'
import { RawConnection } from '../support/raw-http.ts'
import { SimApp } from '../support/sim-app.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { answerOf, call, getStream, open, serveFake } from '../support/wire-app.ts'

const UNBOUNDED = {
  maxBytes: 2 ** 30,
  maxEvents: 2 ** 30,
  maxAge: Number.POSITIVE_INFINITY,
  maxTotalBytes: 2 ** 30,
}

test('#3060, typescript-sdk #2433: duplicate ids in flight do not cross wires', async () => {
  const server = await serveFake()
  const session = await openSession(server)
  const [slow, fast] = [
    await open(server, post(call({ tag: 'slow', duration: 200 }, 1), session.headers)),
    await open(server, post(call({ tag: 'fast', duration: 100 }, 1), session.headers)),
  ]
  await server.called(2)
  await server.clock.advance(200)
  expect(await answerOf(slow.response)).toMatchObject({ id: 1, result: { call: 'slow' } })
  expect(await answerOf(fast.response)).toMatchObject({ id: 1, result: { call: 'fast' } })
})

test('fastmcp #4402: nothing is replayed across sessions that share an event store', async () => {
  const clock = new VirtualClock()
  const eventLog = new MemoryEventLog(clock, UNBOUNDED)
  const apps = [new SimApp(clock, { eventLog }), new SimApp(clock, { eventLog })] as const
  const cursors: string[] = []
  const sessions: string[] = []
  for (const app of apps) {
    const id = await app.open()
    const stream = app.get(id)
    app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: `of ${id}` })
    await clock.settle()
    cursors.push(stream.events.at(-1)?.id ?? '')
    stream.drop()
    await clock.settle()
    app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: `later, of ${id}` })
    sessions.push(id)
  }
  const [mine = '', others = ''] = sessions
  const [own = '', foreign = ''] = cursors
  const stolen = apps[0].get(mine, { 'last-event-id': foreign })
  const resumed = apps[0].get(mine, { 'last-event-id': own })
  await clock.settle()
  expect(stolen.status).toBe(400)
  expect(resumed.messages()).toMatchObject([{ params: { data: `later, of ${mine}` } }])
  expect(resumed.text).not.toContain(others)
  for (const app of apps) await app.manager.close()
})

test('a failed initialize keeps no session', async () => {
  for (const ending of ['error', 'throw', 'close', 'never'] as const) {
    const app = new SimApp(new VirtualClock(), { maxSessions: 1 }, { initialize: ending })
    for (let n = 0; n < 3; n++) {
      const exchange = app.post(undefined, initialize())
      await app.clock.advance(60_000)
      expect(exchange.outcome).toBe('completed')
      expect(exchange.status, 'a slot that was not given back').not.toBe(503)
      expect(exchange.text).toContain('"error"')
      expect(exchange.responseHeaders['mcp-session-id']).toBeUndefined()
    }
    expect(app.leftovers()).toEqual([])
  }
})

test('expiry does not kill a handler whose connection dropped', async () => {
  const app = new SimApp(new VirtualClock(), { sessionIdleTimeout: 1000 })
  const id = await app.open()
  const exchange = app.post(id, call({ duration: 10_000 }))
  await app.clock.advance(100)
  const cursor = exchange.events.at(-1)?.id ?? ''
  exchange.drop()
  await app.clock.advance(9900)
  expect(app.fakes[0]?.calls[0]).toMatchObject({ abortedAt: undefined, endedAt: expect.any(Number) })
  const resumed = app.get(id, { 'last-event-id': cursor })
  await app.clock.settle()
  expect(resumed.messages()).toMatchObject([{ result: {} }])
  await app.manager.close()
})

test('a slow upload counts as in flight', async () => {
  const app = new SimApp(new VirtualClock(), { sessionIdleTimeout: 1000, bodyTimeout: 60_000 })
  const id = await app.open()
  const body = JSON.stringify(rpc('tools/list'))
  const headers = {
    host: 'localhost',
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-session-id': id,
  }
  const parts = [
    { after: 900, bytes: body.slice(0, 5) },
    { after: 20_000, bytes: body.slice(5) },
  ]
  const exchange = app.send({ headers, body: parts })
  await app.clock.advance(21_000)
  expect(exchange.status).toBe(200)
  await app.manager.close()
})

test('refused requests do not refresh the clock', async () => {
  const app = new SimApp(new VirtualClock(), { sessionIdleTimeout: 1000 })
  const id = await app.open()
  for (let n = 0; n < 9; n++) {
    await app.clock.advance(100)
    const refused = app.post(id, rpc('tools/list'), { 'mcp-protocol-version': '1999-01-01' })
    await app.clock.settle()
    expect(refused.status).toBe(400)
  }
  expect(app.closings(id)).toEqual([])
  await app.clock.advance(100)
  expect(app.closings(id)).toEqual(['idle'])
})

test('a resumed stream closes after its tail and does not hold its session for ever', async () => {
  const app = new SimApp(new VirtualClock(), { sessionIdleTimeout: 1000 })
  const id = await app.open()
  const exchange = app.post(id, call({ duration: 100 }))
  await app.clock.advance(50)
  const cursor = exchange.events.at(-1)?.id ?? ''
  exchange.drop()
  await app.clock.advance(50)
  const resumed = app.get(id, { 'last-event-id': cursor })
  await app.clock.settle()
  expect(resumed.outcome).toBe('completed')
  // Whoever asks again is told that there is nothing, and is not held either.
  const again = app.get(id, { 'last-event-id': resumed.events.at(-1)?.id ?? '' })
  await app.clock.settle()
  expect(again.status).toBe(204)
  await app.clock.advance(1000)
  expect(app.closings(id)).toEqual(['idle'])
})

test('resume without a store answers 400, not 500', async () => {
  const app = new SimApp(new VirtualClock(), { eventLog: false })
  const id = await app.open()
  const resumed = app.get(id, { 'last-event-id': 'anything' })
  await app.clock.settle()
  expect(resumed.status).toBe(400)
  await app.manager.close()
})

test('#2474: a stateless GET does not hang', async () => {
  const server = await serveFake({ stateless: true })
  const response = await server.request(get())
  expect(response.status).toBe(405)
  expect(response.header('allow')).toBe('POST')
  expect(await response.ended()).toBe('complete')
})

test('#3102: a GET before any session answers 405, which clients read as "no stream here"', async () => {
  const server = await serveFake()
  expect((await server.request(get())).status).toBe(405)
})

test('LibreChat #14816: a stale GET does not lock its client out', async () => {
  const server = await serveFake()
  const session = await openSession(server)
  const stale = await (await open(server, getStream(session))).response
  // Its client is gone without a word; a new GET of the same client is let in at once, and the old one ends.
  const fresh = await (await open(server, getStream(session))).response
  expect(fresh.status).toBe(200)
  expect(await stale.ended()).toBe('complete')
  server.app.sessions.get(session.id)?.notify('notifications/message', { level: 'info', data: 'news' })
  expect(await fresh.nextMessage()).toMatchObject({ params: { data: 'news' } })
})

test('#2150: shutdown does not cut calls', async () => {
  const clock = {
    now: () => performance.now(),
    after(delay: number, callback: () => void) {
      const handle = setTimeout(callback, delay)
      return { cancel: () => clearTimeout(handle) }
    },
  }
  const handle = await runHttp(() => new FakeServer({ clock, tag: 'fake' }), {
    port: 0,
    handleSignals: false,
  })
  const connection = await RawConnection.open(Number(new URL(handle.url).port))
  const opened = await connection.request(post(initialize()))
  await opened.text()
  const headers = { 'Mcp-Session-Id': opened.header('mcp-session-id') ?? '' }
  const response = connection.request(post(call({ duration: 300 }), headers))
  while (handle.app.sessions.counts.requests === 0) await new Promise((resolve) => setImmediate(resolve))
  const closed = handle.close()
  expect(await answerOf(response)).toMatchObject({ id: 'q1', result: {} })
  await closed
  connection.destroy()
})

test('#2741: DELETE races requests, and each is answered', async () => {
  const app = new SimApp(new VirtualClock())
  for (let turns = 0; turns < 8; turns++) {
    const id = await app.open()
    const running = app.post(id, call({ duration: 1000 }))
    await app.clock.settle()
    const before = app.post(id, rpc('tools/list'))
    for (let turn = 0; turn < turns; turn++) await Promise.resolve()
    const deleted = app.delete(id)
    const after = app.post(id, rpc('tools/list'))
    await app.clock.settle()
    expect(running.messages()).toMatchObject([{ error: { message: 'Session closed: deleted' } }])
    expect(deleted.status).toBe(200)
    expect([200, 404]).toContain(before.status)
    expect(after.status).toBe(404)
    expect(app.closings(id)).toEqual(['deleted'])
  }
  await app.manager.close()
  expect(app.leftovers()).toEqual([])
})

/** A log that reads as slowly as the test wants. */
class SlowReads implements EventLog {
  readonly #inner: MemoryEventLog
  /** Reads that have looked and not answered. */
  readonly answers: (() => void)[] = []

  constructor(inner: MemoryEventLog) {
    this.#inner = inner
  }

  append(session: string, stream: number, position: number, data: string): void {
    this.#inner.append(session, stream, position, data)
  }

  read(session: string, stream: number, after: number): Promise<EventLogPage> {
    const page = this.#inner.read(session, stream, after)
    const answer = deferred<EventLogPage>()
    this.answers.push(() => answer.resolve(page))
    return answer.promise
  }

  dropStream(session: string, stream: number): void {
    this.#inner.dropStream(session, stream)
  }

  dropSession(session: string): void {
    this.#inner.dropSession(session)
  }

  close(): void {
    this.#inner.close()
  }
}

test('#3541: no event is lost between replay and live', async () => {
  const clock = new VirtualClock()
  const eventLog = new SlowReads(new MemoryEventLog(clock, UNBOUNDED))
  const app = new SimApp(clock, { eventLog })
  const id = await app.open()
  const notify = (data: number): void =>
    app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data })
  const first = app.get(id)
  // A first GET reads what no connection ever took.
  await clock.settle()
  eventLog.answers.splice(0).forEach((answer) => answer())
  await clock.settle()
  notify(1)
  await clock.settle()
  const cursor = first.events.at(-1)?.id ?? ''
  first.drop()
  await clock.settle()
  notify(2)
  const resumed = app.get(id, { 'last-event-id': cursor })
  await clock.settle()
  // Said while the log is being read: it is not in the page that was seen.
  notify(3)
  eventLog.answers.splice(0).forEach((answer) => answer())
  notify(4)
  for (let n = 0; n < 4; n++) {
    await clock.settle()
    eventLog.answers.splice(0).forEach((answer) => answer())
  }
  notify(5)
  await clock.settle()
  const data = resumed.messages().map((message) => (message as { params: { data: number } }).params.data)
  expect(data).toEqual([2, 3, 4, 5])
  await app.manager.close()
})

test('#2605: a second initialize is not accepted, and leaves the session as it was', async () => {
  const server = await serveFake()
  const session = await openSession(server)
  await expectError(await server.request(post(initialize(), session.headers)), {
    status: 400,
    code: -32600,
    message: 'Invalid Request: Server already initialized',
    id: 'q1',
  })
  expect(server.fakes).toHaveLength(1)
  expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(200)
})

test('fastmcp #5210: a cap reclaims, and does not answer 503 for ever', async () => {
  const app = new SimApp(new VirtualClock(), { maxSessions: 3 })
  // A client that opens a session, never uses it and never deletes it, as most do.
  for (let n = 0; n < 20; n++) await app.open()
  expect(app.manager.sessions.size).toBe(3)
  // And one whose sessions are all used: they go when they have been idle for five minutes.
  for (const { id } of app.manager.sessions.list()) app.post(id, rpc('tools/list'))
  await app.clock.settle()
  await expect(app.open()).rejects.toThrow('503')
  await app.clock.advance(5 * 60_000)
  await app.open()
  await app.manager.close()
  expect(app.leftovers()).toEqual([])
})

test("ended sessions' events do not stay", async () => {
  const clock = new VirtualClock()
  const eventLog = new MemoryEventLog(clock, UNBOUNDED)
  const app = new SimApp(clock, { eventLog, sessionIdleTimeout: 1000, unusedSessionTimeout: 1000 })
  const notify = (id: string): void =>
    app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 'x'.repeat(1000) })
  const ends: Record<string, (id: string) => unknown> = {
    DELETE: (id) => app.delete(id),
    failure: () => app.fakes.at(-1)?.close(),
    admin: (id) => app.manager.sessions.close(id),
    idle: () => clock.advance(1000),
    shutdown: () => app.manager.close(),
  }
  for (const [name, end] of Object.entries(ends)) {
    const id = await app.open()
    notify(id)
    const running = app.post(id, call({ duration: 100_000, progress: { count: 3, every: 10 } }))
    await clock.advance(100)
    running.drop()
    if (name === 'idle') app.post(id, notification('notifications/cancelled', { requestId: 'q1' }))
    await clock.settle()
    expect(eventLog.totalBytes).toBeGreaterThan(1000)
    await end(id)
    await clock.settle()
    expect(app.closings(id), name).toHaveLength(1)
    expect(eventLog.totalBytes, name).toBe(0)
  }
})
