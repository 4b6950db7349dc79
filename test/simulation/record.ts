/** What a run leaves behind: its history, what it had at stake, and the promises it broke. */

import { type Check, CHECKS, PROMISES, type Promised, type Stake } from './promises.ts'

/** A promise that was broken. */
export interface Violation {
  readonly check: Check
  readonly promise: Promised
  /** Virtual milliseconds. */
  readonly at: number
  readonly text: string
}

/** A violation in one line. */
export function describeViolation({ check, promise, text }: Violation): string {
  return `${promise} ${PROMISES[promise]} (${check}): ${text}`
}

/** The record of one run. */
export class Recorder {
  readonly lines: string[] = []
  readonly violations: Violation[] = []
  readonly stakes = new Map<Stake, number>()
  readonly #now: () => number
  readonly #keep: boolean
  #hash = 0x811c9dc5
  #seq = 0

  /** @param keep whether lines are kept, or only their hash. */
  constructor(now: () => number, keep: boolean) {
    this.#now = now
    this.#keep = keep
  }

  /** The position in the history, for what happens at the same time. */
  get seq(): number {
    return this.#seq
  }

  /** A hash of the history so far: two runs of a seed must agree. */
  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0')
  }

  /** Adds a line. Returns its position. */
  note(text: string): number {
    const line = `${this.#now().toFixed(2).padStart(10)}  ${text}`
    for (let index = 0; index < line.length; index++)
      this.#hash = Math.imul(this.#hash ^ line.charCodeAt(index), 0x01000193)
    if (this.#keep) this.lines.push(line)
    return ++this.#seq
  }

  /** Counts something that was at stake. */
  stake(what: Stake, count = 1): void {
    this.stakes.set(what, (this.stakes.get(what) ?? 0) + count)
  }

  /** Notes that a check failed. */
  violate(check: Check, text: string): void {
    const promise = CHECKS[check]
    this.violations.push({ check, promise, at: this.#now(), text })
    this.note(`!! ${promise} ${check}: ${text}`)
  }
}
