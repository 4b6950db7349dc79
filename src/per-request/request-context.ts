/** What the author's factory is given where there are no sessions: a context as long as one request. */

import { CLIENT_INFO_META_KEY } from '@modelcontextprotocol/server'

import type { Exchange } from '../http/exchange.ts'
import type { ModernPost } from '../http/era.ts'
import { isObject } from '../json.ts'
import type { Caller } from '../session/http-front.ts'
import { clientIdentity } from '../session/session-record.ts'
import type { AuthInfo, ClientIdentity, Era, ServerContext, SessionContext } from '../types.ts'
import { LazySignal, NoSession } from './no-session.ts'

/** The session of a request that has none. */
class RequestSession extends NoSession {
  readonly principal: string | undefined
  readonly #post: ModernPost

  constructor(principal: string | undefined, post: ModernPost, maxDataSize: number) {
    super(maxDataSize)
    this.principal = principal
    this.#post = post
  }

  get client(): ClientIdentity | undefined {
    const meta = this.#post.message.params?.['_meta']
    return isObject(meta) ? clientIdentity(meta[CLIENT_INFO_META_KEY]) : undefined
  }
}

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
