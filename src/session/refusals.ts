/** The refusals of the session manager that are always the same. */

import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { Refusal } from './refusal.ts'

/** An unknown, ended or foreign session: the same bytes in each case. */
export const NOT_FOUND: Refusal = {
  status: 404,
  code: JsonRpcErrorCode.SESSION_NOT_FOUND,
  message: 'Session not found',
  cause: 'session-not-found',
}

/** A POST or DELETE that names no session. */
export const SESSION_REQUIRED: Refusal = {
  status: 400,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Bad Request: Mcp-Session-Id header is required',
  cause: 'session-required',
}

/** One request, two sessions. */
export const SESSION_CONFLICT: Refusal = {
  status: 400,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Bad Request: Mcp-Session-Id has two different values',
  cause: 'session-conflict',
}

/** A GET or DELETE where there are no sessions: clients read 405 as 'no stream here' and go on. */
export const NO_STREAM_HERE: Refusal = {
  status: 405,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Method not allowed.',
  cause: 'method',
  headers: { Allow: 'POST' },
}

/** No place for another session. */
export const FULL: Refusal = {
  status: 503,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Service Unavailable: too many sessions',
  cause: 'full',
  headers: { 'Retry-After': '10' },
}

/** A second `initialize` on a live session. */
export const ALREADY_INITIALIZED: Refusal = {
  status: 400,
  code: JsonRpcErrorCode.INVALID_REQUEST,
  message: 'Invalid Request: Server already initialized',
  cause: 'already-initialized',
}

/** `initialize` as a notification. */
export const INITIALIZE_NOT_A_REQUEST: Refusal = {
  status: 400,
  code: JsonRpcErrorCode.INVALID_REQUEST,
  message: 'Invalid Request: initialize must be a request with an id',
  cause: 'initialize',
}

/** `initialize` among others. */
export const INITIALIZE_IN_BATCH: Refusal = {
  status: 400,
  code: JsonRpcErrorCode.INVALID_REQUEST,
  message: 'Invalid Request: initialize must not be part of a batch',
  cause: 'batch',
}

/** One stream, two cursors. */
export const CURSOR_CONFLICT: Refusal = {
  status: 400,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Bad Request: Last-Event-ID has two different values',
  cause: 'cursor',
}

/** A version header that names no revision spoken here. */
export function versionRefusal(version: string, supported: readonly string[]): Refusal {
  return {
    status: 400,
    code: JsonRpcErrorCode.SERVER_ERROR,
    message: `Bad Request: Unsupported protocol version: ${version.slice(0, 64)} (supported versions: ${supported.join(', ')})`,
    cause: 'protocol-version',
  }
}

/** Building the server, or its answer to `initialize`, took longer than it may; the message says how long that is. */
export const TOOK_TOO_LONG: Omit<Refusal, 'message'> = {
  status: 504,
  code: JsonRpcErrorCode.SERVER_ERROR,
  cause: 'initialize',
  option: 'initializeTimeout',
}

/** `createServer` did not do its part. */
export const NOT_CREATED: Refusal = {
  status: 500,
  code: JsonRpcErrorCode.INTERNAL_ERROR,
  message: 'Internal error: the server could not be created',
  cause: 'initialize',
}

/** The store does not work at the moment: what it has to keep, or to know, has to wait. */
export const STORE_FAILS: Refusal = {
  status: 503,
  code: JsonRpcErrorCode.INTERNAL_ERROR,
  message: 'Service Unavailable: sessions cannot be stored at the moment, try again',
  cause: 'store',
  headers: { 'Retry-After': '1' },
}

/** Another process serves the sessions. */
export const STORE_ELSEWHERE: Refusal = {
  status: 503,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Service Unavailable: another server has the sessions, try again',
  cause: 'store',
  headers: { 'Retry-After': '1' },
}

/** A stream of announcements outlived its token. */
export const TOKEN_EXPIRED: Refusal = {
  status: 401,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Unauthorized: the access token has expired, come back with a new one',
  cause: 'authentication',
  headers: { 'WWW-Authenticate': 'Bearer error="invalid_token"' },
}

/** Whoever asked was let in, and then put out before what was asked could begin. */
export const ACCESS_ENDED: Refusal = {
  status: 401,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Unauthorized: access was ended',
  cause: 'authentication',
  headers: { 'WWW-Authenticate': 'Bearer error="invalid_token"' },
}
