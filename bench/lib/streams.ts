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

/** How many streams, and how often something is done with all of them. */
interface StreamPlan {
  readonly streams: number
  readonly rounds: number
}

/** Measures one notification to every open stream, until the last has heard it. */
export function measureBroadcast(
  bench: Bench,
  rows: readonly Row[],
  plan: StreamPlan,
): Promise<Measured<Sample>[]> {
  const { load } = bench
  const what = `a notification to ${plan.streams} streams`
  return measureRounds(bench, rows, { ...plan, what, warmUp: 2 }, (server) =>
    spent(server, async () => {
      const heard = load.ask<LoadRun>('hear', { count: 1 })
      await server.ask('broadcast')
      return await heard
    }),
  )
}

/** How many events a dropped stream has missed when it comes back. */
const MISSED = 50

/** Measures streams that were dropped, missed 50 events and come back with `Last-Event-ID`, until they have heard them all. */
export function measureResume(
  bench: Bench,
  rows: readonly Row[],
  plan: StreamPlan,
): Promise<Measured<Sample>[]> {
  const { load } = bench
  const what = `${plan.streams} streams resumed`
  return measureRounds(bench, rows, { ...plan, what, warmUp: 1 }, async (server, to) => {
    // One that is heard gives each stream a place to go on from.
    const heard = load.ask<LoadRun>('hear', { count: 1 })
    await server.ask('broadcast')
    await heard
    await load.ask('drop')
    await server.ask('gone')
    for (let missed = 0; missed < MISSED; missed += 1) await server.ask('broadcast')
    return await spent(server, () => load.ask<LoadRun>('resume', { to, count: MISSED }))
  })
}

type Server = Awaited<ReturnType<typeof startServer>>

/** Opens the streams of each row and measures a round of `run` as often as the plan says, after some that do not count. */
async function measureRounds(
  bench: Bench,
  rows: readonly Row[],
  { streams, rounds, what, warmUp }: StreamPlan & { readonly what: string; readonly warmUp: number },
  run: (server: Server, to: ReturnType<typeof targetOf>) => Promise<Sample>,
): Promise<Measured<Sample>[]> {
  const results: Measured<Sample>[] = []
  const { load } = bench
  for (const row of rows) {
    const result = unmeasured<Sample>(row)
    results.push(result)
    progress(`${what}: ${row.label}`)
    await attempt(bench, row, result, async () => {
      const server = await startServer(bench, row)
      try {
        const to = targetOf(server, row)
        await load.ask('open', { to, count: streams })
        await load.ask('attach', { to })
        for (let round = -warmUp; round < rounds; round += 1) {
          const sample = await run(server, to)
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
