/** R25 in its short form; `npm run chaos -- r25` is the whole. */

import { expect, test } from 'vitest'

import { r25, R25_SHORT } from './r25.ts'

test(
  'floods of initialize: sessions in use and healthy newcomers are served, refusals say when to come again, and all is over by itself (promises 1, 3, 7)',
  { timeout: 60_000 },
  async () => {
    const { violations, direct, proxied, full } = await r25(R25_SHORT)
    expect(violations).toEqual([])
    for (const flood of [direct, proxied]) {
      expect(flood.attempts).toBe(R25_SHORT.attempts)
      expect(Object.keys(flood.statuses)).toEqual(['200', '429'])
      expect(flood.newcomers).toBeGreaterThan(0)
    }
    expect(full).toBeGreaterThan(0)
  },
)
