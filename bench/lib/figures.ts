/** Figures made of raw samples. */

import type { Measured, Sample } from './bench.ts'
import type { MemorySample } from './sessions.ts'
import { median, ratioOf } from './stats.ts'

/** Rows of one part. */
export type Rows<T> = readonly Measured<T>[] | undefined

/** The row with an id, if it was measured. */
export function rowOf<T>(rows: Rows<T>, id: string): Measured<T> | undefined {
  const row = rows?.find((candidate) => candidate.id === id)
  return row !== undefined && row.samples.length > 0 ? row : undefined
}

/** Microseconds of server CPU per call, round by round; none for a row that is not there. */
export function cpuPerCall(row: Measured<Sample> | undefined): number[] {
  return row?.samples.map((sample) => sample.cpuMicros / sample.calls) ?? []
}

/** Microseconds of server CPU per call of the row with an id. */
export function cpuOf(rows: Rows<Sample>, id: string): number[] {
  return cpuPerCall(rowOf(rows, id))
}

/** The floor of one SDK, round by round: bare node:http and its McpServer on a null transport. */
export function floorOf(calls: Rows<Sample>, sdk: string): number[] {
  const parts = cpuOf(calls, `null-${sdk}`)
  return cpuOf(calls, 'bare').flatMap((sample, round) => {
    const part = parts[round]
    return part === undefined ? [] : [sample + part]
  })
}

/** Median ratio of two rows, undefined where one is missing. */
export function ratio(samples: readonly number[], to: readonly number[]): number | undefined {
  const found = ratioOf(samples, to)
  return Number.isFinite(found) ? found : undefined
}

/** Heap and resident KB that each session or stream added. */
export function kilobytes({ before, after, count }: MemorySample): { heapKB: number; rssKB: number } {
  return {
    heapKB: (after.heapUsed - before.heapUsed) / count / 1024,
    rssKB: (after.rss - before.rss) / count / 1024,
  }
}

/** Heap KB each, of the largest number that was measured. */
export function heapOf(rows: Rows<MemorySample>, id: string): number | undefined {
  const sample = rowOf(rows, id)?.samples.at(-1)
  return sample === undefined ? undefined : kilobytes(sample).heapKB
}

/** The middle of some figures, undefined for none. */
export function middle(values: readonly number[]): number | undefined {
  return values.length === 0 ? undefined : median(values)
}
