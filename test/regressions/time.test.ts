/** Time: what must not run out while something of the session is on its way, and what must not be cut short. */

import { once } from 'node:events'

import { describe, expect, test } from 'vitest'

import { deferred } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import { openSession, post, rpc } from '../support/mcp-wire.ts'
import { encodeRequest } from '../support/raw-http.ts'
import { serve } from '../support/serve.ts'
import { SDKS } from '../support/sdk-servers.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { as, authenticateByName, call, open, serveFake } from '../support/wire-app.ts'

const IDLE = 60_000

describe('sessionMaxAge waits for an upload in progress', () => {
  test.each([
    ['that is served', '', 200],
    ['that ends in a refusal', 'x', 400],
  ])('%s', async (_, spoil, status) => {
    const server = await serveFake({ sessionMaxAge: 1000 })
    const session = await openSession(server)
    const bytes = encodeRequest(
      post(`${spoil}${JSON.stringify(call())}`, session.headers),
      `127.0.0.1:${server.port}`,
    )
    const connection = await server.connect()
    const received = once(server.http, 'request')
    await connection.write(bytes.subarray(0, -5))
    await received
    await server.clock.advance(2000)
    expect(server.app.sessions.size).toBe(1)
    await connection.write(bytes.subarray(-5))
    expect((await connection.response()).status).toBe(status)
    expect(await server.until('session.closed')).toMatchObject({ reason: 'max-age', durationMs: 2000 })
  })

  test('also when the call that ran beside it ends first', async () => {
    const server = await serveFake({ sessionMaxAge: 1000 })
    const session = await openSession(server)
    const { response } = await open(server, post(call({ duration: 1500 }), session.headers))
    await server.called()
    const bytes = encodeRequest(post(call(), session.headers), `127.0.0.1:${server.port}`)
    const connection = await server.connect()
    const received = once(server.http, 'request')
    await connection.write(bytes.subarray(0, -5))
    await received
    await server.clock.advance(1500)
    await (await response).text()
    await server.idle()
    await server.clock.advance(500)
    expect(server.app.sessions.size).toBe(1)
    await connection.write(bytes.subarray(-5))
    expect((await connection.response()).status).toBe(200)
    expect(await server.until('session.closed')).toMatchObject({ reason: 'max-age', durationMs: 2000 })
  })
})

describe('authentication that takes longer than the idle timeout', () => {
  test.each([
    ['alice', 200],
    ['mallory', 404],
  ])('does not cost the session named in the head its life (%s)', async (name, status) => {
    const gate = deferred()
    const waiting = deferred()
    const server = await serveFake({
      sessionIdleTimeout: IDLE,
      async authenticate(request) {
        if (request.headers.has('x-slow')) {
          waiting.resolve()
          await gate.promise
        }
        return authenticateByName(request)
      },
    })
    const session = await openSession(server, { headers: as('alice') })
    await server.idle()
    const { response } = await open(server, post(call(), { ...session.headers, ...as(name), 'X-Slow': '1' }))
    await waiting.promise
    await server.clock.advance(2 * IDLE)
    expect(server.app.sessions.size).toBe(1)
    gate.resolve()
    expect((await response).status).toBe(status)
    if (name === 'alice') {
      expect(server.app.sessions.size).toBe(1)
    } else {
      // Nobody of the session's own was there meanwhile: its time has long been up.
      expect(await server.until('session.closed')).toMatchObject({ reason: 'idle', durationMs: 2 * IDLE })
    }
  })
})

test('close({ drain }) gives calls their whole time, although timers may be early', async () => {
  const clock = new VirtualClock({ skew: () => -1 })
  const fake = new FakeServer({ clock, tag: 'drained' })
  const server = await serve(() => fake, { clock })
  const session = await openSession(server)
  const { response } = await open(server, post(call({ ending: 'never' }), session.headers))
  await server.waitFor(() => fake.calls.length === 1, 'the call')
  const start = clock.now()
  const closed = server.app.close({ drain: 1000 })
  await clock.advance(1010)
  await closed
  expect(await (await response).text()).toContain('shutdown')
  expect(fake.closedAt).toBeGreaterThanOrEqual(start + 1000)
  expect(fake.closedAt).toBeLessThanOrEqual(start + 1002)
})

test('a request that waits in its socket while the event loop is blocked is served, however little the timer is late', async () => {
  const timeout = 200
  for (let attempt = 1; ; attempt++) {
    const server = await serve(() => (SDKS[0] as (typeof SDKS)[number]).build(), {
      sessionIdleTimeout: timeout,
    })
    const connection = await server.connect()
    const session = await openSession(server)
    await (await connection.request(post(rpc('tools/list'), session.headers))).text()
    await server.waitFor(() => server.app.sessions.counts.active === 0, 'the last hold being released')
    const handle = server.app.sessions.get(session.id)
    const expiresIn = handle?.expiresIn
    if (handle === undefined || expiresIn === undefined) {
      // Another process had the machine meanwhile.
      if (attempt < 5) continue
      throw new Error(`the session was gone within ${timeout} ms`)
    }
    const due = performance.now() + expiresIn
    void connection.send(post(rpc('tools/list'), session.headers))
    while (performance.now() < due + 2);
    expect((await connection.response()).status).toBe(200)
    expect(handle.state).not.toBe('closed')
    return
  }
})
