/** The idle clock on real time, once: never early (promise 1), and not much later (promise 2, whose bound needs a healthy event loop). */

import { performance } from 'node:perf_hooks'

import { expect, onTestFinished, test } from 'vitest'

import { systemClock } from '../../src/clock.ts'
import type { SessionEvent } from '../../src/session/events.ts'
import { within } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import { openSession, post, rpc, type WireSession } from '../support/mcp-wire.ts'
import { serve, type Served } from '../support/serve.ts'
import { call, getStream } from '../support/wire-app.ts'

const IDLE = 300

const clock = {
  now: () => performance.now(),
  after(delay: number, callback: () => void) {
    const handle = setTimeout(callback, delay)
    return { cancel: () => clearTimeout(handle) }
  },
}

const after = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds))

interface RealServer extends Served {
  /** When the app last told of such an event, in real time. */
  readonly toldAt: ReadonlyMap<SessionEvent['type'], number>
}

async function serveReal(): Promise<RealServer> {
  const served = await serve(() => new FakeServer({ clock, tag: 'fake' }), { sessionIdleTimeout: IDLE })
  const toldAt = new Map<SessionEvent['type'], number>()
  served.app.sessions.subscribe(({ type }) => toldAt.set(type, performance.now()))
  return Object.assign(served, { toldAt })
}

/**
 * Waits for the end of the session and checks when it came. The clock starts a moment after `last` was told, so that never early is
 * certain on any machine; lateness is looked at far above promise 2, since other work may share this one.
 */
async function endsInTime(
  server: RealServer,
  session: WireSession,
  last: SessionEvent['type'],
): Promise<void> {
  await server.until('session.closed')
  const elapsed =
    (server.toldAt.get('session.closed') ?? 0) - (server.toldAt.get(last) ?? Number.POSITIVE_INFINITY)
  expect(elapsed).toBeGreaterThanOrEqual(IDLE)
  expect(elapsed).toBeLessThan(IDLE + 2000)
  const closed = server.events.filter(({ type }) => type === 'session.closed')
  expect(closed).toMatchObject([{ session: session.id, reason: 'idle' }])
  expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(404)
}

test.each([undefined, {}])(
  'a runtime whose loop counts nothing has input waited for as well: %o',
  async (timing) => {
    const known = Object.getOwnPropertyDescriptor(globalThis.performance, 'nodeTiming')
    Object.defineProperty(globalThis.performance, 'nodeTiming', { value: timing, configurable: true })
    onTestFinished(() => {
      if (known === undefined) Reflect.deleteProperty(globalThis.performance, 'nodeTiming')
      else Object.defineProperty(globalThis.performance, 'nodeTiming', known)
    })
    await within(new Promise<void>((resolve) => systemClock.afterInput(resolve, 1000)), 'the call back')
  },
)

test('an idle session ends after its timeout', async () => {
  const server = await serveReal()
  const session = await openSession(server)
  await (await server.request(post(rpc('tools/list'), session.headers))).text()
  await endsInTime(server, session, 'request.ended')
})

test('a call longer than the timeout lives', async () => {
  const server = await serveReal()
  const session = await openSession(server)
  const connection = await server.connect()
  const response = await connection.request(post(call({ duration: 2.5 * IDLE }), session.headers))
  expect(await response.messages()).toMatchObject([{ result: {} }])
  await endsInTime(server, session, 'request.ended')
})

test('so does one whose connection dropped', async () => {
  const server = await serveReal()
  const session = await openSession(server)
  const connection = await server.connect()
  await connection.send(post(call({ duration: 2.5 * IDLE }), session.headers))
  await server.until('stream.opened')
  connection.destroy()
  await server.until('stream.closed')
  expect(await server.until('request.ended')).toMatchObject({ outcome: 'ok', durationMs: expect.any(Number) })
  await endsInTime(server, session, 'request.ended')
})

test('so does a slow upload', async () => {
  const server = await serveReal()
  const session = await openSession(server)
  const body = JSON.stringify(rpc('tools/list'))
  const connection = await server.connect()
  await connection.send(post(undefined, { ...session.headers, 'Content-Length': String(body.length) }))
  for (const part of [body.slice(0, 10), body.slice(10, 20), body.slice(20, 30), body.slice(30)]) {
    await after(IDLE * 0.75)
    await connection.write(part)
  }
  const response = await connection.response()
  expect(response.status).toBe(200)
  await endsInTime(server, session, 'request.ended')
})

test('an open GET holds, and lets go when it ends', async () => {
  const server = await serveReal()
  const session = await openSession(server)
  const connection = await server.connect()
  expect((await connection.request(getStream(session))).status).toBe(200)
  await after(2 * IDLE)
  expect(server.app.sessions.get(session.id)?.state).toBe('active')
  connection.destroy()
  await server.until('stream.closed')
  await endsInTime(server, session, 'stream.closed')
})
