/** An event log whose every step is taken by a test: what is stored, when that is told, what a read sees and when it answers. */

import type { EventLog, EventLogPage } from '../../src/stream/event-log.ts'
import { type Deferred, deferred } from '../support/deferred.ts'

interface Append {
  readonly stream: number
  readonly position: number
  readonly data: string
  readonly done: Deferred<void>
  committed: boolean
}

interface Read {
  readonly stream: number
  readonly after: number
  readonly done: Deferred<EventLogPage>
  page: EventLogPage | undefined
}

/** Keeps the order of appends, as every log must; all else happens when the test says so. */
export class ManualLog implements EventLog {
  readonly #stored: Append[] = []
  #appends: Append[] = []
  #reads: Read[] = []
  #trimmed = new Map<number, number>()

  /** Operations that are not answered. */
  get waiting(): number {
    return this.#appends.length + this.#reads.length
  }

  append(_session: string, stream: number, position: number, data: string): Promise<void> {
    const append: Append = { stream, position, data, done: deferred(), committed: false }
    this.#appends.push(append)
    return append.done.promise
  }

  read(_session: string, stream: number, after: number): Promise<EventLogPage> {
    const read: Read = { stream, after, done: deferred(), page: undefined }
    this.#reads.push(read)
    return read.done.promise
  }

  dropStream(): void {}
  dropSession(): void {}
  close(): void {}

  /** Whether an event is stored. */
  has(stream: number, position: number): boolean {
    return this.#stored.some((event) => event.stream === stream && event.position === position)
  }

  /** Stores the next event. */
  commit(): void {
    const append = this.#appends.find(({ committed }) => !committed)
    if (append === undefined) return
    append.committed = true
    this.#stored.push(append)
  }

  /** Tells of one that is stored, whichever. */
  acknowledge(which: number): void {
    const stored = this.#appends.filter(({ committed }) => committed)
    const append = stored[which % Math.max(stored.length, 1)]
    if (append === undefined) return
    this.#appends = this.#appends.filter((other) => other !== append)
    append.done.resolve()
  }

  /** Does not store the next event, and says so. Gives its position. */
  failAppend(): number | undefined {
    const append = this.#appends.find(({ committed }) => !committed)
    if (append === undefined) return undefined
    this.#appends = this.#appends.filter((other) => other !== append)
    append.done.reject(new Error('disk full'))
    return append.position
  }

  /** Trims the oldest event that is stored. Gives its position. */
  trim(): number | undefined {
    const oldest = this.#stored.shift()
    if (oldest !== undefined) this.#trimmed.set(oldest.stream, oldest.position)
    return oldest?.position
  }

  /** Lets one read see what is stored now. */
  look(which: number): void {
    const read = this.#reads[which % Math.max(this.#reads.length, 1)]
    if (read !== undefined) read.page ??= this.#pageOf(read)
  }

  /** Answers one read with what it saw. */
  answer(which: number): void {
    const read = this.#take(which)
    read?.done.resolve(read.page ?? this.#pageOf(read))
  }

  /** Lets one read fail. */
  failRead(which: number): boolean {
    const read = this.#take(which)
    read?.done.reject(new Error('disk gone'))
    return read !== undefined
  }

  #take(which: number): Read | undefined {
    const [read] = this.#reads.splice(which % Math.max(this.#reads.length, 1), 1)
    return read
  }

  #pageOf({ stream, after }: Read): EventLogPage {
    const events = this.#stored.filter((event) => event.stream === stream && event.position > after)
    return {
      events: events.map(({ position, data }) => ({ position, data })),
      trimmed: this.#trimmed.get(stream) ?? 0,
    }
  }
}
