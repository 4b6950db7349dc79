/** A session store as slow as a disk: what it was given takes effect after a while, in order; what it did not get to is lost in a crash. */

import type { MemorySessionStore } from '../../src/store/memory-store.ts'
import type {
  SessionStore,
  StoredSession,
  StoredUse,
  StoreEvents,
  StoreOwnership,
} from '../../src/store/session-store.ts'
import type { EventLog, EventLogPage, RestoredStream } from '../../src/stream/event-log.ts'
import type { RequestId } from '../../src/types.ts'

/** Puts every operation of another store off. */
export class SlowStore implements SessionStore {
  readonly eventLog: EventLog
  readonly #inner: MemorySessionStore
  readonly #delay: () => Promise<unknown>
  #last: Promise<unknown> = Promise.resolve()

  constructor(inner: MemorySessionStore, delay: () => Promise<unknown>) {
    this.#inner = inner
    this.#delay = delay
    this.eventLog = new SlowLog(inner.eventLog, (work) => this.#queue(work))
  }

  open(events: StoreEvents, signal: AbortSignal): Promise<StoreOwnership> {
    return this.#inner.open(events, signal)
  }

  async *load(): AsyncGenerator<readonly StoredSession[]> {
    await this.#queue(() => Promise.resolve())
    yield* this.#inner.load()
  }

  save(session: StoredSession): Promise<void> {
    return this.#queue(() => this.#inner.save(session))
  }

  touch(at: number, uses: readonly StoredUse[]): Promise<void> {
    return this.#queue(() => this.#inner.touch(at, uses))
  }

  delete(key: string): Promise<void> {
    return this.#queue(() => this.#inner.delete(key))
  }

  close(): Promise<void> {
    return this.#queue(() => this.#inner.close())
  }

  #queue<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(this.#delay).then(work)
    this.#last = done.catch(() => {})
    return done
  }
}

/** The events beside the sessions, in the same queue. */
class SlowLog implements EventLog {
  readonly #inner: EventLog
  readonly #queue: <T>(work: () => Promise<T>) => Promise<T>

  constructor(inner: EventLog, queue: <T>(work: () => Promise<T>) => Promise<T>) {
    this.#inner = inner
    this.#queue = queue
  }

  append(session: string, stream: number, position: number, data: string, answer?: RequestId): Promise<void> {
    return this.#queue(async () => this.#inner.append(session, stream, position, data, answer))
  }

  read(session: string, stream: number, after: number): Promise<EventLogPage> {
    return this.#queue(async () => this.#inner.read(session, stream, after))
  }

  openStream(session: string, stream: number, requests: readonly RequestId[]): Promise<void> {
    return this.#queue(async () => this.#inner.openStream?.(session, stream, requests))
  }

  dropStream(session: string, stream: number): Promise<void> {
    return this.#queue(async () => this.#inner.dropStream(session, stream))
  }

  dropSession(session: string): Promise<void> {
    return this.#queue(async () => this.#inner.dropSession(session))
  }

  async *restore(): AsyncGenerator<readonly RestoredStream[]> {
    yield* this.#inner.restore?.() ?? []
  }

  close(): void {}
}
