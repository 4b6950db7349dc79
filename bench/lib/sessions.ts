/** Sessions: what opening one costs, and what one holds that its client went away from. */

import {
  attempt,
  type Bench,
  inTurn,
  type Measured,
  type Sample,
  spent,
  startServer,
  targetOf,
  unmeasured,
} from './bench.ts'
import type { Process } from './child.ts'
import { progress } from './progress.ts'
import type { Row } from './rows.ts'
import type { LoadRun, MemoryReading } from '../shared/types.ts'

/** Memory before and after sessions, or streams, were opened. */
export interface MemorySample {
  readonly count: number
  readonly before: MemoryReading
  readonly after: MemoryReading
}

/** Opened first, for what is made once. */
const FIRST = 200

/** With so many tools a server holds most of a megabyte: fewer of them are opened. */
const MANY_TOOLS = 10

/** Measures what idle sessions hold that clients opened and abandoned. */
export async function measureMemory(
  bench: Bench,
  rows: readonly Row[],
  counts: readonly number[],
): Promise<Measured<MemorySample>[]> {
  const results: Measured<MemorySample>[] = []
  for (const row of rows) {
    const result = unmeasured<MemorySample>(row)
    results.push(result)
    const asleep = row.spec.options?.['sleepAfter'] !== undefined
    const many = row.spec.tools > MANY_TOOLS
    // Sleeping sessions hold so little that what is compiled meanwhile would count: five times as many.
    const sizes = many && !asleep ? [300] : asleep ? counts.map((each) => each * 5) : counts
    for (const count of sizes) {
      progress(`memory of ${count} sessions: ${row.label}`)
      await attempt(bench, row, result, async () => {
        const server = await startServer(bench, row, ['--expose-gc', '--max-old-space-size=4096'])
        try {
          await openAndAbandon(bench, server, row, many && !asleep ? 50 : FIRST)
          const before = await server.ask<MemoryReading>('memory')
          await openAndAbandon(bench, server, row, count)
          result.samples.push({ count, before, after: await server.ask<MemoryReading>('memory') })
        } finally {
          await server.stop()
        }
      })
    }
  }
  return results
}

async function openAndAbandon({ load }: Bench, server: Process, row: Row, count: number): Promise<void> {
  if (row.spec.kind === 'null') {
    await server.ask('open', { count })
    return
  }
  await load.ask('open', { to: targetOf(server, row), count })
  await load.ask('forget')
}

/** Measures CPU per opened session, the handshake whole; the sessions are ended outside what is measured. */
export async function measureOpens(
  bench: Bench,
  rows: readonly Row[],
  { rounds, sessions }: { rounds: number; sessions: number },
): Promise<Measured<Sample>[]> {
  const pairs = rows.map((row) => ({ row, result: unmeasured<Sample>(row) }))
  const servers = new Map<Row, Process>()
  const { load } = bench
  try {
    await inTurn(bench, 'opening', rounds, pairs, async (row, round, result) => {
      const server = servers.get(row) ?? (await startServer(bench, row))
      servers.set(row, server)
      const to = targetOf(server, row)
      const count = Math.min(sessions, row.sessions ?? sessions)
      const sample = await spent(server, () => load.ask<LoadRun>('open', { to, count }))
      await load.ask('end', { to })
      if (round >= 0) result.samples.push(sample)
    })
  } finally {
    await load.ask('forget')
    await Promise.all([...servers.values()].map((server) => server.stop()))
  }
  return pairs.map(({ result }) => result)
}
