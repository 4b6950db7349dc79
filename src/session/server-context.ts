/** What the author's factory is given: views on the session, made lazily because most factories read little of it. */

import type { Exchange } from '../http/exchange.ts'
import { lazyRequest, type RequestSource } from '../http/lazy-request.ts'
import type {
  AuthInfo,
  ClientIdentity,
  Era,
  JsonValue,
  KeepAwake,
  ServerContext,
  SessionContext,
} from '../types.ts'
import { InstanceLife } from './instance-life.ts'
import type { Session } from './session.ts'

/** The author's view of a session, from one of its instances. */
export class SessionView implements SessionContext {
  readonly restored: boolean
  readonly #session: Session
  readonly #life: InstanceLife

  constructor(session: Session, life: InstanceLife, restored: boolean) {
    this.#session = session
    this.#life = life
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

  keepAwake(): KeepAwake {
    return this.#life.hold()
  }
}

/** The factory's context. */
export class FactoryContext implements ServerContext {
  readonly era: Era = 'legacy'
  readonly session: SessionContext
  readonly authInfo: AuthInfo | undefined
  /** The life of the instance that is being built. */
  readonly life: InstanceLife
  readonly #source: RequestSource
  #request: Request | undefined

  constructor(session: Session, exchange: Exchange, authInfo: AuthInfo | undefined, restored: boolean) {
    this.life = new InstanceLife(session)
    this.session = new SessionView(session, this.life, restored)
    // Not the exchange: a factory's closure keeps the context, and would keep the socket of the request with it.
    this.#source = { method: exchange.method, target: exchange.target, headers: exchange.headers }
    this.authInfo = authInfo
  }

  get instanceSignal(): AbortSignal {
    return this.life.signal
  }

  get requestInfo(): Request {
    return (this.#request ??= lazyRequest(this.#source))
  }

  // Getters, so that a factory may take them out of its parameter: `({ session, onSleep }) => …`.

  get onSleep(): ServerContext['onSleep'] {
    return (hook) => this.life.onSleep(hook)
  }

  get onWake(): ServerContext['onWake'] {
    return (hook) => this.life.onWake(hook)
  }
}
