/** What is looked up in a POST before it is dispatched. */

import type { JsonRpcRequest, RequestId } from '../types.ts'
import type { ParsedMessage } from '../jsonrpc/message.ts'

/** The messages of a POST, and whether they came as a batch. */
export interface PostedMessages {
  readonly messages: readonly ParsedMessage[]
  readonly batch: boolean
}

/** The `initialize` request of a POST; or what is wrong with the one it has. */
export function initializeIn({
  messages,
  batch,
}: PostedMessages): JsonRpcRequest | 'malformed' | 'batched' | undefined {
  for (const { kind, message } of messages) {
    if (kind === 'response' || message.method !== 'initialize') continue
    if (kind === 'notification') return 'malformed'
    return batch ? 'batched' : message
  }
  return undefined
}

/** The id of a POST's request; null where it has none of its own. */
export function requestIdOf({ messages, batch }: PostedMessages): RequestId | null {
  const [first] = messages
  return !batch && first?.kind === 'request' ? first.message.id : null
}

/** An optional object as JSON; undefined when it is nested too deeply to be written, which a client can send. */
export function jsonText(value: Readonly<Record<string, unknown>> | undefined): string | undefined {
  try {
    return value === undefined ? '{}' : JSON.stringify(value)
  } catch {
    return undefined
  }
}
