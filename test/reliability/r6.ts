/** R6: what holds a session holds it for as long as it lasts, and a peer that vanished without a word holds nothing for long. */

import type { AddressInfo } from 'node:net'

import { type HttpServerHandle, runHttp } from '../../src/run-http.ts'
import type { SessionEvent } from '../../src/session/events.ts'
import { FakeServer } from '../support/fake-server.ts'
import { RawConnection, type RawRequest, type RawResponse } from '../support/raw-http.ts'
import { type Chaos, count, type Findings, type Progress, seconds } from './chaos.ts'
import { CutProxy } from './r8-proxy.ts'

/** How much is at stake; times in milliseconds. */
export interface R6Size {
  /** Sessions of each kind. */
  readonly sessions: number
  readonly idleTimeout: number
  readonly keepAlive: number
}

export const R6_WHOLE: R6Size = { sessions: 50, idleTimeout: 10_000, keepAlive: 5000 }
export const R6_SHORT: R6Size = { sessions: 5, idleTimeout: 900, keepAlive: 300 }

/** What a run found. Times are milliseconds. */
export interface R6Findings extends Findings {
  readonly size: R6Size
  /** How long calls were silent and GETs open. */
  readonly silent: number
  /** Calls that were answered after that, GETs whose session was still there. */
  readonly answered: number
  readonly open: number
  /** The latest that a vanished peer was noticed after its last sign of life, and its session ended after that. */
  readonly noticed: number
  readonly ended: number
}

/** How long an answer may take on such a machine, in milliseconds. */
const PATIENCE = 20_000

/** How much later than its time something may be seen on a machine that is busy with other things, in milliseconds. */
const GRACE = 5000

const clock = {
  now: () => performance.now(),
  after: (delay: number, callback: () => void) => {
    const handle = setTimeout(callback, delay)
    return { cancel: () => clearTimeout(handle) }
  },
}

/** All kinds at once, against one server. */
export async function r6(size: R6Size, onProgress: Progress = () => {}): Promise<R6Findings> {
  const handle = await runHttp(() => new FakeServer({ clock, tag: 'r6' }), {
    port: 0,
    handleSignals: false,
    sessionIdleTimeout: size.idleTimeout,
    keepAliveInterval: size.keepAlive,
  })
  const { port } = handle.server.address() as AddressInfo
  const proxy = await CutProxy.start(port)
  const connections: RawConnection[] = []
  try {
    const silent = 10 * size.idleTimeout
    const events = new Events(handle)
    onProgress(`R6: silent for ${silent / 1000} s`)
    const each = <T>(task: () => Promise<T>): Promise<T[]> =>
      Promise.all(Array.from({ length: size.sessions }, task))
    const [answered, open, vanished] = await Promise.all([
      each(() => silentCall(handle, port, silent, connections)),
      each(() => openStream(handle, port, silent, connections)),
      each(() => vanish(size, port, proxy, events, connections)),
    ])
    const noticed = Math.max(...vanished.map((peer) => peer.noticed))
    const ended = Math.max(...vanished.map((peer) => peer.ended))
    const violations: string[] = []
    const must = (holds: boolean, text: string): void => void (holds || violations.push(text))
    const served = answered.filter(Boolean).length
    const kept = open.filter(Boolean).length
    must(served === size.sessions, `${served} of ${size.sessions} silent calls were answered`)
    must(kept === size.sessions, `${kept} of ${size.sessions} sessions with an open GET were there`)
    // docs/wire.md: every second keep-alive is a ping, whose answer is waited for in two intervals.
    must(noticed <= 4 * size.keepAlive + GRACE, `a dead peer was noticed after ${Math.round(noticed)} ms`)
    const early = vanished.filter((peer) => peer.ended < size.idleTimeout)
    must(early.length === 0, `${early.length} sessions of vanished peers ended early`)
    must(
      ended <= size.idleTimeout + GRACE,
      `a session ended ${Math.round(ended)} ms after its peer was given up`,
    )
    return { size, silent, answered: served, open: kept, noticed, ended, violations }
  } finally {
    for (const connection of connections) connection.destroy()
    await proxy.close()
    await handle.close()
  }
}

/** Whether a call that says nothing for so long is answered, and its session serves the next. */
async function silentCall(
  handle: HttpServerHandle,
  port: number,
  silent: number,
  connections: RawConnection[],
): Promise<boolean> {
  const call = rpc('tools/call', { name: 'run', arguments: { tag: 'silent', duration: silent } })
  const { session, response } = await begin(port, connections, (id) => post(call, id), silent)
  const text = await response.text(silent + PATIENCE)
  return text.includes('"result"') && handle.app.sessions.get(session.id) !== undefined
}

/** Whether a session whose GET is all there is lives on for so long. */
async function openStream(
  handle: HttpServerHandle,
  port: number,
  silent: number,
  connections: RawConnection[],
): Promise<boolean> {
  const { session, response: stream } = await begin(port, connections, get)
  const stop = answerPings(port, stream, session.id, connections)
  await new Promise((resolve) => setTimeout(resolve, silent))
  stop()
  return stream.ending === undefined && handle.app.sessions.get(session.id)?.state === 'active'
}

/** Opens a GET through the proxy, answers one ping, and is gone without a word. */
async function vanish(
  size: R6Size,
  port: number,
  proxy: CutProxy,
  events: Events,
  connections: RawConnection[],
): Promise<{ noticed: number; ended: number }> {
  const { session, response: stream, connection } = await begin(port, connections, get, 0, proxy.port)
  const cut = await proxy.take(connection.socket.localPort ?? 0)
  // Only from a client that ever answered one is silence a sign.
  await answerPing(port, stream, session.id, connections, 20 * size.keepAlive)
  await cut.cutAfter(0, 'silence')
  const gone = performance.now()
  const closed = await events.of(session.id, 'stream.closed')
  const ended = await events.of(session.id, 'session.closed')
  return { noticed: closed - gone, ended: ended - closed }
}

/** When what happened to whom. */
class Events {
  readonly #seen = new Map<string, number>()
  readonly #waiting = new Map<string, (at: number) => void>()

  constructor(handle: HttpServerHandle) {
    handle.app.sessions.subscribe(({ type, session }) => {
      const key = `${type} ${session}`
      if (this.#seen.has(key)) return
      this.#seen.set(key, performance.now())
      this.#waiting.get(key)?.(performance.now())
    })
  }

  of(session: string, type: SessionEvent['type']): Promise<number> {
    const key = `${type} ${session}`
    const seen = this.#seen.get(key)
    return seen === undefined
      ? new Promise((resolve) => this.#waiting.set(key, resolve))
      : Promise.resolve(seen)
  }
}

const HEADERS = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' }

function rpc(method: string, params: object): object {
  return { jsonrpc: '2.0', id: 1, method, params }
}

function post(
  body: object,
  session?: string,
): { method: string; headers: Record<string, string>; body: object } {
  return { method: 'POST', headers: { ...HEADERS, ...(session && { 'Mcp-Session-Id': session }) }, body }
}

function get(session: string): { method: string; headers: Record<string, string> } {
  return { method: 'GET', headers: { Accept: 'text/event-stream', 'Mcp-Session-Id': session } }
}

async function openSession(
  port: number,
  connections: RawConnection[],
): Promise<{ connection: RawConnection; id: string }> {
  const connection = await RawConnection.open(port)
  connections.push(connection)
  const clientInfo = { name: 'r6', version: '1' }
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo }
  const response = await connection.request(post(rpc('initialize', params)), PATIENCE)
  await response.text()
  const id = response.header('mcp-session-id') ?? ''
  await (
    await connection.request(post({ jsonrpc: '2.0', method: 'notifications/initialized' }, id), PATIENCE)
  ).text()
  return { connection, id }
}

/** Opens a session and sends the first request to it; again where this machine took longer for that than the session may be idle. */
async function begin(
  port: number,
  connections: RawConnection[],
  request: (session: string) => RawRequest,
  silent = 0,
  through = port,
): Promise<{ session: { id: string }; response: RawResponse; connection: RawConnection }> {
  while (true) {
    const connection = await RawConnection.open(through)
    connections.push(connection)
    const session = await openSession(port, connections)
    const response = await connection.request(request(session.id), silent + PATIENCE)
    if (response.status === 200) return { session, response, connection }
    connection.destroy()
  }
}

/** Waits for a ping and answers it. */
async function answerPing(
  port: number,
  stream: RawResponse,
  session: string,
  connections: RawConnection[],
  deadline: number,
): Promise<void> {
  const ping = (await stream.nextMessage(deadline)) as { id: unknown }
  const connection = await RawConnection.open(port)
  connections.push(connection)
  const response = await connection.request(
    post({ jsonrpc: '2.0', id: ping.id, result: {} }, session),
    PATIENCE,
  )
  await response.text()
  connection.destroy()
}

/** Answers pings until it is told to stop. */
function answerPings(
  port: number,
  stream: RawResponse,
  session: string,
  connections: RawConnection[],
): () => void {
  let stopped = false
  const go = async (): Promise<void> => {
    while (!stopped) await answerPing(port, stream, session, connections, 600_000)
  }
  go().catch(() => {})
  return () => {
    stopped = true
  }
}

/** `npm run chaos -- r6` */
export const chaos: Chaos<R6Findings> = {
  name: 'r6',
  help: [
    [
      '',
      'calls that are silent for 10 × the idle timeout, GETs that stay open, peers that vanish without FIN; two minutes',
    ],
    ['--short', 'with an idle timeout of 0.9 s'],
  ],
  run: ({ short }, progress) => r6(short ? R6_SHORT : R6_WHOLE, progress),
  tell: ({ size, silent, answered, open, noticed, ended }) =>
    `R6: silent for ${seconds(silent)} (idle timeout ${seconds(size.idleTimeout)}): ${answered} calls answered, ${open} GETs open; ` +
    `vanished peers noticed after at most ${seconds(noticed)}, their sessions ended at most ${seconds(ended)} later`,
  row: ({ size, silent, answered, open, noticed, ended }) => ({
    test: 'R6 · 1',
    done: `${count(size.sessions)} calls and ${count(size.sessions)} GETs silent for ${seconds(silent)} with an idle timeout of ${seconds(size.idleTimeout)}; as many peers that vanish without FIN, keep-alive ${seconds(size.keepAlive)}`,
    came: `${count(answered)} calls answered, ${count(open)} GETs open; vanished peers noticed after at most ${seconds(noticed)}, their sessions ended ${seconds(ended)} later`,
  }),
}
