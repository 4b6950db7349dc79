/** Messages to the client as text, within their bound. */

import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { JsonRpcMessage, JsonRpcResponse, RequestId } from '../types.ts'
import type { Session } from './session.ts'

/** The serialized form of an answer under the id the client knows; an error in its place when it cannot be sent. */
export function serialize(session: Session, response: JsonRpcResponse, id: RequestId): string {
  try {
    const data =
      'error' in response
        ? JSON.stringify({ jsonrpc: '2.0', id, error: response.error })
        : JSON.stringify({ jsonrpc: '2.0', id, result: response.result })
    const limit = session.runtime.options.maxMessageSize
    if (!tooLarge(data, limit)) return data
    return errorBody(
      JsonRpcErrorCode.INTERNAL_ERROR,
      `The answer is larger than maxMessageSize (${limit} bytes)`,
      id,
    )
  } catch (thrown) {
    session.instanceError(thrown)
    return errorBody(JsonRpcErrorCode.INTERNAL_ERROR, 'The answer could not be serialized', id)
  }
}

/** The serialized form of a notification or request; undefined, and logged, when it cannot be sent. */
export function serializeOutgoing(session: Session, message: JsonRpcMessage): string | undefined {
  try {
    const data = JSON.stringify(message)
    if (!tooLarge(data, session.runtime.options.maxMessageSize)) return data
    session.runtime.log.warn('a message to the client was dropped: it is larger than maxMessageSize')
  } catch (thrown) {
    session.instanceError(thrown)
  }
  return undefined
}

function tooLarge(data: string, limit: number): boolean {
  // UTF-8 needs at most three bytes per UTF-16 unit: short strings need no count.
  return data.length * 3 > limit && Buffer.byteLength(data) > limit
}
