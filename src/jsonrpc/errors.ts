/** The JSON-RPC error codes of this package, by name, and the one way an error body is written. */

import type { RequestId } from '../types.ts'

/**
 * JSON-RPC error codes that this package sends.
 *
 * Sources: JSON-RPC 2.0 §5.1 for -32700 and -32603 … -32600; the official TypeScript SDK's Streamable HTTP transport for -32000 and
 * -32001; the Language Server Protocol's `RequestCancelled` for -32800; MCP 2026-07-28 for -32020 … -32022.
 */
export const JsonRpcErrorCode = {
  /** The body is not JSON, or not UTF-8. */
  PARSE_ERROR: -32700,
  /** The body is JSON, but not a JSON-RPC message, or not one that may be sent now. */
  INVALID_REQUEST: -32600,
  /** No such method. */
  METHOD_NOT_FOUND: -32601,
  /** The method exists, its parameters are wrong. */
  INVALID_PARAMS: -32602,
  /** The server failed. */
  INTERNAL_ERROR: -32603,
  /** Whatever the transport refuses that has no code of its own; the SDKs use it with 400, 403, 405, 406, 409 and 503. */
  SERVER_ERROR: -32000,
  /** The session is unknown, expired, closed, or somebody else's. */
  SESSION_NOT_FOUND: -32001,
  /** The request was cancelled by `notifications/cancelled`. */
  REQUEST_CANCELLED: -32800,
  /** Headers and body contradict each other (2026-07-28, `HEADER_MISMATCH`). */
  HEADER_MISMATCH: -32020,
  /** The client did not declare a capability that the request needs (2026-07-28). */
  MISSING_CLIENT_CAPABILITY: -32021,
  /** The protocol version is not spoken here; `data.supported` lists those that are (2026-07-28). */
  UNSUPPORTED_PROTOCOL_VERSION: -32022,
} as const

/** One of {@link JsonRpcErrorCode}'s values. */
export type JsonRpcErrorCode = (typeof JsonRpcErrorCode)[keyof typeof JsonRpcErrorCode]

/**
 * A serialized JSON-RPC error response.
 *
 * @param id the request's id when it could be read; `null` is written otherwise (JSON-RPC 2.0 §5)
 * @param data must be serializable; left out when undefined
 */
export function errorBody(code: number, message: string, id?: RequestId | null, data?: unknown): string {
  return JSON.stringify({
    jsonrpc: '2.0',
    error: data === undefined ? { code, message } : { code, message, data },
    id: id ?? null,
  })
}
