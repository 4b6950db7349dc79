/** Three hundred seeds of crash and restart over a slow store that fails at times, and what the checker must find. */

import { describe, expect, test } from 'vitest'

import { Persistence } from '../../src/session/persistence.ts'
import { Session } from '../../src/session/session.ts'
import { SessionStreams } from '../../src/session/session-streams.ts'
import type { MemorySessionStore } from '../../src/store/memory-store.ts'
import type { SessionStore } from '../../src/store/session-store.ts'
import { replace } from '../support/replace.ts'
import { type RestartFault, simulateRestarts, STAKES, type Stakes } from './restart.ts'

const SEEDS = 300

/** How often each promise must have been at stake, at least. */
const LEAST = 100

test(`${SEEDS} seeds`, async () => {
  const broken: string[] = []
  const stakes: Stakes = {}
  for (let seed = 1; seed <= SEEDS; seed++) {
    for (const text of await simulateRestarts(seed, stakes)) broken.push(`seed ${seed}: ${text}`)
  }
  expect(broken).toEqual([])
  for (const what of STAKES) expect(stakes[what], what).toBeGreaterThanOrEqual(LEAST)
}, 60_000)

/** A store that opens with something else than it should. */
function opens(
  change: (opened: Awaited<ReturnType<SessionStore['open']>>) => Awaited<ReturnType<SessionStore['open']>>,
): RestartFault {
  return {
    store(store) {
      const open = store.open.bind(store)
      store.open = async (events, signal) => change(await open(events, signal))
    },
  }
}

/** A store that gives every session to somebody else. */
function givesAway(store: MemorySessionStore): void {
  const load = store.load.bind(store)
  store.load = async function* () {
    for await (const batch of load())
      yield batch.map((session) => ({
        ...session,
        record: session.record.replaceAll('\\"bob\\"', '\\"ann\\"'),
      }))
  }
}

let appends = 0

const FAULTS: Readonly<Record<string, RestartFault>> = {
  'an acknowledged event is lost': {
    store({ eventLog }) {
      const append = eventLog.append.bind(eventLog)
      eventLog.append = (session, stream, position, data, answer) =>
        ++appends % 3 === 0 ? Promise.resolve() : append(session, stream, position, data, answer)
    },
  },
  'an event is replayed twice': {
    store({ eventLog }) {
      const append = eventLog.append.bind(eventLog)
      eventLog.append = async (session, stream, position, data, answer) => {
        await append(session, stream, position, data, answer)
        if (stream === 0) await append(session, stream, position + 1, data, answer)
      }
    },
  },
  'an answer goes out before its change is kept': {
    patch: () =>
      replace(Persistence.prototype, 'commit', (original) => {
        return function (this: Persistence, session) {
          original.call(this, session)?.catch(() => {})
          return undefined
        }
      }),
  },
  'a session comes back after its end': {
    store(store) {
      store.delete = () => Promise.resolve()
    },
  },
  'an end is told before it is durable': {
    patch: () => replace(Persistence.prototype, 'mayDeny', () => () => undefined),
  },
  'a session belongs to somebody else after a restart': { store: givesAway },
  'numbers repeat over restarts': opens((opened) => ({ ...opened, epoch: 1 })),
  'a crash makes sessions older': opens(({ epoch, aliveAt }) => ({
    epoch,
    aliveAt: aliveAt === undefined ? undefined : aliveAt - 15_000,
  })),
  'idle times begin anew': {
    patch: () =>
      replace(Session.prototype, 'restore', (original) => {
        return function (this: Session) {
          original.call(this, this.runtime.clock.now())
        }
      }),
  },
  'calls that were interrupted are left without an answer': {
    patch: () =>
      replace(SessionStreams.prototype, 'restore', (original) => {
        return function (this: SessionStreams, restored) {
          original.call(this, { ...restored, requests: [] })
        }
      }),
  },
}

describe('a deliberate fault is found', () => {
  test.each(Object.entries(FAULTS))('%s', async (_name, fault) => {
    let found: string[] = []
    for (let seed = 1; seed <= SEEDS && found.length === 0; seed++)
      found = await simulateRestarts(seed, {}, fault)
    expect(found[0]).toMatch(/^P\d: /)
  })
})
