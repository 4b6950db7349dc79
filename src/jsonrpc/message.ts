/** From parsed JSON to JSON-RPC messages that both official SDKs take; everything else is refused with a reason. */

import { isObject } from '../json.ts'
import type { JsonRpcNotification, JsonRpcRequest, JsonRpcResponse, RequestId } from '../types.ts'

/** A well-formed message, told apart by `kind`. `message` has the members of JSON-RPC and no others. */
export type ParsedMessage =
  | { readonly kind: 'request'; readonly message: JsonRpcRequest }
  | { readonly kind: 'notification'; readonly message: JsonRpcNotification }
  | { readonly kind: 'response'; readonly message: JsonRpcResponse }

/** What {@link parseMessages} makes of a body. */
export type ParseResult =
  | { readonly ok: true; readonly batch: boolean; readonly messages: ParsedMessage[] }
  | {
      readonly ok: false
      /** The `message` of the -32600 to answer with. */
      readonly message: string
      /** The request's id when it could be read; never that of a response, which names a request of ours. */
      readonly id: RequestId | null
    }

/** Both SDKs type this key of `_meta` and ignore, without a word, a message whose value does not fit. */
const RELATED_TASK = 'io.modelcontextprotocol/related-task'

/**
 * Reads one JSON-RPC message, or a non-empty array of them; one bad message refuses the whole array.
 *
 * What passes here passes the guards of SDK v1 and v2 (`isJSONRPCRequest` and its siblings), which is the point: a message that they
 * do not recognize is dropped silently, and its sender waits for ever. Members that JSON-RPC does not know would have that effect too;
 * they are left out of the result, as is usual for JSON, instead of being refused.
 */
export function parseMessages(value: unknown): ParseResult {
  if (!Array.isArray(value)) {
    const parsed = parseMessage(value)
    return typeof parsed === 'string'
      ? { ok: false, message: `Invalid Request: ${parsed}`, id: readableId(value) }
      : { ok: true, batch: false, messages: [parsed] }
  }
  if (value.length === 0) return { ok: false, message: 'Invalid Request: the batch is empty', id: null }
  const messages: ParsedMessage[] = []
  for (let index = 0; index < value.length; index++) {
    const parsed = parseMessage(value[index])
    if (typeof parsed === 'string') {
      return { ok: false, message: `Invalid Request: message ${index + 1} of the batch: ${parsed}`, id: null }
    }
    messages.push(parsed)
  }
  return { ok: true, batch: true, messages }
}

/** Whether a value can be a request id: a string, or an integer that survives JSON in every language (below 2⁵³). */
export function isRequestId(value: unknown): value is RequestId {
  return typeof value === 'string' || Number.isSafeInteger(value)
}

/** The message, or what is wrong with it. */
function parseMessage(value: unknown): ParsedMessage | string {
  if (!isObject(value)) return 'a message must be an object'
  const { jsonrpc, id, method, result, error } = value
  if (jsonrpc !== '2.0') return 'jsonrpc must be "2.0"'
  if (id !== undefined && !isRequestId(id)) return 'id must be a string or an integer below 2^53'
  if (method !== undefined) {
    if (result !== undefined || error !== undefined)
      return 'a message has either a method, or a result or error'
    return parseCall(id, method, value.params)
  }
  if (result !== undefined) {
    if (error !== undefined) return 'a response has either a result or an error'
    if (id === undefined) return 'a result must have an id'
    if (!isObject(result)) return 'result must be an object'
    const wrongMeta = checkMeta(result._meta)
    if (wrongMeta !== undefined) return `result._meta${wrongMeta}`
    return { kind: 'response', message: { jsonrpc: '2.0', id, result } }
  }
  if (error !== undefined) return parseErrorResponse(id, error)
  return 'a message has a method, a result or an error'
}

function parseCall(id: RequestId | undefined, method: unknown, params: unknown): ParsedMessage | string {
  if (typeof method !== 'string' || method === '') return 'method must be a non-empty string'
  if (params === undefined) {
    return id === undefined
      ? { kind: 'notification', message: { jsonrpc: '2.0', method } }
      : { kind: 'request', message: { jsonrpc: '2.0', id, method } }
  }
  if (!isObject(params)) return 'params must be an object'
  const wrongMeta = checkMeta(params._meta)
  if (wrongMeta !== undefined) return `params._meta${wrongMeta}`
  return id === undefined
    ? { kind: 'notification', message: { jsonrpc: '2.0', method, params } }
    : { kind: 'request', message: { jsonrpc: '2.0', id, method, params } }
}

function parseErrorResponse(id: RequestId | undefined, error: unknown): ParsedMessage | string {
  if (!isObject(error)) return 'error must be an object'
  const { code, message, data } = error
  if (!Number.isSafeInteger(code)) return 'error.code must be an integer'
  if (typeof message !== 'string') return 'error.message must be a string'
  const clean =
    data === undefined ? { code: code as number, message } : { code: code as number, message, data }
  return id === undefined
    ? { kind: 'response', message: { jsonrpc: '2.0', error: clean } }
    : { kind: 'response', message: { jsonrpc: '2.0', id, error: clean } }
}

/** What is wrong with a `_meta`, to be read after its path; undefined when nothing is. */
function checkMeta(meta: unknown): string | undefined {
  if (meta === undefined) return undefined
  if (!isObject(meta)) return ' must be an object'
  const { progressToken, [RELATED_TASK]: relatedTask } = meta
  if (progressToken !== undefined && !isRequestId(progressToken)) {
    return '.progressToken must be a string or an integer below 2^53'
  }
  if (relatedTask !== undefined && !(isObject(relatedTask) && typeof relatedTask.taskId === 'string')) {
    return `["${RELATED_TASK}"] must be an object with a string taskId`
  }
  return undefined
}

function readableId(value: unknown): RequestId | null {
  if (!isObject(value) || !isRequestId(value.id)) return null
  const isResponse = value.method === undefined && (value.result !== undefined || value.error !== undefined)
  return isResponse ? null : value.id
}
