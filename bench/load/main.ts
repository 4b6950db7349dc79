/** Entry of the load generator: a process of its own, on a core of its own where there is one. */

import { callOnce, type ClientSession, echoScript, endSession, openSession, streamRequest } from './client.ts'
import { Connection, type Script } from './connection.ts'
import { EventStream } from './stream.ts'
import { cpuMicros, serveDriver } from '../shared/ipc.ts'
import type { LoadRun, LoadTarget, Spread } from '../shared/types.ts'

/** A connection, the sessions that are called over it, and how. */
interface Lane {
  connection: Connection
  readonly sessions: readonly ClientSession[]
  readonly script: Script
}

/** How many sockets are connected at once. */
const BATCH = 128

/** What was prepared, by the row it is for. */
const prepared = new Map<string, { readonly to: LoadTarget; readonly lanes: readonly Lane[] }>()
let opened: ClientSession[] = []
let streams: EventStream[] = []
let cursors: (string | undefined)[] = []

/** Connects, opens the sessions of each connection and checks that each answers rightly. */
async function prepare({
  key,
  to,
  sessions,
  spread,
}: {
  key: string
  to: LoadTarget
  sessions: number
  spread: Spread
}): Promise<void> {
  const each = Math.max(1, Math.round(sessions / to.connections))
  const lanes = await Promise.all(
    Array.from({ length: to.connections }, async (): Promise<Lane> => {
      const connection = await Connection.open(to.port)
      const own: ClientSession[] = []
      while (own.length < each) {
        const session = await openSession(connection, to)
        await callOnce(connection, to, session)
        own.push(session)
      }
      return { connection, sessions: own, script: echoScript(to, own, spread) }
    }),
  )
  prepared.set(key, { to, lanes })
}

/** Calls over all lanes for `ms` milliseconds; ends when every call is answered. */
async function run({
  key,
  ms,
  reconnect = false,
}: {
  key: string
  ms: number
  reconnect?: boolean
}): Promise<LoadRun> {
  const { to, lanes } = prepared.get(key) ?? { to: undefined, lanes: [] }
  if (to === undefined) throw new Error(`${key} was not prepared`)
  if (reconnect) {
    // Between two rounds servers close connections that nobody uses.
    for (const lane of lanes) lane.connection.abandon()
    for (const lane of lanes) lane.connection = await Connection.open(to.port)
  }
  return await measured(async () => {
    const deadline = performance.now() + ms
    const driven = lanes.map(({ connection, script }) => connection.drive(script, deadline))
    return (await Promise.all(driven)).reduce((sum, calls) => sum + calls, 0)
  })
}

/** Lets the connections of {@link prepare} go, and ends their sessions where that is wanted. */
async function finish({ key, end }: { key: string; end: boolean }): Promise<void> {
  const done = prepared.get(key)
  prepared.delete(key)
  if (done === undefined) return
  await Promise.all(
    done.lanes.map(async ({ connection, sessions }) => {
      if (end) for (const session of sessions) await endSession(connection, done.to, session)
      connection.abandon()
    }),
  )
}

/** Opens `count` sessions, handshake whole, over the target's connections; then abandons the connections. */
async function open({ to, count }: { to: LoadTarget; count: number }): Promise<LoadRun> {
  return await measured(async () => {
    let left = count
    await overConnections(to, async (connection) => {
      while (left > 0) {
        left -= 1
        opened.push(await openSession(connection, to))
      }
    })
    return count
  })
}

/** Ends every session of {@link open}. */
async function end({ to }: { to: LoadTarget }): Promise<void> {
  const ending = opened
  opened = []
  await overConnections(to, async (connection) => {
    for (let session = ending.pop(); session !== undefined; session = ending.pop())
      await endSession(connection, to, session)
  })
}

/** Forgets the sessions of {@link open} without ending them, as clients do. */
function forget(): void {
  opened = []
}

/** Opens the GET stream of every session of {@link open}; where they were dropped, each goes on after its last event. */
async function attach({ to }: { to: LoadTarget }): Promise<LoadRun> {
  return await measured(async () => {
    streams = await inBatches(opened, (session, index) =>
      EventStream.open(to.port, streamRequest(to, session, cursors[index])),
    )
    return streams.length
  })
}

/** Waits until each stream has heard `count` notifications. */
async function hear({ count }: { count: number }): Promise<LoadRun> {
  return await measured(async () => {
    await Promise.all(streams.map((stream) => stream.hear(count)))
    return streams.length
  })
}

/** Goes on with every dropped stream, and waits until each has heard what it missed. */
async function resume({ to, count }: { to: LoadTarget; count: number }): Promise<LoadRun> {
  return await measured(async () => {
    streams = await inBatches(opened, async (session, index) => {
      const stream = await EventStream.open(to.port, streamRequest(to, session, cursors[index]))
      await stream.hear(count)
      return stream
    })
    return streams.length
  })
}

/** Drops every stream, as a network does; where they were is kept for {@link attach} unless the sessions are forgotten. */
function drop(): void {
  cursors = streams.map(({ lastEventId }) => lastEventId)
  for (const stream of streams) stream.abandon()
  streams = []
}

/** Drops streams, cursors and sessions. */
function reset(): void {
  drop()
  cursors = []
  forget()
}

async function inBatches<T, R>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  for (let from = 0; from < items.length; from += BATCH) {
    const batch = items.slice(from, from + BATCH)
    results.push(...(await Promise.all(batch.map((item, index) => work(item, from + index)))))
  }
  return results
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

serveDriver({ prepare, run, finish, open, end, forget, attach, hear, resume, drop, reset }, { port: 0 })
