/** The resource-server side of MCP authorization (2025-11-25): who sent a request, by its access token. */

import { type Clock, systemClock } from '../clock.ts'
import { createLog, type Log } from '../logging.ts'
import type { AuthInfo, Authenticate, ProtectedResource } from '../types.ts'
import { readBearer } from './authorization-header.ts'
import { challengeResponse, type Challenge, unavailableResponse } from './challenge.ts'
import type { CheckedToken } from './claims.ts'
import { fetchJson } from './fetch-json.ts'
import { IntrospectionCheck } from './introspection.ts'
import { type IssuerMetadata, loadIssuerMetadata } from './issuer-metadata.ts'
import { JwtCheck, type Keys, keysOf } from './jwt-check.ts'
import { type BearerAuthOptions, type ResolvedBearerAuth, resolveBearerAuth } from './options.ts'
import { CheckUnavailable, TokenRefused } from './refusal.ts'
import { Refreshed } from './refreshed.ts'

/** Where RFC 9728 has the metadata of a resource: before its path. */
const WELL_KNOWN = '/.well-known/oauth-protected-resource'

/** How long the issuer's metadata is taken for true, in milliseconds. */
const METADATA_MAX_AGE = 3_600_000

/** What {@link bearerAuth} makes: the option `authenticate` of an app. */
export interface BearerAuth extends Authenticate {
  (request: Request): Promise<AuthInfo | Response>
  readonly protectedResource: ProtectedResource
  /**
   * Loads what the issuer publishes, so that a wrong issuer shows at the start and the first request need not wait. Without it that happens
   * with the first request.
   * @throws Error saying what was asked and what came of it
   */
  prepare(): Promise<void>
}

/**
 * Checks the bearer token of each request (RFC 6750): its signature with the keys of its issuer (RFC 9068), or by asking the issuer (RFC
 * 7662); that it was issued for this server, has not expired, and has the scopes that every request needs. What is missing or wrong is
 * answered with the challenge by which clients find the issuer and log in; the app serves the metadata that it names (RFC 9728).
 *
 * The principal of a request is the issuer, the subject and the client of its token; all claims are in `authInfo.extra`. While the issuer
 * cannot be reached, tokens are checked with the keys from before; where there are none, the answer is 503, not 401.
 *
 * @throws RangeError, TypeError naming the option, what it got and what it takes
 * @example
 * const authenticate = bearerAuth({
 *   issuer: 'https://auth.example.com',
 *   resource: 'https://mcp.example.com/mcp',
 *   requiredScopes: ['mcp'],
 * })
 * await runHttp(createServer, { authenticate, host: '0.0.0.0', allowedHosts: ['mcp.example.com'] })
 */
export function bearerAuth(options: BearerAuthOptions): BearerAuth {
  const checks = new Checks(resolveBearerAuth(options), options)
  return Object.assign((request: Request) => checks.authenticate(request), {
    protectedResource: checks.protectedResource,
    prepare: () => checks.prepare(),
  })
}

class Checks {
  readonly protectedResource: ProtectedResource
  readonly #options: ResolvedBearerAuth
  readonly #metadataUrl: string
  readonly #issuerMetadata: Refreshed<IssuerMetadata>
  readonly #keys: Refreshed<Keys>
  readonly #check: JwtCheck | IntrospectionCheck
  readonly #given: { readonly log: Log | undefined; readonly clock: Clock | undefined }
  #log: Log
  #clock: Clock
  #fails = false

  constructor(resolved: ResolvedBearerAuth, { logger, clock }: BearerAuthOptions) {
    this.#options = resolved
    this.#given = { log: logger === undefined ? undefined : createLog(logger), clock }
    this.#log = this.#given.log ?? createLog(undefined)
    this.#clock = clock ?? systemClock
    const { resource, metadata } = resolved
    const path = resource.pathname === '/' ? '' : resource.pathname
    this.#metadataUrl = `${resource.origin}${WELL_KNOWN}${path}${resource.search}`
    this.protectedResource = {
      // Clients that were told nothing look at the root as well (MCP authorization, 2025-11-25).
      paths: path === '' ? [WELL_KNOWN] : [`${WELL_KNOWN}${path}`, WELL_KNOWN],
      metadataUrl: this.#metadataUrl,
      metadata,
      requiredScopes: resolved.requiredScopes,
      attach: ({ log, clock: appClock }) => {
        this.#log = this.#given.log ?? log
        this.#clock = this.#given.clock ?? appClock
      },
    }
    const now = (): Clock => this.#clock
    this.#issuerMetadata = new Refreshed({
      load: () => loadIssuerMetadata(resolved.issuer, this.#clock, resolved.isAllowed),
      clock: now,
      maxAge: METADATA_MAX_AGE,
      cooldown: resolved.jwksCooldown,
      // What depends on it fails as well, and is told of.
      onChange: () => {},
    })
    this.#keys = new Refreshed({
      load: () => this.#loadKeys(),
      clock: now,
      maxAge: resolved.jwksMaxAge,
      cooldown: resolved.jwksCooldown,
      onChange: (failure, usable) => this.#keysChanged(failure, usable),
    })
    this.#check = this.#makeCheck(now)
  }

  async authenticate(request: Request): Promise<AuthInfo | Response> {
    const credentials = readBearer(request.headers.get('authorization'))
    const { requiredScopes } = this.#options
    if (credentials.kind === 'missing') return this.#challenge({ scopes: requiredScopes })
    if (credentials.kind === 'malformed')
      return this.#challenge({
        error: 'invalid_token',
        description: 'the Authorization header is malformed',
        scopes: requiredScopes,
      })
    const { token } = credentials
    let checked: CheckedToken
    try {
      checked = await this.#check.check(token)
    } catch (error) {
      if (error instanceof TokenRefused)
        return this.#challenge({
          error: 'invalid_token',
          description: error.message,
          scopes: requiredScopes,
        })
      if (!(error instanceof CheckUnavailable)) throw error
      this.#introspectionFailed(error)
      return unavailableResponse()
    }
    this.#introspectionWorks()
    if (!requiredScopes.every((scope) => checked.scopes.includes(scope)))
      return this.#challenge({
        error: 'insufficient_scope',
        description: 'the token lacks a scope that every request needs',
        // What it has as well: a client that asked only for what is missing would lose the rest (MCP authorization, "Scope Challenge").
        scopes: [...new Set([...checked.scopes.filter((scope) => SENDABLE.test(scope)), ...requiredScopes])],
      })
    return this.#authInfo(token, checked)
  }

  async prepare(): Promise<void> {
    if (this.#options.introspection === undefined) await this.#keys.get()
    else await this.#introspectionEndpoint()
  }

  #authInfo(token: string, { clientId, scopes, expiresAt, claims }: CheckedToken): AuthInfo {
    return {
      token,
      clientId,
      scopes: [...scopes],
      ...(expiresAt !== undefined && { expiresAt }),
      resource: new URL(this.#options.resource),
      resourceMetadataUrl: this.#metadataUrl,
      extra: { ...claims },
    }
  }

  #challenge(challenge: Omit<Challenge, 'metadataUrl'>): Response {
    // The event of a refusal knows only that there was one; what a hook answers is its author's, and may hold anything.
    if (challenge.description !== undefined)
      this.#log.debug('a token was refused', { reason: challenge.description })
    return challengeResponse({ ...challenge, metadataUrl: this.#metadataUrl })
  }

  #makeCheck(clock: () => Clock): JwtCheck | IntrospectionCheck {
    const { issuer, audience, clockTolerance, introspection, algorithms, rfc9068 } = this.#options
    const common = { issuer, audience, clockTolerance, clock }
    if (introspection === undefined) return new JwtCheck({ ...common, algorithms, rfc9068, keys: this.#keys })
    return new IntrospectionCheck({
      ...common,
      ...introspection,
      endpoint: () => this.#introspectionEndpoint(),
    })
  }

  async #introspectionEndpoint(): Promise<string> {
    const { introspection, issuer } = this.#options
    if (introspection?.endpoint !== undefined) return introspection.endpoint
    const { introspectionEndpoint } = await this.#issuerMetadata.get()
    if (introspectionEndpoint !== undefined) return introspectionEndpoint
    throw new CheckUnavailable(
      `the metadata of the issuer ${issuer} names no introspection_endpoint: name it with introspection.endpoint, or check tokens by their signature`,
    )
  }

  async #loadKeys(): Promise<Keys> {
    const { issuer } = this.#options
    const uri = this.#options.jwksUri ?? (await this.#issuerMetadata.get()).jwksUri
    if (uri === undefined)
      throw new CheckUnavailable(
        `the metadata of the issuer ${issuer} names no jwks_uri: name it with jwksUri, or ask about tokens with introspection`,
      )
    const json = await fetchJson(uri, this.#clock)
    try {
      return keysOf(json)
    } catch {
      throw new CheckUnavailable(`${uri} is no set of keys (RFC 7517)`)
    }
  }

  /** Told once, not for each request. What becomes of keys is told where they are loaded. */
  #introspectionFailed({ message }: Error): void {
    const { introspection, issuer } = this.#options
    if (introspection === undefined || this.#fails) return
    this.#fails = true
    this.#log.error('tokens cannot be introspected; requests are answered with 503 until they can', {
      issuer,
      message,
    })
  }

  #introspectionWorks(): void {
    if (!this.#fails) return
    this.#fails = false
    this.#log.info('tokens can be introspected again', { issuer: this.#options.issuer })
  }

  #keysChanged(failure: Error | undefined, usable: boolean): void {
    const { issuer } = this.#options
    if (failure === undefined) this.#log.info('the keys of the issuer were loaded again', { issuer })
    else if (usable)
      this.#log.warn('the keys of the issuer could not be loaded; those from before go on being used', {
        issuer,
        message: failure.message,
      })
    else
      this.#log.error(
        'the keys of the issuer could not be loaded; requests are answered with 503 until they can',
        {
          issuer,
          message: failure.message,
        },
      )
  }
}

/** What a challenge may hold of the scopes of a token: RFC 6749 §3.3. */
const SENDABLE = /^[\x21\x23-\x5b\x5d-\x7e]{1,100}$/
