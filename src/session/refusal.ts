/** An HTTP request that is not served: one value with everything the client, the log and the events are told. */

import type { Exchange, ResponseHeaders } from '../http/exchange.ts'
import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { RequestId } from '../types.ts'
import type { RefusalCause } from './events.ts'

/** A refused request. */
export interface Refusal {
  /** HTTP status. */
  readonly status: number
  /** JSON-RPC error code. */
  readonly code: number
  /** What the client is told. Never holds another session's id. */
  readonly message: string
  readonly cause: RefusalCause
  /** The request's id, where it could be read. */
  readonly id?: RequestId | null
  /** Detail for the client. */
  readonly data?: unknown
  /** Further response header fields. */
  readonly headers?: ResponseHeaders
  /** The option that decides this, for the log. */
  readonly option?: string
}

/** The app is closing: clients may try another node, or again after `retry` milliseconds, when another process may be there. */
export function shuttingDown(retry: number): Refusal {
  return {
    status: 503,
    code: JsonRpcErrorCode.SERVER_ERROR,
    message: 'Service Unavailable: the server is shutting down',
    cause: 'draining',
    headers: { 'Retry-After': String(Math.ceil(retry / 1000)) },
  }
}

/** Sends a refusal. */
export function sendRefusal(exchange: Exchange, refusal: Refusal): void {
  const headers = refusal.headers === undefined ? JSON_HEADERS : { ...JSON_HEADERS, ...refusal.headers }
  exchange.respond(
    refusal.status,
    headers,
    errorBody(refusal.code, refusal.message, refusal.id, refusal.data),
  )
}

const JSON_HEADERS = { 'Content-Type': 'application/json' } as const
