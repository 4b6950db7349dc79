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
    // setImmediate runs after the poll phase, which reads what waits in sockets; but of connections that wait to be accepted libuv takes
    // one per turn of the loop. So turns are taken until some in a row had nothing to do.
    const started = performance.now()
    let last = started
    let quiet = 0
    const turn = (): void => {
      const now = performance.now()
      quiet = now - last < QUIET_TURN ? quiet + 1 : 0
      last = now
      if (quiet >= QUIET_TURNS || now - started >= LONGEST_WAIT) callback()
      else setImmediate(turn)
    }
    setImmediate(turn)
  },
}

/** A turn of the event loop that is shorter did nothing, in milliseconds: accepting a connection alone takes longer. */
const QUIET_TURN = 0.04

/** So many quiet turns in a row mean that nothing waits. */
const QUIET_TURNS = 8

/** A loop that is always busy must not put off what is due for longer than this, in milliseconds. */
const LONGEST_WAIT = 200
