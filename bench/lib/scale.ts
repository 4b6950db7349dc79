/** What is measured in one process without HTTP: waking, very many sessions, and the store. */

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { type Bench, inShort, type Measured, unmeasured } from './bench.ts'
import { BENCH_DIR } from './build.ts'
import { Child } from './child.ts'
import { progress } from './progress.ts'
import type { EndingRun, ScaleRun, WakingRun } from '../shared/scale-types.ts'

/** What `bench/store.ts` printed, as figures. */
export interface StoreRun {
  readonly appendsPerSecond: number
  readonly largestStallMs: number
  readonly resumeMicros: number
  readonly printed: string
}

/** How much of it. */
export interface ScalePlan {
  readonly waking: { readonly sessions: number; readonly rounds: number; readonly rows: readonly string[] }
  readonly ending: { readonly sessions: number; readonly awake: number }
  readonly touching: { readonly sessions: number; readonly touches: number; readonly rounds: number }
  readonly appends: number
}

/** Measures waking against building, in turn. */
export async function measureWaking(bench: Bench, { waking }: ScalePlan): Promise<Measured<WakingRun>[]> {
  const rows = (['v1', 'v2'] as const).flatMap((sdk) =>
    [1, 40].map((tools) => ({
      id: `waking-${sdk}-${tools}`,
      label: `McpServer ${sdk}, ${tools === 1 ? '1 tool' : `${tools} tools`}`,
      argument: {
        sdk,
        tools,
        sessions: tools === 1 ? waking.sessions : Math.ceil(waking.sessions / 5),
        rounds: waking.rounds,
      },
    })),
  )
  const results: Measured<WakingRun>[] = []
  for (const row of rows.filter(({ id }) => waking.rows.includes(id))) {
    results.push(
      await inProcess<WakingRun>(bench, row, (child) => child.ask<WakingRun[]>('waking', row.argument)),
    )
  }
  return results
}

/** Measures the end of very many sessions at one moment. */
export async function measureEnding(bench: Bench, { ending }: ScalePlan): Promise<Measured<EndingRun>[]> {
  const count = (sessions: number): string => sessions.toLocaleString('en-US')
  const asleep = {
    id: 'ending-asleep',
    label: `${count(ending.sessions)} asleep`,
    argument: { sdk: 'v2', sessions: ending.sessions, awake: false },
  }
  const awake = {
    id: 'ending-awake',
    label: `${count(ending.awake)} awake`,
    argument: { sdk: 'v2', sessions: ending.awake, awake: true },
  }
  const results: Measured<EndingRun>[] = []
  for (const row of [asleep, ...(ending.awake > 0 ? [awake] : [])]) {
    results.push(
      await inProcess<EndingRun>(bench, row, async (child) => [
        await child.ask<EndingRun>('ending', row.argument),
      ]),
    )
  }
  return results
}

/** Measures a million sleeping sessions, and touching one of them. */
export async function measureTouching(bench: Bench, { touching }: ScalePlan): Promise<Measured<ScaleRun>[]> {
  const row = { id: 'touching', label: `${touching.sessions.toLocaleString('en-US')} asleep` }
  return [
    await inProcess<ScaleRun>(bench, row, async (child) => [await child.ask<ScaleRun>('touching', touching)]),
  ]
}

async function inProcess<T>(
  bench: Bench,
  row: { id: string; label: string },
  work: (child: Child) => Promise<T[]>,
): Promise<Measured<T>> {
  const result = unmeasured<T>(row)
  progress(`${row.id}: ${row.label}`)
  try {
    const child = await Child.start({
      core: bench.cores.server,
      node: bench.cores.node,
      entry: bench.entries.scale,
      nodeFlags: ['--expose-gc', '--max-old-space-size=6000', ...bench.nodeFlags],
    })
    try {
      result.samples.push(...(await work(child)))
    } finally {
      await child.stop()
    }
  } catch (error) {
    result.failure = `failed: ${inShort(error)}`
  }
  return result
}

/** Runs `bench/store.ts`: the embedded store with nothing around it. */
export function measureStore(bench: Bench, { appends }: ScalePlan): Measured<StoreRun>[] {
  const result = unmeasured<StoreRun>({
    id: 'store',
    label: 'SQLite store, durable appends, 64 in flight',
  })
  progress('the SQLite store')
  const args = ['--import', 'tsx', join(BENCH_DIR, 'store.ts'), '--appends', String(appends)]
  // Not pinned: its thread has a core beside that of the process.
  const { stdout, stderr, status } = spawnSync(bench.cores.node, args, {
    cwd: BENCH_DIR,
    encoding: 'utf8',
    timeout: 120_000,
  })
  const number = (pattern: RegExp): number => Number(pattern.exec(stdout)?.[1])
  const run: StoreRun = {
    appendsPerSecond: number(/bytes: (\d+)\/s/),
    largestStallMs: number(/largest stall of the main loop ([\d.]+) ms/),
    resumeMicros: number(/resume of 50 events: median (\d+) us/),
    printed: stdout.trim(),
  }
  if (status === 0 && Number.isFinite(run.appendsPerSecond)) result.samples.push(run)
  else result.failure = `failed: ${stderr.trim().split('\n').at(-1) || `exit code ${status}`}`
  return [result]
}
