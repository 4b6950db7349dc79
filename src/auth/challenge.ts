/** What a request is told that is not let in: RFC 6750 §3, with where the metadata is (RFC 9728 §5.1). */

import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'

/** What a challenge names. */
export interface Challenge {
  readonly error?: 'invalid_token' | 'insufficient_scope'
  /** Fixed texts of our own: printable ASCII without quotes. */
  readonly description?: string
  readonly scopes: readonly string[]
  readonly metadataUrl: string
}

/** The value of `WWW-Authenticate`. */
export function challengeHeader({ error, description, scopes, metadataUrl }: Challenge): string {
  const params = [
    ...(error === undefined ? [] : [`error="${error}"`]),
    ...(description === undefined ? [] : [`error_description="${description}"`]),
    ...(scopes.length === 0 ? [] : [`scope="${scopes.join(' ')}"`]),
    `resource_metadata="${metadataUrl}"`,
  ]
  return `Bearer ${params.join(', ')}`
}

/** 401 or 403 with its challenge, in the words of the transport. */
export function challengeResponse(challenge: Challenge): Response {
  const forbidden = challenge.error === 'insufficient_scope'
  const message = `${forbidden ? 'Forbidden' : 'Unauthorized'}: ${challenge.description ?? 'a bearer token is required'}`
  return new Response(errorBody(JsonRpcErrorCode.SERVER_ERROR, message), {
    status: forbidden ? 403 : 401,
    headers: { 'Content-Type': 'application/json', 'WWW-Authenticate': challengeHeader(challenge) },
  })
}

/** 503: whether the token is good cannot be told now. A 401 would have the client throw a good one away. */
export function unavailableResponse(): Response {
  const message = 'Service Unavailable: tokens cannot be checked at the moment'
  return new Response(errorBody(JsonRpcErrorCode.SERVER_ERROR, message), {
    status: 503,
    headers: { 'Content-Type': 'application/json', 'Retry-After': '5' },
  })
}
