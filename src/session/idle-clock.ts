/** When a session may end: the holds on it, and the clock that runs while there are none. */

import { Deadline, type Deadlines } from '../deadlines.ts'

/** What a hold stands for: an HTTP exchange, a running JSON-RPC request, an open GET stream. */
export type HoldKind = 'exchange' | 'request' | 'stream'

/**
 * Keeps a session from ending until it is released, once, wherever that happens to be. A provisional hold (an exchange whose request
 * may still be refused) only makes expiry wait; confirmed, it stops the clock.
 */
export class Hold {
  readonly kind: HoldKind
  /** @internal */ confirmed = false
  /** @internal */ next: Hold | undefined
  /** @internal */ previous: Hold | undefined
  #clock: IdleClock | undefined

  /** @internal */
  constructor(clock: IdleClock, kind: HoldKind) {
    this.#clock = clock
    this.kind = kind
  }

  /** The request was accepted: from now on the clock stands still. Harmless when repeated or already released. */
  confirm(): void {
    this.#clock?.confirm(this)
  }

  /** Lets go; later calls do nothing. */
  release(): void {
    const clock = this.#clock
    this.#clock = undefined
    clock?.release(this)
  }
}

/** What an {@link IdleClock} tells and asks its session. */
export interface IdleClockOwner {
  /** How long the session may now be idle, in milliseconds. */
  idleTimeout(): number
  /** The first confirmed hold was taken. */
  onBusy(): void
  /** The last confirmed hold was released; the clock has started. */
  onIdle(): void
  /** The session was idle for its timeout. */
  onExpired(): void
}

/** Runs while a session has no confirmed hold. */
export class IdleClock extends Deadline {
  readonly #deadlines: Deadlines
  readonly #owner: IdleClockOwner
  #confirmed: Hold | undefined
  #provisional: Hold | undefined
  #overdue = false
  #stopped = false

  constructor(deadlines: Deadlines, owner: IdleClockOwner) {
    super()
    this.#deadlines = deadlines
    this.#owner = owner
  }

  /** Whether anything real holds the session. */
  get busy(): boolean {
    return this.#confirmed !== undefined
  }

  /** Whether anything at all holds it, a request that may still be refused included. */
  get held(): boolean {
    return this.#confirmed !== undefined || this.#provisional !== undefined
  }

  /** Starts the clock of a new session, which has no hold yet but may have provisional ones. */
  start(): void {
    if (!this.busy) this.restart()
  }

  /** Starts the clock of a session that has been idle since a monotonic time, which may be before this process. */
  startSince(idleSince: number): void {
    this.#deadlines.armAt(this, idleSince + this.#owner.idleTimeout())
  }

  /** Starts the clock anew, as the timeout is now; does nothing while the session is held. */
  restart(): void {
    if (this.#stopped || this.busy) return
    this.#overdue = false
    this.#deadlines.arm(this, this.#owner.idleTimeout())
  }

  /** Expires as soon as nothing holds the session, a request that may still be refused included. */
  expireWhenFree(): void {
    this.#overdue = true
    if (!this.held) this.#owner.onExpired()
  }

  /** The session is over: no clock, and holds mean nothing any more. */
  stop(): void {
    this.#stopped = true
    this.#deadlines.disarm(this)
  }

  /** Takes a hold for something that was accepted. */
  hold(kind: HoldKind): Hold {
    const hold = new Hold(this, kind)
    hold.confirmed = true
    this.#link(hold)
    return hold
  }

  /** Takes a hold for a request whose head is here and whose fate is not known yet. */
  holdProvisionally(kind: HoldKind): Hold {
    const hold = new Hold(this, kind)
    this.#link(hold)
    return hold
  }

  /** @internal Called by {@link Hold.confirm}. */
  confirm(hold: Hold): void {
    if (hold.confirmed) return
    this.#unlink(hold)
    hold.confirmed = true
    this.#link(hold)
  }

  /** @internal Called by {@link Hold.release}, once. */
  release(hold: Hold): void {
    this.#unlink(hold)
    if (this.#stopped || this.busy) return
    if (hold.confirmed) {
      this.restart()
      this.#owner.onIdle()
    } else if (this.#overdue && this.#provisional === undefined) {
      // The deadline passed while the request was looked at, and the request was refused: it bought no time.
      this.#owner.onExpired()
    }
  }

  #link(hold: Hold): void {
    const first = hold.confirmed ? this.#confirmed : this.#provisional
    hold.next = first
    if (first !== undefined) first.previous = hold
    if (!hold.confirmed) {
      this.#provisional = hold
      return
    }
    this.#confirmed = hold
    if (first === undefined && !this.#stopped) {
      this.#overdue = false
      this.#deadlines.disarm(this)
      this.#owner.onBusy()
    }
  }

  #unlink(hold: Hold): void {
    if (hold.next !== undefined) hold.next.previous = hold.previous
    if (hold.previous !== undefined) hold.previous.next = hold.next
    else if (hold.confirmed) this.#confirmed = hold.next
    else this.#provisional = hold.next
    hold.next = undefined
    hold.previous = undefined
  }

  /** @internal A request that waits in a socket holds the session, if it is accepted. */
  override get yieldsToInput(): boolean {
    return true
  }

  /** @internal The deadline passed. */
  override onDue(): void {
    if (this.held) this.#overdue = true
    else this.#owner.onExpired()
  }
}
