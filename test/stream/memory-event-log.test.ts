/** The event log in memory: its bounds, against a list that is trimmed the plainest way. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { type EventLogLimits, MemoryEventLog } from '../../src/stream/memory-event-log.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const UNBOUNDED: EventLogLimits = {
  maxBytes: 2 ** 40,
  maxEvents: 2 ** 40,
  maxAge: Number.POSITIVE_INFINITY,
  maxTotalBytes: 2 ** 40,
}

/** What one event costs beside its data; measured, so that the tests state bounds in events. */
const OVERHEAD = ((): number => {
  const log = new MemoryEventLog(new VirtualClock(), UNBOUNDED)
  log.append('s', 1, 1, '')
  return log.totalBytes
})()

const positions = (log: MemoryEventLog, session: string, stream: number, after = 0): number[] =>
  log.read(session, stream, after).events.map(({ position }) => position)

describe('each bound', () => {
  test('bytes of one session: the oldest go, and are told as trimmed', () => {
    const log = new MemoryEventLog(new VirtualClock(), { ...UNBOUNDED, maxBytes: 3 * (OVERHEAD + 10) })
    for (let position = 1; position <= 5; position++) log.append('s', 1, position, 'x'.repeat(10))
    expect(log.read('s', 1, 0)).toMatchObject({ trimmed: 2 })
    expect(positions(log, 's', 1)).toEqual([3, 4, 5])
    expect(log.totalBytes).toBe(3 * (OVERHEAD + 10))
    // Bytes are those of UTF-8, not of JavaScript's strings.
    log.append('s', 1, 6, '€'.repeat(10))
    expect(positions(log, 's', 1)).toEqual([5, 6])
  })

  test('events of one session, over all its streams', () => {
    const log = new MemoryEventLog(new VirtualClock(), { ...UNBOUNDED, maxEvents: 3 })
    log.append('s', 1, 1, 'a')
    log.append('s', 2, 1, 'b')
    log.append('s', 1, 2, 'c')
    log.append('s', 2, 2, 'd')
    log.append('other', 1, 1, 'e')
    expect(log.read('s', 1, 0)).toMatchObject({ events: [{ position: 2 }], trimmed: 1 })
    expect(log.read('s', 2, 0)).toMatchObject({ events: [{ position: 1 }, { position: 2 }], trimmed: 0 })
    expect(positions(log, 'other', 1)).toEqual([1])
  })

  test('age: gone at its time, without anyone asking, and no timer stays', async () => {
    const clock = new VirtualClock()
    const log = new MemoryEventLog(clock, { ...UNBOUNDED, maxAge: 1000 })
    log.append('s', 1, 1, 'a')
    await clock.advance(400)
    log.append('s', 1, 2, 'b')
    await clock.advance(599)
    expect(positions(log, 's', 1)).toEqual([1, 2])
    await clock.advance(1)
    expect(log.read('s', 1, 0)).toMatchObject({ events: [{ position: 2 }], trimmed: 1 })
    expect(clock.pending).toBe(1)
    await clock.advance(400)
    expect(log.totalBytes).toBe(0)
    expect(clock.pending).toBe(0)
    expect(log.read('s', 1, 0)).toEqual({ events: [], trimmed: 2 })
  })

  test('bytes of all sessions: the oldest of all go, whosever they are', () => {
    const log = new MemoryEventLog(new VirtualClock(), { ...UNBOUNDED, maxTotalBytes: 3 * (OVERHEAD + 1) })
    log.append('a', 1, 1, 'x')
    log.append('b', 1, 1, 'x')
    log.append('b', 1, 2, 'x')
    log.append('b', 1, 3, 'x')
    expect(log.read('a', 1, 0)).toEqual({ events: [], trimmed: 1 })
    expect(positions(log, 'b', 1)).toEqual([1, 2, 3])
  })

  test('an event larger than the log is not kept, and all before it is a gap', () => {
    const log = new MemoryEventLog(new VirtualClock(), { ...UNBOUNDED, maxBytes: OVERHEAD + 100 })
    log.append('s', 1, 1, 'small')
    log.append('s', 1, 2, 'x'.repeat(101))
    expect(log.read('s', 1, 0).trimmed).toBe(2)
    log.append('s', 1, 3, 'x'.repeat(100))
    expect(positions(log, 's', 1, 2)).toEqual([3])
  })
})

test('nothing of one session is read through another, whatever the numbers', () => {
  const log = new MemoryEventLog(new VirtualClock(), UNBOUNDED)
  log.append('a', 1, 1, 'secret')
  for (const [session, stream] of [
    ['b', 1],
    ['a', 2],
    ['', 1],
    ['__proto__', 1],
  ] as const) {
    expect(log.read(session, stream, 0)).toEqual({ events: [], trimmed: 0 })
  }
})

test('close() lets go of everything, twice as well as once', () => {
  const clock = new VirtualClock()
  const log = new MemoryEventLog(clock, { ...UNBOUNDED, maxAge: 1000 })
  log.append('a', 1, 1, 'x')
  log.close()
  log.close()
  expect(log.totalBytes).toBe(0)
  expect(clock.pending).toBe(0)
  expect(log.read('a', 1, 0)).toEqual({ events: [], trimmed: 0 })
})

interface Kept {
  session: string
  stream: number
  position: number
  bytes: number
  at: number
}

/** The plainest log: one list, searched and cut from the front. */
class PlainLog {
  kept: Kept[] = []
  readonly trimmed = new Map<string, number>()
  readonly #limits: EventLogLimits

  constructor(limits: EventLogLimits) {
    this.#limits = limits
  }

  append(entry: Kept): void {
    if (entry.bytes > Math.min(this.#limits.maxBytes, this.#limits.maxTotalBytes)) {
      this.trimmed.set(`${entry.session} ${entry.stream}`, entry.position)
      return
    }
    this.kept.push(entry)
    const own = (): Kept[] => this.kept.filter(({ session }) => session === entry.session)
    while (sum(own()) > this.#limits.maxBytes || own().length > this.#limits.maxEvents) this.#trim(own()[0])
    while (sum(this.kept) > this.#limits.maxTotalBytes) this.#trim(this.kept[0])
  }

  age(now: number): void {
    for (const entry of [...this.kept]) if (entry.at <= now - this.#limits.maxAge) this.#trim(entry)
  }

  drop(session: string, stream?: number): void {
    this.kept = this.kept.filter(
      (entry) => entry.session !== session || (stream !== undefined && entry.stream !== stream),
    )
    for (const key of [...this.trimmed.keys()]) {
      const [keySession, keyStream] = key.split(' ')
      if (keySession === session && (stream === undefined || keyStream === String(stream)))
        this.trimmed.delete(key)
    }
  }

  get bytes(): number {
    return sum(this.kept)
  }

  #trim(entry: Kept | undefined): void {
    if (entry === undefined) throw new Error('nothing to trim')
    this.kept.splice(this.kept.indexOf(entry), 1)
    const key = `${entry.session} ${entry.stream}`
    this.trimmed.set(key, Math.max(this.trimmed.get(key) ?? 0, entry.position))
  }
}

function sum(entries: readonly Kept[]): number {
  return entries.reduce((total, { bytes }) => total + bytes, 0)
}

const SESSIONS = ['a', 'b', 'c'] as const
const STREAMS = [0, 1, 2] as const

test('any history of appends, reads, drops and time is that of the plain log', async () => {
  const session = fc.constantFrom(...SESSIONS)
  const stream = fc.constantFrom(...STREAMS)
  const step = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({ do: fc.constant('append' as const), session, stream, size: fc.nat(300) }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('advance' as const), by: fc.nat(600) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('dropStream' as const), session, stream }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('dropSession' as const), session }) },
  )
  const limits = fc.record({
    maxBytes: fc.integer({ min: 200, max: 3000 }),
    maxEvents: fc.integer({ min: 1, max: 12 }),
    maxAge: fc.integer({ min: 1, max: 1500 }),
    maxTotalBytes: fc.integer({ min: 200, max: 5000 }),
  })
  await fc.assert(
    fc.asyncProperty(limits, fc.array(step, { maxLength: 120 }), async (bounds, history) => {
      const clock = new VirtualClock({ turns: 0 })
      const log = new MemoryEventLog(clock, bounds)
      const plain = new PlainLog(bounds)
      const last = new Map<string, number>()
      for (const step of history) {
        switch (step.do) {
          case 'append': {
            const key = `${step.session} ${step.stream}`
            const position = (last.get(key) ?? 0) + 1
            last.set(key, position)
            log.append(step.session, step.stream, position, 'x'.repeat(step.size))
            plain.append({
              session: step.session,
              stream: step.stream,
              position,
              bytes: step.size + OVERHEAD,
              at: clock.now(),
            })
            break
          }
          case 'advance':
            await clock.advance(step.by)
            plain.age(clock.now())
            break
          case 'dropStream':
            log.dropStream(step.session, step.stream)
            plain.drop(step.session, step.stream)
            break
          case 'dropSession':
            log.dropSession(step.session)
            plain.drop(step.session)
            break
        }
        expect(log.totalBytes).toBe(plain.bytes)
        expect(log.totalBytes).toBeLessThanOrEqual(bounds.maxTotalBytes)
        expect(clock.pending).toBe(plain.kept.length > 0 ? 1 : 0)
      }
      for (const session of SESSIONS) {
        for (const stream of STREAMS) {
          const after = Math.floor((last.get(`${session} ${stream}`) ?? 0) / 2)
          const own = plain.kept.filter(
            (entry) => entry.session === session && entry.stream === stream && entry.position > after,
          )
          expect(positions(log, session, stream, after)).toEqual(own.map(({ position }) => position))
          expect(log.read(session, stream, after).trimmed).toBe(
            plain.trimmed.get(`${session} ${stream}`) ?? 0,
          )
        }
      }
      for (const session of SESSIONS) log.dropSession(session)
      expect(log.totalBytes).toBe(0)
      expect(clock.pending).toBe(0)
    }),
    { numRuns: 200 },
  )
})
