/** R2 in short: some thousand sessions on the real clock. Never early is certain (promise 1); how late is told (promise 2). */

import { expect, test } from 'vitest'

import { systemClock } from '../../src/clock.ts'
import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import { FakeServer } from '../support/fake-server.ts'
import { initialize } from '../support/mcp-wire.ts'
import { SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const SESSIONS = 3000

test('3,000 sessions with timeouts of 1 to 2 s: none ends early, each ends', async () => {
  // The exchanges take no time, so theirs may stand still.
  const still = new VirtualClock()
  const manager = new StreamableHTTPSessionManager(() => new FakeServer({ clock: still, tag: 'fake' }), {
    clock: systemClock,
    // Each client says how long it wants to be idle.
    sessionIdleTimeout: ({ client }) => Number(client?.version),
    unusedSessionTimeout: Number.POSITIVE_INFINITY,
    handshakeTimeout: Number.POSITIVE_INFINITY,
  })
  /** By session: when its clock had certainly not started yet, and its timeout. */
  const sessions = new Map<string, { before: number; timeout: number }>()
  const early: number[] = []
  const late: number[] = []
  const allClosed = new Promise<void>((resolve) => {
    manager.sessions.subscribe((event) => {
      if (event.type !== 'session.closed') return
      const now = performance.now()
      const session = sessions.get(event.session ?? '')
      if (session === undefined || event.reason !== 'idle') return
      const over = now - session.before - session.timeout
      if (over < 0) early.push(over)
      late.push(over)
      if (late.length === SESSIONS) resolve()
    })
  })
  for (let n = 0; n < SESSIONS; n++) {
    // Hundreds of different timeouts, and many that are the same: lists and heap.
    const timeout = n % 3 === 0 ? 1500 : 1000 + (n % 1000) + (n % 7) / 7
    const message = initialize() as { params: object }
    const params = { ...message.params, clientInfo: { name: 'r2', version: String(timeout) } }
    const exchange = new SimExchange(
      still,
      {
        headers: {
          host: 'localhost',
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
        },
        body: JSON.stringify({ ...message, params }),
      },
      {
        onover: ({ responseHeaders }) => {
          sessions.set(responseHeaders['mcp-session-id'] ?? '', { before, timeout })
        },
      },
    )
    const before = performance.now()
    await manager.handle(exchange)
  }
  await allClosed
  late.sort((a, b) => a - b)
  const at = (share: number): string => (late[Math.floor((late.length - 1) * share)] ?? Number.NaN).toFixed(3)
  // Told, not asserted: other work may share this machine.
  process.stdout.write(
    `R2 short: ${SESSIONS} sessions, late by ${at(0)} to ${at(1)} ms, median ${at(0.5)}, p99 ${at(0.99)}\n`,
  )
  expect(early).toEqual([])
  expect(manager.sessions.size).toBe(0)
  await manager.close()
})
