/** R2: very many sessions on the real clock, each with a timeout of its own. Never early (promise 1), and how late (promise 2). */

import { monitorEventLoopDelay } from 'node:perf_hooks'

import { systemClock } from '../../src/clock.ts'
import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import { FakeServer } from '../support/fake-server.ts'
import { initialize } from '../support/mcp-wire.ts'
import { SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { type Chaos, count, type Findings, milliseconds, type Progress } from './chaos.ts'

/** What `late` may be: its p99 and its greatest, in milliseconds. */
const P99 = 20
const LATEST = 250

/** Sessions opened per second: the event loop has time left, as that of a healthy server has. */
const RATE = 2500

/** So many sessions are opened before the event loop gets a turn: a few milliseconds of work. */
const BATCH = 10

/** Every so many milliseconds a plain timer is due. */
const TIMER = 5

const HEADERS = {
  host: 'localhost',
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
}

/** What a run found; times in milliseconds after the deadline. */
interface R2Findings extends Findings {
  readonly sessions: number
  /** Most that were there at once. */
  readonly atOnce: number
  readonly earliest: number
  readonly median: number
  readonly p99: number
  readonly latest: number
  /** p99 and greatest of what plain timers of this process were late by, all the while: the machine's share. */
  readonly timersP99: number
  readonly timersLatest: number
  readonly seconds: number
}

/** Opens so many sessions, and waits until each has ended. */
export async function r2(sessions: number, onProgress: Progress = () => {}): Promise<R2Findings> {
  const began = performance.now()
  // The exchanges take no time, so theirs may stand still.
  const still = new VirtualClock()
  const manager = new StreamableHTTPSessionManager(() => new FakeServer({ clock: still, tag: 'fake' }), {
    clock: systemClock,
    // Each client says how long it wants to be idle.
    sessionIdleTimeout: ({ client }) => Number(client?.version),
    unusedSessionTimeout: Number.POSITIVE_INFINITY,
    handshakeTimeout: Number.POSITIVE_INFINITY,
    maxSessions: Number.POSITIVE_INFINITY,
  })
  const violations: string[] = []
  /** By session: when its clock had not started yet, but was about to; and its timeout. */
  const waiting = new Map<string, { before: number; timeout: number }>()
  const late: number[] = []
  const allClosed = new Promise<void>((resolve) => {
    manager.sessions.subscribe((event) => {
      if (event.type !== 'session.closed') return
      const now = performance.now()
      const session = waiting.get(event.session ?? '')
      waiting.delete(event.session ?? '')
      if (session === undefined || event.reason !== 'idle') {
        violations.push(`a session ended that was not known, or for another reason: ${event.reason}`)
        return
      }
      late.push(now - session.before - session.timeout)
      if (late.length === sessions) resolve()
    })
  })
  const timers = monitorEventLoopDelay({ resolution: TIMER })
  timers.enable()
  let atOnce = 0
  for (let n = 0; n < sessions; n++) {
    // Hundreds of different timeouts, and many that are the same: lists and heap.
    const timeout = n % 3 === 0 ? 1500 : 1000 + (n % 1000) + (n % 7) / 7
    await open(manager, still, timeout, waiting)
    atOnce = Math.max(atOnce, waiting.size)
    if (n % BATCH === BATCH - 1) {
      const ahead = began + (n * 1000) / RATE - performance.now()
      await new Promise((resolve) => (ahead > 0 ? setTimeout(resolve, ahead) : setImmediate(resolve)))
    }
    if (n % 1000 === 0) onProgress(`R2: ${n} of ${sessions} opened, ${late.length} ended`)
  }
  await allClosed
  timers.disable()
  if (manager.sessions.size > 0) violations.push(`${manager.sessions.size} sessions are left`)
  await manager.close()
  late.sort((a, b) => a - b)
  const at = (share: number): number => late[Math.floor((late.length - 1) * share)] ?? Number.NaN
  if (at(0) < 0) violations.push(`a session ended ${-at(0)} ms early`)
  const found = { earliest: at(0), median: at(0.5), p99: at(0.99), latest: at(1) }
  const machine = {
    timersP99: Math.max(0, timers.percentile(99) / 1e6 - TIMER),
    timersLatest: Math.max(0, timers.max / 1e6 - TIMER),
  }
  return { sessions, atOnce, ...found, ...machine, seconds: (performance.now() - began) / 1000, violations }
}

async function open(
  manager: StreamableHTTPSessionManager,
  still: VirtualClock,
  timeout: number,
  waiting: Map<string, { before: number; timeout: number }>,
): Promise<void> {
  const message = initialize() as { params: object }
  const params = { ...message.params, clientInfo: { name: 'r2', version: String(timeout) } }
  let before = Number.NaN
  const exchange = new SimExchange(
    still,
    { headers: HEADERS, body: JSON.stringify({ ...message, params }) },
    {
      onanswer: () => void (before = performance.now()),
      onover: ({ responseHeaders }) =>
        void waiting.set(responseHeaders['mcp-session-id'] ?? '', { before, timeout }),
    },
  )
  await manager.handle(exchange)
}

/** `npm run chaos -- r2` */
export const chaos: Chaos<R2Findings> = {
  name: 'r2',
  help: [
    ['', '50,000 sessions with timeouts of 1 to 2 s on the real clock; half a minute'],
    ['--short', '3,000 sessions'],
  ],
  async run({ short }, progress) {
    const found = await r2(short ? 3000 : 50_000, progress)
    const { p99, latest } = found
    const violations = [...found.violations]
    if (!short && p99 > P99) violations.push(`p99 is ${p99.toFixed(1)} ms late, not ${P99}`)
    if (!short && latest > LATEST)
      violations.push(`the latest is ${latest.toFixed(1)} ms late, not ${LATEST}`)
    return { ...found, violations }
  },
  tell: ({ sessions, atOnce, earliest, median, p99, latest, timersP99, timersLatest, seconds }) =>
    `R2: ${sessions} sessions, at most ${atOnce} at once, ended ${earliest.toFixed(3)} to ${latest.toFixed(3)} ms after their deadline, ` +
    `median ${median.toFixed(3)}, p99 ${p99.toFixed(3)} (plain timers of the same process: p99 ${timersP99.toFixed(1)}, latest ${timersLatest.toFixed(1)}); ${seconds.toFixed(1)} s`,
  row: ({ sessions, atOnce, earliest, median, p99, latest, timersP99, timersLatest }) => ({
    test: 'R2 · 1, 2',
    done: `${count(sessions)} sessions with timeouts of 1 to 2 s on the real clock, at most ${count(atOnce)} at once`,
    came:
      `ended ${earliest.toFixed(3)} ms after the deadline at the earliest; median ${milliseconds(median)}, p99 ${milliseconds(p99)} ` +
      `(to reach: ${P99} ms), latest ${milliseconds(latest)} (${LATEST} ms); plain timers beside it: p99 ${milliseconds(timersP99)}, latest ${milliseconds(timersLatest)}`,
  }),
}
