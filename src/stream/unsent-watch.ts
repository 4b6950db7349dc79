/** Cuts a connection whose peer has stopped reading. */

import { Deadline, type Deadlines } from '../deadlines.ts'

/** What the peer has not taken yet. */
interface Outlet {
  readonly closed: boolean
  readonly unsentBytes: number
}

/** Watches one response: bytes that stay unsent for the timeout cost the connection. */
export class UnsentWatch extends Deadline {
  readonly #deadlines: Deadlines
  readonly #timeout: number
  readonly #outlet: Outlet
  readonly #connection: { destroy(): void }
  /** Everything that ever waited. What of it waits no more has left: one count in one unit, however the bytes were framed. */
  #queued = 0
  /** How much must have left by the time the deadline is due. */
  #target = 0

  constructor(deadlines: Deadlines, timeout: number, outlet: Outlet, connection: { destroy(): void }) {
    super()
    this.#deadlines = deadlines
    this.#timeout = timeout
    this.#outlet = outlet
    this.#connection = connection
  }

  /** To be called after every write, with the bytes that were unsent before it. */
  wrote(before: number): void {
    const unsent = this.#outlet.unsentBytes
    if (unsent > before) this.#queued += unsent - before
    // When nothing waited before, the oldest unsent byte is from now.
    if (unsent > 0 && (before === 0 || !this.armed)) this.#arm()
  }

  /** Watches a response that is complete, of which nothing may have reached the operating system yet. */
  completed(): void {
    this.#queued = this.#outlet.unsentBytes
    this.#arm()
  }

  /** The response is over. */
  stop(): void {
    this.#deadlines.disarm(this)
  }

  /** @internal */
  override onDue(): void {
    if (this.#outlet.closed) return
    const unsent = this.#outlet.unsentBytes
    if (unsent === 0) return
    if (this.#queued - unsent >= this.#target) this.#arm()
    else this.#connection.destroy()
  }

  #arm(): void {
    this.#target = this.#queued
    this.#deadlines.arm(this, this.#timeout)
  }
}
