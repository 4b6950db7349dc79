/** The Web-standard face of an exchange: a `Request` in, a `Response` out, whatever the runtime. */

import type { Clock, Timer } from '../clock.ts'
import type { AuthInfo } from '../types.ts'
import { GrowingBytes } from './body.ts'
import type { BodyFailure, BodyResult, Exchange, ResponseHeaders } from './exchange.ts'
import { forwardedFor, parseTarget } from './headers.ts'

/** What a framework knows of a request beside the request itself. */
export interface FetchOptions {
  /** Verified authentication, as the framework's own middleware found it; counts where the app has no `authenticate` hook. */
  authInfo?: AuthInfo | undefined
  /** The body as JSON, where something before the app read it: a body can be read only once. */
  parsedBody?: unknown
}

/** What a {@link WebExchange} is given beside its request. */
export interface WebExchangeOptions extends FetchOptions {
  readonly clock: Clock
  /** Hops of proxies whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: number
}

/** Statuses whose responses have no body (WHATWG Fetch, "null body status"). */
const NULL_BODY = new Set([204, 205, 304])

/** Never seen by anybody: the status of a response whose client left before there was one. */
const CLIENT_GONE = 499

/**
 * How much the runtime gets at a time, in bytes. A runtime takes whatever one read gives it, and only stops asking when its own buffers
 * are full: in pieces, a peer that does not read leaves all but the first of a large message here, where it can be seen.
 */
const PIECE = 64 * 1024

type ResponseBody = ConstructorParameters<typeof Response>[0]

const encoder = new TextEncoder()

/**
 * One Web-standard request. What is written waits in a queue of ours until the runtime asks for it, so that `unsentBytes` is what the
 * runtime has not taken; what it did with the bytes after that, no Web API tells.
 */
export class WebExchange implements Exchange {
  readonly method: string
  readonly target: string
  readonly loopback: undefined
  readonly presetAuth: AuthInfo | undefined
  commonHeaders: ResponseHeaders | undefined
  validUntil: number | undefined
  onclose: ((completed: boolean) => void) | undefined
  /** The response; never rejects. Resolves with its head: a stream's body follows. */
  readonly response: Promise<Response>
  readonly #source: Request
  readonly #authority: string | undefined
  readonly #options: WebExchangeOptions
  #resolve: (response: Response) => void = () => {}
  #headers: Readonly<Record<string, string>> | undefined
  #request: Request | undefined
  #requestInfo: Exchange['requestInfo'] | undefined
  #body: WebBody | undefined
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined
  #queue: Uint8Array[] = []
  #queued = 0
  /** The runtime asked for more than there was. */
  #wanted = false
  #responded = false
  #ended = false
  #closed = false

  constructor(source: Request, options: WebExchangeOptions) {
    this.#source = source
    this.#options = options
    this.method = source.method
    // Not by `new URL`: runtimes that save themselves the parsing let through what it throws at.
    const target = parseTarget(source.url)
    this.target = target === undefined ? '/' : target.path + target.search
    this.#authority = target?.authority
    this.presetAuth = options.authInfo
    this.response = new Promise((resolve) => {
      this.#resolve = resolve
    })
    // Somebody has to be there to be told, even of a request that was over before it came.
    if (source.signal.aborted) queueMicrotask(this.#onAbort)
    else source.signal.addEventListener('abort', this.#onAbort)
  }

  get remoteAddress(): string | undefined {
    return forwardedFor(this.header('x-forwarded-for'), this.#options.trustedProxies, undefined)
  }

  header(name: string): string | undefined {
    const value = this.#source.headers.get(name)
    // A request that was made in the process has only a URL; one from the wire has both, and `Host` is what the client sent.
    return value ?? (name === 'host' ? this.#authority : undefined)
  }

  get headers(): Readonly<Record<string, string>> {
    return (this.#headers ??= Object.fromEntries(this.#source.headers))
  }

  get parsedBody(): unknown {
    const { parsedBody } = this.#options
    if (parsedBody === undefined && this.#source.bodyUsed) {
      throw new TypeError(
        'the body of the request was read before app.fetch got it: hand over what it held, app.fetch(request, { parsedBody })',
      )
    }
    return parsedBody
  }

  get request(): Request {
    const { method, headers, signal } = this.#source
    return (this.#request ??= new Request(this.requestInfo.url, { method, headers, signal }))
  }

  get requestInfo(): Exchange['requestInfo'] {
    return (this.#requestInfo ??= { headers: this.headers, url: this.#url() })
  }

  readBody(limit: number, timeout: number, onBody: (body: BodyResult) => void): void {
    const declared = Number(this.#source.headers.get('content-length') ?? Number.NaN)
    const { body } = this.#source
    if (declared > limit) queueMicrotask(() => onBody('too-large'))
    else if (this.#closed) queueMicrotask(() => onBody('aborted'))
    else if (body === null) queueMicrotask(() => onBody(new Uint8Array(0)))
    else {
      const bytes = new GrowingBytes(limit, Number.isSafeInteger(declared) ? declared : undefined)
      this.#body = new WebBody(body.getReader(), bytes, timeout, this.#options.clock, onBody)
    }
  }

  get closed(): boolean {
    return this.#closed
  }

  respond(status: number, headers: ResponseHeaders, body: string): void {
    if (this.#closed || this.#responded) return
    const bytes = encoder.encode(body)
    // 204 has no body, hence no length (RFC 9110 §8.6).
    const fields = status === 204 ? headers : { ...headers, 'Content-Length': String(bytes.length) }
    if (bytes.length > PIECE) {
      this.#stream(status, fields)
      this.#enqueue(bytes)
      this.#ended = true
      return
    }
    this.#responded = true
    const content = bytes.length === 0 || NULL_BODY.has(status) ? null : bytes
    this.#resolve(this.#makeResponse(content, status, fields))
    this.#finish(true)
  }

  openStream(headers: ResponseHeaders): void {
    if (!this.#closed && !this.#responded) this.#stream(200, headers)
  }

  write(chunk: string): void {
    if (this.#closed || this.#ended || chunk === '') return
    this.#enqueue(encoder.encode(chunk))
    this.#handOver()
  }

  flush(): void {
    // The head left when the stream was opened.
  }

  end(chunk = ''): void {
    if (this.#closed || this.#ended) return
    if (chunk !== '') this.#enqueue(encoder.encode(chunk))
    this.#ended = true
    this.#handOver()
  }

  destroy(): void {
    if (this.#closed) return
    this.openStream({})
    // An error in the body is the only way to say that it is not complete; the runtime cuts the connection.
    this.#controller?.error(new Error('the server cut this connection'))
    this.#finish(false)
  }

  get unsentBytes(): number {
    return this.#queued
  }

  #url(): URL {
    const { url } = this.#source
    const parsed = new URL(URL.canParse(url) ? url : `http://localhost${this.target}`)
    // `new Request` refuses them, and a handler should not meet them.
    parsed.username = ''
    parsed.password = ''
    return parsed
  }

  #stream(status: number, headers: ResponseHeaders): void {
    this.#responded = true
    // Without a high-water mark the runtime's asking is all that takes bytes: what is queued here, nobody has.
    const body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller
        },
        pull: () => {
          this.#wanted = true
          this.#handOver()
        },
        cancel: () => this.#finish(false),
      },
      { highWaterMark: 0 },
    )
    this.#resolve(this.#makeResponse(body, status, headers))
  }

  #enqueue(bytes: Uint8Array): void {
    this.#queue.push(bytes)
    this.#queued += bytes.length
  }

  /** Gives the runtime the piece that it asked for. */
  #handOver(): void {
    const controller = this.#controller
    if (controller === undefined || this.#closed) return
    if (this.#wanted && this.#queued > 0) {
      this.#wanted = false
      const piece = takePiece(this.#queue)
      this.#queued -= piece.length
      controller.enqueue(piece)
    }
    // Whoever took the last bytes may have canceled in doing so.
    if (!this.#ended || this.#queued > 0 || this.closed) return
    controller.close()
    this.#finish(true)
  }

  #makeResponse(body: ResponseBody, status: number, fields: ResponseHeaders): Response {
    try {
      const headers = new Headers()
      for (const [name, value] of Object.entries({ ...this.commonHeaders, ...fields })) {
        for (const one of typeof value === 'string' ? [value] : value) headers.append(name, one)
      }
      return new Response(body, { status, headers })
    } catch {
      // A field that HTTP cannot carry, from an author's hook.
      return new Response(null, { status: 500 })
    }
  }

  readonly #onAbort = (): void => {
    if (this.#closed) return
    // Nobody reads it any more: an error in it would only be logged by the runtime.
    this.#controller?.close()
    this.#finish(false)
  }

  #finish(completed: boolean): void {
    if (this.#closed) return
    this.#closed = true
    this.#queue = []
    this.#queued = 0
    this.#source.signal.removeEventListener('abort', this.#onAbort)
    this.#body?.abort()
    if (!this.#responded) this.#resolve(new Response(null, { status: CLIENT_GONE }))
    this.onclose?.(completed)
  }
}

/** Reads a request's body to its end, or until it is too much, too late, or nobody sends it any more. */
class WebBody {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>
  readonly #bytes: GrowingBytes
  readonly #due: number
  readonly #clock: Clock
  readonly #onBody: (body: BodyResult) => void
  #timer: Timer | undefined
  #settled = false

  constructor(
    reader: ReadableStreamDefaultReader<Uint8Array>,
    bytes: GrowingBytes,
    timeout: number,
    clock: Clock,
    onBody: (body: BodyResult) => void,
  ) {
    this.#reader = reader
    this.#bytes = bytes
    this.#due = clock.now() + timeout
    this.#clock = clock
    this.#onBody = onBody
    this.#arm()
    this.#read()
  }

  /** The client left. */
  abort(): void {
    this.#fail('aborted')
  }

  #read(): void {
    this.#reader.read().then(
      ({ done, value }) => {
        if (this.#settled) return
        if (done) this.#settle(this.#bytes.take())
        else if (this.#bytes.add(value)) this.#read()
        else this.#fail('too-large')
      },
      () => this.#fail('aborted'),
    )
  }

  #arm(): void {
    if (this.#due === Number.POSITIVE_INFINITY) return
    // A timer may come early (see Clock.setTimer): compare and arm again.
    this.#timer = this.#clock.setTimer(() => {
      if (this.#clock.now() < this.#due) this.#arm()
      else this.#fail('timeout')
    }, this.#due - this.#clock.now())
  }

  #fail(failure: BodyFailure): void {
    this.#settle(failure)
  }

  #settle(body: BodyResult): void {
    if (this.#settled) return
    this.#settled = true
    this.#timer?.cancel()
    this.#bytes.take()
    // Not canceled: on Node that would cut the connection before the answer is out. What is left unread, runtimes throw away.
    this.#reader.releaseLock()
    // The exchange may be about to tell that it is over: one after the other.
    queueMicrotask(() => this.#onBody(body))
  }
}

/** Takes up to {@link PIECE} bytes from the front, joining small chunks and cutting large ones. */
function takePiece(queue: Uint8Array[]): Uint8Array {
  const [first = new Uint8Array(0)] = queue
  if (first.length >= PIECE) {
    if (first.length === PIECE) queue.shift()
    else queue[0] = first.subarray(PIECE)
    return first.subarray(0, PIECE)
  }
  let length = 0
  let count = 0
  for (const chunk of queue) {
    if (length + chunk.length > PIECE) break
    length += chunk.length
    count += 1
  }
  const chunks = queue.splice(0, count)
  if (count === 1) return first
  const piece = new Uint8Array(length)
  let offset = 0
  for (const chunk of chunks) {
    piece.set(chunk, offset)
    offset += chunk.length
  }
  return piece
}
