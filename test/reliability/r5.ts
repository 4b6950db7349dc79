/** R5 for `npm run chaos`: r5.test.ts is all of it, and is run and counted here. */

import { fileChaos } from './file-chaos.ts'

/** `npm run chaos -- r5` */
export const chaos = fileChaos({
  name: 'r5',
  help: 'every timeout at the edges of what a number can say; some seconds',
  test: 'R5 · 1',
  done: "every timeout at 1 ms, 0, −1, NaN, 24.9 days, 2³¹ ms, Infinity, '5m', '5', '' and more",
  came: 'each as documented, or refused by name; nothing fired at once',
})
