/** A raw-socket HTTP/1.1 client for tests: sends exactly the bytes it is told, and reads answers as they come, under deadlines. */

import { connect, type Socket } from 'node:net'

/** Header fields in the order and case they are written; a list, so that a field can be repeated. */
export type HeaderList = readonly (readonly [name: string, value: string])[]

/** A request as a test writes it. */
export interface RawRequest {
  /** Default `GET`. */
  readonly method?: string
  /** Default `/mcp`; written as it is, absolute-form included. */
  readonly target?: string
  /** A record, or a list where a field is repeated. `undefined` leaves out a field that would be added otherwise. */
  readonly headers?: HeaderList | Readonly<Record<string, string | undefined>>
  /** An object is sent as JSON. Sets `Content-Length` unless the headers have it or `Transfer-Encoding`. */
  readonly body?: string | Uint8Array | object
}

/** One block of an SSE stream, up to its blank line. */
export interface SseBlock {
  readonly id: string | undefined
  readonly event: string | undefined
  /** The `data` lines joined; undefined when there is none, `''` for the empty data of a priming event. */
  readonly data: string | undefined
  readonly retry: number | undefined
  /** The comment lines joined. */
  readonly comment: string | undefined
  /** The block as it came, without the blank line. */
  readonly raw: string
}

/** How a response ended: whole, or by the connection going away first. */
export type RawEnding = 'complete' | 'cut'

/** How long anything here is waited for, in real milliseconds, unless the call says otherwise. */
const DEADLINE = 5000

/** The bytes of a request. `Host` is added unless the headers name it, even as undefined. */
export function encodeRequest(request: RawRequest, defaultHost: string): Buffer {
  const fields: [string, string][] = []
  const named = new Set<string>()
  const given = request.headers ?? {}
  for (const [name, value] of Array.isArray(given) ? (given as HeaderList) : Object.entries(given)) {
    named.add(name.toLowerCase())
    if (value !== undefined) fields.push([name, value])
  }
  if (!named.has('host')) fields.unshift(['Host', defaultHost])
  const { body } = request
  const bytes =
    body === undefined
      ? undefined
      : Buffer.from(typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body))
  if (bytes !== undefined && !named.has('content-length') && !named.has('transfer-encoding')) {
    fields.push(['Content-Length', String(bytes.length)])
  }
  const lines = [`${request.method ?? 'GET'} ${request.target ?? '/mcp'} HTTP/1.1`]
  for (const [name, value] of fields) lines.push(`${name}: ${value}`)
  // Header values are bytes on the wire: latin1 lets a test write any of them.
  const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
  return bytes === undefined ? head : Buffer.concat([head, bytes])
}

/** One chunk of a body in `Transfer-Encoding: chunked`. */
export function encodeChunk(data: string | Uint8Array): Buffer {
  const bytes = Buffer.from(data)
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')])
}

/** The end of such a body. */
export const LAST_CHUNK: Buffer = Buffer.from('0\r\n\r\n')

/** Wakes whoever waits for something to have changed. */
class Signal {
  #waiting: (() => void)[] = []

  wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  /** Waits until `look` finds something. */
  async until<T>(look: () => T | undefined, what: string | (() => string), deadline: number): Promise<T> {
    const due = performance.now() + deadline
    while (true) {
      const found = look()
      if (found !== undefined) return found
      const left = due - performance.now()
      if (left <= 0)
        throw new Error(`${typeof what === 'string' ? what : what()} did not happen within ${deadline} ms`)
      await new Promise<void>((resolve) => {
        const handle = setTimeout(resolve, left)
        this.#waiting.push(() => {
          clearTimeout(handle)
          resolve()
        })
      })
    }
  }
}

/** One response, there once its head is; the body comes in while the test looks on. */
export class RawResponse {
  readonly status: number
  readonly statusText: string
  /** The head as it came, without the blank line. */
  readonly rawHead: string
  readonly headerList: HeaderList
  /** How the body is framed. */
  readonly framing: 'none' | 'length' | 'chunked' | 'close'
  readonly #signal: Signal
  readonly #body: Buffer[] = []
  #bodyBytes = 0
  #chunks = 0
  #ending: RawEnding | undefined
  #blocks: SseBlock[] = []
  #taken = 0
  #sseRest: string[] = []
  #decoder = new TextDecoder()

  /** @internal */
  constructor(rawHead: string, requestMethod: string, signal: Signal) {
    this.#signal = signal
    this.rawHead = rawHead
    const [first = '', ...lines] = rawHead.split('\r\n')
    const match = /^HTTP\/1\.1 (\d{3})(?: (.*))?$/.exec(first)
    if (match === null) throw new Error(`not a status line: ${first}`)
    this.status = Number(match[1])
    this.statusText = match[2] ?? ''
    this.headerList = lines.map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()] as const
    })
    const bodyless =
      requestMethod === 'HEAD' || this.status < 200 || this.status === 204 || this.status === 304
    this.framing = bodyless
      ? 'none'
      : this.header('transfer-encoding') === 'chunked'
        ? 'chunked'
        : this.header('content-length') === undefined
          ? 'close'
          : 'length'
  }

  /** A header field by name; repeated ones joined with `, `. */
  header(name: string): string | undefined {
    const values = this.headerList
      .filter(([field]) => field.toLowerCase() === name.toLowerCase())
      .map(([, value]) => value)
    return values.length === 0 ? undefined : values.join(', ')
  }

  /** All fields by lower-case name. */
  get headers(): Record<string, string> {
    return Object.fromEntries(this.headerList.map(([name]) => [name.toLowerCase(), this.header(name) ?? '']))
  }

  /** Whether and how it ended, so far. */
  get ending(): RawEnding | undefined {
    return this.#ending
  }

  /** Bytes of the body so far, without its framing. */
  get bodyBytes(): number {
    return this.#bodyBytes
  }

  /** In how many chunks of a chunked body they came. */
  get chunks(): number {
    return this.#chunks
  }

  /** The body so far. */
  get bodySoFar(): string {
    return Buffer.concat(this.#body).toString('utf8')
  }

  /** All SSE blocks so far, taken or not. */
  get blocks(): readonly SseBlock[] {
    return this.#blocks
  }

  /** Waits for the end. */
  ended(deadline: number = DEADLINE): Promise<RawEnding> {
    return this.#signal.until(
      () => this.#ending,
      `the end of the response (${this.status}, so far: ${this.#excerpt()})`,
      deadline,
    )
  }

  /** The whole body; fails when it is cut. */
  async text(deadline: number = DEADLINE): Promise<string> {
    const ending = await this.ended(deadline)
    if (ending === 'cut') throw new Error(`the response was cut after ${this.#bodyBytes} bytes of body`)
    return this.bodySoFar
  }

  /** The whole body as JSON. */
  async json(deadline: number = DEADLINE): Promise<unknown> {
    const text = await this.text(deadline)
    try {
      return JSON.parse(text) as unknown
    } catch {
      throw new Error(`not JSON: ${text.slice(0, 200)}`)
    }
  }

  /** The next SSE block that was not taken yet, comments included; undefined when the stream ends without another. */
  async nextBlock(deadline: number = DEADLINE): Promise<SseBlock | undefined> {
    const found = await this.#signal.until<SseBlock | 'ended'>(
      () => this.#blocks[this.#taken] ?? (this.#ending === undefined ? undefined : 'ended'),
      () => `an SSE block (so far: ${this.#excerpt()})`,
      deadline,
    )
    if (found === 'ended') return undefined
    this.#taken += 1
    return found
  }

  /** The next SSE block that has data, empty data included; comments are passed over. */
  async nextEvent(deadline: number = DEADLINE): Promise<SseBlock | undefined> {
    while (true) {
      const block = await this.nextBlock(deadline)
      if (block === undefined || block.data !== undefined) return block
    }
  }

  /** The next SSE event with non-empty data, as JSON; undefined when the stream ends without another. */
  async nextMessage(deadline: number = DEADLINE): Promise<unknown> {
    while (true) {
      const event = await this.nextEvent(deadline)
      if (event?.data !== '')
        return event?.data === undefined ? undefined : (JSON.parse(event.data) as unknown)
    }
  }

  /** All messages until the stream ends. */
  async messages(deadline: number = DEADLINE): Promise<unknown[]> {
    const messages: unknown[] = []
    while (true) {
      const message = await this.nextMessage(deadline)
      if (message === undefined) return messages
      messages.push(message)
    }
  }

  /** @internal */
  addBody(bytes: Buffer): void {
    this.#body.push(bytes)
    this.#bodyBytes += bytes.length
    if (this.header('content-type')?.startsWith('text/event-stream')) this.#parseSse(bytes)
  }

  /** @internal */
  countChunk(): void {
    this.#chunks += 1
  }

  /** @internal */
  finish(ending: RawEnding): void {
    this.#ending ??= ending
  }

  #excerpt(): string {
    return this.bodySoFar.slice(0, 300)
  }

  #parseSse(bytes: Buffer): void {
    const text = this.#decoder.decode(bytes, { stream: true }).replaceAll('\r\n', '\n')
    // A large event comes in many reads: only the one that ends it is worth joining them all.
    const ends =
      text.includes('\n\n') || (text.startsWith('\n') && this.#sseRest.at(-1)?.endsWith('\n') === true)
    this.#sseRest.push(text)
    if (!ends) return
    const parts = this.#sseRest.join('').split('\n\n')
    this.#sseRest = [parts.pop() ?? '']
    for (const raw of parts) if (raw !== '') this.#blocks.push(parseBlock(raw))
  }
}

function parseBlock(raw: string): SseBlock {
  const fields = new Map<string, string[]>()
  for (const line of raw.split('\n')) {
    const colon = line.indexOf(':')
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    const values = fields.get(name)
    if (values === undefined) fields.set(name, [value])
    else values.push(value)
  }
  const joined = (name: string): string | undefined => fields.get(name)?.join('\n')
  const retry = joined('retry')
  return {
    id: joined('id'),
    event: joined('event'),
    data: joined('data'),
    retry: retry === undefined ? undefined : Number(retry),
    comment: joined(''),
    raw,
  }
}

/** One connection. Requests may be pipelined; responses come in their order. */
export class RawConnection {
  readonly socket: Socket
  readonly #signal = new Signal()
  readonly #defaultHost: string
  /** Methods of requests whose responses have not begun: a response to HEAD has no body. */
  readonly #methods: string[] = []
  readonly #responses: RawResponse[] = []
  #read = 0
  #buffer: Buffer = Buffer.alloc(0)
  #current: RawResponse | undefined
  /** Bytes of the body, or of its chunk, that are still to come. */
  #left = 0
  #inChunk: 'size' | 'data' | 'end' | 'trailer' = 'size'
  #gone: 'ended' | 'reset' | undefined
  #failure: Error | undefined
  #bytesReceived = 0

  private constructor(socket: Socket, defaultHost: string) {
    this.socket = socket
    this.#defaultHost = defaultHost
    socket.setNoDelay(true)
    socket.on('data', (bytes: Buffer) => {
      this.#bytesReceived += bytes.length
      this.#buffer = this.#buffer.length === 0 ? bytes : Buffer.concat([this.#buffer, bytes])
      try {
        this.#parse()
      } catch (thrown) {
        this.#failure = thrown instanceof Error ? thrown : new Error(String(thrown))
        socket.destroy()
      }
      this.#signal.wake()
    })
    socket.on('error', () => this.#onGone('reset'))
    socket.on('end', () => this.#onGone('ended'))
    socket.on('close', () => this.#onGone('ended'))
  }

  /** Connects, under a deadline. */
  static open(port: number, host: string = '127.0.0.1'): Promise<RawConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host, allowHalfOpen: true })
      const timer = setTimeout(() => {
        socket.destroy()
        reject(new Error(`no connection to ${host}:${port} within ${DEADLINE} ms`))
      }, DEADLINE)
      socket.once('error', (error) => {
        clearTimeout(timer)
        reject(error)
      })
      socket.once('connect', () => {
        clearTimeout(timer)
        socket.removeAllListeners('error')
        resolve(new RawConnection(socket, `${host}:${port}`))
      })
    })
  }

  /** Bytes received, heads and framing included. */
  get bytesReceived(): number {
    return this.#bytesReceived
  }

  /** Whether the peer ended or reset the connection. */
  get gone(): 'ended' | 'reset' | undefined {
    return this.#gone
  }

  /** Bytes that came and belong to no response. */
  get unparsed(): string {
    return this.#buffer.toString('latin1')
  }

  /** Writes bytes as they are; resolves when the operating system has them. A method is named where the bytes begin a request other than POST. */
  write(bytes: string | Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.write(bytes, (error) => (error === undefined || error === null ? resolve() : reject(error)))
    })
  }

  /** Sends a request; does not wait for its response. */
  send(request: RawRequest): Promise<void> {
    this.#methods.push(request.method ?? 'GET')
    return this.write(encodeRequest(request, this.#defaultHost))
  }

  /** Sends a request and waits for the head of its response. */
  async request(request: RawRequest, deadline: number = DEADLINE): Promise<RawResponse> {
    // A server may refuse before it has read all: a failed write is no failure of the test.
    void this.send(request).catch(() => {})
    return this.response(deadline)
  }

  /** The next response that was not taken yet, once its head is there. Interim responses (100) are responses, too. */
  async response(deadline: number = DEADLINE): Promise<RawResponse> {
    const found = await this.#signal.until<RawResponse | Error>(
      () =>
        this.#responses[this.#read] ??
        this.#failure ??
        (this.#gone === undefined
          ? undefined
          : new Error(`the connection ${this.#gone} before a response came`)),
      'a response',
      deadline,
    )
    if (found instanceof Error) throw found
    this.#read += 1
    return found
  }

  /** Waits until the peer has ended or reset the connection. */
  closed(deadline: number = DEADLINE): Promise<'ended' | 'reset'> {
    return this.#signal.until(() => this.#gone, 'the end of the connection', deadline)
  }

  /** Waits until at least so many bytes have come. */
  async received(bytes: number, deadline: number = DEADLINE): Promise<void> {
    await this.#signal.until(
      () => (this.#bytesReceived >= bytes ? true : undefined),
      () => `receiving ${bytes} bytes (so far: ${this.#bytesReceived})`,
      deadline,
    )
  }

  /** Stops reading, as a stuck peer does; the kernel's buffers fill up. */
  pause(): void {
    this.socket.pause()
  }

  /** Reads again. */
  resume(): void {
    this.socket.resume()
  }

  /** Says that no more will be sent (FIN); still reads. */
  end(): void {
    this.socket.end()
  }

  /** Closes at once, as a client that goes away. */
  destroy(): void {
    this.socket.destroy()
  }

  /** Closes with a reset instead of an orderly end, as a crashed peer's kernel does. */
  reset(): void {
    this.socket.resetAndDestroy()
  }

  #onGone(how: 'ended' | 'reset'): void {
    this.#gone ??= how
    const current = this.#current
    this.#current = undefined
    current?.finish(current.framing === 'close' && how === 'ended' ? 'complete' : 'cut')
    this.#signal.wake()
  }

  #parse(): void {
    while (true) {
      if (this.#current === undefined) {
        const end = this.#buffer.indexOf('\r\n\r\n')
        if (end < 0) return
        const head = this.#buffer.subarray(0, end).toString('latin1')
        this.#buffer = this.#buffer.subarray(end + 4)
        const interim = /^HTTP\/1\.1 1\d\d/.test(head)
        const response = new RawResponse(
          head,
          (interim ? this.#methods[0] : this.#methods.shift()) ?? 'POST',
          this.#signal,
        )
        this.#responses.push(response)
        if (response.framing === 'none') {
          response.finish('complete')
          continue
        }
        this.#current = response
        this.#left = response.framing === 'length' ? Number(response.header('content-length')) : 0
        this.#inChunk = 'size'
      }
      if (!this.#parseBody(this.#current)) return
    }
  }

  /** Takes what there is of the body; whether anything can go on. */
  #parseBody(response: RawResponse): boolean {
    if (response.framing === 'chunked') return this.#parseChunked(response)
    const bytes = response.framing === 'close' ? this.#buffer : this.#buffer.subarray(0, this.#left)
    this.#buffer = this.#buffer.subarray(bytes.length)
    if (bytes.length > 0) response.addBody(bytes)
    if (response.framing === 'close') return false
    this.#left -= bytes.length
    if (this.#left > 0) return false
    this.#finish(response)
    return true
  }

  #parseChunked(response: RawResponse): boolean {
    if (this.#inChunk === 'data') {
      const bytes = this.#buffer.subarray(0, this.#left)
      this.#buffer = this.#buffer.subarray(bytes.length)
      if (bytes.length > 0) response.addBody(bytes)
      this.#left -= bytes.length
      if (this.#left > 0) return false
      this.#inChunk = 'end'
    }
    const end = this.#buffer.indexOf('\r\n')
    if (end < 0) return false
    const line = this.#buffer.subarray(0, end).toString('latin1')
    this.#buffer = this.#buffer.subarray(end + 2)
    if (this.#inChunk === 'end') {
      if (line !== '') throw new Error(`a chunk does not end where its size says: ${line}`)
      this.#inChunk = 'size'
    } else if (this.#inChunk === 'trailer') {
      if (line === '') this.#finish(response)
    } else {
      if (!/^[0-9a-f]+$/i.test(line)) throw new Error(`not a chunk size: ${line}`)
      this.#left = Number.parseInt(line, 16)
      this.#inChunk = this.#left === 0 ? 'trailer' : 'data'
      if (this.#left > 0) response.countChunk()
    }
    return true
  }

  #finish(response: RawResponse): void {
    this.#current = undefined
    response.finish('complete')
  }
}
