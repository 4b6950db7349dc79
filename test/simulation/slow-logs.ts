/** Event logs that are worse than memory: slow as a disk, or full. */

import type { Awaitable, EventLog, EventLogPage } from '../../src/stream/event-log.ts'
import type { VirtualClock } from '../support/virtual-clock.ts'

/** Delays every operation of another log, in order. */
export class DelayedLog implements EventLog {
  readonly #inner: EventLog
  readonly #clock: VirtualClock
  readonly #delay: () => number
  #last: Promise<unknown> = Promise.resolve()
  /** Operations that are not done. */
  waiting = 0

  constructor(inner: EventLog, clock: VirtualClock, delay: () => number) {
    this.#inner = inner
    this.#clock = clock
    this.#delay = delay
  }

  append(session: string, stream: number, position: number, data: string): Awaitable<void> {
    return this.#queue(() => this.#inner.append(session, stream, position, data))
  }

  read(session: string, stream: number, after: number): Awaitable<EventLogPage> {
    return this.#queue(() => this.#inner.read(session, stream, after))
  }

  dropStream(session: string, stream: number): Awaitable<void> {
    return this.#queue(() => this.#inner.dropStream(session, stream))
  }

  dropSession(session: string): Awaitable<void> {
    return this.#queue(() => this.#inner.dropSession(session))
  }

  close(): Awaitable<void> {
    return this.#queue(() => this.#inner.close())
  }

  #queue<T>(operation: () => Awaitable<T>): Promise<T> {
    const run = this.#last.then(async () => {
      const delay = this.#delay()
      if (delay > 0) await this.#clock.sleep(delay)
      return await operation()
    })
    this.waiting += 1
    this.#last = run.catch(() => {}).then(() => (this.waiting -= 1))
    return run
  }
}

/** Refuses some appends: a full disk. */
export class FailingLog implements EventLog {
  readonly #inner: EventLog
  readonly #fails: () => boolean

  constructor(inner: EventLog, fails: () => boolean) {
    this.#inner = inner
    this.#fails = fails
  }

  append(session: string, stream: number, position: number, data: string): Awaitable<void> {
    if (this.#fails()) throw new Error('the log is full')
    if (this.#fails()) return Promise.reject(new Error('the log is full, as it turned out'))
    return this.#inner.append(session, stream, position, data)
  }

  read(session: string, stream: number, after: number): Awaitable<EventLogPage> {
    return this.#inner.read(session, stream, after)
  }

  dropStream(session: string, stream: number): Awaitable<void> {
    return this.#inner.dropStream(session, stream)
  }

  dropSession(session: string): Awaitable<void> {
    return this.#inner.dropSession(session)
  }

  close(): Awaitable<void> {
    return this.#inner.close()
  }
}
