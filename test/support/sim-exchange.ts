/** An HTTP exchange without HTTP: a request made up by a test, and a record of the response as its peer sees it, in virtual time. */

import { createParser, type EventSourceParser } from 'eventsource-parser'
import type { BodyResult, Exchange, ResponseHeaders } from '../../src/http/exchange.ts'
import type { AuthInfo } from '../../src/types.ts'
import { type Deferred, deferred } from './deferred.ts'
import type { VirtualClock } from './virtual-clock.ts'

/** A piece of a body that arrives slowly. */
export interface BodyPart {
  /** Milliseconds after the part before it, for the first after the exchange was made. */
  readonly after: number
  readonly bytes: string | Uint8Array
}

/** A request body: whole at once, `'never'` arriving, or in parts. */
export type SimBody = string | Uint8Array | 'never' | readonly BodyPart[]

/** What a {@link SimExchange} is made of. */
export interface SimRequest {
  /** Default `POST`. */
  method?: string
  /** Default `/mcp`. */
  target?: string
  /** Header fields; names in any case, lists are repeated fields. */
  headers?: Readonly<Record<string, string | readonly string[] | undefined>>
  /** Default empty. */
  body?: SimBody
  /** What a framework's middleware left. */
  authInfo?: AuthInfo
  /** Default true. */
  loopback?: boolean
  /** Default `127.0.0.1`. */
  remoteAddress?: string
  /** The body as a framework parsed it. */
  parsedBody?: unknown
}

/** How the connection of a {@link SimExchange} behaves. */
export interface SimLink {
  /** How long bytes travel to the peer after the operating system took them; what is on the way is lost in a drop. Default 0. */
  latency?: number
  /** How long the operating system takes to take the last bytes of a response; `onclose(true)` comes then. Default: the next microtask. */
  finishAfter?: number
  /** Told when the server answers, before anything reaches the peer. */
  onanswer?: (exchange: SimExchange) => void
  /** Told when `onclose` was called: the server's side of the exchange is over. */
  onover?: (exchange: SimExchange, completed: boolean) => void
  /** May change what the server writes before it travels: a fault for tests to find. `undefined` loses it. */
  tamper?: (chunk: string) => string | undefined
}

/** An SSE event as the peer received it. */
export interface SimEvent {
  readonly at: number
  readonly id: string | undefined
  readonly event: string | undefined
  readonly data: string
}

/** Something received or written, and when. */
export interface SimChunk {
  readonly at: number
  readonly text: string
}

/** How an exchange ended for its peer: whole, cut by the server, or dropped by the peer itself. */
export type SimOutcome = 'completed' | 'cut' | 'dropped'

/** The head of a response. */
export interface SimHead {
  readonly status: number
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>
}

/** An {@link Exchange} whose peer is the test. */
export class SimExchange implements Exchange {
  readonly method: string
  readonly target: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly remoteAddress: string | undefined
  readonly loopback: boolean | undefined
  readonly presetAuth: AuthInfo | undefined
  readonly parsedBody: unknown
  commonHeaders: ResponseHeaders | undefined
  validUntil: number | undefined
  onclose: ((completed: boolean) => void) | undefined

  /** When it was made. */
  readonly startedAt: number
  /** Everything the server wrote, whether or not it reached the peer. */
  readonly written: SimChunk[] = []
  /** Body bytes that reached the peer. */
  readonly chunks: SimChunk[] = []
  /** SSE events that reached the peer. */
  readonly events: SimEvent[] = []
  /** SSE comments that reached the peer. */
  readonly comments: SimChunk[] = []
  /** The last `retry:` that reached the peer. */
  retry: number | undefined
  /** When the server answered: the call of `respond` or `openStream`. */
  answeredAt: number | undefined
  /** The status the server answered with, whether or not it reached the peer. */
  answeredStatus: number | undefined
  /** When `onclose` was called. */
  closedAt: number | undefined
  /** Resolves with the head, once the peer has it; never when the connection ends first. */
  readonly head: Promise<SimHead>
  /** Resolves when the exchange is over for its peer. */
  readonly ended: Promise<SimOutcome>
  /** How it ended, once it did. */
  outcome: SimOutcome | undefined
  /** When it ended for its peer. */
  endedAt: number | undefined
  /** Calls that the contract of {@link Exchange} does not foresee, such as a second `openStream`. */
  readonly misuse: string[] = []
  /** Called at the peer for every SSE event. */
  onevent: ((event: SimEvent) => void) | undefined

  readonly #clock: VirtualClock
  readonly #body: SimBody | undefined
  readonly #link: SimLink
  readonly #head: Deferred<SimHead> = deferred()
  readonly #ended: Deferred<SimOutcome> = deferred()
  readonly #waiters = new Set<(event: SimEvent) => void>()
  #request: Request | undefined
  #receivedHead: SimHead | undefined
  #pendingHead: SimHead | undefined
  #parser: EventSourceParser | undefined
  /** Sent by the server, not taken by the operating system because the peer reads nothing. */
  #unsent: string[] = []
  readonly #onTheWay: (() => void)[] = []
  #unsentBytes = 0
  #socketBuffer = 0
  #reading = true
  #vanished = false
  #streaming = false
  #finished = false
  #gone = false
  #onGone = new Set<() => void>()
  #bodyRead = false

  constructor(clock: VirtualClock, request: SimRequest = {}, link: SimLink = {}) {
    this.#clock = clock
    this.#body = request.body
    this.#link = link
    this.method = request.method ?? 'POST'
    this.target = request.target ?? '/mcp'
    const headers: Record<string, string | string[] | undefined> = {}
    for (const [name, value] of Object.entries(request.headers ?? {})) {
      headers[name.toLowerCase()] = typeof value === 'string' || value === undefined ? value : [...value]
    }
    this.headers = headers
    this.loopback = request.loopback ?? true
    this.remoteAddress = request.remoteAddress ?? '127.0.0.1'
    this.presetAuth = request.authInfo
    this.parsedBody = request.parsedBody
    this.startedAt = clock.now()
    this.head = this.#head.promise
    this.ended = this.#ended.promise
  }

  // What the server calls

  header(name: string): string | undefined {
    const value = Object.hasOwn(this.headers, name) ? this.headers[name] : undefined
    return Array.isArray(value) ? value.join(', ') : value
  }

  get request(): Request {
    if (this.#request === undefined) {
      const headers = new Headers()
      for (const [name, value] of Object.entries(this.headers)) {
        if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value)
      }
      const url = new URL(this.target, `http://${this.header('host') ?? 'localhost'}`)
      this.#request = new Request(url, { method: this.method, headers })
    }
    return this.#request
  }

  get requestInfo(): Exchange['requestInfo'] {
    return { headers: this.headers, url: new URL(this.request.url) }
  }

  readBody(limit: number, timeout: number, onBody: (body: BodyResult) => void): void {
    if (this.#bodyRead) this.misuse.push('readBody twice')
    this.#bodyRead = true
    void this.#read(limit, timeout).then(onBody)
  }

  async #read(limit: number, timeout: number): Promise<BodyResult> {
    if (this.#gone) return 'aborted'
    const body = this.#body
    if (body === undefined || body instanceof Uint8Array || (typeof body === 'string' && body !== 'never')) {
      const bytes = toBytes(body ?? '')
      return bytes.length > limit ? 'too-large' : bytes
    }
    return this.#readSlowly(body === 'never' ? undefined : body, limit, timeout)
  }

  #readSlowly(parts: readonly BodyPart[] | undefined, limit: number, timeout: number): Promise<BodyResult> {
    return new Promise((resolve) => {
      const received: Uint8Array[] = []
      let size = 0
      const finish = (result: BodyResult): void => {
        deadline.cancel()
        this.#onGone.delete(aborted)
        resolve(result)
      }
      const aborted = (): void => finish('aborted')
      const deadline = this.#clock.after(timeout, () => finish('timeout'))
      this.#onGone.add(aborted)
      if (parts === undefined) return
      let arrival = this.startedAt
      const waiting = [...parts]
      for (const part of parts) {
        arrival += part.after
        // Parts arrive in order, however the clock orders what is due at the same time.
        this.#clock.after(arrival - this.#clock.now(), () => {
          const bytes = toBytes(waiting.shift()?.bytes ?? '')
          received.push(bytes)
          size += bytes.length
          if (size > limit) finish('too-large')
          else if (waiting.length === 0) finish(Buffer.concat(received))
        })
      }
    })
  }

  get closed(): boolean {
    return this.#finished || this.#gone
  }

  get unsentBytes(): number {
    return Math.max(0, this.#unsentBytes - this.#socketBuffer)
  }

  respond(status: number, headers: ResponseHeaders, body: string): void {
    if (this.closed) return
    if (this.#streaming) {
      this.misuse.push('respond on an open stream')
      return
    }
    this.#finished = true
    this.#answer(status, headers)
    this.#transmit(body)
    this.#finish()
  }

  openStream(headers: ResponseHeaders): void {
    if (this.closed) return
    if (this.#streaming) {
      this.misuse.push('openStream twice')
      return
    }
    this.#streaming = true
    this.#answer(200, headers)
  }

  #answer(status: number, headers: ResponseHeaders): void {
    this.answeredAt = this.#clock.now()
    this.answeredStatus = status
    this.#pendingHead = { status, headers: lowerCase({ ...headers, ...this.commonHeaders }) }
    this.#link.onanswer?.(this)
  }

  write(chunk: string): void {
    if (this.closed) {
      // The peer has gone, and the server was not told yet: it counts as sent and is lost on the way.
      if (this.#gone && this.closedAt === undefined) this.written.push({ at: this.#clock.now(), text: chunk })
      return
    }
    if (!this.#streaming) this.misuse.push('write before openStream')
    this.#transmit(chunk)
  }

  flush(): void {
    if (!this.closed && this.#pendingHead !== undefined) this.#transmit('')
  }

  end(chunk?: string): void {
    if (this.closed) return
    if (!this.#streaming) this.misuse.push('end before openStream')
    this.#transmit(chunk ?? '')
    this.#finished = true
    this.#finish()
  }

  destroy(): void {
    this.#lose('cut')
  }

  // What the peer does

  /** Closes the connection from the peer's side. What was on its way in either direction is lost. */
  drop(): void {
    this.#lose('dropped')
  }

  /** Reads no more; what the server sends stays with it beyond `socketBuffer` bytes. */
  stopReading(socketBuffer = 0): void {
    this.#reading = false
    this.#socketBuffer = socketBuffer
  }

  /** Reads again, first all that waited. */
  resumeReading(): void {
    if (this.#vanished || this.#reading) return
    this.#reading = true
    const waiting = this.#unsent
    this.#unsent = []
    this.#unsentBytes = 0
    for (const chunk of waiting) this.#travel(chunk)
    if (this.#finished) this.#finish()
  }

  /** Is gone without a FIN: nothing arrives any more, and the server is not told. */
  vanish(socketBuffer: number = 64 * 1024): void {
    this.stopReading(socketBuffer)
    this.#vanished = true
  }

  /** The status, once the head reached the peer. */
  get status(): number | undefined {
    return this.#receivedHead?.status
  }

  /** The response header fields by lower-case name, once the head reached the peer. */
  get responseHeaders(): Readonly<Record<string, string>> {
    return this.#receivedHead?.headers ?? {}
  }

  /** The body as far as it reached the peer. */
  get text(): string {
    return this.chunks.map((chunk) => chunk.text).join('')
  }

  /** The body as JSON. */
  json(): unknown {
    return JSON.parse(this.text)
  }

  /** The messages received so far: of the SSE events that carry one, or of the JSON body. */
  messages(): unknown[] {
    if (this.responseHeaders['content-type']?.startsWith('text/event-stream') === true) {
      return this.events
        .filter((event) => event.data !== '')
        .map((event) => JSON.parse(event.data) as unknown)
    }
    if (this.text === '') return []
    const body = this.json()
    return Array.isArray(body) ? body : [body]
  }

  /** The first event, received already or to come, that `matches`; any event with data by default. */
  event(matches: (event: SimEvent) => boolean = (event) => event.data !== ''): Promise<SimEvent> {
    const earlier = this.events.find(matches)
    if (earlier !== undefined) return Promise.resolve(earlier)
    return new Promise((resolve) => {
      const waiter = (event: SimEvent): void => {
        if (!matches(event)) return
        this.#waiters.delete(waiter)
        resolve(event)
      }
      this.#waiters.add(waiter)
    })
  }

  // How bytes travel

  #transmit(chunk: string): void {
    this.written.push({ at: this.#clock.now(), text: chunk })
    const travels = this.#link.tamper === undefined || chunk === '' ? chunk : this.#link.tamper(chunk)
    if (travels === undefined) return
    if (this.#reading) {
      this.#travel(travels)
      return
    }
    this.#unsent.push(travels)
    this.#unsentBytes += Buffer.byteLength(travels)
  }

  #travel(chunk: string): void {
    const head = this.#pendingHead
    this.#pendingHead = undefined
    this.#arrive(() => this.#receive(head, chunk))
  }

  /** What travels arrives in the order it was sent, however the clock orders what is due at the same time. */
  #arrive(arrival: () => void): void {
    const latency = this.#link.latency ?? 0
    if (latency === 0) {
      arrival()
      return
    }
    this.#onTheWay.push(arrival)
    this.#clock.after(latency, () => this.#onTheWay.shift()?.())
  }

  #receive(head: SimHead | undefined, chunk: string): void {
    if (this.outcome !== undefined) return
    const at = this.#clock.now()
    if (head !== undefined) {
      this.#receivedHead = head
      if (head.headers['content-type']?.startsWith('text/event-stream') === true)
        this.#parser = this.#makeParser()
      this.#head.resolve(head)
    }
    if (chunk === '') return
    this.chunks.push({ at, text: chunk })
    this.#parser?.feed(chunk)
  }

  #makeParser(): EventSourceParser {
    return createParser({
      onEvent: ({ id, event, data }) => {
        const received: SimEvent = { at: this.#clock.now(), id, event, data }
        this.events.push(received)
        this.onevent?.(received)
        for (const waiter of [...this.#waiters]) waiter(received)
      },
      onRetry: (retry) => (this.retry = retry),
      onComment: (text) => this.comments.push({ at: this.#clock.now(), text }),
      onError: (error) => this.misuse.push(`SSE: ${error.message}`),
    })
  }

  /** The response is complete on the server's side; the operating system may not have it yet. */
  #finish(): void {
    if (this.#unsentBytes > 0 && this.#unsentBytes > this.#socketBuffer) return
    if (!this.#vanished) this.#arrive(() => this.#settle('completed'))
    const { finishAfter } = this.#link
    if (finishAfter === undefined) queueMicrotask(() => this.#close(true))
    else this.#clock.after(finishAfter, () => this.#close(true))
  }

  #lose(outcome: SimOutcome): void {
    // A vanished peer is not told that the server gave it up; it finds out when it drops its end.
    if (outcome === 'dropped') this.#settle(outcome)
    if (this.#gone) return
    this.#gone = true
    this.#unsent = []
    this.#unsentBytes = 0
    if (!this.#vanished) this.#settle(outcome)
    for (const tell of [...this.#onGone]) tell()
    queueMicrotask(() => this.#close(false))
  }

  #settle(outcome: SimOutcome): void {
    if (this.outcome !== undefined) return
    this.outcome = outcome
    this.endedAt = this.#clock.now()
    this.#ended.resolve(outcome)
  }

  #close(completed: boolean): void {
    if (this.closedAt !== undefined) return
    this.closedAt = this.#clock.now()
    this.#gone = true
    this.onclose?.(completed)
    this.#link.onover?.(this, completed)
  }
}

function toBytes(body: string | Uint8Array): Uint8Array {
  return typeof body === 'string' ? Buffer.from(body) : body
}

function lowerCase(headers: ResponseHeaders): Record<string, string> {
  const result: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) result[name.toLowerCase()] = String(value)
  return result
}
