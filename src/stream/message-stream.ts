/** The ordered server→client messages of one POST or of the GET: at most one connection, and the event log for what none took. */

import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { RequestId } from '../types.ts'
import type { Awaitable, EventLogPage, LoggedAnswer, LoggedEvent, RestoredStream } from './event-log.ts'
import type { SseConnection } from './sse-connection.ts'
import type { StreamContext } from './stream-context.ts'

/** What a cursor of a stream leads to. */
export type CursorOutcome = 'unknown' | 'nothing-left' | 'resume'

/** One stream of a session. Positions grow by one per event; 0 is before the first. */
export class MessageStream {
  /** The stream's number in its session. */
  readonly number: number
  readonly #context: StreamContext
  #position = 0
  #taken = 0
  #connection: SseConnection | undefined
  #finished = false
  #retry: number | undefined
  #answers: LoggedAnswer[] | undefined
  /** Highest position that the log has taken or failed to take, and everything before it as well. */
  #settled = 0
  /** Highest position that the log failed to take: a gap, like one that was trimmed. */
  #lost = 0
  /** Set while an event log that answers later is behind: writes wait their turn. */
  #inOrder: Promise<void> | undefined
  /** Set while such a log is read for a client that came back. */
  #replaying: Promise<void> | undefined
  /** Set until a log that outlives the process knows the stream: no cursor of it may be given out before. */
  #opening: Promise<void> | undefined

  constructor(context: StreamContext, number: number) {
    this.#context = context
    this.number = number
  }

  /** A stream as it was before a restart. `taken`: the highest position that any connection took, as far as that is known. */
  static restore(context: StreamContext, restored: RestoredStream, taken: number): MessageStream {
    const stream = new MessageStream(context, restored.stream)
    stream.#position = restored.position
    stream.#settled = restored.position
    stream.#taken = taken
    if (restored.answers.length > 0) stream.#answers = [...restored.answers]
    // Only POST streams end, and one that was not finished is, by whoever restores it.
    stream.#finished = restored.stream !== 0
    return stream
  }

  /** Tells a log that outlives the process for which requests the stream is. Called before anything else. */
  open(requests: readonly RequestId[]): void {
    const { eventLog, logKey } = this.#context
    if (eventLog?.openStream === undefined) return
    let opened: Awaitable<void>
    try {
      opened = eventLog.openStream(logKey, this.number, requests)
    } catch (thrown) {
      this.#context.logFailed(thrown)
      return
    }
    if (!isPromise(opened)) return
    const opening = Promise.resolve(opened)
      .catch((thrown: unknown) => this.#context.logFailed(thrown))
      .then(() => {
        this.#opening = undefined
        if (this.#inOrder === opening) this.#inOrder = undefined
      })
    this.#opening = opening
    this.#inOrder = opening
  }

  /** The connection that carries the stream now. */
  get connection(): SseConnection | undefined {
    return this.#connection
  }

  /** Whether every answer was sent (or cancelled): nothing more will come. */
  get finished(): boolean {
    return this.#finished
  }

  /** Whether a stream made anew would be the same. */
  get blank(): boolean {
    return this.#position === 0 && this.#connection === undefined && this.#inOrder === undefined
  }

  /**
   * A fresh id for the priming event of a connection that starts after `cursor`; undefined where priming is not allowed. It names the
   * same place as the cursor: a client that is cut after the priming event and before the replay must come back to where it was.
   */
  #primingId(cursor: number): string | undefined {
    if (!this.#context.primes) return undefined
    return `${this.#context.eventId(this.number, cursor)}.${this.#context.nextPriming()}`
  }

  /** The highest position that any connection took. */
  get taken(): number {
    return this.#taken
  }

  /** Logs a message and writes it to the connection, if there is one. `answer` names the request it answers. */
  send(data: string, options?: { answer?: RequestId; last?: boolean }): void {
    const last = options?.last ?? false
    const position = ++this.#position
    const log = this.#context.eventLog
    if (last) this.#finished = true
    if (log === undefined) {
      this.#deliver(position, data, last)
      return
    }
    if (options?.answer !== undefined) (this.#answers ??= []).push({ position, id: options.answer })
    this.#store(position, data, options?.answer, last)
  }

  /** Nothing more will come: ends the connection once what was sent before has gone out. `retry` tells when to come back. */
  finish(retry?: number): void {
    this.#finished = true
    this.#retry = retry
    // What is still being replayed may be the answer.
    if (this.#connection?.replaying !== true) this.#endInOrder()
  }

  /** What still waits for a log that answers later; undefined when nothing does. Does not reject. */
  pending(): Promise<unknown> | undefined {
    if (this.#replaying === undefined) return this.#inOrder
    return Promise.all([this.#replaying, this.#inOrder])
  }

  /** Everything that was logged is gone: a gap, as if it had been trimmed. */
  logEmptied(): void {
    this.#lost = this.#settled
  }

  /** Ends the connection but not the stream: the client is to come back for the rest. */
  endConnection(retry: number): void {
    const connection = this.#connection
    if (this.#opening === undefined) connection?.end(retry)
    // Not before it has the cursor to come back with.
    else void this.#opening.then(() => connection?.end(retry))
  }

  /** Makes a new connection the stream's only one; the one before ends. */
  attach(connection: SseConnection): void {
    const previous = this.#connection
    this.#connection = connection
    connection.sent = this.#position
    previous?.end()
    connection.announce()
  }

  /** Has a connection start with a priming event, where that is allowed, that names the place after `cursor`. */
  prime(connection: SseConnection, cursor: number): void {
    const id = this.#primingId(cursor)
    if (id === undefined) return
    if (this.#opening === undefined) connection.prime(id)
    else void this.#opening.then(() => connection.prime(id))
  }

  /**
   * Sends the head of the connection, with the priming event where there is one. Not before a log that outlives the process knows the
   * stream, nor what the store was told before: that its session is in use.
   */
  sendHead(): void {
    if (this.#opening === undefined) this.#connection?.flush()
    else void this.#opening.then(() => this.#connection?.flush())
  }

  /** Lets a connection that ended go. Returns whether it was the stream's. */
  detach(connection: SseConnection): boolean {
    if (this.#connection !== connection) return false
    this.#connection = undefined
    return true
  }

  /** Writes what no connection ever took to the one attached. */
  replayUntaken(): void {
    this.#replay(this.#taken, false, undefined)
  }

  /**
   * Writes what comes after a cursor to the connection attached, then goes on live. `onGap` is called when events after the cursor
   * were trimmed, with a way to write messages in their place.
   */
  replayAfter(cursor: number, onGap: ((write: (data: string) => void) => void) | undefined): void {
    this.#replay(cursor, true, onGap)
  }

  /** What a cursor leads to. Never reads the log: whether events are left follows from the positions. */
  outcome(cursor: number): CursorOutcome {
    if (cursor > this.#position) return 'unknown'
    return this.#finished && cursor >= this.#lastEvent() ? 'nothing-left' : 'resume'
  }

  /** The position of the last answer: a finished stream has nothing after it that a client waits for. */
  #lastEvent(): number {
    return this.#answers?.at(-1)?.position ?? 0
  }

  #store(position: number, data: string, answer: RequestId | undefined, last: boolean): void {
    const log = this.#context.eventLog
    if (log === undefined) return
    let stored: unknown
    try {
      stored = log.append(this.#context.logKey, this.number, position, data, answer)
    } catch (thrown) {
      this.#appendFailed(position, thrown)
    }
    if (!isPromise(stored) && this.#inOrder === undefined) {
      this.#deliver(position, data, last)
      return
    }
    // An event is written only after the log has it: a client must never hold a cursor that a restart does not know.
    const before = this.#inOrder ?? Promise.resolve()
    const turn = before
      .then(() => stored)
      .catch((thrown: unknown) => this.#appendFailed(position, thrown))
      .then(() => this.#deliver(position, data, last))
      .then(() => {
        if (this.#inOrder === turn) this.#inOrder = undefined
      })
    this.#inOrder = turn
  }

  #appendFailed(position: number, thrown: unknown): void {
    this.#lost = position
    this.#context.logFailed(thrown)
  }

  #deliver(position: number, data: string, last: boolean): void {
    this.#settled = position
    const connection = this.#connection
    if (connection === undefined || position <= connection.sent) return
    if (connection.replaying) {
      connection.missed = position
      return
    }
    const { eventLog } = this.#context
    // What a log did not take that outlives the process has no id: the next process would not know it, or give it to another event.
    const forgotten = position === this.#lost && eventLog?.restore !== undefined
    const eventId =
      eventLog === undefined || forgotten ? undefined : this.#context.eventId(this.number, position)
    if (!connection.send(data, eventId, last)) return
    connection.sent = position
    this.#took(position)
  }

  #took(position: number): void {
    if (position <= this.#taken) return
    this.#taken = position
    this.#context.taken(this.number, position)
  }

  #replay(
    cursor: number,
    announcesGap: boolean,
    onGap: ((write: (data: string) => void) => void) | undefined,
  ): void {
    const connection = this.#connection
    const log = this.#context.eventLog
    if (connection === undefined || log === undefined) return
    connection.sent = cursor
    if (cursor >= this.#settled) {
      // Nothing was logged that could be missing. What is on its way to the log comes through #deliver; a log that fails is not asked.
      this.#goLive(connection)
      return
    }
    connection.replaying = true
    let settled = 0
    let lost = 0
    const read = () => {
      // A page may show more than was settled when it was asked for, with holes that are only told of later: that is left to the next.
      settled = this.#settled
      lost = this.#lost
      return log.read(this.#context.logKey, this.number, connection.sent)
    }
    const take = (page: EventLogPage) => {
      const events = page.events.filter(({ position }) => position <= settled)
      this.#writePage(connection, events, Math.max(page.trimmed, lost), announcesGap, onGap)
    }
    try {
      const page = read()
      if (!isPromise(page)) {
        take(page as EventLogPage)
        this.#goLive(connection)
        return
      }
      // The log takes its time; a client waits for the head of a GET.
      connection.flush()
      const replay = this.#replayLater(connection, page as PromiseLike<EventLogPage>, read, take).then(() => {
        if (this.#replaying === replay) this.#replaying = undefined
      })
      this.#replaying = replay
    } catch (thrown) {
      this.#replayFailed(connection, thrown)
    }
  }

  async #replayLater(
    connection: SseConnection,
    first: PromiseLike<EventLogPage>,
    read: () => unknown,
    take: (page: EventLogPage) => void,
  ): Promise<void> {
    try {
      take(await first)
      // What was logged while a page was read is read again; only a connection that missed nothing goes live.
      while (!connection.closed && connection.missed > connection.sent) {
        const before = connection.sent
        take((await read()) as EventLogPage)
        if (connection.sent === before) break
      }
      // Appends still on their way to the log come through #deliver, in order.
      this.#goLive(connection)
    } catch (thrown) {
      this.#replayFailed(connection, thrown)
    }
  }

  /** Writes a page. `gap` is the highest position that may be missing from it. */
  #writePage(
    connection: SseConnection,
    page: readonly LoggedEvent[],
    gap: number,
    announcesGap: boolean,
    onGap: ((write: (data: string) => void) => void) | undefined,
  ): void {
    let events = page
    if (gap > connection.sent && announcesGap) {
      onGap?.((data) => connection.send(data, undefined, false))
      events = this.#withMissingAnswers(page, connection.sent, gap)
    }
    for (const event of events) {
      if (event.position <= connection.sent) continue
      if (!connection.send(event.data, this.#context.eventId(this.number, event.position), false)) return
      connection.sent = event.position
      this.#took(event.position)
    }
    connection.sent = Math.max(connection.sent, gap)
  }

  /** Answers that are gone before the client came for them are replaced by an error: a call is never left without an answer. */
  #withMissingAnswers(page: readonly LoggedEvent[], after: number, gap: number): readonly LoggedEvent[] {
    const kept = new Set(page.map(({ position }) => position))
    const missing = (this.#answers ?? []).filter(
      ({ position }) => position > after && position <= gap && !kept.has(position),
    )
    if (missing.length === 0) return page
    const errors = missing.map(({ position, id }) => ({
      position,
      data: errorBody(JsonRpcErrorCode.INTERNAL_ERROR, 'result no longer available', id),
    }))
    return [...page, ...errors].sort((a, b) => a.position - b.position)
  }

  #goLive(connection: SseConnection): void {
    connection.replaying = false
    if (connection.closed || this.#connection !== connection) return
    if (this.#finished) this.#endInOrder()
    else connection.flush()
  }

  /** Ends the connection after what a slow log has still to take; not one that takes its place meanwhile, which has its own replay to end. */
  #endInOrder(): void {
    const connection = this.#connection
    const end = (): void => connection?.end(this.#retry)
    if (this.#inOrder === undefined) end()
    else this.#inOrder = this.#inOrder.then(end)
  }

  #replayFailed(connection: SseConnection, thrown: unknown): void {
    this.#context.logFailed(thrown)
    connection.replaying = false
    // Going live now would be a silent gap; a cut lets the client try again from its cursor.
    connection.destroy()
  }
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  )
}
