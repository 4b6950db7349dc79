/** Callers who are who they say they are. */

import type { AuthInfo } from '../../src/types.ts'

/** Authenticates whoever says who they are: `Authorization: Bearer <name>`. */
export function authenticateByName(request: Request): AuthInfo | undefined {
  const name = request.headers.get('authorization')?.slice('Bearer '.length)
  if (name === undefined) return undefined
  return {
    token: name,
    clientId: 'client',
    scopes: [],
    extra: { iss: 'https://issuer.example', sub: name },
  }
}
