/** The events and streams of a SQLite store: bounded like those in memory, and each row checked before it is believed. */

import type { EventLogPage, LoggedAnswer, LoggedEvent, RestoredStream } from '../../stream/event-log.ts'
import type { EventLogLimits } from '../../stream/memory-event-log.ts'
import type { RequestId } from '../../types.ts'
import { checksum, placeCheck } from './checksum.ts'
import type { SqlDatabase, SqlRow, SqlStatement } from './driver.ts'
import type { StreamCursor, StreamPage } from './operations.ts'

/** Creates what this file reads and writes. No index: where a session's events are is known in memory, so that appending only appends. */
export const EVENT_SCHEMA = `
  CREATE TABLE streams (
    session TEXT NOT NULL,
    stream INTEGER NOT NULL,
    requests TEXT NOT NULL,
    answers TEXT NOT NULL,
    position INTEGER NOT NULL,
    trimmed INTEGER NOT NULL,
    sum TEXT NOT NULL,
    PRIMARY KEY (session, stream)
  ) WITHOUT ROWID;
  CREATE TABLE events (
    seq INTEGER PRIMARY KEY NOT NULL,
    session TEXT NOT NULL,
    stream INTEGER NOT NULL,
    position INTEGER NOT NULL,
    previous INTEGER NOT NULL,
    at INTEGER NOT NULL,
    data TEXT NOT NULL,
    place INTEGER NOT NULL,
    sum TEXT NOT NULL
  );
`

/** What an event costs beside its data, in the file: its other columns and its share of a page. */
const EVENT_OVERHEAD = 160

/** So many rows are read at once. */
const PAGE = 500

/** Where it is not known whose the damaged events were, positions go on this far behind what may have been given away, per event. */
const UNKNOWN_GAP = 1000

interface StreamState {
  requests: readonly RequestId[]
  readonly answers: LoggedAnswer[]
  position: number
  trimmed: number
  /** The last event that was found when the file was read. */
  seen: number
  /** Differs from its row. */
  dirty: boolean
}

/** What is known in memory about a session that has events: four columns of its rows, oldest first. */
interface SessionLog {
  seqs: number[]
  streams: number[]
  positions: number[]
  sizes: number[]
  bytes: number
  readonly states: Map<number, StreamState>
}

interface EventRow {
  readonly session: string
  readonly stream: number
  readonly position: number
  readonly previous: number
  readonly at: number
  readonly data: string
}

function integer(column: string): string {
  return `CASE WHEN typeof(${column}) = 'integer' AND ${column} BETWEEN 0 AND 9007199254740991 THEN ${column} END AS ${column}`
}

const EVENT_COLUMNS = `${['seq', 'stream', 'position', 'previous', 'at', 'place'].map(integer).join(', ')}, session, data, sum`
const STREAM_COLUMNS = `session, ${['stream', 'position', 'trimmed'].map(integer).join(', ')}, requests, answers, sum`

/** Reads and writes events; transactions are its caller's, and after one that was rolled back a new table has to be made. */
export class EventTable {
  readonly #limits: EventLogLimits
  readonly #now: () => number
  readonly #warn: (message: string) => void
  readonly #logs = new Map<string, SessionLog>()
  readonly #touched = new Set<string>()
  #nextSeq = 1
  #totalBytes = 0
  #oldestAt = Number.POSITIVE_INFINITY
  /** Whether every event of the file was read, so that {@link EventTable.#logs} has all. */
  #read = false

  readonly #insert: SqlStatement
  readonly #select: SqlStatement
  readonly #first: SqlStatement
  readonly #remove: SqlStatement
  readonly #scan: SqlStatement
  readonly #streamsOf: SqlStatement
  readonly #putStream: SqlStatement
  readonly #removeStream: SqlStatement
  readonly #removeStreams: SqlStatement
  readonly #streamsFrom: SqlStatement

  /** @param now wall clock, milliseconds since the Unix epoch: the age of events outlives the process */
  constructor(db: SqlDatabase, limits: EventLogLimits, now: () => number, warn: (message: string) => void) {
    this.#limits = limits
    this.#now = now
    this.#warn = warn
    this.#insert = db.prepare(
      'INSERT INTO events (seq, session, stream, position, previous, at, data, place, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
    )
    this.#select = db.prepare(`SELECT ${EVENT_COLUMNS} FROM events WHERE seq = ?`)
    this.#first = db.prepare(
      `SELECT ${integer('seq')}, session, ${integer('at')} FROM events ORDER BY events.seq LIMIT 1`,
    )
    this.#remove = db.prepare('DELETE FROM events WHERE seq = ?')
    this.#scan = db.prepare(
      `SELECT ${EVENT_COLUMNS} FROM events WHERE events.seq > ? ORDER BY events.seq LIMIT ${PAGE}`,
    )
    this.#streamsOf = db.prepare(`SELECT ${STREAM_COLUMNS} FROM streams WHERE session = ?`)
    this.#putStream = db.prepare(
      'INSERT INTO streams (session, stream, requests, answers, position, trimmed, sum) VALUES (?, ?, ?, ?, ?, ?, ?) ' +
        'ON CONFLICT (session, stream) DO UPDATE SET requests = excluded.requests, answers = excluded.answers, ' +
        'position = excluded.position, trimmed = excluded.trimmed, sum = excluded.sum',
    )
    this.#removeStream = db.prepare('DELETE FROM streams WHERE session = ? AND stream = ?')
    this.#removeStreams = db.prepare('DELETE FROM streams WHERE session = ?')
    this.#streamsFrom = db.prepare(
      `SELECT ${STREAM_COLUMNS} FROM streams WHERE (streams.session, streams.stream) > (?, ?) ORDER BY streams.session, streams.stream LIMIT ${PAGE}`,
    )
    db.exec('DELETE FROM events WHERE seq NOT BETWEEN 0 AND 9007199254740990')
    this.#readAll()
  }

  /** Bytes of all events, as the limits count them. */
  get totalBytes(): number {
    return this.#totalBytes
  }

  append(
    session: string,
    stream: number,
    position: number,
    data: string,
    answer: RequestId | undefined,
  ): void {
    const log = this.#log(session)
    const state = stateOf(log, stream)
    if (answer !== undefined) {
      state.answers.push({ position, id: answer })
      state.dirty = true
    }
    const size = Buffer.byteLength(data) + EVENT_OVERHEAD
    if (size > Math.min(this.#limits.maxBytes, this.#limits.maxTotalBytes)) {
      // Larger than the whole log: everything before it on this stream would be a gap as well.
      miss(state, position)
      return
    }
    const seq = this.#nextSeq++
    const at = Math.floor(this.#now())
    const { position: previous } = state
    const sum = checksum(seq, session, stream, position, previous, at, data)
    const place = placeCheck(seq, session, stream, position, previous)
    this.#insert.run(seq, session, stream, position, previous, at, data, place, sum)
    state.position = Math.max(state.position, position)
    this.#keep(log, seq, stream, position, size, at)
    while (log.bytes > this.#limits.maxBytes || log.seqs.length > this.#limits.maxEvents) this.#trimFirst(log)
    this.#trimTotal(this.#limits.maxTotalBytes)
  }

  /** An event that could not be kept. */
  miss(session: string, stream: number, position: number): void {
    miss(stateOf(this.#log(session), stream), position)
  }

  read(session: string, stream: number, after: number): EventLogPage {
    this.trimOld()
    const log = this.#log(session)
    const state = log.states.get(stream)
    if (state === undefined) return { events: [], trimmed: 0 }
    const events: LoggedEvent[] = []
    for (let index = log.seqs.length - 1; index >= 0; index--) {
      if (log.streams[index] !== stream) continue
      const position = log.positions[index] ?? 0
      if (position <= after) break
      const seq = log.seqs[index] ?? 0
      const row = eventOf(this.#select.get(seq), seq)
      if (
        row !== undefined &&
        row.session === session &&
        row.stream === stream &&
        row.position === position
      ) {
        events.push({ position, data: row.data })
        continue
      }
      this.#warn(`an event of stream ${stream} was damaged and is dropped; its stream has a gap`)
      this.#remove.run(seq)
      this.#forget(log, index)
      miss(state, position)
    }
    events.reverse()
    return { events, trimmed: state.trimmed }
  }

  openStream(session: string, stream: number, requests: readonly RequestId[]): void {
    const state = stateOf(this.#log(session), stream)
    state.requests = requests
    state.dirty = true
  }

  dropStream(session: string, stream: number): void {
    const log = this.#log(session)
    for (let index = log.seqs.length - 1; index >= 0; index--) {
      if (log.streams[index] !== stream) continue
      this.#remove.run(log.seqs[index] ?? 0)
      this.#forget(log, index)
    }
    log.states.delete(stream)
    this.#removeStream.run(session, stream)
  }

  dropSession(session: string): void {
    const log = this.#logs.get(session)
    if (log !== undefined) {
      for (const seq of log.seqs) this.#remove.run(seq)
      this.#totalBytes -= log.bytes
      this.#logs.delete(session)
    }
    this.#removeStreams.run(session)
  }

  /** The streams after a place, in the order of their keys. */
  streams(after: StreamCursor | undefined): StreamPage {
    const [session, stream] = after ?? ['', -1]
    const rows = this.#streamsFrom.all(session, stream)
    const streams: RestoredStream[] = []
    let next: StreamCursor | undefined
    for (const row of rows) {
      const { session: key, stream: number } = row
      if (typeof key !== 'string' || typeof number !== 'number') continue
      next = [key, number]
      const state = this.#logs.get(key)?.states.get(number) ?? this.#streamOf(row)
      if (state === undefined) continue
      const { requests, position, answers } = state
      streams.push({ session: key, stream: number, requests, position, answers: [...answers] })
    }
    return { streams, next: rows.length < PAGE ? undefined : next }
  }

  /** Removes what is older than its age. */
  trimOld(): void {
    const now = this.#now()
    while (this.#oldestAt + this.#limits.maxAge <= now && this.#trimOldest());
  }

  /** Removes the oldest events of all until no more than so many bytes are left. */
  trimTotal(bytes: number): void {
    this.#trimTotal(bytes)
  }

  /** Writes what has changed of the streams; to be called before each commit. */
  flush(): void {
    for (const session of this.#touched) {
      const log = this.#logs.get(session)
      if (log === undefined) continue
      for (const [stream, state] of log.states) {
        if (!state.dirty) continue
        const { position, trimmed } = state
        const requests = JSON.stringify(state.requests)
        const answers = JSON.stringify(state.answers.map(({ position: at, id }) => [at, id]))
        const sum = checksum(session, stream, requests, answers, position, trimmed)
        this.#putStream.run(session, stream, requests, answers, position, trimmed, sum)
        state.dirty = false
      }
      // A session without events costs no memory here.
      if (log.seqs.length === 0) this.#logs.delete(session)
    }
    this.#touched.clear()
  }

  /** Every stream that has events, and up to which position. */
  *positions(): Generator<readonly [session: string, stream: number, position: number]> {
    for (const [session, log] of this.#logs) {
      for (const [stream, { position }] of log.states) yield [session, stream, position]
    }
  }

  #trimTotal(bytes: number): void {
    while (this.#totalBytes > bytes && this.#trimOldest());
  }

  #trimOldest(): boolean {
    const row = this.#first.get()
    const log = typeof row?.['session'] === 'string' ? this.#logs.get(row['session']) : undefined
    if (row === undefined || log === undefined || log.seqs[0] !== row['seq']) {
      if (row !== undefined)
        throw new Error('the events of the store are not in the order they were written in')
      this.#oldestAt = Number.POSITIVE_INFINITY
      return false
    }
    this.#touched.add(String(row['session']))
    this.#trimFirst(log)
    const { at } = this.#first.get() ?? {}
    this.#oldestAt = typeof at === 'number' ? at : Number.POSITIVE_INFINITY
    return true
  }

  /** Removes the oldest event of a session; it is told as trimmed from then on. */
  #trimFirst(log: SessionLog): void {
    const [seq = 0] = log.seqs
    miss(stateOf(log, log.streams[0] ?? 0), log.positions[0] ?? 0)
    this.#remove.run(seq)
    this.#forget(log, 0)
  }

  #keep(log: SessionLog, seq: number, stream: number, position: number, size: number, at: number): void {
    log.seqs.push(seq)
    log.streams.push(stream)
    log.positions.push(position)
    log.sizes.push(size)
    log.bytes += size
    this.#totalBytes += size
    this.#oldestAt = Math.min(this.#oldestAt, at)
  }

  #forget(log: SessionLog, index: number): void {
    const size = log.sizes[index] ?? 0
    log.bytes -= size
    this.#totalBytes -= size
    for (const column of [log.seqs, log.streams, log.positions, log.sizes]) {
      // shift moves the array's start; splice would move a thousand elements.
      if (index === 0) column.shift()
      else column.splice(index, 1)
    }
  }

  #log(session: string): SessionLog {
    this.#touched.add(session)
    let log = this.#logs.get(session)
    if (log === undefined) {
      log = { seqs: [], streams: [], positions: [], sizes: [], bytes: 0, states: new Map() }
      for (const row of this.#streamsOf.all(session)) {
        const state = this.#streamOf(row)
        if (state === undefined || typeof row['stream'] !== 'number') continue
        log.states.set(row['stream'], state)
        // All is read, and nothing is there of what was appended.
        if (this.#read && state.position > state.trimmed) miss(state, state.position)
      }
      this.#logs.set(session, log)
    }
    return log
  }

  /** A stream as its row has it; undefined for a row that fails its check, which is removed. */
  #streamOf(row: SqlRow): StreamState | undefined {
    const { session, stream, requests, answers, position, trimmed, sum } = row
    if (
      typeof session === 'string' &&
      typeof stream === 'number' &&
      typeof requests === 'string' &&
      typeof answers === 'string' &&
      typeof position === 'number' &&
      typeof trimmed === 'number' &&
      sum === checksum(session, stream, requests, answers, position, trimmed)
    ) {
      const list = JSON.parse(answers) as [number, RequestId][]
      return {
        requests: JSON.parse(requests) as RequestId[],
        answers: list.map(([at, id]) => ({ position: at, id })),
        position,
        trimmed,
        seen: 0,
        dirty: false,
      }
    }
    this.#warn('a stored stream was damaged and is dropped; what it was opened for is not known any more')
    if (typeof session === 'string' && typeof stream === 'number') this.#removeStream.run(session, stream)
    return undefined
  }

  /** Reads every event once: what was damaged is dropped and told as trimmed, what is too old is removed. */
  #readAll(): void {
    let damaged = 0
    let unknown = 0
    for (let after = -1; ;) {
      const rows = this.#scan.all(after)
      for (const raw of rows) {
        const seq = Number(raw['seq'])
        after = seq
        this.#nextSeq = seq + 1
        const row = eventOf(raw, seq)
        if (row === undefined) {
          damaged += 1
          if (!this.#missDamaged(raw, seq)) unknown += 1
          this.#remove.run(seq)
          continue
        }
        const log = this.#log(row.session)
        const state = stateOf(log, row.stream)
        // What lay between is not here any more, and was not trimmed either.
        if (row.previous > Math.max(state.trimmed, state.seen)) miss(state, row.previous)
        state.position = Math.max(state.position, row.position)
        state.seen = row.position
        this.#keep(log, seq, row.stream, row.position, Buffer.byteLength(row.data) + EVENT_OVERHEAD, row.at)
      }
      if (rows.length < PAGE) break
    }
    this.#read = true
    for (const { states } of this.#logs.values()) {
      // The last ones are not there.
      for (const state of states.values())
        if (state.position > Math.max(state.trimmed, state.seen)) miss(state, state.position)
    }
    if (damaged > 0)
      this.#warn(`${damaged} stored events were damaged and are dropped; their streams have gaps`)
    if (unknown > 0) this.#missEverywhere(unknown)
    this.trimOld()
    this.#trimTotal(this.#limits.maxTotalBytes)
    for (const log of this.#logs.values()) {
      while (log.bytes > this.#limits.maxBytes || log.seqs.length > this.#limits.maxEvents)
        this.#trimFirst(log)
    }
    for (const session of this.#logs.keys()) this.#touched.add(session)
  }

  /** Tells the stream of a damaged event about its gap; false when it cannot be known which one that is. */
  #missDamaged(row: SqlRow, seq: number): boolean {
    const { session, stream, position, previous, place } = row
    if (typeof session !== 'string' || typeof stream !== 'number') return false
    if (typeof position !== 'number' || typeof previous !== 'number') return false
    if (place !== placeCheck(seq, session, stream, position, previous)) return false
    this.miss(session, stream, position)
    return true
  }

  /** Events were damaged so that nobody knows whose they were: every stream may have lost them, and says so. */
  #missEverywhere(events: number): void {
    this.#warn('of damaged events it is not known which stream they were of; every stream has a gap')
    for (let after: StreamCursor | undefined; ;) {
      const page = this.streams(after)
      for (const { session, stream } of page.streams) {
        const state = stateOf(this.#log(session), stream)
        miss(state, state.position + UNKNOWN_GAP * events)
      }
      after = page.next
      if (after === undefined) break
    }
    for (const log of this.#logs.values()) {
      for (const state of log.states.values())
        if (!(state.trimmed >= state.position)) miss(state, state.position + UNKNOWN_GAP * events)
    }
  }
}

function stateOf(log: SessionLog, stream: number): StreamState {
  let state = log.states.get(stream)
  if (state === undefined) {
    state = { requests: [], answers: [], position: 0, trimmed: 0, seen: 0, dirty: true }
    log.states.set(stream, state)
  }
  return state
}

/** From here on everything up to this position counts as trimmed. */
function miss(state: StreamState, position: number): void {
  state.position = Math.max(state.position, position)
  state.trimmed = Math.max(state.trimmed, position)
  state.dirty = true
}

/** An event as its row has it; undefined for a row that fails its check. */
function eventOf(row: SqlRow | undefined, seq: number): EventRow | undefined {
  if (row === undefined) return undefined
  const { session, stream, position, previous, at, data, sum } = row
  if (typeof session !== 'string' || typeof data !== 'string' || typeof at !== 'number') return undefined
  if (typeof stream !== 'number' || typeof position !== 'number' || typeof previous !== 'number')
    return undefined
  if (sum !== checksum(seq, session, stream, position, previous, at, data)) return undefined
  return { session, stream, position, previous, at, data }
}
