/** Real time that can be moved forward: what would take half an hour to become due is due at once. */

import { type Clock, systemClock, type Timer } from '../../src/clock.ts'

interface Waiting {
  readonly due: number
  readonly callback: () => void
  timer: Timer
}

/** The system's clock plus an offset that only grows. Counts the timers that were made. */
export class JumpClock implements Clock {
  /** How many timers were made so far. */
  timers = 0
  readonly #waiting = new Set<Waiting>()
  #offset = 0

  now(): number {
    return systemClock.now() + this.#offset
  }

  wallTime(): number {
    return systemClock.wallTime() + this.#offset
  }

  setTimer(callback: () => void, delay: number): Timer {
    this.timers += 1
    const waiting: Waiting = { due: this.now() + delay, callback, timer: NO_TIMER }
    this.#arm(waiting)
    this.#waiting.add(waiting)
    return {
      cancel: () => {
        waiting.timer.cancel()
        this.#waiting.delete(waiting)
      },
    }
  }

  afterInput(callback: () => void, longest: number): void {
    systemClock.afterInput(callback, longest)
  }

  /** Moves time forward by so many milliseconds. */
  jump(milliseconds: number): void {
    this.#offset += milliseconds
    for (const waiting of this.#waiting) {
      waiting.timer.cancel()
      this.#arm(waiting)
    }
  }

  #arm(waiting: Waiting): void {
    waiting.timer = systemClock.setTimer(
      () => {
        this.#waiting.delete(waiting)
        waiting.callback()
      },
      Math.max(0, waiting.due - this.now()),
    )
  }
}

const NO_TIMER: Timer = { cancel() {} }
