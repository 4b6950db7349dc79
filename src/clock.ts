/** Time as a parameter: everything that waits takes a `Clock`, and tests drive a virtual one. */

/** A pending call of {@link Clock.setTimer}. */
export interface Timer {
  /** Forgets the call; harmless when it already happened. */
  cancel(): void
}

/**
 * Where time comes from. All lifetimes are measured by `now()`, which is monotonic: a step of the wall clock changes nothing.
 */
export interface Clock {
  /** Monotonic time in milliseconds, with fractions; its origin means nothing. */
  now(): number
  /** Wall-clock time in milliseconds since the Unix epoch, for what people read and what outlives the process. */
  wallTime(): number
  /**
   * Calls `callback` once, not before `delay` milliseconds by {@link Clock.now}, where the platform allows; callers must compare with
   * `now()` and arm again when it came early. A timer never keeps the process alive.
   */
  setTimer(callback: () => void, delay: number): Timer
  /** Calls `callback` after input that already waits in sockets was read. */
  afterInput(callback: () => void): void
}

// Node's setTimeout fires at once for more than 2^31 - 1 ms: cap it, the caller compares with now() and arms again.
const LONGEST_DELAY = 2 ** 31 - 1

/** The real clock: `performance.now()`, `Date.now()`, `setTimeout` and `setImmediate`. */
export const systemClock: Clock = {
  now: () => performance.now(),
  wallTime: () => Date.now(),
  setTimer(callback, delay) {
    const handle = setTimeout(callback, Math.min(Math.max(delay, 0), LONGEST_DELAY))
    handle.unref?.()
    return { cancel: () => clearTimeout(handle) }
  },
  afterInput(callback) {
    // setImmediate runs after the poll phase, which reads what waits in sockets. A second round serves sockets accepted in the first.
    setImmediate(() => setImmediate(callback))
  },
}
