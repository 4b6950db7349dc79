/** R5: every timeout at the edges of what a number can say. As documented, or a RangeError with option and value; nothing fires at once. */

import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { systemClock } from '../../src/clock.ts'
import { DeadlineCall, Deadlines } from '../../src/deadlines.ts'
import { httpApp } from '../../src/http-app.ts'
import { type ResolvedOptions, resolveOptions } from '../../src/options.ts'
import { settings } from '../../src/settings.ts'
import type { AppOptions } from '../../src/types.ts'
import { FakeServer } from '../support/fake-server.ts'
import { openSession, post, rpc } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { call, getStream, open, serveFake } from '../support/wire-app.ts'

const DAY = 86_400_000

/** The duration options of an app: what `docs` says that they take besides a positive duration. */
const ZERO_TOO = new Set([
  'detachedRequestTimeout',
  'drainTimeout',
  'evictableAfter',
  'jsonResponseWindow',
  'restartGrace',
  'retryInterval',
  'undeliveredRequestTimeout',
])
const NEVER_INFINITE = new Set(['jsonResponseWindow', 'restartGrace', 'retryInterval'])

/** Say something only about pooled instances. */
const NEEDS_POOL: ReadonlySet<string> = new Set(['pooledInstanceIdleTimeout'])

const durations = settings.filter(({ rule, scope }) => rule.kind === 'duration' && scope === 'app')

/** A value, and what becomes of it: milliseconds, or an error. */
interface Edge {
  readonly value: number | string
  readonly shown: string
  resolved(key: string): number | undefined
}

const always = (milliseconds: number) => (): number => milliseconds
const never = (): undefined => undefined

const EDGES: readonly Edge[] = [
  { value: 1, shown: '1', resolved: always(1) },
  { value: 0, shown: '0', resolved: (key) => (ZERO_TOO.has(key) ? 0 : undefined) },
  { value: -1, shown: '-1', resolved: never },
  { value: Number.NaN, shown: 'NaN', resolved: never },
  { value: 24.9 * DAY, shown: String(24.9 * DAY), resolved: always(24.9 * DAY) },
  { value: 2 ** 31, shown: String(2 ** 31), resolved: always(2 ** 31) },
  {
    value: Number.POSITIVE_INFINITY,
    shown: 'Infinity',
    resolved: (key) => (NEVER_INFINITE.has(key) ? undefined : Number.POSITIVE_INFINITY),
  },
  { value: Number.NEGATIVE_INFINITY, shown: '-Infinity', resolved: never },
  { value: '5m', shown: "'5m'", resolved: always(300_000) },
  { value: '5', shown: "'5'", resolved: never },
  { value: '', shown: "''", resolved: never },
  { value: '-1s', shown: "'-1s'", resolved: never },
]

const server = (): FakeServer => new FakeServer({ clock: new VirtualClock(), tag: 'fake' })

describe.each(durations.map(({ key }) => key))('%s', (key) => {
  test.each(EDGES)('$shown', ({ value, shown, resolved }) => {
    const options = { ...(NEEDS_POOL.has(key) && { instances: 'pooled' }), [key]: value } as AppOptions
    const expected = resolved(key)
    if (expected !== undefined) {
      expect(resolveOptions(options, {})[key as keyof ResolvedOptions]).toBe(expected)
      return
    }
    const make = (): unknown => httpApp(server, options)
    expect(make).toThrow(RangeError)
    expect(make).toThrow(`${key} must be `)
    expect(make).toThrow(`got ${shown}`)
  })
})

test('every duration option is looked at', () => {
  expect(durations.map(({ key }) => key)).toContain('sessionIdleTimeout')
  expect(durations.length).toBeGreaterThanOrEqual(15)
})

test('a function that gives a wrong timeout costs its session nothing: the default counts, and the log says why', async () => {
  for (const wrong of [0, -1, Number.NaN, '5', '']) {
    const app = await serveFake({
      sessionIdleTimeout: () => wrong,
      unusedSessionTimeout: Number.POSITIVE_INFINITY,
    })
    const session = await openSession(app)
    await app.idle()
    expect(app.app.sessions.get(session.id)?.expiresIn).toBe(30 * 60_000)
    expect(app.logs.map(({ message }) => message).join('\n')).toContain('sessionIdleTimeout')
  }
})

describe('on the real clock', () => {
  const warnings: Error[] = []
  const onWarning = (warning: Error): void => void warnings.push(warning)
  beforeEach(() => {
    warnings.length = 0
    process.on('warning', onWarning)
  })
  afterEach(() => {
    process.off('warning', onWarning)
  })

  const clock = {
    now: () => performance.now(),
    after(delay: number, callback: () => void) {
      const handle = setTimeout(callback, delay)
      return { cancel: () => clearTimeout(handle) }
    },
  }

  test.each([24.9 * DAY, 2 ** 31, 2 ** 53, 1e300, Number.POSITIVE_INFINITY])(
    'nothing fires at once with every timeout at %d',
    async (value) => {
      const options: Record<string, unknown> = Object.fromEntries(
        durations.map(({ key }) => [
          key,
          NEVER_INFINITE.has(key) && value === Number.POSITIVE_INFINITY ? 2 ** 31 : value,
        ]),
      )
      options['instances'] = 'pooled'
      // The one that would keep every answer waiting.
      options['jsonResponseWindow'] = 1
      const app = await serve(() => new FakeServer({ clock, tag: 'fake' }), options as AppOptions)
      const session = await openSession(app)
      const stream = await (await open(app, getStream(session))).response
      const answer = await (await open(app, post(call({ ending: 'never' }), session.headers))).response
      const dropped = await open(app, post(call({ ending: 'never' }), session.headers))
      await app.until('stream.opened', 3)
      dropped.connection.destroy()
      await app.until('stream.closed')
      const upload = await app.connect()
      const body = JSON.stringify(rpc('tools/list'))
      await upload.send(post(undefined, { ...session.headers, 'Content-Length': String(body.length) }))
      app.app.sessions.get(session.id)?.notify('notifications/message', { level: 'info', data: 'kept' })
      const before = app.events.length
      // Only a test of real time may wait real time.
      await new Promise((resolve) => setTimeout(resolve, 100))
      expect(app.events.slice(before)).toEqual([])
      expect(app.app.sessions.get(session.id)).toMatchObject({ state: 'active', streams: 2, requests: 2 })
      expect([stream.ending, answer.ending]).toEqual([undefined, undefined])
      await upload.write(body)
      expect((await upload.response()).status).toBe(200)
      expect(warnings).toEqual([])
    },
  )

  test('a session of 1 ms is opened, and ends after 1 ms or more', async () => {
    const app = await serve(() => new FakeServer({ clock, tag: 'fake' }), { sessionIdleTimeout: 1 })
    let openedAt = Number.POSITIVE_INFINITY
    let closedAt = 0
    app.app.sessions.subscribe(({ type }) => {
      if (type === 'session.opened') openedAt = performance.now()
      if (type === 'session.closed') closedAt = performance.now()
    })
    const session = await openSession(app, { initialized: false })
    expect(await app.until('session.closed')).toMatchObject({ reason: 'idle' })
    expect(closedAt - openedAt).toBeGreaterThanOrEqual(1)
    expect((await app.request(post(rpc('tools/list'), session.headers))).status).toBe(404)
  })

  test('the clock itself: what a timer cannot wait is not waited for zero milliseconds', async () => {
    const fired: unknown[] = []
    const timers = [24.9 * DAY, 2 ** 31, 1e300, Number.POSITIVE_INFINITY].map((delay) =>
      systemClock.setTimer(() => fired.push(delay), delay),
    )
    const deadlines = new Deadlines(systemClock, (thrown) => fired.push(thrown))
    const long = [24.9 * DAY, 2 ** 31, 1e300].map((delay) => {
      const deadline = new DeadlineCall(() => fired.push(delay))
      deadlines.arm(deadline, delay)
      return deadline
    })
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(fired).toEqual([])
    expect(long.every(({ armed }) => armed)).toBe(true)
    for (const timer of timers) timer.cancel()
    for (const deadline of long) deadlines.disarm(deadline)
    expect(warnings).toEqual([])
  })
})
