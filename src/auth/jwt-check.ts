/** Checks access tokens that are JWTs (RFC 9068) by the keys of their issuer; the cryptography is that of `jose`. */

import {
  createLocalJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
  type JWTVerifyOptions,
  type ProtectedHeaderParameters,
} from 'jose'

import type { Clock } from '../clock.ts'
import { type CheckedToken, checkedToken } from './claims.ts'
import type { Refreshed } from './refreshed.ts'
import { TokenRefused } from './refusal.ts'
import { TokenCache, tokenKey } from './token-cache.ts'

/** The keys of an issuer; another object after each time they were loaded. */
export type Keys = ReturnType<typeof createLocalJWKSet>

/** What may stand in `typ` of an access token; those of RFC 9068 say `at+jwt`, older issuers nothing in particular. */
const TYPES: readonly unknown[] = [undefined, 'at+jwt', 'application/at+jwt', 'jwt', 'application/jwt']

/** Tokens whose signature was checked; each costs some hundred bytes besides its claims. */
const MOST_CHECKED = 10_000

/** How long a signature that was found good is not checked again, in milliseconds: the keys may change. */
const CHECKED_FOR = 5 * 60_000

/** Keys that are tried where a token does not say which it was signed with. */
const MOST_CANDIDATES = 8

/** What a {@link JwtCheck} is made of. */
export interface JwtCheckOptions {
  readonly issuer: string
  readonly audience: readonly string[]
  readonly algorithms: readonly string[]
  /** Milliseconds. */
  readonly clockTolerance: number
  /** Whether tokens must be all that RFC 9068 asks of them. */
  readonly rfc9068: boolean
  readonly clock: () => Clock
  readonly keys: Refreshed<Keys>
}

/** Takes the keys apart that an issuer publishes. @throws as `jose` does */
export function keysOf(json: unknown): Keys {
  return createLocalJWKSet(json as JSONWebKeySet)
}

/** Checks JWTs. */
export class JwtCheck {
  readonly #options: JwtCheckOptions
  readonly #checked = new TokenCache<{ readonly token: CheckedToken; readonly keys: Keys }>(MOST_CHECKED)

  constructor(options: JwtCheckOptions) {
    this.#options = options
  }

  /** @throws TokenRefused, CheckUnavailable */
  async check(token: string): Promise<CheckedToken> {
    const { clock, keys, clockTolerance } = this.#options
    this.#checkUnsigned(token)
    const current = await keys.get()
    const key = tokenKey(token)
    const known = this.#checked.get(key, clock().now())
    if (known?.keys === current) {
      // A signature stays good; the time does not.
      if (clock().wallTime() < (known.token.expiresAt ?? 0) * 1000 + clockTolerance) return known.token
      this.#checked.delete(key)
      throw new TokenRefused('the token has expired')
    }
    const found = await this.#verified(token, current)
    const checked = checkedToken(found.payload)
    this.#checked.set(key, { token: checked, keys: found.keys }, clock().now() + CHECKED_FOR)
    return checked
  }

  /** What costs nothing comes first: who sends a stranger's tokens does not have keys loaded, nor signatures checked. */
  #checkUnsigned(token: string): void {
    const { algorithms, issuer } = this.#options
    let header: ProtectedHeaderParameters
    let payload: JWTPayload
    try {
      header = decodeProtectedHeader(token)
      payload = decodeJwt(token)
    } catch {
      throw new TokenRefused('the token is not a JWT')
    }
    if (typeof header.alg !== 'string' || !algorithms.includes(header.alg))
      throw new TokenRefused('the token is signed with an algorithm that is not taken')
    const type = typeof header.typ === 'string' ? header.typ.toLowerCase() : header.typ
    if (!TYPES.includes(type)) throw new TokenRefused('the token is not an access token')
    if (payload.iss !== issuer) throw new TokenRefused('the token is of another issuer')
  }

  async #verified(token: string, current: Keys): Promise<{ payload: JWTPayload; keys: Keys }> {
    try {
      return await this.#verify(token, current)
    } catch (error) {
      // The issuer may have new keys.
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw refusalOf(error)
    }
    const renewed = await this.#options.keys.renewed()
    try {
      return await this.#verify(token, renewed)
    } catch (error) {
      throw refusalOf(error)
    }
  }

  async #verify(token: string, keys: Keys): Promise<{ payload: JWTPayload; keys: Keys }> {
    const { issuer, audience, algorithms, clockTolerance, rfc9068, clock } = this.#options
    const options: JWTVerifyOptions = {
      issuer,
      audience: [...audience],
      algorithms: [...algorithms],
      clockTolerance: clockTolerance / 1000,
      currentDate: new Date(clock().wallTime()),
      requiredClaims: rfc9068 ? ['exp', 'sub', 'client_id', 'iat', 'jti'] : ['exp'],
      ...(rfc9068 && { typ: 'at+jwt' }),
    }
    try {
      const { payload } = await jwtVerify(token, keys, options)
      return { payload, keys }
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error
      let tried = 0
      for await (const candidate of error) {
        if (++tried > MOST_CANDIDATES) break
        const verified = await jwtVerify(token, candidate, options).catch((failure: unknown) => {
          if (failure instanceof errors.JWSSignatureVerificationFailed) return undefined
          throw failure
        })
        if (verified !== undefined) return { payload: verified.payload, keys }
      }
      throw new errors.JWSSignatureVerificationFailed()
    }
  }
}

/** What its client may know of why a token was refused. */
function refusalOf(error: unknown): TokenRefused {
  if (error instanceof TokenRefused) return error
  if (error instanceof errors.JWTExpired) return new TokenRefused('the token has expired')
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === 'aud') return new TokenRefused('the token is for another resource')
    if (error.claim === 'nbf') return new TokenRefused('the token is not valid yet')
    if (error.claim === 'typ') return new TokenRefused('the token is not an access token')
    return new TokenRefused('the token lacks a claim, or has one that is wrong')
  }
  if (error instanceof errors.JWKSNoMatchingKey)
    return new TokenRefused('the token is signed with a key that its issuer does not have')
  return new TokenRefused('the signature of the token is wrong')
}
