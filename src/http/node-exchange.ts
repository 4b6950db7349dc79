/** The Node face of an exchange: `IncomingMessage` and `ServerResponse`, without a Web object unless someone asks for one. */

import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

import type { Clock } from '../clock.ts'
import type { AuthInfo } from '../types.ts'
import { collectBody } from './body.ts'
import type { BodyResult, Exchange, ResponseHeaders } from './exchange.ts'
import { forwardedFor } from './headers.ts'
import { lazyRequest, lazyRequestInfo, type RequestInfo } from './lazy-request.ts'

/** What frameworks add to Node's request. */
interface FrameworkRequest extends IncomingMessage {
  auth?: AuthInfo
  body?: unknown
}

/** What is the same for all exchanges of an app. */
export interface NodeExchangeOptions {
  readonly clock: Clock
  /** Hops of proxies whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: number
}

/** Whether a server is bound to loopback, looked up once per server: the address of a listening server does not change. */
const loopbackServers = new WeakMap<object, boolean>()

/** The latest response of a connection; others are of requests that a client sent without waiting for their answers. */
const LATEST: unique symbol = Symbol('sojourn.latest')

/** Whether a connection ends after an answer that is on its way. */
const ENDING: unique symbol = Symbol('sojourn.ending')

/** What is noted on a connection itself: a weak map costs every garbage collection a look at each of its entries. */
interface Connection extends Socket {
  [LATEST]?: ServerResponse
  [ENDING]?: boolean
}

/** One request of Node's HTTP server. */
export class NodeExchange implements Exchange {
  readonly method: string
  readonly target: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  commonHeaders: ResponseHeaders | undefined
  validUntil: number | undefined
  onclose: ((completed: boolean) => void) | undefined
  readonly #req: FrameworkRequest
  readonly #res: ServerResponse
  readonly #options: NodeExchangeOptions
  #request: Request | undefined
  #requestInfo: RequestInfo | undefined
  #abort: (() => void) | undefined
  #bodyRead = false
  #responded = false
  #closed = false

  constructor(req: IncomingMessage, res: ServerResponse, options: NodeExchangeOptions) {
    this.#req = req
    this.#res = res
    this.#options = options
    this.method = req.method ?? 'GET'
    // Express strips the mount path from `url` and keeps the whole in `originalUrl`.
    this.target = (req as { originalUrl?: string }).originalUrl ?? req.url ?? '/'
    this.headers = req.headers
    const connection: Connection = req.socket
    connection[LATEST] = res
    res.on('close', this.#onClose)
    res.on('error', ignore)
    // Middleware may have waited while the client left: 'close' is told only once.
    if (res.closed || req.socket.destroyed) this.#closed = true
    // Node drops what comes behind an answer that says the connection closes: what cannot be answered must not be done (RFC 9112 §9.6).
    else if (connection[ENDING] === true) this.#closed = true
    else if (res.socket === null) closeWithSocket(req.socket, this.#onClose)
  }

  header(name: string): string | undefined {
    const value = this.#req.headers[name]
    return typeof value === 'string' ? value : value?.join(', ')
  }

  get remoteAddress(): string | undefined {
    return forwardedFor(
      this.header('x-forwarded-for'),
      this.#options.trustedProxies,
      this.#req.socket.remoteAddress,
    )
  }

  get loopback(): boolean | undefined {
    const { server } = this.#req.socket as { server?: Server }
    if (server === undefined) return undefined
    let loopback = loopbackServers.get(server)
    if (loopback === undefined) {
      const address = server.address()
      // A server that stopped listening has no address any more, while its connections are still served.
      if (address === null) return isLoopbackHost(this.#req.socket.localAddress ?? '')
      // A path is a Unix socket: only this machine reaches it.
      loopback = typeof address === 'string' || isLoopbackHost(address.address)
      loopbackServers.set(server, loopback)
    }
    return loopback
  }

  get presetAuth(): AuthInfo | undefined {
    return this.#req.auth
  }

  get parsedBody(): unknown {
    const { body } = this.#req
    // Some frameworks set an empty body on requests they did not parse; what counts is whether the bytes are still there.
    return body !== undefined && (this.#req.readableDidRead || this.#req.complete) && !this.#bytesLeft()
      ? body
      : undefined
  }

  get request(): Request {
    // Made of the exchange itself: an object literal between the two would be one that V8 may make in the old space.
    this.#request ??= lazyRequest(this)
    return this.#request
  }

  get requestInfo(): RequestInfo {
    this.#requestInfo ??= lazyRequestInfo(this)
    return this.#requestInfo
  }

  /** Registers what aborts the signal of {@link NodeExchange.request}. */
  onAbort(abort: () => void): void {
    this.#abort = abort
    if (this.#closed && !this.#responded) abort()
  }

  readBody(limit: number, timeout: number): Promise<BodyResult> {
    return collectBody(this.#req, limit, timeout, this.#options.clock, this.#onBody)
  }

  readonly #onBody = (ok: boolean): void => {
    this.#bodyRead = ok
  }

  get closed(): boolean {
    return this.#closed
  }

  respond(status: number, headers: ResponseHeaders, body: string): void {
    if (this.#closed || this.#responded || this.#res.headersSent) return
    this.#responded = true
    // Node announces a request before it looks at the body, which mostly came in the same packet: by the next tick it knows.
    if (this.#bodyUnread()) process.nextTick(() => this.#respondNow(status, headers, body))
    else this.#respondNow(status, headers, body)
  }

  openStream(headers: ResponseHeaders): void {
    if (this.#closed || this.#res.headersSent) return
    this.#res.writeHead(200, this.#withCommon(headers))
  }

  write(chunk: string): void {
    if (!this.#closed && chunk !== '') this.#res.write(chunk)
  }

  flush(): void {
    if (!this.#closed) this.#res.flushHeaders()
  }

  end(chunk?: string): void {
    if (this.#closed || this.#responded) return
    this.#responded = true
    if (chunk === undefined || chunk === '') this.#res.end()
    else this.#res.end(chunk)
    this.#afterEnd()
  }

  destroy(): void {
    if (!this.#closed) this.#req.socket.destroy()
  }

  get unsentBytes(): number {
    if (this.#closed) return 0
    // While a request is pipelined behind another its response has no socket yet and waits in the response itself.
    const buffered = this.#res.writableLength
    return this.#res.socket === null ? buffered : Math.max(buffered, this.#res.socket.writableLength)
  }

  #respondNow(status: number, headers: ResponseHeaders, body: string): void {
    if (this.#closed) return
    const res = this.#res
    const head: Record<string, string | string[] | number> = { ...this.#withCommon(headers) }
    // 204 has no body, hence no length (RFC 9110 §8.6).
    if (status !== 204) head['Content-Length'] = Buffer.byteLength(body)
    try {
      res.writeHead(status, head)
      res.end(body)
    } catch {
      // A field that HTTP cannot carry, from an author's hook. Nobody above could catch what is thrown here a tick later.
      res.writeHead(500, { 'Content-Length': 0 })
      res.end()
    }
    if (this.#bodyUnread()) this.#discardBody()
    this.#afterEnd()
  }

  #withCommon(headers: ResponseHeaders): ResponseHeaders {
    if (this.commonHeaders === undefined) return headers
    const { Connection, ...others } = this.commonHeaders
    const socket: Connection = this.#req.socket
    // The requests behind this one are to be answered too: only the last of them ends the connection.
    if (Connection !== 'close' || socket[LATEST] !== this.#res) return { ...others, ...headers }
    socket[ENDING] = true
    return { ...this.commonHeaders, ...headers }
  }

  #bytesLeft(): boolean {
    return this.#req.readableLength > 0
  }

  /** Whether a body was announced and has not arrived to its end. */
  #bodyUnread(): boolean {
    if (this.#bodyRead || this.#req.complete) return false
    const { 'transfer-encoding': chunked, 'content-length': length } = this.#req.headers
    return chunked !== undefined || (length !== undefined && Number(length) > 0)
  }

  /** The response is handed over; when the operating system took it all, the exchange is over without waiting for an event. */
  #afterEnd(): void {
    if (this.unsentBytes === 0) this.#finish(true)
  }

  readonly #onClose = (): void => {
    this.#finish(this.#res.writableFinished)
  }

  #finish(completed: boolean): void {
    if (this.#closed) return
    this.#closed = true
    waiting.get(this.#req.socket)?.delete(this.#onClose)
    if (!completed) this.#abort?.()
    this.onclose?.(completed)
  }

  /**
   * Reads the rest of a refused body and throws it away, for a while: closing a connection with unread bytes resets it, and the peer
   * would never see why it was refused.
   */
  #discardBody(): void {
    const req = this.#req
    const { socket } = req
    const over = (): void => {
      timer.cancel()
      req.off('end', over)
      socket.off('close', over)
    }
    const timer = this.#options.clock.setTimer(() => {
      over()
      socket.destroy()
    }, DISCARD_TIME)
    req.once('end', over)
    // Node forgets a request once it is answered: only its socket still tells that the client is gone.
    socket.once('close', over)
    req.resume()
  }
}

/** How long the rest of a refused body is read and thrown away, in milliseconds. */
const DISCARD_TIME = 2_000

function isLoopbackHost(host: string): boolean {
  return host === '::1' || host.startsWith('127.') || host.startsWith('::ffff:127.')
}

/** What to call when a connection closes, for the responses that wait on it behind others. */
const waiting = new WeakMap<Socket, Set<() => void>>()

/** A pipelined response gets its socket only when those before it are done; until then nobody tells it that the connection is gone. */
function closeWithSocket(socket: Socket, onClose: () => void): void {
  let callbacks = waiting.get(socket)
  if (callbacks === undefined) {
    const created = new Set<() => void>()
    callbacks = created
    waiting.set(socket, created)
    socket.once('close', () => {
      for (const callback of created) callback()
    })
  }
  callbacks.add(onClose)
}

function ignore(): void {}
