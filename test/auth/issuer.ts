/** An issuer that does what a test says: metadata, keys, introspection, each of which may fail. */

import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

import { type CryptoKey, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { onTestFinished } from 'vitest'

/** The resource of tests. */
export const RESOURCE = 'https://mcp.test/mcp'

/** One signing key. */
export interface SigningKey {
  readonly kid: string
  readonly alg: string
  readonly privateKey: CryptoKey
  readonly jwk: JWK
}

/** Makes a key. */
export async function signingKey(kid: string, alg: string = 'ES256'): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
  return { kid, alg, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
}

/** What an {@link Issuer} answers a path with: JSON, text, a status, or never. */
export type Answer =
  | object
  | string
  | number
  | 'never'
  | ((request: IncomingMessage, body: string) => object | number)

/** An authorization server of which only what a resource server asks is there. */
export class Issuer {
  readonly url: string
  /** What is answered, by path. */
  readonly answers = new Map<string, Answer>()
  /** The paths that were asked, in order. */
  readonly asked: string[] = []
  keys: SigningKey[] = []

  constructor(url: string) {
    this.url = url
    this.answers.set('/.well-known/oauth-authorization-server', {
      issuer: url,
      jwks_uri: `${url}/jwks`,
      introspection_endpoint: `${url}/introspect`,
    })
    this.answers.set('/jwks', () => ({ keys: this.keys.map(({ jwk }) => jwk) }))
  }

  /** How often a path was asked. */
  count(path: string): number {
    return this.asked.filter((each) => each === path).length
  }

  /** An access token as RFC 9068 has it; claims and header fields set to undefined are left out. */
  async token(
    claims: Record<string, unknown> = {},
    { key = this.keys[0], header = {} }: { key?: SigningKey | undefined; header?: object } = {},
  ): Promise<string> {
    if (key === undefined) throw new Error('the issuer has no key')
    const now = Math.floor(Date.now() / 1000)
    const payload = {
      iss: this.url,
      sub: 'ada',
      aud: RESOURCE,
      client_id: 'client',
      iat: now,
      exp: now + 600,
      jti: crypto.randomUUID(),
      scope: 'mcp',
      ...claims,
    }
    return new SignJWT(Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined)))
      .setProtectedHeader({ alg: key.alg, kid: key.kid, typ: 'at+jwt', ...header })
      .sign(key.privateKey)
  }
}

/** Starts one, with a key; it ends with the test. */
export async function startIssuer(): Promise<Issuer> {
  const server = createServer((request, response) => {
    const path = request.url ?? ''
    issuer.asked.push(path)
    let body = ''
    request.setEncoding('utf8').on('data', (part: string) => (body += part))
    request.on('end', () => {
      const given = issuer.answers.get(path) ?? 404
      const answer = typeof given === 'function' ? given(request, body) : given
      if (answer === 'never') return
      if (typeof answer === 'number') response.writeHead(answer, { Location: `${issuer.url}/jwks` }).end()
      else response.end(typeof answer === 'string' ? answer : JSON.stringify(answer))
    })
  })
  server.keepAliveTimeout = 60_000
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const issuer = new Issuer(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  onTestFinished(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(() => resolve()))
  })
  issuer.keys = [await signingKey('key-1')]
  return issuer
}
