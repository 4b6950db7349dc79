/** R2 in its short form; `npm run chaos -- r2` is the whole. */

import { expect, test } from 'vitest'

import { chaos, r2 } from './r2.ts'

test('3,000 sessions with timeouts of 1 to 2 s: none ends early, each ends (promises 1, 2)', async () => {
  const found = await r2(3000)
  // How late is told, not asserted: other work may share this machine.
  process.stdout.write(`${chaos.tell(found)}\n`)
  expect(found.violations).toEqual([])
  expect(found.earliest).toBeGreaterThanOrEqual(0)
})
