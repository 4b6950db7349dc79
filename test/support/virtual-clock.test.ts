/** The virtual clock, since every other test of time stands on it. */

import { expect, test } from 'vitest'
import { VirtualClock } from './virtual-clock.ts'

test('timers fire in order, at their time, with promises settled in between', async () => {
  const clock = new VirtualClock({ start: 0 })
  const seen: string[] = []
  clock.setTimer(() => seen.push(`b ${clock.now()}`), 20)
  clock.setTimer(() => {
    seen.push(`a ${clock.now()}`)
    void Promise.resolve()
      .then(() => new Promise((resolve) => setImmediate(resolve)))
      .then(() => clock.setTimer(() => seen.push(`c ${clock.now()}`), 5))
  }, 10)
  expect(clock.pending).toBe(2)
  await clock.advance(14)
  expect(seen).toEqual(['a 10'])
  expect(clock.now()).toBe(14)
  await clock.advance(100)
  expect(seen).toEqual(['a 10', 'c 15', 'b 20'])
  expect(clock.pending).toBe(0)
})

test('a cancelled timer does not fire and is not pending, however many there are', async () => {
  const clock = new VirtualClock()
  const fired: number[] = []
  const timers = Array.from({ length: 1000 }, (_, index) =>
    clock.setTimer(() => fired.push(index), (index * 7919) % 1000),
  )
  for (const [index, timer] of timers.entries()) if (index % 10 !== 0) timer.cancel()
  timers[1]?.cancel()
  expect(clock.pending).toBe(100)
  expect(await clock.runUntilIdle()).toBe(true)
  expect(fired).toHaveLength(100)
  const times = fired.map((index) => (index * 7919) % 1000)
  expect(times).toEqual([...times].sort((a, b) => a - b))
})

test('the wall clock steps without touching now(), and jump() makes timers late', async () => {
  const clock = new VirtualClock({ start: 0, wall: 500 })
  clock.stepWall(-3_600_000)
  expect([clock.now(), clock.wallTime()]).toEqual([0, 500 - 3_600_000])
  let at = -1
  clock.setTimer(() => (at = clock.now()), 10)
  clock.jump(2000)
  await clock.advance(0)
  expect(at).toBe(2000)
})

test('after a blocked loop: late timers, then input in the order it was sent, then afterInput', async () => {
  const clock = new VirtualClock({ start: 0, tieBreak: () => 0.5 })
  const seen: string[] = []
  clock.after(2, () => seen.push('sent at 2'))
  clock.after(1, () => seen.push('sent at 1'))
  clock.after(50, () => seen.push('sent at 50'))
  clock.setTimer(() => {
    seen.push('timer')
    clock.afterInput(() => seen.push('after input'))
  }, 5)
  clock.jump(10)
  await clock.advance(100)
  expect(seen).toEqual(['timer', 'sent at 1', 'sent at 2', 'after input', 'sent at 50'])
})

test('runUntilIdle stops at its limit', async () => {
  const clock = new VirtualClock({ start: 0 })
  const again = (): void => void clock.setTimer(again, 15)
  again()
  expect(await clock.runUntilIdle(100)).toBe(false)
  expect(clock.now()).toBe(90)
})
