/** The options of {@link bearerAuth}, checked: what is wrong fails when the hook is made. */

import type { Clock } from '../clock.ts'
import { didYouMean } from '../did-you-mean.ts'
import { checkValue, format } from '../setting-value.ts'
import { isLoopback } from '../loopback.ts'
import type { Duration, Logger } from '../types.ts'
import type { ClientAuthentication } from './introspection.ts'

/** How to ask the issuer about tokens (RFC 7662). */
export interface IntrospectionOptions {
  /** Who this server is to the issuer. */
  clientId: string
  /** Its secret. Nothing that is logged or answered holds it. */
  clientSecret: string
  /** The introspection endpoint; default what the issuer's metadata names. */
  endpoint?: string | URL
  /** How the secret is sent; default `client_secret_basic`. */
  authentication?: ClientAuthentication
  /** How long an answer is taken for true; default 10 s, never longer than the token. A token that is revoked is good for so long. 0 asks for each request. */
  cacheFor?: Duration
  /**
   * Whether an answer that names no audience is taken; default false. Safe only where the issuer says `active` to this server of no token but
   * those for this server.
   */
  allowMissingAudience?: boolean
}

/** Options of {@link bearerAuth}. */
export interface BearerAuthOptions {
  /** The authorization server: its issuer identifier, to the letter as in its metadata and in `iss` of its tokens (RFC 8414 §2). */
  issuer: string
  /**
   * The URL of this endpoint as clients have it, such as `https://mcp.example.com/mcp`: its resource identifier (RFC 8707, RFC 9728). Tokens
   * have to be issued for it.
   */
  resource: string | URL
  /** What tokens name as their audience, where that is not the resource. One of them suffices. */
  audience?: string | readonly string[]
  /** Scopes that every request needs; default none. A token without them is answered with 403 `insufficient_scope`, and its client may ask for more. */
  requiredScopes?: readonly string[]
  /** Scopes that the metadata lists as those there are; default the required ones. */
  scopesSupported?: readonly string[]
  /** The name of this server for people, in the metadata. */
  resourceName?: string
  /** A page for people about this server, in the metadata. */
  resourceDocumentation?: string | URL
  /** The keys of the issuer; default what its metadata names. */
  jwksUri?: string | URL
  /** How long its keys are used before they are loaded again; default 10 minutes. While that fails they go on being used, for a day. */
  jwksMaxAge?: Duration
  /** Least time between two attempts to load keys; default 30 s. A token with an unknown key makes one. */
  jwksCooldown?: Duration
  /**
   * Signature algorithms that are taken; default those of `jose` with a public key that are not deprecated: RS, PS and ES with 256, 384 and 512
   * bits, EdDSA. Never `none`, nor one with a shared secret (`HS256`): whoever can check such a token can make one.
   */
  algorithms?: readonly string[]
  /** How far the clocks of issuer and server may be apart; default 5 s, at most 5 minutes. */
  clockTolerance?: Duration
  /** Whether tokens must be all that RFC 9068 asks: `typ` is `at+jwt`, and `sub`, `client_id`, `iat` and `jti` are there. Default false. */
  rfc9068?: boolean
  /** Asks the issuer about each token instead of checking a signature: for tokens that are no JWTs, or have to end at once when they are revoked. */
  introspection?: IntrospectionOptions
  /** Whether plain http is taken beyond this machine, for tests in a closed network; default false. */
  allowHttp?: boolean
  /** Where log lines go; default those of the app. */
  logger?: Logger
  /** Where time comes from; default that of the app. */
  clock?: Clock
}

/** What {@link BearerAuthOptions} come to; times in milliseconds. */
export interface ResolvedBearerAuth {
  readonly issuer: string
  readonly resource: URL
  readonly audience: readonly string[]
  readonly requiredScopes: readonly string[]
  readonly metadata: Readonly<Record<string, string | readonly string[]>>
  readonly jwksUri: string | undefined
  readonly jwksMaxAge: number
  readonly jwksCooldown: number
  readonly algorithms: readonly string[]
  readonly clockTolerance: number
  readonly rfc9068: boolean
  readonly introspection:
    | (Required<Omit<IntrospectionOptions, 'endpoint' | 'cacheFor'>> & {
        readonly endpoint: string | undefined
        readonly cacheFor: number
      })
    | undefined
  /** Whether a URL of the issuer's metadata may be asked. */
  isAllowed(url: string): boolean
}

const ALGORITHMS: readonly string[] = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512'],
  ...['EdDSA', 'Ed25519'],
]

const KEYS = [
  ...['issuer', 'resource', 'audience', 'requiredScopes', 'scopesSupported', 'resourceName'],
  ...['resourceDocumentation', 'jwksUri', 'jwksMaxAge', 'jwksCooldown', 'algorithms', 'clockTolerance'],
  ...['rfc9068', 'introspection', 'allowHttp', 'logger', 'clock'],
]
const INTROSPECTION_KEYS = [
  ...['clientId', 'clientSecret', 'endpoint', 'authentication', 'cacheFor', 'allowMissingAudience'],
]

/** RFC 6749 §3.3, scope-token. */
const SCOPE = /^[\x21\x23-\x5b\x5d-\x7e]+$/

const LONGEST_TOLERANCE = 5 * 60_000

/** @throws RangeError, TypeError naming the option, what it got and what it takes */
export function resolveBearerAuth(options: BearerAuthOptions): ResolvedBearerAuth {
  checkNames('bearerAuth', options, KEYS)
  const allowHttp = checkedBoolean('allowHttp', options.allowHttp)
  const issuer = checkedIssuer(options.issuer, allowHttp)
  const resource = checkedUrl('resource', options.resource, allowHttp)
  if (resource.hash !== '')
    throw new RangeError(
      `resource must have no fragment (RFC 8707 §2), got ${format(String(options.resource))}`,
    )
  const algorithms = checkedAlgorithms(options.algorithms)
  const introspection = checkedIntrospection(options.introspection, allowHttp)
  for (const key of ['jwksUri', 'jwksMaxAge', 'jwksCooldown', 'algorithms', 'rfc9068'] as const) {
    if (introspection !== undefined && options[key] !== undefined)
      throw new RangeError(
        `${key} and introspection exclude each other: a token is checked by its signature, or by asking its issuer. Leave one out`,
      )
  }
  const requiredScopes = checkedScopes('requiredScopes', options.requiredScopes) ?? []
  const supported = checkedScopes('scopesSupported', options.scopesSupported) ?? requiredScopes
  const { resourceName, resourceDocumentation: page } = options
  if (resourceName !== undefined && (typeof resourceName !== 'string' || resourceName === ''))
    throw new TypeError(`resourceName must be a string that is not empty, got ${format(resourceName)}`)
  const identifier = resourceIdentifier(options.resource, resource)
  return {
    issuer,
    resource,
    audience: checkedAudience(options.audience) ?? spellings(identifier, resource),
    requiredScopes,
    metadata: {
      resource: identifier,
      authorization_servers: [issuer],
      bearer_methods_supported: ['header'],
      ...(supported.length > 0 && { scopes_supported: supported }),
      ...(resourceName !== undefined && { resource_name: resourceName }),
      ...(page !== undefined && {
        resource_documentation: checkedUrl('resourceDocumentation', page, true).href,
      }),
    },
    jwksUri:
      options.jwksUri === undefined ? undefined : checkedUrl('jwksUri', options.jwksUri, allowHttp).href,
    jwksMaxAge: duration('jwksMaxAge', options.jwksMaxAge ?? '10m'),
    jwksCooldown: duration('jwksCooldown', options.jwksCooldown ?? '30s'),
    algorithms,
    clockTolerance: checkedTolerance(options.clockTolerance ?? '5s'),
    rfc9068: checkedBoolean('rfc9068', options.rfc9068),
    introspection,
    isAllowed: (url) => {
      const { protocol, hostname } = new URL(url)
      return protocol === 'https:' || (protocol === 'http:' && (allowHttp || isLoopback(hostname)))
    },
  }
}

function checkedIssuer(value: unknown, allowHttp: boolean): string {
  if (typeof value !== 'string')
    throw new TypeError(
      `issuer must be the URL that tokens name as iss, such as 'https://auth.example.com', got ${format(value)}`,
    )
  const url = checkedUrl('issuer', value, allowHttp)
  if (url.search !== '' || url.hash !== '')
    throw new RangeError(`issuer must have neither query nor fragment (RFC 8414 §2), got ${format(value)}`)
  // To the letter: a slash more or less is another issuer.
  return value
}

function checkedUrl(name: string, value: unknown, allowHttp: boolean): URL {
  if (typeof value !== 'string' && !(value instanceof URL))
    throw new TypeError(`${name} must be a URL such as 'https://mcp.example.com/mcp', got ${format(value)}`)
  const text = String(value)
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || (url.protocol !== 'https:' && url.protocol !== 'http:') || /[\s"\\]/.test(text))
    throw new RangeError(`${name} must be a URL such as 'https://mcp.example.com/mcp', got ${format(text)}`)
  if (url.username !== '' || url.password !== '')
    throw new RangeError(`${name} must hold neither a user nor a password: it is shown to everybody`)
  if (url.protocol === 'http:' && !allowHttp && !isLoopback(url.hostname))
    throw new RangeError(
      `${name} must begin with https:// beyond this machine, got ${format(text)}: over plain http anybody on the way reads tokens and changes keys. ` +
        'In a closed network, allowHttp takes it all the same',
    )
  return url
}

/** As given, since clients and issuers compare it as text; without the slash that `URL` puts after a bare host, if it was given so. */
function resourceIdentifier(given: string | URL, resource: URL): string {
  return typeof given === 'string' && `${given}/` === resource.href ? given : resource.href
}

/** Clients that make a URL object of a bare host ask for tokens with a slash at the end. */
function spellings(identifier: string, resource: URL): string[] {
  if (resource.pathname !== '/' || resource.search !== '') return [...new Set([identifier, resource.href])]
  return [resource.href, resource.href.slice(0, -1)]
}

function checkedAudience(value: unknown): readonly string[] | undefined {
  if (value === undefined) return undefined
  const list = Array.isArray(value) ? value : [value]
  if (list.length > 0 && list.every((each) => typeof each === 'string' && each !== ''))
    return list as string[]
  throw new TypeError(
    `audience must be what tokens for this server name as aud, one string or a list, got ${format(value)}`,
  )
}

function checkedScopes(name: string, value: unknown): readonly string[] | undefined {
  if (value === undefined) return undefined
  if (Array.isArray(value) && value.every((each) => typeof each === 'string' && SCOPE.test(each)))
    return [...new Set(value as string[])]
  throw new TypeError(`${name} must be a list of scopes such as ['mcp', 'files:read'], got ${format(value)}`)
}

function checkedAlgorithms(value: unknown): readonly string[] {
  if (value === undefined) return ALGORITHMS
  if (!Array.isArray(value) || value.length === 0)
    throw new TypeError(`algorithms must be a list such as ['RS256', 'ES256'], got ${format(value)}`)
  for (const algorithm of value as unknown[]) {
    if (algorithm === 'none' || (typeof algorithm === 'string' && /^HS\d+$/i.test(algorithm)))
      throw new RangeError(
        `algorithms must not have '${algorithm}': ${algorithm === 'none' ? 'anybody can make such a token' : 'whoever can check such a token can make one'}. Use introspection, or an algorithm with a public key`,
      )
    if (typeof algorithm !== 'string' || !ALGORITHMS.includes(algorithm))
      throw new RangeError(`algorithms takes ${ALGORITHMS.join(', ')}, got ${format(algorithm)}`)
  }
  return value as string[]
}

function checkedIntrospection(
  value: IntrospectionOptions | undefined,
  allowHttp: boolean,
): ResolvedBearerAuth['introspection'] {
  if (value === undefined) return undefined
  checkNames('introspection', value, INTROSPECTION_KEYS)
  for (const key of ['clientId', 'clientSecret'] as const) {
    // Not even the beginning of a secret is shown.
    if (typeof value[key] !== 'string' || value[key] === '')
      throw new TypeError(`introspection.${key} must be a string that is not empty, got ${typeof value[key]}`)
  }
  const authentication: unknown = value.authentication ?? 'client_secret_basic'
  if (authentication !== 'client_secret_basic' && authentication !== 'client_secret_post')
    throw new RangeError(
      `introspection.authentication must be one of 'client_secret_basic', 'client_secret_post', got ${format(authentication)}`,
    )
  return {
    clientId: value.clientId,
    clientSecret: value.clientSecret,
    authentication,
    endpoint:
      value.endpoint === undefined
        ? undefined
        : checkedUrl('introspection.endpoint', value.endpoint, allowHttp).href,
    cacheFor: checkValue(
      { kind: 'duration', zero: true, example: '10s' },
      'introspection.cacheFor',
      value.cacheFor ?? '10s',
    ) as number,
    allowMissingAudience: checkedBoolean('introspection.allowMissingAudience', value.allowMissingAudience),
  }
}

function checkedTolerance(value: Duration): number {
  const tolerance = checkValue(
    { kind: 'duration', zero: true, example: '5s' },
    'clockTolerance',
    value,
  ) as number
  if (tolerance <= LONGEST_TOLERANCE) return tolerance
  throw new RangeError(
    `clockTolerance must be at most '5m', got ${format(value)}: every token would be good for that much longer`,
  )
}

function duration(name: string, value: Duration): number {
  return checkValue({ kind: 'duration', example: '30s' }, name, value) as number
}

function checkedBoolean(name: string, value: unknown): boolean {
  if (value === undefined) return false
  if (typeof value === 'boolean') return value
  throw new TypeError(`${name} must be true or false, got ${format(value)}`)
}

function checkNames(taker: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw new TypeError(`the options of ${taker} must be an object, got ${format(options)}`)
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) throw new RangeError(`${taker} has no option ${key}.${didYouMean(key, known)}`)
  }
}
