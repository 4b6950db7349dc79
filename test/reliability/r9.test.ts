/** R9 in its short form; `npm run chaos -- r9` is the whole. */

import { expect, test } from 'vitest'

import { r9 } from './r9.ts'

test(
  '8 times killed while it writes: every acknowledged event and session is there',
  { timeout: 180_000 },
  async () => {
    const result = await r9(8, 1)
    expect(result.violations).toEqual([])
    expect(result.events).toBeGreaterThan(100)
    expect(result.sessions).toBeGreaterThan(50)
  },
)
