/** Where an authorization server has its keys and its introspection: RFC 8414, or OpenID Connect Discovery. */

import type { Clock } from '../clock.ts'
import { isObject } from '../json.ts'
import { fetchJson } from './fetch-json.ts'
import { CheckUnavailable } from './refusal.ts'

/** What is used of the metadata. */
export interface IssuerMetadata {
  readonly jwksUri: string | undefined
  readonly introspectionEndpoint: string | undefined
}

/** Where the metadata of an issuer may be, in the order of MCP (authorization, 2025-11-25, "Authorization Server Metadata Discovery"). */
export function metadataUrls(issuer: string): string[] {
  const { origin, pathname } = new URL(issuer)
  const path = pathname.replace(/\/$/, '')
  const urls = [
    `${origin}/.well-known/oauth-authorization-server${path}`,
    `${origin}/.well-known/openid-configuration${path}`,
  ]
  return path === '' ? urls : [...urls, `${origin}${path}/.well-known/openid-configuration`]
}

/**
 * Loads the metadata of an issuer.
 *
 * @param isAllowed whether a URL in it may be asked: plain http carries keys that anybody may have changed
 * @throws CheckUnavailable where there is none, or it is another issuer's (RFC 8414 §3.3)
 */
export async function loadIssuerMetadata(
  issuer: string,
  clock: Clock,
  isAllowed: (url: string) => boolean,
): Promise<IssuerMetadata> {
  const failures: string[] = []
  for (const url of metadataUrls(issuer)) {
    try {
      const metadata = await fetchJson(url, clock)
      if (!isObject(metadata)) throw new CheckUnavailable(`${url} is no JSON object`)
      if (metadata['issuer'] !== issuer)
        throw new CheckUnavailable(otherIssuer(url, issuer, metadata['issuer']))
      const { jwks_uri: jwksUri, introspection_endpoint: introspectionEndpoint } = metadata
      return {
        jwksUri: checked(jwksUri, 'jwks_uri', url, isAllowed),
        introspectionEndpoint: checked(introspectionEndpoint, 'introspection_endpoint', url, isAllowed),
      }
    } catch (error) {
      if (!(error instanceof CheckUnavailable)) throw error
      failures.push(error.message)
    }
  }
  throw new CheckUnavailable(`the metadata of the issuer ${issuer} was not found: ${failures.join('; ')}`)
}

function checked(
  value: unknown,
  name: string,
  url: string,
  isAllowed: (url: string) => boolean,
): string | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'string' && URL.canParse(value) && isAllowed(value)) return value
  throw new CheckUnavailable(`the ${name} in ${url} is no https URL`)
}

function otherIssuer(url: string, issuer: string, found: unknown): string {
  return `${url} says that its issuer is ${JSON.stringify(found)?.slice(0, 200)}, not ${JSON.stringify(issuer)}: the option issuer has to be that to the letter`
}
