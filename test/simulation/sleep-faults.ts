/** Deliberate faults of sleep and wake, each small: the checker must find every one of them. */

import { AwakeSessions } from '../../src/session/awake-sessions.ts'
import { Instance } from '../../src/session/instance.ts'
import { IdleClock } from '../../src/session/idle-clock.ts'
import { PostAnswer } from '../../src/session/post-answer.ts'
import { Replay } from '../../src/session/replay.ts'
import { Session } from '../../src/session/session.ts'
import { SessionInstance } from '../../src/session/session-instance.ts'
import { SessionTable } from '../../src/session/session-table.ts'
import { replace } from '../support/replace.ts'
import { every } from './simulation.ts'
import type { SleepFault } from './sleep.ts'

/** Changes what a session keeps once it sleeps. */
function afterSleep(change: (session: Session) => void): () => void {
  return replace(Session.prototype, 'sleep', (original) => {
    return function (this: Session) {
      const outcome = original.call(this)
      if (outcome === 'asleep') change(this)
      return outcome
    }
  })
}

/** Changes how long a session may be idle while it sleeps. */
function asleepFor(more: number): () => void {
  return replace(Session.prototype, 'idleTimeout', (original) => {
    return function (this: Session) {
      return original.call(this) + (this.instance === undefined ? more : 0)
    }
  })
}

/** All of them. */
export const SLEEP_FAULTS: readonly SleepFault[] = [
  {
    name: 'a sleeping session ends a second early',
    breaks: ['P1'],
    seed: 1,
    patch: () => asleepFor(-1000),
  },
  {
    name: 'a sleeping session ends a second late',
    breaks: ['P2'],
    seed: 1,
    patch: () => asleepFor(1000),
  },
  {
    name: 'falling asleep is an end',
    breaks: ['P1'],
    seed: 1,
    patch: () => afterSleep((session) => session.close('idle')),
  },
  {
    name: 'a running request does not keep its session awake or alive',
    breaks: ['P1', 'P7'],
    seed: 1,
    patch: () => {
      const undo = replace(IdleClock.prototype, 'hold', (original) => {
        return function (this: IdleClock, kind) {
          const hold = original.call(this, kind)
          if (kind === 'request') hold.release()
          return hold
        }
      })
      const original = Object.getOwnPropertyDescriptor(SessionInstance.prototype, 'needed') ?? {}
      Object.defineProperty(SessionInstance.prototype, 'needed', { get: () => false, configurable: true })
      return () => {
        undo()
        Object.defineProperty(SessionInstance.prototype, 'needed', original)
      }
    },
  },
  {
    name: 'an instance sleeps with a running request',
    breaks: ['P7'],
    seed: 1,
    patch: () => {
      const original = Object.getOwnPropertyDescriptor(SessionInstance.prototype, 'needed') ?? {}
      Object.defineProperty(SessionInstance.prototype, 'needed', { get: () => false, configurable: true })
      return () => void Object.defineProperty(SessionInstance.prototype, 'needed', original)
    },
  },
  {
    name: 'nothing sleeps',
    breaks: ['P7'],
    seed: 1,
    patch: () => replace(Session.prototype, 'sleep', () => () => 'awake'),
  },
  {
    name: 'too many stay awake',
    breaks: ['P7'],
    seed: 1,
    patch: () => {
      const original = Object.getOwnPropertyDescriptor(AwakeSessions.prototype, 'add')
      return replace(AwakeSessions.prototype, 'add', (add) => {
        return function (this: AwakeSessions, session) {
          const place = add.call(this, session)
          // As if there were one less of them.
          if (original !== undefined && this.size === 2) this.stop()
          return place
        }
      })
    },
  },
  {
    name: 'sessions are found by their id alone, and wake',
    breaks: ['P5', 'P9'],
    seed: 1,
    patch: () =>
      replace(SessionTable.prototype, 'findOwned', () => {
        return function (this: SessionTable, id): Session | undefined {
          return this.find(id)
        }
      }),
  },
  {
    name: 'a waking calls the factory twice',
    breaks: ['P9'],
    seed: 1,
    patch: () =>
      replace(Instance, 'create', (original) => async (runtime, host, context, id) => {
        if (context.session.restored) await original.call(Instance, runtime, host, context, id)
        return original.call(Instance, runtime, host, context, id)
      }),
  },
  {
    name: 'log level and subscriptions are not replayed',
    breaks: ['P9'],
    seed: 1,
    patch: () => replace(Replay.prototype, 'settings', () => () => Promise.resolve()),
  },
  {
    name: 'data is lost',
    breaks: ['P9'],
    seed: 1,
    patch: () => afterSleep(({ record }) => (record.data = {})),
  },
  {
    name: 'the log level is lost',
    breaks: ['P9'],
    seed: 1,
    patch: () => afterSleep(({ record }) => (record.logLevel = undefined)),
  },
  {
    name: 'numbers of requests to the client begin anew',
    breaks: ['P9'],
    seed: 1,
    patch: () => afterSleep(({ record }) => (record.serverRequests = 0)),
  },
  {
    name: 'changes of lists leak from replay',
    breaks: ['P4'],
    seed: 1,
    install: (app) => leaky.add(app),
    patch: () =>
      replace(Replay.prototype, 'sendFromInstance', (original) => {
        return function (this: Replay, transport, message, related) {
          if ('method' in message && message.method.endsWith('list_changed'))
            for (const app of leaky)
              app.manager.sessions.get(transport.sessionId ?? '')?.notify(message.method)
          return original.call(this, transport, message, related)
        }
      }),
  },
  {
    name: 'what is said to a sleeper is lost',
    breaks: ['P4'],
    seed: 1,
    patch: () =>
      replace(Session.prototype, 'notify', (original) => {
        return function (this: Session, method, params) {
          if (this.instance !== undefined) original.call(this, method, params)
        }
      }),
  },
  {
    name: 'a session that ended answers once more',
    breaks: ['P3'],
    seed: 1,
    install: ({ manager }) => {
      const handle = manager.handle.bind(manager)
      manager.handle = (exchange) => {
        const respond = exchange.respond.bind(exchange)
        exchange.respond = (status, headers, body) =>
          respond(status === 404 && exchange.method === 'POST' ? 202 : status, headers, body)
        return handle(exchange)
      }
    },
  },
  {
    name: 'now and then an answer is swallowed',
    breaks: ['P6'],
    seed: 1,
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
    name: 'a drain does not wait for calls of those that were woken',
    breaks: ['P8'],
    seed: 2,
    install: ({ manager }) => {
      const close = manager.close.bind(manager)
      manager.close = () => close()
    },
  },
]

/** Apps of the present run whose sessions leak. */
const leaky = new Set<Parameters<NonNullable<SleepFault['install']>>[0]>()
