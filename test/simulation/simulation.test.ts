/** R0 in its short form: a few seeds of each kind, the same history twice, and every deliberate fault. `npm run simulate` is the long one. */

import { describe, expect, test } from 'vitest'

import { raceInProcess, raceOverHttp } from './expiry-race.ts'
import { SIMULATIONS } from './kinds.ts'
import { makePlan } from './plan.ts'
import { CHECKS, type KindName, PROMISES, STAKES } from './promises.ts'
import { describeViolation } from './record.ts'
import { runSeeds } from './seeds.ts'
import { shrink, sizeOf } from './shrink.ts'

/** Seeds of each kind here; the gate runs 2,000 by `npm run simulate`. */
const SEEDS = 30

const KINDS = Object.keys(STAKES) as KindName[]

describe.each(KINDS)('R0, %s', (kind) => {
  const simulation = SIMULATIONS[kind]

  test(`${SEEDS} seeds break no promise`, async () => {
    const { failures, unstable } = await runSeeds(kind, 1, SEEDS, 1)
    const told = failures.flatMap(({ seed, violations }) =>
      violations.map((one) => `seed ${seed}: ${describeViolation(one)}`),
    )
    expect(told).toEqual([])
    expect(unstable).toEqual([])
  }, 60_000)

  test('the same seed gives the same history, another seed another', async () => {
    const once = await simulation.run(20, { keepHistory: true })
    const twice = await simulation.run(20, { keepHistory: true })
    expect(once.recorder.lines.length).toBeGreaterThan(20)
    expect(twice.recorder.lines).toEqual(once.recorder.lines)
    expect(twice.recorder.hash).toBe(once.recorder.hash)
    const other = await simulation.run(21)
    expect(other.recorder.hash).not.toBe(once.recorder.hash)
  })

  test.each(simulation.faults.map((fault) => [fault.name, fault] as const))(
    'the checker finds: %s',
    async (_, fault) => {
      expect(await simulation.catchFault(fault, 0)).toBeDefined()
    },
  )

  test('a failing seed shrinks to a history that breaks the same promise', async () => {
    const [fault] = simulation.faults
    if (fault === undefined) return expect.fail('no fault')
    const caught = await simulation.catchFault(fault)
    if (caught === undefined) return expect.fail('not caught')
    const { before, after, result } = await simulation.shrink(caught.seed, caught.violation, fault)
    expect(after).toBeLessThan(before / 2)
    expect(result.recorder.violations.map(({ check }) => check)).toContain(caught.violation.check)
    expect(result.recorder.lines.some((line) => line.includes('!!'))).toBe(true)
  })
})

describe('the table of promises', () => {
  test('each promise is proved by a check and put to the test by something', () => {
    const proved = new Set<string>(Object.values(CHECKS))
    expect([...proved].sort()).toEqual(Object.keys(PROMISES).sort())
    const put = new Set<string>(KINDS.flatMap((kind) => Object.values(STAKES[kind])))
    // Promise 10 is at stake in every run.
    expect([...put, 'P10'].sort()).toEqual(Object.keys(PROMISES).sort())
  })

  test('each promise that something puts to the test is broken by a deliberate fault', () => {
    for (const kind of KINDS) {
      const broken = new Set<string>(SIMULATIONS[kind].faults.flatMap(({ breaks }) => breaks))
      expect(
        [...new Set<string>(Object.values(STAKES[kind]))].filter((promise) => !broken.has(promise)),
        kind,
      ).toEqual([])
    }
  })
})

test('a plan shrinks to what it fails by', async () => {
  const plan = makePlan(1)
  const fails = (candidate: typeof plan): Promise<boolean> =>
    Promise.resolve(candidate.clients.some(({ steps }) => steps.some((step) => step.do === 'open')))
  expect(sizeOf(await shrink(plan, fails, {}))).toBe(1)
})

describe('R7: requests within 2 ms of expiry are served or refused, and never both', () => {
  test('in one process', async () => {
    const result = await raceInProcess(5000)
    expect(result.wrong).toEqual([])
    expect(result.served).toBeGreaterThan(500)
    expect(result.refused).toBeGreaterThan(500)
  })

  test('over HTTP', async () => {
    const result = await raceOverHttp(600, 1, 100)
    expect(result.wrong).toEqual([])
    expect(result.served).toBeGreaterThan(50)
    expect(result.refused).toBeGreaterThan(50)
  })
})
