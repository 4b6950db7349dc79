/** The streams of one session: by number while they run, and for as long as a client may come back for their end. */

import { createHash } from 'node:crypto'

import type { Exchange } from '../http/exchange.ts'
import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { Awaitable, EventLog, RestoredStream } from '../stream/event-log.ts'
import { MessageStream } from '../stream/message-stream.ts'
import { SseConnection, type SseConnectionOwner } from '../stream/sse-connection.ts'
import type { StreamContext } from '../stream/stream-context.ts'
import type { Hold } from './idle-clock.ts'
import type { PostAnswer } from './post-answer.ts'
import type { Refusal } from './refusal.ts'
import type { Session } from './session.ts'
import { StandaloneStream } from './standalone-stream.ts'

/** Finished streams remembered per session, however few events the log may hold. */
const FEWEST_REMEMBERED = 256

/** The longest `Last-Event-ID` looked at. */
const LONGEST_CURSOR = 256

/** Tag of the session, number of the stream, position in it, and on priming events a running number. */
const CURSOR = /^([\w-]{8})\.(\d{1,15})\.(\d{1,15})(?:\.\d{1,15})?$/

/** The session has as many open streams as it may have (`maxStreamsPerSession`). */
export const STREAM_LIMIT: Refusal = {
  status: 429,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Too Many Requests: the session has too many open streams',
  cause: 'limit',
  option: 'maxStreamsPerSession',
  headers: { 'Retry-After': '1' },
}

const CONFLICT: Refusal = {
  status: 409,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Conflict: Only one SSE stream is allowed per session',
  cause: 'conflict',
  option: 'standaloneStream',
}

const UNKNOWN_CURSOR: Refusal = {
  status: 400,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Bad Request: Last-Event-ID is not an event id of this session',
  cause: 'cursor',
}

/** What a call is told that ran when its process died. */
const INTERRUPTED =
  'Internal error: the server was restarted while the request ran; it may or may not have had its effect'

/** The streams of one session. */
export class SessionStreams {
  readonly context: StreamContext
  readonly #session: Session
  #standalone: StandaloneStream | undefined
  #posts: Map<number, PostAnswer> | undefined
  #finished: Map<number, MessageStream> | undefined
  #open = 0
  #tag: string | undefined
  #closed = false

  constructor(session: Session) {
    this.#session = session
    this.context = new SessionStreamContext(session, this)
  }

  /** SSE connections open now. */
  get open(): number {
    return this.#open
  }

  /** Whether a GET connection is attached. */
  get standaloneOpen(): boolean {
    return this.#standalone?.reachable ?? false
  }

  /** The GET stream, made on first use. */
  get standalone(): StandaloneStream {
    this.#standalone ??= this.#unknownToLog() ?? new StandaloneStream(this.#session)
    return this.#standalone
  }

  /** The GET stream of which clients have events, and a log that was emptied has none: it goes on where they are. */
  #unknownToLog(): StandaloneStream | undefined {
    const position = this.#session.record.delivered
    if (position === 0) return undefined
    const lost = { session: this.context.logKey, stream: 0, position, requests: [], answers: [] }
    const stream = MessageStream.restore(this.context, lost, position)
    stream.logEmptied()
    return new StandaloneStream(this.#session, stream)
  }

  /** Whether streams made anew would be the same: none is open, and nobody could come back for anything. */
  get blank(): boolean {
    if (this.#open > 0 || (this.#posts?.size ?? 0) > 0 || (this.#finished?.size ?? 0) > 0) return false
    return this.#standalone?.blank ?? true
  }

  /** Takes over a stream from before a restart. Requests of it that were not answered then are answered now, with an error. */
  restore(restored: RestoredStream): void {
    const { record } = this.#session
    if (restored.stream === 0) {
      const taken = Math.min(record.delivered, restored.position)
      this.#standalone = new StandaloneStream(
        this.#session,
        MessageStream.restore(this.context, restored, taken),
      )
      return
    }
    record.streams = Math.max(record.streams, restored.stream)
    const stream = MessageStream.restore(this.context, restored, 0)
    const answered = new Set(restored.answers.map(({ id }) => id))
    for (const id of restored.requests) {
      if (!answered.has(id))
        stream.send(errorBody(JsonRpcErrorCode.INTERNAL_ERROR, INTERRUPTED, id), { answer: id })
    }
    this.#finished ??= new Map()
    this.#finished.set(stream.number, stream)
  }

  /** The log lost what it held: whoever comes back for any of it is told so. */
  logEmptied(): void {
    this.#standalone?.logEmptied()
    for (const answer of this.#posts?.values() ?? []) answer.stream?.logEmptied()
    for (const stream of this.#finished?.values() ?? []) stream.logEmptied()
  }

  /** @internal Counts connections, for the limit. */
  count(change: 1 | -1): void {
    this.#open += change
  }

  /** A new stream for a POST. */
  addPost(answer: PostAnswer): MessageStream {
    const { record } = this.#session
    record.streams += 1
    this.#posts ??= new Map()
    this.#posts.set(record.streams, answer)
    const stream = new MessageStream(this.context, record.streams)
    stream.open(answer.requests)
    return stream
  }

  /** Every answer of a POST stream was sent: kept only for clients that missed the end. */
  postFinished(stream: MessageStream): void {
    this.#posts?.delete(stream.number)
    if (this.#closed) {
      // Answered after the end of the session, whose events are dropped: nobody can come back for it.
      this.#forget((log) => log.dropStream(this.context.logKey, stream.number))
      return
    }
    if (this.#session.runtime.eventLog === undefined) return
    this.#finished ??= new Map()
    this.#finished.set(stream.number, stream)
    // A stream is remembered longer than its events, so that a client can be told of an answer that came and went; of older ones only
    // that they ended is known.
    const { eventLogMaxEvents } = this.#session.runtime.options
    if (this.#finished.size <= Math.max(FEWEST_REMEMBERED, eventLogMaxEvents)) return
    for (const oldest of this.#finished.keys()) {
      this.#finished.delete(oldest)
      this.#forget((log) => log.dropStream(this.context.logKey, oldest))
      break
    }
  }

  /** Serves a GET without `Last-Event-ID`. */
  openStandalone(exchange: Exchange, hold: Hold): Refusal | undefined {
    return this.#attachStandalone(exchange, hold, undefined)
  }

  /** Serves a GET with `Last-Event-ID`. */
  resume(exchange: Exchange, hold: Hold, lastEventId: string): Refusal | undefined {
    const cursor = this.#parse(lastEventId)
    if (cursor === undefined) return UNKNOWN_CURSOR
    const { number, position } = cursor
    if (number === 0) {
      if (!this.standalone.knows(position)) return UNKNOWN_CURSOR
      return this.#attachStandalone(exchange, hold, position)
    }
    const answer = this.#posts?.get(number)
    const stream = answer?.stream ?? this.#finished?.get(number)
    const outcome =
      stream?.outcome(position) ?? (number > this.#session.record.streams ? 'unknown' : 'nothing-left')
    if (outcome === 'unknown') return UNKNOWN_CURSOR
    if (stream === undefined || outcome === 'nothing-left') {
      // Any other answer makes the official clients come back for ever.
      exchange.onclose = () => hold.release()
      exchange.respond(204, {}, '')
      return undefined
    }
    const refusal = stream.connection === undefined ? this.#session.admitStream() : undefined
    if (refusal !== undefined) return refusal
    hold.confirm()
    this.#session.markUsed()
    const owner = answer ?? new FinishedStreamOwner(stream)
    const connection = new SseConnection(
      this.context,
      owner,
      exchange,
      hold,
      number,
      'resume',
      this.context.primes,
    )
    stream.prime(connection, position)
    if (answer === undefined) stream.attach(connection)
    else answer.attach(connection)
    stream.replayAfter(position, undefined)
    return undefined
  }

  /**
   * The session is over: every connection ends, and its events are dropped unless they are `kept` for after a restart. `retry` tells
   * clients when to come back.
   */
  close(retry: number | undefined, kept: boolean): void {
    this.#standalone?.close(retry)
    // In the order of a slow log: the answers that the end of the session gave are still on their way through it.
    for (const stream of this.#finished?.values() ?? []) stream.finish()
    this.#closed = !kept
    if (this.#session.ephemeral || kept) return
    const drop = (): void => this.#forget((log) => log.dropSession(this.context.logKey))
    // A slow log must keep what is still read from it or written to it, or a client that came back ends without its answer.
    const pending = [this.#standalone, ...(this.#finished?.values() ?? [])].map((stream) => stream?.pending())
    // A session whose end the store did not take is there again after a crash: not without its events.
    const ended = this.#session.runtime.keeper?.ended(this.#session)
    if (ended !== undefined) void Promise.all([ended, ...pending]).then(([durable]) => durable && drop())
    else if (pending.some((wait) => wait !== undefined)) void Promise.all(pending).then(drop)
    else drop()
  }

  /** Names an event so that no other session's cursor can be mistaken for one of this. */
  eventId(stream: number, position: number): string {
    this.#tag ??= createHash('sha256')
      .update(`sojourn-events:${this.#session.key}`)
      .digest('base64url')
      .slice(0, 8)
    return `${this.#tag}.${stream}.${position}`
  }

  /** Forgetting may fail, at once or later: nobody waits for it. */
  #forget(what: (log: EventLog) => Awaitable<void>): void {
    const { eventLog } = this.#session.runtime
    if (eventLog === undefined) return
    const forget = async (): Promise<void> => what(eventLog)
    forget().catch((thrown: unknown) => this.context.logFailed(thrown))
  }

  #attachStandalone(exchange: Exchange, hold: Hold, cursor: number | undefined): Refusal | undefined {
    const refusal = this.standalone.open ? undefined : this.#session.admitStream()
    if (refusal !== undefined) return refusal
    if (!this.standalone.admits()) return CONFLICT
    hold.confirm()
    this.#session.markUsed()
    this.standalone.attach(exchange, hold, cursor)
    return undefined
  }

  #parse(lastEventId: string): { number: number; position: number } | undefined {
    if (this.#session.runtime.eventLog === undefined || lastEventId.length > LONGEST_CURSOR) return undefined
    const match = CURSOR.exec(lastEventId)
    if (match === null) return undefined
    const number = Number(match[2])
    const position = Number(match[3])
    if (!this.eventId(number, position).startsWith(`${match[1]}.`)) return undefined
    return { number, position }
  }
}

/** Carries the tail of a stream that has ended. */
class FinishedStreamOwner implements SseConnectionOwner {
  readonly #stream: MessageStream

  constructor(stream: MessageStream) {
    this.#stream = stream
  }

  beat(): string {
    return SseConnection.comment
  }

  connectionGone(connection: SseConnection): void {
    this.#stream.detach(connection)
  }
}

class SessionStreamContext implements StreamContext {
  readonly #session: Session
  readonly #streams: SessionStreams

  constructor(session: Session, streams: SessionStreams) {
    this.#session = session
    this.#streams = streams
  }

  get deadlines(): StreamContext['deadlines'] {
    return this.#session.runtime.deadlines
  }

  get clock(): StreamContext['clock'] {
    return this.#session.runtime.clock
  }

  get options(): StreamContext['options'] {
    return this.#session.runtime.options
  }

  get eventLog(): StreamContext['eventLog'] {
    return this.#session.ephemeral ? undefined : this.#session.runtime.eventLog
  }

  get logKey(): string {
    return this.#session.key
  }

  get primes(): boolean {
    return this.#session.primes
  }

  now(): number {
    return this.#session.runtime.clock.now()
  }

  eventId(stream: number, position: number): string {
    return this.#streams.eventId(stream, position)
  }

  nextPriming(): number {
    this.#session.record.primings += 1
    return this.#session.record.primings
  }

  taken(stream: number, position: number): void {
    if (stream === 0) this.#session.delivered(position)
  }

  connectionOpened(stream: number, kind: 'get' | 'post' | 'resume'): void {
    this.#streams.count(1)
    this.#session.emitStream('stream.opened', stream, kind, 0)
  }

  connectionClosed(stream: number, kind: 'get' | 'post' | 'resume', durationMs: number): void {
    this.#streams.count(-1)
    this.#session.emitStream('stream.closed', stream, kind, durationMs)
  }

  logFailed(thrown: unknown): void {
    this.#session.runtime.log.error('the event log failed; streams go on without it', { error: thrown })
  }
}
