/** Who owns a session: a name that stays the same when the token is refreshed, and is never shared by two users. */

import { createHash } from 'node:crypto'

import type { Log } from '../logging.ts'
import type { AuthInfo, PrincipalOf } from '../types.ts'

/** Derives principals from verified authentication, by the author's rule or the default one. */
export class Principals {
  readonly #custom: PrincipalOf | undefined
  readonly #log: Log
  #warned = false

  constructor(custom: PrincipalOf | undefined, log: Log) {
    this.#custom = custom
    this.#log = log
  }

  /** The principal of a request; undefined for an anonymous one. */
  of(authInfo: AuthInfo | undefined, request: () => Request): string | undefined {
    if (authInfo === undefined) return undefined
    if (this.#custom !== undefined) {
      const principal: unknown = this.#custom(authInfo, request())
      if (principal === undefined || typeof principal === 'string') return principal
      throw new TypeError(
        `principal must return a string or undefined, got ${principal instanceof Promise ? 'a Promise: it cannot be async' : typeof principal}`,
      )
    }
    const { iss, sub } = authInfo.extra ?? {}
    // A subject is unique within its issuer only (RFC 7519 §4.1.2); the client keeps two applications of one user apart.
    if (typeof sub === 'string' && sub !== '') {
      return JSON.stringify([typeof iss === 'string' ? iss : '', sub, authInfo.clientId])
    }
    // Never the client id alone: all users of a client share it.
    this.#warnOnce()
    const digest = createHash('sha256').update(authInfo.token).digest('base64url')
    return JSON.stringify(['token', digest, authInfo.clientId])
  }

  #warnOnce(): void {
    if (this.#warned) return
    this.#warned = true
    this.#log.warn(
      'tokens name no subject (authInfo.extra.sub): sessions are bound to the token itself, and a refreshed token loses them; ' +
        'set authInfo.extra.iss and .sub, or the option principal',
    )
  }
}
