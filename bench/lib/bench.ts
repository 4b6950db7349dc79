/** What all measurements need: processes, rows that may fail, and the order of rounds. */

import { Child, type Process } from './child.ts'
import type { BuiltEntries } from './build.ts'
import type { Cores } from './cores.ts'
import { progress } from './progress.ts'
import { PythonServer } from './python.ts'
import type { Row } from './rows.ts'
import type { CpuReading, LoadRun, LoadTarget } from '../shared/types.ts'

/** Connections, and sessions, that calls are spread over. */
export const CONNECTIONS = 32

/** One round of calls, of openings, or of streams that heard something. */
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
  readonly id: string
  readonly label: string
  readonly samples: T[]
  /** Set when the row could not be measured. `failed: …` when it should have been. */
  failure?: string
}

/** What all measurements need. */
export interface Bench {
  readonly entries: BuiltEntries
  readonly cores: Cores
  /** The load generator. */
  readonly load: Child
  /** More flags for the servers' Node. */
  readonly nodeFlags: readonly string[]
  /** Why a row cannot run here, if so. */
  readonly unavailable: (row: Row) => string | undefined
}

/** A row with nothing measured yet. */
export function unmeasured<T>({ id, label }: Pick<Row, 'id' | 'label'>): Measured<T> {
  return { id, label, samples: [] }
}

/** Starts the load generator on its core. */
export async function startLoad(entries: BuiltEntries, cores: Cores): Promise<Child> {
  return await Child.start({ core: cores.load, node: cores.node, entry: entries.load })
}

/** Starts the server of a row on its core. */
export async function startServer(
  bench: Bench,
  { spec }: Row,
  nodeFlags: readonly string[] = [],
): Promise<Process> {
  const { cores, entries } = bench
  if (spec.kind === 'python-sdk') return await PythonServer.start(cores.server, 'sdk.py')
  if (spec.kind === 'python-fastmcp') return await PythonServer.start(cores.server, 'fastmcp_server.py')
  return await Child.start({
    core: cores.server,
    node: cores.node,
    entry: entries.server,
    argument: JSON.stringify(spec),
    nodeFlags: [...bench.nodeFlags, ...nodeFlags],
  })
}

/** Where the generator finds a server. */
export function targetOf(server: Process, { protocol }: Row): LoadTarget {
  return { port: server.port, connections: CONNECTIONS, protocol }
}

/** What a server spends while `work` is done. */
export async function spent(server: Process, work: () => Promise<LoadRun>): Promise<Sample> {
  const before = await server.ask<CpuReading>('cpu')
  const ran = await work()
  const after = await server.ask<CpuReading>('cpu')
  return { ...ran, cpuMicros: after.cpuMicros - before.cpuMicros, loadCpuMicros: ran.cpuMicros }
}

/** A row that fails is left out from then on, and says why; the others go on. */
export async function attempt(
  bench: Bench,
  row: Row,
  result: Measured<unknown>,
  work: () => Promise<void>,
): Promise<void> {
  result.failure ??= bench.unavailable(row)
  if (result.failure !== undefined) return
  try {
    await work()
  } catch (error) {
    result.failure = `failed: ${inShort(error)}`
  }
}

/** What went wrong in one line: of a process that died, the line that names its error. */
export function inShort(error: unknown): string {
  const lines = (error instanceof Error ? error.message : String(error)).split('\n')
  return (lines.find((line) => /^\w*Error\b/.test(line)) ?? lines[0] ?? '').trim().slice(0, 200)
}

/** Rounds in turn, A B C A B C …; the first is not counted. */
export async function inTurn<T extends Row>(
  bench: Bench,
  title: string,
  rounds: number,
  rows: readonly { readonly row: T; readonly result: Measured<unknown> }[],
  work: (row: T, round: number, result: Measured<unknown>) => Promise<void>,
): Promise<void> {
  for (let round = -1; round < rounds; round += 1) {
    for (const { row, result } of rows) {
      progress(`${title}, ${round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`}: ${row.label}`)
      await attempt(bench, row, result, () => work(row, round, result))
    }
  }
}
