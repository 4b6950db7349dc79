/** Every store and log of this package passes the checks of `sojourn/testing`, and broken ones do not. */

import { describe, expect, test } from 'vitest'

import type { MemorySessionStore } from '../../src/store/memory-store.ts'
import type { StoredSession, StoredUse } from '../../src/store/session-store.ts'
import type { EventLogPage } from '../../src/stream/event-log.ts'
import { MemoryEventLog } from '../../src/stream/memory-event-log.ts'
import {
  type ConformanceCheck,
  type EventLogSubject,
  eventLogChecks,
  sessionStoreChecks,
  type SessionStoreSubject,
} from '../../src/testing.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { LIMITS, memoryLog, memoryStoreLog, memorySubject, sqliteLog, sqliteSubject } from './subjects.ts'

describe.each([
  ['MemorySessionStore', sessionStoreChecks(memorySubject)],
  ['sqliteStore', sessionStoreChecks(sqliteSubject)],
  // Starting threads takes the time of these: a few are enough.
  ['sqliteStore, relaxed', sessionStoreChecks(() => sqliteSubject({ durability: 'relaxed' })).slice(1, 4)],
  ['MemoryEventLog', eventLogChecks(memoryLog)],
  ['MemorySessionStore.eventLog', eventLogChecks(memoryStoreLog)],
  ['sqliteStore.eventLog', eventLogChecks(() => sqliteLog())],
] as const)('%s', (_name, checks) => {
  test.each(checks)('$name', ({ run }) => run())
})

test('sqliteStore.eventLog: events age by the wall clock', async () => {
  const check = eventLogChecks(() => sqliteLog(300)).find(({ name }) => name.startsWith('too old'))
  await check?.run()
  expect.assertions(0)
})

/** A store whose only fault is one method. */
type Fault = (store: MemorySessionStore) => void

const BROKEN_STORES: Readonly<Record<string, Fault>> = {
  'forgets to write': (store) => {
    store.save = async () => {}
  },
  'keeps no idle time': (store) => {
    const save = store.save.bind(store)
    store.save = (session) => save({ ...session, idleSince: undefined })
  },
  'ignores touch': (store) => {
    store.touch = async () => {}
  },
  'touch makes sessions of unknown keys': (store) => {
    const touch = store.touch.bind(store)
    store.touch = async (at: number, uses: readonly StoredUse[]) => {
      for (const { key, idleSince } of uses)
        if (key === 'unknown') await store.save({ key, label: '', record: '', idleSince })
      await touch(at, uses)
    }
  },
  'deletes nothing': (store) => {
    store.delete = async () => {}
  },
  'mistakes upper for lower case': (store) => {
    const save = store.save.bind(store)
    store.save = (session) => save({ ...session, key: session.key.toLowerCase() })
  },
  'writes late, in another order': (store) => {
    const save = store.save.bind(store)
    store.save = async (session) => {
      await new Promise((resolve) => setTimeout(resolve, 1))
      await save(session)
    }
  },
  'loads the first batch only': (store) => {
    const load = store.load.bind(store)
    store.load = async function* () {
      for await (const batch of load()) {
        yield batch
        return
      }
    }
  },
  'loads the last saved first': (store) => {
    const load = store.load.bind(store)
    store.load = async function* () {
      const all: StoredSession[] = []
      for await (const batch of load()) all.unshift(...batch)
      yield all
    }
  },
  'writes after it was closed': (store) => {
    store.kill = () => {}
  },
  'lets two processes own it': (store) => {
    const { open } = store
    store.open = async function (this: MemorySessionStore, events, signal) {
      await Promise.race([open.call(this, events, signal), new Promise((resolve) => setTimeout(resolve, 50))])
      return { epoch: 1, aliveAt: undefined }
    }
  },
  'has one epoch for all': (store) => {
    const open = store.open.bind(store)
    store.open = async (events, signal) => ({ ...(await open(events, signal)), epoch: 1 })
  },
  'waits without a word': (store) => {
    const open = store.open.bind(store)
    store.open = (events, signal) => open({ ...events, waiting() {} }, signal)
  },
  'leaves the events of deleted sessions': (store) => {
    store.eventLog.dropSession = async () => {}
    const remove = store.delete.bind(store)
    const events: [string, number, number, string][] = []
    const append = store.eventLog.append.bind(store.eventLog)
    store.eventLog.append = async (...event) => {
      events.push([event[0], event[1], event[2], event[3]])
      await append(...event)
    }
    store.delete = async (key) => {
      await remove(key)
      for (const event of events) if (event[0] === key) await append(...event)
    }
  },
}

test.concurrent.each(Object.entries(BROKEN_STORES))('a store that %s is caught', async (_name, breaks) => {
  const make = (): SessionStoreSubject => {
    const subject = memorySubject()
    return {
      async connect() {
        const store = (await subject.connect()) as MemorySessionStore
        breaks(store)
        return store
      },
    }
  }
  expect(await failures(sessionStoreChecks(make, { deadline: 800 }))).not.toEqual([])
})

const BROKEN_LOGS: Readonly<Record<string, (log: EventLogSubject['log']) => void>> = {
  'keeps nothing': (log) => {
    log.append = () => {}
  },
  'gives the event at the cursor again': (log) => {
    const read = log.read.bind(log)
    log.read = (session, stream, after) => read(session, stream, after - 1)
  },
  'gives events backwards': (log) => {
    changePage(log, ({ events, trimmed }) => ({ events: [...events].reverse(), trimmed }))
  },
  'takes streams for one another': (log) => {
    const { append, read } = log
    log.append = (session, _stream, position, data) => append.call(log, session, 0, position, data)
    log.read = (session, _stream, after) => read.call(log, session, 0, after)
  },
  'takes sessions for one another': (log) => {
    const { append, read } = log
    log.append = (session, stream, position, data) =>
      append.call(log, session.slice(0, 1), stream, position, data)
    log.read = (session, stream, after) => read.call(log, session.slice(0, 1), stream, after)
  },
  'trims in silence': (log) => {
    changePage(log, ({ events }) => ({ events, trimmed: 0 }))
  },
  'says too little of what it trimmed': (log) => {
    changePage(log, ({ events, trimmed }) => ({ events, trimmed: Math.max(0, trimmed - 2) }))
  },
  'always tells of a gap': (log) => {
    changePage(log, ({ events, trimmed }) => ({ events, trimmed: trimmed + 1 }))
  },
  'drops the session with the stream': (log) => {
    log.dropStream = (session) => log.dropSession(session)
  },
  'drops no session': (log) => {
    log.dropSession = () => {}
  },
  'cuts long data': (log) => {
    const append = log.append.bind(log)
    log.append = (session, stream, position, data) => append(session, stream, position, data.slice(0, 500))
  },
}

test.each(Object.entries(BROKEN_LOGS))('a log that %s is caught', async (_name, breaks) => {
  const checks = eventLogChecks(() => {
    const subject = memoryLog()
    breaks(subject.log)
    return subject
  })
  expect(await failures(checks)).not.toEqual([])
})

test.each(['maxEvents', 'maxBytes', 'maxTotalBytes', 'maxAge'] as const)(
  'a log without the bound %s is caught',
  async (bound) => {
    const checks = eventLogChecks(() => {
      const clock = new VirtualClock()
      return {
        log: new MemoryEventLog(clock, { ...LIMITS, [bound]: Number.POSITIVE_INFINITY }),
        limits: LIMITS,
        passTime: (milliseconds) => clock.advance(milliseconds),
      }
    })
    expect(await failures(checks)).not.toEqual([])
  },
)

const BROKEN_RESTARTS: Readonly<Record<string, (log: EventLogSubject['log']) => void>> = {
  'forgets what streams were opened for': (log) => {
    log.openStream = () => {}
  },
  'forgets answers': (log) => {
    const append = log.append.bind(log)
    log.append = (session, stream, position, data) => append(session, stream, position, data)
  },
  'takes the id 1 for "1"': (log) => {
    const openStream = log.openStream?.bind(log)
    log.openStream = (session, stream, requests) => openStream?.(session, stream, requests.map(String))
  },
  'brings dropped streams back': (log) => {
    const { openStream } = log
    log.dropStream = (session, stream) => openStream?.call(log, session, stream, [])
  },
}

test.each(Object.entries(BROKEN_RESTARTS))(
  'a log that %s after a restart is caught',
  async (_name, breaks) => {
    const checks = eventLogChecks(async () => {
      const subject = await memoryStoreLog()
      breaks(subject.log)
      return subject
    })
    expect(await failures(checks)).not.toEqual([])
  },
)

test('the stores that are broken on purpose fail by their fault alone', async () => {
  expect(await failures(sessionStoreChecks(memorySubject))).toEqual([])
  expect(await failures(eventLogChecks(memoryLog))).toEqual([])
  expect(await failures(eventLogChecks(memoryStoreLog))).toEqual([])
})

function changePage(log: EventLogSubject['log'], change: (page: EventLogPage) => EventLogPage): void {
  const read = log.read.bind(log)
  log.read = async (session, stream, after) => change(await read(session, stream, after))
}

async function failures(checks: readonly ConformanceCheck[]): Promise<string[]> {
  const failed: string[] = []
  await Promise.all(
    checks.map(async ({ name, run }) => {
      try {
        await run()
      } catch {
        failed.push(name)
      }
    }),
  )
  return failed
}
