/** Under `stateless` a server is built for one POST and closed after it. */

import type { Exchange } from '../http/exchange.ts'
import { singleValue } from '../http/headers.ts'
import type { CloseReason, ResponseMode } from '../types.ts'
import type { Caller } from './http-front.ts'
import { checkPost, executePost, type Post } from './inbound.ts'
import { buildForPost } from './opening.ts'
import { MEMORY_SHORT } from './memory-pressure.ts'
import { initializeIn, type PostedMessages, requestIdOf } from './posted.ts'
import type { Refusal } from './refusal.ts'
import { FULL } from './refusals.ts'
import { checkScopes } from './scope-check.ts'
import { Session, type SessionOwner } from './session.ts'
import type { OpeningHost } from './session-opener.ts'
import { newRecord, randomSessionId } from './session-record.ts'
import { checkVersion } from './version-check.ts'

/** The revision that a request without `Mcp-Protocol-Version` is taken for where no session knows better (transports, 2025-06-18). */
const VERSION_WITHOUT_HEADER = '2025-03-26'

/** Serves the POSTs of one manager without sessions. */
export class StatelessServing {
  readonly #host: OpeningHost
  readonly #sessions = new Set<Session>()

  constructor(host: OpeningHost) {
    this.#host = host
  }

  /** What lives now, each for its one POST. */
  get sessions(): Iterable<Session> {
    return this.#sessions
  }

  /** Serves one POST. Resolves when it was dispatched or refused. */
  async serve(exchange: Exchange, caller: Caller, parsed: PostedMessages, mode: ResponseMode): Promise<void> {
    const { clock, memory, shared } = this.#host.runtime
    const id = requestIdOf(parsed)
    if (!parsed.messages.some(({ kind }) => kind === 'request')) {
      exchange.respond(202, {}, '')
      return
    }
    if (this.#host.draining) return this.#host.refuse(exchange, { ...this.#host.runtime.shuttingDown, id })
    if (memory?.short === true) return this.#host.refuse(exchange, { ...MEMORY_SHORT, id })
    const slot = this.#host.table.reserve(undefined)
    if (typeof slot === 'string') return this.#host.refuse(exchange, { ...FULL, option: slot, id })
    const record = newRecord(randomSessionId(), caller.principal, clock.wallTime(), shared.hold('{}'))
    const owner: SessionOwner = {
      activityChanged: () => {},
      closed: (session: Session, _reason: CloseReason) => {
        this.#sessions.delete(session)
        slot.release()
      },
    }
    const session = new Session(this.#host.runtime, record, owner, true)
    this.#sessions.add(session)
    const { authInfo } = caller
    const outcome = await buildForPost({ session, exchange, authInfo, id, openings: this.#host.openings })
    if (outcome.kind === 'failed') this.#host.refuse(exchange, outcome.refusal)
    if (outcome.kind !== 'done') return session.close('failed')
    if (session.state === 'closed')
      return this.#host.refuse(exchange, { ...this.#host.runtime.shuttingDown, id })
    session.open()
    const hold = session.clock.hold('exchange')
    exchange.onclose = () => hold.release()
    const refuse = (refusal: Refusal) => {
      this.#host.refuse(exchange, { id, ...refusal })
      hold.release()
    }
    // `initialize` brings its version with it; without a header the specification says which is meant.
    const version = initializeIn(parsed) === undefined ? checkVersion(exchange, session) : undefined
    if (version !== undefined) return refuse(version)
    const header = singleValue(exchange.header('mcp-protocol-version'))
    record.protocolVersion = (header === 'conflict' ? undefined : header.value) ?? VERSION_WITHOUT_HEADER
    const post: Post = { exchange, authInfo, messages: parsed.messages, batch: parsed.batch, mode, hold }
    const limit = checkPost(session, post)
    if (limit !== undefined) return refuse(limit)
    const scope = checkScopes(session, post)
    const challenged = scope instanceof Promise ? await scope : scope
    if (challenged !== undefined) return refuse(challenged)
    if (session.state !== 'open') return refuse(this.#host.runtime.shuttingDown)
    executePost(session, post)
  }
}
