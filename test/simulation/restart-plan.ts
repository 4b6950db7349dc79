/** What happens in one run of crash and restart, as plain data made from a seed. */

import { Random } from './random.ts'

/** Durations in milliseconds. */
export const IDLE = 20_000
/** A call that lasts longer than its process is likely to. */
export const LONG = 8_000
/** Who comes. */
export const NAMES = ['ann', 'bob', 'cid'] as const

/** One thing that happens, to a visitor or to the process, and how long it is until the next. */
export type RestartStep = {
  /** Index in {@link NAMES}. */
  readonly visitor: number
  readonly wait: number
} & (
  | { readonly do: 'call'; readonly duration: number; readonly asks: boolean }
  /** `from`: which of the event ids it has, from the first (0) to the last (1). */
  | { readonly do: 'listen'; readonly from: number }
  | { readonly do: 'say' | 'long' | 'resume-cut' | 'delete' | 'drop' | 'crash' | 'fail-or-recover' }
  | { readonly do: 'steal'; readonly anonymous: boolean }
  | { readonly do: 'stop'; readonly drain: number }
)

/** The conditions of a run. */
export interface RestartConditions {
  /** Whether the store fails at times. */
  readonly fails: boolean
  /** The longest a store takes for anything. */
  readonly delay: number
}

/** One run. All steps are one client's, so that they stay in order when some are left out. */
export interface RestartPlan {
  readonly seed: number
  readonly conditions: RestartConditions
  readonly clients: readonly [{ readonly steps: readonly RestartStep[] }]
}

/** What a shrunk plan has where it still fails. */
export const PLAIN_RESTART: Partial<RestartConditions> = { fails: false, delay: 0 }

/** Makes the plan of a seed. */
export function makeRestartPlan(seed: number): RestartPlan {
  const random = new Random(seed)
  const fails = random.chance(0.3)
  const delay = random.pick([0, 1, 8, 60])
  const steps: RestartStep[] = []
  while (steps.length < 60) {
    const step = makeStep(random, fails)
    // What is told is told before a crash; what runs, runs into a stop.
    const next = makeNext(random, step)
    steps.push(next === undefined ? step : { ...step, wait: random.pick([0, 1, 3, 30]) })
    if (next !== undefined) steps.push(next)
  }
  return { seed, conditions: { fails, delay }, clients: [{ steps }] }
}

/** What follows at once on some steps. */
function makeNext(random: Random, { do: kind, visitor }: RestartStep): RestartStep | undefined {
  const wait = random.pick([30, 400, 4000])
  if (kind === 'delete' && random.chance(0.5)) return { do: 'crash', visitor, wait }
  if (kind === 'long' && random.chance(0.16)) return { do: 'stop', visitor, wait, drain: LONG + 1000 }
  return undefined
}

function makeStep(random: Random, fails: boolean): RestartStep {
  const at = {
    visitor: random.int(0, NAMES.length - 1),
    wait: random.weighted([
      [3, 0],
      [3, 1],
      [3, 3],
      [4, 30],
      [4, 100],
      [4, 400],
      [4, 1500],
      [2, 4000],
      [0.4, IDLE - 500],
      [0.4, IDLE + 7000],
    ]),
  }
  const kind = random.weighted([
    [10, 'call'],
    [6, 'listen'],
    [6, 'say'],
    [6, 'long'],
    [12, 'resume-cut'],
    [4, 'steal'],
    [2, 'delete'],
    [3, 'drop'],
    [4, 'crash'],
    [2, 'stop'],
    [fails ? 4 : 0, 'fail-or-recover'],
  ] as const)
  switch (kind) {
    case 'call':
      return { ...at, do: kind, duration: random.pick([0, 0, 20, 60]), asks: random.chance(0.2) }
    case 'listen':
      return { ...at, do: kind, from: random.chance(0.7) ? 1 : random.next() }
    case 'steal':
      return { ...at, do: kind, anonymous: random.chance(0.3) }
    case 'stop':
      return { ...at, do: kind, drain: random.pick([0, 0, 300]) }
    default:
      return { ...at, do: kind }
  }
}
