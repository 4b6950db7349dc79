/** R8 in its short form; `npm run chaos -- r8` is the whole. */

import { describe, expect, test } from 'vitest'

import { R8_SHORT, r8 } from './r8.ts'

describe.each(['memory', 'batched', 'sqlite'])('the %s log', (log) => {
  test('10 streams × 200 events × 10 cuts: each event once, in order (promise 4)', async () => {
    const result = await r8({ ...R8_SHORT, log, seed: 1 })
    expect(result.violations).toEqual([])
    // 200 events each, and the results of five calls.
    expect(result).toMatchObject({ delivered: 2005, lost: 0, doubled: 0, disordered: 0 })
    expect(Math.min(...Object.values(result.cuts)), 'cuts of each kind').toBeGreaterThan(10)
    expect(result.cutsInReplay).toBeGreaterThan(10)
    expect(result.resumesWithGap).toBeGreaterThan(50)
    expect(result.wholeReplays.count).toBe(10)
  })
})

test.each([
  ['lose', 'lost'],
  ['double', 'doubled'],
  ['swap', 'disordered'],
] as const)('a log that %ss events now and then is noticed', async (fault, count) => {
  const result = await r8({ ...R8_SHORT, streams: 2, log: 'memory', seed: 1, fault })
  expect(result[count]).toBeGreaterThan(0)
  expect(result.violations).not.toEqual([])
})
