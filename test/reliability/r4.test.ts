/** R4: the wall clock is stepped by an hour and by a day, forth and back: nothing happens. */

import { afterEach, expect, test, vi } from 'vitest'

import { FakeServer } from '../support/fake-server.ts'
import { openSession, post, rpc } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { call, getStream, open, serveFake } from '../support/wire-app.ts'

const HOUR = 3_600_000
const STEPS = [HOUR, -2 * HOUR, HOUR, 24 * HOUR, -48 * HOUR, 24 * HOUR]

test('on virtual time: every deadline stands where it stood', async () => {
  const server = await serveFake({ sessionIdleTimeout: '10m', sessionMaxAge: '20m' })
  const idle = await openSession(server)
  await (await server.request(post(rpc('tools/list'), idle.headers))).text()
  await server.idle()
  const busy = await openSession(server)
  const stream = await (await open(server, getStream(busy))).response
  const { response } = await open(server, post(call({ duration: 60_000 }), busy.headers))
  await server.called()
  server.app.sessions.get(idle.id)?.notify('notifications/message', { level: 'info', data: 'kept' })
  let expiresIn = 10 * 60_000
  for (const step of STEPS) {
    server.clock.stepWall(step)
    await server.clock.advance(1000)
    expiresIn -= 1000
    expect(server.app.sessions.get(idle.id)).toMatchObject({ state: 'idle', expiresIn })
    expect(server.app.sessions.get(busy.id)).toMatchObject({ state: 'active', requests: 1, streams: 2 })
  }
  expect(stream.ending).toBeUndefined()
  expect(server.events.filter(({ type }) => type === 'session.closed')).toEqual([])
  await server.clock.advance(60_000 - STEPS.length * 1000)
  expect(await (await response).messages()).toMatchObject([{ result: {} }])
  // What was kept in the log is still there: its age is no matter of the wall clock either.
  const kept = await (await open(server, getStream(idle))).response
  expect(await kept.nextMessage()).toMatchObject({ params: { data: 'kept' } })
})

afterEach(() => {
  vi.restoreAllMocks()
})

test('on real time: a session ends when it is due, whatever the wall clock says', async () => {
  const clock = {
    now: () => performance.now(),
    after(delay: number, callback: () => void) {
      const handle = setTimeout(callback, delay)
      return { cancel: () => clearTimeout(handle) }
    },
  }
  const server = await serve(() => new FakeServer({ clock, tag: 'fake' }), { sessionIdleTimeout: 400 })
  const session = await openSession(server)
  await (await server.request(post(rpc('tools/list'), session.headers))).text()
  let since = Number.POSITIVE_INFINITY
  let endedAt = 0
  server.app.sessions.subscribe(({ type }) => {
    if (type === 'session.closed') endedAt = performance.now()
    else if (type === 'request.ended') since = performance.now()
  })
  await (await server.request(post(rpc('tools/list'), session.headers))).text()
  const now = Date.now
  let offset = 0
  vi.spyOn(Date, 'now').mockImplementation(() => now() + offset)
  for (const step of STEPS) {
    offset += step
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(server.app.sessions.size).toBe(1)
  }
  offset = 24 * HOUR
  await server.until('session.closed')
  expect(endedAt - since).toBeGreaterThanOrEqual(400)
  expect(endedAt - since).toBeLessThan(2400)
})
