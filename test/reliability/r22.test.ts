/** R22 in its short form; `npm run chaos -- r22` is the whole. */

import { expect, test } from 'vitest'

import { r22, R22_SHORT } from './r22.ts'

test('caps that are reached refuse newcomers, end nobody at work, and are over by themselves (promise 7)', async () => {
  const found = await r22(R22_SHORT)
  expect(found.violations).toEqual([])
  expect(found).toMatchObject({ refused: R22_SHORT.floods, activeEnded: 0, told: R22_SHORT.writers })
  expect(found.evicted).toBeGreaterThan(0)
}, 60_000)
