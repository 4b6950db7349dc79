/** One kind of simulation: plans from seeds, runs of them, deliberate faults, and how a failing plan becomes a small one. */

import type { KindName, Promised } from './promises.ts'
import type { Recorder, Violation } from './record.ts'
import { shrink, sizeOf } from './shrink.ts'

/** What happens in one run, as plain data made from a seed: it can be printed, replayed and shrunk. */
export interface PlanLike {
  readonly seed: number
  readonly conditions: object
  readonly clients: readonly { readonly steps: readonly object[] }[]
}

/** Something small that is made wrong on purpose, and the promises it breaks, one of which must be found broken. */
export interface DeliberateFault {
  readonly name: string
  readonly breaks: readonly [Promised, ...Promised[]]
  /** A seed that finds it: where to look first. */
  readonly seed: number
  /** Changes production code for the time of a run; the result puts it back. */
  patch?(): () => void
}

/** How a run is watched, and what is wrong in it. */
export interface RunOptions<F> {
  /** Keeps the history's lines, not only its hash. Default false. */
  readonly keepHistory?: boolean
  readonly fault?: F | undefined
}

/** How a run ended. */
export interface RunResult {
  readonly recorder: Recorder
  /** Virtual milliseconds. */
  readonly duration: number
}

/** What a kind is made of. */
export interface SimulationParts<P extends PlanLike, F extends DeliberateFault> {
  readonly name: KindName
  makePlan(seed: number): P
  run(plan: P, options: RunOptions<F>): Promise<RunResult>
  /** Conditions that change little; what a shrunk plan has where it still fails. */
  readonly plain: Partial<P['conditions']>
  readonly faults: readonly F[]
}

/** A failing run made small. */
export interface Shrunk {
  readonly plan: PlanLike
  readonly before: number
  readonly after: number
  readonly result: RunResult
}

/** A fault that so many seeds do not catch is not caught. */
export const SEEDS_PER_FAULT = 120

/** A kind. */
export class Simulation<P extends PlanLike = PlanLike, F extends DeliberateFault = DeliberateFault> {
  readonly name: KindName
  readonly faults: readonly F[]
  readonly #parts: SimulationParts<P, F>

  constructor(parts: SimulationParts<P, F>) {
    this.#parts = parts
    this.name = parts.name
    this.faults = parts.faults
  }

  /** Runs a seed. */
  run(seed: number, options: RunOptions<F> = {}): Promise<RunResult> {
    return this.#run(this.#parts.makePlan(seed), options)
  }

  /** Makes the plan of a seed smaller while a run of it still has a violation like this one. */
  async shrink(seed: number, violation: Violation, fault?: F): Promise<Shrunk> {
    const plan = this.#parts.makePlan(seed)
    const kind = kindOf(violation)
    const fails = async (candidate: P): Promise<boolean> => {
      const { recorder } = await this.#run(candidate, { fault })
      return recorder.violations.some((other) => kindOf(other) === kind)
    }
    const small = await shrink(plan, fails, this.#parts.plain)
    const result = await this.#run(small, { fault, keepHistory: true })
    return { plan: small, before: sizeOf(plan), after: sizeOf(small), result }
  }

  /** The first seed whose run breaks a promise of the fault's, and does not without the fault; first the one that did last time. */
  async catchFault(
    fault: F,
    seeds: number = SEEDS_PER_FAULT,
  ): Promise<{ seed: number; violation: Violation } | undefined> {
    const breaks = ({ recorder }: RunResult): Violation | undefined =>
      recorder.violations.find(({ promise }) => fault.breaks.includes(promise))
    for (let tries = 0; tries <= seeds; tries++) {
      const seed = tries === 0 ? fault.seed : tries
      const violation = breaks(await this.run(seed, { fault }))
      if (violation === undefined) continue
      if (breaks(await this.run(seed)) === undefined) return { seed, violation }
    }
    return undefined
  }

  /** What production code throws where nobody catches it is a broken promise as well. */
  async #run(plan: P, options: RunOptions<F>): Promise<RunResult> {
    const restore = options.fault?.patch?.()
    const uncaught: unknown[] = []
    const onUncaught = (thrown: unknown): void => void uncaught.push(thrown)
    process.on('unhandledRejection', onUncaught)
    process.on('uncaughtException', onUncaught)
    try {
      const result = await this.#parts.run(plan, options)
      // Rejections are told of after the promises of their turn.
      await new Promise((resolve) => setImmediate(resolve))
      for (const thrown of uncaught) {
        const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)
        result.recorder.violate('nobody has to catch anything', text)
      }
      return result
    } finally {
      process.off('unhandledRejection', onUncaught)
      process.off('uncaughtException', onUncaught)
      restore?.()
    }
  }
}

/** What two violations must share to be the same: the check, and the text without its numbers. */
function kindOf({ check, text }: Violation): string {
  return `${check} ${text.replaceAll(/[#a-zA-Z]?\d+(\.\d+)?/g, 'N').slice(0, 90)}`
}

/** True on every `n`th call. */
export function every(n: number): () => boolean {
  let count = 0
  return () => ++count % n === 0
}
