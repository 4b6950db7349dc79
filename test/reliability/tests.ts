/** The reliability tests that `npm run chaos` knows, in the order of their table. */

import type { Chaos } from './chaos.ts'
import { chaos as r0 } from './r0.ts'
import { chaos as r1 } from './r1.ts'
import { chaos as r2 } from './r2.ts'
import { chaos as r3 } from './r3.ts'
import { chaos as r4 } from './r4.ts'
import { chaos as r5 } from './r5.ts'
import { chaos as r6 } from './r6.ts'
import { chaos as r7 } from './r7.ts'
import { chaos as r8 } from './r8.ts'
import { chaos as r9 } from './r9.ts'
import { chaos as r10 } from './r10.ts'
import { chaos as r15 } from './r15.ts'
import { chaos as r17 } from './r17.ts'
import { chaos as r18 } from './r18.ts'
import { chaos as r19 } from './r19.ts'
import { chaos as r20 } from './r20.ts'
import { chaos as r21 } from './r21.ts'
import { chaos as r22 } from './r22.ts'
import { chaos as r23 } from './r23.ts'
import { chaos as r24 } from './r24.ts'
import { chaos as r25 } from './r25.ts'

export const tests: readonly Chaos[] = [
  r0,
  r1,
  r2,
  r3,
  r4,
  r5,
  r6,
  r7,
  r8,
  r9,
  r10,
  r15,
  r17,
  r18,
  r19,
  r20,
  r21,
  r22,
  r23,
  r24,
  r25,
]
