/** Entry of the load generator: a process of its own, on a core of its own where there is one. */

import { callOnce, echoScript, endSession, NO_SESSION, openSession } from './client.ts'
import { Connection } from './connection.ts'
import { cpuMicros, serveDriver } from '../shared/ipc.ts'
import type { LoadRun, LoadTarget } from '../shared/types.ts'

/** A connection and the session that is called over it. */
interface Lane {
  readonly connection: Connection
  readonly session: string
}

let target: LoadTarget = { port: 0, connections: 0, sessions: false }
let lanes: Lane[] = []
let opened: string[] = []

/** Connects, opens one session per connection and checks that each answers rightly. */
async function prepare(to: LoadTarget): Promise<void> {
  target = to
  lanes = await Promise.all(
    Array.from({ length: to.connections }, async () => {
      const connection = await Connection.open(to.port)
      const session = to.sessions ? await openSession(connection, to.port) : NO_SESSION
      await callOnce(connection, to.port, session)
      return { connection, session }
    }),
  )
}

/** Calls over all lanes for `ms` milliseconds; ends when every call is answered. */
async function run({ ms }: { ms: number }): Promise<LoadRun> {
  return await measured(async () => {
    const deadline = performance.now() + ms
    const driven = lanes.map(({ connection, session }) =>
      connection.drive(echoScript(target.port, session), deadline),
    )
    return (await Promise.all(driven)).reduce((sum, calls) => sum + calls, 0)
  })
}

/** Ends the sessions and the connections of {@link prepare}. */
async function finish(): Promise<void> {
  const done = lanes
  lanes = []
  await Promise.all(
    done.map(async ({ connection, session }) => {
      if (target.sessions) await endSession(connection, target.port, session)
      connection.abandon()
    }),
  )
}

/** Opens `count` sessions, handshake whole, over the target's connections; then abandons the connections. */
async function open({ to, count }: { to: LoadTarget; count: number }): Promise<LoadRun> {
  const ran = await measured(async () => {
    let left = count
    await overConnections(to, async (connection) => {
      while (left > 0) {
        left -= 1
        opened.push(await openSession(connection, to.port))
      }
    })
    return count
  })
  return ran
}

/** Ends every session of {@link open}. */
async function end({ to }: { to: LoadTarget }): Promise<void> {
  const ending = opened
  opened = []
  await overConnections(to, async (connection) => {
    for (let id = ending.pop(); id !== undefined; id = ending.pop()) await endSession(connection, to.port, id)
  })
}

/** Forgets the sessions of {@link open} without ending them, as clients do. */
function forget(): void {
  opened = []
}

async function overConnections(
  to: LoadTarget,
  work: (connection: Connection) => Promise<void>,
): Promise<void> {
  await Promise.all(
    Array.from({ length: to.connections }, async () => {
      const connection = await Connection.open(to.port)
      await work(connection).finally(() => connection.abandon())
    }),
  )
}

async function measured(work: () => Promise<number>): Promise<LoadRun> {
  const cpu = cpuMicros()
  const began = performance.now()
  const calls = await work()
  return { calls, elapsedMs: performance.now() - began, cpuMicros: cpuMicros() - cpu }
}

serveDriver({ prepare, run, finish, open, end, forget }, { port: 0 })
