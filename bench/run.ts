/**
 * `npm run bench`: ours, the peers from the registry and the limits in turn, in one run.
 * What it measures and how to read it stands in NOTES.md.
 */

import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Bench, startLoad } from './lib/bench.ts'
import { BENCH_DIR, buildBench, builtState } from './lib/build.ts'
import { measureCalls, measureSpread } from './lib/calls.ts'
import { findCores } from './lib/cores.ts'
import { judge } from './lib/goals.ts'
import { describeMachine, peersInstalled } from './lib/machine.ts'
import { nodeBinary } from './lib/nodes.ts'
import { drawPicture } from './lib/picture.ts'
import { type Plan, PLANS } from './lib/plans.ts'
import { progress } from './lib/progress.ts'
import { installPython } from './lib/python.ts'
import { clearRaw, PART_NAMES, type Parts, readRaw, type RunInfo, writeRaw } from './lib/raw.ts'
import { renderResults, resultsJson } from './lib/report.ts'
import {
  BROADCAST_ROWS,
  CALL_ROWS,
  MEMORY_ROWS,
  MODERN_ROWS,
  OPEN_ROWS,
  RESUME_ROWS,
  type Row,
  SPREAD_ROWS,
  STREAM_ROWS,
} from './lib/rows.ts'
import { measureEnding, measureStore, measureTouching, measureWaking } from './lib/scale.ts'
import { measureMemory, measureOpens } from './lib/sessions.ts'
import { measureBroadcast, measureResume, measureStreams } from './lib/streams.ts'

const USAGE = `Usage: npm run bench -- [options]

  --quick          less of everything, under 3 minutes; goals that it does not measure say so
  --goals          every goal and the rows it needs, about 6 minutes
  --long           more rounds of everything
  --smoke          the least of everything: whether every row works; the figures mean nothing
  --python         the Python SDK and FastMCP as well, installed into bench/.venv/
  --node <majors>  once on each of these versions of Node: 20,22,24
  --only <ids>     rows whose id contains one of these, comma separated: bare, null, ours-v1-auto, sdk-v2, …
  --part <names>   only these parts, comma separated: ${PART_NAMES.join(', ')}
  --profile        write CPU profiles of the servers to bench/results/raw/ (calls only; figures suffer)
  --again          make tables, JSON and picture of the samples of the last run anew
  --help           this text

Without --quick, --goals or --long: every row and every goal, about 10 minutes.
A run without --only, --part and --smoke writes bench/results/latest.json and bench/results/picture.svg.
`

const RESULTS = join(BENCH_DIR, 'results')

const options = readOptions()
if (options.again) report(join(RESULTS, 'raw'), RESULTS, 'latest')
else await runAll()

interface Options {
  readonly plan: Plan
  readonly profile: boolean
  readonly python: boolean
  readonly again: boolean
  readonly nodes: readonly number[] | undefined
  readonly only: readonly string[] | undefined
  readonly parts: readonly string[] | undefined
}

function readOptions(): Options {
  try {
    const flag = { type: 'boolean', default: false } as const
    const { values } = parseArgs({
      options: {
        quick: flag,
        goals: flag,
        long: flag,
        smoke: flag,
        python: flag,
        profile: flag,
        again: flag,
        node: { type: 'string' },
        only: { type: 'string' },
        part: { type: 'string' },
        help: flag,
      },
    })
    if (values.help) {
      process.stdout.write(USAGE)
      process.exit(0)
    }
    const parts = values.profile ? ['calls'] : values.part?.split(',')
    const unknown = parts?.find((part) => !(PART_NAMES as readonly string[]).includes(part))
    if (unknown !== undefined) throw new Error(`--part takes ${PART_NAMES.join(', ')}; got ${unknown}`)
    const nodes = values.node?.split(',').map(Number)
    if (nodes?.some((major) => !Number.isInteger(major)))
      throw new Error(`--node takes majors such as 20,22,24; got ${values.node}`)
    const mode = values.smoke
      ? 'smoke'
      : values.quick
        ? 'quick'
        : values.goals
          ? 'goals'
          : values.long
            ? 'long'
            : 'full'
    const { profile, python, again } = values
    return { plan: PLANS[mode], profile, python, again, nodes, only: values.only?.split(','), parts }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`)
    process.exit(2)
  }
}

async function runAll(): Promise<void> {
  if (!peersInstalled()) installPeers()
  if (options.python) {
    progress('installing the Python servers into bench/.venv/')
    const failure = installPython()
    if (failure !== undefined) process.stderr.write(`note: ${failure}\n`)
  }
  if (options.nodes === undefined) return await runOn(process.execPath, join(RESULTS, 'raw'), 'latest')
  for (const major of options.nodes) {
    progress(`Node ${major}`)
    await runOn(nodeBinary(major), join(RESULTS, 'raw', `node-${major}`), `node-${major}`)
  }
}

/** One run on one Node; a part of a run is kept apart from whole ones. */
async function runOn(node: string, folder: string, name: string): Promise<void> {
  const whole = options.only === undefined && options.parts === undefined && options.plan.mode !== 'smoke'
  const raw = whole ? folder : join(folder, 'partial')
  clearRaw(raw)
  await measure(node, raw)
  progress('')
  report(raw, whole ? RESULTS : undefined, name)
}

async function measure(node: string, folder: string): Promise<void> {
  const began = performance.now()
  const { plan } = options
  const entries = buildBench()
  const cores = findCores(node)
  const machine = describeMachine(cores)
  const run: RunInfo = { date: new Date().toISOString(), mode: plan.mode, machine, seconds: 0 }
  const built = builtState()
  if (built === 'stale')
    process.stderr.write('note: src/ is newer than dist/; npm run build first to measure it\n')
  const havePeers = peersInstalled()
  const major = Number(/^v(\d+)/.exec(machine.node)?.[1])
  const bench: Bench = {
    entries,
    cores,
    load: await startLoad(entries, cores),
    nodeFlags: options.profile ? ['--cpu-prof', `--cpu-prof-dir=${join(RESULTS, 'raw')}`] : [],
    unavailable: ({ spec, needs }) => {
      if (spec.kind === 'ours' && built === 'missing') return 'not built (npm run build)'
      if (needs?.python === true) return options.python ? undefined : 'only with --python'
      if (needs?.node !== undefined && major < needs.node) return `needs Node ${needs.node}`
      const peer = !['ours', 'bare', 'null'].includes(spec.kind)
      return peer && !havePeers ? 'not installed (npm ci --prefix bench)' : undefined
    },
  }
  const measurements: Readonly<Record<keyof Parts, () => Promise<unknown>>> = {
    calls: () => measureCalls(bench, chosen([...CALL_ROWS, ...MODERN_ROWS]), plan.calls),
    opens: () => measureOpens(bench, chosen(OPEN_ROWS), plan.opens),
    memory: () => measureMemory(bench, chosen(MEMORY_ROWS), plan.memory),
    streams: () => measureStreams(bench, chosen(STREAM_ROWS), plan.streams),
    resume: () => measureResume(bench, chosen(RESUME_ROWS), plan.resume),
    store: () => Promise.resolve(measureStore(bench, plan)),
    waking: () => measureWaking(bench, plan),
    ending: () => measureEnding(bench, plan),
    touching: () => measureTouching(bench, plan),
    spread: () => measureSpread(bench, chosen(SPREAD_ROWS), plan.spread),
    broadcast: () => measureBroadcast(bench, chosen(BROADCAST_ROWS), plan.broadcast),
  }
  try {
    for (const name of PART_NAMES) {
      if (!(options.parts?.includes(name) ?? !plan.without.includes(name))) continue
      const from = performance.now()
      writeRaw(folder, name, await measurements[name]())
      if (!process.stderr.isTTY)
        process.stderr.write(`${name}: ${Math.round((performance.now() - from) / 1000)} s\n`)
    }
  } finally {
    await bench.load.stop()
    run.seconds = (performance.now() - began) / 1000
    writeRaw(folder, 'run', run)
  }
}

/** Tables, JSON and picture, made of the raw samples alone. */
function report(folder: string, into: string | undefined, name: string): void {
  const raw = readRaw(folder)
  const goals = judge(raw)
  process.stdout.write(renderResults(raw, goals))
  if (into !== undefined) {
    mkdirSync(into, { recursive: true })
    writeFileSync(join(into, `${name}.json`), resultsJson(raw, goals))
    const picture = name === 'latest' && raw.run.mode !== 'quick' ? drawPicture(raw) : undefined
    if (picture !== undefined) writeFileSync(join(into, 'picture.svg'), picture)
  }
  const { run: _run, ...parts } = raw
  const failed = Object.values(parts).some((rows) =>
    rows.some(({ failure }) => failure?.startsWith('failed') === true),
  )
  if (failed) process.exitCode = 1
}

function chosen(rows: readonly Row[]): readonly Row[] {
  const { only, plan } = options
  if (only !== undefined) return rows.filter(({ id }) => only.some((part) => id.includes(part)))
  return plan.quickRows ? rows.filter(({ quick }) => quick) : rows
}

/** The peers belong to the benchmark alone, so they are installed when it is first run, into bench/ only. */
function installPeers(): void {
  progress('installing the peers into bench/')
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: BENCH_DIR, encoding: 'utf8' })
  if (npm.status !== 0) process.stderr.write(`note: the peers could not be installed\n${npm.stderr ?? ''}\n`)
}
