/** `npm run simulate`: R0 of the reliability tests, by seeds. */

import { parseArgs } from 'node:util'
import { raceInProcess, raceOverHttp } from './expiry-race.ts'
import { SIMULATIONS } from './kinds.ts'
import { CHECKS, type KindName, PROMISES, type Promised, STAKES, type Stake } from './promises.ts'
import { describeViolation, type Violation } from './record.ts'
import { runSeeds, type Summary } from './seeds.ts'
import type { PlanLike } from './simulation.ts'

const HELP = `Runs the production code over a virtual clock with simulated clients, connections and stores, and checks every promise of
docs/guarantees.md on every history. There are three kinds: sessions (the manager with streams, limits, admission, expiry,
sleep and drain), sleep (with instances that sleep and fail to wake), restart (with processes that die over a slow store that fails at times).

  npm run simulate -- --seeds 2000          seeds 1 to 2000 of every kind (default 200)
  npm run simulate -- --seeds 200 --from 5  seeds 5 to 204
  npm run simulate -- --kind restart        sessions, sleep, restart, or all (default)
  npm run simulate -- --jobs 2              in so many processes (default 1)
  npm run simulate -- --seed 17             one seed of sessions, or of --kind, with its history; shrunk when it fails
  npm run simulate -- --seed 17 --about P4  the same, shrunk for the first violation that has the text
  npm run simulate -- --seed 17 --fault TEXT  the same with the deliberate fault whose name has the text
  npm run simulate -- --faults              every deliberate fault, and which seed catches it
  npm run simulate -- --faults --only TEXT  those whose name has the text
  npm run simulate -- --checks              which check proves which promise
  npm run simulate -- --races 1000000       requests around expiry, a fiftieth of them over HTTP

A seed gives the same history each time; one of fifty is run twice to prove it. Fails when a promise is broken, or something was too
rarely at stake: less than 1,000 times in 2,000 seeds and more, than a quarter as often as there are seeds below that.
`

/** Failing seeds looked at in full, and told of. */
const MOST_EXPLAINED = 2
const MOST_TOLD = 60

const OPTIONS = {
  kind: { type: 'string' },
  seeds: { type: 'string', default: '200' },
  seed: { type: 'string' },
  from: { type: 'string', default: '1' },
  jobs: { type: 'string', default: '1' },
  faults: { type: 'boolean', default: false },
  fault: { type: 'string' },
  only: { type: 'string', default: '' },
  about: { type: 'string', default: '' },
  checks: { type: 'boolean', default: false },
  races: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const

async function main(): Promise<number> {
  const { values } = parseArgs({ options: OPTIONS })
  if (values.help) {
    process.stdout.write(HELP)
    return 0
  }
  if (values.checks) return printChecks()
  if (values.races !== undefined) return runRaces(number('races', values.races))
  if (values.seed !== undefined)
    return runOne(kinds(values.kind ?? 'sessions'), number('seed', values.seed), values.about, values.fault)
  const chosen = kinds(values.kind ?? 'all')
  if (values.faults) return runFaults(chosen, values.only)
  const [from, seeds, jobs] = [
    number('from', values.from),
    number('seeds', values.seeds),
    number('jobs', values.jobs, 1),
  ]
  let code = 0
  for (const kind of chosen) code = Math.max(code, await runMany(kind, from, seeds, jobs))
  return code
}

function number(name: string, text: string, least = 0): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < least)
    throw new RangeError(`--${name} takes a whole number from ${least}, got '${text}'`)
  return value
}

function kinds(text: string): KindName[] {
  const names = Object.keys(STAKES) as KindName[]
  const chosen = names.filter((name) => text === name || text === 'all')
  if (chosen.length === 0) throw new RangeError(`--kind takes ${names.join(', ')} or all, got '${text}'`)
  return chosen
}

async function runOne(
  chosen: readonly KindName[],
  seed: number,
  about: string,
  faultName: string | undefined,
): Promise<number> {
  let code = 0
  for (const kind of chosen) {
    const simulation = SIMULATIONS[kind]
    const fault = simulation.faults.find(({ name }) => faultName !== undefined && name.includes(faultName))
    if (faultName !== undefined && fault === undefined)
      throw new RangeError(`no deliberate fault of ${kind} has '${faultName}' in its name`)
    const { recorder, duration } = await simulation.run(seed, { keepHistory: true, fault })
    print(recorder.lines.join('\n'))
    print(
      `\nseed ${seed} of ${kind}: ${recorder.lines.length} lines, ${(duration / 1000).toFixed(1)} s of virtual time, hash ${recorder.hash}`,
    )
    if (recorder.violations.length === 0) continue
    code = 1
    const matching = recorder.violations.filter((violation) => describeViolation(violation).includes(about))
    await explain(kind, seed, matching, fault)
  }
  return code
}

async function runMany(kind: KindName, from: number, seeds: number, jobs: number): Promise<number> {
  const started = performance.now()
  const summary = await runSeeds(kind, from, seeds, jobs, (done, failed) => {
    const left = ((performance.now() - started) / done) * (seeds - done)
    progress(`${kind}: ${done} of ${seeds} seeds, ${failed} failed, about ${Math.ceil(left / 1000)} s left`)
  })
  progress('')
  print(`\n== ${kind}`)
  for (const { seed, violations } of summary.failures.slice(0, MOST_EXPLAINED)) {
    print(`\nSeed ${seed} breaks a promise (npm run simulate -- --kind ${kind} --seed ${seed}):`)
    await explain(kind, seed, violations)
  }
  for (const { seed, violations } of summary.failures.slice(MOST_EXPLAINED, MOST_TOLD))
    print(`  seed ${seed}: ${violations[0] === undefined ? '' : describeViolation(violations[0])}`)
  for (const seed of summary.unstable) print(`seed ${seed} of ${kind} gives another history the second time`)
  printStakes(summary)
  print(
    `${seeds - summary.failed} seeds of ${kind} passed, ${summary.failed} failed, in ${summary.seconds.toFixed(1)} s`,
  )
  return summary.failed + summary.rare.length + summary.unstable.length === 0 ? 0 : 1
}

/** What was at stake, per promise. */
function printStakes({ kind, stakes, rare, needed }: Summary): void {
  const perPromise = new Map<Promised, Stake[]>()
  for (const [stake, promised] of Object.entries(STAKES[kind]) as [Stake, Promised][])
    perPromise.set(promised, [...(perPromise.get(promised) ?? []), stake])
  print('How often each promise was at stake:')
  for (const [promised, list] of perPromise)
    print(
      `  ${promised} ${PROMISES[promised]}: ${list.map((stake) => `${stake} ${stakes.get(stake) ?? 0}`).join(' · ')}`,
    )
  for (const stake of rare) print(`  too rare: ${stake}, ${needed} needed`)
}

/** Which check proves which promise. */
function printChecks(): number {
  for (const [promised, name] of Object.entries(PROMISES)) {
    print(`${promised} ${name}`)
    for (const [check, proves] of Object.entries(CHECKS)) if (proves === promised) print(`     ${check}`)
  }
  return 0
}

async function runRaces(requests: number): Promise<number> {
  let wrong = 0
  for (const [where, race, count] of [
    ['in this process', raceInProcess, requests],
    ['over HTTP', raceOverHttp, Math.ceil(requests / 50)],
  ] as const) {
    const started = performance.now()
    const result = await race(count)
    wrong += result.wrong.length
    print(
      `${result.requests} requests ${where}, ${result.sessions} sessions: ${result.served} served, ${result.refused} too late, in ${((performance.now() - started) / 1000).toFixed(1)} s`,
    )
    for (const text of result.wrong) print(`  wrong: ${text}`)
  }
  return wrong === 0 ? 0 : 1
}

async function runFaults(chosen: readonly KindName[], only: string): Promise<number> {
  let missed = 0
  let count = 0
  for (const kind of chosen) {
    const simulation = SIMULATIONS[kind]
    for (const fault of simulation.faults) {
      if (!fault.name.includes(only)) continue
      count += 1
      const caught = await simulation.catchFault(fault)
      if (caught === undefined) missed += 1
      print(
        `${caught === undefined ? 'MISSED' : 'caught'}  ${kind}  ${fault.breaks.join('/')}  ${fault.name}`,
      )
      if (caught !== undefined)
        print(`          seed ${caught.seed}: ${describeViolation(caught.violation).slice(0, 200)}`)
    }
  }
  print(`\n${count - missed} of ${count} faults caught`)
  return missed === 0 ? 0 : 1
}

/** Prints what a failing seed breaks, and the shortest history that still breaks it. */
async function explain(
  kind: KindName,
  seed: number,
  violations: readonly Violation[],
  fault?: (typeof SIMULATIONS)[KindName]['faults'][number],
): Promise<void> {
  for (const violation of violations.slice(0, 5))
    print(`  ${describeViolation(violation)} at ${violation.at.toFixed(2)}`)
  const [first] = violations
  if (first === undefined) return
  const { plan, before, after, result } = await SIMULATIONS[kind].shrink(seed, first, fault)
  print(`\nShrunk from ${before} to ${after} steps:`)
  printPlan(plan)
  print(result.recorder.lines.join('\n'))
}

function printPlan({ clients, conditions }: PlanLike): void {
  for (const [index, client] of clients.entries()) {
    if (client.steps.length === 0) continue
    print(`  c${index} ${JSON.stringify({ ...client, steps: undefined })}`)
    for (const step of client.steps) print(`     ${JSON.stringify(step)}`)
  }
  print(`  ${JSON.stringify(conditions)}`)
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Shows how far it is, on a terminal only; an empty text takes it away. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`)
}

process.exitCode = await main()
