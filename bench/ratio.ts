/**
 * Prints what a call costs us as a multiple of bare node:http on this Node, in a few seconds, and keeps it in
 * `results/history.jsonl`: a number to watch, not a test.
 */

import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { startLoad } from './lib/bench.ts'
import { BENCH_DIR, buildBench, builtState } from './lib/build.ts'
import { measureCalls } from './lib/calls.ts'
import { findCores } from './lib/cores.ts'
import { cpuPerCall } from './lib/figures.ts'
import { describeMachine } from './lib/machine.ts'
import { CALL_ROWS } from './lib/rows.ts'
import { ratioOf } from './lib/stats.ts'

// Server v2 needs no peer: it is what the package itself depends on.
const rows = CALL_ROWS.filter(({ id }) => id === 'bare' || id === 'ours-v2-auto')
const entries = buildBench()
const cores = findCores(process.execPath)
const { node, commit, cpu, loadBefore } = describeMachine(cores)
const load = await startLoad(entries, cores)
try {
  const unavailable = ({ spec }: (typeof rows)[number]): string | undefined =>
    spec.kind === 'ours' && builtState() === 'missing' ? 'not built' : undefined
  const [bare, ours] = await measureCalls({ entries, cores, load, nodeFlags: [], unavailable }, rows, {
    warmupMs: 2000,
    roundMs: 400,
    rounds: 5,
  })
  const failure = bare?.failure ?? ours?.failure
  if (bare === undefined || ours === undefined || failure !== undefined) {
    process.stdout.write(`ours/bare CPU per call: ${failure ?? 'not measured'} (node ${process.version})\n`)
    process.exitCode = 1
  } else {
    const ratio = ratioOf(cpuPerCall(ours), cpuPerCall(bare)).toFixed(2)
    process.stdout.write(`ours/bare CPU per call: ${ratio} (node ${process.version})\n`)
    const line = { date: new Date().toISOString(), commit, node, cpu, load: loadBefore, ratio: Number(ratio) }
    appendFileSync(join(BENCH_DIR, 'results', 'history.jsonl'), `${JSON.stringify(line)}\n`)
  }
} finally {
  await load.stop()
}
