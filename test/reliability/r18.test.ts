/** R18 in its short form; `npm run chaos -- r18` is the whole. */

import { expect, test } from 'vitest'

import { r18, R18_SHORT } from './r18.ts'

test(
  '300 idle streams beside those of bare Node: each hears its event, none ends, pings are answered (promise 7)',
  { timeout: 60_000 },
  async () => {
    const { violations, bare, asleep } = await r18(R18_SHORT)
    expect(violations).toEqual([])
    expect(asleep.pings).toBeGreaterThanOrEqual(R18_SHORT.streams)
    // Memory is a figure of the whole form; what is far off shows here as well.
    expect(asleep.heapPerStream).toBeLessThan(bare.heapPerStream * 2)
  },
)
