/** R7 in its short form; `npm run chaos -- r7` is the whole. */

import { expect, test } from 'vitest'

import { r7InProcess, r7OverHttp } from './r7.ts'

test(
  '20,000 requests in this process at ±2 ms around expiry: each is served or gets a clean 404 (promises 1, 3, 6)',
  { timeout: 120_000 },
  async () => {
    const result = await r7InProcess(20_000, 1)
    expect(result.violations).toEqual([])
    // Aimed well: both answers are common, and many came in the very moment between deadline and end.
    expect(result.served).toBeGreaterThan(5000)
    expect(result.notFound).toBeGreaterThan(2000)
    expect(result.servedLate).toBeGreaterThan(200)
  },
)

test('1,000 requests over HTTP at ±2 ms around expiry: the same', { timeout: 120_000 }, async () => {
  const result = await r7OverHttp(1000, 1)
  expect(result.violations).toEqual([])
  // A busy machine aims badly: most then come too early or too late.
  expect(result.served).toBeGreaterThan(20)
  expect(result.notFound).toBeGreaterThan(20)
})
