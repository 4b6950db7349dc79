/** An event log whose operations take time, one after another as on a disk; and what a run knows of it. */

import type { Awaitable, EventLog, EventLogPage } from '../../src/stream/event-log.ts'
import type { VirtualClock } from '../support/virtual-clock.ts'

/** Delays every operation of another log, in order. */
export class DelayedLog implements EventLog {
  readonly #inner: EventLog
  readonly #clock: VirtualClock
  readonly #delay: () => number
  #last: Promise<unknown> = Promise.resolve()

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
    this.#last = run.catch(() => {})
    return run
  }
}
