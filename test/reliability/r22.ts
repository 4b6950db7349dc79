/** R22: every cap is reached: what is refused is told so, nobody at work loses anything, and it is over when the load is. */

import { rpc } from '../support/mcp-wire.ts'
import { SimApp } from '../support/sim-app.ts'
import type { SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { as, authenticateByName } from '../support/wire-app.ts'
import { type Chaos, count, type Findings, type Progress } from './chaos.ts'

/** How much is at stake. */
export interface R22Size {
  /** `maxSessions`; a quarter of them are at work, a quarter have their GET open. */
  readonly sessions: number
  /** Attempts to open one more. */
  readonly floods: number
  /** Sessions that write into the event log. */
  readonly writers: number
  /** Events of 1 KiB that each of them writes. */
  readonly events: number
}

export const R22_WHOLE: R22Size = { sessions: 10_000, floods: 50_000, writers: 500, events: 300 }
export const R22_SHORT: R22Size = { sessions: 200, floods: 1000, writers: 20, events: 60 }

/** What a run found. */
export interface R22Findings extends Findings {
  readonly size: R22Size
  /** Newcomers refused with 503 while every session was at work or lately used, and served once some were not. */
  readonly refused: number
  readonly evicted: number
  /** Sessions at work or with an open stream that ended. */
  readonly activeEnded: number
  /** A principal's sessions beyond its cap, calls and streams of one session beyond theirs. */
  readonly principalsRefused: number
  readonly streamsRefused: number
  /** The cap of the log, in bytes; a quarter of what was written. */
  readonly logCap: number
  /** Clients of the log that were told of a gap, or got every event. */
  readonly told: number
}

const HOUR = 3_600_000
const KIB = 1024
const PER_PRINCIPAL = 5
const STREAMS = 4

/** All caps, one after the other, on virtual time. */
export async function r22(size: R22Size, onProgress: Progress = () => {}): Promise<R22Findings> {
  const violations: string[] = []
  const must = (holds: boolean, text: string): void => void (holds || violations.push(text))
  onProgress('R22: sessions')
  const table = await fullTable(size, must)
  onProgress('R22: principals and streams')
  const principalsRefused = await principals(must)
  const streamsRefused = await streams(must)
  onProgress('R22: the event log')
  const log = await eventLog(size, must)
  return { size, ...table, principalsRefused, streamsRefused, ...log, violations }
}

type Must = (holds: boolean, text: string) => void

/** Whether a refusal says when to come again. */
function saysWhen(exchange: SimExchange, status: number): boolean {
  return exchange.status === status && Number(exchange.responseHeaders['retry-after']) > 0
}

async function fullTable(
  size: R22Size,
  must: Must,
): Promise<{ refused: number; evicted: number; activeEnded: number }> {
  const clock = new VirtualClock()
  const app = new SimApp(clock, {
    maxSessions: size.sessions,
    sessionIdleTimeout: '2h',
    evictableAfter: '5m',
  })
  const active = new Set<string>()
  for (let index = 0; index < size.sessions; index++) {
    const id = await app.open()
    if (index % 4 === 0)
      app.post(id, rpc('tools/call', { name: 'run', arguments: { tag: id, duration: 3 * HOUR } }))
    else if (index % 4 === 1) app.get(id)
    else app.post(id, rpc('tools/list'))
    if (index % 4 < 2) active.add(id)
  }
  await clock.advance(60_000)
  // All were used within the last five minutes: nobody makes room for a stranger.
  let refused = 0
  for (let index = 0; index < size.floods; index++) {
    const attempt = app.post(undefined, OPENING)
    await clock.settle()
    if (saysWhen(attempt, 503)) refused += 1
  }
  must(
    refused === size.floods,
    `${refused} of ${size.floods} newcomers were refused with 503 and Retry-After`,
  )
  must(
    app.manager.sessions.size === size.sessions,
    `${app.manager.sessions.size} sessions are in a full table`,
  )
  await clock.advance(6 * 60_000)
  for (let index = 0; index < size.floods; index++) {
    app.post(undefined, OPENING)
    await clock.settle()
  }
  const closed = app.events.filter(({ type }) => type === 'session.closed')
  const evicted = closed.length
  const activeEnded = closed.filter(({ session }) => session !== undefined && active.has(session)).length
  must(evicted > 0, 'nobody made room when half of the table had been idle for six minutes')
  must(activeEnded === 0, `${activeEnded} sessions at work were ended`)
  must(app.manager.sessions.size <= size.sessions, `${app.manager.sessions.size} sessions are in the table`)
  await clock.advance(2 * HOUR)
  // What idled is gone by itself, and there is room again.
  must(
    app.manager.sessions.size === active.size,
    `${app.manager.sessions.size} sessions are left, ${active.size} are at work`,
  )
  await app.open()
  await clock.advance(2 * HOUR)
  const unanswered = app.exchanges.filter(
    (exchange) => exchange.method === 'POST' && exchange.status === undefined,
  )
  must(unanswered.length === 0, `${unanswered.length} calls were not answered`)
  await app.manager.close()
  await clock.settle()
  return { refused, evicted, activeEnded }
}

const OPENING = rpc('initialize', {
  protocolVersion: '2025-11-25',
  capabilities: {},
  clientInfo: { name: 'flood', version: '1' },
})

/** One principal takes all it may; another one does not feel it. */
async function principals(must: Must): Promise<number> {
  const clock = new VirtualClock()
  const app = new SimApp(clock, {
    maxSessionsPerPrincipal: PER_PRINCIPAL,
    authenticate: authenticateByName,
  })
  const busy: string[] = []
  for (let index = 0; index < PER_PRINCIPAL; index++) {
    const id = await app.open(as('alice'))
    app.get(id, as('alice'))
    busy.push(id)
  }
  await clock.settle()
  const attempts = Array.from({ length: 100 }, () => app.post(undefined, OPENING, as('alice')))
  await clock.settle()
  const refused = attempts.filter((attempt) => saysWhen(attempt, 503)).length
  must(
    refused === attempts.length,
    `${refused} of ${attempts.length} sessions beyond maxSessionsPerPrincipal were refused`,
  )
  await app.open(as('bob'))
  for (const id of busy)
    must(
      app.manager.sessions.get(id) !== undefined,
      'a session with an open stream was ended for its principal',
    )
  app.delete(busy[0] ?? '', as('alice'))
  await clock.settle()
  await app.open(as('alice'))
  await app.manager.close()
  await clock.settle()
  return refused
}

/** One session takes all its streams; they stay, and there is room again when one ends. */
async function streams(must: Must): Promise<number> {
  const clock = new VirtualClock()
  const app = new SimApp(clock, { maxStreamsPerSession: STREAMS, responseMode: 'sse' })
  const id = await app.open()
  const streaming = (duration: number): SimExchange =>
    app.post(
      id,
      rpc(
        'tools/call',
        { name: 'run', arguments: { tag: 'long', duration, progress: { count: 1, every: 1 } } },
        duration,
      ),
    )
  const open = Array.from({ length: STREAMS }, (_, index) => streaming(60_000 + index))
  await clock.advance(10)
  const attempts = Array.from({ length: 50 }, (_, index) => streaming(1000 + index))
  await clock.advance(10)
  const refused = attempts.filter((attempt) => saysWhen(attempt, 429)).length
  must(
    refused === attempts.length,
    `${refused} of ${attempts.length} streams beyond maxStreamsPerSession were refused`,
  )
  await clock.advance(61_000)
  must(
    open.every((exchange) => exchange.text.includes('"result"')),
    'a stream within the cap was not answered',
  )
  const after = streaming(100)
  await clock.advance(1000)
  must(after.text.includes('"result"'), 'there was no stream again when others had ended')
  await app.manager.close()
  await clock.settle()
  return refused
}

/** Many clients that are away fill the log: it stays within its cap, and each is told what it missed, or that it missed something. */
async function eventLog(size: R22Size, must: Must): Promise<{ logCap: number; told: number }> {
  const clock = new VirtualClock()
  const logCap = Math.round((size.writers * size.events * KIB) / 4)
  const app = new SimApp(clock, {
    maxSessions: size.writers,
    eventLogMaxBytes: size.events * 2 * KIB,
    eventLogMaxTotalBytes: logCap,
    eventLogMaxEvents: size.events * 2,
  })
  const ids: string[] = []
  const cursors: string[] = []
  for (let index = 0; index < size.writers; index++) {
    const id = await app.open()
    const stream = app.get(id)
    await clock.settle()
    cursors.push(stream.events.at(-1)?.id ?? '')
    stream.drop()
    await clock.settle()
    ids.push(id)
  }
  for (let event = 0; event < size.events; event++) {
    for (const id of ids)
      app.manager.sessions
        .get(id)
        ?.notify('notifications/message', { level: 'info', data: `${event} ${'x'.repeat(KIB)}` })
  }
  await clock.settle()
  let told = 0
  for (const [index, id] of ids.entries()) {
    const stream = app.get(id, { 'last-event-id': cursors[index] })
    await clock.settle()
    const messages = stream.events.filter(({ data }) => data !== '').map(({ data }) => data)
    const whole = messages.filter((data) => data.includes('notifications/message')).length === size.events
    const gap = messages.some((data) => data.includes('list_changed'))
    if (whole || gap) told += 1
    stream.drop()
  }
  must(told === size.writers, `${size.writers - told} clients were not told that they missed something`)
  must(app.manager.sessions.size === size.writers, 'a full log ended a session')
  await app.manager.close()
  await clock.settle()
  return { logCap, told }
}

export const chaos: Chaos<R22Findings> = {
  name: 'r22',
  help: [
    ['', 'every cap is reached: sessions, principals, streams, bytes of the event log; a minute'],
    ['--short', '200 sessions, 1,000 newcomers; kept out of the figures'],
  ],
  run: ({ short }, progress) => r22(short ? R22_SHORT : R22_WHOLE, progress),
  tell: ({ size, refused, evicted, activeEnded, principalsRefused, streamsRefused, told }) =>
    `R22: ${size.sessions} sessions: ${refused} newcomers refused, ${evicted} idle ones made room later, ${activeEnded} at work ended; ` +
    `${principalsRefused} beyond a principal's cap and ${streamsRefused} streams beyond a session's refused; ${told} of ${size.writers} clients of a full log told`,
  row: ({ size, refused, evicted, activeEnded, told }) => ({
    test: 'R22 · 7',
    done: `a table of ${count(size.sessions)} sessions, half of them at work, and ${count(2 * size.floods)} newcomers; a principal's and a session's caps; an event log filled four times over`,
    came: `${count(refused)} refused with 503 and a time, ${count(evicted)} idle sessions made room once they might; ${activeEnded} at work ended; each of ${count(told)} clients told what it missed, or that it had`,
  }),
}
