/** How fast sessions may be opened, computed from what was let in and what was not; nothing of the production code. */

import type { AdmissionPlan, RatePlan } from './plan.ts'

/** Who asked. Without a principal, or a network, there is no bucket of that kind. */
export interface Opener {
  readonly principal: string | undefined
  readonly network: string
}

/** Whether somebody was let in, and when that was decided. */
interface Decision {
  readonly at: number
  readonly who: Opener
  /** What it was, for people. */
  readonly text: string
  /** Undefined: let in. Else reads what the client was told, in seconds: undefined where that never reached it. */
  readonly retryAfter: (() => number | undefined) | undefined
}

/** Sums of fractions, in milliseconds. */
const ROUNDING = 0.01

/** What is wrong with one of the decisions. */
export type WrongAdmission = (
  check:
    | 'opened no faster than the rate'
    | 'refused as too fast when it is only'
    | 'told exactly when to come back',
  text: string,
) => void

/** Buckets of tokens, by the book: so many at first and at most, and one more each `1 / perSecond` seconds. */
class Buckets {
  readonly #plan: RatePlan
  readonly #tokens = new Map<string, { count: number; at: number }>()

  constructor(plan: RatePlan) {
    this.#plan = plan
  }

  /** Tokens at a time. */
  count(key: string, at: number): number {
    const { perSecond, burst } = this.#plan
    const known = this.#tokens.get(key) ?? { count: burst, at }
    return Math.min(burst, known.count + ((at - known.at) / 1000) * perSecond)
  }

  take(key: string, at: number): void {
    this.#tokens.set(key, { count: this.count(key, at) - 1, at })
  }

  /** How long until there are so many tokens again, in milliseconds. */
  wait(key: string, at: number, tokens = 1): number {
    return Math.max(0, ((tokens - this.count(key, at)) / this.#plan.perSecond) * 1000)
  }
}

/** Collects decisions, and in the end compares them with what should have been decided. */
export class AdmissionModel {
  readonly #decisions: Decision[] = []
  readonly #plan: AdmissionPlan

  constructor(plan: AdmissionPlan) {
    this.#plan = plan
  }

  /** Somebody was let in, and has used up a token, whatever becomes of the session. */
  admitted(at: number, who: Opener, text: string): void {
    this.#decisions.push({ at, who, text, retryAfter: undefined })
  }

  /** Somebody was not. */
  refused(at: number, who: Opener, text: string, retryAfter: () => number | undefined): void {
    this.#decisions.push({ at, who, text, retryAfter })
  }

  /** Looks at all of them. */
  check(wrong: WrongAdmission): void {
    const { principal, address } = this.#plan
    const buckets = [
      principal && { of: new Buckets(principal), key: (who: Opener) => who.principal },
      address && { of: new Buckets(address), key: (who: Opener) => who.network },
    ].filter((one) => one !== undefined)
    const wait = ({ at, who }: Decision, tokens?: number): number =>
      Math.max(
        0,
        ...buckets.map(({ of, key }) => {
          const name = key(who)
          return name === undefined ? 0 : of.wait(name, at, tokens)
        }),
      )
    for (let first = 0; first < this.#decisions.length;) {
      // What was decided in one moment may have been so in any order.
      const { at } = this.#decisions[first] ?? { at: 0 }
      const now = this.#decisions.slice(first).filter((decision) => decision.at === at)
      first += now.length
      const least = new Map(now.map((decision) => [decision, wait(decision)]))
      for (const { who, retryAfter } of now) {
        if (retryAfter !== undefined) continue
        for (const { of, key } of buckets) {
          const name = key(who)
          if (name !== undefined) of.take(name, at)
        }
      }
      for (const decision of now) this.#check(decision, least.get(decision) ?? 0, wait, wrong)
    }
  }

  #check(
    decision: Decision,
    least: number,
    wait: (decision: Decision, tokens?: number) => number,
    wrong: WrongAdmission,
  ): void {
    const { text, retryAfter } = decision
    if (retryAfter === undefined) {
      const early = wait(decision, 0)
      if (early > ROUNDING)
        wrong('opened no faster than the rate', `${text} was let in ${early.toFixed(2)} ms too early`)
      return
    }
    const most = wait(decision)
    if (most <= ROUNDING)
      wrong('refused as too fast when it is only', `${text} was refused as too fast, and there was a token`)
    const told = retryAfter()
    if (told === undefined || most <= ROUNDING) return
    const earliest = Math.ceil((least - ROUNDING) / 1000)
    const latest = Math.ceil((most + ROUNDING) / 1000)
    if (!(told >= earliest && told <= latest))
      wrong(
        'told exactly when to come back',
        `${text} was told to come back in ${told} s, a token is there in ${most.toFixed(2)} ms`,
      )
  }
}
