/** POSTs: read, told apart, and handed to whoever serves them. A call on a session that is awake waits for its body and nothing else. */

import { type ModernPost, unsupportedRevision } from '../http/era.ts'
import type { BodyResult, Exchange } from '../http/exchange.ts'
import { singleValue } from '../http/headers.ts'
import type { PerRequestLeg } from '../per-request/per-request-leg.ts'
import type { ResponseMode } from '../types.ts'
import type { Caller, HttpFront, ParsedPost } from './http-front.ts'
import type { Hold } from './idle-clock.ts'
import { checkPost, executePost, needsInstance, type Post } from './inbound.ts'
import { AwakeHold } from './instance-life.ts'
import { initializeIn, requestIdOf } from './posted.ts'
import { type Refusal, SHUTTING_DOWN } from './refusal.ts'
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
  /** Something went wrong that nobody thought of. */
  failed(exchange: Exchange, thrown: unknown): void
}

/** A POST whose head has passed, and what its session is held by while the body comes. */
interface Head {
  readonly exchange: Exchange
  readonly caller: Caller
  readonly mode: ResponseMode
  readonly id: ReturnType<typeof singleValue>
  readonly session: Session | undefined
  readonly hold: Hold | undefined
}

/** Serves the POSTs of one manager. */
export class Posts {
  readonly #host: PostHost

  constructor(host: PostHost) {
    this.#host = host
  }

  /** Serves one. Never rejects; resolves when it was dispatched or refused. */
  async serve(exchange: Exchange, caller: Caller): Promise<void> {
    // One asynchronous frame for the whole of a call: each costs.
    try {
      const head = this.#readHead(exchange, caller)
      if (head === undefined) return
      const body = this.#host.front.readBody(exchange)
      const waiting = this.#route(head, body === undefined ? undefined : await body)
      if (waiting !== undefined) await waiting
    } catch (thrown) {
      this.#host.failed(exchange, thrown)
    }
  }

  /** Undefined when the request was refused. */
  #readHead(exchange: Exchange, caller: Caller): Head | undefined {
    const negotiated = this.#host.front.negotiate(exchange)
    if (negotiated.kind === 'refused') this.#host.refuse(exchange, negotiated.refusal)
    if (negotiated.kind !== 'pass') return undefined
    const id = singleValue(exchange.header('mcp-session-id'))
    // From here on the upload counts: a slow body must not outlive its session.
    const session =
      id === 'conflict' || id.value === undefined
        ? undefined
        : this.#host.table.findOwned(id.value, caller.principal)
    const hold = session?.clock.holdProvisionally('exchange')
    if (hold !== undefined) exchange.onclose = () => hold.release()
    return { exchange, caller, mode: negotiated.value, id, session, hold }
  }

  /** Undefined where nothing has to be waited for. */
  #route(head: Head, body: BodyResult | undefined): Promise<void> | undefined {
    const { exchange, caller, mode, hold } = head
    const { front, perRequest, runtime } = this.#host
    const read = front.parse(exchange, body)
    if (read.kind !== 'pass') {
      if (read.kind === 'refused') this.#host.refuse(exchange, read.refusal)
      // A client that is gone is not answered, so nothing else lets the session go.
      hold?.release()
      return undefined
    }
    const { modern } = read.value
    if (modern === undefined && runtime.options.protocolEras !== 'modern')
      return this.#dispatch(head, read.value)
    // There are no sessions here: whatever id was sent holds nothing.
    hold?.release()
    if (modern !== undefined) return this.#serveModern(exchange, caller, modern, mode)
    perRequest?.refuseHandshake(exchange, read.value.body)
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
  #dispatch(head: Head, parsed: ParsedPost): Promise<void> | undefined {
    const { exchange, caller, mode, id, session, hold } = head
    const { runtime, opener, stateless } = this.#host
    const opening = initializeIn(parsed)
    if (id === 'conflict') return this.#refuse(head, parsed, SESSION_CONFLICT)
    if (opening === 'malformed') return this.#refuse(head, parsed, INITIALIZE_NOT_A_REQUEST)
    const without = this.#host.withoutStore()
    if (without !== undefined) return this.#refuse(head, parsed, without)
    if (runtime.options.stateless) return stateless.serve(exchange, caller, parsed, mode)
    if (opening === 'batched' && session === undefined) return this.#refuse(head, parsed, INITIALIZE_IN_BATCH)
    if (opening !== undefined && opening !== 'batched') {
      if (session !== undefined && session.state === 'open')
        return this.#refuse(head, parsed, ALREADY_INITIALIZED)
      return opener.open(exchange, caller, opening, mode)
    }
    if (id.value === undefined) return this.#refuse(head, parsed, SESSION_REQUIRED)
    // The session may have ended while its request was on the way.
    if (session === undefined || hold === undefined || session.state !== 'open')
      return this.#refuseGone(head, parsed, id.value)
    const version = checkVersion(exchange, session)
    if (version !== undefined) return this.#refuse(head, parsed, version)
    // Answers to what running calls ask still come through.
    const asks = this.#host.ending && parsed.messages.some(({ kind }) => kind === 'request')
    if (asks) return this.#refuse(head, parsed, SHUTTING_DOWN)
    const { messages, batch } = parsed
    const post: Post = { exchange, authInfo: caller.authInfo, messages, batch, mode, hold }
    const limit = checkPost(session, post)
    if (limit !== undefined) return this.#refuse(head, parsed, limit)
    if (session.instance === undefined && needsInstance(messages))
      return this.#wakeAndExecute(head, parsed, session, post, id.value)
    const scope = checkScopes(session, post)
    if (scope instanceof Promise) return this.#executeAfter(head, parsed, session, post, id.value, scope)
    if (scope !== undefined) return this.#refuse(head, parsed, scope)
    executePost(session, post)
    return undefined
  }

  async #wakeAndExecute(
    head: Head,
    parsed: ParsedPost,
    session: Session,
    post: Post,
    id: string,
  ): Promise<void> {
    // A shutdown waits for the call as for any other, from here on until the instance has it.
    const { load } = this.#host.runtime
    load.started()
    try {
      const woken = await session.wake(post.exchange, post.authInfo)
      if (woken instanceof AwakeHold) {
        try {
          await this.#executeAfter(head, parsed, session, post, id, checkScopes(session, post))
        } finally {
          woken.release()
        }
      } else if (session.state === 'open') this.#refuse(head, parsed, woken)
      else await this.#refuseGone(head, parsed, id)
    } finally {
      load.ended()
    }
  }

  /** Executes a POST that had to wait: meanwhile the session may have ended, or others may have been let in. */
  async #executeAfter(
    head: Head,
    parsed: ParsedPost,
    session: Session,
    post: Post,
    id: string,
    scope: Refusal | undefined | Promise<Refusal | undefined>,
  ): Promise<void> {
    const awake = session.instance?.life.hold()
    try {
      const challenged = await scope
      if (session.state !== 'open') return await this.#refuseGone(head, parsed, id)
      const refusal = challenged ?? checkPost(session, post)
      if (refusal === undefined) executePost(session, post)
      else this.#refuse(head, parsed, refusal)
    } finally {
      awake?.release()
    }
  }

  #refuse(head: Head, parsed: ParsedPost, refusal: Refusal): undefined {
    this.#host.refuse(head.exchange, { id: requestIdOf(parsed), ...refusal })
    head.hold?.release()
    return undefined
  }

  async #refuseGone(head: Head, parsed: ParsedPost, id: string): Promise<void> {
    this.#refuse(head, parsed, await this.#host.gone(id, head.caller.principal))
  }
}
