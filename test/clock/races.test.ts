/** Everything that can end a session, at the same moment, in every order: one end, one reason, and nobody left waiting (promises 3 and 6). */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import type { AppOptions, CloseReason } from '../../src/types.ts'
import type { FakeServer, FakeServerOptions } from '../support/fake-server.ts'
import { initialize, notification, rpc } from '../support/mcp-wire.ts'
import { SimApp } from '../support/sim-app.ts'
import type { SimExchange, SimLink } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { call } from '../support/wire-app.ts'

const IDLE = 1000

/** A session at the moment that everything happens in. */
class Race {
  readonly app: SimApp
  /** Answers in the order they were given, to requests that named the session. */
  readonly answered: { readonly exchange: SimExchange; readonly sentAs: number }[] = []
  /** Statuses that are right for an exchange; anything else is not. */
  readonly allowed = new Map<SimExchange, readonly number[]>()
  id = ''
  #sent = 0
  #rank = 0

  constructor(turns: number, options: AppOptions, fakeOptions: Partial<FakeServerOptions> = {}) {
    // What production code waits for has rank 0; what a test does at the same time goes before it.
    const clock = new VirtualClock({ turns, tieBreak: () => this.#rank })
    this.app = new SimApp(
      clock,
      { sessionIdleTimeout: IDLE, unusedSessionTimeout: IDLE, ...options },
      fakeOptions,
    )
  }

  get server(): FakeServer {
    return this.app.fakes[0] as FakeServer
  }

  get closed(): number {
    return this.app.closings(this.id).length
  }

  /** Notes what becomes of an exchange; `allowed` are the statuses that it may be answered with. */
  send(make: (link: SimLink) => SimExchange, allowed: readonly number[]): SimExchange {
    const sentAs = ++this.#sent
    const exchange = make({ onanswer: (exchange) => this.answered.push({ exchange, sentAs }) })
    this.allowed.set(exchange, allowed)
    return exchange
  }

  /** Does these things at `at`, in this order: `expiry` of them before whatever the clock does then, the others right after it. */
  schedule(at: number, actions: readonly Action[], expiry: number): void {
    const delay = at - this.app.clock.now()
    for (const [index, action] of actions.entries()) {
      this.#rank = -1
      this.app.clock.after(index < expiry ? delay : delay + 0.001, () => {
        this.#rank = 0
        action.run(this)
      })
    }
    this.#rank = 0
  }

  /** What is wrong after all is over. */
  async verdict(): Promise<string[]> {
    const { app } = this
    await app.clock.advance(200)
    const reasonsBefore = app.closings(this.id)
    // A call that comes while the app ends is told so.
    const stopped = !app.manager.ready
    // Everything that may still be running is given its time; then the app ends.
    let done = false
    void app.manager.close().then(() => (done = true))
    for (let turn = 0; turn < 50 && !done; turn++) await app.clock.advance(0)
    for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve))
    const wrong = app.leftovers()
    if (!done) wrong.push('close() never resolved')
    const reasons = app.closings(this.id)
    if (reasons.length !== 1) wrong.push(`the session closed ${reasons.length} times: ${reasons.join(', ')}`)
    if (reasonsBefore.length === 1 && reasonsBefore[0] !== reasons[0]) wrong.push('the reason changed')
    for (const [exchange, allowed] of this.allowed) {
      if (exchange.outcome === 'dropped') continue
      const { status } = exchange
      const refused = stopped && status === 503 && exchange.method === 'POST'
      if (!refused && (status === undefined || !allowed.includes(status)))
        wrong.push(`${exchange.method} was answered with ${status}`)
      if (exchange.outcome !== 'completed')
        wrong.push(`${exchange.method} ${status} ended ${exchange.outcome}`)
      if (status === 404 && !exchange.text.includes('"code":-32001'))
        wrong.push(`a 404 that says ${exchange.text}`)
    }
    const first = this.answered.findIndex(({ exchange }) => exchange.answeredStatus === 404)
    const afterIt = this.answered.slice(first + 1)
    const sentAs = this.answered[first]?.sentAs ?? Number.POSITIVE_INFINITY
    for (const later of afterIt) {
      if (later.sentAs > sentAs && later.exchange.answeredStatus !== 404) {
        wrong.push(`a success (${later.exchange.answeredStatus}) after a 404`)
      }
    }
    return wrong
  }
}

interface Action {
  readonly name: string
  /** The reason of a session that this ended. */
  readonly reason?: CloseReason
  run(race: Race): void
}

const REMOVE: Action = {
  name: 'DELETE',
  reason: 'deleted',
  run: (race) => void race.send(() => race.app.delete(race.id), [200, 404]),
}
const EVICT: Action = {
  name: 'eviction',
  reason: 'evicted',
  run(race) {
    const exchange = race.app.post(undefined, initialize())
    race.allowed.set(exchange, [200, 503, 504])
  },
}
const FAIL: Action = { name: 'failure', reason: 'failed', run: (race) => void race.server.close() }
const ADMIN: Action = {
  name: 'admin',
  reason: 'admin',
  run: (race) => void race.app.manager.sessions.close(race.id),
}
const SHUTDOWN: Action = {
  name: 'shutdown',
  reason: 'shutdown',
  run: (race) => void race.app.manager.close(),
}
const REQUEST: Action = {
  name: 'request',
  run: (race) => void race.send((link) => race.app.post(race.id, rpc('tools/list'), {}, link), [200, 404]),
}
const CALL: Action = {
  name: 'call',
  run: (race) =>
    void race.send((link) => race.app.post(race.id, call({ duration: 50 }), {}, link), [200, 404]),
}
const NOTIFY: Action = {
  name: 'notification',
  run: (race) =>
    void race.send((link) => race.app.post(race.id, notification('notifications/x'), {}, link), [202, 404]),
}
const REFUSED: Action = {
  name: 'refused request',
  run(race) {
    const headers = { 'mcp-protocol-version': '1999-01-01' }
    race.send((link) => race.app.post(race.id, rpc('tools/list'), headers, link), [400, 404])
  },
}
const GET: Action = {
  name: 'GET',
  // 409 is for the third newcomer to a stream that is alive.
  run: (race) => void race.send((link) => race.app.get(race.id, {}, link), [200, 404, 409]),
}
const LOSE: Action = {
  name: 'lost connections',
  run(race) {
    for (const exchange of race.app.exchanges) if (exchange.outcome === undefined) exchange.drop()
  },
}
const CANCEL: Action = {
  name: 'cancellation',
  run(race) {
    const cancelled = notification('notifications/cancelled', { requestId: 'q1' })
    race.send((link) => race.app.post(race.id, cancelled, {}, link), [202, 404])
  },
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length <= 1) return [[...items]]
  return items.flatMap((item, index) =>
    permutations([...items.slice(0, index), ...items.slice(index + 1)]).map((rest) => [item, ...rest]),
  )
}

/** An idle session, at the moment of its deadline or a little before it. */
async function atItsDeadline(
  actions: readonly Action[],
  expiry: number,
  turns: number,
  early = 0,
): Promise<Race> {
  const race = new Race(turns, { maxSessions: 1, evictableAfter: 0, responseMode: 'auto' })
  const { app } = race
  race.id = await opened(race)
  race.schedule(app.clock.now() + IDLE - early, actions, expiry)
  await app.clock.advance(IDLE + 1)
  return race
}

/** Opens a session whatever the turns of the clock. */
async function opened(race: Race): Promise<string> {
  const { app } = race
  const exchange = app.post(undefined, initialize('2025-11-25', { elicitation: {} }))
  const { headers } = await exchange.head
  const id = headers['mcp-session-id'] ?? ''
  const initialized = app.post(id, notification('notifications/initialized'))
  await initialized.ended
  // The hold goes with the exchange, a moment after its peer has the answer.
  while (app.manager.sessions.counts.active > 0) await Promise.resolve()
  return id
}

const ENDERS = [REMOVE, EVICT, FAIL, ADMIN, SHUTDOWN]

describe('an idle session at its deadline', () => {
  test.each([0, 2])(
    'every order of DELETE, eviction, failure, admin, shutdown and expiry (turns between: %i)',
    async (turns) => {
      const reasons = new Set<CloseReason>()
      for (const order of permutations(ENDERS)) {
        for (let expiry = 0; expiry <= order.length; expiry++) {
          const race = await atItsDeadline(order, expiry, turns, order.indexOf(EVICT) === 0 ? 1 : 0)
          const names = [...order.slice(0, expiry), { name: 'expiry' }, ...order.slice(expiry)].map(
            ({ name }) => name,
          )
          expect(await race.verdict(), names.join(', ')).toEqual([])
          for (const reason of race.app.closings(race.id)) reasons.add(reason)
        }
      }
      // Each of them won at least once; eviction before the deadline, since at it what is due ends first, and as idle.
      expect([...reasons].sort()).toEqual(['admin', 'deleted', 'evicted', 'failed', 'idle', 'shutdown'])
    },
  )

  test('every order of two of them, of a request that holds and of one that is refused', async () => {
    const contenders = [REQUEST, CALL, NOTIFY, REFUSED, GET]
    for (const ender of ENDERS) {
      for (const contender of contenders) {
        for (const order of permutations([ender, contender, REQUEST])) {
          for (let expiry = 0; expiry <= order.length; expiry++) {
            const race = await atItsDeadline(order, expiry, 0)
            const names = [...order.slice(0, expiry), { name: 'expiry' }, ...order.slice(expiry)].map(
              ({ name }) => name,
            )
            expect(await race.verdict(), names.join(', ')).toEqual([])
          }
        }
      }
    }
  })

  test('any of them any number of times, some in the same breath', async () => {
    const action = fc.constantFrom(...ENDERS, REQUEST, CALL, NOTIFY, REFUSED, GET, LOSE, CANCEL)
    // Actions of one group happen without a break between them.
    const groups = fc.array(fc.array(action, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 5 })
    await fc.assert(
      fc.asyncProperty(groups, fc.nat(5), fc.constantFrom(0, 1, 2), async (chosen, expiry, turns) => {
        const joined = chosen.map((group): Action => ({
          name: group.map(({ name }) => name).join(' + '),
          run(race) {
            for (const { run } of group) run(race)
          },
        }))
        const race = await atItsDeadline(joined, expiry, turns)
        expect(await race.verdict()).toEqual([])
      }),
      { numRuns: 600 },
    )
  })
})

/** A session with a call that streams, one whose connection is gone, one that will be JSON, and an open GET. */
async function atWork(
  actions: readonly Action[],
  before: number,
  turns: number,
  options: AppOptions,
): Promise<Race> {
  const race = new Race(turns, { maxSessions: 1, evictableAfter: 0, ...options })
  const { app } = race
  race.id = await opened(race)
  const at = app.clock.now() + 100
  race.send(
    (link) =>
      app.post(race.id, call({ tag: 'streams', duration: 100, progress: { count: 2, every: 20 } }), {}, link),
    [200],
  )
  const dropped = app.post(race.id, call({ tag: 'dropped', duration: 100 }))
  race.send((link) => app.get(race.id, {}, link), [200])
  race.send(
    (link) =>
      app.post(race.id, call({ tag: 'asks', duration: 100, ask: { related: true, timeout: 500 } }), {}, link),
    [200],
  )
  await app.clock.advance(60)
  dropped.drop()
  await app.clock.advance(20)
  race.send((link) => app.post(race.id, call({ tag: 'json', duration: 20 }), {}, link), [200])
  await new Promise((resolve) => setImmediate(resolve))
  race.schedule(at, actions, before)
  await app.clock.advance(21)
  return race
}

describe('a session at work', () => {
  const events = [REMOVE, FAIL, ADMIN, SHUTDOWN, LOSE, CANCEL]

  test('every order of DELETE, failure, admin, shutdown, lost connections, cancellation and the end of its calls', async () => {
    const reasons = new Set<CloseReason>()
    for (const order of permutations(events)) {
      const expiry = (order.indexOf(REMOVE) + order.indexOf(LOSE)) % (order.length + 1)
      const race = await atWork(order, expiry, 0, { responseMode: 'auto' })
      expect(await race.verdict(), order.map(({ name }) => name).join(', ')).toEqual([])
      for (const reason of race.app.closings(race.id)) reasons.add(reason)
    }
    expect([...reasons].sort()).toEqual(['admin', 'deleted', 'failed', 'shutdown'])
  })

  test('any of them any number of times, in every mode of answering, at the end of its age as well', async () => {
    const action = fc.constantFrom(...events, EVICT, REQUEST, CALL, NOTIFY, REFUSED, GET)
    const order = fc.array(action, { minLength: 1, maxLength: 6 })
    const mode = fc.constantFrom('auto' as const, 'sse' as const, 'json' as const)
    const age = fc.constantFrom(100, 120, Number.POSITIVE_INFINITY)
    await fc.assert(
      fc.asyncProperty(
        order,
        fc.nat(6),
        fc.constantFrom(0, 1, 2),
        mode,
        age,
        async (chosen, before, turns, responseMode, sessionMaxAge) => {
          const options = { responseMode, sessionMaxAge, drainTimeout: 10, detachedRequestTimeout: 40 }
          const race = await atWork(chosen, before, turns, options)
          expect(await race.verdict()).toEqual([])
        },
      ),
      { numRuns: 400 },
    )
  })
})

describe('a session that is opening', () => {
  const DROP: Action = {
    name: 'the client goes away',
    run(race) {
      for (const exchange of race.app.exchanges) exchange.drop()
    },
  }
  const FAILS: Action = {
    name: 'the server closes itself',
    run(race) {
      for (const fake of race.app.fakes) void fake.close()
    },
  }
  const ANOTHER: Action = { name: 'another initialize', run: EVICT.run }

  test('every order of its answer, its timeout, its client going away, its server closing itself, and shutdown', async () => {
    for (const initializeTimeout of [50, 1000]) {
      for (const turns of [0, 2]) {
        for (const order of permutations([DROP, FAILS, SHUTDOWN, ANOTHER])) {
          for (let length = 1; length <= order.length; length++) {
            const chosen = order.slice(0, length)
            for (const before of [0, 1, length]) {
              const race = new Race(turns, { maxSessions: 2, initializeTimeout }, { initializeAfter: 50 })
              const { app } = race
              const exchange = app.post(undefined, initialize())
              race.allowed.set(exchange, [200, 500, 503, 504])
              race.schedule(app.clock.now() + 50, chosen, before)
              await app.clock.advance(1050)
              const opened = app.events.filter(({ type }) => type === 'session.opened')
              race.id = opened[0]?.session ?? ''
              const wrong = await race.verdict()
              const names = `${initializeTimeout} ms, ${turns} turns, ${before} before: ${chosen.map(({ name }) => name).join(', ')}`
              const expected = opened.length === 0 ? ['the session closed 0 times: '] : []
              expect(wrong, names).toEqual(expected)
            }
          }
        }
      }
    }
  })
})
