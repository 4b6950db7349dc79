/** Node's HTTP server around one endpoint: its timeouts, its path, its answers to what is not HTTP, and how it stops. */

import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

import type { Clock, Timer } from '../clock.ts'
import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { Log } from '../logging.ts'
import { parseTarget } from './headers.ts'
import { NodeExchange } from './node-exchange.ts'

/** What an {@link EndpointServer} needs. */
export interface EndpointServerOptions {
  /** Serves the requests whose path is right. */
  readonly handler: (req: IncomingMessage, res: ServerResponse) => void
  /** The path of the endpoint; all others but those of probes are answered with 404. */
  readonly path: string
  /** Further paths that the handler answers. */
  readonly wellKnownPaths: readonly string[]
  /** Where it is told that the process lives. As for the next: the endpoint's own path is the endpoint's. */
  readonly healthPath: string
  /** Where it is told whether the endpoint takes new clients. */
  readonly readyPath: string
  /** Whether it does. */
  readonly ready: () => boolean
  /** How long idle connections are kept, in milliseconds; `Infinity` possible. */
  readonly keepAliveTimeout: number
  /** How long the head of a request may take, in milliseconds; `Infinity` possible. */
  readonly headersTimeout: number
  /** Connections at once; `Infinity` possible. */
  readonly maxConnections: number
  /** How long bytes of an answer may stay unsent, in milliseconds; `Infinity` possible. */
  readonly unsentTimeout: number
  readonly log: Log
  readonly clock: Clock
}

/** Node looks for heads that take too long only so often; by default every 30 s. In milliseconds. */
const LONGEST_CHECK = 5000

/** One line in so many milliseconds says that connections are turned away. */
const DROP_LOG_PAUSE = 60_000

/** How long connections may take to hand over their last bytes once everything has ended, in milliseconds. */
const LAST_BYTES_GRACE = 500

const LONGEST_TIMER = 2 ** 31 - 1

/** Node takes 0 for "for ever", and more than 2^31 - 1 ms for "at once". */
function forNode(timeout: number): number {
  return timeout > LONGEST_TIMER ? 0 : timeout
}

/** What is not HTTP, by Node's code for it; everything else is a 400. */
const NOT_HTTP: Readonly<Record<string, readonly [status: string, message: string]>> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'Request header fields too large'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: ['413 Payload Too Large', 'Chunk extensions too large'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'The request took too long to arrive'],
}

/** Serves one endpoint. */
export class EndpointServer {
  readonly server: Server
  readonly #options: EndpointServerOptions
  /** The latest response of each open connection. */
  readonly #latest = new Map<Socket, ServerResponse | undefined>()
  /** What each connection that had unsent bytes at the last looks had handed over by then, and since when that is all. */
  readonly #unread = new Map<Socket, { sent: number; since: number }>()
  #look: Timer | undefined
  #stopping = false
  #dropLoggedAt = Number.NEGATIVE_INFINITY

  constructor(options: EndpointServerOptions) {
    this.#options = options
    const headersTimeout = forNode(options.headersTimeout)
    this.server = createServer({
      keepAliveTimeout: forNode(options.keepAliveTimeout),
      // Counts from the first byte of a head, and on a new connection from its start: an idle one is not concerned (since Node 18).
      headersTimeout,
      connectionsCheckingInterval: Math.min(Math.max(Math.ceil(headersTimeout / 5), 100), LONGEST_CHECK),
      // Bodies have a deadline of their own, and answers may take as long as they take.
      requestTimeout: 0,
      // A missing Host is answered by the guard, in JSON; Node's own 400 is empty.
      requireHostHeader: false,
      // By default the second of two Host, Authorization or Content-Type fields would be dropped in silence.
      joinDuplicateHeaders: true,
    })
    if (options.maxConnections !== Number.POSITIVE_INFINITY)
      this.server.maxConnections = options.maxConnections
    this.server.on('drop', () => this.#dropped())
    this.server.on('connection', (socket: Socket) => {
      this.#latest.set(socket, undefined)
      socket.once('close', () => {
        this.#latest.delete(socket)
        if (this.#latest.size === 0) this.#stopLooking()
      })
      if (this.#look === undefined) this.#lookLater()
    })
    const serve = (req: IncomingMessage, res: ServerResponse): void => this.#serve(req, res)
    this.server.on('request', serve)
    // An expectation we do not know may be ignored (RFC 9110 §10.1.1); Node's own 417 is empty.
    this.server.on('checkExpectation', serve)
    this.server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) =>
      this.#answerGarbage(error, socket),
    )
  }

  /** Takes no connection any more and ends those there are: idle ones at once, the others when their last bytes are sent or after half a second. */
  async close(): Promise<void> {
    this.#stopping = true
    for (const response of this.#latest.values()) {
      if (response !== undefined && !response.headersSent) response.setHeader('Connection', 'close')
    }
    const closed = new Promise<void>((resolve) => {
      if (this.#latest.size === 0) resolve()
      for (const socket of this.#latest.keys()) {
        socket.once('close', () => this.#latest.size === 0 && resolve())
      }
    })
    this.server.close()
    const grace = this.#options.clock.setTimer(() => this.server.closeAllConnections(), LAST_BYTES_GRACE)
    await closed
    grace.cancel()
  }

  /**
   * Cuts connections whose peers have taken nothing for too long. Streams and answers to calls have a watch of their own; this one is for
   * what else a peer may leave unread, such as refusals to requests that it sends without end.
   */
  #lookForUnread(): void {
    const { clock, unsentTimeout } = this.#options
    const now = clock.now()
    for (const socket of this.#latest.keys()) {
      const { writableLength } = socket
      const before = this.#unread.get(socket)
      const sent = socket.bytesWritten - writableLength
      if (writableLength === 0) {
        if (before !== undefined) this.#unread.delete(socket)
      } else if (before?.sent !== sent) this.#unread.set(socket, { sent, since: now })
      else if (now - before.since >= unsentTimeout) socket.destroy()
    }
    for (const socket of this.#unread.keys()) if (!this.#latest.has(socket)) this.#unread.delete(socket)
    this.#lookLater()
  }

  #lookLater(): void {
    const { clock, unsentTimeout } = this.#options
    if (unsentTimeout === Number.POSITIVE_INFINITY) return
    this.#look = clock.setTimer(() => this.#lookForUnread(), unsentTimeout / 4)
  }

  #stopLooking(): void {
    this.#look?.cancel()
    this.#look = undefined
    this.#unread.clear()
  }

  #dropped(): void {
    const { clock, log, maxConnections } = this.#options
    if (clock.now() - this.#dropLoggedAt < DROP_LOG_PAUSE) return
    this.#dropLoggedAt = clock.now()
    log.warn(`connections are turned away: ${maxConnections} are open, and maxConnections allows no more`)
  }

  #serve(req: IncomingMessage, res: ServerResponse): void {
    this.#latest.set(req.socket, res)
    if (this.#stopping) res.setHeader('Connection', 'close')
    const path = parseTarget(req.url ?? '')?.path
    switch (path) {
      case this.#options.path:
        return this.#options.handler(req, res)
      case this.#options.healthPath:
        return answerProbe(req, res, true)
      case this.#options.readyPath:
        return answerProbe(req, res, this.#options.ready())
    }
    if (path !== undefined && this.#options.wellKnownPaths.includes(path))
      return this.#options.handler(req, res)
    const exchange = new NodeExchange(req, res, { clock: this.#options.clock, trustedProxies: 0 })
    exchange.respond(
      404,
      { 'Content-Type': 'application/json' },
      errorBody(JsonRpcErrorCode.SERVER_ERROR, 'Not found'),
    )
  }

  #answerGarbage(error: NodeJS.ErrnoException, socket: Socket): void {
    const response = this.#latest.get(socket)
    // An answer may be written only where none has begun and no earlier request still waits for its own.
    const free =
      response === undefined || response.writableFinished || (!response.headersSent && !response.req.complete)
    if (error.code === 'ECONNRESET' || !socket.writable || !free) {
      socket.destroy()
      return
    }
    const [status, message] = NOT_HTTP[error.code ?? ''] ?? [
      '400 Bad Request',
      'Bad Request: this is not HTTP/1.1',
    ]
    const body = errorBody(JsonRpcErrorCode.SERVER_ERROR, message)
    const head = `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n`
    socket.end(head + body, () => socket.destroy())
  }
}

/**
 * Answers a probe of a balancer or an orchestrator. `Host` and `Origin` are not looked at: probes name an address, not a host, and a stranger
 * learns nothing but that something listens, which the connection has told already.
 */
function answerProbe(req: IncomingMessage, res: ServerResponse, well: boolean): void {
  const known = req.method === 'GET' || req.method === 'HEAD'
  const status = known ? (well ? 200 : 503) : 405
  const body = known ? (well ? 'ok\n' : 'unavailable\n') : 'method not allowed\n'
  if (!known) res.setHeader('Allow', 'GET, HEAD')
  // A balancer that asks over a connection it keeps would hold up the end; and a body that nobody reads would hold up the connection.
  if (!well) res.setHeader('Connection', 'close')
  req.resume()
  res.writeHead(status, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': body.length,
    'Cache-Control': 'no-store',
  })
  // Node leaves the body of an answer to HEAD out.
  res.end(body)
}
