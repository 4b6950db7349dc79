/** The Node face of an exchange: `IncomingMessage` and `ServerResponse`, without a Web object unless someone asks for one. */

import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

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

/** One request of Node's HTTP server. */
export class NodeExchange implements Exchange {
  readonly method: string
  readonly target: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  commonHeaders: ResponseHeaders | undefined
  onclose: ((completed: boolean) => void) | undefined
  readonly #req: FrameworkRequest
  readonly #res: ServerResponse
  readonly #options: NodeExchangeOptions
  #request: Request | undefined
  #requestInfo: RequestInfo | undefined
  #abort: (() => void) | undefined
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
    res.on('close', this.#onClose)
    res.on('error', ignore)
  }

  header(name: string): string | undefined {
    const value = this.#req.headers[name]
    return typeof value === 'string' ? value : value?.join(', ')
  }

  get remoteAddress(): string | undefined {
    return forwardedFor(this.header('x-forwarded-for'), this.#options.trustedProxies, this.#req.socket.remoteAddress)
  }

  get loopback(): boolean | undefined {
    const { server } = this.#req.socket as { server?: Server }
    if (server === undefined) return undefined
    let loopback = loopbackServers.get(server)
    if (loopback === undefined) {
      loopback = isLoopback(server.address())
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
    return body !== undefined && (this.#req.readableDidRead || this.#req.complete) && !this.#bytesLeft() ? body : undefined
  }

  get request(): Request {
    this.#request ??= lazyRequest({
      method: this.method,
      target: this.target,
      headers: this.headers,
      onAbort: (abort) => {
        this.#abort = abort
        if (this.#closed && !this.#responded) abort()
      },
    })
    return this.#request
  }

  get requestInfo(): RequestInfo {
    this.#requestInfo ??= lazyRequestInfo({ method: this.method, target: this.target, headers: this.headers })
    return this.#requestInfo
  }

  readBody(limit: number, timeout: number): Promise<BodyResult> {
    return collectBody(this.#req, limit, timeout, this.#options.clock)
  }

  get closed(): boolean {
    return this.#closed
  }

  respond(status: number, headers: ResponseHeaders, body: string): void {
    const res = this.#res
    if (this.#closed || this.#responded || res.headersSent) return
    this.#responded = true
    const head: Record<string, string | number> =
      this.commonHeaders === undefined ? { ...headers } : { ...this.commonHeaders, ...headers }
    // 204 has no body, hence no length (RFC 9110 §8.6).
    if (status !== 204) head['Content-Length'] = Buffer.byteLength(body)
    // A request whose body was not read to its end leaves bytes that would be taken for the next request.
    if (!this.#req.complete) head['Connection'] = 'close'
    res.writeHead(status, head)
    res.end(body)
    if (!this.#req.complete) this.#abandonRequest()
    this.#afterEnd()
  }

  openStream(headers: ResponseHeaders): void {
    if (this.#closed || this.#res.headersSent) return
    this.#res.writeHead(200, this.commonHeaders === undefined ? headers : { ...this.commonHeaders, ...headers })
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

  #bytesLeft(): boolean {
    return this.#req.readableLength > 0
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
    if (!completed) this.#abort?.()
    this.onclose?.(completed)
  }

  /** Lets the peer read the refusal before the connection goes: closing with unread bytes would reset it. */
  #abandonRequest(): void {
    const { socket } = this.#req
    this.#req.resume()
    this.#options.clock.setTimer(() => socket.destroySoon(), REFUSED_BODY_GRACE)
  }
}

/** How long the rest of a refused body is read and thrown away, in milliseconds. */
const REFUSED_BODY_GRACE = 500

function isLoopback(address: AddressInfo | string | null): boolean {
  // A path is a Unix socket: only this machine reaches it.
  if (typeof address === 'string') return true
  if (address === null) return false
  const { address: host } = address
  return host === '::1' || host.startsWith('127.') || host.startsWith('::ffff:127.')
}

function ignore(): void {}
