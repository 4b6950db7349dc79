/** Checks access tokens by asking their issuer (RFC 7662). */

import type { Clock } from '../clock.ts'
import { isObject } from '../json.ts'
import { type CheckedToken, checkedToken, type Claims, isFor } from './claims.ts'
import { fetchJson } from './fetch-json.ts'
import { CheckUnavailable, TokenRefused } from './refusal.ts'
import { TokenCache, tokenKey } from './token-cache.ts'

/** Answers that are remembered: of tokens that are good, and of others, so that a flood of the latter does not push out the former. */
const MOST_REMEMBERED = 10_000

/** Questions on their way at once. Strangers must not make a flood of them. */
const MOST_ASKED = 64

/** How this server proves to the issuer who it is: RFC 6749 §2.3.1. */
export type ClientAuthentication = 'client_secret_basic' | 'client_secret_post'

/** What an {@link IntrospectionCheck} is made of. */
export interface IntrospectionCheckOptions {
  readonly issuer: string
  readonly audience: readonly string[]
  /** Milliseconds. */
  readonly clockTolerance: number
  /** Milliseconds. */
  readonly cacheFor: number
  readonly allowMissingAudience: boolean
  readonly clientId: string
  readonly clientSecret: string
  readonly authentication: ClientAuthentication
  readonly clock: () => Clock
  readonly endpoint: () => Promise<string>
}

type Outcome = { readonly token: CheckedToken } | { readonly refusal: string }

/** Checks opaque tokens. */
export class IntrospectionCheck {
  readonly #options: IntrospectionCheckOptions
  readonly #good = new TokenCache<Outcome>(MOST_REMEMBERED)
  readonly #refused = new TokenCache<Outcome>(MOST_REMEMBERED)
  readonly #asked = new Map<string, Promise<Outcome>>()

  constructor(options: IntrospectionCheckOptions) {
    this.#options = options
  }

  /** @throws TokenRefused, CheckUnavailable */
  async check(token: string): Promise<CheckedToken> {
    const key = tokenKey(token)
    const now = this.#options.clock().now()
    const outcome = this.#good.get(key, now) ?? this.#refused.get(key, now) ?? (await this.#ask(key, token))
    if ('refusal' in outcome) throw new TokenRefused(outcome.refusal)
    this.#checkTimes(outcome.token.claims)
    return outcome.token
  }

  /** Whoever asks about the same token at once waits for the same answer. */
  #ask(key: string, token: string): Promise<Outcome> {
    const pending = this.#asked.get(key)
    if (pending !== undefined) return pending
    if (this.#asked.size >= MOST_ASKED)
      throw new CheckUnavailable(`${MOST_ASKED} tokens are being introspected already`)
    const asked = this.#introspect(token)
      .then((outcome) => {
        const remembered = 'token' in outcome ? this.#good : this.#refused
        const { clock, cacheFor } = this.#options
        if (cacheFor > 0) remembered.set(key, outcome, clock().now() + cacheFor)
        return outcome
      })
      .finally(() => this.#asked.delete(key))
    this.#asked.set(key, asked)
    return asked
  }

  async #introspect(token: string): Promise<Outcome> {
    const { issuer, audience, allowMissingAudience } = this.#options
    const claims = await this.#question(token)
    if (claims['active'] !== true) return { refusal: 'the token is not active' }
    const { iss, aud, token_type: type } = claims
    if (iss !== undefined && iss !== issuer) return { refusal: 'the token is of another issuer' }
    if (aud === undefined ? !allowMissingAudience : !isFor(aud, audience))
      return { refusal: 'the token is for another resource' }
    if (typeof type === 'string' && !/^(?:bearer|access_token)$/i.test(type))
      return { refusal: 'the token is not a bearer token' }
    try {
      // Subjects are unique within their issuer only, which need not name itself here.
      return { token: checkedToken({ ...claims, iss: issuer }) }
    } catch (error) {
      if (error instanceof TokenRefused) return { refusal: error.message }
      throw error
    }
  }

  async #question(token: string): Promise<Claims> {
    const { clientId, clientSecret, authentication, clock, endpoint } = this.#options
    const form = new URLSearchParams({ token, token_type_hint: 'access_token' })
    const headers: Record<string, string> = { 'Content-Type': 'application/x-www-form-urlencoded' }
    if (authentication === 'client_secret_post') {
      form.set('client_id', clientId)
      form.set('client_secret', clientSecret)
    } else {
      // Each is form-encoded before they are joined (RFC 6749 §2.3.1).
      const credentials = `${formEncoded(clientId)}:${formEncoded(clientSecret)}`
      headers['Authorization'] = `Basic ${Buffer.from(credentials).toString('base64')}`
    }
    const url = await endpoint()
    const claims = await fetchJson(url, clock(), { method: 'POST', headers, body: form.toString() })
    if (!isObject(claims)) throw new CheckUnavailable(`${url} answered with what is no JSON object`)
    return claims
  }

  /** With each request: an answer that is remembered must not outlive the token. */
  #checkTimes({ exp, nbf }: Claims): void {
    const { clock, clockTolerance } = this.#options
    const now = clock().wallTime()
    if (typeof exp === 'number' && now >= exp * 1000 + clockTolerance)
      throw new TokenRefused('the token has expired')
    if (typeof nbf === 'number' && now < nbf * 1000 - clockTolerance)
      throw new TokenRefused('the token is not valid yet')
  }
}

function formEncoded(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1)
}
