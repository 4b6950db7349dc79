/** R23 in its short form; `npm run chaos -- r23` is the whole. */

import { expect, test } from 'vitest'

import { r23, R23_SHORT } from './r23.ts'

test(
  'sessions that come, go and are cut: nothing is left of them, and every call is answered (promises 6, 7)',
  { timeout: 120_000 },
  async () => {
    const found = await r23(R23_SHORT, 1)
    expect(found.violations).toEqual([])
    expect(found.left.end).toMatchObject({ sessions: 0, timers: 0 })
    expect(found.cuts).toBeGreaterThan(5)
  },
)
