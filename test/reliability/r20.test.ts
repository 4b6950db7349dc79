/** R20 in its short form; `npm run chaos -- r20` is the whole. */

import { expect, test } from 'vitest'

import { R20_SHORT, r20 } from './r20.ts'
import { KINDS } from './r20-kinds.ts'

test('2,000 hostile requests of every kind, slow clients and bodies too large: each gets the answer that is due (promises 5, 7, 10)', async () => {
  const { violations, requests, slowTold, statuses } = await r20(R20_SHORT, 1)
  expect(violations).toEqual([])
  expect(requests).toBe(R20_SHORT.requests)
  expect(slowTold).toBe(R20_SHORT.slow / 3)
  expect(Object.keys(statuses).length).toBeGreaterThan(10)
  expect(Object.keys(KINDS).length).toBeGreaterThan(50)
}, 60_000)
