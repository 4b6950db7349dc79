/**
 * What every session store and event log has to do, as checks that run in any test framework: `sojourn/testing`.
 *
 *     for (const { name, run } of sessionStoreChecks(makeMine)) test(name, run)
 */

import assert from 'node:assert/strict'

import { SojournError } from './errors.ts'
import type { SessionStore, StoredSession, StoreEvents } from './store/session-store.ts'
import type { Awaitable, EventLog, LoggedEvent, RestoredStream } from './stream/event-log.ts'
import type { EventLogLimits } from './stream/memory-event-log.ts'

export { type MemoryStoreOptions, MemorySessionStore } from './store/memory-store.ts'

/** One thing that has to hold. */
export interface ConformanceCheck {
  /** What holds. */
  readonly name: string
  /** Rejects with an `AssertionError` where it does not. Each run makes a store of its own. */
  run(): Promise<void>
}

/** A store to be checked, empty. */
export interface SessionStoreSubject {
  /** The store as one more process sees it; called several times, all over the same data. The check opens and closes what it gives. */
  connect(): Awaitable<SessionStore>
  /** Called when the check is over. */
  dispose?(): Awaitable<void>
}

/** An event log to be checked, empty. */
export interface EventLogSubject {
  readonly log: EventLog
  /** The bounds it was made with, so that checks can reach them; without them those checks are nothing. Small ones make the checks fast. */
  readonly limits?: EventLogLimits | undefined
  /** Lets so many milliseconds pass by the log's clock; without it nothing is checked about age. */
  passTime?(milliseconds: number): Awaitable<void>
  /** Ends the process of the log and gives the log of the next one; without it nothing is checked about restarts. */
  restart?(): Awaitable<EventLog>
  /** Called when the check is over. */
  dispose?(): Awaitable<void>
}

/** How the checks run. */
export interface ConformanceOptions {
  /** Longest that any operation may take, in milliseconds; default 10,000. */
  readonly deadline?: number
}

/** The checks of a {@link SessionStore}. */
export function sessionStoreChecks(
  make: () => Awaitable<SessionStoreSubject>,
  { deadline = 10_000 }: ConformanceOptions = {},
): ConformanceCheck[] {
  return Object.entries(SESSION_STORE_CHECKS).map(([name, check]) => ({
    name,
    async run() {
      const subject = await make()
      const opened: SessionStore[] = []
      const within = deadlineOf(deadline)
      try {
        await check({
          within,
          async connect() {
            const store = await subject.connect()
            opened.push(store)
            return store
          },
          async open() {
            const store = await subject.connect()
            opened.push(store)
            await within(store.open(silent(), new AbortController().signal), 'open')
            return store
          },
        })
      } finally {
        await Promise.allSettled(opened.map((store) => within(store.close(), 'close')))
        await subject.dispose?.()
      }
    },
  }))
}

/** The checks of an {@link EventLog}. */
export function eventLogChecks(make: () => Awaitable<EventLogSubject>): ConformanceCheck[] {
  return Object.entries(EVENT_LOG_CHECKS).map(([name, check]) => ({
    name,
    async run() {
      const subject = await make()
      try {
        await check(subject)
      } finally {
        await subject.dispose?.()
      }
    },
  }))
}

interface StoreTest {
  /** The store as one more process sees it. */
  connect(): Promise<SessionStore>
  /** The same, opened. */
  open(): Promise<SessionStore>
  /** Fails where something takes longer than it may. */
  readonly within: Within
}

type Within = <T>(promise: Promise<T>, what: string) => Promise<T>

const ODD =
  'quote " backslash \\ newline \n null \u0000 umlaut ü emoji 🦊 line separator \u2028 percent % under_score'

const SESSION_STORE_CHECKS: Readonly<Record<string, (test: StoreTest) => Promise<void>>> = {
  'a new store is empty, and its first owner has epoch 1': async (test) => {
    const store = await test.connect()
    const { epoch, aliveAt } = await test.within(store.open(silent(), new AbortController().signal), 'open')
    assert.equal(epoch, 1, 'epoch of the first owner')
    assert.equal(aliveAt, undefined, 'nobody was alive before')
    assert.deepEqual(await all(store), [])
  },

  'sessions come back after a restart as they were saved, in the order they were first saved': async (
    test,
  ) => {
    const saved = [
      sessionOf('c', { record: JSON.stringify({ text: ODD }) }),
      sessionOf('a', { idleSince: 1_700_000_000_123.5 }),
      sessionOf('b', { idleSince: 0, record: JSON.stringify({ long: 'x'.repeat(300_000) }) }),
    ]
    const first = await test.open()
    for (const session of saved) await test.within(first.save(session), 'save')
    await first.close()
    assert.deepEqual(await all(await test.open()), saved)
  },

  'a session that is saved again takes the place of the one before': async (test) => {
    const first = await test.open()
    await test.within(first.save(sessionOf('a', { idleSince: 5 })), 'save')
    await test.within(first.save(sessionOf('b')), 'save')
    const again = sessionOf('a', { label: 'changed!', record: '{"changed":true}' })
    await test.within(first.save(again), 'save')
    await first.close()
    assert.deepEqual(await all(await test.open()), [again, sessionOf('b')])
  },

  'keys are told apart exactly': async (test) => {
    const keys = ['a', 'A', 'ab', 'a%', 'a_', '_', '%', '-', 'ä', 'a ']
    const first = await test.open()
    for (const key of keys) await test.within(first.save(sessionOf(key)), 'save')
    await test.within(first.delete('a%'), 'delete')
    await test.within(first.delete('_'), 'delete')
    await first.close()
    const left = (await all(await test.open())).map(({ key }) => key)
    assert.deepEqual(
      left,
      keys.filter((key) => key !== 'a%' && key !== '_'),
    )
  },

  'touch keeps when the process lived last, and which sessions became idle or busy': async (test) => {
    const first = await test.open()
    for (const key of ['a', 'b', 'c']) await test.within(first.save(sessionOf(key, { idleSince: 1 })), 'save')
    const uses = [
      { key: 'a', idleSince: undefined },
      { key: 'c', idleSince: 77 },
      { key: 'unknown', idleSince: 3 },
    ]
    await test.within(first.touch(1000, [{ key: 'b', idleSince: 9 }]), 'touch')
    await test.within(first.touch(2000, uses), 'touch')
    await first.close()
    const second = await test.connect()
    const { aliveAt } = await test.within(second.open(silent(), new AbortController().signal), 'open')
    assert.equal(aliveAt, 2000, 'the last time')
    assert.deepEqual(await all(second), [
      sessionOf('a'),
      sessionOf('b', { idleSince: 9 }),
      sessionOf('c', { idleSince: 77 }),
    ])
  },

  'a deleted session does not come back; saved anew it comes last': async (test) => {
    const first = await test.open()
    for (const key of ['a', 'b', 'c']) await test.within(first.save(sessionOf(key)), 'save')
    await test.within(first.delete('a'), 'delete')
    await test.within(first.delete('b'), 'delete')
    await test.within(first.delete('never was'), 'delete')
    await test.within(first.save(sessionOf('a')), 'save')
    await first.close()
    assert.deepEqual(await all(await test.open()), [sessionOf('c'), sessionOf('a')])
  },

  'writes take effect in the order of the calls, awaited or not': async (test) => {
    const first = await test.open()
    const writes: Promise<void>[] = []
    for (let n = 0; n < 300; n++) {
      writes.push(first.save(sessionOf('a', { idleSince: n })))
      writes.push(first.touch(n, [{ key: 'a', idleSince: n + 0.5 }]))
      if (n % 3 === 0) writes.push(first.delete('a'))
      writes.push(first.save(sessionOf('b', { idleSince: n })), first.delete('b'))
    }
    await test.within(Promise.all(writes), 'every write')
    await first.close()
    // The last three were a save, a touch; 299 is no multiple of 3.
    assert.deepEqual(await all(await test.open()), [sessionOf('a', { idleSince: 299.5 })])
  },

  'close writes what nobody awaited, and may be called twice': async (test) => {
    const first = await test.open()
    const writes = Array.from({ length: 50 }, (_, n) => first.save(sessionOf(`s${n}`)))
    await test.within(Promise.all([first.close(), first.close()]), 'close')
    await test.within(Promise.all(writes), 'a write from before close')
    await first.close()
    assert.equal((await all(await test.open())).length, 50)
  },

  'a closed store refuses with store-unavailable': async (test) => {
    const store = await test.open()
    await store.close()
    await refused(test, store.save(sessionOf('a')), 'save')
    await refused(test, store.touch(1, []), 'touch')
    await refused(test, store.delete('a'), 'delete')
    assert.deepEqual(await all(await test.open()), [], 'nothing was written')
  },

  'every owner has a higher epoch than those before': async (test) => {
    let before = 0
    for (let n = 0; n < 3; n++) {
      const store = await test.connect()
      const { epoch } = await test.within(store.open(silent(), new AbortController().signal), 'open')
      assert.ok(epoch > before, `epoch ${epoch} after ${before}`)
      before = epoch
      await store.close()
    }
  },

  'a second owner waits, says so once, and gets what the first left': async (test) => {
    const first = await test.open()
    const second = await test.connect()
    let told = 0
    let owns = false
    const waits = deferred()
    const opening = second.open(
      { ...silent(), waiting: () => ((told += 1), waits.resolve()) },
      new AbortController().signal,
    )
    const opened = opening.then(() => (owns = true))
    await test.within(waits.promise, 'waiting()')
    await test.within(first.save(sessionOf('a')), 'save')
    await tick(600)
    assert.equal(owns, false, 'two owners at once')
    await first.close()
    await test.within(opened, 'the second open')
    assert.equal(told, 1, 'waiting() is called once')
    assert.deepEqual(await all(second), [sessionOf('a')])
  },

  'waiting can be given up': async (test) => {
    const first = await test.open()
    const second = await test.connect()
    const waits = deferred()
    const abort = new AbortController()
    const opening = second.open({ ...silent(), waiting: () => waits.resolve() }, abort.signal)
    opening.catch(() => {})
    await test.within(waits.promise, 'waiting()')
    abort.abort()
    await test.within(assert.rejects(opening), 'the rejection of open')
    await first.close()
    await test.open()
  },

  'many sessions are loaded whole, each once': async (test) => {
    const first = await test.open()
    const keys = Array.from({ length: 1234 }, (_, n) => `k${n}`)
    await test.within(Promise.all(keys.map((key) => first.save(sessionOf(key)))), 'every save')
    await first.close()
    assert.deepEqual(
      (await all(await test.open())).map(({ key }) => key),
      keys,
    )
  },

  'a deleted session leaves no events': async (test) => {
    const store = await test.open()
    const { eventLog: log } = store
    if (log === undefined) return
    await log.openStream?.('a', 1, ['r'])
    await log.append('a', 1, 1, '1', 'r')
    await log.append('b', 1, 1, '2')
    await test.within(store.save(sessionOf('a')), 'save')
    await test.within(store.delete('a'), 'delete')
    assert.deepEqual((await log.read('a', 1, 0)).events, [])
    assert.deepEqual(positions((await log.read('b', 1, 0)).events), [1])
    await store.close()
    const { eventLog: after } = await test.open()
    assert.deepEqual((await after?.read('a', 1, 0))?.events, [])
    if (after?.restore === undefined) return
    assert.deepEqual(
      (await restored(after)).map(({ session }) => session),
      ['b'],
    )
  },
}

const EVENT_LOG_CHECKS: Readonly<Record<string, (subject: EventLogSubject) => Promise<void>>> = {
  'nothing is read from a stream that never was': async ({ log }) => {
    await expectPage(log, 's', 0, 0, [], 0)
  },

  'events come back after a cursor, in order, as they were appended': async ({ log }) => {
    const data = ['{"a":1}', JSON.stringify({ text: ODD }), '"x"'.repeat(200), '{}']
    for (const [index, text] of data.entries()) await log.append('s', 0, index + 1, text)
    const expected = data.map((text, index) => ({ position: index + 1, data: text }))
    for (let after = 0; after <= data.length; after++)
      await expectPage(log, 's', 0, after, expected.slice(after), 0)
    await expectPage(log, 's', 0, 100, [], 0)
  },

  'positions may leave some out': async ({ log }) => {
    for (const position of [3, 4, 10, 1000]) await log.append('s', 7, position, `"${position}"`)
    await expectPage(log, 's', 7, 4, [event(10), event(1000)])
    await expectPage(log, 's', 7, 9, [event(10), event(1000)])
    await expectPage(log, 's', 7, 10, [event(1000)])
  },

  'appends that nobody awaits keep their order': async ({ log }) => {
    const count = 40
    const writes = Array.from({ length: count }, (_, n) => log.append('s', 0, n + 1, `"${n + 1}"`))
    await Promise.all(writes)
    const { events } = await log.read('s', 0, 0)
    assert.deepEqual(
      events.map(({ position, data }) => ({ position, data })),
      Array.from({ length: count }, (_, n) => event(n + 1)),
    )
  },

  'no session reads what another one has': async ({ log }) => {
    const keys = ['a', 'A', 'ab', 'a%', '_', 'a/1', 'a:1']
    for (const [index, key] of keys.entries()) await log.append(key, 1, 1, `"${index}"`)
    for (const [index, key] of keys.entries())
      await expectPage(log, key, 1, 0, [{ position: 1, data: `"${index}"` }], 0)
    await expectPage(log, 'b', 1, 0, [], 0)
  },

  'no stream reads what another one has': async ({ log }) => {
    for (const stream of [0, 1, 2, 11]) await log.append('s', stream, 1, `"${stream}"`)
    for (const stream of [0, 1, 2, 11])
      await expectPage(log, 's', stream, 0, [{ position: 1, data: `"${stream}"` }], 0)
    await expectPage(log, 's', 3, 0, [], 0)
  },

  'a dropped stream is gone, and only that': async ({ log }) => {
    for (const session of ['s', 't'])
      for (const stream of [0, 1])
        for (const position of [1, 2]) await log.append(session, stream, position, `"${position}"`)
    await log.dropStream('s', 1)
    await log.dropStream('s', 99)
    await log.dropStream('never', 0)
    await expectPage(log, 's', 1, 0, [], 0)
    for (const [session, stream] of [
      ['s', 0],
      ['t', 0],
      ['t', 1],
    ] as const)
      await expectPage(log, session, stream, 0, [event(1), event(2)], 0)
    await log.append('s', 1, 1, '"1"')
    await expectPage(log, 's', 1, 0, [event(1)], 0)
  },

  'a dropped session is gone, and only that': async ({ log }) => {
    for (const session of ['s', 't', 'ss'])
      for (const stream of [0, 1]) await log.append(session, stream, 1, '"1"')
    await log.dropSession('s')
    await log.dropSession('never')
    for (const stream of [0, 1]) {
      await expectPage(log, 's', stream, 0, [], 0)
      await expectPage(log, 't', stream, 0, [event(1)], 0)
      await expectPage(log, 'ss', stream, 0, [event(1)], 0)
    }
  },

  'too many events: the oldest of the session go, and are told as trimmed': async ({ log, limits }) => {
    if (limits === undefined || !(limits.maxEvents < 5000)) return
    const count = limits.maxEvents + 20
    const appended: Awaitable<void>[] = []
    await log.append('t', 0, 1, '"1"')
    for (let position = 1; position <= count; position++)
      appended.push(log.append('s', position % 2, position, `"${position}"`))
    await Promise.all(appended)
    const kept = await bothStreams(log, count)
    assert.ok(kept.length <= limits.maxEvents, `${kept.length} events are kept, ${limits.maxEvents} may be`)
    assert.ok(kept.length >= Math.min(limits.maxEvents, 20) / 2, `only ${kept.length} events are kept`)
    await expectPage(log, 't', 0, 0, [event(1)], 0)
  },

  'too many bytes: the oldest of the session go, and are told as trimmed': async ({ log, limits }) => {
    if (limits === undefined || !(limits.maxBytes < 16 * 1024 ** 2)) return
    const data = JSON.stringify('x'.repeat(Math.floor(limits.maxBytes / 8)))
    await log.append('t', 0, 1, '"1"')
    for (let position = 1; position <= 20; position++) await log.append('s', position % 2, position, data)
    const kept = await bothStreams(log, 20)
    assert.ok(kept.length * data.length <= limits.maxBytes, `${kept.length} events of an eighth are kept`)
    assert.ok(kept.length >= 1, 'none is kept')
    await expectPage(log, 't', 0, 0, [event(1)], 0)
  },

  'an event larger than the bound is not kept, and told as trimmed': async ({ log, limits }) => {
    if (limits === undefined || !(limits.maxBytes < 16 * 1024 ** 2)) return
    await log.append('s', 0, 1, '"1"')
    await log.append('s', 0, 2, JSON.stringify('x'.repeat(limits.maxBytes)))
    await log.append('s', 0, 3, '"3"')
    const page = await log.read('s', 0, 2)
    assert.deepEqual(positions(page.events), [3])
    assert.equal(page.trimmed, 2)
  },

  'too many bytes of all sessions: the oldest of all go, and are told as trimmed': async ({
    log,
    limits,
  }) => {
    if (limits === undefined || !(limits.maxTotalBytes < 64 * 1024 ** 2)) return
    const data = JSON.stringify(
      'x'.repeat(Math.floor(Math.min(limits.maxBytes / 2, limits.maxTotalBytes / 8))),
    )
    const sessions = Math.ceil(limits.maxTotalBytes / data.length) + 5
    for (let n = 0; n < sessions; n++) await log.append(`s${n}`, 0, 1, data)
    let kept = 0
    for (let n = 0; n < sessions; n++) {
      const { events, trimmed } = await log.read(`s${n}`, 0, 0)
      kept += events.length
      assert.equal(events.length + (trimmed >= 1 ? 1 : 0), 1, 'an event is there or told as trimmed')
    }
    assert.ok(kept * data.length <= limits.maxTotalBytes, `${kept * data.length} bytes are kept`)
    assert.equal((await log.read(`s${sessions - 1}`, 0, 0)).events.length, 1, 'the newest is kept')
  },

  'too old events go, and are told as trimmed': async ({ log, limits, passTime }) => {
    if (limits === undefined || passTime === undefined || !Number.isFinite(limits.maxAge)) return
    await log.append('s', 0, 1, '"1"')
    await passTime(limits.maxAge + 5)
    await log.append('s', 0, 2, '"2"')
    const page = await log.read('s', 0, 1)
    assert.deepEqual(positions(page.events), [2])
    assert.equal((await log.read('s', 0, 0)).trimmed, 1)
    assert.deepEqual(positions((await log.read('s', 0, 0)).events), [2])
  },

  'closing twice is harmless': async ({ log }) => {
    await log.append('s', 0, 1, '"1"')
    await log.close()
    await log.close()
  },

  'after a restart events are there, and the streams go on': async ({ log, restart }) => {
    if (restart === undefined) return
    for (const position of [1, 2, 5]) await log.append('s', 3, position, `"${position}"`)
    await log.append('t', 3, 1, '"1"')
    const next = await restart()
    await expectPage(next, 's', 3, 1, [event(2), event(5)], 0)
    await next.append('s', 3, 6, '"6"')
    await expectPage(next, 's', 3, 2, [event(5), event(6)], 0)
    await expectPage(next, 't', 3, 0, [event(1)], 0)
  },

  'after a restart it is known what was trimmed': async ({ log, limits, restart }) => {
    if (restart === undefined || limits === undefined || !(limits.maxEvents < 5000)) return
    const count = limits.maxEvents + 20
    const appended: Awaitable<void>[] = []
    for (let position = 1; position <= count; position++)
      appended.push(log.append('s', position % 2, position, `"${position}"`))
    await Promise.all(appended)
    const before = await Promise.all([log.read('s', 0, 0), log.read('s', 1, 0)])
    const next = await restart()
    for (const stream of [0, 1]) {
      const { events, trimmed } = await next.read('s', stream, 0)
      assert.deepEqual(positions(events), positions(before[stream]?.events ?? []))
      assert.equal(trimmed, before[stream]?.trimmed)
    }
  },

  'after a restart every stream is told: its requests, its position, its answers': async (subject) => {
    const { log, limits, restart } = subject
    if (restart === undefined || log.openStream === undefined) return
    await log.openStream('s', 0, [])
    await log.openStream('s', 1, [1, '1', 'two'])
    await log.append('s', 1, 1, '"1"')
    await log.append('s', 1, 4, '"4"', '1')
    await log.append('s', 1, 5, '"5"', 1)
    await log.openStream('t', 1, ['only'])
    if (limits !== undefined && limits.maxEvents < 5000) {
      // The answer's event is trimmed; that there was one stays known.
      await log.append('t', 1, 1, '"1"', 'only')
      for (let n = 2; n <= limits.maxEvents + 5; n++) await log.append('t', 0, n, `"${n}"`)
    } else await log.append('t', 1, 1, '"1"', 'only')
    const streams = await restored(await restart())
    const told = new Map(streams.map((stream) => [`${stream.session} ${stream.stream}`, stream]))
    assert.deepEqual(told.get('s 0'), { session: 's', stream: 0, requests: [], position: 0, answers: [] })
    assert.deepEqual(told.get('s 1'), {
      session: 's',
      stream: 1,
      requests: [1, '1', 'two'],
      position: 5,
      answers: [
        { position: 4, id: '1' },
        { position: 5, id: 1 },
      ],
    })
    assert.deepEqual(told.get('t 1')?.answers, [{ position: 1, id: 'only' }])
    assert.equal(told.get('t 1')?.position, 1)
  },

  'after a restart nothing dropped comes back': async ({ log, restart }) => {
    if (restart === undefined) return
    for (const session of ['s', 't'])
      for (const stream of [0, 1]) {
        await log.openStream?.(session, stream, [stream])
        await log.append(session, stream, 1, '"1"')
      }
    await log.dropStream('s', 1)
    await log.dropSession('t')
    const next = await restart()
    for (const [session, stream] of [
      ['s', 1],
      ['t', 0],
      ['t', 1],
    ] as const)
      await expectPage(next, session, stream, 0, [], 0)
    await expectPage(next, 's', 0, 0, [event(1)], 0)
    if (next.restore === undefined) return
    assert.deepEqual(
      (await restored(next)).map(({ session, stream }) => [session, stream]),
      [['s', 0]],
    )
  },

  'after a restart many streams are told whole, each once': async ({ log, restart }) => {
    if (restart === undefined || log.openStream === undefined) return
    const { openStream } = log
    const opened: Awaitable<void>[] = []
    for (let n = 0; n < 1234; n++) opened.push(openStream.call(log, `s${n % 100}`, n, [n]))
    await Promise.all(opened)
    const streams = await restored(await restart())
    assert.deepEqual(
      streams.map(({ stream, session, requests }) => [stream, session, ...requests]).sort(byFirst),
      Array.from({ length: 1234 }, (_, n) => [n, `s${n % 100}`, n]),
    )
  },
}

function byFirst([a]: readonly unknown[], [b]: readonly unknown[]): number {
  return Number(a) - Number(b)
}

function event(position: number): LoggedEvent {
  return { position, data: `"${position}"` }
}

function positions(events: readonly LoggedEvent[]): number[] {
  return events.map(({ position }) => position)
}

async function expectPage(
  log: EventLog,
  session: string,
  stream: number,
  after: number,
  events: readonly LoggedEvent[],
  trimmed?: number,
): Promise<void> {
  const page = await log.read(session, stream, after)
  const where = `session ${JSON.stringify(session)}, stream ${stream}, after ${after}`
  assert.deepEqual(
    page.events.map(({ position, data }) => ({ position, data })),
    events,
    `events of ${where}`,
  )
  if (trimmed !== undefined) assert.equal(page.trimmed, trimmed, `what was trimmed of ${where}`)
}

/** Positions that two streams of session `s` still have; every other one up to `count` must be told as trimmed. */
async function bothStreams(log: EventLog, count: number): Promise<number[]> {
  const all: number[] = []
  for (const stream of [0, 1]) {
    const { events, trimmed } = await log.read('s', stream, 0)
    const kept = new Set(positions(events))
    for (let position = 1; position <= count; position++) {
      if (position % 2 !== stream || kept.has(position)) continue
      assert.ok(position <= trimmed, `event ${position} is gone, and ${trimmed} is told as the last trimmed`)
    }
    all.push(...kept)
  }
  assert.ok(all.includes(count), 'the newest event is kept')
  return all
}

async function restored(log: EventLog): Promise<RestoredStream[]> {
  assert.ok(log.restore !== undefined, 'a log that restarts has restore()')
  const streams: RestoredStream[] = []
  for await (const batch of log.restore()) streams.push(...batch)
  return streams
}

async function all(store: SessionStore): Promise<StoredSession[]> {
  const sessions: StoredSession[] = []
  for await (const batch of store.load()) {
    for (const { key, label, record, idleSince } of batch) sessions.push({ key, label, record, idleSince })
  }
  return sessions
}

function sessionOf(key: string, changed: Partial<StoredSession> = {}): StoredSession {
  return { key, label: 'label---', record: `{"of":${JSON.stringify(key)}}`, idleSince: undefined, ...changed }
}

function silent(): StoreEvents {
  return { waiting() {}, lost() {}, failing() {}, recovered() {} }
}

async function refused({ within }: StoreTest, promise: Promise<unknown>, what: string): Promise<void> {
  await within(
    promise.then(
      () => assert.fail(`${what} was not refused`),
      (error: unknown) => {
        if (error instanceof assert.AssertionError) throw error
        assert.ok(
          error instanceof SojournError && error.code === 'store-unavailable',
          `${what} is refused with ${String(error)}`,
        )
      },
    ),
    what,
  )
}

function deadlineOf(deadline: number): Within {
  return async (promise, what) => {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      const message = `${what} took more than ${deadline} ms`
      timer = setTimeout(() => reject(new assert.AssertionError({ message })), deadline)
    })
    try {
      return await Promise.race([promise, late])
    } finally {
      clearTimeout(timer)
    }
  }
}

function deferred(): { readonly promise: Promise<void>; resolve(): void } {
  let resolve = (): void => {}
  const promise = new Promise<void>((done) => (resolve = done))
  return { promise, resolve: () => resolve() }
}

function tick(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
