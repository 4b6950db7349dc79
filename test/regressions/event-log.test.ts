/** Event logs: whose they are, what is left in them after a session, and what still reads them at its end. */

import { describe, expect, onTestFinished, test } from 'vitest'

import { SojournError } from '../../src/errors.ts'
import type { JsonRpcNotification } from '../../src/types.ts'
import type { EventLog } from '../../src/stream/event-log.ts'
import { MemoryEventLog } from '../../src/stream/memory-event-log.ts'
import { deferred } from '../support/deferred.ts'
import { del, ID, notification, openSession, post } from '../support/mcp-wire.ts'
import { call, expectPriming, getStream, open, serveFake } from '../support/wire-app.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

function memoryLog(): MemoryEventLog {
  const log = new MemoryEventLog(new VirtualClock(), {
    maxBytes: 1 << 20,
    maxEvents: 1000,
    maxAge: 600_000,
    maxTotalBytes: 256 << 20,
  })
  onTestFinished(() => log.close())
  return log
}

/** A log that passes everything on to another, except what a test has it do. */
function around(log: EventLog, changes: Partial<EventLog>): EventLog {
  return {
    append: (...args) => log.append(...args),
    read: (...args) => log.read(...args),
    dropStream: (...args) => log.dropStream(...args),
    dropSession: (...args) => log.dropSession(...args),
    close: () => log.close(),
    ...changes,
  }
}

test('a log that was given is not closed by the app, and one that could not be closed costs nothing', async () => {
  let closes = 0
  const eventLog = around(memoryLog(), {
    close: () => {
      closes += 1
      return Promise.reject(new Error('cannot be closed'))
    },
  })
  const server = await serveFake({ eventLog })
  await openSession(server)
  await server.close()
  expect(closes).toBe(0)
})

const PROGRESS: JsonRpcNotification = {
  jsonrpc: '2.0',
  method: 'notifications/progress',
  params: { progressToken: 1, progress: 1 },
}

test('what is answered after the end of a session is not left in the log', async () => {
  const log = memoryLog()
  const dropped = new Set<string>()
  let late = 0
  const eventLog = around(log, {
    append: (session, stream, position, data) => {
      if (dropped.has(session)) late += 1
      return log.append(session, stream, position, data)
    },
    dropSession: (session) => {
      dropped.add(session)
      log.dropSession(session)
    },
  })
  const server = await serveFake(
    { eventLog },
    {
      // In the same turn in which it is called: the second request of the batch comes to a session that is over.
      oncall: ({ id }) => {
        const [fake] = server.fakes
        void fake?.transport?.send(PROGRESS, { relatedRequestId: id })
        void fake?.close()
      },
    },
  )
  // Only here can one POST have two answers.
  const session = await openSession(server, { version: '2025-03-26', initialized: false })
  const response = await server.request(post([call({}, 1), call({}, 2)], session.headers))
  expect(await response.messages()).toMatchObject([PROGRESS, { id: 1 }, { id: 2 }])
  await server.close()
  expect(late, 'the case that is meant: appended after its session was dropped').toBeGreaterThan(0)
  expect(log.totalBytes).toBe(0)
})

test('a replay from a slow log is completed when the session is deleted meanwhile', async () => {
  const log = memoryLog()
  const asked = deferred()
  const answer = deferred()
  const eventLog = around(log, {
    async read(...args) {
      asked.resolve()
      await answer.promise
      return log.read(...args)
    },
  })
  const server = await serveFake({ eventLog, responseMode: 'sse' })
  const session = await openSession(server)
  const { connection, response } = await open(server, post(call({ duration: 1000 }), session.headers))
  const { plan } = await server.called()
  await server.clock.advance(25)
  const cursor = await expectPriming(await response)
  connection.destroy()
  await server.waitFor(() => server.app.sessions.get(session.id)?.streams === 0, 'the end of the stream')
  await server.clock.advance(1000)
  const resumed = await server.request(getStream(session, cursor))
  await asked.promise
  expect((await server.request(del(session.headers))).status).toBe(200)
  answer.resolve()
  expect(await resumed.messages()).toMatchObject([{ id: ID, result: { call: plan?.tag } }])
  expect(await resumed.ended()).toBe('complete')
  await server.waitFor(() => log.totalBytes === 0, 'the events being dropped')
})

describe('without a log', () => {
  test('a request to the client does not travel on a GET that has ended and still drains', async () => {
    const server = await serveFake({
      eventLog: false,
      streamMaxAge: 5000,
      undeliveredRequestTimeout: 1000,
      maxStreamBuffer: '64MiB',
    })
    const session = await openSession(server)
    const { connection, response } = await open(server, getStream(session))
    await response
    connection.pause()
    const [fake] = server.fakes
    // More than the buffers of the kernel take.
    for (let n = 0; n < 16; n++) await fake?.broadcast(1 << 20)
    await server.clock.advance(5000)
    expect(server.app.sessions.get(session.id)?.streams).toBe(1)
    const asked = fake?.ask(undefined, 60_000).catch((thrown: unknown) => thrown)
    await server.clock.advance(1000)
    const thrown = await asked
    expect(thrown).toBeInstanceOf(SojournError)
    expect(thrown).toMatchObject({ code: 'undeliverable' })
    connection.destroy()
    await server.waitFor(() => server.app.sessions.get(session.id)?.streams === 0, 'the end of the stream')
    expect((await server.request(post(notification('x'), session.headers))).status).toBe(202)
  })
})
