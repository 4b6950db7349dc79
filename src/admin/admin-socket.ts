/** The administrative socket of a running server: which sessions it has, and ending one. HTTP over a Unix socket of mode 0600. */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { unlinkSync } from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { relative, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setImmediate as turn } from 'node:timers/promises'

import type { Clock, Timer } from '../clock.ts'
import { messageOf } from '../errors.ts'
import { isTaken, LONGEST_SOCKET_NAME, startListening } from '../http/listen.ts'
import type { Log } from '../logging.ts'
import type { SessionHandle, Sessions } from '../session/sessions.ts'
import { detailsOf, infoOf, type SessionInfo } from './session-info.ts'

/** What turns the socket off. */
const NONE = 'none'

/** How often a place is tried again that another server has not left yet, in milliseconds. */
const RETRY = 1000

/** So many sessions are written between two turns of the event loop: a list of many must not stall their calls. */
const SLICE = 500

/** The file of a store that is named as text; undefined for any other store. */
export function storeFile(store: unknown): string | undefined {
  return typeof store === 'string' && store.startsWith('sqlite:') ? store.slice('sqlite:'.length) : undefined
}

/** Where the server of a store's file has its socket when nothing else is said. */
export function socketBeside(file: string): string {
  const path = resolve(file)
  if (process.platform === 'win32') {
    return `\\\\.\\pipe\\sojourn-${createHash('sha256').update(path.toLowerCase()).digest('hex').slice(0, 32)}`
  }
  return `${path}-admin.sock`
}

/** What {@link AdminSocket} needs. */
export interface AdminSocketOptions {
  readonly sessions: Sessions
  /** Whether this process serves the sessions: while another one owns the store, the socket is that one's. */
  readonly ready: () => boolean
  /** As the option `adminSocket` was given. */
  readonly socket: string | undefined
  /** The file of the store, where there is one. */
  readonly file: string | undefined
  readonly log: Log
  readonly clock: Clock
}

/** Listens, as soon as this process is the one to ask, until it is closed. */
export class AdminSocket {
  readonly #options: AdminSocketOptions
  readonly #path: string | undefined
  #server: Server | undefined
  #timer: Timer | undefined
  #attempts = 0
  #closed = false
  readonly #onExit = (): void => {
    // A process that ends at once does not close its servers.
    if (this.#server?.listening === true && this.#path !== undefined) unlinkQuietly(this.#path)
  }

  constructor(options: AdminSocketOptions) {
    const { socket, file } = options
    this.#options = options
    const path = socket ?? (file === undefined ? undefined : socketBeside(file))
    this.#path = path === undefined || path === NONE ? undefined : fitting(path)
  }

  /**
   * Listens, now or later.
   * @throws SojournError `listen` where a socket that was asked for cannot be had
   */
  async open(): Promise<void> {
    if (this.#path === undefined) return
    await this.#try(this.#path)
  }

  /** Stops listening, and removes the socket; idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    this.#timer?.cancel()
    process.off('exit', this.#onExit)
    const server = this.#server
    this.#server = undefined
    if (server?.listening !== true) return
    server.close()
    server.closeAllConnections()
    await once(server, 'close')
  }

  async #try(path: string): Promise<void> {
    const { ready, file, socket, log } = this.#options
    if (file !== undefined && !ready()) return this.#tryLater(path)
    const server = createServer((request, response) => void this.#serve(request, response))
    try {
      await startListening(server, { host: '', port: 0, socket: path })
    } catch (error) {
      // The owner of the store before this one may take a moment to leave.
      if (isTaken(error) && file !== undefined) {
        this.#attempts += 1
        if (this.#attempts === 2)
          log.warn(
            'another program listens on the administrative socket; tried again every second until it is gone',
            { message: path },
          )
        return this.#tryLater(path)
      }
      if (socket !== undefined) throw error
      log.warn(
        'there is no administrative socket, so `sojourn sessions` cannot ask this server; the option adminSocket names another place',
        { message: messageOf(error) },
      )
      return
    }
    if (this.#closed) {
      server.close()
      return
    }
    server.unref()
    server.on('error', (error) => log.error('the administrative socket reported an error', { error }))
    process.once('exit', this.#onExit)
    this.#server = server
  }

  #tryLater(path: string): void {
    if (this.#closed) return
    this.#timer = this.#options.clock.setTimer(() => {
      this.#try(path).catch((error: unknown) =>
        this.#options.log.error('there is no administrative socket', { message: messageOf(error) }),
      )
    }, RETRY)
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost')
      const [, collection, name, ...rest] = pathname.split('/')
      if (collection !== 'sessions' || rest.length > 0)
        return answer(response, 404, { error: 'no such page' })
      if (request.method === 'GET' && name === undefined) return await this.#list(response)
      const principal = searchParams.get('principal')
      if (request.method === 'DELETE' && name === undefined && principal !== null && principal !== '')
        return answer(response, 200, await this.#endPrincipal(principal))
      if (name === undefined || name === '' || (request.method !== 'GET' && request.method !== 'DELETE'))
        return answer(response, 405, { error: 'GET and DELETE only' })
      const found = this.#find(decodeURIComponent(name))
      const [handle] = found
      if (handle === undefined) return answer(response, 404, { error: 'no such session' })
      if (found.length > 1) return answer(response, 409, { error: 'ambiguous', matches: found.length })
      if (request.method === 'GET')
        return answer(response, 200, detailsOf(handle, searchParams.get('data') === 'true'))
      const info = infoOf(handle)
      handle.close('admin')
      // What is said to be closed must not come back with a restart.
      await handle.ended
      return answer(response, 200, info)
    } catch (error) {
      if (response.headersSent) response.destroy()
      else answer(response, error instanceof URIError ? 400 : 500, { error: messageOf(error) })
    }
  }

  async #endPrincipal(principal: string): Promise<SessionInfo[]> {
    const { sessions } = this.#options
    // Told as they were before: what is over has no clock and no client any more.
    const before = new Map(
      sessions
        .list()
        .filter((handle) => handle.principal === principal)
        .map((handle) => [handle.id, infoOf(handle)]),
    )
    const ended = sessions.closePrincipal(principal)
    await Promise.all(ended.map((handle) => handle.ended))
    return ended.map((handle) => before.get(handle.id) ?? infoOf(handle))
  }

  /** One line of JSON per session. */
  async #list(response: ServerResponse): Promise<void> {
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' })
    await pipeline(Readable.from(linesOf(this.#options.sessions.list())), response)
  }

  /** By label, or by the whole id, which tells those apart that begin alike. */
  #find(name: string): SessionHandle[] {
    const { sessions } = this.#options
    const labeled = sessions.list().filter(({ label }) => label === name)
    if (labeled.length > 0) return labeled
    const one = sessions.get(name)
    return one === undefined ? [] : [one]
  }
}

async function* linesOf(handles: readonly SessionHandle[]): AsyncGenerator<string> {
  for (let start = 0; start < handles.length; start += SLICE) {
    let lines = ''
    for (const handle of handles.slice(start, start + SLICE))
      if (handle.state !== 'closed') lines += `${JSON.stringify(infoOf(handle))}\n`
    if (lines !== '') yield lines
    await turn()
  }
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(`${JSON.stringify(body)}\n`)
}

/** A socket as it can be listened on and connected to: its name has room for about a hundred bytes, and the relative one may fit. */
export function fitting(path: string): string {
  if (process.platform === 'win32' || Buffer.byteLength(path) <= LONGEST_SOCKET_NAME) return path
  return relative(process.cwd(), path) || path
}

function unlinkQuietly(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // Gone already.
  }
}
