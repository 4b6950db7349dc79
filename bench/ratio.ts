/** Prints what a call costs us as a multiple of bare node:http on this Node, in a few seconds: a number to watch, not a test. */

import { buildBench, builtState } from './lib/build.ts'
import { findCores } from './lib/cores.ts'
import { measureCalls, startLoad } from './lib/measure.ts'
import { cpuPerCall } from './lib/report.ts'
import { CALL_ROWS } from './lib/rows.ts'
import { ratioOf } from './lib/stats.ts'

// Server v2 needs no peer: it is what the package itself depends on.
const rows = CALL_ROWS.filter(({ id }) => id === 'bare' || id === 'ours-v2-auto')
const entries = buildBench()
const cores = findCores()
const load = await startLoad(entries, cores)
try {
  const [bare, ours] = await measureCalls(
    {
      entries,
      cores,
      load,
      unavailable: ({ spec }) =>
        spec.kind === 'ours' && builtState() === 'missing' ? 'not built' : undefined,
    },
    rows,
    { warmupMs: 2000, roundMs: 400, rounds: 5 },
  )
  const failure = bare?.failure ?? ours?.failure
  const ratio = ratioOf(cpuPerCall(ours), cpuPerCall(bare)).toFixed(2)
  process.stdout.write(`ours/bare CPU per call: ${failure ?? ratio} (node ${process.version})\n`)
  process.exitCode = failure === undefined ? 0 : 1
} finally {
  await load.stop()
}
