/** Sessions and their store: all of them are in memory, and what a restart must not lose is written before anyone relies on it. */

import type { Clock } from '../clock.ts'
import { DeadlineCall, type Deadlines } from '../deadlines.ts'
import { messageOf, SojournError } from '../errors.ts'
import type { Log } from '../logging.ts'
import type { SessionStore, StoredSession, StoredUse, StoreOwnership } from '../store/session-store.ts'
import type { EventLog, RestoredStream } from '../stream/event-log.ts'
import type { Keeper } from './runtime.ts'
import { type Session, sessionKey } from './session.ts'
import { recordToJson } from './stored-record.ts'

/** How often the process says that it lives, and what may wait is written, in milliseconds. */
const TICK = 1_000

/** How long a sign of life may be on its way to the store while the process dies, in milliseconds. */
const STAMP_DELAY = 500

/** A session must be idle for this long to be written as idle, in milliseconds: one that is called every second is not worth it. */
const SETTLED = 3_000

/** The wall clock was set, rather than adjusted, when it moved by more than this against the monotonic one, in milliseconds. */
const WALL_STEP = 500

/** Numbers that each owner of a store may give out per session, so that none repeats what a dead one gave out. */
const SERVER_REQUESTS_PER_EPOCH = 1_000_000_000
const STREAMS_PER_EPOCH = 10_000_000
const PRIMINGS_PER_EPOCH = 10_000_000

/**
 * - `opening`: nothing is known yet; requests wait.
 * - `waiting`: another process owns the store.
 * - `ready`: every session is in memory.
 * - `unusable`: the store cannot be used at all.
 * - `lost`: another process has taken it.
 * - `closed`: given up.
 */
export type PersistenceState = 'opening' | 'waiting' | 'ready' | 'unusable' | 'lost' | 'closed'

/** What {@link Persistence} needs of its manager. */
export interface PersistenceHost {
  readonly clock: Clock
  readonly deadlines: Deadlines
  readonly log: Log
  readonly eventLog: EventLog | undefined
  /** Puts a session from the store in the table; undefined when its record cannot be read. */
  restore(stored: StoredSession, times: RestoredTimes): Session | undefined
  /** All sessions. */
  sessions(): Iterable<Session>
  /** Another process serves the sessions now: nothing may be served here any more. */
  lost(): void
}

/** What a restored session continues from. */
export interface RestoredTimes {
  /** Monotonic time since which nothing holds the session; may be before this process. */
  readonly idleSince: number
  /** Numbers of server→client requests, of streams and of priming events start above these. */
  readonly serverRequests: number
  readonly streams: number
  readonly primings: number
}

/** A session that ended; whether that is durable, once it is known. */
interface Ending {
  readonly principal: string | undefined
  readonly durable: Promise<boolean>
}

/** Keeps the sessions of one manager in a store. */
export class Persistence implements Keeper {
  readonly #store: SessionStore
  #host: PersistenceHost | undefined
  #state: PersistenceState = 'opening'
  /** Resolves when requests can be answered, with sessions or with a refusal; rejects when the store cannot be used. */
  #opened: Promise<void> = Promise.resolve()
  #stampedAt = Number.NEGATIVE_INFINITY
  /** Wall clock minus monotonic clock, by which the times in the store are meant. */
  #wallOffset = 0
  readonly #giveUp = new AbortController()
  readonly #tick = new DeadlineCall(() => this.#onTick())
  /** Sessions with something to write that nobody waits for. */
  readonly #unwritten = new Set<Session>()
  /** Sessions that became idle since they were last written. */
  readonly #idling = new Set<Session>()
  /** The last write of a session that is on its way. */
  readonly #writing = new Map<Session, Promise<void>>()
  /** Sessions that ended, by key, until the store knows. */
  readonly #ending = new Map<string, Ending>()
  /** Those whose end the store did not take yet. */
  readonly #undeleted = new Map<string, string | undefined>()
  readonly #leaving: StoredUse[] = []
  /** Keys of sessions that were in use until the end of the process: they are idle when their clients have been answered. */
  readonly #leavingBusy: string[] = []

  constructor(store: SessionStore) {
    this.#store = store
  }

  get state(): PersistenceState {
    return this.#state
  }

  /** Resolves when requests can be answered, be it by a refusal because another process owns the store. */
  get opened(): Promise<void> {
    return this.#opened
  }

  /** Begins to own the store and loads what it has. */
  begin(host: PersistenceHost): void {
    this.#host = host
    let settled = (): void => {}
    const waiting = new Promise<void>((resolve) => {
      settled = resolve
    })
    const loaded = this.#open(host, settled).catch((thrown: unknown) => {
      if (this.#state === 'closed') return
      this.#state = 'unusable'
      host.log.error('the session store cannot be used', {
        error: thrown,
        message: messageOf(thrown),
      })
      throw thrown
    })
    this.#opened = Promise.race([loaded, waiting])
    this.#opened.catch(() => {})
    loaded.catch(() => {})
  }

  async #open(host: PersistenceHost, waits: () => void): Promise<void> {
    const ownership = await this.#store.open(
      {
        waiting: () => {
          if (this.#state !== 'opening') return
          this.#state = 'waiting'
          host.log.warn('another process owns the session store; this one waits until it is gone')
          waits()
        },
        lost: (error) => this.#onLost(host, error),
        failing: (error) =>
          host.log.error('the session store fails; what needs it is refused with 503 until it works again', {
            error,
            message: messageOf(error),
          }),
        recovered: (emptied) => this.#onRecovered(host, emptied),
        warning: (message) => host.log.warn(message),
      },
      this.#giveUp.signal,
    )
    const restored = await this.#loadUntilDone(host, ownership, waits)
    if (!this.#loading) return
    const waited = this.#state === 'waiting'
    this.#state = 'ready'
    this.#onTick()
    if (restored > 0 || waited) host.log.info('the session store is open', { sessions: restored })
  }

  /** A store that fails while it is read is read again when it may work: requests are refused meanwhile. */
  async #loadUntilDone(host: PersistenceHost, ownership: StoreOwnership, waits: () => void): Promise<number> {
    const byKey = new Map<string, Session>()
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#load(host, ownership, byKey)
      } catch (thrown) {
        if (!this.#loading) return 0
        if (attempt === 1)
          host.log.error('the session store could not be read; it is tried again until it can', {
            error: thrown,
            message: messageOf(thrown),
          })
        for (const session of byKey.values()) session.close('shutdown')
        byKey.clear()
        this.#idling.clear()
        this.#state = 'waiting'
        waits()
        await new Promise<void>((resolve) => host.deadlines.arm(new DeadlineCall(resolve), TICK))
        if (!this.#loading) return 0
      }
    }
  }

  async #load(
    host: PersistenceHost,
    ownership: StoreOwnership,
    byKey: Map<string, Session>,
  ): Promise<number> {
    const { clock, eventLog, log } = host
    const wall = clock.wallTime()
    this.#wallOffset = wall - clock.now()
    for await (const batch of this.#store.load()) {
      if (!this.#loading) break
      for (const stored of batch) {
        try {
          const session = host.restore(stored, this.#times(stored, ownership, clock))
          if (session === undefined) continue
          session.storedBusy = stored.idleSince === undefined
          byKey.set(stored.key, session)
          // A time that is still to come was written before the wall clock was set back.
          if (stored.idleSince === undefined || stored.idleSince > wall) this.#idling.add(session)
        } catch (thrown) {
          log.error('a stored session cannot be read and is left out', {
            session: stored.label,
            message: messageOf(thrown),
          })
        }
      }
    }
    if (eventLog?.restore !== undefined && this.#loading) {
      for await (const batch of eventLog.restore()) {
        if (!this.#loading) break
        for (const stream of batch) this.#restoreStream(host, byKey.get(stream.session), stream)
      }
    }
    return byKey.size
  }

  /** Whether what is loaded will be served: the app may be closed, or the store lost, before that is all. */
  get #loading(): boolean {
    return this.#state === 'opening' || this.#state === 'waiting'
  }

  #restoreStream(host: PersistenceHost, session: Session | undefined, stream: RestoredStream): void {
    if (session !== undefined && session.state === 'open') {
      session.streams.restore(stream)
      return
    }
    // Its session ended, and the process before it could say so here.
    const dropped = host.eventLog?.dropSession(stream.session)
    Promise.resolve(dropped).catch((thrown: unknown) =>
      host.log.error('the event log failed', { error: thrown }),
    )
  }

  /**
   * The time down counts by the wall clock, which may have been set back. A session that was in use when its process died is idle since
   * the process last said that it lived, or a moment later: never too early.
   */
  #times(stored: StoredSession, { epoch, aliveAt }: StoreOwnership, clock: Clock): RestoredTimes {
    const wall = clock.wallTime()
    const idleSince = stored.idleSince ?? (aliveAt === undefined ? wall : aliveAt + TICK + STAMP_DELAY)
    return {
      idleSince: clock.now() - Math.max(0, wall - idleSince),
      serverRequests: epoch * SERVER_REQUESTS_PER_EPOCH,
      streams: epoch * STREAMS_PER_EPOCH,
      primings: epoch * PRIMINGS_PER_EPOCH,
    }
  }

  /** Keeps a session that is about to be opened: durable when this resolves. */
  async add(session: Session): Promise<void> {
    await this.#save(session)
  }

  /**
   * Whether a session that is not in memory may be called unknown to this principal: not to its owner before its end is durable. Undefined
   * when it may at once; false when the store cannot say.
   */
  mayDeny(id: string, principal: string | undefined): Promise<boolean> | undefined {
    const ending = this.#ending.size === 0 ? undefined : this.#ending.get(sessionKey(id))
    // To anybody else it was unknown all along.
    return ending?.principal === principal ? ending?.durable : undefined
  }

  changed(session: Session): void {
    session.unsaved = true
    if (session.state === 'open') this.#unwritten.add(session)
  }

  delivered(session: Session): void {
    if (session.state === 'open') this.#unwritten.add(session)
  }

  commit(session: Session): Promise<void> | undefined {
    if (session.unsaved && session.state === 'open' && this.#state === 'ready') return this.#save(session)
    return this.#writing.size === 0 ? undefined : this.#writing.get(session)
  }

  busy(session: Session): void {
    const host = this.#host
    if (host === undefined || this.#state !== 'ready') return
    if (session.storedBusy) {
      // After a crash the session counts as used until the last sign of life: that must not be before this use.
      if (host.clock.now() - this.#stampedAt > TICK) this.#stamp(host, [])
      return
    }
    session.storedBusy = true
    // Nothing but the time depends on it: a call goes on without, and the store is told later.
    this.#track(
      session,
      this.#stamp(host, [{ key: session.key, idleSince: undefined }]).catch(() => {
        if (session.state === 'open') this.#unwritten.add(session)
      }),
    )
  }

  idle(session: Session): void {
    this.#idling.add(session)
  }

  /**
   * Tells the store that a session is about to be used for longer than one answer; undefined when it knows. Whoever is told that a stream
   * is open must not lose the session in a crash because the store took it for idle. Should nothing come of it, the tick says so.
   */
  expectUse(session: Session): Promise<void> | undefined {
    if (!session.storedBusy) {
      this.busy(session)
      this.#idling.add(session)
    }
    return this.#writing.size === 0 ? undefined : this.#writing.get(session)?.catch(() => {})
  }

  ended(session: Session): Promise<boolean> | undefined {
    return this.#ending.size === 0 ? undefined : this.#ending.get(session.key)?.durable
  }

  forget(session: Session): void {
    this.#unwritten.delete(session)
    this.#idling.delete(session)
    if (this.#state !== 'lost' && this.#state !== 'closed')
      this.#delete(session.key, session.record.principal)
  }

  /** A session goes to sleep with its process. */
  leave(session: Session): void {
    const host = this.#host
    if (host === undefined || this.#state !== 'ready') return
    const { busy } = session.clock
    const idleSince = busy ? undefined : this.#idleSinceWall(session, host.clock)
    if (busy) this.#leavingBusy.push(session.key)
    if (session.unsaved || this.#unwritten.has(session)) {
      this.#track(session, this.#store.save({ ...this.#stored(session), idleSince }))
    } else if (busy) {
      if (!session.storedBusy) this.#leaving.push({ key: session.key, idleSince })
    } else if (session.storedBusy || this.#idling.has(session) || this.#wallStepped(host.clock)) {
      this.#leaving.push({ key: session.key, idleSince })
    }
    this.#unwritten.delete(session)
    this.#idling.delete(session)
  }

  /** Writes what is left and gives the store up. Never rejects. */
  async close(): Promise<void> {
    const host = this.#host
    const wasReady = this.#state === 'ready'
    if (this.#state !== 'lost') this.#state = 'closed'
    this.#giveUp.abort()
    host?.deadlines.disarm(this.#tick)
    try {
      if (wasReady && host !== undefined) {
        for (const [key, principal] of [...this.#undeleted]) this.#delete(key, principal)
        const written = this.#store.touch(host.clock.wallTime(), this.#leaving)
        await Promise.allSettled([
          ...this.#writing.values(),
          ...[...this.#ending.values()].map(({ durable }) => durable),
        ])
        await written
        // By now clients have been given what waited for the store.
        const idleSince = host.clock.wallTime()
        const uses = this.#leavingBusy.map((key) => ({ key, idleSince }))
        if (uses.length > 0) await this.#store.touch(idleSince, uses)
      }
    } catch (thrown) {
      host?.log.error('the session store did not take the last changes', { message: messageOf(thrown) })
    }
    try {
      await this.#store.close()
    } catch (thrown) {
      host?.log.error('the session store was not closed cleanly', { message: messageOf(thrown) })
    }
  }

  #save(session: Session): Promise<void> {
    session.unsaved = false
    session.storedBusy = session.clock.busy || session.state === 'opening'
    this.#unwritten.delete(session)
    const written = this.#store.save(this.#stored(session)).catch((thrown: unknown) => {
      session.unsaved = true
      if (session.state === 'open') this.#unwritten.add(session)
      throw SojournError.from(thrown, 'store-unavailable')
    })
    this.#track(session, written)
    return written
  }

  #stored(session: Session): StoredSession {
    const clock = this.#host?.clock
    return {
      key: session.key,
      label: session.label,
      record: recordToJson(session.record),
      idleSince: session.storedBusy || clock === undefined ? undefined : this.#idleSinceWall(session, clock),
    }
  }

  #idleSinceWall(session: Session, clock: Clock): number {
    return clock.wallTime() - (clock.now() - session.idleSince)
  }

  #wallStepped(clock: Clock): boolean {
    return Math.abs(clock.wallTime() - clock.now() - this.#wallOffset) > WALL_STEP
  }

  #track(session: Session, written: Promise<void>): void {
    this.#writing.set(session, written)
    void written
      .catch(() => {})
      .then(() => {
        if (this.#writing.get(session) === written) this.#writing.delete(session)
      })
  }

  #stamp(host: PersistenceHost, uses: readonly StoredUse[]): Promise<void> {
    this.#stampedAt = host.clock.now()
    const written = this.#store.touch(host.clock.wallTime(), uses)
    written.catch((thrown: unknown) =>
      host.log.debug('the session store did not take a sign of life', { error: thrown }),
    )
    return written
  }

  #onTick(): void {
    const host = this.#host
    if (host === undefined || this.#state !== 'ready') return
    host.deadlines.arm(this.#tick, TICK)
    for (const session of [...this.#unwritten]) this.#save(session).catch(() => {})
    const now = host.clock.now()
    if (this.#wallStepped(host.clock)) {
      // Whoever opens the store next reads the times in it by the wall clock as it is now.
      this.#wallOffset = host.clock.wallTime() - now
      for (const session of host.sessions()) this.#idling.add(session)
    }
    const settled: Session[] = []
    const uses: StoredUse[] = []
    for (const session of this.#idling) {
      if (session.state !== 'open' || session.clock.busy) this.#idling.delete(session)
      else if (!session.clock.held && now - session.idleSince >= SETTLED) {
        this.#idling.delete(session)
        session.storedBusy = false
        settled.push(session)
        uses.push({ key: session.key, idleSince: this.#idleSinceWall(session, host.clock) })
      }
    }
    this.#stamp(host, uses).catch(() => {
      // Not told after all: the next tick tells them again.
      for (const session of settled) if (session.state === 'open') this.#idling.add(session)
    })
    for (const [key, principal] of [...this.#undeleted]) this.#delete(key, principal)
  }

  #delete(key: string, principal: string | undefined): void {
    this.#undeleted.delete(key)
    const durable = this.#store.delete(key).then(
      () => {
        this.#ending.delete(key)
        return true
      },
      () => {
        // Tried again until it is done; until then nobody is told that the session is gone for good.
        this.#undeleted.set(key, principal)
        return false
      },
    )
    this.#ending.set(key, { principal, durable })
  }

  #onRecovered(host: PersistenceHost, emptied: boolean): void {
    host.log.info('the session store works again', { emptied })
    if (!emptied) return
    for (const session of host.sessions()) {
      if (session.state !== 'open') continue
      session.logEmptied()
      this.#unwritten.add(session)
    }
  }

  #onLost(host: PersistenceHost, error: Error): void {
    if (this.#state === 'lost' || this.#state === 'closed') return
    this.#state = 'lost'
    host.deadlines.disarm(this.#tick)
    host.log.error('another process has taken the session store; this one serves no session any more', {
      message: error.message,
    })
    host.lost()
  }
}
