/** The idle clock against a model that knows only intervals: never early, never while held, and exactly when the last hold ended long enough ago. */

import fc from 'fast-check'
import { expect, test } from 'vitest'

import { Deadlines } from '../../src/deadlines.ts'
import { type Hold, IdleClock } from '../../src/session/idle-clock.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const TIMEOUT = 1000

type Step =
  | { do: 'hold' | 'provisional' | 'stop' }
  | { do: 'confirm' | 'release' | 'releaseAgain'; which: number }
  | { do: 'advance'; by: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('hold' as const, 'provisional' as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'confirm' as const,
        'release' as const,
        'release' as const,
        'releaseAgain' as const,
      ),
      which: fc.nat(5),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('advance' as const), by: fc.integer({ min: 0, max: 1500 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('stop' as const) }) },
)

test('any history of holds, provisional and confirmed, is that of the model', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (history) => {
      const time = new VirtualClock({ turns: 0 })
      const told: string[] = []
      let expiredAt: number | undefined
      const deadlines = new Deadlines(time, (thrown) => {
        throw thrown
      })
      const clock: IdleClock = new IdleClock(deadlines, {
        idleTimeout: () => TIMEOUT,
        onBusy: () => told.push('busy'),
        onIdle: () => told.push('idle'),
        onExpired() {
          expiredAt = time.now()
          clock.stop()
        },
      })
      clock.start()
      /** The model: when idleness began, and what holds. */
      let idleSince = time.now()
      let stopped = false
      const held: { hold: Hold; confirmed: boolean }[] = []
      const released: Hold[] = []
      const due = (): number => idleSince + TIMEOUT
      const confirmed = (): boolean => held.some((entry) => entry.confirmed)
      for (const step of history) {
        if (expiredAt !== undefined || stopped) break
        switch (step.do) {
          case 'hold':
            held.push({ hold: clock.hold('request'), confirmed: true })
            break
          case 'provisional':
            held.push({ hold: clock.holdProvisionally('exchange'), confirmed: false })
            break
          case 'confirm': {
            const entry = held[step.which]
            entry?.hold.confirm()
            if (entry !== undefined) entry.confirmed = true
            break
          }
          case 'release': {
            const [entry] = held.splice(step.which, 1)
            if (entry === undefined) break
            if (entry.confirmed && !confirmed()) idleSince = time.now()
            entry.hold.release()
            released.push(entry.hold)
            break
          }
          case 'releaseAgain':
            // Once is enough, and the second time harms nobody, not even after a confirmation too late.
            released[step.which]?.confirm()
            released[step.which]?.release()
            break
          case 'advance': {
            const before = time.now()
            await time.advance(step.by)
            if (held.length === 0 && due() <= time.now()) {
              expect(expiredAt).toBe(Math.max(due(), before))
            }
            break
          }
          case 'stop':
            clock.stop()
            stopped = true
            break
        }
        if (stopped) break
        const overdue = held.length === 0 && due() <= time.now()
        expect(expiredAt !== undefined, 'expired exactly when nothing held and the time was over').toBe(
          overdue,
        )
        if (expiredAt !== undefined) {
          expect(expiredAt).toBeGreaterThanOrEqual(due())
          break
        }
        expect(clock.busy).toBe(confirmed())
        expect(clock.held).toBe(held.length > 0)
        expect(told.at(-1) ?? 'idle').toBe(confirmed() ? 'busy' : 'idle')
        // A provisional hold leaves the deadline where it was.
        if (!confirmed() && due() > time.now()) expect(clock.due).toBe(due())
      }
      for (const { hold } of held) hold.release()
      if (stopped) await time.advance(10 * TIMEOUT)
      else await time.advance(TIMEOUT)
      expect(expiredAt !== undefined).toBe(!stopped)
      expect(time.pending).toBe(0)
      expect(told.filter((word, index) => word === told[index - 1])).toEqual([])
    }),
    { numRuns: 400 },
  )
})
