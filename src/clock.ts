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
  /**
   * Calls `callback` after input that already waits in sockets was read, connections that wait to be accepted included; at the latest
   * after about `longest` milliseconds, for a loop that never has nothing to do.
   */
  afterInput(callback: () => void, longest: number): void
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
  afterInput(callback, longest) {
    // setImmediate runs after the poll phase, which reads what waits in sockets; but of connections that wait to be accepted libuv takes
    // one per turn of the loop. So turns are taken until two in a row brought nothing.
    const started = performance.now()
    let events = -1
    let quiet = 0
    const turn = (): void => {
      const seen = eventsSoFar()
      quiet = seen === events ? quiet + 1 : 0
      events = seen
      if (quiet >= QUIET_TURNS || performance.now() - started >= longest) callback()
      else setImmediate(turn)
    }
    setImmediate(turn)
  },
}

/** So many turns without an event mean that nothing waits. */
const QUIET_TURNS = 2

/** Events that the event loop has handled; always the same where the platform does not count them (Node before 20.18 and 22.8, Bun, Deno). */
function eventsSoFar(): number {
  const timing = performance.nodeTiming as { uvMetricsInfo?: { events: number } } | undefined
  return timing?.uvMetricsInfo?.events ?? 0
}
