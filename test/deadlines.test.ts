/** Deadlines against the plainest model there is: a set of due times. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import type { Clock } from '../src/clock.ts'
import { DeadlineCall, Deadlines } from '../src/deadlines.ts'
import { VirtualClock } from './support/virtual-clock.ts'

/** One step of a generated history. `then` is what the deadline does when it comes due. */
type Step =
  | { do: 'arm'; which: number; duration: number; then: number }
  | { do: 'armAt'; which: number; offset: number; then: number }
  | { do: 'disarm'; which: number }
  | { do: 'advance'; by: number }
  | { do: 'runDue' }

const COUNT = 12

const which = fc.nat(COUNT - 1)
/** Below 8: re-arms itself once; below 12: disarms its neighbor; 12: throws; else nothing. */
const then = fc.nat(20)
// Few durations share lists; many different ones overflow into the heap.
const duration = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(0, 1, 5, 25, 1000) },
  { weight: 3, arbitrary: fc.double({ min: 0, max: 2000, noNaN: true }) },
  { weight: 1, arbitrary: fc.constant(Number.POSITIVE_INFINITY) },
)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('arm' as const), which, duration, then }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('armAt' as const),
      which,
      offset: fc.integer({ min: -10, max: 1500 }),
      then,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('disarm' as const), which }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('advance' as const),
      by: fc.double({ min: 0, max: 1200, noNaN: true }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('runDue' as const) }) },
)

class Thrown extends Error {}

/** Runs a history on both and compares them at every turn. `latest` is how late a deadline may fire, in milliseconds. */
async function compare(
  clock: VirtualClock,
  steps: readonly Step[],
  latest: number,
  distinct: number,
): Promise<void> {
  const thrown: unknown[] = []
  const expectedThrows: number[] = []
  const deadlines = new Deadlines(clock, (error) => thrown.push(error))
  /** The model: when each armed deadline is due, since when that could be known, and what it does then. */
  const model = new Map<number, { due: number; known: number; then: number }>()
  // Lists that stay for good leave no room for further ones: the rest of the durations go to the heap.
  const fillers = Array.from({ length: distinct }, () => new DeadlineCall(() => {}))
  for (const [index, filler] of fillers.entries()) {
    deadlines.arm(filler, 100_000 + index)
    deadlines.disarm(filler)
  }
  const all = Array.from({ length: COUNT }, (_, index) => new DeadlineCall(() => fired(index)))
  const at = (index: number): DeadlineCall => all[index] as DeadlineCall
  const arm = (index: number, after: number, then: number): void => {
    deadlines.arm(at(index), after)
    if (after === Number.POSITIVE_INFINITY) model.delete(index)
    else model.set(index, { due: clock.now() + after, known: clock.now() + after, then })
  }
  function fired(index: number): void {
    const entry = model.get(index)
    if (entry === undefined) throw new Error(`${index} fired and was not armed`)
    model.delete(index)
    expect(at(index).armed).toBe(false)
    expect(clock.now(), 'never early').toBeGreaterThanOrEqual(entry.due)
    expect(clock.now() - entry.known, 'not late').toBeLessThanOrEqual(latest)
    for (const other of model.values())
      expect(other.due, 'the earliest first').toBeGreaterThanOrEqual(entry.due)
    if (entry.then < 8) arm(index, 1 + entry.then, 20)
    else if (entry.then < 12) {
      const neighbor = (index + 1) % COUNT
      deadlines.disarm(at(neighbor))
      model.delete(neighbor)
    } else if (entry.then === 12) {
      expectedThrows.push(index)
      throw new Thrown()
    }
  }
  const agree = (): void => {
    expect(deadlines.size).toBe(model.size)
    for (let index = 0; index < COUNT; index++) expect(at(index).armed).toBe(model.has(index))
    // One timer however many deadlines, and none without a deadline.
    expect(clock.pending).toBe(model.size === 0 ? 0 : 1)
    // Late timers and afterInput may still be on their way; none is overdue by more than that.
    for (const { known } of model.values()) expect(clock.now() - known).toBeLessThanOrEqual(latest)
  }
  for (const step of steps) {
    switch (step.do) {
      case 'arm':
        arm(step.which, step.duration, step.then)
        break
      case 'armAt':
        deadlines.armAt(at(step.which), clock.now() + step.offset)
        model.set(step.which, {
          due: clock.now() + step.offset,
          known: clock.now() + Math.max(step.offset, 0),
          then: step.then,
        })
        break
      case 'disarm':
        deadlines.disarm(at(step.which))
        model.delete(step.which)
        break
      case 'advance':
        await clock.advance(step.by)
        break
      case 'runDue':
        deadlines.runDue()
        break
    }
    agree()
  }
  await clock.advance(10_000)
  expect(model.size).toBe(0)
  agree()
  expect(thrown.every((error) => error instanceof Thrown)).toBe(true)
  expect(thrown).toHaveLength(expectedThrows.length)
}

const steps = fc.array(step, { maxLength: 60 })

describe('Deadlines, as a plain model', () => {
  test('fire exactly when they are due on an ideal clock', async () => {
    await fc.assert(
      fc.asyncProperty(steps, (history) => compare(new VirtualClock({ turns: 0 }), history, 0, 0)),
      { numRuns: 150 },
    )
  })

  test('and so where the lists are used up and all else is in the heap', async () => {
    await fc.assert(
      fc.asyncProperty(steps, (history) => compare(new VirtualClock({ turns: 0 }), history, 0, 64)),
      { numRuns: 150 },
    )
  })

  test('never early, and not later than the timer, where timers come early and late', async () => {
    await fc.assert(
      fc.asyncProperty(
        steps,
        fc.infiniteStream(fc.double({ min: -1, max: 20, noNaN: true })),
        (history, skews) => {
          const clock = new VirtualClock({ turns: 0, skew: () => skews.next().value ?? 0 })
          // An early timer is armed again, and the second may be late.
          return compare(clock, history, 21, 0)
        },
      ),
      { numRuns: 150 },
    )
  })
})

/** A clock that tells of its turns: work between two of them is one slice. */
class SlicedClock implements Clock {
  slices = 0
  readonly #clock: VirtualClock

  constructor(clock: VirtualClock) {
    this.#clock = clock
  }

  now(): number {
    return this.#clock.now()
  }

  wallTime(): number {
    return this.#clock.wallTime()
  }

  setTimer(callback: () => void, delay: number): ReturnType<Clock['setTimer']> {
    return this.#clock.setTimer(() => {
      this.slices += 1
      callback()
    }, delay)
  }

  afterInput(callback: () => void): void {
    this.#clock.afterInput(() => {
      this.slices += 1
      callback()
    })
  }
}

const fail = (thrown: unknown): never => {
  throw thrown
}

/** What a request in a socket may put off, such as the end of a session. */
class YieldingCall extends DeadlineCall {
  override get yieldsToInput(): boolean {
    return true
  }
}

describe('Deadlines and a busy event loop', () => {
  test('waiting input is read before what yields to it', async () => {
    const clock = new VirtualClock()
    const deadlines = new Deadlines(clock, fail)
    const fired: string[] = []
    const saved = new YieldingCall(() => fired.push('saved'))
    const lost = new YieldingCall(() => fired.push('lost'))
    deadlines.arm(saved, 1000)
    deadlines.arm(lost, 1000)
    // The input came in time and waits in a socket, because the event loop is blocked until long after the deadline.
    clock.after(999, () => deadlines.disarm(saved))
    clock.jump(3000)
    await clock.settle()
    await clock.advance(0)
    expect(fired).toEqual(['lost'])
  })

  test('what is armed while input is read counts with the rest', async () => {
    const clock = new VirtualClock()
    const deadlines = new Deadlines(clock, fail)
    const fired: string[] = []
    deadlines.arm(new YieldingCall(() => fired.push('first')), 100)
    const second = new YieldingCall(() => fired.push('second'))
    clock.after(50, () => deadlines.arm(second, 10))
    clock.jump(1000)
    await clock.advance(0)
    expect(fired).toEqual(['first'])
    await clock.advance(10)
    expect(fired).toEqual(['first', 'second'])
    expect(clock.pending).toBe(0)
  })

  test('a thousand deadlines at once are worked off in slices, each under 10 ms, and none is forgotten', async () => {
    const virtual = new VirtualClock()
    const clock = new SlicedClock(virtual)
    const deadlines = new Deadlines(clock, fail)
    const perSlice = new Map<number, number>()
    let fired = 0
    for (let index = 0; index < 1000; index++) {
      const deadline = new DeadlineCall(() => {
        fired += 1
        // Each costs 0.1 ms of work.
        virtual.jump(0.1)
        perSlice.set(clock.slices, (perSlice.get(clock.slices) ?? 0) + 0.1)
      })
      deadlines.arm(deadline, 500)
    }
    await virtual.advance(500)
    await virtual.advance(200)
    expect(fired).toBe(1000)
    expect(perSlice.size).toBeGreaterThanOrEqual(10)
    expect(Math.max(...perSlice.values())).toBeLessThan(10)
    expect(virtual.pending).toBe(0)
  })

  test('runDue works off what is due, and nothing while input is awaited', async () => {
    const clock = new VirtualClock()
    const deadlines = new Deadlines(clock, fail)
    const fired: string[] = []
    deadlines.arm(new DeadlineCall(() => fired.push('a')), 10)
    deadlines.arm(new DeadlineCall(() => fired.push('b')), 20)
    clock.jump(15)
    deadlines.runDue()
    expect(fired).toEqual(['a'])
    await clock.advance(5)
    expect(fired).toEqual(['a', 'b'])
    expect(clock.pending).toBe(0)
  })

  test('a deadline beyond what a timer can wait is armed again and again', async () => {
    const clock = new VirtualClock()
    const longest = 2 ** 31 - 1
    // What the platform can do: no delay is longer, whatever was asked.
    const setTimer = clock.setTimer.bind(clock)
    clock.setTimer = (callback, delay) => setTimer(callback, Math.min(delay, longest))
    const deadlines = new Deadlines(clock, fail)
    const fired: number[] = []
    const start = clock.now()
    deadlines.arm(new DeadlineCall(() => fired.push(clock.now() - start)), 3 * longest + 7)
    await clock.advance(3 * longest + 6)
    expect(fired).toEqual([])
    await clock.advance(1)
    expect(fired).toEqual([3 * longest + 7])
  })
})
