/** Looks for a seed that finds a deliberate fault. */

import type { DeliberateFault } from './faults.ts'
import type { Violation } from './record.ts'
import { simulateSeed } from './simulate.ts'

/** A fault that so many seeds do not catch is not caught. */
export const SEEDS_PER_FAULT = 120

/** The first seed whose run breaks a promise of the fault's, and does not without the fault. */
export async function catchFault(
  fault: DeliberateFault,
  from: number,
  seeds: number = SEEDS_PER_FAULT,
): Promise<{ seed: number; violation: Violation } | undefined> {
  const breaks = (violations: readonly Violation[]): Violation | undefined =>
    violations.find(({ promise }) => fault.breaks.includes(promise))
  for (let seed = from; seed < from + seeds; seed++) {
    const { recorder } = await simulateSeed(seed, { fault })
    const violation = breaks(recorder.violations)
    if (violation === undefined) continue
    const healthy = await simulateSeed(seed)
    if (breaks(healthy.recorder.violations) === undefined) return { seed, violation }
  }
  return undefined
}
