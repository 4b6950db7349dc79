/** How much is measured: the modes of `npm run bench`. */

import type { CallPlan } from './calls.ts'
import type { Parts } from './raw.ts'
import type { ScalePlan } from './scale.ts'

/** How much of everything. */
export interface Plan extends ScalePlan {
  readonly mode: string
  /** Only the rows that are marked for it. */
  readonly quickRows: boolean
  readonly calls: CallPlan
  readonly opens: { readonly rounds: number; readonly sessions: number }
  readonly memory: readonly number[]
  readonly streams: number
  readonly spread: CallPlan & { readonly sessions: number }
  readonly broadcast: { readonly streams: number; readonly rounds: number }
  readonly resume: { readonly streams: number; readonly rounds: number }
  /** Parts that are left out. */
  readonly without: readonly (keyof Parts)[]
}

const EVERY_WAKING = ['waking-v1-1', 'waking-v2-1', 'waking-v1-40', 'waking-v2-40']

const FULL: Plan = {
  mode: 'full',
  quickRows: false,
  calls: { warmupMs: 1500, roundMs: 600, rounds: 5 },
  opens: { rounds: 4, sessions: 800 },
  memory: [2000],
  streams: 2000,
  spread: { warmupMs: 1500, roundMs: 700, rounds: 3, sessions: 10_000 },
  broadcast: { streams: 10_000, rounds: 3 },
  resume: { streams: 200, rounds: 3 },
  waking: { sessions: 300, rounds: 5, rows: EVERY_WAKING },
  ending: { sessions: 100_000, awake: 100_000 },
  touching: { sessions: 1_000_000, touches: 500_000, rounds: 5 },
  appends: 100_000,
  without: [],
}

/** The modes by name. */
export const PLANS: Readonly<Record<'smoke' | 'quick' | 'goals' | 'full' | 'long', Plan>> = {
  /** The least of everything: whether every row works, and no figures to be believed. */
  smoke: {
    mode: 'smoke',
    quickRows: false,
    calls: { warmupMs: 50, roundMs: 100, rounds: 1 },
    opens: { rounds: 1, sessions: 32 },
    memory: [64],
    streams: 64,
    spread: { warmupMs: 50, roundMs: 100, rounds: 1, sessions: 3_200 },
    broadcast: { streams: 64, rounds: 1 },
    resume: { streams: 16, rounds: 1 },
    waking: { sessions: 20, rounds: 1, rows: EVERY_WAKING },
    ending: { sessions: 1_000, awake: 1_000 },
    touching: { sessions: 1_000, touches: 1_000, rounds: 1 },
    appends: 1_000,
    without: [],
  },
  quick: {
    ...FULL,
    mode: 'quick',
    quickRows: true,
    calls: { warmupMs: 1200, roundMs: 500, rounds: 3 },
    opens: { rounds: 3, sessions: 300 },
    memory: [1000],
    streams: 1000,
    spread: { ...FULL.spread, warmupMs: 1000, roundMs: 500 },
    broadcast: { streams: 2000, rounds: 3 },
    waking: { sessions: 150, rounds: 3, rows: ['waking-v1-1', 'waking-v2-1'] },
    ending: { sessions: 100_000, awake: 0 },
    appends: 50_000,
    without: ['spread', 'touching'],
  },
  /** Every goal, and no row that none needs. */
  goals: {
    ...FULL,
    mode: 'goals',
    quickRows: true,
    calls: { warmupMs: 3000, roundMs: 1000, rounds: 7 },
    without: ['broadcast', 'resume'],
  },
  full: FULL,
  long: {
    ...FULL,
    mode: 'long',
    calls: { warmupMs: 6000, roundMs: 2000, rounds: 9 },
    opens: { rounds: 7, sessions: 2000 },
    memory: [2000, 10_000],
    streams: 10_000,
    spread: { ...FULL.spread, warmupMs: 4000, roundMs: 2000, rounds: 7 },
    broadcast: { streams: 10_000, rounds: 7 },
    resume: { streams: 1000, rounds: 7 },
    waking: { sessions: 1000, rounds: 9, rows: EVERY_WAKING },
  },
}
