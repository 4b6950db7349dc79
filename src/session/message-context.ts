/** What travels with the messages of one POST to the SDK: everything either version reads, made only when it is read. */

import type { Exchange } from '../http/exchange.ts'
import type { AuthInfo, MessageExtra } from '../types.ts'
import type { AnswerSink } from './running-request.ts'
import type { Session } from './session.ts'

/** The `extra` of `onmessage`. Never spread: v1 and v2 read different members, and each costs something. */
export class MessageContext implements MessageExtra {
  readonly authInfo: AuthInfo | undefined
  readonly #exchange: Exchange
  readonly #session: Session
  readonly #sink: AnswerSink | undefined

  constructor(
    session: Session,
    exchange: Exchange,
    authInfo: AuthInfo | undefined,
    sink: AnswerSink | undefined,
  ) {
    this.authInfo = authInfo
    this.#session = session
    this.#exchange = exchange
    this.#sink = sink
  }

  /** Read by SDK v1. */
  get requestInfo(): MessageExtra['requestInfo'] {
    return this.#exchange.requestInfo
  }

  /** Read by SDK v2. */
  get request(): Request {
    return this.#exchange.request
  }

  /** There only where the client can come back: with an event log, from protocol 2025-11-25 on. */
  get closeSSEStream(): (() => void) | undefined {
    const sink = this.#sink
    return sink !== undefined && this.#session.primes ? () => sink.closeConnection() : undefined
  }

  get closeStandaloneSSEStream(): (() => void) | undefined {
    const session = this.#session
    return session.primes ? () => session.streams.standalone.endConnection() : undefined
  }
}
