/** R19 in its short form; `npm run chaos -- r19` is the whole. */

import { expect, test } from 'vitest'

import { r19, R19_SHORT } from './r19.ts'

test(
  'storms of newcomers and of streams that come back: no error, and nothing is woken by a resume (promise 7)',
  { timeout: 60_000 },
  async () => {
    const { violations, one, forty, resumes } = await r19(R19_SHORT)
    expect(violations).toEqual([])
    expect([one.errors, forty.errors, resumes.errors, resumes.woken]).toEqual([0, 0, 0, 0])
    expect(resumes.times.count).toBe(R19_SHORT.resumes)
  },
)
