/** The Node face of an exchange: `IncomingMessage` and `ServerResponse`, without a Web object unless someone asks for one. */

import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

import type { Clock } from '../clock.ts'
import { type Linked, LinkedList } from '../linked-list.ts'
import { isLoopback } from '../loopback.ts'
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

/**
 * What is known of a connection beyond its requests, noted on it: a weak map costs every garbage collection a look at each of its
 * entries. One listener per connection, not one per response: adding and removing them costs a call more than its checks do.
 */
const CONNECTION: unique symbol = Symbol('sojourn.connection')

interface TrackedSocket extends Socket {
  [CONNECTION]?: Connection
}

/** The exchanges of one connection that are not over, oldest first: more than one where requests are sent without waiting for answers. */
class Connection extends LinkedList<NodeExchange> {
  /** The latest response. */
  latest: ServerResponse | undefined
  /** Whether the connection ends after an answer that is on its way. */
  ending = false

  static of(socket: TrackedSocket): Connection {
    const known = socket[CONNECTION]
    if (known !== undefined) return known
    const connection = new Connection()
    socket[CONNECTION] = connection
    socket.once('close', () => connection.#closed())
    return connection
  }

  #closed(): void {
    while (this.first !== undefined) this.first.connectionClosed()
  }
}

/** One request of Node's HTTP server. */
export class NodeExchange implements Exchange, Linked<NodeExchange> {
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
  #listening = false
  readonly #connection: Connection
  /** @internal Links of the connection's list. */
  next: NodeExchange | undefined
  /** @internal */ previous: NodeExchange | undefined
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
    const { socket } = req
    const connection = Connection.of(socket)
    connection.latest = res
    this.#connection = connection
    // Middleware may have waited while the client left: 'close' is told only once.
    if (res.closed || socket.destroyed) this.#closed = true
    // Node drops what comes behind an answer that says the connection closes: what cannot be answered must not be done (RFC 9112 §9.6).
    else if (connection.ending) this.#closed = true
    else {
      connection.append(this)
      // A stream of HTTP/2 ends without its connection.
      if (req.httpVersionMajor > 1) this.#listen()
    }
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
      if (address === null) return isLoopback(this.#req.socket.localAddress ?? '')
      // A path is a Unix socket: only this machine reaches it.
      loopback = typeof address === 'string' || isLoopback(address.address)
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

  readBody(limit: number, timeout: number, onBody: (body: BodyResult) => void): void {
    collectBody(this.#req, limit, timeout, this.#options.clock, (body) => {
      this.#bodyRead = typeof body !== 'string'
      onBody(body)
    })
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
    this.#listen()
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
    const fields = this.#withCommon(headers)
    // Names and values in turn: what Node writes with the least work.
    const head: (string | string[] | number)[] = []
    for (const name of Object.keys(fields)) head.push(name, fields[name] ?? '')
    // 204 has no body, hence no length (RFC 9110 §8.6).
    if (status !== 204) head.push('Content-Length', Buffer.byteLength(body))
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
    const connection = this.#connection
    // The requests behind this one are to be answered too: only the last of them ends the connection.
    if (Connection !== 'close' || connection.latest !== this.#res) return { ...others, ...headers }
    connection.ending = true
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
    else this.#listen()
  }

  /** From here on the response may end by itself, or fail. */
  #listen(): void {
    if (this.#listening) return
    this.#listening = true
    this.#res.on('close', () => this.connectionClosed())
    this.#res.on('error', ignore)
  }

  /** @internal The connection is gone, or the response has ended. */
  connectionClosed(): void {
    this.#finish(this.#res.writableFinished)
  }

  #finish(completed: boolean): void {
    if (this.#closed) return
    this.#closed = true
    this.#connection.remove(this)
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

function ignore(): void {}
