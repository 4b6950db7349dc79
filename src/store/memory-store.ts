/** A session store in memory: for tests, which restart an app in one process. It outlives the app, not the process. */

import { type Clock, systemClock } from '../clock.ts'
import { SojournError } from '../errors.ts'
import type { EventLog, EventLogPage, RestoredStream } from '../stream/event-log.ts'
import { type EventLogLimits, MemoryEventLog } from '../stream/memory-event-log.ts'
import type { RequestId } from '../types.ts'
import type { SessionStore, StoredSession, StoredUse, StoreEvents, StoreOwnership } from './session-store.ts'

/** What a {@link MemorySessionStore} is made with. */
export interface MemoryStoreOptions {
  /** By which events age; default the system's. */
  readonly clock?: Clock
  /** Bounds of the events; defaults as those of an app. */
  readonly eventLog?: Partial<EventLogLimits>
  /** Awaited before each operation resolves: where a test holds writes up, or lets them take time. */
  readonly settle?: (() => Promise<void>) | undefined
}

interface KeptStream {
  requests: readonly RequestId[]
  position: number
  readonly answers: { position: number; id: RequestId }[]
}

/** What all handles of one store share, as processes share a file. */
class Memory {
  readonly clock: Clock
  readonly limits: EventLogLimits
  readonly settle: (() => Promise<void>) | undefined
  sessions = new Map<string, StoredSession>()
  streams = new Map<string, Map<number, KeptStream>>()
  events: MemoryEventLog
  epoch = 0
  aliveAt: number | undefined
  owner: MemorySessionStore | undefined
  readonly waiting = new Set<() => void>()

  constructor({ clock = systemClock, eventLog = {}, settle }: MemoryStoreOptions) {
    this.clock = clock
    this.settle = settle
    this.limits = {
      maxBytes: 1024 ** 2,
      maxEvents: 1000,
      maxAge: 600_000,
      maxTotalBytes: 256 * 1024 ** 2,
      ...eventLog,
    }
    this.events = new MemoryEventLog(clock, this.limits)
  }

  release(owner: MemorySessionStore): void {
    if (this.owner !== owner) return
    this.owner = undefined
    for (const wake of this.waiting) wake()
  }
}

/**
 * A {@link SessionStore} that an app in the same process can take over from another one. One object is the store as one app sees it;
 * {@link MemorySessionStore.successor} gives the next app's, over the same sessions and events.
 */
export class MemorySessionStore implements SessionStore {
  readonly eventLog: EventLog
  readonly #memory: Memory
  #events: StoreEvents | undefined
  /** Why nothing is taken; undefined while this is the owner and works. */
  #refusal: string | undefined = 'The store is not open yet.'

  constructor(options: MemoryStoreOptions = {}) {
    const { memory = new Memory(options) } = options as { memory?: Memory }
    this.#memory = memory
    this.eventLog = new StoredEventLog(memory, (work) => this.#do(work))
  }

  /** The same store as the next app sees it, which has to open it. */
  successor(): MemorySessionStore {
    return new MemorySessionStore({ memory: this.#memory } as MemoryStoreOptions)
  }

  /** Sessions that are kept now. */
  get size(): number {
    return this.#memory.sessions.size
  }

  async open(events: StoreEvents, signal: AbortSignal): Promise<StoreOwnership> {
    const memory = this.#memory
    let told = false
    while (memory.owner !== undefined) {
      if (!told) events.waiting()
      told = true
      await untilWoken(memory, signal)
    }
    if (signal.aborted) throw new SojournError('store-unavailable', 'Waiting for the store was given up.')
    memory.owner = this
    memory.epoch += 1
    this.#events = events
    this.#refusal = undefined
    return { epoch: memory.epoch, aliveAt: memory.aliveAt }
  }

  async *load(): AsyncGenerator<readonly StoredSession[]> {
    const all = await this.#do(() => [...this.#memory.sessions.values()])
    for (let index = 0; index < all.length; index += 500) yield all.slice(index, index + 500)
  }

  async save(session: StoredSession): Promise<void> {
    const { key, label, record, idleSince } = session
    await this.#do(() => this.#memory.sessions.set(key, { key, label, record, idleSince }))
  }

  async touch(at: number, uses: readonly StoredUse[]): Promise<void> {
    await this.#do(() => {
      const { sessions } = this.#memory
      this.#memory.aliveAt = at
      for (const { key, idleSince } of uses) {
        const session = sessions.get(key)
        if (session !== undefined) sessions.set(key, { ...session, idleSince })
      }
    })
  }

  async delete(key: string): Promise<void> {
    await this.#do(() => {
      this.#memory.sessions.delete(key)
      this.#memory.streams.delete(key)
      this.#memory.events.dropSession(key)
    })
  }

  async close(): Promise<void> {
    // What was called before is done already; whoever awaits it goes first.
    await this.#memory.settle?.()
    this.kill('The store is closed.')
  }

  /** As `kill -9` of the process that owns it: nothing more is written, and the next one may open it. */
  kill(reason = 'The process of the store was killed.'): void {
    this.#refusal = reason
    this.#memory.release(this)
  }

  /** From now on everything is refused with this message, until {@link MemorySessionStore.recover}. */
  fail(message: string): void {
    this.#refusal = message
    this.#events?.failing(new SojournError('store-unavailable', message))
  }

  /** It works again; `emptied` as when its file had been deleted. */
  recover(emptied = false): void {
    const memory = this.#memory
    if (emptied) {
      memory.sessions.clear()
      memory.streams.clear()
      memory.events.close()
    }
    this.#refusal = undefined
    this.#events?.recovered(emptied)
  }

  /** Another process has taken it. */
  lose(): void {
    this.kill('The store was taken over by another process.')
    this.#events?.lost(new SojournError('store-unavailable', 'The store was taken over by another process.'))
  }

  /** Does something at once, so that operations take effect in the order of the calls. */
  async #do<T>(work: () => T): Promise<T> {
    if (this.#refusal !== undefined) throw new SojournError('store-unavailable', this.#refusal)
    const result = work()
    await this.#memory.settle?.()
    return result
  }
}

function untilWoken(memory: Memory, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      memory.waiting.delete(wake)
      signal.removeEventListener('abort', abort)
    }
    const wake = (): void => {
      end()
      resolve()
    }
    const abort = (): void => {
      end()
      reject(new SojournError('store-unavailable', 'Waiting for the store was given up.'))
    }
    memory.waiting.add(wake)
    signal.addEventListener('abort', abort)
    if (signal.aborted) abort()
  })
}

/** The events beside the sessions. */
class StoredEventLog implements EventLog {
  readonly #memory: Memory
  readonly #do: <T>(work: () => T) => Promise<T>

  constructor(memory: Memory, run: <T>(work: () => T) => Promise<T>) {
    this.#memory = memory
    this.#do = run
  }

  append(session: string, stream: number, position: number, data: string, answer?: RequestId): Promise<void> {
    return this.#do(() => {
      const kept = this.#stream(session, stream)
      kept.position = Math.max(kept.position, position)
      if (answer !== undefined) kept.answers.push({ position, id: answer })
      this.#memory.events.append(session, stream, position, data)
    })
  }

  read(session: string, stream: number, after: number): Promise<EventLogPage> {
    return this.#do(() => this.#memory.events.read(session, stream, after))
  }

  openStream(session: string, stream: number, requests: readonly RequestId[]): Promise<void> {
    return this.#do(() => {
      this.#stream(session, stream).requests = [...requests]
    })
  }

  dropStream(session: string, stream: number): Promise<void> {
    return this.#do(() => {
      this.#memory.streams.get(session)?.delete(stream)
      this.#memory.events.dropStream(session, stream)
    })
  }

  dropSession(session: string): Promise<void> {
    return this.#do(() => {
      this.#memory.streams.delete(session)
      this.#memory.events.dropSession(session)
    })
  }

  async *restore(): AsyncGenerator<readonly RestoredStream[]> {
    const all = await this.#do(() => {
      const streams: RestoredStream[] = []
      for (const [session, ofSession] of this.#memory.streams) {
        for (const [stream, { requests, position, answers }] of ofSession)
          streams.push({ session, stream, requests, position, answers: [...answers] })
      }
      return streams
    })
    for (let index = 0; index < all.length; index += 500) yield all.slice(index, index + 500)
  }

  /** What is kept is for the next app. */
  close(): void {}

  #stream(session: string, stream: number): KeptStream {
    let ofSession = this.#memory.streams.get(session)
    if (ofSession === undefined) this.#memory.streams.set(session, (ofSession = new Map()))
    let kept = ofSession.get(stream)
    if (kept === undefined) ofSession.set(stream, (kept = { requests: [], position: 0, answers: [] }))
    return kept
  }
}
