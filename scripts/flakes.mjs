/**
 * Runs the test suite many times in a row, each time in another order, and says what did not always pass.
 * `node scripts/flakes.mjs [--runs N] [--seed N] [--load N] [PATH…]`; what each failed run printed is kept.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const HELP = `Runs the tests again and again, and reports every failure with the seed of its order. Never stops at the first one.

  npm run flakes                             20 runs of everything
  npm run flakes -- --runs 5 test/wire       5 runs of what is named, as vitest takes it
  npm run flakes -- --runs 1 --seed 7        the order of seed 7 once more
  npm run flakes -- --load 4                 with 4 processes that only burn time beside it (--load alone: one a core)
  npm run flakes -- --in-order               files and tests in the order they are written
  npm run flakes -- --limit 30               minutes after which a run is ended and counts as failed (default 20)
  npm run flakes -- --project node           one face only

What the failed runs printed is kept in flakes/ (not in git). Exit code 1 when anything failed, 2 for a wrong flag.
`

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const kept = join(root, 'flakes')

function number(name, text, least) {
  const value = Number(text)
  if (!Number.isInteger(value) || value < least) {
    console.error(`--${name} takes a whole number from ${least}, got '${text}'`)
    process.exit(2)
  }
  return value
}

function readFlags() {
  // `--load` alone is a flag as well.
  const args = process.argv
    .slice(2)
    .flatMap((arg, i, all) =>
      arg === '--load' && !/^\d+$/.test(all[i + 1] ?? '')
        ? ['--load', String(availableParallelism())]
        : [arg],
    )
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        runs: { type: 'string', default: '20' },
        seed: { type: 'string', default: '1' },
        load: { type: 'string', default: '0' },
        limit: { type: 'string', default: '20' },
        project: { type: 'string', multiple: true, default: [] },
        'in-order': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (error) {
    console.error(error.message)
    process.exit(2)
  }
}

const { values, positionals } = readFlags()
if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}
const runs = number('runs', values.runs, 1)
const firstSeed = number('seed', values.seed, 1)
const limit = number('limit', values.limit, 1) * 60_000
const burners = Array.from({ length: number('load', values.load, 0) }, () =>
  spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
)
let running
const stop = (signal) => {
  for (const burner of burners) burner.kill('SIGKILL')
  if (running !== undefined) killGroup(running)
  if (signal !== undefined) process.exit(signal === 'SIGINT' ? 130 : 143)
}
process.once('SIGINT', stop).once('SIGTERM', stop)

/** Ends a run with all of its processes; the servers that tests started belong to its group. */
function killGroup(child) {
  try {
    process.kill(process.platform === 'win32' ? child.pid : -child.pid, 'SIGKILL')
  } catch {
    // It has ended by itself.
  }
}

/** One run: what failed in it, by name, and how many tests there were. */
async function run(seed) {
  const report = join(kept, `seed-${seed}.json`)
  rmSync(report, { force: true })
  const args = [
    join(root, 'node_modules/vitest/vitest.mjs'),
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...(values['in-order']
      ? []
      : ['--sequence.shuffle.files', '--sequence.shuffle.tests', `--sequence.seed=${seed}`]),
    ...values.project.map((name) => `--project=${name}`),
    ...positionals,
  ]
  const child = spawn(process.execPath, args, {
    cwd: root,
    detached: process.platform !== 'win32',
    env: { ...process.env, NO_COLOR: '1', CI: 'true' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running = child
  const output = []
  child.stdout.on('data', (chunk) => output.push(chunk))
  child.stderr.on('data', (chunk) => output.push(chunk))
  let late = false
  const timer = setTimeout(() => {
    late = true
    killGroup(child)
  }, limit)
  const code = await new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? signal)))
  clearTimeout(timer)
  running = undefined

  const failures = new Map()
  let passed = 0
  if (existsSync(report)) {
    for (const { name: file, assertionResults, message } of JSON.parse(readFileSync(report, 'utf8'))
      .testResults) {
      const path = relative(root, file)
      for (const { fullName, status, failureMessages } of assertionResults) {
        if (status === 'passed') passed += 1
        if (status === 'failed') failures.set(`${path} > ${fullName}`, failureMessages[0] ?? '')
      }
      if (assertionResults.length === 0 && message) failures.set(path, message)
    }
    rmSync(report)
  }
  if (late) failures.set(`(the run was ended after ${values.limit} minutes)`, '')
  // An error outside of every test, such as a rejection that nobody handled, fails a run in which every test passed.
  else if (code !== 0 && failures.size === 0) failures.set(`(the run as a whole: exit ${code})`, '')
  else if (passed + failures.size === 0) failures.set('(no test ran)', '')
  const log = join(kept, `seed-${seed}.log`)
  if (failures.size > 0) writeFileSync(log, Buffer.concat(output))
  else rmSync(log, { force: true })
  return { failures, passed, log }
}

mkdirSync(kept, { recursive: true })
const seen = new Map()
let failedRuns = 0
for (let n = 0; n < runs; n++) {
  const seed = firstSeed + n
  const began = performance.now()
  // One after the other: runs beside each other would be a load of their own.
  // oxlint-disable-next-line eslint/no-await-in-loop
  const { failures, passed, log } = await run(seed)
  const took = `${Math.round((performance.now() - began) / 1000)} s`
  const load = loadavg()[0].toFixed(1)
  console.log(
    `run ${n + 1}/${runs}  seed ${seed}  ${took}, load ${load}: ${passed} passed, ${failures.size} failed`,
  )
  if (failures.size === 0) continue
  failedRuns += 1
  console.log(`  ${relative(root, log)}`)
  for (const [name, message] of failures) {
    console.log(`  FAIL ${name}\n       ${message.split('\n', 1)[0]}`)
    seen.set(name, [...(seen.get(name) ?? []), seed])
  }
}
stop()

if (seen.size === 0) {
  console.log(`\n${runs} of ${runs} runs passed`)
} else {
  console.log(`\n${runs - failedRuns} of ${runs} runs passed. What failed, how often, with which seeds:`)
  for (const [name, seeds] of [...seen].sort((a, b) => b[1].length - a[1].length))
    console.log(`  ${String(seeds.length).padStart(3)} ×  ${name}  (${seeds.join(', ')})`)
  console.log('Once more in the same order: npm run flakes -- --runs 1 --seed SEED, with the same paths')
  process.exitCode = 1
}
