/** GET streams: what an open one holds, one notification to all of them, and coming back for what was missed. */

import {
  attempt,
  type Bench,
  type Measured,
  type Sample,
  spent,
  startServer,
  targetOf,
  unmeasured,
} from './bench.ts'
import { progress } from './progress.ts'
import type { Row } from './rows.ts'
import type { MemorySample } from './sessions.ts'
import type { LoadRun, MemoryReading } from '../shared/types.ts'

/** Opened and dropped first, for what is made once. */
const FIRST = 100

/** Measures the heap that open streams add to sessions that were there before. */
export async function measureStreams(
  bench: Bench,
  rows: readonly Row[],
  count: number,
): Promise<Measured<MemorySample>[]> {
  const results: Measured<MemorySample>[] = []
  const { load } = bench
  for (const row of rows) {
    const result = unmeasured<MemorySample>(row)
    results.push(result)
    progress(`${count} open streams: ${row.label}`)
    await attempt(bench, row, result, async () => {
      const server = await startServer(bench, row, ['--expose-gc'])
      try {
        const to = targetOf(server, row)
        await load.ask('open', { to, count: FIRST })
        await load.ask('attach', { to })
        await load.ask('reset')
        await load.ask('open', { to, count })
        const before = await server.ask<MemoryReading>('memory', { sockets: 0 })
        await load.ask('attach', { to })
        const after = await server.ask<MemoryReading>('memory', { sockets: count })
        result.samples.push({ count, before, after })
      } finally {
        await load.ask('reset')
        await server.stop()
      }
    })
  }
  return results
}

/** Measures one notification to every open stream, until the last has heard it. */
export async function measureBroadcast(
  bench: Bench,
  rows: readonly Row[],
  { streams, rounds }: { streams: number; rounds: number },
): Promise<Measured<Sample>[]> {
  const results: Measured<Sample>[] = []
  const { load } = bench
  for (const row of rows) {
    const result = unmeasured<Sample>(row)
    results.push(result)
    progress(`a notification to ${streams} streams: ${row.label}`)
    await attempt(bench, row, result, async () => {
      const server = await startServer(bench, row)
      try {
        const to = targetOf(server, row)
        await load.ask('open', { to, count: streams })
        await load.ask('attach', { to })
        for (let round = -2; round < rounds; round += 1) {
          const sample = await spent(server, async () => {
            const heard = load.ask<LoadRun>('hear', { count: 1 })
            await server.ask('broadcast')
            return await heard
          })
          if (round >= 0) result.samples.push(sample)
        }
      } finally {
        await load.ask('reset')
        await server.stop()
      }
    })
  }
  return results
}

/** How many events a dropped stream has missed when it comes back. */
const MISSED = 50

/** Measures streams that were dropped, missed 50 events and come back with `Last-Event-ID`, until they have heard them all. */
export async function measureResume(
  bench: Bench,
  rows: readonly Row[],
  { streams, rounds }: { streams: number; rounds: number },
): Promise<Measured<Sample>[]> {
  const results: Measured<Sample>[] = []
  const { load } = bench
  for (const row of rows) {
    const result = unmeasured<Sample>(row)
    results.push(result)
    progress(`${streams} streams resumed: ${row.label}`)
    await attempt(bench, row, result, async () => {
      const server = await startServer(bench, row)
      try {
        const to = targetOf(server, row)
        await load.ask('open', { to, count: streams })
        await load.ask('attach', { to })
        for (let round = -1; round < rounds; round += 1) {
          // One that is heard gives each stream a place to go on from.
          const heard = load.ask<LoadRun>('hear', { count: 1 })
          await server.ask('broadcast')
          await heard
          await load.ask('drop')
          await server.ask('gone')
          for (let missed = 0; missed < MISSED; missed += 1) await server.ask('broadcast')
          const sample = await spent(server, () => load.ask<LoadRun>('resume', { to, count: MISSED }))
          if (round >= 0) result.samples.push(sample)
        }
      } finally {
        await load.ask('reset')
        await server.stop()
      }
    })
  }
  return results
}
