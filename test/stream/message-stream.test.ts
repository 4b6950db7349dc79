/** Promise 4 at its root: whatever the log and the connections do, each event arrives once, in order, without a silent gap. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { Deadlines } from '../../src/deadlines.ts'
import { IdleClock } from '../../src/session/idle-clock.ts'
import type { EventLog } from '../../src/stream/event-log.ts'
import { MemoryEventLog } from '../../src/stream/memory-event-log.ts'
import { MessageStream } from '../../src/stream/message-stream.ts'
import { SseConnection } from '../../src/stream/sse-connection.ts'
import type { StreamContext } from '../../src/stream/stream-context.ts'
import { deferred } from '../support/deferred.ts'
import { SimExchange, type SimEvent } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { ManualLog } from './manual-log.ts'

const STREAM = 1

/** The id of the one call whose answer ends the stream. */
const CALL = 'call'

/** A stream, its log, and a client that keeps what it got and comes back for more. */
class Bench {
  readonly clock = new VirtualClock({ turns: 0 })
  readonly failures: unknown[] = []
  readonly stream: MessageStream
  /** What the client has, in the order it came; without priming events. */
  readonly received: SimEvent[] = []
  /** Checked for every event, as it arrives. */
  onreceived: ((event: SimEvent) => void) | undefined
  gaps = 0
  sent = 0
  answered = false
  exchange: SimExchange | undefined
  readonly exchanges: SimExchange[] = []
  /** The last event id the client got, priming included. */
  lastId: string | undefined
  /** The client left something unread on a connection that is gone: only its cursor knows. */
  missedUnread = false
  readonly #context: StreamContext
  readonly #holds: IdleClock
  opened = 0
  closed = 0

  constructor(eventLog: EventLog) {
    const deadlines = new Deadlines(this.clock, (thrown) => {
      throw thrown
    })
    this.#holds = new IdleClock(deadlines, {
      idleTimeout: () => Number.POSITIVE_INFINITY,
      onBusy() {},
      onIdle() {},
      onExpired() {},
    })
    let primings = 0
    this.#context = {
      deadlines,
      clock: this.clock,
      options: {
        retryInterval: 3000,
        keepAliveInterval: Number.POSITIVE_INFINITY,
        streamMaxAge: Number.POSITIVE_INFINITY,
        unsentTimeout: Number.POSITIVE_INFINITY,
        maxStreamBuffer: 2 ** 20,
      },
      taken() {},
      nextPriming: () => ++primings,
      now: () => this.clock.now(),
      eventLog,
      logKey: 'session',
      primes: true,
      eventId: (stream, position) => `${stream}.${position}`,
      connectionOpened: () => (this.opened += 1),
      connectionClosed: () => (this.closed += 1),
      logFailed: (thrown) => this.failures.push(thrown),
    }
    this.stream = new MessageStream(this.#context, STREAM)
  }

  /** Whether the session would be held. */
  get busy(): boolean {
    return this.#holds.busy
  }

  send(): void {
    if (this.answered) return
    this.sent += 1
    this.stream.send(
      JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params: { n: this.sent } }),
    )
  }

  answer(): void {
    if (this.answered) return
    this.answered = true
    this.sent += 1
    this.stream.send(JSON.stringify({ jsonrpc: '2.0', id: CALL, result: { n: this.sent } }), {
      answer: CALL,
      last: true,
    })
  }

  /** The connection breaks. */
  cut(): void {
    const { exchange } = this
    if (exchange === undefined) return
    if (exchange.unsentBytes > 0) this.missedUnread = true
    exchange.drop()
    this.exchange = undefined
  }

  /** A client with a cursor comes back; whoever had the stream loses it. Returns false when there is nothing left for it. */
  resume(): boolean {
    const cursor = cursorOf(this.lastId)
    const outcome = this.stream.outcome(cursor)
    if (outcome === 'unknown') throw new Error(`the stream does not know its own cursor ${cursor}`)
    if (outcome === 'nothing-left') return false
    this.missedUnread = false
    this.#attach(cursor)
    this.stream.replayAfter(cursor, (write) => {
      this.gaps += 1
      write(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' }))
    })
    return true
  }

  /** A client without a cursor opens the stream, as a GET does: it gets what no connection took. */
  open(): void {
    if (this.missedUnread || this.stream.finished || (this.exchange?.unsentBytes ?? 0) > 0) return
    // Written to a connection that was cut, before anyone could know: only a cursor tells that it did not arrive.
    if (this.stream.taken > Math.max(0, ...this.positions)) return
    this.#attach(this.stream.taken)
    this.stream.replayUntaken()
  }

  #attach(cursor: number): void {
    if ((this.exchange?.unsentBytes ?? 0) > 0) this.missedUnread = true
    const exchange = new SimExchange(this.clock)
    this.exchange = exchange
    this.exchanges.push(exchange)
    exchange.onevent = (event) => {
      if (this.exchange !== exchange) {
        // Only the head of one that never got to write anything.
        if (event.data !== '') throw new Error('a message on a connection that was replaced')
        return
      }
      if (event.id !== undefined) this.lastId = event.id
      if (event.data === '') return
      this.received.push(event)
      this.onreceived?.(event)
    }
    const connection: SseConnection = new SseConnection(
      this.#context,
      { beat: () => SseConnection.comment, connectionGone: (gone) => void this.stream.detach(gone) },
      exchange,
      this.#holds.hold('stream'),
      STREAM,
      'resume',
      false,
    )
    this.stream.prime(connection, cursor)
    this.stream.attach(connection)
  }

  /** Positions the client has. */
  get positions(): number[] {
    return this.received.filter(({ id }) => id !== undefined).map(({ id }) => cursorOf(id))
  }
}

function cursorOf(id: string | undefined): number {
  return Number(id?.split('.')[1] ?? 0)
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index + 1)
}

async function microtasks(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await Promise.resolve()
}

type Action =
  | 'send'
  | 'answer'
  | 'cut'
  | 'stopReading'
  | 'resume'
  | 'open'
  | 'commit'
  | 'acknowledge'
  | 'look'
  | 'reply'
  | 'failAppend'
  | 'trim'
  | 'failRead'

interface Step {
  readonly action: Action
  readonly which: number
  /** How far promises get before the next step. */
  readonly turns: number
}

function history(weights: Partial<Record<Action, number>>): fc.Arbitrary<Step[]> {
  const step = fc.record({
    action: fc.oneof(
      ...(Object.entries(weights) as [Action, number][]).map(([action, weight]) => ({
        weight,
        arbitrary: fc.constant(action),
      })),
    ),
    which: fc.nat(5),
    turns: fc.constantFrom(0, 0, 1, 2, 8),
  })
  return fc.array(step, { maxLength: 80 })
}

const CLIENT = { send: 8, answer: 0.3, cut: 2, stopReading: 0.5, resume: 3, open: 2 } as const
const LOG = { commit: 8, acknowledge: 8, look: 4, reply: 4 } as const

/** Weights of fast-check are whole numbers. */
function scaled(weights: Partial<Record<Action, number>>): Partial<Record<Action, number>> {
  return Object.fromEntries(Object.entries(weights).map(([action, weight]) => [action, weight * 10]))
}

async function play(
  bench: Bench,
  log: ManualLog | undefined,
  steps: readonly Step[],
  gone: Set<number>,
): Promise<void> {
  for (const { action, which, turns } of steps) {
    switch (action) {
      case 'send':
        bench.send()
        break
      case 'answer':
        bench.answer()
        break
      case 'cut':
        bench.cut()
        break
      case 'stopReading':
        bench.exchange?.stopReading()
        break
      case 'resume':
        bench.resume()
        break
      case 'open':
        bench.open()
        break
      case 'commit':
        log?.commit()
        break
      case 'acknowledge':
        log?.acknowledge(which)
        break
      case 'look':
        log?.look(which)
        break
      case 'reply':
        log?.answer(which)
        break
      case 'failAppend': {
        const position = log?.failAppend()
        if (position !== undefined) gone.add(position)
        break
      }
      case 'trim': {
        const position = log?.trim()
        if (position !== undefined) gone.add(position)
        break
      }
      case 'failRead':
        log?.failRead(which)
        break
    }
    await microtasks(turns)
  }
}

/** The log catches up, and the client comes back until it has what there is. */
async function settle(bench: Bench, log: ManualLog | undefined): Promise<void> {
  for (let round = 0; round < 10; round++) {
    while (log !== undefined && log.waiting > 0) {
      log.commit()
      log.acknowledge(0)
      log.answer(0)
      await microtasks(12)
    }
    await microtasks(12)
    if (
      bench.exchange !== undefined &&
      bench.exchange.outcome === undefined &&
      bench.exchange.unsentBytes === 0 &&
      !bench.stream.finished
    )
      return
    if (
      bench.exchange?.outcome === 'completed' &&
      bench.stream.outcome(cursorOf(bench.lastId)) === 'nothing-left'
    )
      return
    bench.cut()
    await microtasks(4)
    if (!bench.resume()) return
  }
  throw new Error('the client comes back for ever')
}

async function leavesNothing(bench: Bench): Promise<void> {
  for (const exchange of bench.exchanges) exchange.drop()
  bench.stream.finish()
  await microtasks(12)
  expect(bench.stream.connection).toBeUndefined()
  expect(bench.closed).toBe(bench.opened)
  expect(bench.busy).toBe(false)
  expect(bench.clock.pending).toBe(0)
}

describe('every event once, in order, without a gap (promise 4)', () => {
  test('with a log that answers at once', async () => {
    await fc.assert(
      fc.asyncProperty(history(scaled(CLIENT)), async (steps) => {
        const clock = new VirtualClock()
        const unbounded = {
          maxBytes: 2 ** 30,
          maxEvents: 2 ** 30,
          maxAge: Number.POSITIVE_INFINITY,
          maxTotalBytes: 2 ** 30,
        }
        const bench = new Bench(new MemoryEventLog(clock, unbounded))
        await play(bench, undefined, steps, new Set())
        await settle(bench, undefined)
        expect(bench.positions).toEqual(upTo(bench.sent))
        expect(bench.gaps).toBe(0)
        expect(bench.failures).toEqual([])
        await leavesNothing(bench)
      }),
      { numRuns: 500 },
    )
  })

  test('with a log that answers later, in whatever order', async () => {
    await fc.assert(
      fc.asyncProperty(history(scaled({ ...CLIENT, ...LOG })), async (steps) => {
        const log = new ManualLog()
        const bench = new Bench(log)
        bench.onreceived = ({ id }) => {
          expect(log.has(STREAM, cursorOf(id)), 'a client holds no cursor that the log does not know').toBe(
            true,
          )
        }
        await play(bench, log, steps, new Set())
        await settle(bench, log)
        expect(bench.positions).toEqual(upTo(bench.sent))
        expect(bench.gaps).toBe(0)
        expect(bench.failures).toEqual([])
        await leavesNothing(bench)
      }),
      { numRuns: 1000 },
    )
  })

  test('with a log whose reads fail: the client is cut and comes back, and misses nothing', async () => {
    await fc.assert(
      fc.asyncProperty(history(scaled({ ...CLIENT, ...LOG, failRead: 2 })), async (steps) => {
        const log = new ManualLog()
        const bench = new Bench(log)
        await play(bench, log, steps, new Set())
        await settle(bench, log)
        expect(bench.positions).toEqual(upTo(bench.sent))
        await leavesNothing(bench)
      }),
      { numRuns: 500 },
    )
  })

  test.each(['failAppend', 'trim'] as const)(
    'with a log that loses events (%s): what it lost may be missed, announced; the rest is not, and a call is answered',
    async (loss) => {
      // `open` is left out: a client without a cursor does not know that it missed anything.
      const actions = history(scaled({ ...CLIENT, open: 0, answer: 1, ...LOG, [loss]: 1 }))
      await fc.assert(
        fc.asyncProperty(actions, async (steps) => {
          const log = new ManualLog()
          const bench = new Bench(log)
          const gone = new Set<number>()
          await play(bench, log, steps, gone)
          bench.answer()
          await settle(bench, log)
          const { positions } = bench
          expect(positions, 'in order, none twice').toEqual([...new Set(positions)].sort((a, b) => a - b))
          const missed = upTo(bench.sent).filter((position) => !positions.includes(position))
          expect(missed.filter((position) => !gone.has(position))).toEqual([])
          if (missed.length > 0) expect(bench.gaps).toBeGreaterThan(0)
          const messages = bench.received.map(({ data }) => JSON.parse(data) as Record<string, unknown>)
          const answers = messages.filter(({ id }) => id === CALL)
          expect(answers).toHaveLength(1)
          if (!gone.has(bench.sent)) expect(answers[0]).toHaveProperty('result')
          await leavesNothing(bench)
        }),
        { numRuns: 500 },
      )
    },
  )

  test('an event larger than the log is a gap for who missed it; what stood before it is not', async () => {
    const limits = { maxBytes: 1000, maxEvents: 100, maxAge: Number.POSITIVE_INFINITY, maxTotalBytes: 10_000 }
    const bench = new Bench(new MemoryEventLog(new VirtualClock(), limits))
    bench.send()
    bench.stream.send(JSON.stringify({ large: 'x'.repeat(1000) }))
    bench.sent += 1
    bench.send()
    bench.answer()
    await settle(bench, undefined)
    expect(bench.positions).toEqual([1, 3, 4])
    expect(bench.gaps).toBe(1)
    await leavesNothing(bench)
  })

  test('who comes back while the log is behind gets the rest on that connection, though one before it waited for the same', async () => {
    const log = new ManualLog()
    const bench = new Bench(log)
    const logged = async (): Promise<void> => {
      log.commit()
      log.acknowledge(0)
      await microtasks(12)
    }
    bench.open()
    bench.send()
    await logged()
    bench.cut()
    bench.send()
    bench.answer()
    // Has all that the log has, and is to end after what it has not.
    bench.resume()
    bench.cut()
    await logged()
    bench.resume()
    await logged()
    log.answer(0)
    await microtasks(12)
    log.answer(0)
    await microtasks(12)
    expect([bench.positions, bench.exchange?.outcome]).toEqual([[1, 2, 3], 'completed'])
    await leavesNothing(bench)
  })

  test('a connection that is to end before a slow log knows its stream ends with a cursor to come back with', async () => {
    const known = deferred()
    const log = Object.assign(new ManualLog(), { openStream: () => known.promise })
    const bench = new Bench(log)
    bench.stream.open([CALL])
    bench.open()
    bench.stream.endConnection(100)
    await microtasks(12)
    known.resolve()
    await microtasks(12)
    expect([bench.lastId, bench.exchange?.outcome]).toEqual([expect.stringMatching(/^1\.0/), 'completed'])
    await leavesNothing(bench)
  })
})
