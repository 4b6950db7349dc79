/** How long a session may be idle, counted over restarts: promises 1 and 2. */

import { describe, expect, test } from 'vitest'

import { initialize } from '../support/mcp-wire.ts'
import { call, ENDS, Incarnations } from './incarnations.ts'

const MINUTE = 60_000
const TIMEOUT = 10 * MINUTE

/** How late a session may end after a crash, in milliseconds. */
const LATEST_AFTER_CRASH = 6_000

/** How late otherwise. */
const LATEST = 250

/** Opens a session, uses it, and lets it be idle; gives its id and when the idling began. */
async function idleSession(line: Incarnations): Promise<{ id: string; since: number }> {
  const id = await line.app.open()
  line.app.post(id, call())
  await line.clock.settle()
  return { id, since: line.clock.now() }
}

/** When the session ends, by looking at the table; it is not touched. */
async function endOf(line: Incarnations): Promise<number> {
  const { clock, app } = line
  for (let step = 0; step < 40 * 60 * 20 && app.manager.sessions.size > 0; step++) await clock.advance(50)
  if (app.manager.sessions.size > 0) throw new Error('it never ends')
  return clock.now()
}

describe('after a stop in order', () => {
  test.each([0, 50, 4_000, 3 * MINUTE])('idle for %i ms before it: the time down counts', async (before) => {
    const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
    const { since } = await idleSession(line)
    await line.clock.advance(before)
    await line.restart('stop', 2 * MINUTE)
    const idle = (await endOf(line)) - since
    expect(idle).toBeGreaterThanOrEqual(TIMEOUT)
    expect(idle).toBeLessThanOrEqual(TIMEOUT + LATEST)
    expect(line.app.events.at(-1)).toMatchObject({ type: 'session.closed', reason: 'idle' })
    expect(line.store.size).toBe(0)
  })

  test('it ends at the start when its time was over before', async () => {
    const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
    const { id } = await idleSession(line)
    await line.restart('stop', TIMEOUT + 1)
    await line.clock.advance(LATEST)
    const answer = line.app.post(id, call())
    await line.clock.settle()
    expect([answer.status, line.store.size]).toEqual([404, 0])
  })

  test('a session in use until the stop is idle since then', async () => {
    const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
    const id = await line.app.open()
    line.app.get(id)
    await line.clock.advance(30 * MINUTE)
    const since = line.clock.now()
    await line.restart('stop', MINUTE)
    const idle = (await endOf(line)) - since
    expect(idle).toBeGreaterThanOrEqual(TIMEOUT)
    expect(idle).toBeLessThanOrEqual(TIMEOUT + LATEST)
  })

  test('a call that the stop gave up counts until its client has been told', async () => {
    const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
    const { id } = await idleSession(line)
    const answer = line.app.post(id, call(5 * MINUTE))
    await line.clock.advance(100)
    line.clock.after(300, line.hold())
    await line.restart('stop', MINUTE)
    expect([answer.outcome, answer.messages()]).toMatchObject(['completed', [{ error: {} }]])
    const idle = (await endOf(line)) - (answer.closedAt ?? 0)
    expect(idle).toBeGreaterThanOrEqual(TIMEOUT)
    expect(idle).toBeLessThanOrEqual(TIMEOUT + LATEST)
  })
})

describe('after a crash', () => {
  test.each([0, 1, 700, 999, 1_500, 2_999, 3_500, 4_100, 5_200, 3 * MINUTE])(
    'idle for %i ms before it: never early, at most 6 s late',
    async (before) => {
      const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
      const { since } = await idleSession(line)
      await line.clock.advance(before)
      await line.restart('crash', 2 * MINUTE)
      const idle = (await endOf(line)) - since
      expect(idle).toBeGreaterThanOrEqual(TIMEOUT)
      expect(idle).toBeLessThanOrEqual(TIMEOUT + LATEST_AFTER_CRASH)
    },
  )

  test.each([0, 400, 999])(
    'idle for long, then used, and %i ms later the process is gone: the use counts',
    async (before) => {
      const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
      const { id } = await idleSession(line)
      await line.clock.advance(8 * MINUTE + 123)
      const answer = line.app.post(id, call())
      await line.clock.settle()
      expect(answer.status).toBe(200)
      const since = line.clock.now()
      await line.clock.advance(before)
      await line.restart('crash', 4 * MINUTE)
      const idle = (await endOf(line)) - since
      expect(idle).toBeGreaterThanOrEqual(TIMEOUT)
      expect(idle).toBeLessThanOrEqual(TIMEOUT + LATEST_AFTER_CRASH)
    },
  )

  test('an open GET or a running call holds it until the crash', async () => {
    for (const hold of ['stream', 'call'] as const) {
      const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
      const { id } = await idleSession(line)
      await line.clock.advance(5 * MINUTE)
      if (hold === 'stream') line.app.get(id)
      else line.app.post(id, call(60 * MINUTE))
      await line.clock.advance(30 * MINUTE + 777)
      const since = line.clock.now()
      await line.restart('crash', MINUTE)
      const idle = (await endOf(line)) - since
      expect(idle, hold).toBeGreaterThanOrEqual(TIMEOUT)
      expect(idle, hold).toBeLessThanOrEqual(TIMEOUT + LATEST_AFTER_CRASH)
    }
  })

  test('a use that the store could not be told of counts once it works again', async () => {
    const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
    const { id } = await idleSession(line)
    await line.clock.advance(8 * MINUTE)
    line.store.fail('The disk is gone.')
    line.app.get(id)
    await line.clock.advance(2_000)
    line.store.recover()
    await line.clock.advance(30 * MINUTE)
    const since = line.clock.now()
    await line.restart('crash', MINUTE)
    const idle = (await endOf(line)) - since
    expect(idle).toBeGreaterThanOrEqual(TIMEOUT)
    expect(idle).toBeLessThanOrEqual(TIMEOUT + LATEST_AFTER_CRASH)
  })

  test('two crashes in a row add nothing but their own grace', async () => {
    const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
    const { since } = await idleSession(line)
    await line.clock.advance(MINUTE)
    await line.restart('crash', MINUTE)
    await line.clock.advance(MINUTE)
    await line.restart('crash', MINUTE)
    const idle = (await endOf(line)) - since
    expect(idle).toBeGreaterThanOrEqual(TIMEOUT)
    expect(idle).toBeLessThanOrEqual(TIMEOUT + LATEST_AFTER_CRASH)
  })
})

describe.each(ENDS)('the wall clock, around a %s', (how) => {
  test('set back while the process was down: that time counts as none', async () => {
    const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
    await idleSession(line)
    await line.clock.advance(4 * MINUTE)
    if (how === 'crash') line.crash()
    else await line.stop()
    line.clock.stepWall(-60 * MINUTE)
    await line.clock.advance(MINUTE)
    await line.start()
    const started = line.clock.now()
    const idle = (await endOf(line)) - started
    // The time before it is not known any more either: later than due, never earlier.
    expect(idle).toBeGreaterThanOrEqual(TIMEOUT - 4 * MINUTE)
    expect(idle).toBeLessThanOrEqual(TIMEOUT + LATEST_AFTER_CRASH)
  })

  test.each([-60 * MINUTE, 60 * MINUTE])(
    'stepped by %i ms while the process ran and the session was idle: nothing happens',
    async (step) => {
      const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
      const { since } = await idleSession(line)
      await line.clock.advance(2 * MINUTE)
      line.clock.stepWall(step)
      await line.clock.advance(2 * MINUTE)
      await line.restart(how, MINUTE)
      const idle = (await endOf(line)) - since
      expect(idle).toBeGreaterThanOrEqual(TIMEOUT)
      expect(idle).toBeLessThanOrEqual(TIMEOUT + LATEST_AFTER_CRASH)
    },
  )
})

describe.each(ENDS)('other lifetimes, over a %s', (how) => {
  test('sessionMaxAge counts on', async () => {
    const line = new Incarnations({ sessionMaxAge: TIMEOUT, sessionIdleTimeout: Infinity })
    const begun = line.clock.now()
    const { id } = await idleSession(line)
    await line.clock.advance(3 * MINUTE)
    await line.restart(how, 3 * MINUTE)
    await line.clock.advance(begun + TIMEOUT - line.clock.now() - 1)
    const before = line.app.post(id, call())
    await line.clock.settle()
    await line.clock.advance(LATEST)
    const after = line.app.post(id, call())
    await line.clock.settle()
    expect([before.status, after.status, line.app.closings(id)]).toEqual([200, 404, ['max-age']])
  })

  test('one that was never used ends after unusedSessionTimeout', async () => {
    const line = new Incarnations({ unusedSessionTimeout: 5 * MINUTE })
    await line.app.open()
    const since = line.clock.now()
    await line.clock.advance(MINUTE)
    await line.restart(how, MINUTE)
    const idle = (await endOf(line)) - since
    expect(idle).toBeGreaterThanOrEqual(5 * MINUTE)
    expect(idle).toBeLessThanOrEqual(5 * MINUTE + LATEST_AFTER_CRASH)
    expect(line.app.events.at(-1)).toMatchObject({ reason: 'unused' })
  })

  test('one without `initialized` ends after handshakeTimeout', async () => {
    const line = new Incarnations({ handshakeTimeout: MINUTE })
    line.app.post(undefined, initialize())
    await line.clock.settle()
    const since = line.clock.now()
    await line.clock.advance(10_000)
    await line.restart(how, 10_000)
    const idle = (await endOf(line)) - since
    expect(idle).toBeGreaterThanOrEqual(MINUTE)
    expect(idle).toBeLessThanOrEqual(MINUTE + LATEST_AFTER_CRASH)
    expect(line.app.events.at(-1)).toMatchObject({ reason: 'unused' })
  })

  test('one whose only use was a GET, a moment before, counts as used', async () => {
    const line = new Incarnations({ unusedSessionTimeout: MINUTE, sessionIdleTimeout: TIMEOUT })
    const id = await line.app.open()
    line.app.get(id)
    await line.clock.settle()
    const since = line.clock.now()
    await line.restart(how, 1000)
    const idle = (await endOf(line)) - since
    expect(idle).toBeGreaterThanOrEqual(TIMEOUT)
  })

  test.each([10, 60 * MINUTE])(
    'a request that comes at once does not win back one that was over %i ms before the start',
    async (over) => {
      const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
      const { id } = await idleSession(line)
      const other = await line.app.open()
      await line.restart(how, TIMEOUT + LATEST_AFTER_CRASH + over)
      const answers = [
        line.app.post(id, call()),
        line.app.get(id),
        line.app.delete(id),
        line.app.post(other, call()),
      ]
      await line.clock.settle()
      expect(answers.map(({ status }) => status)).toEqual([404, 404, 404, 404])
      expect(line.store.size).toBe(0)
    },
  )

  test('a request that comes at once finds a session whose time is nearly over, and restarts its clock', async () => {
    const line = new Incarnations({ sessionIdleTimeout: TIMEOUT })
    const { id } = await idleSession(line)
    await line.restart(how, TIMEOUT - 10)
    const answer = line.app.post(id, call())
    await line.clock.advance(TIMEOUT - 1000)
    const again = line.app.post(id, call())
    await line.clock.settle()
    expect([answer.status, again.status]).toEqual([200, 200])
  })
})
