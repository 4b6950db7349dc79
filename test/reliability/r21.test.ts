/** R21 in its short form; `npm run chaos -- r21` is the whole. */

import { expect, test } from 'vitest'

import { r21, R21_SHORT } from './r21.ts'

test(
  'ids that do not repeat, messages that stay in their session, thieves that learn nothing (promise 5)',
  { timeout: 60_000 },
  async () => {
    const found = await r21(R21_SHORT, 1)
    expect(found.violations).toEqual([])
    expect(found).toMatchObject({ collisions: 0, randomBits: 192, crossed: 0, told: 0 })
    expect(found.messages).toBeGreaterThanOrEqual(R21_SHORT.messages)
    expect(found.thefts).toBeGreaterThan(30)
  },
)
