/** R17: clients that open a stream and read nothing of it. Little is held for each, then it is cut, and the others hardly notice. */

import { type AddressInfo, connect, type Socket } from 'node:net'

import { type HttpServerHandle, runHttp } from '../../src/run-http.ts'
import { FakeServer } from '../support/fake-server.ts'
import { RawConnection } from '../support/raw-http.ts'
import { type Chaos, count, type Findings, milliseconds, type Progress } from './chaos.ts'

/** How much is at stake. */
export interface R17Size {
  /** Clients that stop reading. */
  readonly deaf: number
  /** Events of 1 KiB to each. */
  readonly events: number
  /** Clients that call, one call after the other. */
  readonly healthy: number
}

export const R17_WHOLE: R17Size = { deaf: 500, events: 10_000, healthy: 20 }
export const R17_SHORT: R17Size = { deaf: 5, events: 6000, healthy: 2 }

/** What a run found. */
export interface R17Findings extends Findings {
  readonly size: R17Size
  /** Most bytes that waited for any one of them in the process. */
  readonly mostHeld: number
  readonly cut: number
  /** 99 of 100 calls of the others took no longer, in milliseconds: while all read, and while those did not. */
  readonly p99Reading: number
  readonly p99Deaf: number
  readonly calls: number
}

/** `maxStreamBuffer`, and the one message that may come on top. */
const MOST_HELD = 1024 * 1024 + 4096
/** Events in one turn of the event loop. */
const BURST = 8
const PATIENCE = 30_000

const clock = {
  now: () => performance.now(),
  after: (delay: number, callback: () => void) => {
    const handle = setTimeout(callback, delay)
    return { cancel: () => clearTimeout(handle) }
  },
}

/** The same events twice: to clients that read, then to clients that do not. */
export async function r17(size: R17Size, onProgress: Progress = () => {}): Promise<R17Findings> {
  onProgress('R17: everybody reads')
  const reading = await phase(size, true)
  onProgress('R17: they stop')
  const deaf = await phase(size, false)
  const violations: string[] = []
  const must = (holds: boolean, text: string): void => void (holds || violations.push(text))
  must(reading.cut === 0, `${reading.cut} clients that read were cut`)
  must(deaf.cut === size.deaf, `${deaf.cut} of ${size.deaf} clients that do not read were cut`)
  must(deaf.mostHeld <= MOST_HELD, `${deaf.mostHeld} bytes were held for one of them`)
  must(deaf.failed === 0, `${deaf.failed} calls of the others failed`)
  // A tenth of a millisecond more or less is no ratio.
  must(
    deaf.p99 <= 2 * Math.max(reading.p99, 5),
    `p99 of the others: ${deaf.p99} ms, before ${reading.p99} ms`,
  )
  const { mostHeld, cut, calls } = deaf
  return { size, mostHeld, cut, p99Reading: reading.p99, p99Deaf: deaf.p99, calls, violations }
}

interface Phase {
  readonly mostHeld: number
  readonly cut: number
  readonly calls: number
  readonly failed: number
  readonly p99: number
}

async function phase(size: R17Size, reads: boolean): Promise<Phase> {
  const handle = await runHttp(() => new FakeServer({ clock, tag: 'r17' }), { port: 0, handleSignals: false })
  const { port } = handle.server.address() as AddressInfo
  const accepted = new Set<Socket>()
  handle.server.on('connection', (socket: Socket) => {
    accepted.add(socket)
    socket.once('close', () => accepted.delete(socket))
  })
  const peers: Socket[] = []
  const callers: Caller[] = []
  try {
    for (let index = 0; index < size.deaf; index++) peers.push(await listen(handle, port, reads))
    const sessions = handle.app.sessions.list()
    for (let index = 0; index < size.healthy; index++) callers.push(await Caller.start(port))
    let mostHeld = 0
    const held = (): void => {
      for (const { writableLength } of accepted) mostHeld = Math.max(mostHeld, writableLength)
    }
    const working = callers.map((caller) => caller.work())
    const text = 'x'.repeat(1024 - 100)
    for (let event = 0; event < size.events; event++) {
      for (const session of sessions) session.notify('notifications/message', { level: 'info', data: text })
      if (event % BURST > 0) continue
      held()
      // The others get their turn, and those that read the time for it.
      await new Promise((resolve) => setImmediate(resolve))
    }
    held()
    for (const caller of callers) caller.stop()
    await Promise.all(working)
    const times = callers.flatMap((caller) => caller.times).sort((a, b) => a - b)
    return {
      mostHeld,
      cut: sessions.filter(({ streams }) => streams === 0).length,
      calls: times.length,
      failed: callers.reduce((sum, { failed }) => sum + failed, 0),
      p99: times[Math.floor(times.length * 0.99)] ?? Number.NaN,
    }
  } finally {
    for (const socket of peers) socket.destroy()
    for (const caller of callers) caller.close()
    await handle.close()
  }
}

const HEADERS = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' }

/** Opens a session on a connection of its own; gives its id. */
async function openSession(connection: RawConnection): Promise<string> {
  const clientInfo = { name: 'r17', version: '1' }
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo }
  const body = { jsonrpc: '2.0', id: 0, method: 'initialize', params }
  const response = await connection.request({ method: 'POST', headers: HEADERS, body }, PATIENCE)
  await response.text(PATIENCE)
  return response.header('mcp-session-id') ?? ''
}

/** A session with an open GET whose client reads all, or nothing after the head. */
async function listen(handle: HttpServerHandle, port: number, reads: boolean): Promise<Socket> {
  const connection = await RawConnection.open(port)
  const session = await openSession(connection)
  connection.destroy()
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(
    `GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: ${session}\r\n\r\n`,
  )
  await new Promise((resolve) => socket.once('data', resolve))
  if (reads) socket.on('data', () => {})
  else socket.pause()
  if (handle.app.sessions.get(session)?.streams !== 1) throw new Error('the stream did not open')
  return socket
}

/** Calls, one call after the other. */
class Caller {
  readonly times: number[] = []
  failed = 0
  readonly #connection: RawConnection
  readonly #session: string
  #stopped = false

  private constructor(connection: RawConnection, session: string) {
    this.#connection = connection
    this.#session = session
  }

  static async start(port: number): Promise<Caller> {
    const connection = await RawConnection.open(port)
    return new Caller(connection, await openSession(connection))
  }

  async work(): Promise<void> {
    const headers = { ...HEADERS, 'Mcp-Session-Id': this.#session }
    const body = { jsonrpc: '2.0', id: 1, method: 'tools/list' }
    while (!this.#stopped) {
      const began = performance.now()
      const response = await this.#connection.request({ method: 'POST', headers, body }, PATIENCE)
      const text = await response.text(PATIENCE)
      this.times.push(performance.now() - began)
      if (response.status !== 200 || !text.includes('"result"')) this.failed += 1
    }
  }

  stop(): void {
    this.#stopped = true
  }

  close(): void {
    this.#connection.destroy()
  }
}

/** `npm run chaos -- r17` */
export const chaos: Chaos<R17Findings> = {
  name: 'r17',
  help: [
    [
      '',
      '500 clients that stop reading, 10,000 events of 1 KiB to each, beside clients that call; five minutes',
    ],
    ['--short', '5 clients and 6,000 events'],
  ],
  run: ({ short }, progress) => r17(short ? R17_SHORT : R17_WHOLE, progress),
  tell: ({ size, mostHeld, cut, p99Reading, p99Deaf, calls }) =>
    `R17: ${cut} of ${size.deaf} clients that do not read were cut, at most ${mostHeld} bytes held for one; ` +
    `${calls} calls of others: p99 ${milliseconds(p99Deaf)}, and ${milliseconds(p99Reading)} while all read`,
  row: ({ size, mostHeld, cut, p99Reading, p99Deaf }) => ({
    test: 'R17 · 7',
    done: `${count(size.deaf)} clients that stop reading, ${count(size.events)} events of 1 KiB to each`,
    came: `${count(cut)} cut, at most ${count(mostHeld)} bytes held for one; others' calls: p99 ${milliseconds(p99Deaf)}, ${milliseconds(p99Reading)} while all read`,
  }),
}
