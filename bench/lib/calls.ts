/** Calls: over 32 live sessions, and over ten thousand. */

import {
  attempt,
  type Bench,
  CONNECTIONS,
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
import type { DrivenRun, LoadRun, Spread } from '../shared/types.ts'

/** How long and how often calls are measured. */
export interface CallPlan {
  readonly warmupMs: number
  readonly roundMs: number
  readonly rounds: number
}

/** Measures CPU per call of every row, round by round, every server up all the while. */
export async function measureCalls(
  bench: Bench,
  rows: readonly Row[],
  plan: CallPlan,
): Promise<Measured<Sample>[]> {
  const pairs = rows.map((row) => ({ row, result: unmeasured<Sample>(row) }))
  const servers = new Map<Row, Process>()
  try {
    for (const { row, result } of pairs) {
      progress(`starting ${row.label}`)
      await attempt(bench, row, result, async () => {
        servers.set(row, await startServer(bench, row))
      })
    }
    await inTurn(bench, 'calls', plan.rounds, pairs, async (row, round, result) => {
      const server = servers.get(row)
      if (server === undefined) return
      const sample = await callRound(bench, server, row, round < 0 ? plan.warmupMs : plan.roundMs)
      if (round >= 0) result.samples.push(sample)
    })
  } finally {
    await Promise.all([...servers.values()].map((server) => server.stop()))
  }
  return pairs.map(({ result }) => result)
}

async function callRound(bench: Bench, server: Process, row: Row, ms: number): Promise<Sample> {
  if (row.spec.kind === 'null') {
    const ran = await server.ask<DrivenRun>('run', { ms, sessions: CONNECTIONS })
    return { ...ran, loadCpuMicros: 0 }
  }
  const { load } = bench
  // New sessions each round: what a peer keeps per call until its session ends does not pile up.
  await load.ask('prepare', {
    key: row.id,
    to: targetOf(server, row),
    sessions: CONNECTIONS,
    spread: 'uniform',
  })
  try {
    return await spent(server, () => load.ask<LoadRun>('run', { key: row.id, ms }))
  } finally {
    await load.ask('finish', { key: row.id, end: true })
  }
}

/** One way of spreading calls over sessions. */
interface SpreadVariant extends Row {
  readonly sessions: number
  readonly spread: Spread
}

/** How many instances may be awake where nine of ten calls go to a tenth of the sessions. */
const MAX_AWAKE = 2_000

/** Measures calls over few sessions and over many, in turn. */
export async function measureSpread(
  bench: Bench,
  rows: readonly Row[],
  plan: CallPlan & { readonly sessions: number },
): Promise<Measured<Sample>[]> {
  const variants = rows.flatMap((row): SpreadVariant[] => {
    const many = `${plan.sessions.toLocaleString('en-US')} sessions`
    const variant = (id: string, label: string, sessions: number, spread: Spread): SpreadVariant => ({
      ...row,
      id: `${row.id}-${id}`,
      label: `${row.label}, ${label}`,
      sessions,
      spread,
    })
    const few = variant('few', `${CONNECTIONS} sessions`, CONNECTIONS, 'uniform')
    const uniform = variant('many', `${many} in turn`, plan.sessions, 'uniform')
    if (row.spec.kind !== 'ours') return [few, uniform]
    const hot = variant('hot', `${many}, 90 % on 10 %, at most ${MAX_AWAKE} awake`, plan.sessions, 'hot')
    return [few, uniform, { ...hot, spec: { ...row.spec, options: { maxAwake: MAX_AWAKE } } }]
  })
  const pairs = variants.map((row) => ({ row, result: unmeasured<Sample>(row) }))
  const servers = new Map<SpreadVariant, Process>()
  const { load } = bench
  try {
    for (const { row, result } of pairs) {
      progress(`opening: ${row.label}`)
      await attempt(bench, row, result, async () => {
        const server = await startServer(bench, row)
        servers.set(row, server)
        const { id: key, sessions, spread } = row
        await load.ask('prepare', { key, to: targetOf(server, row), sessions, spread })
        if (spread === 'hot') await server.ask('settle')
      })
    }
    await inTurn(bench, 'many sessions', plan.rounds, pairs, async (row, round, result) => {
      const server = servers.get(row)
      if (server === undefined) return
      const ms = round < 0 ? plan.warmupMs : plan.roundMs
      const sample = await spent(server, () => load.ask<LoadRun>('run', { key: row.id, ms, reconnect: true }))
      if (round >= 0) result.samples.push(sample)
    })
  } finally {
    for (const { row } of pairs) await load.ask('finish', { key: row.id, end: false })
    await Promise.all([...servers.values()].map((server) => server.stop()))
  }
  return pairs.map(({ result }) => result)
}
