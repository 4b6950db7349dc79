/** R10 in its short form; `npm run chaos -- r10` is the whole. */

import { expect, test } from 'vitest'

import { r10 } from './r10.ts'

test(
  'files that are cut, flipped, or on a full disk: opened or refused by name, and nothing wrong or foreign',
  { timeout: 180_000 },
  async () => {
    const result = await r10({ everyBytes: 64, flips: 200, seed: 1 })
    expect(result.violations).toEqual([])
    // Damaged well: both happen often.
    expect(result.refused).toBeGreaterThan(50)
    expect(result.opened).toBeGreaterThan(50)
    expect(result.warned).toBeGreaterThan(10)
  },
)
