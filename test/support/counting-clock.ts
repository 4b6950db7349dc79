/** Real time, with a count of what waits: how a test sees that no timer was left behind. */

import type { Clock, Timer } from '../../src/clock.ts'

/** Real time, with a count of what waits. */
export class CountingClock implements Clock {
  readonly #clock: Clock
  #pending = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get pending(): number {
    return this.#pending
  }

  now(): number {
    return this.#clock.now()
  }

  wallTime(): number {
    return this.#clock.wallTime()
  }

  setTimer(callback: () => void, delay: number): Timer {
    this.#pending += 1
    let waiting = true
    const over = (): void => {
      if (waiting) this.#pending -= 1
      waiting = false
    }
    const timer = this.#clock.setTimer(() => {
      over()
      callback()
    }, delay)
    return {
      cancel() {
        over()
        timer.cancel()
      },
    }
  }

  afterInput(callback: () => void, longest: number): void {
    this.#pending += 1
    this.#clock.afterInput(() => {
      this.#pending -= 1
      callback()
    }, longest)
  }
}
