/** R6 in its short form; `npm run chaos -- r6` is the whole. */

import { expect, test } from 'vitest'

import { r6, R6_SHORT } from './r6.ts'

test('a silent call and an open GET never expire; a peer that vanished is noticed, and then the clock starts (promise 1)', async () => {
  const { violations, answered, open } = await r6(R6_SHORT)
  expect(violations).toEqual([])
  expect([answered, open]).toEqual([R6_SHORT.sessions, R6_SHORT.sessions])
}, 60_000)
