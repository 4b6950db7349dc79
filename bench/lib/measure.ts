/** The measurements: calls on live sessions, memory of idle ones, and the opening of new ones. */

import { Child } from './child.ts'
import type { BuiltEntries } from './build.ts'
import type { Cores } from './cores.ts'
import { progress } from './progress.ts'
import type { Row } from './rows.ts'
import type { CpuReading, DrivenRun, LoadRun, LoadTarget, MemoryReading } from '../shared/types.ts'

/** Connections, and sessions, that calls are spread over. */
export const CONNECTIONS = 32

/** One round of calls or of openings. */
export interface Sample {
  readonly calls: number
  readonly elapsedMs: number
  /** CPU time of the server process, all threads. */
  readonly cpuMicros: number
  /** CPU time of the load generator; 0 where the work is done in process. */
  readonly loadCpuMicros: number
}

/** What happened to a row: samples, or why there are none. */
export interface Measured<T> {
  readonly row: Row
  readonly samples: T[]
  /** Set when the row could not be measured. */
  failure?: string
}

/** Memory before and after sessions were opened and abandoned. */
export interface MemorySample {
  readonly sessions: number
  readonly before: MemoryReading
  readonly after: MemoryReading
}

/** What all measurements need. */
export interface Bench {
  readonly entries: BuiltEntries
  readonly cores: Cores
  /** The load generator. */
  readonly load: Child
  /** Why a row cannot run here, if so. */
  readonly unavailable: (row: Row) => string | undefined
}

/** How long and how often calls are measured. */
export interface CallPlan {
  readonly warmupMs: number
  readonly roundMs: number
  readonly rounds: number
  /** More flags for the servers' Node. */
  readonly nodeFlags?: readonly string[]
}

/** Starts the load generator on its core. */
export async function startLoad(entries: BuiltEntries, cores: Cores): Promise<Child> {
  return await Child.start({ core: cores.load, entry: entries.load })
}

/** Measures CPU per call of every row, round by round: A B C A B C …, every server up all the while. */
export async function measureCalls(
  bench: Bench,
  rows: readonly Row[],
  plan: CallPlan,
): Promise<Measured<Sample>[]> {
  const results = rows.map((row): Measured<Sample> => ({ row, samples: [] }))
  const servers = new Map<Row, Child>()
  try {
    for (const result of results) {
      progress(`starting ${result.row.label}`)
      await attempt(bench, result, async () => {
        servers.set(result.row, await startServer(bench, result.row, plan.nodeFlags))
      })
    }
    for (let round = -1; round < plan.rounds; round += 1) {
      for (const result of results) {
        const server = servers.get(result.row)
        if (server === undefined) continue
        const title = round < 0 ? 'warm-up' : `round ${round + 1} of ${plan.rounds}`
        progress(`calls, ${title}: ${result.row.label}`)
        await attempt(bench, result, async () => {
          const sample = await callRound(
            bench.load,
            server,
            result.row,
            round < 0 ? plan.warmupMs : plan.roundMs,
          )
          if (round >= 0) result.samples.push(sample)
        })
      }
    }
  } finally {
    await Promise.all([...servers.values()].map((server) => server.stop()))
  }
  return results
}

/** Measures what idle sessions hold that clients opened and abandoned. */
export async function measureMemory(
  bench: Bench,
  rows: readonly Row[],
  counts: readonly number[],
): Promise<Measured<MemorySample>[]> {
  const results = rows.map((row): Measured<MemorySample> => ({ row, samples: [] }))
  for (const result of results) {
    for (const sessions of counts) {
      progress(`memory of ${sessions} sessions: ${result.row.label}`)
      await attempt(bench, result, async () => {
        const server = await startServer(bench, result.row, ['--expose-gc'])
        try {
          // The first ones make what is made once.
          await openAndAbandon(bench.load, server, result.row, 200)
          const before = await server.ask<MemoryReading>('memory')
          await openAndAbandon(bench.load, server, result.row, sessions)
          result.samples.push({ sessions, before, after: await server.ask<MemoryReading>('memory') })
        } finally {
          await server.stop()
        }
      })
    }
  }
  return results
}

/** Measures CPU per opened session, the handshake whole; the sessions are ended outside what is measured. */
export async function measureOpens(
  bench: Bench,
  rows: readonly Row[],
  { rounds, sessions }: { rounds: number; sessions: number },
): Promise<Measured<Sample>[]> {
  const results = rows.map((row): Measured<Sample> => ({ row, samples: [] }))
  const servers = new Map<Row, Child>()
  try {
    for (let round = -1; round < rounds; round += 1) {
      for (const result of results) {
        progress(`opening, ${round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`}: ${result.row.label}`)
        await attempt(bench, result, async () => {
          const server = servers.get(result.row) ?? (await startServer(bench, result.row))
          servers.set(result.row, server)
          const to = targetOf(server, result.row)
          const cpu = await server.ask<CpuReading>('cpu')
          const ran = await bench.load.ask<LoadRun>('open', { to, count: sessions })
          const cpuMicros = (await server.ask<CpuReading>('cpu')).cpuMicros - cpu.cpuMicros
          await bench.load.ask('end', { to })
          if (round >= 0) result.samples.push({ ...ran, cpuMicros, loadCpuMicros: ran.cpuMicros })
        })
      }
    }
  } finally {
    await Promise.all([...servers.values()].map((server) => server.stop()))
  }
  return results
}

async function callRound(load: Child, server: Child, row: Row, ms: number): Promise<Sample> {
  if (row.spec.kind === 'null') {
    const ran = await server.ask<DrivenRun>('run', { ms, sessions: CONNECTIONS })
    return { ...ran, loadCpuMicros: 0 }
  }
  // New sessions each round: what a peer keeps per call until its session ends does not pile up.
  await load.ask('prepare', targetOf(server, row))
  const cpu = await server.ask<CpuReading>('cpu')
  const ran = await load.ask<LoadRun>('run', { ms })
  const cpuMicros = (await server.ask<CpuReading>('cpu')).cpuMicros - cpu.cpuMicros
  await load.ask('finish')
  return { ...ran, cpuMicros, loadCpuMicros: ran.cpuMicros }
}

async function openAndAbandon(load: Child, server: Child, row: Row, count: number): Promise<void> {
  if (row.spec.kind === 'null') {
    await server.ask('open', { count })
    return
  }
  await load.ask('open', { to: targetOf(server, row), count })
  await load.ask('forget')
}

function targetOf(server: Child, row: Row): LoadTarget {
  return { port: server.port, connections: CONNECTIONS, sessions: row.spec.kind !== 'bare' }
}

async function startServer(bench: Bench, row: Row, nodeFlags?: readonly string[]): Promise<Child> {
  return await Child.start({
    core: bench.cores.server,
    entry: bench.entries.server,
    argument: JSON.stringify(row.spec),
    ...(nodeFlags === undefined ? {} : { nodeFlags }),
  })
}

/** A row that fails is left out from then on, and says why; the others go on. */
async function attempt<T>(bench: Bench, result: Measured<T>, work: () => Promise<void>): Promise<void> {
  result.failure ??= bench.unavailable(result.row)
  if (result.failure !== undefined) return
  try {
    await work()
  } catch (error) {
    result.failure = `failed: ${error instanceof Error ? error.message : String(error)}`
  }
}
