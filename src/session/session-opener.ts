/** Opens sessions: admission first, the table only after `initialize` has succeeded. */

import { messageOf } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { JsonRpcRequest, JsonRpcResponse, RequestId, ResponseMode } from '../types.ts'
import { Admission } from './admission.ts'
import type { Caller } from './http-front.ts'
import { openSession, type Outcome, recordAnswer } from './opening.ts'
import { PostAnswer } from './post-answer.ts'
import { jsonText } from './posted.ts'
import { MEMORY_SHORT } from './memory-pressure.ts'
import type { Refusal } from './refusal.ts'
import { ACCESS_ENDED, ALREADY_INITIALIZED, FULL, STORE_FAILS } from './refusals.ts'
import type { Runtime } from './runtime.ts'
import { Session } from './session.ts'
import { newRecord } from './session-record.ts'
import type { SessionTable } from './session-table.ts'

/** What opening a session needs of its manager. */
export interface OpeningHost {
  readonly runtime: Runtime
  readonly table: SessionTable
  /** Every attempt on its way, as what makes it fail. */
  readonly openings: Set<(refusal: Refusal) => void>
  /** Whether the app is closing. */
  readonly draining: boolean
  /** Sends a refusal and tells of it. */
  refuse(exchange: Exchange, refusal: Refusal): void
}

/** Opens the sessions of one manager. */
export class SessionOpener {
  readonly #host: OpeningHost
  readonly #single: boolean
  readonly #newSessionId: () => string
  readonly #admission: Admission
  #everOpened = false

  /** `single`: one session ever; `newSessionId` makes the ids. */
  constructor(host: OpeningHost, single: boolean, newSessionId: () => string) {
    this.#host = host
    this.#single = single
    this.#newSessionId = newSessionId
    this.#admission = new Admission(host.runtime.options)
  }

  /** Serves an `initialize`. Resolves when it is answered or refused. */
  async open(exchange: Exchange, caller: Caller, request: JsonRpcRequest, mode: ResponseMode): Promise<void> {
    const { options, hub, clock, shared } = this.#host.runtime
    const params = jsonText(request.params)
    if (params === undefined || Buffer.byteLength(params) > options.maxInitializeSize) {
      this.#host.refuse(exchange, {
        status: 400,
        code: JsonRpcErrorCode.INVALID_REQUEST,
        message: `Invalid Request: the params of initialize must not exceed ${options.maxInitializeSize} bytes`,
        cause: 'initialize',
        option: 'maxInitializeSize',
        id: request.id,
      })
      return
    }
    if (this.#single && this.#everOpened)
      return this.#host.refuse(exchange, { ...ALREADY_INITIALIZED, id: request.id })
    if (this.#host.draining)
      return this.#host.refuse(exchange, { ...this.#host.runtime.shuttingDown, id: request.id })
    const isPutOut = (): boolean => this.#host.runtime.revocations.since(caller.principal, caller.since)
    if (isPutOut()) return this.#host.refuse(exchange, { ...ACCESS_ENDED, id: request.id })
    if (this.#host.runtime.memory?.short === true)
      return this.#host.refuse(exchange, { ...MEMORY_SHORT, id: request.id })
    const tooFast = this.#admit(exchange, caller)
    if (tooFast !== undefined) return this.#host.refuse(exchange, { ...tooFast, id: request.id })
    // May be an author's, and throw: nothing is reserved yet.
    const id = this.#newSessionId()
    const slot = this.#host.table.reserve(caller.principal)
    if (typeof slot === 'string')
      return this.#host.refuse(exchange, { ...FULL, option: slot, id: request.id })
    this.#everOpened = true
    const record = newRecord(id, caller.principal, clock.wallTime(), shared.hold(params))
    const session = new Session(this.#host.runtime, record, this.#host.table, false)
    const { authInfo } = caller
    const openings = this.#host.openings
    let outcome = await openSession({ session, exchange, authInfo, id: request.id, openings }, request)
    // The app may have been closed between the server's answer and now.
    if (this.#host.draining && outcome.kind === 'done')
      outcome = { kind: 'failed', refusal: { ...this.#host.runtime.shuttingDown, id: request.id } }
    const answer = outcome.kind === 'done' ? outcome.value : undefined
    const succeeded = answer !== undefined && recordAnswer(session, answer)
    if (succeeded) outcome = await this.#keep(session, request.id, outcome)
    if (isPutOut()) outcome = { kind: 'failed', refusal: { ...ACCESS_ENDED, id: request.id } }
    if (outcome.kind === 'failed') this.#host.refuse(exchange, outcome.refusal)
    const response = outcome.kind === 'done' ? outcome.value : undefined
    const opened = succeeded && response !== undefined && !exchange.closed && session.state === 'opening'
    if (!opened) {
      slot.release()
      if (succeeded) this.#host.runtime.keeper?.forget(session)
      session.close('failed', 'initialize did not succeed')
      // Nothing was connected, so nothing is used up.
      if (session.instance === undefined) this.#everOpened = false
      // An error of the server's own is passed on; it travels like any answer, but without an id.
      if (response !== undefined)
        new PostAnswer(
          session,
          exchange,
          undefined,
          [{ kind: 'request', message: request }],
          false,
          mode === 'sse' ? 'json' : mode,
        ).answer(request, response)
      return
    }
    this.#host.table.register(session, slot)
    session.open()
    if (hub.active) {
      hub.emit({
        type: 'session.opened',
        time: clock.wallTime(),
        session: record.id,
        principal: record.principal,
        client: session.client,
        protocolVersion: record.protocolVersion,
        address: exchange.remoteAddress,
      })
    }
    exchange.commonHeaders = { ...exchange.commonHeaders, 'Mcp-Session-Id': record.id }
    const hold = session.clock.hold('exchange')
    new PostAnswer(session, exchange, hold, [{ kind: 'request', message: request }], false, mode).answer(
      request,
      response,
    )
  }

  /** Takes what an attempt costs, whatever becomes of it: it is the attempts that have to be slow. */
  #admit(exchange: Exchange, caller: Caller): Refusal | undefined {
    const { clock, warnOnce } = this.#host.runtime
    const { remoteAddress } = exchange
    if (this.#admission.looksAtAddresses && remoteAddress === undefined) {
      warnOnce(
        'openRatePerAddress does not limit this client: no address is known of it. A Request tells none (app.fetch) and a Unix socket has none; proxies in front do, where trustedProxies counts them and they set X-Forwarded-For',
        {},
      )
    }
    return this.#admission.admit(caller.principal, remoteAddress, clock.now())
  }

  /** With a store, nobody gets the id of a session that a restart would not know. */
  async #keep(
    session: Session,
    id: RequestId,
    outcome: Outcome<JsonRpcResponse>,
  ): Promise<Outcome<JsonRpcResponse>> {
    const { keeper, log } = this.#host.runtime
    if (keeper === undefined) return outcome
    try {
      await keeper.add(session)
    } catch (thrown) {
      log.error('a session was not opened: the store did not take it', { message: messageOf(thrown) })
      return { kind: 'failed', refusal: { ...STORE_FAILS, id } }
    }
    return this.#host.draining
      ? { kind: 'failed', refusal: { ...this.#host.runtime.shuttingDown, id } }
      : outcome
  }
}
