/** The buckets that decide how fast sessions may be opened: exact, bounded, and without a timer. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { Admission, TokenBuckets } from '../../src/session/admission.ts'

const OFF = Number.POSITIVE_INFINITY

/** Takes tokens for as long as there are some; how many there were. */
function drain(buckets: TokenBuckets, key: string, now: number): number {
  let taken = 0
  for (; buckets.wait(key, now) === 0 && taken < 1000; taken++) buckets.take(key, now)
  return taken
}

describe('a bucket', () => {
  test('holds its burst, then gets its rate, and never more than the burst', () => {
    const buckets = new TokenBuckets(2, 5)
    expect(drain(buckets, 'a', 0)).toBe(5)
    expect(buckets.wait('a', 0)).toBe(500)
    expect(drain(buckets, 'a', 499)).toBe(0)
    expect(drain(buckets, 'a', 500)).toBe(1)
    expect(drain(buckets, 'a', 2000)).toBe(3)
    expect(drain(buckets, 'a', 1_000_000)).toBe(5)
  })

  test('is its own: one that is empty takes nothing from another', () => {
    const buckets = new TokenBuckets(1, 3)
    expect(drain(buckets, 'a', 0)).toBe(3)
    expect(drain(buckets, 'b', 0)).toBe(3)
  })

  test('gives a token to whoever waited as long as told, at every rate (no rounding in the way)', () => {
    const rate = fc.double({ min: 1e-4, max: 1e4, noNaN: true })
    const times = fc.array(fc.double({ min: 0, max: 5000, noNaN: true }), { maxLength: 50 })
    fc.assert(
      fc.property(rate, fc.integer({ min: 1, max: 100 }), times, (perSecond, burst, pauses) => {
        const buckets = new TokenBuckets(perSecond, burst)
        let now = 0
        for (const pause of pauses) {
          now += pause
          drain(buckets, 'a', now)
          now += buckets.wait('a', now)
          expect(buckets.wait('a', now)).toBe(0)
        }
      }),
    )
  })

  test('never gives more than burst + rate × time, in any span of any history', () => {
    const steps = fc.array(fc.integer({ min: 0, max: 3000 }), { minLength: 1, maxLength: 60 })
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 20 }),
        steps,
        (rate, burst, pauses) => {
          const buckets = new TokenBuckets(rate, burst)
          const taken: number[] = []
          let now = 0
          for (const pause of pauses) {
            now += pause
            for (let count = drain(buckets, 'a', now); count > 0; count--) taken.push(now)
          }
          const most = (from: number, to: number): number => burst + (rate * (to - from)) / 1000 + 1e-6
          const tooMany = taken.some((from, first) =>
            taken.some((to, last) => last >= first && last - first + 1 > most(from, to)),
          )
          expect(tooMany).toBe(false)
        },
      ),
    )
  })
})

describe('what is remembered', () => {
  test('buckets that are full again are forgotten as others come', () => {
    const buckets = new TokenBuckets(1, 10)
    for (let index = 0; index < 1000; index++) buckets.take(`old ${index}`, 0)
    expect(buckets.size).toBe(1000)
    for (let index = 0; index < 600; index++) buckets.take(`new ${index}`, 60_000)
    expect(buckets.size).toBe(600)
  })

  test('is bounded, however many addresses an attacker has; whoever was not seen for longest is forgotten first', () => {
    const buckets = new TokenBuckets(0.001, 2, 100)
    expect(drain(buckets, 'seen', 0)).toBe(2)
    expect(drain(buckets, 'unseen', 0)).toBe(2)
    for (let index = 0; index < 10_000; index++) {
      buckets.take(`attacker ${index}`, index)
      // A client that comes back is moved to the end, also when it is let in only now and then.
      if (index === 90) buckets.take('seen', index)
      if (index === 120) {
        expect(buckets.wait('unseen', index)).toBe(0)
        expect(buckets.wait('seen', index)).toBeGreaterThan(0)
      }
    }
    expect(buckets.size).toBe(100)
  })
})

describe('admission', () => {
  const options = {
    openRatePerPrincipal: 1,
    openBurstPerPrincipal: 2,
    openRatePerAddress: 0.1,
    openBurstPerAddress: 3,
  }

  test('takes of both buckets or of none: a refusal by one costs nothing of the other', () => {
    const admission = new Admission(options)
    expect(admission.admit('alice', '203.0.113.1', 0)).toBeUndefined()
    expect(admission.admit('alice', '203.0.113.1', 0)).toBeUndefined()
    for (let attempt = 0; attempt < 10; attempt++) {
      expect(admission.admit('alice', '203.0.113.1', 0)).toMatchObject({
        status: 429,
        option: 'openRatePerPrincipal',
        headers: { 'Retry-After': '1' },
      })
    }
    expect(admission.admit('bob', '203.0.113.1', 0)).toBeUndefined()
    for (let attempt = 0; attempt < 10; attempt++) {
      expect(admission.admit('bob', '203.0.113.1', 0)).toMatchObject({
        status: 429,
        option: 'openRatePerAddress',
        headers: { 'Retry-After': '10' },
      })
    }
    expect(admission.admit('bob', '203.0.113.2', 0)).toBeUndefined()
    expect(admission.admit('bob', '203.0.113.2', 0)).toMatchObject({ option: 'openRatePerPrincipal' })
  })

  test('counts IPv6 by network, and nobody whose address is not known', () => {
    const admission = new Admission({ ...options, openRatePerPrincipal: OFF })
    for (let host = 1; host <= 3; host++)
      expect(admission.admit(undefined, `2001:db8::${host}`, 0)).toBeUndefined()
    expect(admission.admit(undefined, '2001:db8::4', 0)).toMatchObject({ status: 429 })
    expect(admission.admit(undefined, '2001:db8:0:1::4', 0)).toBeUndefined()
    for (let attempt = 0; attempt < 10; attempt++)
      expect(admission.admit(undefined, undefined, 0)).toBeUndefined()
  })

  test('without rates remembers nobody', () => {
    const admission = new Admission({ ...options, openRatePerPrincipal: OFF, openRatePerAddress: OFF })
    for (let index = 0; index < 100; index++)
      expect(admission.admit(`p${index}`, '203.0.113.1', 0)).toBeUndefined()
    expect(admission.size).toBe(0)
  })
})
