/** `initialize`: nothing is allocated before admission, and nothing remains of an attempt that failed. */

import { DeadlineCall } from '../deadlines.ts'
import { messageOf } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import { isObject } from '../json.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { AuthInfo, JsonRpcRequest, JsonRpcResponse, RequestId } from '../types.ts'
import { MessageContext } from './message-context.ts'
import { errorResponse } from './outbound.ts'
import type { Refusal } from './refusal.ts'
import { NOT_CREATED, TOOK_TOO_LONG } from './refusals.ts'
import type { Answerable, AnswerSink } from './running-request.ts'
import type { Session } from './session.ts'

/** How an attempt ended. `gone`: the client went away first, nobody is to be answered. */
export type Outcome<T> =
  | { readonly kind: 'done'; readonly value: T }
  | { readonly kind: 'failed'; readonly refusal: Refusal }
  | { readonly kind: 'gone' }

/** What an attempt needs. */
export interface Attempt {
  /** A session that nobody can find yet. The caller closes it unless the attempt succeeds. */
  readonly session: Session
  readonly exchange: Exchange
  readonly authInfo: AuthInfo | undefined
  /** The id that a refusal names. */
  readonly id: RequestId | null
  /** While it lasts, the attempt is in here as what makes it fail: a shutdown does not wait for it. */
  readonly openings: Set<(refusal: Refusal) => void>
}

/** Builds the instance of a session and has it answer `initialize`. Resolves, never rejects; the answer may be an error. */
export function openSession(attempt: Attempt, request: JsonRpcRequest): Promise<Outcome<JsonRpcResponse>> {
  return run(attempt, 'initialize', (done, refuse) => {
    deliverInitialize(attempt, request, (response) => {
      if (isAnswer(response)) {
        done(response)
        return
      }
      const what = 'the server answered initialize with what is neither an InitializeResult nor an error'
      attempt.session.runtime.log.error(what, { response })
      refuse(NOT_ANSWERED)
    })
  })
}

/** Builds the instance of a session that lives for one POST. Resolves, never rejects. */
export function buildForPost(attempt: Attempt): Promise<Outcome<undefined>> {
  return run(attempt, 'createServer', (done) => done(undefined))
}

/**
 * Builds the instance and goes on with `built`, until the first of: it is done or refuses, `initializeTimeout`, the client going away,
 * a shutdown.
 */
function run<T>(
  { session, exchange, authInfo, id, openings }: Attempt,
  what: 'initialize' | 'createServer',
  built: (done: (value: T) => void, refuse: (refusal: Refusal) => void) => void,
): Promise<Outcome<T>> {
  return new Promise((resolve) => {
    const { deadlines, options, log } = session.runtime
    const timeout = new DeadlineCall(() => {
      const seconds = Math.ceil(options.initializeTimeout / 1000)
      refuse({ ...TOOK_TOO_LONG, message: `${what} took longer than ${seconds} s` })
    })
    let ended = false
    const end = (outcome: Outcome<T>): void => {
      // A factory or an answer that comes late must not touch what the exchange has become.
      if (ended) return
      ended = true
      deadlines.disarm(timeout)
      openings.delete(refuse)
      exchange.onclose = undefined
      resolve(outcome)
    }
    const refuse = (refusal: Refusal): void => end({ kind: 'failed', refusal: { ...refusal, id } })
    deadlines.arm(timeout, options.initializeTimeout)
    openings.add(refuse)
    exchange.onclose = () => end({ kind: 'gone' })
    session
      .build(exchange, authInfo)
      .then(
        () => built((value) => end({ kind: 'done', value }), refuse),
        (thrown: unknown) => {
          // The client is not told what the author's code says; the log is.
          log.error('createServer failed', { error: thrown, message: messageOf(thrown) })
          refuse(NOT_CREATED)
        },
      )
      .catch((thrown: unknown) => {
        log.error(`${what} failed unexpectedly`, { error: thrown })
        refuse(NOT_CREATED)
      })
  })
}

const NOT_ANSWERED: Refusal = {
  status: 500,
  code: JsonRpcErrorCode.INTERNAL_ERROR,
  message: 'Internal error: the server did not answer initialize as the protocol asks',
  cause: 'initialize',
}

/** Whether a client can read it: the SDKs send what a handler returns unseen. */
function isAnswer(response: JsonRpcResponse): boolean {
  if ('error' in response) return isObject(response.error)
  return isObject(response.result) && typeof response.result['protocolVersion'] === 'string'
}

/** Takes the answer of `initialize`; nothing else may travel before it. */
class InitializeSink implements AnswerSink {
  readonly #onAnswer: (response: JsonRpcResponse) => void

  constructor(onAnswer: (response: JsonRpcResponse) => void) {
    this.#onAnswer = onAnswer
  }

  related(): boolean {
    return false
  }

  answer(request: Answerable, response: JsonRpcResponse): void {
    this.#onAnswer({ ...response, id: request.id })
  }

  cancelled(): void {}

  closeConnection(): void {}
}

function deliverInitialize(
  { session, exchange, authInfo }: Attempt,
  request: JsonRpcRequest,
  onAnswer: (response: JsonRpcResponse) => void,
): void {
  const running = session.start(request, new InitializeSink(onAnswer), undefined)
  if (session.state === 'closed') {
    session.abort(
      running,
      errorResponse(request.id, JsonRpcErrorCode.INTERNAL_ERROR, 'The server closed its connection'),
    )
    return
  }
  try {
    session.deliver(
      { ...request, id: running.privateId },
      new MessageContext(session, exchange, authInfo, undefined),
    )
  } catch (thrown) {
    session.instanceError(thrown)
    session.abort(running, errorResponse(request.id, JsonRpcErrorCode.INTERNAL_ERROR, 'Internal error'))
  }
}

/** Notes in the record what the server answered. */
export function recordAnswer(session: Session, response: JsonRpcResponse): boolean {
  if (!('result' in response)) return false
  const { protocolVersion, capabilities } = response.result
  if (typeof protocolVersion === 'string') session.record.protocolVersion = protocolVersion
  session.setCapabilities(JSON.stringify(isObject(capabilities) ? capabilities : {}))
  return true
}
