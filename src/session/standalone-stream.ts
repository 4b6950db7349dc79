/** The GET stream of a session: takeover, proof of life, and server→client requests that wait for it. */

import { Deadline } from '../deadlines.ts'
import { SojournError } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import { MessageStream } from '../stream/message-stream.ts'
import { sseEvent } from '../stream/sse.ts'
import { SseConnection, type SseConnectionOwner } from '../stream/sse-connection.ts'
import type { Hold } from './idle-clock.ts'
import type { Session } from './session.ts'

/** A stream counts as proven alive for this long after it was opened or answered a ping, in milliseconds. */
const PROOF_AGE = 5_000

/** Takeovers from a living stream are counted over this long, in milliseconds. */
const TAKEOVER_WINDOW = 30_000

/** This many takeovers from a living stream are let through in that time; the next newcomer is refused, or two tabs fight for ever. */
const TAKEOVERS_ALLOWED = 2

/** A server→client request that has no connection to travel on yet. */
class ParkedRequest extends Deadline {
  readonly data: string
  readonly #settle: (sent: boolean) => void

  constructor(data: string, settle: (sent: boolean) => void) {
    super()
    this.data = data
    this.#settle = settle
  }

  sent(): void {
    this.#settle(true)
  }

  override onDue(): void {
    this.#settle(false)
  }
}

/** The stream that a GET opens. One per session; it goes on over any number of connections. */
export class StandaloneStream implements SseConnectionOwner {
  readonly #session: Session
  readonly #stream: MessageStream
  #parked: Set<ParkedRequest> | undefined
  #takeovers: number[] | undefined
  #provenAt = Number.NEGATIVE_INFINITY
  #everAnswered = false
  #beats = 0
  #ping: number | undefined

  /** `stream`: as it was before a restart. */
  constructor(session: Session, stream: MessageStream = new MessageStream(session.streams.context, 0)) {
    this.#session = session
    this.#stream = stream
  }

  /** Whether a stream made anew would be the same. */
  get blank(): boolean {
    return this.#stream.blank && (this.#parked?.size ?? 0) === 0
  }

  /** Whether a connection is attached. */
  get open(): boolean {
    return this.#stream.connection !== undefined
  }

  /** Whether a message sent now reaches the client: at once, or from the log when it comes back. */
  get reachable(): boolean {
    const { connection } = this.#stream
    return connection !== undefined && (connection.writable || this.#session.runtime.eventLog !== undefined)
  }

  /** Whether a cursor can be one of this stream. */
  knows(position: number): boolean {
    return this.#stream.outcome(position) !== 'unknown'
  }

  /** Whether a newcomer may have the stream: not when one is open under `reject`, nor when two clients keep taking it from each other. */
  admits(): boolean {
    const current = this.#stream.connection
    if (current === undefined) return true
    const { options, clock } = this.#session.runtime
    if (options.standaloneStream === 'reject') return false
    const now = clock.now()
    const takeovers = (this.#takeovers ?? []).filter((at) => now - at < TAKEOVER_WINDOW)
    this.#takeovers = takeovers
    if (now - Math.max(current.openedAt, this.#provenAt) > PROOF_AGE) return true
    if (takeovers.length >= TAKEOVERS_ALLOWED) return false
    takeovers.push(now)
    return true
  }

  /** Attaches a connection; whoever had the stream loses it. `cursor` is where a resuming client stands. */
  attach(exchange: Exchange, hold: Hold, cursor: number | undefined): void {
    const start = cursor ?? this.#stream.taken
    const connection = new SseConnection(
      this.#session.streams.context,
      this,
      exchange,
      hold,
      0,
      cursor === undefined ? 'get' : 'resume',
      true,
    )
    this.#stream.prime(connection, start)
    this.#beats = 0
    this.#forgetPing()
    this.#stream.attach(connection)
    if (cursor === undefined) this.#stream.replayUntaken()
    else this.#stream.replayAfter(cursor, (write) => this.#session.announceLists(write))
    for (const parked of this.#parked ?? []) {
      this.#unpark(parked)
      this.#stream.send(parked.data)
      parked.sent()
    }
    // A GET head goes out at once: clients wait for it.
    connection.flush()
  }

  /** A notification for the client: written now, or kept for the next GET. */
  notify(data: string): void {
    this.#stream.send(data)
  }

  /** Sends a server→client request on the open connection. */
  request(data: string): void {
    this.#stream.send(data)
  }

  /** Keeps a server→client request until a GET opens; rejects when none does within `undeliveredRequestTimeout`. */
  park(data: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const { deadlines, options } = this.#session.runtime
      const parked = new ParkedRequest(data, (sent) => {
        this.#parked?.delete(parked)
        if (sent) resolve()
        else
          reject(
            new SojournError(
              'undeliverable',
              'No stream is open that a request to the client could travel on',
            ),
          )
      })
      this.#parked ??= new Set()
      this.#parked.add(parked)
      deadlines.arm(parked, options.undeliveredRequestTimeout)
    })
  }

  /** Ends the connection; the client may come back, after `retry` milliseconds. */
  endConnection(retry: number = this.#session.runtime.options.retryInterval): void {
    this.#stream.endConnection(retry)
  }

  /** What still waits for a log that answers later. */
  pending(): Promise<unknown> | undefined {
    return this.#stream.pending()
  }

  /** The log lost what it held. */
  logEmptied(): void {
    this.#stream.logEmptied()
  }

  /** The session is over. */
  close(retry: number | undefined): void {
    for (const parked of [...(this.#parked ?? [])]) {
      this.#session.runtime.deadlines.disarm(parked)
      parked.onDue()
    }
    this.#stream.finish(retry)
  }

  /** @internal Every second keep-alive asks the peer for a sign of life: Node notices a dead one only after a quarter of an hour. */
  beat(): string | undefined {
    this.#beats += 1
    if (this.#beats % 2 !== 0) return SseConnection.comment
    if (this.#ping !== undefined && this.#everAnswered) return undefined
    this.#forgetPing()
    const id = this.#session.serverRequests.addPing(() => {
      this.#ping = undefined
      this.#everAnswered = true
      this.#provenAt = this.#session.runtime.clock.now()
    })
    this.#ping = id
    return sseEvent(JSON.stringify({ jsonrpc: '2.0', id, method: 'ping' }))
  }

  /** @internal */
  connectionGone(connection: SseConnection): void {
    if (this.#stream.detach(connection)) this.#forgetPing()
  }

  #unpark(parked: ParkedRequest): void {
    this.#session.runtime.deadlines.disarm(parked)
    this.#parked?.delete(parked)
  }

  #forgetPing(): void {
    if (this.#ping !== undefined) this.#session.serverRequests.remove(this.#ping)
    this.#ping = undefined
  }
}
