/** A short form of R0: a few seeds, the same history twice, and the checker's eyesight. `npm run simulate` is the long one. */

import { describe, expect, test } from 'vitest'
import { catchFault } from './catch-fault.ts'
import { raceInProcess, raceOverHttp } from './expiry-race.ts'
import { FAULTS } from './faults.ts'
import { makePlan } from './plan.ts'
import { shrink, sizeOf } from './shrink.ts'
import { simulateSeed } from './simulate.ts'

describe('R0: every promise on every history', () => {
  test.each([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])('seed %i', async (seed) => {
    const { recorder } = await simulateSeed(seed)
    expect(recorder.violations).toEqual([])
  })

  test('the same seed gives the same history', async () => {
    const [once, twice] = [
      await simulateSeed(20, { keepHistory: true }),
      await simulateSeed(20, { keepHistory: true }),
    ]
    expect(twice.recorder.lines).toEqual(once.recorder.lines)
    expect(twice.recorder.hash).toBe(once.recorder.hash)
    const other = await simulateSeed(21)
    expect(other.recorder.hash).not.toBe(once.recorder.hash)
  })
})

describe('the checker finds what is wrong', () => {
  test.each([
    'the idle timeout is one millisecond short',
    'a resume skips an event',
    'sessions are found by their id alone',
  ])('%s', async (name) => {
    const fault = FAULTS.find((one) => one.name === name)
    expect(fault).toBeDefined()
    if (fault !== undefined) expect(await catchFault(fault, 1, 60)).toBeDefined()
  })

  test('a failing plan shrinks and goes on failing', async () => {
    const plan = makePlan(1)
    const fails = (candidate: typeof plan): Promise<boolean> =>
      Promise.resolve(candidate.clients.some(({ steps }) => steps.some((step) => step.do === 'open')))
    const small = await shrink(plan, fails)
    expect(sizeOf(small)).toBe(1)
  })
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
