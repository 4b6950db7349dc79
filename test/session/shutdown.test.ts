/** A drain on virtual time: what goes on, what is refused, and when each stream ends (promise 8). */

import { expect, test } from 'vitest'

import type { AppOptions } from '../../src/types.ts'
import { rpc } from '../support/mcp-wire.ts'
import { SimApp } from '../support/sim-app.ts'
import type { SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

function make(options: AppOptions = {}): { clock: VirtualClock; app: SimApp } {
  const clock = new VirtualClock({ start: 0 })
  return { clock, app: new SimApp(clock, options) }
}

/** Opens sessions with a GET stream each. */
async function openStreams(app: SimApp, count: number): Promise<{ ids: string[]; streams: SimExchange[] }> {
  const ids: string[] = []
  for (let n = 0; n < count; n++) ids.push(await app.open())
  const streams = ids.map((id) => app.get(id))
  await app.clock.settle()
  return { ids, streams }
}

const call = (duration: number): object =>
  rpc('tools/call', { name: 'run', arguments: { tag: 'call', duration } })

test('streams end at most 2,000 a second, each with a retry of its own between one and two times restartGrace', async () => {
  const { clock, app } = make({ restartGrace: '10s' })
  const { streams } = await openStreams(app, 450)
  const begun = clock.now()
  const closed = app.manager.close({ drain: '30s' })
  await clock.advance(10_000)
  await closed
  const ends = streams.map(({ endedAt }) => (endedAt ?? Number.NaN) - begun)
  const byBatch = [0, 50, 100, 150, 200].map((at) => ends.filter((end) => end === at).length)
  expect(byBatch).toEqual([100, 100, 100, 100, 50])
  const retries = streams.map(({ retry }) => retry ?? 0)
  expect(Math.min(...retries)).toBeGreaterThanOrEqual(10_000)
  expect(Math.max(...retries)).toBeLessThanOrEqual(20_000)
  // Spread evenly: each tenth of the time gets its tenth of the clients.
  for (let tenth = 0; tenth < 10; tenth++) {
    const from = 10_000 + tenth * 1000
    const share = retries.filter((retry) => retry >= from && retry < from + 1000).length
    expect(Math.abs(share - 45)).toBeLessThan(5)
  }
  expect(app.leftovers()).toEqual([])
})

test('a GET stream stays for as long as a call of its session runs: the call may ask its client something', async () => {
  const { clock, app } = make()
  const { ids, streams } = await openStreams(app, 2)
  const answer = app.post(ids[0], call(5000))
  await clock.settle()
  const closed = app.manager.close({ drain: '30s' })
  await clock.advance(4000)
  expect(streams.map(({ outcome }) => outcome)).toEqual([undefined, 'completed'])
  await clock.advance(1100)
  await closed
  expect(answer.outcome).toBe('completed')
  expect(answer.text).toContain('"result"')
  expect(streams[0]?.outcome).toBe('completed')
  expect(app.leftovers()).toEqual([])
})

test('calls that come meanwhile are served while those from before run, and refused after; initialize is refused at once', async () => {
  const { clock, app } = make()
  const { ids } = await openStreams(app, 2)
  const [first, second] = ids
  const before = app.post(first, call(1000))
  await clock.settle()
  expect(app.manager.ready).toBe(true)
  const closed = app.manager.close({ drain: '30s' })
  expect(app.manager.ready).toBe(false)
  const opening = app.post(undefined, rpc('initialize', { protocolVersion: '2025-11-25' }))
  await clock.advance(500)
  expect(opening.answeredStatus).toBe(503)
  expect(opening.responseHeaders['retry-after']).toBe('10')
  const meanwhile = app.post(second, call(2000))
  await clock.advance(600)
  expect(before.outcome).toBe('completed')
  const late = app.post(second, call(10))
  await clock.settle()
  expect(late.answeredStatus).toBe(503)
  expect(late.responseHeaders['retry-after']).toBe('10')
  await clock.advance(1500)
  await closed
  expect(meanwhile.text).toContain('"result"')
  expect(clock.now()).toBeLessThan(3000)
  expect(app.leftovers()).toEqual([])
})

test.each([
  [{ restartGrace: '2500ms', retryInterval: 1000 }, '3'],
  [{ restartGrace: 0, retryInterval: '40s' }, '40'],
] as const)('with %j, who is refused is told to come back after %s s', async (options, seconds) => {
  const { clock, app } = make(options)
  const { ids } = await openStreams(app, 1)
  app.post(ids[0], call(1000))
  await clock.settle()
  const closed = app.manager.close({ drain: '30s' })
  const refused = app.post(undefined, rpc('initialize', { protocolVersion: '2025-11-25' }))
  await clock.advance(1100)
  await closed
  expect([refused.answeredStatus, refused.responseHeaders['retry-after']]).toEqual([503, seconds])
})

test('the deadline wins: calls are answered with an error, and streams that were still to end do', async () => {
  const { clock, app } = make()
  const { ids, streams } = await openStreams(app, 450)
  const answer = app.post(ids[449], call(60_000))
  await clock.settle()
  const begun = clock.now()
  const closed = app.manager.close({ drain: 120 })
  await clock.advance(1000)
  await closed
  expect(answer.text).toContain('"error"')
  expect(Math.max(...streams.map(({ endedAt }) => (endedAt ?? Number.NaN) - begun))).toBe(120)
  for (const { retry } of streams) expect(retry).toBeGreaterThanOrEqual(10_000)
  expect(app.leftovers()).toEqual([])
})

test('without drain time everything ends at once; retryInterval counts where it is longer than restartGrace', async () => {
  const { clock, app } = make({ restartGrace: 0, retryInterval: '40s' })
  const { streams } = await openStreams(app, 250)
  const begun = clock.now()
  await app.manager.close()
  await clock.settle()
  for (const { endedAt, retry } of streams) {
    expect(endedAt).toBe(begun)
    expect(retry).toBeGreaterThanOrEqual(40_000)
  }
  expect(app.leftovers()).toEqual([])
})

test('a call that comes meanwhile may ask its client something: over its own POST, and the answer comes through to the end', async () => {
  const { clock, app } = make()
  const { ids } = await openStreams(app, 2)
  const [first, second] = ids
  app.post(first, call(1000))
  await clock.settle()
  const closed = app.manager.close({ drain: '30s' })
  await clock.advance(500)
  const asking = { tag: 'asks', duration: 1, ask: { related: false, timeout: 60_000 } }
  const answer = app.post(second, rpc('tools/call', { name: 'run', arguments: asking }))
  await clock.advance(1000)
  const asked = answer.events.map(({ data }) => (data === '' ? {} : JSON.parse(data)) as { id?: number })
  const { id } = asked.find((message) => message.id !== undefined) ?? {}
  expect(id).toBeTypeOf('number')
  const reply = app.post(second, { jsonrpc: '2.0', id, result: {} })
  await clock.advance(100)
  await closed
  expect(reply.answeredStatus).toBe(202)
  expect(app.fakes[1]?.calls.at(-1)?.asked).toBe('answered')
  expect(answer.text).toContain('"result"')
  expect(app.leftovers()).toEqual([])
})

test('a call whose session is being woken runs to its end, as one that runs already', async () => {
  const clock = new VirtualClock({ start: 0 })
  const app = new SimApp(clock, { sleepAfter: 100 }, async ({ session }) => {
    if (session.restored) await clock.sleep(80)
    return {}
  })
  const id = await app.open()
  await clock.advance(1000)
  expect(app.manager.sessions.counts.awake).toBe(0)
  const answer = app.post(id, call(500))
  await clock.advance(10)
  const closed = app.manager.close({ drain: '30s' })
  await clock.advance(600)
  await closed
  expect(answer.messages()).toEqual([expect.objectContaining({ result: expect.anything() })])
  expect(app.leftovers()).toEqual([])
})
