/** What happens in one run of sleep and wake, as plain data made from a seed. */

import { Random } from './random.ts'

/** A call of the tool. */
export interface SleepCall {
  readonly duration: number
  /** A request to the client at its start; `related` goes on the call's own stream. */
  readonly ask: 'none' | 'related' | 'unrelated'
}

/** One thing that a client does, after so many milliseconds. */
export type SleepStep = { readonly wait: number } & (
  | { readonly do: 'call'; readonly call: SleepCall }
  | { readonly do: 'burst'; readonly calls: readonly SleepCall[] }
  | { readonly do: 'get' | 'drop' | 'ping' | 'notify' }
  | { readonly do: 'level'; readonly level: string }
  | { readonly do: 'subscribe'; readonly uri: string }
  /** On another client's session. */
  | { readonly do: 'steal'; readonly victim: number; readonly method: 'POST' | 'GET' | 'DELETE' }
)

/** One client with one session. */
export interface SleepClient {
  readonly name: string
  readonly begins: number
  readonly deletes: boolean
  /** How long the call runs that it makes when the app is about to close; undefined: none. */
  readonly lastCall: number | undefined
  readonly steps: readonly SleepStep[]
}

/** The conditions of a run; durations in milliseconds. */
export interface SleepConditions {
  readonly sleepAfter: number
  readonly maxAwake: number
  readonly sessionIdleTimeout: number
  /** Whether the author has `onSleep` hooks, which take a while. */
  readonly hooks: boolean
  /** How often the factory fails, or takes too long, when a session is woken. */
  readonly failing: number
  /** How long running calls are given in the end. */
  readonly drain: number
}

/** One run. */
export interface SleepPlan {
  readonly seed: number
  readonly conditions: SleepConditions
  readonly clients: readonly SleepClient[]
}

/** What a shrunk plan has where it still fails. */
export const PLAIN_SLEEP: Partial<SleepConditions> = {
  hooks: false,
  failing: 0,
  maxAwake: Number.POSITIVE_INFINITY,
  drain: 0,
}

/** Makes the plan of a seed. */
export function makeSleepPlan(seed: number): SleepPlan {
  const random = new Random(seed)
  const conditions: SleepConditions = {
    sleepAfter: random.pick([1, 20, 200, 1000]),
    maxAwake: random.pick([1, 2, 3, Number.POSITIVE_INFINITY]),
    sessionIdleTimeout: random.pick([5000, 60_000]),
    hooks: random.chance(0.3),
    failing: random.pick([0, 0, 0.15, 0.4]),
    drain: random.pick([0, 2000]),
  }
  const count = random.int(2, 5)
  const clients = Array.from({ length: count }, (_, index): SleepClient => ({
    name: random.pick(['ann', 'bob']) + index,
    begins: random.int(0, 100),
    deletes: random.chance(0.3),
    lastCall: random.chance(0.8) ? random.pick([5, 100, 1500]) : undefined,
    steps: Array.from({ length: random.int(8, 24) }, () => makeStep(random, count)),
  }))
  return { seed, conditions, clients }
}

function makeCall(random: Random): SleepCall {
  return {
    duration: random.pick([0, 0, 5, 100, 1500]),
    ask: random.weighted([
      [8, 'none'],
      [1.4, 'related'],
      [0.6, 'unrelated'],
    ]),
  }
}

function makeStep(random: Random, clients: number): SleepStep {
  const wait = random.pick([0, 1, 19, 20, 21, 200, 201, 1000, 1100])
  const kind = random.weighted([
    [6, 'call'],
    [2, 'burst'],
    [3, 'get'],
    [1, 'drop'],
    [2, 'ping'],
    [2, 'level'],
    [2, 'subscribe'],
    [4, 'notify'],
    [2, 'steal'],
  ] as const)
  switch (kind) {
    case 'call':
      return { wait, do: kind, call: makeCall(random) }
    case 'burst':
      return { wait, do: kind, calls: Array.from({ length: random.int(2, 6) }, () => makeCall(random)) }
    case 'level':
      return { wait, do: kind, level: random.pick(['debug', 'warning', 'error']) }
    case 'subscribe':
      return { wait, do: kind, uri: `a:${random.int(1, 3)}` }
    case 'steal':
      return {
        wait,
        do: kind,
        victim: random.int(0, clients - 1),
        method: random.pick(['POST', 'GET', 'DELETE']),
      }
    default:
      return { wait, do: kind }
  }
}
