/** The raw samples of a run, as they are kept beside the figures made of them. */

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Measured, Sample } from './bench.ts'
import type { Machine } from './machine.ts'
import type { StoreRun } from './scale.ts'
import type { MemorySample } from './sessions.ts'
import type { EndingRun, ScaleRun, WakingRun } from '../shared/scale-types.ts'

/** Every part of a run; one that was not asked for is missing. */
export interface Parts {
  calls: Measured<Sample>[]
  memory: Measured<MemorySample>[]
  opens: Measured<Sample>[]
  streams: Measured<MemorySample>[]
  spread: Measured<Sample>[]
  broadcast: Measured<Sample>[]
  resume: Measured<Sample>[]
  waking: Measured<WakingRun>[]
  ending: Measured<EndingRun>[]
  touching: Measured<ScaleRun>[]
  store: Measured<StoreRun>[]
}

/** The parts, in the order in which they are measured. */
export const PART_NAMES: readonly (keyof Parts)[] = [
  'calls',
  'opens',
  'memory',
  'streams',
  'resume',
  'store',
  'waking',
  'ending',
  'touching',
  'spread',
  'broadcast',
]

/** When, where and how a run was made. */
export interface RunInfo {
  readonly date: string
  readonly mode: string
  readonly machine: Machine
  /** How long it took, in seconds. */
  seconds: number
}

/** Everything of a run. */
export type RawResults = Partial<Parts> & { readonly run: RunInfo }

/** Writes one part, so that what was measured is kept when a later part goes wrong. */
export function writeRaw(folder: string, name: string, value: unknown): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(value, undefined, 1)}\n`)
}

/** Removes what an earlier run left. */
export function clearRaw(folder: string): void {
  mkdirSync(folder, { recursive: true })
  for (const name of ['run', ...PART_NAMES]) rmSync(join(folder, `${name}.json`), { force: true })
}

/** Reads what {@link writeRaw} wrote. */
export function readRaw(folder: string): RawResults {
  const there = readdirSync(folder)
  const parts: Record<string, unknown> = {}
  for (const name of ['run', ...PART_NAMES]) {
    const file = `${name}.json`
    if (there.includes(file)) parts[name] = JSON.parse(readFileSync(join(folder, file), 'utf8')) as unknown
  }
  return parts as RawResults
}
