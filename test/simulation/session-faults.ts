/** Deliberate faults, each small and each against one promise: the checker must find every one of them. */

import type { Clock } from '../../src/clock.ts'
import { Admission, TokenBuckets } from '../../src/session/admission.ts'
import type { Refusal } from '../../src/session/refusal.ts'
import { Hold, type HoldKind, IdleClock } from '../../src/session/idle-clock.ts'
import { PostAnswer } from '../../src/session/post-answer.ts'
import { RunningRequests } from '../../src/session/running-request.ts'
import { Session } from '../../src/session/session.ts'
import { SessionStreams } from '../../src/session/session-streams.ts'
import { SessionTable, Slot } from '../../src/session/session-table.ts'
import type { EventLog } from '../../src/stream/event-log.ts'
import { MessageStream } from '../../src/stream/message-stream.ts'
import { replace } from '../support/replace.ts'
import { SimExchange } from '../support/sim-exchange.ts'
import { authInfoOf } from './around.ts'
import { every } from './simulation.ts'
import { SLEEP_FAULTS } from './sleep-faults.ts'
import type { ManagerLike, SessionFault, World } from './world.ts'

/** A clock that differs from another in some respect. */
function clockLike(clock: Clock, changes: Partial<Clock>): Clock {
  return {
    now: () => clock.now(),
    wallTime: () => clock.wallTime(),
    setTimer: (callback, delay) => clock.setTimer(callback, delay),
    afterInput: (callback, longest) => clock.afterInput(callback, longest),
    ...changes,
  }
}

/** An event log that differs from another in some respect. */
function logLike(log: EventLog, changes: Partial<EventLog>): EventLog {
  return {
    append: (...args) => log.append(...args),
    read: (...args) => log.read(...args),
    dropStream: (...args) => log.dropStream(...args),
    dropSession: (...args) => log.dropSession(...args),
    close: () => log.close(),
    ...changes,
  }
}

/** A manager that differs from another in some respect. */
function managerLike(manager: ManagerLike, changes: Partial<ManagerLike>): ManagerLike {
  return {
    handle: (exchange) => manager.handle(exchange),
    sessions: manager.sessions,
    close: (options) => manager.close(options),
    ...changes,
  }
}

/** Changes what an exchange is answered with. */
function answering(
  manager: ManagerLike,
  change: (status: number, exchange: SimExchange) => number,
): ManagerLike {
  return managerLike(manager, {
    handle(exchange) {
      if (exchange instanceof SimExchange) {
        const respond = exchange.respond.bind(exchange)
        exchange.respond = (status, headers, body) => respond(change(status, exchange), headers, body)
      }
      return manager.handle(exchange)
    },
  })
}

/** Whose session an exchange names, where it is somebody else's. */
function foreignSession(world: World, exchange: SimExchange): ReturnType<World['models']['get']> {
  const session = world.models.get(exchange.header('mcp-session-id') ?? '')
  const sub =
    exchange.presetAuth?.extra?.['sub'] ??
    /^Bearer token-(\w+)-/.exec(exchange.header('authorization') ?? '')?.[1]
  return session !== undefined && session.principal !== sub ? session : undefined
}

/** Lets go at once of the holds of a kind that a method of the clock takes. */
function releasing(method: 'hold' | 'holdProvisionally', released: HoldKind): () => void {
  return replace(IdleClock.prototype, method, (original) => {
    return function (this: IdleClock, kind): Hold {
      const hold = original.call(this, kind)
      if (kind === released) hold.release()
      return hold
    }
  })
}

/** Changes when those who are refused as too fast are told to come back, in seconds. */
function comingBack(later: number): () => void {
  return replace(Admission.prototype, 'admit', (original) => {
    return function (this: Admission, ...args): Refusal | undefined {
      const refusal = original.apply(this, args)
      if (refusal === undefined) return undefined
      return { ...refusal, headers: { 'Retry-After': `${Number(refusal.headers?.['Retry-After']) + later}` } }
    }
  })
}

/** A fault of sleep that sessions with all their limits must show as well. */
function ofSleep(name: string, seed: number): SessionFault {
  const fault = SLEEP_FAULTS.find((one) => one.name === name)
  if (fault?.patch === undefined) throw new Error(`sleep has no fault '${name}'`)
  return { ...fault, seed }
}

/** All of them. */
export const SESSION_FAULTS: readonly SessionFault[] = [
  // P1
  {
    name: 'the clock runs one percent fast',
    seed: 1,
    breaks: ['P1'],
    clock: (clock) =>
      clockLike(clock, {
        now: () => clock.now() * 1.01,
        setTimer: (callback, delay) => clock.setTimer(callback, delay / 1.01),
      }),
  },
  {
    name: 'the idle timeout is one millisecond short',
    seed: 1,
    breaks: ['P1'],
    options: (options) => ({
      ...options,
      sessionIdleTimeout: Math.max(0.5, Number(options.sessionIdleTimeout) - 1),
    }),
  },
  {
    name: 'an exchange does not hold its session',
    seed: 1,
    breaks: ['P1'],
    patch: () => releasing('holdProvisionally', 'exchange'),
  },
  {
    name: 'a running request does not hold its session',
    seed: 3,
    breaks: ['P1'],
    patch: () => releasing('hold', 'request'),
  },
  {
    name: 'an open stream does not hold its session',
    seed: 2,
    breaks: ['P1'],
    patch: () => releasing('holdProvisionally', 'stream'),
  },
  {
    name: 'a late timer does not wait for what lies in the sockets',
    seed: 107,
    breaks: ['P1'],
    clock: (clock) => clockLike(clock, { afterInput: (callback) => callback() }),
  },
  {
    name: 'a session in use is evicted',
    seed: 2,
    breaks: ['P1'],
    patch: () => {
      const original = Object.getOwnPropertyDescriptor(SessionTable.prototype, 'activityChanged') ?? {}
      SessionTable.prototype.activityChanged = function (this: SessionTable, session: Session): void {
        const held = Object.getOwnPropertyDescriptor(IdleClock.prototype, 'busy') ?? {}
        Object.defineProperty(session.clock, 'busy', { get: () => false, configurable: true })
        Object.defineProperty(session.clock, 'held', { get: () => false, configurable: true })
        ;(original.value as (session: Session) => void).call(this, session)
        Object.defineProperty(session.clock, 'busy', held)
      }
      return () => void Object.defineProperty(SessionTable.prototype, 'activityChanged', original)
    },
  },
  {
    name: 'now and then a live session answers 404',
    seed: 9,
    breaks: ['P1'],
    manager: (manager) => {
      const now = every(25)
      return answering(manager, (status) => (status === 202 && now() ? 404 : status))
    },
  },
  ofSleep('a sleeping session ends a second early', 1),
  ofSleep('falling asleep is an end', 1),
  // P2
  ofSleep('a sleeping session ends a second late', 11),
  {
    name: 'timers are 300 ms late',
    seed: 2,
    breaks: ['P2'],
    clock: (clock) =>
      clockLike(clock, { setTimer: (callback, delay) => clock.setTimer(callback, delay + 300) }),
  },
  {
    name: 'a refused request counts as activity',
    seed: 5,
    breaks: ['P2'],
    patch: () =>
      replace(Hold.prototype, 'release', (original) => {
        return function (this: Hold): void {
          this.confirm()
          original.call(this)
        }
      }),
  },
  {
    name: "a foreign request counts as its victim's activity",
    seed: 15,
    breaks: ['P2'],
    manager: (manager, world) =>
      managerLike(manager, {
        async handle(exchange) {
          await manager.handle(exchange)
          const victim = exchange instanceof SimExchange ? foreignSession(world, exchange) : undefined
          if (victim === undefined) return
          const authInfo = authInfoOf(victim.principal, 0)
          const touch = new SimExchange(world.clock, {
            headers: {
              'mcp-session-id': victim.id,
              'content-type': 'application/json',
              ...(authInfo !== undefined && world.conditions.hook
                ? { authorization: `Bearer ${authInfo.token}` }
                : {}),
            },
            body: '{"jsonrpc":"2.0","method":"notifications/nothing"}',
            ...(authInfo === undefined ? {} : { authInfo }),
          })
          await manager.handle(touch)
        },
      }),
  },
  {
    name: 'now and then a hold is never released',
    seed: 2,
    breaks: ['P2', 'P7'],
    patch: () => {
      const now = every(40)
      return replace(Hold.prototype, 'release', (original) => {
        return function (this: Hold): void {
          if (!now()) original.call(this)
        }
      })
    },
  },
  // P3
  {
    name: 'DELETE is answered and nothing happens',
    seed: 1,
    breaks: ['P3'],
    manager: (manager) =>
      managerLike(manager, {
        handle(exchange) {
          if (exchange.method !== 'DELETE') return manager.handle(exchange)
          exchange.respond(200, {}, '')
          return Promise.resolve()
        },
      }),
  },
  {
    name: 'a session that ended answers once more',
    seed: 1,
    breaks: ['P3'],
    manager: (manager) =>
      answering(manager, (status, exchange) => (status === 404 && exchange.method === 'POST' ? 202 : status)),
  },
  {
    name: 'an unknown session is answered with 503',
    seed: 1,
    breaks: ['P3'],
    manager: (manager) => answering(manager, (status) => (status === 404 ? 503 : status)),
  },
  // P4
  {
    name: 'now and then a chunk is lost',
    seed: 1,
    breaks: ['P4', 'P6'],
    link: (_, world) => ({
      tamper: (chunk) => (chunk.includes('data: {') && tampers(world, 15) ? undefined : chunk),
    }),
  },
  {
    name: 'now and then a chunk is sent twice',
    seed: 1,
    breaks: ['P4'],
    link: (_, world) => ({
      tamper: (chunk) => (chunk.includes('data: {') && tampers(world, 15) ? chunk + chunk : chunk),
    }),
  },
  {
    name: 'the event log loses every fifth event',
    seed: 18,
    breaks: ['P4'],
    eventLog: (log) => {
      const now = every(5)
      return logLike(log, { append: (...args) => (now() ? undefined : log.append(...args)) })
    },
  },
  {
    name: 'the event log reads backwards',
    seed: 1,
    breaks: ['P4'],
    eventLog: (log) =>
      logLike(log, {
        async read(session, stream, after) {
          const page = await log.read(session, stream, after)
          const events = [...page.events]
            .reverse()
            .map((event, index) => ({ ...event, position: page.events[index]?.position ?? 0 }))
          return { ...page, events }
        },
      }),
  },
  {
    name: 'the event log reads the stream before',
    seed: 11,
    breaks: ['P4'],
    eventLog: (log) =>
      logLike(log, { read: (session, stream, after) => log.read(session, Math.max(0, stream - 1), after) }),
  },
  {
    name: 'a resume skips an event',
    seed: 1,
    breaks: ['P4'],
    patch: () =>
      replace(MessageStream.prototype, 'replayAfter', (original) => {
        return function (this: MessageStream, cursor, onGap): void {
          original.call(this, cursor + 1, onGap)
        }
      }),
  },
  {
    name: 'a resume repeats an event',
    seed: 2,
    breaks: ['P4'],
    patch: () =>
      replace(MessageStream.prototype, 'replayAfter', (original) => {
        return function (this: MessageStream, cursor, onGap): void {
          original.call(this, Math.max(0, cursor - 1), onGap)
        }
      }),
  },
  // P5
  {
    name: 'sessions are found by their id alone',
    seed: 2,
    breaks: ['P5'],
    patch: () =>
      replace(SessionTable.prototype, 'findOwned', () => {
        return function (this: SessionTable, id): Session | undefined {
          return this.find(id)
        }
      }),
  },
  {
    name: "somebody else's session is answered with 403",
    seed: 5,
    breaks: ['P5'],
    manager: (manager, world) =>
      answering(manager, (status, exchange) =>
        status === 404 &&
        foreignSession(world, exchange)?.end === undefined &&
        foreignSession(world, exchange) !== undefined
          ? 403
          : status,
      ),
  },
  {
    name: 'event ids of one session are good for another',
    seed: 68,
    breaks: ['P5'],
    patch: () =>
      replace(
        SessionStreams.prototype,
        'eventId',
        () =>
          (stream, position): string =>
            `AAAAAAAA.${stream}.${position}`,
      ),
  },
  {
    name: 'the event log mixes sessions',
    seed: 12,
    breaks: ['P5'],
    eventLog: (log) => {
      const order = new Map<string, number>()
      const key = (session: string): string => {
        if (!order.has(session)) order.set(session, order.size)
        return `bucket ${(order.get(session) ?? 0) % 2}`
      }
      return logLike(log, {
        append: (session, ...rest) => log.append(key(session), ...rest),
        read: (session, ...rest) => log.read(key(session), ...rest),
      })
    },
  },
  // P6
  {
    name: 'a cancel is answered and nothing happens',
    seed: 3,
    breaks: ['P6'],
    patch: () => replace(RunningRequests.prototype, 'newest', () => () => undefined),
  },
  {
    name: 'a cancel hits the oldest request of its id',
    seed: 19,
    breaks: ['P6'],
    patch: () =>
      replace(RunningRequests.prototype, 'newest', () => {
        return function (this: RunningRequests, id) {
          return this.all().find((request) => request.id === id)
        }
      }),
  },
  {
    name: 'now and then an answer is swallowed',
    seed: 5,
    breaks: ['P6'],
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
    name: 'the end of a session leaves its calls without an answer',
    seed: 2,
    breaks: ['P6'],
    patch: () => replace(Session.prototype, 'abort', () => () => {}),
  },
  {
    name: 'a call that lost its connection is given up at once',
    seed: 3,
    breaks: ['P6'],
    options: (options) => ({ ...options, detachedRequestTimeout: 1 }),
  },
  {
    name: 'a call that lost its connection goes on for ever',
    seed: 3,
    breaks: ['P6', 'P7'],
    patch: () => replace(Session.prototype, 'abortDetached', () => () => {}),
  },
  // P7
  {
    name: 'timers cannot be cancelled',
    seed: 1,
    breaks: ['P7'],
    clock: (clock) =>
      clockLike(clock, {
        setTimer(callback, delay) {
          clock.setTimer(callback, delay)
          return { cancel: () => {} }
        },
      }),
  },
  {
    name: 'a place in the table is never given back',
    seed: 1,
    breaks: ['P7'],
    patch: () => replace(Slot.prototype, 'release', () => () => {}),
  },
  {
    name: 'twice as many sessions are let in',
    seed: 2,
    breaks: ['P7'],
    options: (options) => ({ ...options, maxSessions: (options.maxSessions ?? 0) * 2 }),
  },
  {
    name: 'buckets never refill',
    seed: 1,
    breaks: ['P7'],
    patch: () => {
      const began = new WeakMap<TokenBuckets, number>()
      return replace(TokenBuckets.prototype, 'wait', (original) => {
        return function (this: TokenBuckets, key, now): number {
          if (!began.has(this)) began.set(this, now)
          return original.call(this, key, began.get(this) ?? now)
        }
      })
    },
  },
  {
    name: 'all principals share one bucket',
    seed: 3,
    breaks: ['P7'],
    patch: () =>
      replace(Admission.prototype, 'admit', (original) => {
        return function (this: Admission, principal, ...rest): Refusal | undefined {
          return original.call(this, principal === undefined ? undefined : 'everybody', ...rest)
        }
      }),
  },
  {
    name: 'each address of a network has a bucket',
    seed: 26,
    breaks: ['P7'],
    patch: () =>
      replace(Admission.prototype, 'admit', (original) => {
        return function (this: Admission, principal, address = '', now): Refusal | undefined {
          const groups = address.split(':').map((group) => Number.parseInt(group || '0', 16).toString(16))
          const other = address.includes('.') ? address : `${groups.slice(-4).join(':')}:1:2:3:4`
          return original.call(this, principal, other, now)
        }
      }),
  },
  {
    name: 'who is too fast is told to come back a second early',
    seed: 1,
    breaks: ['P7'],
    patch: () => comingBack(-1),
  },
  {
    name: 'who is too fast is told to come back a second late',
    seed: 1,
    breaks: ['P7'],
    patch: () => comingBack(1),
  },
  {
    name: 'who is refused as too fast pays for it',
    seed: 1,
    breaks: ['P7'],
    patch: () =>
      replace(Admission.prototype, 'admit', (original) => {
        const wait = TokenBuckets.prototype.wait
        return function (this: Admission, ...args): Refusal | undefined {
          const restore = replace(TokenBuckets.prototype, 'wait', () => {
            return function (this: TokenBuckets, key, now): number {
              const left = wait.call(this, key, now)
              if (left > 0) this.take(key, now)
              return left
            }
          })
          try {
            return original.apply(this, args)
          } finally {
            restore()
          }
        }
      }),
  },
  {
    name: 'buckets hold one token more',
    seed: 1,
    breaks: ['P7'],
    options: (options) => ({
      ...options,
      ...(options.openBurstPerPrincipal !== undefined && {
        openBurstPerPrincipal: options.openBurstPerPrincipal + 1,
      }),
    }),
  },
  {
    name: 'who is refused for a full table pays twice',
    seed: 2,
    breaks: ['P7'],
    patch: () => {
      let again = (): void => {}
      const undo = [
        replace(TokenBuckets.prototype, 'take', (original) => {
          return function (this: TokenBuckets, key, now): void {
            original.call(this, key, now)
            again = () => original.call(this, key, now)
          }
        }),
        replace(SessionTable.prototype, 'reserve', (original) => {
          return function (this: SessionTable, principal) {
            const slot = original.call(this, principal)
            if (typeof slot === 'string') again()
            return slot
          }
        }),
      ]
      return () => undo.forEach((putBack) => putBack())
    },
  },
  ofSleep('nothing sleeps', 1),
  ofSleep('an instance sleeps with a running request', 1),
  {
    name: 'events of ended sessions stay',
    seed: 1,
    breaks: ['P7'],
    eventLog: (log) => logLike(log, { dropSession: () => {} }),
  },
  // P8
  {
    name: 'a shutdown does not wait for running calls',
    seed: 7,
    breaks: ['P8'],
    manager: (manager) => managerLike(manager, { close: () => manager.close() }),
  },
  {
    name: 'sessions open while the server drains',
    seed: 1,
    breaks: ['P8'],
    manager: (manager, world) =>
      managerLike(manager, {
        async close() {
          await world.clock.sleep(world.conditions.drainTimeout)
          await manager.close()
        },
      }),
  },
  {
    name: 'a drain takes for ever',
    seed: 1,
    breaks: ['P8'],
    manager: (manager, world) =>
      managerLike(manager, {
        async close(options) {
          await manager.close(options)
          await world.clock.sleep(world.conditions.drainTimeout + 1500)
        },
      }),
  },
  {
    name: 'streams end in a drain without a retry hint',
    seed: 7,
    breaks: ['P8'],
    patch: () =>
      replace(Session.prototype, 'close', (original) => {
        return function (this: Session, reason, detail): void {
          original.call(this, reason, detail)
        }
      }),
  },
  {
    name: 'a second close does not wait for the first',
    breaks: ['P8'],
    seed: 7,
    manager: (manager) => {
      let closed = false
      return managerLike(manager, {
        close(options) {
          if (closed) return Promise.resolve()
          closed = true
          return manager.close(options)
        },
      })
    },
  },
  {
    name: 'a second close ends running calls',
    breaks: ['P1', 'P8'],
    seed: 7,
    manager: (manager, world) => {
      let closed = false
      return managerLike(manager, {
        close(options) {
          if (closed) for (const id of world.models.keys()) void manager.sessions.close(id)
          closed = true
          return manager.close(options)
        },
      })
    },
  },
  // P9
  ofSleep('a waking calls the factory twice', 1),
  ofSleep('data is lost', 1),
]

const tampered = new WeakMap<World, number>()

/** True on every `n`th call of a run. */
function tampers(world: World, n: number): boolean {
  const count = (tampered.get(world) ?? 0) + 1
  tampered.set(world, count)
  return count % n === 0
}
