/** What is said of a token, by itself or by its issuer, as the handlers get it. */

import { TokenRefused } from './refusal.ts'

/** Claims of RFC 7519, RFC 9068 and RFC 7662, as they came. */
export type Claims = Readonly<Record<string, unknown>>

/** A token that was found good. */
export interface CheckedToken {
  readonly clientId: string
  readonly scopes: readonly string[]
  /** Seconds since the Unix epoch; undefined where nothing was said. */
  readonly expiresAt: number | undefined
  readonly claims: Claims
}

/**
 * Reads the claims that count for this server.
 * @throws TokenRefused for a token that only its holder may use, which nobody proves here
 */
export function checkedToken(claims: Claims): CheckedToken {
  // RFC 9449 §6, RFC 8705 §3: a copy of such a token is to be of no use, but would be here.
  if (claims['cnf'] !== undefined)
    throw new TokenRefused('the token is bound to a key, and bearers of it are not taken')
  const { client_id: clientId, azp, exp } = claims
  return {
    // `azp` is where OpenID providers had it before RFC 9068.
    clientId: typeof clientId === 'string' ? clientId : typeof azp === 'string' ? azp : '',
    scopes: scopesOf(claims['scope'] ?? claims['scp']),
    expiresAt: typeof exp === 'number' ? exp : undefined,
    claims,
  }
}

/** RFC 8693 §4.2 has one string; some issuers a list, as `scp`. */
function scopesOf(value: unknown): string[] {
  if (typeof value === 'string') return value.split(' ').filter((scope) => scope !== '')
  return Array.isArray(value) ? value.filter((scope): scope is string => typeof scope === 'string') : []
}

/** Whether one of those that a token is for is this server (RFC 7519 §4.1.3). */
export function isFor(aud: unknown, audience: readonly string[]): boolean {
  const named = Array.isArray(aud) ? aud : [aud]
  return named.some((name) => typeof name === 'string' && audience.includes(name))
}
