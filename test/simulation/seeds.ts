/** Runs many seeds of one kind, in this process or in several, and sums up what came of it. */

import { SIMULATIONS } from './kinds.ts'
import { type KindName, STAKES, type Stake } from './promises.ts'
import type { Violation } from './record.ts'
import { share } from './sharing.ts'

/** Seeds that one process runs before it tells of them. */
const CHUNK = 50

/** Failing seeds that are remembered. */
const MOST_FAILURES = 100

/** Every so many seeds one is run twice: its history must be the same. */
const TWICE_EVERY = 50

/** Seeds in a row. */
export interface Chunk {
  readonly kind: KindName
  readonly from: number
  readonly count: number
}

/** A seed that breaks promises; the first few violations. */
export interface Failure {
  readonly seed: number
  readonly violations: readonly Violation[]
}

/** What came of a chunk: plain data. */
export interface ChunkResult {
  readonly stakes: readonly (readonly [Stake, number])[]
  readonly failures: readonly Failure[]
  /** Seeds whose history was another one the second time. */
  readonly unstable: readonly number[]
}

/** What came of all. */
export interface Summary {
  readonly kind: KindName
  readonly seeds: number
  readonly failed: number
  /** The first of them. */
  readonly failures: readonly Failure[]
  readonly unstable: readonly number[]
  readonly stakes: ReadonlyMap<Stake, number>
  /** What was at stake too rarely, and how often it should have been. */
  readonly rare: readonly Stake[]
  readonly needed: number
  readonly seconds: number
}

/** Runs the seeds of a chunk. */
export async function runChunk({ kind, from, count }: Chunk): Promise<ChunkResult> {
  const simulation = SIMULATIONS[kind]
  const stakes = new Map<Stake, number>()
  const failures: Failure[] = []
  const unstable: number[] = []
  for (let seed = from; seed < from + count; seed++) {
    const { recorder } = await simulation.run(seed)
    for (const [stake, times] of recorder.stakes) stakes.set(stake, (stakes.get(stake) ?? 0) + times)
    if (recorder.violations.length > 0) failures.push({ seed, violations: recorder.violations.slice(0, 5) })
    if ((seed - from) % TWICE_EVERY !== 0) continue
    const again = await simulation.run(seed)
    if (again.recorder.hash !== recorder.hash) unstable.push(seed)
  }
  return { stakes: [...stakes], failures, unstable }
}

/**
 * Runs seeds `from` to `from + seeds - 1`.
 * @param jobs processes that run them; 1 is this one
 * @param progress told now and then how many are done and how many failed
 */
export async function runSeeds(
  kind: KindName,
  from: number,
  seeds: number,
  jobs: number,
  progress: (done: number, failed: number) => void = () => {},
): Promise<Summary> {
  const started = performance.now()
  const stakes = new Map<Stake, number>()
  const failures: Failure[] = []
  const unstable: number[] = []
  let failed = 0
  let done = 0
  const chunks = function* (): Generator<Chunk> {
    for (let first = 0; first < seeds; first += CHUNK)
      yield { kind, from: from + first, count: Math.min(CHUNK, seeds - first) }
  }
  const take = (chunk: Chunk, result: ChunkResult): void => {
    for (const [stake, times] of result.stakes) stakes.set(stake, (stakes.get(stake) ?? 0) + times)
    failed += result.failures.length
    for (const failure of result.failures) if (failures.length < MOST_FAILURES) failures.push(failure)
    for (const seed of result.unstable) if (unstable.length < MOST_FAILURES) unstable.push(seed)
    done += chunk.count
    progress(done, failed)
  }
  const worker = new URL('worker.ts', import.meta.url)
  await share({ chunks: chunks(), jobs, run: runChunk, worker, take })
  const needed = leastStakes(seeds)
  const rare = (Object.keys(STAKES[kind]) as Stake[]).filter((stake) => (stakes.get(stake) ?? 0) < needed)
  failures.sort((a, b) => a.seed - b.seed)
  const seconds = (performance.now() - started) / 1000
  return { kind, seeds, failed, failures, unstable, stakes, rare, needed, seconds }
}

/** How often each thing must be at stake in so many seeds. A handful cannot meet everything. */
export function leastStakes(seeds: number): number {
  return seeds < 100 ? 0 : seeds >= 2000 ? 1000 : Math.floor(seeds / 4)
}
