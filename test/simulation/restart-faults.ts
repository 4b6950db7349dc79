/** Deliberate faults of stores and restarts, each small: the checker must find every one of them. */

import { PostAnswer } from '../../src/session/post-answer.ts'
import { Persistence } from '../../src/session/persistence.ts'
import { Session } from '../../src/session/session.ts'
import { SessionStreams } from '../../src/session/session-streams.ts'
import { SessionTable } from '../../src/session/session-table.ts'
import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import type { MemorySessionStore } from '../../src/store/memory-store.ts'
import type { SessionStore } from '../../src/store/session-store.ts'
import { replace } from '../support/replace.ts'
import type { RestartFault } from './restart.ts'
import { every } from './simulation.ts'

type Opened = Awaited<ReturnType<SessionStore['open']>>

/** A store that opens with something else than it should. */
function opens(change: (opened: Opened) => Opened): (store: MemorySessionStore) => void {
  return (store) => {
    const open = store.open.bind(store)
    store.open = async (events, signal) => change(await open(events, signal))
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

/** All of them. */
export const RESTART_FAULTS: readonly RestartFault[] = [
  {
    name: 'a crash makes sessions older',
    breaks: ['P1'],
    seed: 3,
    store: opens(({ epoch, aliveAt }) => ({
      epoch,
      aliveAt: aliveAt === undefined ? undefined : aliveAt - 15_000,
    })),
  },
  {
    name: 'a restart loses the youngest session',
    breaks: ['P1'],
    seed: 2,
    store(store) {
      const load = store.load.bind(store)
      store.load = async function* () {
        for await (const batch of load()) yield batch.slice(0, -1)
      }
    },
  },
  {
    name: 'idle times begin anew',
    breaks: ['P2'],
    seed: 13,
    patch: () =>
      replace(Session.prototype, 'restore', (original) => {
        return function (this: Session) {
          original.call(this, this.runtime.clock.now())
        }
      }),
  },
  {
    name: 'a session comes back after its end',
    breaks: ['P3'],
    seed: 3,
    store(store) {
      store.delete = () => Promise.resolve()
    },
  },
  {
    name: 'an end is told before it is durable',
    breaks: ['P3'],
    seed: 21,
    patch: () => replace(Persistence.prototype, 'mayDeny', () => () => undefined),
  },
  {
    name: 'an event is replayed twice',
    breaks: ['P4'],
    seed: 58,
    store({ eventLog }) {
      const append = eventLog.append.bind(eventLog)
      eventLog.append = async (session, stream, position, data, answer) => {
        await append(session, stream, position, data, answer)
        if (stream === 0) await append(session, stream, position + 1, data, answer)
      }
    },
  },
  {
    name: 'a store gives the events of a stream backwards',
    breaks: ['P4'],
    seed: 58,
    store({ eventLog }) {
      const read = eventLog.read.bind(eventLog)
      eventLog.read = async (session, stream, after) => {
        const page = await read(session, stream, after)
        const positions = page.events.map(({ position }) => position)
        const events = [...page.events]
          .reverse()
          .map((event, index) => ({ ...event, position: positions[index] ?? 0 }))
        return { ...page, events }
      }
    },
  },
  {
    name: 'event ids repeat over restarts',
    breaks: ['P4', 'P9'],
    seed: 3,
    store: opens((opened) => ({ ...opened, epoch: 1 })),
  },
  {
    name: 'a session belongs to somebody else after a restart',
    breaks: ['P5'],
    seed: 5,
    store: givesAway,
  },
  {
    name: 'sessions from a store are found by their id alone',
    breaks: ['P5'],
    seed: 1,
    patch: () =>
      replace(SessionTable.prototype, 'findOwned', () => {
        return function (this: SessionTable, id): Session | undefined {
          return this.find(id)
        }
      }),
  },
  {
    name: 'calls that were interrupted are left without an answer',
    breaks: ['P4', 'P6'],
    seed: 3,
    patch: () =>
      replace(SessionStreams.prototype, 'restore', (original) => {
        return function (this: SessionStreams, restored) {
          original.call(this, { ...restored, requests: [] })
        }
      }),
  },
  {
    name: 'now and then an answer is swallowed',
    breaks: ['P6', 'P7'],
    seed: 2,
    patch: () => {
      const now = every(20)
      return replace(PostAnswer.prototype, 'answer', (original) => {
        return function (this: PostAnswer, request, response): void {
          if (!now()) original.call(this, request, response)
        }
      })
    },
  },
  {
    name: 'a stop does not wait for running calls',
    breaks: ['P8'],
    seed: 2,
    patch: () =>
      replace(StreamableHTTPSessionManager.prototype, 'close', (original) => {
        return function (this: StreamableHTTPSessionManager) {
          return original.call(this)
        }
      }),
  },
  {
    name: 'an acknowledged event is lost',
    breaks: ['P9', 'P4'],
    seed: 4,
    store({ eventLog }) {
      const now = every(3)
      const append = eventLog.append.bind(eventLog)
      eventLog.append = (session, stream, position, data, answer) =>
        now() ? Promise.resolve() : append(session, stream, position, data, answer)
    },
  },
  {
    name: 'an answer goes out before its change is kept',
    breaks: ['P9'],
    seed: 10,
    patch: () =>
      replace(Persistence.prototype, 'commit', (original) => {
        return function (this: Persistence, session) {
          original.call(this, session)?.catch(() => {})
          return undefined
        }
      }),
  },
  {
    name: 'a store forgets every other change',
    breaks: ['P9'],
    seed: 2,
    store(store) {
      const now = every(2)
      const save = store.save.bind(store)
      store.save = (session) => (now() ? Promise.resolve() : save(session))
    },
  },
]
