/** `initialize`: nothing is allocated before admission, and nothing remains of an attempt that failed. */

import { DeadlineCall } from '../deadlines.ts'
import { messageOf } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { AuthInfo, JsonRpcRequest, JsonRpcResponse } from '../types.ts'
import { MessageContext } from './message-context.ts'
import { errorResponse } from './outbound.ts'
import type { Refusal } from './refusal.ts'
import type { Answerable, AnswerSink } from './running-request.ts'
import type { Session } from './session.ts'
import { isObject } from './session-record.ts'

/** How an attempt ended. `gone`: the client went away first, nobody is to be answered. */
export type OpeningOutcome =
  | { readonly kind: 'answered'; readonly response: JsonRpcResponse }
  | { readonly kind: 'failed'; readonly refusal: Refusal }
  | { readonly kind: 'gone' }

/**
 * Builds the instance of a session that nobody can find yet and has it answer `initialize`. Resolves, never rejects; whatever the
 * outcome but `answered` with a result, the caller closes the session.
 *
 * @param openings while it lasts, holds what makes this attempt fail with a refusal: a shutdown does not wait for it
 */
export function openSession(
  session: Session,
  request: JsonRpcRequest,
  exchange: Exchange,
  authInfo: AuthInfo | undefined,
  openings: Set<(refusal: Refusal) => void>,
): Promise<OpeningOutcome> {
  return new Promise((resolve) => {
    const { deadlines, options, log } = session.runtime
    const timeout = new DeadlineCall(() => {
      const seconds = Math.ceil(options.initializeTimeout / 1000)
      refuse({ ...TOOK_TOO_LONG, message: `initialize took longer than ${seconds} s` })
    })
    let ended = false
    const end = (outcome: OpeningOutcome): void => {
      // A factory or an answer that comes late must not touch what the exchange has become.
      if (ended) return
      ended = true
      deadlines.disarm(timeout)
      openings.delete(refuse)
      exchange.onclose = undefined
      resolve(outcome)
    }
    const refuse = (refusal: Refusal): void =>
      end({ kind: 'failed', refusal: { ...refusal, id: request.id } })
    const onAnswer = (response: JsonRpcResponse): void => {
      if (isAnswer(response)) {
        end({ kind: 'answered', response })
        return
      }
      log.error('the server answered initialize with what is neither an InitializeResult nor an error', {
        response,
      })
      refuse(NOT_ANSWERED)
    }
    deadlines.arm(timeout, options.initializeTimeout)
    openings.add(refuse)
    exchange.onclose = () => end({ kind: 'gone' })
    session
      .build(exchange, authInfo)
      .then(
        () => deliverInitialize(session, request, exchange, authInfo, onAnswer),
        (thrown: unknown) => {
          // The client is not told what the author's code says; the log is.
          log.error('createServer failed: the session was not opened', {
            error: thrown,
            message: messageOf(thrown),
          })
          refuse(NOT_CREATED)
        },
      )
      .catch((thrown: unknown) => {
        log.error('initialize failed unexpectedly', { error: thrown })
        refuse(NOT_CREATED)
      })
  })
}

const TOOK_TOO_LONG = {
  status: 504,
  code: JsonRpcErrorCode.SERVER_ERROR,
  cause: 'initialize',
  option: 'initializeTimeout',
} as const

/** Why there is no session when `createServer` did not do its part. */
export const NOT_CREATED: Refusal = {
  status: 500,
  code: JsonRpcErrorCode.INTERNAL_ERROR,
  message: 'Internal error: the server could not be created',
  cause: 'initialize',
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
  session: Session,
  request: JsonRpcRequest,
  exchange: Exchange,
  authInfo: AuthInfo | undefined,
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
  if (isObject(capabilities)) session.record.serverCapabilities = capabilities
  return true
}
