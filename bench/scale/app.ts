/** Apps with very many sessions, made in process: through HTTP a million would take an hour. */

import { createHash } from 'node:crypto'
import { type App, httpApp } from '../../src/http-app.ts'
import { Session } from '../../src/session/session.ts'
import { SessionTable } from '../../src/session/session-table.ts'
import { recordFromJson, recordToJson } from '../../src/session/stored-record.ts'
import type { AppOptions, McpServerLike } from '../../src/types.ts'
import { JumpClock } from './jump-clock.ts'
import { echoRequest, INITIALIZED, initializeRequest } from '../shared/echo.ts'
import { post } from '../shared/in-process.ts'

/** An app, its clock and its table. */
export interface ScaledApp {
  readonly app: App
  readonly clock: JumpClock
}

/** Makes an app whose limits nothing here reaches. */
export function makeApp(createServer: () => McpServerLike, options: AppOptions = {}): ScaledApp {
  const clock = new JumpClock()
  const app = httpApp(createServer, {
    allowedHosts: 'any',
    maxSessions: 2_000_000,
    unusedSessionTimeout: Number.POSITIVE_INFINITY,
    handshakeTimeout: Number.POSITIVE_INFINITY,
    clock,
    ...options,
  })
  return { app, clock }
}

/** Opens sessions as clients do, through `app.fetch`, and returns their ids. Each is called once where that is wanted. */
export async function openSessions(app: App, count: number, call: boolean): Promise<string[]> {
  const ids: string[] = []
  while (ids.length < count) {
    const batch = Math.min(200, count - ids.length)
    const opened = await Promise.all(
      Array.from({ length: batch }, async (_, index) => {
        const id = await post(app, initializeRequest(index))
        await post(app, INITIALIZED, id)
        if (call) await post(app, echoRequest(index), id)
        return id
      }),
    )
    ids.push(...opened)
  }
  return ids
}

/**
 * Fills an app with sleeping sessions, each as a restart finds it in its store; the first is one that was really opened, and the others
 * have its record. Returns the table and the ids.
 */
export async function fillAsleep(
  app: App,
  clock: JumpClock,
  count: number,
): Promise<{ table: SessionTable; ids: string[] }> {
  const register = SessionTable.prototype.register
  let found: { table: SessionTable; session: Session } | undefined
  // The only way to the table of an app from outside; taken back at once.
  SessionTable.prototype.register = function (session, slot) {
    found = { table: this, session }
    register.call(this, session, slot)
  }
  const ids = await openSessions(app, 1, true).finally(() => {
    SessionTable.prototype.register = register
  })
  if (found === undefined) throw new Error('no session was registered')
  const { table, session: first } = found
  const { runtime } = first
  const json = recordToJson(first.record)
  for (let made = 1; made < count; made += 1) {
    const id = `${String(made).padStart(10, '0')}-${'x'.repeat(32)}`
    const key = createHash('sha256').update(id).digest('base64url')
    const record = recordFromJson(json, `${id.slice(0, 8)}…`, runtime.shared)
    const session = new Session(runtime, record, table, false, { openedAt: clock.now(), key })
    table.restore(session)
    session.restore(clock.now())
    // From here on it is known by its id, as a session is whose client was here.
    table.find(id)
    ids.push(id)
    if (made % 20_000 === 0) await new Promise(setImmediate)
  }
  return { table, ids }
}
