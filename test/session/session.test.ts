/** A session's events: what starts also ends, and nothing else does. */

import { expect, test } from 'vitest'

import type { EventLog } from '../../src/stream/event-log.ts'
import type { InitializeEnding } from '../support/fake-server.ts'
import { ID, initialize } from '../support/mcp-wire.ts'
import { SimApp } from '../support/sim-app.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { call } from '../support/wire-app.ts'

test.each<InitializeEnding>(['error', 'never', 'throw', 'close'])(
  'an initialize that fails (%s) tells of no request: none was told to have started',
  async (ending) => {
    const app = new SimApp(new VirtualClock(), {}, { initialize: ending })
    const exchange = app.post(undefined, initialize())
    await app.clock.advance(60_000)
    expect(exchange.outcome).toBe('completed')
    expect(app.events.map(({ type }) => type).filter((type) => type !== 'request.refused')).toEqual([])
    await app.manager.close()
    expect(app.leftovers()).toEqual([])
  },
)

test('a call that outlives the maximum age by itself is answered before its session ends, and leaves no event behind', async () => {
  const app = new SimApp(new VirtualClock(), { sessionMaxAge: 1000, detachedRequestTimeout: 5000 })
  const id = await app.open()
  const exchange = app.post(id, call({ duration: 2000 }))
  await app.clock.advance(500)
  exchange.drop()
  await app.clock.advance(2000)
  expect(app.closings(id)).toEqual(['max-age'])
  const told = app.events.map(({ type }) => type)
  expect(told.indexOf('request.ended')).toBeLessThan(told.indexOf('session.closed'))
  expect(app.leftovers()).toEqual([])
})

/** A log that stores at once and says so a little later. */
class LateLog implements EventLog {
  readonly #clock: VirtualClock

  constructor(clock: VirtualClock) {
    this.#clock = clock
  }

  append(): Promise<void> {
    return this.#clock.sleep(5)
  }

  async read(): Promise<{ events: []; trimmed: 0 }> {
    return { events: [], trimmed: 0 }
  }

  dropStream(): void {}
  dropSession(): void {}
  close(): void {}
}

test('a call that streams is answered when its session ends, also where the event log is slow (promise 6)', async () => {
  const clock = new VirtualClock()
  const app = new SimApp(clock, { eventLog: new LateLog(clock) })
  const id = await app.open()
  const exchange = app.post(id, call({ duration: 2000 }))
  await clock.advance(500)
  expect(exchange.status).toBe(200)
  app.delete(id)
  await clock.advance(10)
  expect(exchange.messages()).toMatchObject([{ id: ID, error: { message: 'Session closed: deleted' } }])
  expect(exchange.outcome).toBe('completed')
  expect(app.leftovers()).toEqual([])
})

test.each(['throws', 'rejects'] as const)(
  'an event log that %s when it is to forget costs nobody anything',
  async (how) => {
    const fail = (): Promise<void> => {
      if (how === 'throws') throw new Error('disk gone')
      return Promise.reject(new Error('disk gone'))
    }
    const eventLog: EventLog = {
      append() {},
      read: () => ({ events: [], trimmed: 0 }),
      dropStream: fail,
      dropSession: fail,
      close() {},
    }
    const app = new SimApp(new VirtualClock(), { eventLog, responseMode: 'sse' })
    const id = await app.open()
    // Finished streams are remembered up to a number; the log is told to forget the one that is one too many.
    for (let n = 0; n < 260; n++) app.post(id, call())
    await app.clock.settle()
    expect(app.exchanges.every(({ outcome }) => outcome === 'completed')).toBe(true)
    app.delete(id)
    await app.clock.settle()
    expect(app.closings(id)).toEqual(['deleted'])
    expect(app.leftovers()).toEqual([])
    await app.manager.close()
  },
)

test.each(['never', 'result'] as const)(
  'a session that is opening when the app closes is refused, and nothing is left once close() resolves (%s)',
  async (ending) => {
    const app = new SimApp(new VirtualClock(), {}, { initialize: ending, initializeAfter: 1000 })
    const exchange = app.post(undefined, initialize())
    await app.clock.settle()
    expect(app.manager.sessions.counts.opening).toBe(1)
    await app.manager.close()
    await app.clock.settle()
    expect(exchange.status).toBe(503)
    expect(app.leftovers()).toEqual([])
  },
)
