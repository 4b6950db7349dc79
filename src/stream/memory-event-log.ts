/** The event log in memory: bounded per session in bytes, count and age, and in bytes for all sessions together. */

import type { Clock } from '../clock.ts'
import { DeadlineCall, Deadlines } from '../deadlines.ts'
import type { EventLog, EventLogPage, LoggedEvent } from './event-log.ts'

/** The bounds of a {@link MemoryEventLog}. Bytes are those of the serialized message in UTF-8, plus a fixed cost per event. */
export interface EventLogLimits {
  /** Most bytes of one session; default 1 MiB. */
  readonly maxBytes: number
  /** Most events of one session; default 1,000. */
  readonly maxEvents: number
  /** Oldest event in milliseconds; default 10 minutes. */
  readonly maxAge: number
  /** Most bytes of all sessions together; default 256 MiB. */
  readonly maxTotalBytes: number
}

/** What an event costs beside its data: the node and its place in two lists. */
const EVENT_OVERHEAD = 120

class Entry implements LoggedEvent {
  readonly log: SessionLog
  readonly stream: number
  readonly position: number
  readonly data: string
  readonly bytes: number
  readonly at: number
  nextOfAll: Entry | undefined
  previousOfAll: Entry | undefined

  constructor(log: SessionLog, stream: number, position: number, data: string, at: number) {
    this.log = log
    this.stream = stream
    this.position = position
    this.data = data
    this.bytes = Buffer.byteLength(data) + EVENT_OVERHEAD
    this.at = at
  }
}

interface SessionLog {
  readonly session: string
  /** In the order of appending, over all streams. */
  entries: (Entry | undefined)[]
  /** Entries before this index are gone; the array is cut when half of it is. */
  first: number
  bytes: number
  /** Highest trimmed position per stream. */
  readonly trimmed: Map<number, number>
}

/** An {@link EventLog} that answers at once and is gone with the process. */
export class MemoryEventLog implements EventLog {
  readonly #clock: Clock
  readonly #limits: EventLogLimits
  readonly #deadlines: Deadlines
  readonly #sweep = new DeadlineCall(() => this.#trimOld())
  readonly #sessions = new Map<string, SessionLog>()
  #oldest: Entry | undefined
  #newest: Entry | undefined
  #totalBytes = 0

  constructor(clock: Clock, limits: EventLogLimits) {
    this.#clock = clock
    this.#limits = limits
    this.#deadlines = new Deadlines(clock, () => {})
  }

  /** Bytes held now, over all sessions. */
  get totalBytes(): number {
    return this.#totalBytes
  }

  append(session: string, stream: number, position: number, data: string): void {
    let log = this.#sessions.get(session)
    if (log === undefined) {
      log = { session, entries: [], first: 0, bytes: 0, trimmed: new Map() }
      this.#sessions.set(session, log)
    }
    const entry = new Entry(log, stream, position, data, this.#clock.now())
    if (entry.bytes > Math.min(this.#limits.maxBytes, this.#limits.maxTotalBytes)) {
      // Larger than the whole log: everything before it on this stream would be a gap as well.
      log.trimmed.set(stream, position)
      return
    }
    log.entries.push(entry)
    log.bytes += entry.bytes
    this.#totalBytes += entry.bytes
    entry.previousOfAll = this.#newest
    if (this.#newest === undefined) this.#oldest = entry
    else this.#newest.nextOfAll = entry
    this.#newest = entry

    while (log.bytes > this.#limits.maxBytes || log.entries.length - log.first > this.#limits.maxEvents)
      this.#trimFirst(log)
    while (this.#totalBytes > this.#limits.maxTotalBytes && this.#oldest !== undefined)
      this.#trimFirst(this.#oldest.log)
    if (!this.#sweep.armed) this.#armSweep()
  }

  read(session: string, stream: number, after: number): EventLogPage {
    this.#trimOld()
    const log = this.#sessions.get(session)
    if (log === undefined) return { events: [], trimmed: 0 }
    const events: LoggedEvent[] = []
    for (let index = log.first; index < log.entries.length; index++) {
      const entry = log.entries[index]
      if (entry !== undefined && entry.stream === stream && entry.position > after) events.push(entry)
    }
    return { events, trimmed: log.trimmed.get(stream) ?? 0 }
  }

  dropStream(session: string, stream: number): void {
    const log = this.#sessions.get(session)
    if (log === undefined) return
    log.trimmed.delete(stream)
    const kept: Entry[] = []
    for (let index = log.first; index < log.entries.length; index++) {
      const entry = log.entries[index]
      if (entry === undefined) continue
      if (entry.stream === stream) this.#forget(entry)
      else kept.push(entry)
    }
    log.entries = kept
    log.first = 0
    if (kept.length === 0 && log.trimmed.size === 0) this.#sessions.delete(session)
    this.#stopSweepWhenEmpty()
  }

  dropSession(session: string): void {
    const log = this.#sessions.get(session)
    if (log === undefined) return
    this.#sessions.delete(session)
    for (let index = log.first; index < log.entries.length; index++) {
      const entry = log.entries[index]
      if (entry !== undefined) this.#forget(entry)
    }
    this.#stopSweepWhenEmpty()
  }

  close(): void {
    this.#sessions.clear()
    this.#oldest = undefined
    this.#newest = undefined
    this.#totalBytes = 0
    this.#deadlines.disarm(this.#sweep)
  }

  /** Removes the oldest event of a session; it is told as trimmed from then on. */
  #trimFirst(log: SessionLog): void {
    const entry = log.entries[log.first]
    if (entry === undefined) return
    // The array is cut later; what was trimmed must not live as long.
    log.entries[log.first] = undefined
    log.first += 1
    if (log.first > 32 && log.first * 2 > log.entries.length) {
      log.entries = log.entries.slice(log.first)
      log.first = 0
    }
    log.trimmed.set(entry.stream, Math.max(log.trimmed.get(entry.stream) ?? 0, entry.position))
    this.#forget(entry)
  }

  #forget(entry: Entry): void {
    entry.log.bytes -= entry.bytes
    this.#totalBytes -= entry.bytes
    if (entry.previousOfAll === undefined) this.#oldest = entry.nextOfAll
    else entry.previousOfAll.nextOfAll = entry.nextOfAll
    if (entry.nextOfAll === undefined) this.#newest = entry.previousOfAll
    else entry.nextOfAll.previousOfAll = entry.previousOfAll
  }

  #trimOld(): void {
    const now = this.#clock.now()
    // The sum that the sweep is armed with: rounded otherwise, the sweep would be due for ever with nothing to trim.
    while (this.#oldest !== undefined && this.#oldest.at + this.#limits.maxAge <= now) {
      this.#trimFirst(this.#oldest.log)
    }
    this.#armSweep()
  }

  /** Appends come in the order of time, so the oldest entry of all is the next to age out. */
  #armSweep(): void {
    if (this.#oldest !== undefined) this.#deadlines.armAt(this.#sweep, this.#oldest.at + this.#limits.maxAge)
    else this.#deadlines.disarm(this.#sweep)
  }

  #stopSweepWhenEmpty(): void {
    if (this.#oldest === undefined) this.#deadlines.disarm(this.#sweep)
  }
}
