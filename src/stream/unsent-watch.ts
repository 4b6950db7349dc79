/** Cuts a connection whose peer has stopped reading. */

import { Deadline, type Deadlines } from '../deadlines.ts'
import type { Exchange } from '../http/exchange.ts'

/** Watches one response: bytes that stay unsent for the timeout cost the connection. Arms a deadline only while bytes are unsent. */
export class UnsentWatch extends Deadline {
  readonly #deadlines: Deadlines
  readonly #timeout: number
  readonly #exchange: Exchange
  #written = 0
  /** How much must have left by the time the deadline is due. */
  #target = 0

  constructor(deadlines: Deadlines, timeout: number, exchange: Exchange) {
    super()
    this.#deadlines = deadlines
    this.#timeout = timeout
    this.#exchange = exchange
  }

  /** To be called after every write, with its size. */
  wrote(bytes: number): void {
    this.#written += bytes
    if (!this.armed && this.#exchange.unsentBytes > 0) this.#arm()
  }

  /** The response is over. */
  stop(): void {
    this.#deadlines.disarm(this)
  }

  /** @internal */
  override onDue(): void {
    if (this.#exchange.closed) return
    const unsent = this.#exchange.unsentBytes
    if (unsent === 0) return
    if (this.#written - unsent >= this.#target) this.#arm()
    else this.#exchange.destroy()
  }

  #arm(): void {
    this.#target = this.#written
    this.#deadlines.arm(this, this.#timeout)
  }
}
