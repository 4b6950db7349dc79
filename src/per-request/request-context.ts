/** What the author's factory is given where there are no sessions: a context as long as one request. */

import { CLIENT_INFO_META_KEY } from '@modelcontextprotocol/server'

import type { Exchange } from '../http/exchange.ts'
import type { ModernPost } from '../http/era.ts'
import { isObject } from '../json.ts'
import type { Caller } from '../session/http-front.ts'
import { clientIdentity, keptData } from '../session/session-record.ts'
import type {
  AuthInfo,
  ClientIdentity,
  Era,
  JsonValue,
  KeepAwake,
  ServerContext,
  SessionContext,
} from '../types.ts'

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

/** The session of a request that has none. */
class RequestSession implements SessionContext {
  readonly id = undefined
  readonly principal: string | undefined
  readonly restored = false
  readonly end: LazySignal = new LazySignal()
  readonly #post: ModernPost
  readonly #maxDataSize: number
  #data: JsonValue = {}

  constructor(principal: string | undefined, post: ModernPost, maxDataSize: number) {
    this.principal = principal
    this.#post = post
    this.#maxDataSize = maxDataSize
  }

  get client(): ClientIdentity | undefined {
    const meta = this.#post.message.params?.['_meta']
    return isObject(meta) ? clientIdentity(meta[CLIENT_INFO_META_KEY]) : undefined
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

  keepAwake(): KeepAwake {
    return NEVER_SLEEPS
  }
}

/** Where there are no sessions nothing sleeps. */
export const NEVER_SLEEPS: KeepAwake = { release() {}, [Symbol.dispose]() {} }

/** The factory's context. */
export class RequestContext implements ServerContext {
  readonly era: Era = 'modern'
  readonly session: SessionContext
  readonly authInfo: AuthInfo | undefined
  readonly #session: RequestSession
  readonly #instance: LazySignal = new LazySignal()
  readonly #exchange: Exchange

  constructor(exchange: Exchange, caller: Caller, post: ModernPost, maxDataSize: number) {
    this.#session = new RequestSession(caller.principal, post, maxDataSize)
    this.session = this.#session
    this.authInfo = caller.authInfo
    this.#exchange = exchange
  }

  get instanceSignal(): AbortSignal {
    return this.#instance.signal
  }

  get requestInfo(): Request {
    return this.#exchange.request
  }

  /** Where there are no sessions nothing sleeps. */
  onSleep(): void {}

  /** Nor does anything wake. */
  onWake(): void {}

  /** The server is not used any more, though its request may go on: a subscription needs none. */
  instanceLetGo(): void {
    this.#instance.abort()
  }

  /** The request is over. */
  end(): void {
    this.#instance.abort()
    this.#session.end.abort()
  }
}
