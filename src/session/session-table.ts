/** All sessions of one manager: who has how many, and whom a newcomer may displace. */

import { LinkedList } from '../linked-list.ts'
import type { CloseReason } from '../types.ts'
import type { Runtime } from './runtime.ts'
import { type Session, sessionKey, type SessionOwner } from './session.ts'

/** A place in the table, reserved before anything is built and given back exactly once. */
export class Slot {
  /** @internal */ readonly owned: Owned
  readonly #table: SessionTable
  #released = false

  /** @internal */
  constructor(table: SessionTable, owned: Owned) {
    this.#table = table
    this.owned = owned
  }

  /** Gives the place back; later calls do nothing. */
  release(): void {
    if (this.#released) return
    this.#released = true
    this.#table.giveBack(this.owned)
  }
}

/** Idle sessions in the order in which they became idle. The links are the sessions' own, so that a call makes nothing. */
export class IdleSessions extends LinkedList<Session> implements Iterable<Session> {
  override append(session: Session): void {
    session.idleList = this
    super.append(session)
  }

  override remove(session: Session): void {
    super.remove(session)
    session.idleList = undefined
  }

  *[Symbol.iterator](): Iterator<Session> {
    for (let session = this.first; session !== undefined; session = session.next) yield session
  }
}

/** Sessions of one principal, or of all anonymous clients. */
interface Owned {
  readonly principal: string | undefined
  slots: number
  readonly unused: IdleSessions
  readonly idle: IdleSessions
}

/** How long ending sessions may go on before the event loop gets a turn, in milliseconds. */
const SHED_SLICE = 8

/** The table. Each session holds the slot it was admitted with until it is closed. */
export class SessionTable implements SessionOwner {
  readonly #runtime: Runtime
  readonly #sessions = new Map<string, Session>()
  /** Sessions from a store whose client has not come yet, by key: their ids are known to their clients only. */
  readonly #unseen = new Map<string, Session>()
  readonly #owned = new Map<string | undefined, Owned>()
  #taken = 0

  constructor(runtime: Runtime) {
    this.#runtime = runtime
  }

  /** Sessions that can be found. */
  get size(): number {
    return this.#sessions.size + this.#unseen.size
  }

  /** Places taken, those of sessions that are opening included. */
  get taken(): number {
    return this.#taken
  }

  /** All sessions; those that were opened here, oldest first, after those that were not seen since a restart. */
  *values(): IterableIterator<Session> {
    yield* this.#unseen.values()
    yield* this.#sessions.values()
  }

  /** Finds a session by id, whoever owns it. */
  find(id: string): Session | undefined {
    return this.#sessions.get(id) ?? (this.#unseen.size === 0 ? undefined : this.#see(id))
  }

  /** Finds a session for a principal; another's is as good as unknown. */
  findOwned(id: string, principal: string | undefined): Session | undefined {
    const session = this.find(id)
    return session !== undefined && session.record.principal === principal ? session : undefined
  }

  /** Reserves a place, displacing a session where the rules allow it; the option that stands in the way when there is none. */
  reserve(principal: string | undefined): Slot | 'maxSessions' | 'maxSessionsPerPrincipal' {
    const { maxSessions, maxSessionsPerPrincipal } = this.#runtime.options
    const owned = this.#ownedBy(principal)
    if (
      principal !== undefined &&
      owned.slots >= maxSessionsPerPrincipal &&
      !this.#displace(principal, owned)
    ) {
      this.#forgetOwner(owned)
      return 'maxSessionsPerPrincipal'
    }
    if (this.#taken >= maxSessions && !this.#makeRoom(principal, owned)) {
      this.#forgetOwner(owned)
      return 'maxSessions'
    }
    // Displacing the owner's only session forgets the owner: it is looked up again.
    return this.#take(principal)
  }

  #take(principal: string | undefined): Slot {
    const owned = this.#ownedBy(principal)
    owned.slots += 1
    this.#taken += 1
    return new Slot(this, owned)
  }

  /** @internal Called by {@link Slot.release}, once. */
  giveBack(owned: Owned): void {
    owned.slots -= 1
    this.#taken -= 1
    this.#forgetOwner(owned)
  }

  /** Makes a session findable. It keeps the slot until it is closed. */
  register(session: Session, slot: Slot): void {
    this.#sessions.set(session.record.id, session)
    session.slot = slot
  }

  /** Takes a session from a store. It has its place whatever the limits are now: it had one before. */
  restore(session: Session): void {
    this.#unseen.set(session.key, session)
    session.slot = this.#take(session.record.principal)
  }

  /** A client names a session that was not seen since the restart. */
  #see(id: string): Session | undefined {
    const key = sessionKey(id)
    const session = this.#unseen.get(key)
    if (session === undefined) return undefined
    this.#unseen.delete(key)
    session.record.id = id
    this.#sessions.set(id, session)
    return session
  }

  activityChanged(session: Session): void {
    const { slot } = session
    if (session.state !== 'open' || slot === undefined) return
    session.idleList?.remove(session)
    if (session.clock.busy) return
    const { unused, idle } = slot.owned
    if (session.used) idle.append(session)
    else unused.append(session)
  }

  closed(session: Session, _reason: CloseReason): void {
    session.idleList?.remove(session)
    if (!this.#sessions.delete(session.record.id)) this.#unseen.delete(session.key)
    session.slot?.release()
    session.slot = undefined
  }

  /**
   * Memory is short: ends up to so many sessions that were never used and that nothing holds, the oldest first, whosever they are. Tells how
   * many.
   */
  shed(most: number): number {
    const { clock } = this.#runtime
    const started = clock.now()
    let ended = 0
    for (const session of this.#sessions.values()) {
      if (ended >= most || clock.now() - started > SHED_SLICE) break
      if (session.used || session.clock.held) continue
      session.close('evicted')
      ended += 1
    }
    return ended
  }

  /** First what has expired already, then what the caller itself may give up. */
  #makeRoom(principal: string | undefined, owned: Owned): boolean {
    this.#runtime.deadlines.runDue()
    return this.#taken < this.#runtime.options.maxSessions || this.#displace(principal, owned)
  }

  /**
   * Ends one session of the same principal: never-used ones first, then the idlest. Anonymous clients are strangers to each other, so
   * one of theirs must have been idle for `evictableAfter`. Never one with a hold.
   */
  #displace(principal: string | undefined, owned: Owned): boolean {
    const victim = this.#firstUnheld(owned.unused) ?? this.#firstUnheld(owned.idle)
    if (victim === undefined) return false
    const { clock, options } = this.#runtime
    if (principal === undefined && victim.used && clock.now() - victim.idleSince < options.evictableAfter)
      return false
    victim.close('evicted')
    return true
  }

  #firstUnheld(sessions: IdleSessions): Session | undefined {
    for (const session of sessions) if (!session.clock.held) return session
    return undefined
  }

  #ownedBy(principal: string | undefined): Owned {
    let owned = this.#owned.get(principal)
    if (owned === undefined) {
      owned = { principal, slots: 0, unused: new IdleSessions(), idle: new IdleSessions() }
      this.#owned.set(principal, owned)
    }
    return owned
  }

  #forgetOwner(owned: Owned): void {
    if (owned.slots === 0 && this.#owned.get(owned.principal) === owned) this.#owned.delete(owned.principal)
  }
}
