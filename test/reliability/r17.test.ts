/** R17 in its short form; `npm run chaos -- r17` is the whole. */

import { expect, test } from 'vitest'

import { r17, R17_SHORT } from './r17.ts'

test('clients that stop reading are cut at 1 MiB, and the others hardly notice (promise 7)', async () => {
  const { violations, cut } = await r17(R17_SHORT)
  expect(violations).toEqual([])
  expect(cut).toBe(R17_SHORT.deaf)
}, 120_000)
