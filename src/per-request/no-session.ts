/** What stands in for a session where there are none. */

import { keptData } from '../session/session-record.ts'
import type { ClientIdentity, JsonValue, KeepAwake, SessionContext } from '../types.ts'

/** An abort signal that nobody pays for who does not read it. */
export class LazySignal {
  #controller: AbortController | undefined
  #aborted = false

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#aborted) this.#controller.abort('shutdown')
    }
    return this.#controller.signal
  }

  abort(): void {
    this.#aborted = true
    this.#controller?.abort('shutdown')
  }
}

/** A `context.session` without a session behind it: whose it is differs, what it can do does not. */
export abstract class NoSession implements SessionContext {
  abstract readonly principal: string | undefined
  abstract readonly client: ClientIdentity | undefined
  readonly id = undefined
  readonly restored = false
  readonly end: LazySignal = new LazySignal()
  readonly #maxDataSize: number
  #data: JsonValue = {}

  /** @param maxDataSize most bytes of `data` as JSON (`maxSessionDataSize`) */
  constructor(maxDataSize: number) {
    this.#maxDataSize = maxDataSize
  }

  get data(): JsonValue {
    return this.#data
  }

  set data(value: JsonValue) {
    this.#data = keptData(value, this.#maxDataSize)
  }

  get signal(): AbortSignal {
    return this.end.signal
  }

  /** Where there are no sessions nothing sleeps. */
  keepAwake(): KeepAwake {
    return NEVER_SLEEPS
  }
}

const NEVER_SLEEPS: KeepAwake = { release() {}, [Symbol.dispose]() {} }
