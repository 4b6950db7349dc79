/** POSTs: read, told apart, and handed to whoever serves them. A call on a session that is awake waits for its body and nothing else. */

import { type ModernPost, unsupportedRevision } from '../http/era.ts'
import type { BodyResult, Exchange } from '../http/exchange.ts'
import { singleValue } from '../http/headers.ts'
import type { PerRequestLeg } from '../per-request/per-request-leg.ts'
import type { ParsedMessage } from '../jsonrpc/message.ts'
import type { AuthInfo, ResponseMode } from '../types.ts'
import { type Caller, type HttpFront, ParsedPost } from './http-front.ts'
import type { Hold } from './idle-clock.ts'
import { checkPost, executePost, needsInstance, type Post } from './inbound.ts'
import { AwakeHold } from './instance-life.ts'
import { initializeIn, requestIdOf } from './posted.ts'
import type { Refusal } from './refusal.ts'
import {
  ALREADY_INITIALIZED,
  INITIALIZE_IN_BATCH,
  INITIALIZE_NOT_A_REQUEST,
  SESSION_CONFLICT,
  SESSION_REQUIRED,
} from './refusals.ts'
import type { Runtime } from './runtime.ts'
import { checkScopes } from './scope-check.ts'
import type { Session } from './session.ts'
import type { SessionOpener } from './session-opener.ts'
import type { SessionTable } from './session-table.ts'
import type { StatelessServing } from './stateless.ts'
import { checkVersion } from './version-check.ts'

/** What serving POSTs needs of its manager. */
export interface PostHost {
  readonly runtime: Runtime
  readonly front: HttpFront
  readonly table: SessionTable
  readonly opener: SessionOpener
  readonly stateless: StatelessServing
  readonly perRequest: PerRequestLeg | undefined
  /** Whether no call may begin any more. */
  readonly ending: boolean
  /** Why no session can be served at all; undefined when they can. */
  withoutStore(): Refusal | undefined
  /** What to say of a session that is not here. */
  gone(id: string, principal: string | undefined): Promise<Refusal>
  /** Sends a refusal and tells of it. */
  refuse(exchange: Exchange, refusal: Refusal): void
  /** Calls `onServed` when something that had to be waited for is over, however it ended. */
  after(exchange: Exchange, served: Promise<void>, onServed: (() => void) | undefined): void
  /** Something went wrong that nobody thought of. */
  failed(exchange: Exchange, thrown: unknown): void
}

const NONE: readonly ParsedMessage[] = []

/** A POST whose head has passed, and what its session is held by while the body comes. */
class IncomingPost implements Post {
  readonly exchange: Exchange
  readonly caller: Caller
  readonly mode: ResponseMode
  readonly id: ReturnType<typeof singleValue>
  readonly session: Session | undefined
  readonly hold: Hold | undefined
  /** Those of the body, once it was read. */
  messages: readonly ParsedMessage[] = NONE
  batch = false

  constructor(
    exchange: Exchange,
    caller: Caller,
    mode: ResponseMode,
    id: ReturnType<typeof singleValue>,
    session: Session | undefined,
  ) {
    this.exchange = exchange
    this.caller = caller
    this.mode = mode
    this.id = id
    this.session = session
    this.hold = session?.clock.holdProvisionally('exchange')
  }

  get authInfo(): AuthInfo | undefined {
    return this.caller.authInfo
  }
}

/** Serves the POSTs of one manager. */
export class Posts {
  readonly #host: PostHost

  constructor(host: PostHost) {
    this.#host = host
  }

  /** Serves one; `onServed` is called when it was dispatched or refused. What it throws, it throws before it has waited for anything. */
  serve(exchange: Exchange, caller: Caller, onServed: (() => void) | undefined): void {
    // Callbacks, not promises: a call on a session that is awake waits for its body and nothing else.
    const post = this.#readHead(exchange, caller)
    if (post === undefined) onServed?.()
    else this.#host.front.readBody(exchange, (body) => this.#serveBody(post, body, onServed))
  }

  #serveBody(post: IncomingPost, body: BodyResult | undefined, onServed: (() => void) | undefined): void {
    try {
      const waiting = this.#route(post, body)
      if (waiting === undefined) onServed?.()
      else this.#host.after(post.exchange, waiting, onServed)
    } catch (thrown) {
      this.#host.failed(post.exchange, thrown)
      onServed?.()
    }
  }

  /** Undefined when the request was refused. */
  #readHead(exchange: Exchange, caller: Caller): IncomingPost | undefined {
    const mode = this.#host.front.negotiate(exchange)
    if (typeof mode !== 'string') {
      this.#host.refuse(exchange, mode)
      return undefined
    }
    const id = singleValue(exchange.header('mcp-session-id'))
    // From here on the upload counts: a slow body must not outlive its session.
    const session =
      id === 'conflict' || id.value === undefined
        ? undefined
        : this.#host.table.findOwned(id.value, caller.principal)
    const post = new IncomingPost(exchange, caller, mode, id, session)
    const { hold } = post
    if (hold !== undefined) exchange.onclose = () => hold.release()
    return post
  }

  /** Undefined where nothing has to be waited for. */
  #route(post: IncomingPost, body: BodyResult | undefined): Promise<void> | undefined {
    const { exchange, caller, mode, hold } = post
    const { front, perRequest, runtime } = this.#host
    const parsed = front.parse(exchange, body)
    if (!(parsed instanceof ParsedPost)) {
      this.#host.refuse(exchange, parsed)
      // A client that is gone is not answered, so nothing else lets the session go.
      hold?.release()
      return undefined
    }
    const { modern } = parsed
    if (modern === undefined && runtime.options.protocolEras !== 'modern') {
      post.messages = parsed.messages
      post.batch = parsed.batch
      return this.#dispatch(post)
    }
    // There are no sessions here: whatever id was sent holds nothing.
    hold?.release()
    if (modern !== undefined) return this.#serveModern(exchange, caller, modern, mode)
    perRequest?.refuseHandshake(exchange, parsed.body)
    return undefined
  }

  async #serveModern(
    exchange: Exchange,
    caller: Caller,
    post: ModernPost,
    mode: ResponseMode,
  ): Promise<void> {
    const { perRequest } = this.#host
    const refusal =
      perRequest === undefined
        ? ({ ...unsupportedRevision(post), cause: 'era' } as const)
        : await perRequest.serve(exchange, caller, post, mode)
    if (refusal !== undefined) this.#host.refuse(exchange, refusal)
  }

  /** Undefined where nothing has to be waited for. */
  #dispatch(post: IncomingPost): Promise<void> | undefined {
    const { exchange, caller, mode, id, session, messages } = post
    const { runtime, opener, stateless } = this.#host
    const opening = initializeIn(post)
    if (id === 'conflict') return this.#refuse(post, SESSION_CONFLICT)
    if (opening === 'malformed') return this.#refuse(post, INITIALIZE_NOT_A_REQUEST)
    const without = this.#host.withoutStore()
    if (without !== undefined) return this.#refuse(post, without)
    if (runtime.options.stateless) return stateless.serve(exchange, caller, post, mode)
    if (opening === 'batched' && session === undefined) return this.#refuse(post, INITIALIZE_IN_BATCH)
    if (opening !== undefined && opening !== 'batched') {
      if (session !== undefined && session.state === 'open') return this.#refuse(post, ALREADY_INITIALIZED)
      return opener.open(exchange, caller, opening, mode)
    }
    if (id.value === undefined) return this.#refuse(post, SESSION_REQUIRED)
    // The session may have ended while its request was on the way.
    if (session === undefined || session.state !== 'open') return this.#refuseGone(post, id.value)
    const version = checkVersion(exchange, session)
    if (version !== undefined) return this.#refuse(post, version)
    // Answers to what running calls ask still come through.
    const asks = this.#host.ending && messages.some(({ kind }) => kind === 'request')
    if (asks) return this.#refuse(post, this.#host.runtime.shuttingDown)
    const limit = checkPost(session, post)
    if (limit !== undefined) return this.#refuse(post, limit)
    if (session.instance === undefined && needsInstance(messages))
      return this.#wakeAndExecute(post, session, id.value)
    const scope = checkScopes(session, post)
    if (scope instanceof Promise) return this.#executeAfter(post, session, id.value, scope)
    if (scope !== undefined) return this.#refuse(post, scope)
    executePost(session, post)
    return undefined
  }

  async #wakeAndExecute(post: IncomingPost, session: Session, id: string): Promise<void> {
    // A shutdown waits for the call as for any other, from here on until the instance has it.
    const { load } = this.#host.runtime
    load.started()
    try {
      const woken = await session.wake(post.exchange, post.authInfo)
      if (woken instanceof AwakeHold) {
        try {
          await this.#executeAfter(post, session, id, checkScopes(session, post))
        } finally {
          woken.release()
        }
      } else if (session.state === 'open') this.#refuse(post, woken)
      else await this.#refuseGone(post, id)
    } finally {
      load.ended()
    }
  }

  /** Executes a POST that had to wait: meanwhile the session may have ended, or others may have been let in. */
  async #executeAfter(
    post: IncomingPost,
    session: Session,
    id: string,
    scope: Refusal | undefined | Promise<Refusal | undefined>,
  ): Promise<void> {
    const awake = session.instance?.life.hold()
    try {
      const challenged = await scope
      if (session.state !== 'open') return await this.#refuseGone(post, id)
      const refusal = challenged ?? checkPost(session, post)
      if (refusal === undefined) executePost(session, post)
      else this.#refuse(post, refusal)
    } finally {
      awake?.release()
    }
  }

  #refuse(post: IncomingPost, refusal: Refusal): undefined {
    this.#host.refuse(post.exchange, { id: requestIdOf(post), ...refusal })
    post.hold?.release()
    return undefined
  }

  async #refuseGone(post: IncomingPost, id: string): Promise<void> {
    this.#refuse(post, await this.#host.gone(id, post.caller.principal))
  }
}
