/** Per-tool scopes of SDK v2: the server itself says which token is not enough, before the call runs. */

import { bearerAuthChallengeResponse, OAuthError, OAuthErrorCode } from '@modelcontextprotocol/server'

import { isObject } from '../json.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { AuthInfo, JsonRpcRequest } from '../types.ts'
import type { Post } from './inbound.ts'
import type { ScopeChallengeResolver } from './instance-transport.ts'
import type { Refusal } from './refusal.ts'
import type { Session } from './session.ts'

/** A refusal with 403 when a request of the POST needs scopes its token lacks. Resolves at once unless the author's check waits. */
export function checkScopes(
  session: Session,
  post: Post,
): Refusal | undefined | Promise<Refusal | undefined> {
  const resolver = session.instance?.transport.scopeChallengeResolver
  if (resolver === undefined) return undefined
  for (const [index, parsed] of post.messages.entries()) {
    if (parsed.kind !== 'request') continue
    const challenge = resolver({ request: parsed.message, authInfo: post.authInfo })
    if (challenge instanceof Promise) return checkRest(post, resolver, index, challenge)
    if (challenge !== undefined) return refusalOf(challenge, post.authInfo, parsed.message)
  }
  return undefined
}

/** Goes on where a check had to wait; `first` is what it waits for. */
async function checkRest(
  post: Post,
  resolver: ScopeChallengeResolver,
  from: number,
  first: Promise<unknown>,
): Promise<Refusal | undefined> {
  let pending: unknown = first
  for (const parsed of post.messages.slice(from)) {
    if (parsed.kind !== 'request') continue
    const challenge = await (pending ?? resolver({ request: parsed.message, authInfo: post.authInfo }))
    pending = undefined
    if (challenge !== undefined) return refusalOf(challenge, post.authInfo, parsed.message)
  }
  return undefined
}

function refusalOf(challenge: unknown, authInfo: AuthInfo | undefined, request: JsonRpcRequest): Refusal {
  const { scopes, errorDescription } = isObject(challenge) ? challenge : {}
  const description = typeof errorDescription === 'string' ? errorDescription : 'Insufficient scope'
  const response = bearerAuthChallengeResponse(
    new OAuthError(OAuthErrorCode.InsufficientScope, description),
    {
      requiredScopes: Array.isArray(scopes) ? scopes.map(String) : [],
      ...(authInfo?.resourceMetadataUrl !== undefined && {
        resourceMetadataUrl: authInfo.resourceMetadataUrl,
      }),
    },
  )
  return {
    status: 403,
    code: JsonRpcErrorCode.SERVER_ERROR,
    message: description,
    cause: 'scope',
    id: request.id,
    headers: { 'WWW-Authenticate': response.headers.get('www-authenticate') ?? 'Bearer' },
  }
}
