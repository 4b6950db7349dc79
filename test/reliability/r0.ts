/** R0 for `npm run chaos`: the simulation of test/simulation by many seeds, and how often each promise was at stake in them. */

import { availableParallelism } from 'node:os'

import { type KindName, type Promised, PROMISES, STAKES, type Stake } from '../simulation/promises.ts'
import { describeViolation } from '../simulation/record.ts'
import { runSeeds, type Summary } from '../simulation/seeds.ts'
import { type Chaos, count, type Findings, type Progress, seconds } from './chaos.ts'

/** What came of one kind. */
interface R0Kind {
  readonly kind: KindName
  readonly seeds: number
  readonly failed: number
  /** How often each promise was put to the test. */
  readonly atStake: Readonly<Partial<Record<Promised, number>>>
  /** What was so least often, and how often that was. */
  readonly rarest: { readonly stake: Stake; readonly times: number }
  readonly seconds: number
}

interface R0Findings extends Findings {
  /** The first seed. */
  readonly seed: number
  /** Seeds of each kind. */
  readonly seeds: number
  readonly kinds: readonly R0Kind[]
}

/** What `--short` runs: enough that everything is at stake. */
const SHORT = 100

/** Failing seeds of a kind that are told of; `npm run simulate` shrinks one. */
const MOST_TOLD = 10

async function r0(from: number, seeds: number, jobs: number, progress: Progress): Promise<R0Findings> {
  const kinds: R0Kind[] = []
  const violations: string[] = []
  for (const kind of Object.keys(STAKES) as KindName[]) {
    const started = performance.now()
    const summary = await runSeeds(kind, from, seeds, jobs, (done, failed) => {
      const left = ((performance.now() - started) / done) * (seeds - done)
      progress(
        `R0: ${kind}, ${done} of ${seeds} seeds, ${failed} failed, about ${Math.ceil(left / 1000)} s left`,
      )
    })
    kinds.push(inShort(summary))
    violations.push(...violationsOf(summary))
  }
  return { seed: from, seeds, kinds, violations }
}

function inShort({ kind, seeds, failed, stakes, seconds: took }: Summary): R0Kind {
  const atStake: Partial<Record<Promised, number>> = {}
  for (const [stake, promised] of Object.entries(STAKES[kind]) as [Stake, Promised][])
    atStake[promised] = (atStake[promised] ?? 0) + (stakes.get(stake) ?? 0)
  const [rarest = { stake: 'run ended clean' as const, times: 0 }] = (Object.keys(STAKES[kind]) as Stake[])
    .map((stake) => ({ stake, times: stakes.get(stake) ?? 0 }))
    .sort((a, b) => a.times - b.times)
  return { kind, seeds, failed, atStake, rarest, seconds: took }
}

function violationsOf({ kind, failed, failures, unstable, rare, needed, stakes }: Summary): string[] {
  const told = failures.slice(0, MOST_TOLD).map(({ seed, violations }) => {
    const [first] = violations
    const text = first === undefined ? '' : describeViolation(first)
    return `${kind} ${seed}: ${text} (npm run simulate -- --kind ${kind} --seed ${seed})`
  })
  if (failed > told.length) told.push(`${kind}: ${failed - told.length} more seeds`)
  return [
    ...told,
    ...unstable.map((seed) => `${kind} ${seed}: another history the second time`),
    ...rare.map((stake) => `${kind}: '${stake}' was at stake ${stakes.get(stake) ?? 0} times of ${needed}`),
  ]
}

/** `npm run chaos -- r0` */
export const chaos: Chaos<R0Findings> = {
  name: 'r0',
  help: [
    ['', 'the simulation: 2,000 seeds of each of its kinds, beginning with --seed'],
    ['--seeds 100000', 'more of them'],
    ['--jobs 1', 'in one process instead of two'],
    ['--short', `${SHORT} seeds of each kind`],
  ],
  options: {
    seeds: { type: 'string', default: '2000' },
    jobs: { type: 'string', default: String(Math.min(2, availableParallelism())) },
  },
  run: (args, progress) =>
    r0(args.seed, args.short ? SHORT : args.count('seeds'), args.count('jobs'), progress),
  tell: ({ kinds }) =>
    kinds
      .map(
        ({ kind, seeds, failed, atStake, rarest, seconds: took }) =>
          `R0 ${kind}: ${count(seeds)} seeds, ${failed} failed, ${seconds(took * 1000)}; at stake ` +
          `${Object.entries(atStake)
            .map(([promised, times]) => `${promised} ${PROMISES[promised as Promised]} ${count(times)}`)
            .join(', ')}; rarest: ${rarest.stake}, ${count(rarest.times)}`,
      )
      .join('\n'),
  row: ({ seeds, kinds }) => ({
    test: 'R0 · 1–9',
    done: `${count(seeds)} seeds of each kind of simulation (${kinds.map(({ kind }) => kind).join(', ')}), every promise checked on every history`,
    came: `${kinds.reduce((sum, { failed }) => sum + failed, 0)} failed; at stake: ${promisesOf(kinds)}`,
  }),
}

/** `1 12,345 times, 2 …` over all kinds; the tenth is at stake in each run. */
function promisesOf(kinds: readonly R0Kind[]): string {
  return (Object.keys(PROMISES) as Promised[])
    .map(
      (promised) =>
        [promised, kinds.reduce((sum, { atStake }) => sum + (atStake[promised] ?? 0), 0)] as const,
    )
    .filter(([, times]) => times > 0)
    .map(([promised, times]) => `${promised.slice(1)} ${count(times)}×`)
    .join(', ')
}
