/** R15 in its short form; `npm run chaos -- r15` is the whole. */

import { expect, test } from 'vitest'

import { r15, R15_SHORT } from './r15.ts'

test('SIGTERM with 200 streams and 20 calls: none is lost, the end is in time, a second signal ends at once (promise 8)', async () => {
  const { violations, drained } = await r15(R15_SHORT)
  expect(violations).toEqual([])
  expect(drained).toMatchObject({ exit: 0, answered: 20, ended: 200, cut: 0 })
}, 60_000)
