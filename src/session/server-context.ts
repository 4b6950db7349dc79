/** What the author's factory is given: views on the session, made lazily because most factories read little of it. */

import type { Exchange } from '../http/exchange.ts'
import { lazyRequest, type RequestSource } from '../http/lazy-request.ts'
import type { AuthInfo, ClientIdentity, Era, JsonValue, ServerContext, SessionContext } from '../types.ts'
import type { Session } from './session.ts'

/** The author's view of a session. */
export class SessionView implements SessionContext {
  readonly restored: boolean
  readonly #session: Session

  constructor(session: Session, restored: boolean) {
    this.#session = session
    this.restored = restored
  }

  get id(): string | undefined {
    return this.#session.publicId
  }

  get principal(): string | undefined {
    return this.#session.record.principal
  }

  get client(): ClientIdentity | undefined {
    return this.#session.client
  }

  get data(): JsonValue {
    return this.#session.record.data
  }

  set data(value: JsonValue) {
    this.#session.setData(value)
  }

  get signal(): AbortSignal {
    return this.#session.signal
  }
}

/** The factory's context. */
export class FactoryContext implements ServerContext {
  readonly era: Era = 'legacy'
  readonly session: SessionContext
  readonly #session: Session
  readonly #source: RequestSource
  #request: Request | undefined
  readonly authInfo: AuthInfo | undefined

  constructor(session: Session, exchange: Exchange, authInfo: AuthInfo | undefined) {
    this.#session = session
    this.session = new SessionView(session, false)
    // Not the exchange: a factory's closure keeps the context, and would keep the socket of `initialize` with it.
    this.#source = { method: exchange.method, target: exchange.target, headers: exchange.headers }
    this.authInfo = authInfo
  }

  get instanceSignal(): AbortSignal {
    // Without sleep an instance lives exactly as long as its session.
    return this.#session.signal
  }

  get requestInfo(): Request {
    return (this.#request ??= lazyRequest(this.#source))
  }
}
