/** `npm run chaos -- <test>`: the reliability tests in full, with figures; what the gate runs of them is in the *.test.ts beside. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { writeFigures } from '../../scripts/figures.ts'
import { r7InProcess, r7OverHttp, type R7Result } from './r7.ts'
import { r9 as runR9 } from './r9.ts'
import { r10 as runR10 } from './r10.ts'
import { r15 as runR15, R15_SHORT, R15_WHOLE } from './r15.ts'
import { R8_SHORT, R8_WHOLE, r8 as runR8, type Times } from './r8.ts'

const HELP = `Runs reliability tests in full and writes their figures to bench/results/reliability.json and docs/guarantees.md.

  npm run chaos -- r7                        1,000,000 requests in this process, 20,000 over HTTP, at ±2 ms around expiry
  npm run chaos -- r7 --requests 50000       fewer in this process
  npm run chaos -- r7 --http 2000            fewer over HTTP
  npm run chaos -- r7 --seed 7               another run
  npm run chaos -- r8                        200 streams of 2,000 events, each cut 50 times and resumed; three minutes
  npm run chaos -- r8 --log sqlite           on this event log: memory (the default), sqlite, or batched, a stand-in for a slow one
  npm run chaos -- r8 --short                10 streams of 200 events, each cut 10 times; kept out of the figures
  npm run chaos -- r9                        a process killed 500 times while it writes into a SQLite store; eight minutes
  npm run chaos -- r9 --short                20 times; kept out of the figures
  npm run chaos -- r10                       a SQLite store cut at every byte of its last 4 KiB, 1,000 flipped bits, a full disk; two minutes
  npm run chaos -- r10 --short               at every 64th byte, 200 bits; kept out of the figures
  npm run chaos -- r15                       SIGTERM with 5,000 streams and 200 calls of 5 s, in three ways; a minute
  npm run chaos -- r15 --short               with 200 streams and 20 calls of 1 s; kept out of the figures

Exits with 1 when a promise was broken.
`

const RESULTS = fileURLToPath(new URL('../../bench/results/reliability.json', import.meta.url))

/** What `parseArgs` gives for {@link OPTIONS}. */
type Values = ReturnType<typeof parse>['values']

/** What a test found: the figures to keep under its name, and whether its promises held. */
interface Outcome {
  /** Undefined for a run that is not to be kept. */
  readonly name: string | undefined
  readonly figures: object
  readonly held: boolean
}

/** By name; each prints what it found. */
const TESTS: Readonly<Record<string, (values: Values) => Promise<Outcome>>> = { r7, r8, r9, r10, r15 }

const OPTIONS = {
  requests: { type: 'string', default: '1000000' },
  http: { type: 'string', default: '20000' },
  log: { type: 'string', default: 'memory' },
  short: { type: 'boolean', default: false },
  seed: { type: 'string', default: '1' },
  help: { type: 'boolean', short: 'h', default: false },
} as const

function parse() {
  return parseArgs({ allowPositionals: true, options: OPTIONS })
}

async function main(): Promise<number> {
  const { values, positionals } = parse()
  if (values.help || positionals.length === 0) {
    process.stdout.write(HELP)
    return values.help ? 0 : 2
  }
  const tests = positionals.map((name) => {
    const run = TESTS[name]
    if (run === undefined)
      throw new RangeError(`there is no test '${name}'; there is ${Object.keys(TESTS).join(', ')}`)
    return run
  })
  let held = true
  for (const run of tests) {
    const outcome = await run(values)
    if (outcome.name !== undefined) write(outcome.name, outcome.figures)
    held &&= outcome.held
  }
  return held ? 0 : 1
}

async function r7(values: Values): Promise<Outcome> {
  const seed = wholeNumber('seed', values.seed)
  const inProcess = await r7InProcess(wholeNumber('requests', values.requests), seed, progress)
  progress('')
  print('R7 in process', inProcess)
  const overHttp = await r7OverHttp(wholeNumber('http', values.http), seed, progress)
  progress('')
  print('R7 over HTTP', overHttp)
  const held = inProcess.violations.length + overHttp.violations.length === 0
  return { name: 'r7', figures: { seed, inProcess, overHttp }, held }
}

/** Figures are kept by event log. A resume of 50 events is to take at most 25 ms in 99 of 100 cases. */
async function r8(values: Values): Promise<Outcome> {
  const { log, short } = values
  const options = short ? R8_SHORT : R8_WHOLE
  const seed = wholeNumber('seed', values.seed)
  const result = await runR8({ ...options, log, seed }, progress)
  progress('')
  const { delivered, lost, doubled, disordered, cuts, resumes, refused, resumeOf50, violations } = result
  const ms = ({ p50, p99, max }: Times): string =>
    `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, max ${max.toFixed(1)} ms`
  process.stdout.write(
    `R8 ${log}: ${delivered} events, ${lost} lost, ${doubled} doubled, ${disordered} out of order; ` +
      `cuts: ${cuts.fin} FIN, ${cuts.rst} RST, ${cuts.silence} silences, ${result.cutsInReplay} of all in a replay; ` +
      `${resumes} resumes, ${refused} told to wait; ${resumeOf50.count} of 50 events: ${ms(resumeOf50)} ` +
      `(a ping on a new connection: ${ms(result.pings)}); ${result.seconds.toFixed(1)} s, ${violations.length} violations\n`,
  )
  for (const violation of violations) process.stdout.write(`  ${violation}\n`)
  const held = violations.length === 0 && (short || resumeOf50.p99 <= 25)
  return { name: short ? undefined : `r8-${log}`, figures: { seed, ...result }, held }
}

async function r9(values: Values): Promise<Outcome> {
  const result = await runR9(values.short ? 20 : 500, wholeNumber('seed', values.seed), progress)
  progress('')
  const { rounds, sessions, events, deletes, seconds, violations } = result
  process.stdout.write(
    `R9: ${rounds} rounds, acknowledged ${sessions} saves, ${events} events, ${deletes} deletes, ${seconds.toFixed(1)} s, ` +
      `${violations.length} violations\n`,
  )
  for (const violation of violations) process.stdout.write(`  ${violation}\n`)
  return { name: values.short ? undefined : 'r9', figures: result, held: violations.length === 0 }
}

async function r10(values: Values): Promise<Outcome> {
  const size = values.short ? { everyBytes: 64, flips: 200 } : { everyBytes: 1, flips: 1000 }
  const result = await runR10({ ...size, seed: wholeNumber('seed', values.seed) }, progress)
  progress('')
  const { truncations, flips, opened, refused, warned, shorter, diskFull, seconds, violations } = result
  process.stdout.write(
    `R10: ${truncations} truncations, ${flips} flipped bits: ${opened} opened (${shorter} without the end of their WAL), ` +
      `${refused} refused by name, ${warned} rows dropped with a line in the log; disk full: ${diskFull ?? 'not tried, nothing can be mounted'}; ` +
      `${seconds.toFixed(1)} s, ${violations.length} violations\n`,
  )
  for (const violation of violations) process.stdout.write(`  ${violation}\n`)
  return { name: values.short ? undefined : 'r10', figures: result, held: violations.length === 0 }
}

async function r15(values: Values): Promise<Outcome> {
  const result = await runR15(values.short ? R15_SHORT : R15_WHOLE, progress)
  progress('')
  for (const name of ['drained', 'overdue', 'twice'] as const) {
    const { exit, exitAfter, answered, failed, lost, ended, mostInASecond } = result[name]
    process.stdout.write(
      `R15 ${name}: exit ${exit} after ${exitAfter} ms, ${answered} calls answered, ${failed} ended with an error, ${lost} without any; ` +
        `${ended} streams ended, at most ${mostInASecond} in a second\n`,
    )
  }
  for (const violation of result.violations) process.stdout.write(`  ${violation}\n`)
  return { name: values.short ? undefined : 'r15', figures: result, held: result.violations.length === 0 }
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1)
    throw new RangeError(`--${name} takes a whole number from 1, got '${text}'`)
  return value
}

function print(title: string, result: R7Result): void {
  const { requests, served, notFound, servedLate, sessions, latest, seconds, violations } = result
  process.stdout.write(
    `${title}: ${requests} requests, ${served} served (${servedLate} after the deadline), ${notFound} clean 404s, ` +
      `${sessions} sessions, the latest ended ${latest.toFixed(3)} ms after its deadline, ${seconds.toFixed(1)} s, ` +
      `${violations.length} violations\n`,
  )
  for (const violation of violations) process.stdout.write(`  ${violation}\n`)
}

/** Adds the figures of one test to those of the others. */
function write(name: string, figures: object): void {
  const all = existsSync(RESULTS)
    ? (JSON.parse(readFileSync(RESULTS, 'utf8')) as Record<string, unknown>)
    : {}
  const machine = {
    node: process.version,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    loadAfter: loadavg()[0],
    date: new Date().toISOString().slice(0, 10),
  }
  all[name] = { ...figures, machine }
  mkdirSync(new URL('.', `file://${RESULTS}`), { recursive: true })
  writeFileSync(RESULTS, `${JSON.stringify(all, undefined, 2)}\n`)
  writeFigures()
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[2K${text}`)
}

process.exitCode = await main()
