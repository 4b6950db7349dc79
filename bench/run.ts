/**
 * `npm run bench`: ours, the official SDKs' own transports and the limits in turn, in one run.
 * What it measures and how to read it stands in NOTES.md.
 */

import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { BENCH_DIR, buildBench, builtState } from './lib/build.ts'
import { findCores } from './lib/cores.ts'
import { describeMachine, peersInstalled } from './lib/machine.ts'
import { measureCalls, measureMemory, measureOpens, startLoad, type Bench } from './lib/measure.ts'
import { progress } from './lib/progress.ts'
import { renderResults, resultsJson, type Results } from './lib/report.ts'
import { CALL_ROWS, MEMORY_ROWS, OPEN_ROWS, type Row } from './lib/rows.ts'

const USAGE = `Usage: npm run bench -- [options]

  --quick          less of everything, under 3 minutes
  --only <ids>     rows whose id contains one of these, comma separated: bare, null, ours-v1-auto, sdk-v2, …
  --part <name>    only calls, memory or opens
  --profile        write CPU profiles of the servers to bench/results/raw/ (calls only; figures suffer)
  --help           this text
`

const QUICK = {
  calls: { warmupMs: 2200, roundMs: 900, rounds: 5 },
  memory: [2000],
  opens: { rounds: 3, sessions: 1000 },
}
const FULL = {
  calls: { warmupMs: 8000, roundMs: 3000, rounds: 9 },
  memory: [2000, 10_000],
  opens: { rounds: 5, sessions: 2000 },
}

const options = readOptions()
const results = await runBench()
progress('')
process.stdout.write(renderResults(results))
if (options.only === undefined && options.part === undefined && !options.profile) {
  mkdirSync(join(BENCH_DIR, 'results'), { recursive: true })
  writeFileSync(join(BENCH_DIR, 'results', 'latest.json'), resultsJson(results))
}
const failed = [...results.calls, ...results.memory, ...results.opens].some(({ failure }) =>
  failure?.startsWith('failed'),
)
process.exitCode = failed ? 1 : 0

interface Options {
  readonly quick: boolean
  readonly profile: boolean
  readonly only: readonly string[] | undefined
  readonly part: string | undefined
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string' },
        part: { type: 'string' },
        profile: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    if (values.help) {
      process.stdout.write(USAGE)
      process.exit(0)
    }
    if (values.part !== undefined && !['calls', 'memory', 'opens'].includes(values.part)) {
      throw new Error(`--part takes calls, memory or opens, got ${values.part}`)
    }
    return { quick: values.quick, profile: values.profile, only: values.only?.split(','), part: values.part }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`)
    process.exit(2)
  }
}

async function runBench(): Promise<Results> {
  installPeers()
  const plan = options.quick ? QUICK : FULL
  const entries = buildBench()
  const cores = findCores()
  const machine = describeMachine(cores)
  const built = builtState()
  if (built === 'stale')
    process.stderr.write('note: src/ is newer than dist/; npm run build first to measure it\n')
  const havePeers = peersInstalled()
  const bench: Bench = {
    entries,
    cores,
    load: await startLoad(entries, cores),
    unavailable: ({ spec }) => {
      if (spec.kind === 'ours' && built === 'missing') return 'not built (npm run build)'
      if (spec.kind === 'sdk' && !havePeers) return 'not installed (npm ci --prefix bench)'
      return undefined
    },
  }
  const wants = (part: string): boolean => (options.part ?? (options.profile ? 'calls' : part)) === part
  try {
    return {
      date: new Date().toISOString(),
      quick: options.quick,
      machine,
      calls: wants('calls') ? await measureCalls(bench, chosen(CALL_ROWS), callPlan(plan.calls)) : [],
      memory: wants('memory') ? await measureMemory(bench, chosen(MEMORY_ROWS), plan.memory) : [],
      opens: wants('opens') ? await measureOpens(bench, chosen(OPEN_ROWS), plan.opens) : [],
    }
  } finally {
    await bench.load.stop()
  }
}

function callPlan<T extends object>(plan: T): T & { nodeFlags?: readonly string[] } {
  const raw = join(BENCH_DIR, 'results', 'raw')
  return options.profile ? { ...plan, nodeFlags: ['--cpu-prof', `--cpu-prof-dir=${raw}`] } : plan
}

function chosen(rows: readonly Row[]): readonly Row[] {
  const { only } = options
  return only === undefined ? rows : rows.filter(({ id }) => only.some((part) => id.includes(part)))
}

/** The peers belong to the benchmark alone, so they are installed when it is first run, into bench/ only. */
function installPeers(): void {
  if (peersInstalled()) return
  progress('installing the peers into bench/')
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: BENCH_DIR, encoding: 'utf8' })
  if (npm.status !== 0) process.stderr.write(`note: the peers could not be installed\n${npm.stderr ?? ''}\n`)
}
