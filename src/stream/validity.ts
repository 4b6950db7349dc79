/** Ends what was opened with an access token when that expires. */

import type { Clock } from '../clock.ts'
import { Deadline, type Deadlines } from '../deadlines.ts'

/** How often the wall clock is asked anew, in milliseconds: it may be set, and tokens expire by it. */
const LONGEST_WAIT = 60_000

/**
 * What is opened lives at least so long, in milliseconds: a token is taken for some seconds after it expired, since clocks differ, and its
 * client would come back at once, again and again.
 */
const LEAST = 10_000

/** Watches the wall clock for one stream: never ends it early, and at most a minute late when the clock was set meanwhile. */
export class Validity extends Deadline {
  readonly #deadlines: Deadlines
  readonly #clock: Clock
  readonly #until: number
  readonly #end: () => void

  /** `until`: wall clock, milliseconds since the Unix epoch. `end` is called once, unless {@link Validity.stop} was. */
  constructor(deadlines: Deadlines, clock: Clock, until: number, end: () => void) {
    super()
    this.#deadlines = deadlines
    this.#clock = clock
    this.#until = Math.max(until, clock.wallTime() + LEAST)
    this.#end = end
    this.#arm()
  }

  /** What was opened is over. */
  stop(): void {
    this.#deadlines.disarm(this)
  }

  /** @internal */
  override onDue(): void {
    if (this.#clock.wallTime() >= this.#until) this.#end()
    else this.#arm()
  }

  #arm(): void {
    const left = this.#until - this.#clock.wallTime()
    if (left >= LONGEST_WAIT) this.#deadlines.arm(this, LONGEST_WAIT)
    // Each has a time of its own: a list for every one of them would be of no use to another.
    else this.#deadlines.armAt(this, this.#clock.now() + Math.max(left, 0))
  }
}
