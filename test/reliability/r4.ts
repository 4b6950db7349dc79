/** R4 for `npm run chaos`: r4.test.ts is all of it, and is run and counted here. */

import { fileChaos } from './file-chaos.ts'

/** `npm run chaos -- r4` */
export const chaos = fileChaos({
  name: 'r4',
  help: 'the wall clock stepped by ±1 hour and ±1 day; some seconds',
  test: 'R4 · 1',
  done: 'the wall clock stepped by an hour and by a day, forth and back, on virtual and on real time',
  came: 'nothing happened',
})
