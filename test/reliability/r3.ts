/** R3: the event loop is blocked for 2 s just before deadlines, with requests already in the sockets: all are served, nothing expires. */

import { fork } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

import { type App, httpApp } from '../../src/http-app.ts'
import { within } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import { initialize, post, rpc } from '../support/mcp-wire.ts'
import { encodeRequest, RawConnection } from '../support/raw-http.ts'
import { type Chaos, count, type Findings, type Progress } from './chaos.ts'

/** `sessionIdleTimeout`; where opening takes longer, the next is tried. */
const IDLE = [2500, 5000, 10_000, 20_000]
const BLOCKED = 2000

/** How long whoever sends meanwhile is waited for, in milliseconds: a busy machine may give it little time. */
const LONGEST_BLOCKED = 10_000

/** What waits is looked for at most 200 ms, so that a busy loop ends sessions all the same; what is read by then must be served. */
const LOOKED_FOR = 150

/** Idle sessions are looked at, and the loop blocked, so long before the first deadline, in milliseconds. */
const BEFORE = 200

const clock = {
  now: () => performance.now(),
  after(delay: number, callback: () => void) {
    const handle = setTimeout(callback, delay)
    return { cancel: () => clearTimeout(handle) }
  },
}

/** What one half of a run found. */
interface R3Part {
  readonly requests: number
  served: number
  /** Sessions that ended. */
  expired: number
  /** How long nothing ran, in milliseconds. */
  readonly blocked: number
  /** Requests that a busy machine gave this process no time to read while it looked for some, and that were not served. */
  readonly late: number
}

/** What a run found. */
interface R3Findings extends Findings {
  /** Requests on connections that were open, and on new ones. */
  readonly open: R3Part
  readonly fresh: R3Part
}

interface Client {
  readonly connection: RawConnection
  readonly id: string
}

/** Sessions that are idle, one connection each. */
class Idlers {
  readonly app: App
  readonly port: number
  readonly clients: readonly Client[]
  expired = 0
  /** When the last request of each session was read. */
  readonly readAt = new Map<unknown, number>()
  readonly #http: Server

  private constructor(app: App, http: Server, clients: Client[]) {
    this.app = app
    this.#http = http
    this.port = (http.address() as AddressInfo).port
    this.clients = clients
    http.prependListener('request', ({ headers }) => {
      this.readAt.set(headers['mcp-session-id'], performance.now())
    })
    app.sessions.subscribe(({ type }) => {
      if (type === 'session.closed') this.expired += 1
    })
  }

  /** A machine that is busy with other things takes its time to open sessions: none may expire meanwhile. */
  static async serve(sessions: number): Promise<Idlers> {
    for (const idle of IDLE) {
      const idlers = await Idlers.#serve(sessions, idle)
      if (idlers.#ready()) return idlers
      await idlers.close()
    }
    throw new Error(`${sessions} sessions could not be opened within ${IDLE.at(-1)} ms`)
  }

  static async #serve(sessions: number, idleTimeout: number): Promise<Idlers> {
    const app = httpApp(() => new FakeServer({ clock, tag: 'fake' }), {
      sessionIdleTimeout: idleTimeout,
      unusedSessionTimeout: Number.POSITIVE_INFINITY,
      handshakeTimeout: Number.POSITIVE_INFINITY,
    })
    const http = createServer(app.node)
    // Node's own 5 s would close connections that wait here.
    http.keepAliveTimeout = 60_000
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
    const { port } = http.address() as AddressInfo
    const clients = await Promise.all(
      Array.from({ length: sessions }, async () => {
        const connection = await RawConnection.open(port)
        const response = await connection.request(post(initialize()))
        await response.text()
        return { connection, id: response.header('mcp-session-id') ?? '' }
      }),
    )
    while (app.sessions.counts.active > 0) await new Promise((resolve) => setImmediate(resolve))
    return new Idlers(app, http, clients)
  }

  /** When each session runs out, in milliseconds from now. */
  #due(): number[] {
    return this.app.sessions.list().map(({ expiresIn }) => expiresIn ?? 0)
  }

  #ready(): boolean {
    return this.clients.length === this.app.sessions.size && Math.min(...this.#due()) > 2 * BEFORE
  }

  /** Waits until the first deadline is close; gives the time until the last, in milliseconds. */
  async untilJustBefore(): Promise<number> {
    if (!this.#ready())
      throw new Error('the sessions were not used within their timeout: this machine is too busy')
    await new Promise((resolve) => setTimeout(resolve, Math.min(...this.#due()) - BEFORE))
    return Math.max(...this.#due())
  }

  async close(): Promise<void> {
    for (const { connection } of this.clients) connection.destroy()
    await this.app.close()
    this.#http.closeAllConnections()
    await new Promise((resolve) => this.#http.close(resolve))
  }
}

/** Nothing runs for so long: no timer, no socket. */
function block(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

const LIST = rpc('tools/list')

/** Requests on connections that are open. */
async function onOpenConnections(sessions: number): Promise<R3Part> {
  const idlers = await Idlers.serve(sessions)
  try {
    const last = await idlers.untilJustBefore()
    // A write to an idle socket is a write to the kernel, at once.
    for (const { connection, id } of idlers.clients)
      void connection.send(post(LIST, { 'Mcp-Session-Id': id }))
    // Every deadline passes meanwhile: on a slow machine the sessions were not opened within 2 s.
    const blocked = Math.max(BLOCKED, last + BEFORE)
    block(blocked)
    const answers = await Promise.allSettled(
      idlers.clients.map(({ connection }) => connection.response(15_000)),
    )
    const served = answers.filter(({ status, ...answer }) => {
      return status === 'fulfilled' && 'value' in answer && answer.value.status === 200
    }).length
    return { requests: sessions, served, expired: idlers.expired, blocked, late: 0 }
  } finally {
    await idlers.close()
  }
}

/** Requests that come on new connections while it is blocked. libuv accepts one per turn of the loop, so that this takes as many turns. */
async function onNewConnections(sessions: number): Promise<R3Part> {
  const idlers = await Idlers.serve(sessions)
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const knocker = fork(fileURLToPath(new URL('fixtures/knocker.ts', import.meta.url)), {
    execArgv: ['--import', tsx],
  })
  const folder = mkdtempSync(join(tmpdir(), 'sojourn-r3-'))
  const sent = join(folder, 'sent')
  try {
    const told = (): Promise<unknown> =>
      within(new Promise((resolve) => knocker.once('message', resolve)), 'a message', 15_000)
    const use = async ({ connection, id }: Client): Promise<void> => {
      const response = await connection.request(post(LIST, { 'Mcp-Session-Id': id }))
      await response.text()
    }
    // The start of that process takes its time: the sessions are kept alive meanwhile, and every clock starts anew.
    let ready = false
    const started = told().finally(() => (ready = true))
    while (!ready) {
      await Promise.all(idlers.clients.map(use))
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
    await started
    await Promise.all(idlers.clients.map(use))
    await idlers.untilJustBefore()
    const requests = idlers.clients.map(({ id }) =>
      encodeRequest(post(LIST, { 'Mcp-Session-Id': id }), 'localhost').toString('latin1'),
    )
    const answered = told()
    await new Promise<void>((resolve, reject) => {
      const order = { port: idlers.port, requests, sent }
      knocker.send(order, (error) => (error === null ? resolve() : reject(error)))
    })
    const began = performance.now()
    block(BLOCKED)
    while (!existsSync(sent) && performance.now() - began < LONGEST_BLOCKED) block(20)
    const unblocked = performance.now()
    const lines = (await answered) as string[]
    const served = lines.filter((line) => line === 'HTTP/1.1 200 OK').length
    const late = idlers.clients.filter(
      ({ id }, n) =>
        lines[n] === 'HTTP/1.1 404 Not Found' && (idlers.readAt.get(id) ?? Infinity) > unblocked + LOOKED_FOR,
    ).length
    return {
      requests: sessions,
      served,
      expired: idlers.expired - late,
      blocked: unblocked - began,
      late,
    }
  } finally {
    knocker.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
    await idlers.close()
  }
}

/** Both halves, one after the other. */
export async function r3(
  sizes: { open: number; fresh: number },
  onProgress: Progress = () => {},
): Promise<R3Findings> {
  onProgress('R3: requests on connections that are open')
  const open = await onOpenConnections(sizes.open)
  onProgress('R3: requests on new connections')
  const fresh = await onNewConnections(sizes.fresh)
  const violations = Object.entries({ open, fresh }).flatMap(([name, { requests, served, late, expired }]) =>
    served + late === requests && expired === 0
      ? []
      : [`${name} connections: ${served} of ${requests} served, ${expired} sessions expired`],
  )
  return { open, fresh, violations }
}

/** `npm run chaos -- r3` */
export const chaos: Chaos<R3Findings> = {
  name: 'r3',
  help: [
    ['', 'an event loop blocked for 2 s just before 1,000 deadlines, with requests in the sockets; 10 s'],
    ['--short', 'before 200 deadlines'],
  ],
  run: ({ short }, progress) => r3(short ? { open: 200, fresh: 20 } : { open: 1000, fresh: 50 }, progress),
  tell: ({ open, fresh }) =>
    `R3: blocked for ${(open.blocked / 1000).toFixed(1)} s: ${open.served} of ${open.requests} served on open connections, ` +
    `${fresh.served} of ${fresh.requests} on new ones; ${open.expired + fresh.expired} expired`,
  row: ({ open, fresh }) => ({
    test: 'R3 · 2',
    done:
      `event loop blocked for ${(open.blocked / 1000).toFixed(1)} s over ${count(open.requests)} deadlines with requests in open connections, ` +
      `and over ${count(fresh.requests)} with requests on new ones`,
    came: `${count(open.served + fresh.served)} of ${count(open.requests + fresh.requests)} served, ${count(open.expired + fresh.expired)} expired`,
  }),
}
