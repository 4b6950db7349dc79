/** A clock whose time passes only when a test says so. */

import type { Clock, Timer } from '../../src/clock.ts'

/** What makes a {@link VirtualClock} other than ideal. */
export interface VirtualClockOptions {
  /** `now()` at the start; default 1,000. */
  start?: number
  /** `wallTime()` at the start; default 2026-01-01T00:00:00Z. */
  wall?: number
  /**
   * By how many milliseconds a timer of this delay fires off its time: positive late, negative early (as `setTimeout` may, by up to
   * one). Default 0. Early is ignored for delays under 2 ms, or a caller that arms again would never get on.
   */
  skew?: (delay: number) => number
  /** Orders what is due at the same time: called once per entry, lower goes first, equals in the order they were set. Default 0. */
  tieBreak?: () => number
  /** Turns of the real event loop between two entries, in which promises and `setImmediate` settle; default 2. */
  turns?: number
}

class Entry implements Timer {
  at: number
  rank: number
  readonly order: number
  /** Whether it is production code's, and so counts as pending. */
  readonly counted: boolean
  callback: (() => void) | undefined
  readonly #onCancel: (entry: Entry) => void

  constructor(
    at: number,
    rank: number,
    order: number,
    counted: boolean,
    callback: () => void,
    onCancel: (entry: Entry) => void,
  ) {
    this.at = at
    this.rank = rank
    this.order = order
    this.counted = counted
    this.callback = callback
    this.#onCancel = onCancel
  }

  cancel(): void {
    if (this.callback === undefined) return
    this.callback = undefined
    this.#onCancel(this)
  }
}

/** A {@link Clock} under the control of a test. Callbacks run one after another; between two of them the promises they made settle. */
export class VirtualClock implements Clock {
  #now: number
  #wallOffset: number
  #order = 0
  #pending = 0
  #cancelled = 0
  #heap: Entry[] = []
  #advancing = false
  readonly #skew: ((delay: number) => number) | undefined
  readonly #tieBreak: (() => number) | undefined
  readonly #turns: number

  constructor(options: VirtualClockOptions = {}) {
    this.#now = options.start ?? 1000
    this.#wallOffset = (options.wall ?? Date.UTC(2026, 0, 1)) - this.#now
    this.#skew = options.skew
    this.#tieBreak = options.tieBreak
    this.#turns = options.turns ?? 2
  }

  now(): number {
    return this.#now
  }

  wallTime(): number {
    return this.#now + this.#wallOffset
  }

  setTimer(callback: () => void, delay: number): Timer {
    const wait = Math.max(delay, 0)
    let skew = this.#skew?.(wait) ?? 0
    if (skew < 0 && wait < 2) skew = 0
    return this.#push(this.#now + Math.max(wait + skew, 0), callback, true)
  }

  afterInput(callback: () => void): void {
    // After everything that is there already, whatever the tie-break.
    this.#push(this.#now, callback, true, Number.POSITIVE_INFINITY)
  }

  /** How many timers and `afterInput` calls of production code wait. */
  get pending(): number {
    return this.#pending
  }

  /** When the next entry is due, a test's own included; undefined when none waits. */
  get nextDue(): number | undefined {
    return this.#peek()?.at
  }

  /** Steps the wall clock, as an administrator or NTP does; `now()` does not notice. */
  stepWall(milliseconds: number): void {
    this.#wallOffset += milliseconds
  }

  /** Calls `callback` in `delay` milliseconds on behalf of the test: exactly then, and without counting as {@link pending}. */
  after(delay: number, callback: () => void): Timer {
    return this.#push(this.#now + Math.max(delay, 0), callback, false)
  }

  /** Resolves in `delay` milliseconds of virtual time, on behalf of the test. */
  sleep(delay: number): Promise<void> {
    return new Promise((resolve) => void this.after(delay, resolve))
  }

  /** Lets time pass, running what comes due in order, and settles what that started. */
  async advance(milliseconds: number): Promise<void> {
    await this.advanceTo(this.#now + milliseconds)
  }

  /** Lets time pass until `time` by {@link now}. */
  async advanceTo(time: number): Promise<void> {
    if (this.#advancing) throw new Error('VirtualClock is already advancing: await the first call')
    this.#advancing = true
    try {
      await this.settle()
      while (true) {
        const entry = this.#peek()
        if (entry === undefined || entry.at > time) break
        await this.#fire(entry)
      }
      this.#now = Math.max(this.#now, time)
    } finally {
      this.#advancing = false
    }
  }

  /**
   * Lets time pass without running anything, as a blocked event loop does; what came due meanwhile is late. Timers of production code
   * fire first, then what the test did meanwhile arrives (it waited in a socket), then `afterInput`: the order of Node's event loop.
   */
  jump(milliseconds: number): void {
    const before = this.#now
    this.#now += milliseconds
    for (const entry of this.#heap) {
      // What waited already when this block began is read before what was asked to come after it.
      if (entry.counted || entry.at <= before || entry.at >= this.#now) continue
      entry.rank = entry.at - this.#now
      entry.at = this.#now
    }
    this.#compact()
  }

  /** Lets time pass until nothing waits, or until `limit` milliseconds from now have passed. Returns whether nothing waits. */
  async runUntilIdle(limit: number = Number.POSITIVE_INFINITY): Promise<boolean> {
    const end = this.#now + limit
    await this.settle()
    while (true) {
      const entry = this.#peek()
      if (entry === undefined) return true
      if (entry.at > end) return false
      await this.#fire(entry)
    }
  }

  /** Lets promises and `setImmediate` settle without any time passing. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < this.#turns; turn++) await new Promise<void>((resolve) => setImmediate(resolve))
  }

  async #fire(entry: Entry): Promise<void> {
    this.#pop()
    const callback = entry.callback
    entry.callback = undefined
    if (entry.counted) this.#pending -= 1
    this.#now = Math.max(this.#now, entry.at)
    callback?.()
    await this.settle()
  }

  #push(at: number, callback: () => void, counted: boolean, rank: number = this.#tieBreak?.() ?? 0): Entry {
    const entry = new Entry(at, rank, ++this.#order, counted, callback, this.#onCancel)
    if (counted) this.#pending += 1
    const heap = this.#heap
    let index = heap.length
    heap.push(entry)
    while (index > 0) {
      const parentIndex = (index - 1) >> 1
      const parent = heap[parentIndex]
      if (parent === undefined || !before(entry, parent)) break
      heap[index] = parent
      index = parentIndex
    }
    heap[index] = entry
    return entry
  }

  readonly #onCancel = (entry: Entry): void => {
    if (entry.counted) this.#pending -= 1
    this.#cancelled += 1
    // Cancelled entries leave when they reach the top; a heap of mostly such ones is built anew.
    if (this.#cancelled > 64 && this.#cancelled * 2 > this.#heap.length) this.#compact()
  }

  #compact(): void {
    this.#heap = this.#heap
      .filter((entry) => entry.callback !== undefined)
      .sort((a, b) => (before(a, b) ? -1 : 1))
    this.#cancelled = 0
  }

  #peek(): Entry | undefined {
    while (true) {
      const first = this.#heap[0]
      if (first === undefined || first.callback !== undefined) return first
      this.#pop()
      this.#cancelled -= 1
    }
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let index = 0
    while (true) {
      let childIndex = 2 * index + 1
      let child = heap[childIndex]
      if (child === undefined) break
      const right = heap[childIndex + 1]
      if (right !== undefined && before(right, child)) {
        child = right
        childIndex += 1
      }
      if (!before(child, last)) break
      heap[index] = child
      index = childIndex
    }
    heap[index] = last
  }
}

function before(a: Entry, b: Entry): boolean {
  if (a.at !== b.at) return a.at < b.at
  if (a.rank !== b.rank) return a.rank < b.rank
  return a.order < b.order
}
