/** All sessions of one manager: who has how many, and whom a newcomer may displace. */

import type { CloseReason } from '../types.ts'
import type { Runtime } from './runtime.ts'
import { type Session, sessionKey, type SessionOwner } from './session.ts'

/** A place in the table, reserved before anything is built and given back exactly once. */
export class Slot {
  #release: (() => void) | undefined

  /** @internal */
  constructor(release: () => void) {
    this.#release = release
  }

  /** Gives the place back; later calls do nothing. */
  release(): void {
    const release = this.#release
    this.#release = undefined
    release?.()
  }
}

/** Sessions of one principal, or of all anonymous clients. Sets keep the order in which sessions became idle. */
interface Owned {
  slots: number
  readonly unused: Set<Session>
  readonly idle: Set<Session>
}

/** The table. Each session holds the slot it was admitted with until it is closed. */
export class SessionTable implements SessionOwner {
  readonly #runtime: Runtime
  readonly #sessions = new Map<string, Session>()
  /** Sessions from a store whose client has not come yet, by key: their ids are known to their clients only. */
  readonly #unseen = new Map<string, Session>()
  readonly #slots = new Map<Session, Slot>()
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
      this.#forgetOwner(principal, owned)
      return 'maxSessionsPerPrincipal'
    }
    if (this.#taken >= maxSessions && !this.#makeRoom(principal, owned)) {
      this.#forgetOwner(principal, owned)
      return 'maxSessions'
    }
    // Displacing the owner's only session forgets the owner: it is looked up again.
    return this.#take(principal)
  }

  #take(principal: string | undefined): Slot {
    const owned = this.#ownedBy(principal)
    owned.slots += 1
    this.#taken += 1
    return new Slot(() => {
      owned.slots -= 1
      this.#taken -= 1
      this.#forgetOwner(principal, owned)
    })
  }

  /** Makes a session findable. It keeps the slot until it is closed. */
  register(session: Session, slot: Slot): void {
    this.#sessions.set(session.record.id, session)
    this.#slots.set(session, slot)
  }

  /** Takes a session from a store. It has its place whatever the limits are now: it had one before. */
  restore(session: Session): void {
    this.#unseen.set(session.key, session)
    this.#slots.set(session, this.#take(session.record.principal))
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
    if (session.state !== 'open') return
    const owned = this.#owned.get(session.record.principal)
    if (owned === undefined) return
    owned.unused.delete(session)
    owned.idle.delete(session)
    if (session.clock.busy) return
    if (session.used) owned.idle.add(session)
    else owned.unused.add(session)
  }

  closed(session: Session, _reason: CloseReason): void {
    const owned = this.#owned.get(session.record.principal)
    owned?.unused.delete(session)
    owned?.idle.delete(session)
    if (!this.#sessions.delete(session.record.id)) this.#unseen.delete(session.key)
    const slot = this.#slots.get(session)
    this.#slots.delete(session)
    slot?.release()
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

  #firstUnheld(sessions: Set<Session>): Session | undefined {
    for (const session of sessions) if (!session.clock.held) return session
    return undefined
  }

  #ownedBy(principal: string | undefined): Owned {
    let owned = this.#owned.get(principal)
    if (owned === undefined) {
      owned = { slots: 0, unused: new Set(), idle: new Set() }
      this.#owned.set(principal, owned)
    }
    return owned
  }

  #forgetOwner(principal: string | undefined, owned: Owned): void {
    if (owned.slots === 0 && this.#owned.get(principal) === owned) this.#owned.delete(principal)
  }
}
