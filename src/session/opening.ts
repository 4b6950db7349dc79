/** `initialize`: nothing is allocated before admission, and nothing remains of an attempt that failed. */

import { DeadlineCall } from '../deadlines.ts'
import { messageOf } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { AuthInfo, JsonRpcRequest, JsonRpcResponse } from '../types.ts'
import { MessageContext } from './message-context.ts'
import { errorResponse } from './outbound.ts'
import type { Answerable, AnswerSink } from './running-request.ts'
import type { Session } from './session.ts'
import { isObject } from './session-record.ts'

/** How an attempt ended. `gone`: the client went away first, nobody is to be answered. */
export type OpeningOutcome =
  | { readonly kind: 'answered'; readonly response: JsonRpcResponse }
  | { readonly kind: 'failed'; readonly status: number; readonly response: JsonRpcResponse }
  | { readonly kind: 'gone' }

/**
 * Builds the instance of a session that nobody can find yet and has it answer `initialize`. Resolves, never rejects; whatever the
 * outcome but `answered` with a result, the caller closes the session.
 */
export function openSession(
  session: Session,
  request: JsonRpcRequest,
  exchange: Exchange,
  authInfo: AuthInfo | undefined,
): Promise<OpeningOutcome> {
  return new Promise((resolve) => {
    const { deadlines, options } = session.runtime
    const timeout = new DeadlineCall(() => {
      const seconds = Math.ceil(options.initializeTimeout / 1000)
      fail(504, JsonRpcErrorCode.SERVER_ERROR, `initialize took longer than ${seconds} s`)
    })
    const end = (outcome: OpeningOutcome): void => {
      deadlines.disarm(timeout)
      exchange.onclose = undefined
      resolve(outcome)
    }
    const fail = (status: number, code: number, message: string): void => {
      end({ kind: 'failed', status, response: errorResponse(request.id, code, message) })
    }
    deadlines.arm(timeout, options.initializeTimeout)
    exchange.onclose = () => end({ kind: 'gone' })
    session.build(exchange, authInfo).then(
      () =>
        deliverInitialize(session, request, exchange, authInfo, (response) =>
          end({ kind: 'answered', response }),
        ),
      (thrown: unknown) => {
        // The client is not told what the author's code says; the log is.
        session.runtime.log.error('createServer failed: the session was not opened', {
          error: thrown,
          message: messageOf(thrown),
        })
        fail(500, JsonRpcErrorCode.INTERNAL_ERROR, 'Internal error: the server could not be created')
      },
    )
  })
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
