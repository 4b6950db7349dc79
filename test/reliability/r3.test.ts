/** R3 in its short form; `npm run chaos -- r3` is the whole. */

import { expect, test } from 'vitest'

import { r3 } from './r3.ts'

test('a loop blocked for 2 s over deadlines: requests that wait in sockets are served, nothing expires (promise 2)', async () => {
  const { violations, open, fresh } = await r3({ open: 200, fresh: 20 })
  expect(violations).toEqual([])
  expect([open.served, fresh.served + fresh.late]).toEqual([200, 20])
}, 40_000)
