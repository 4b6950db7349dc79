/** A real authorization server on this machine (`oidc-provider`), and people who log in to it without a browser. */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

import { exportJWK, generateKeyPair } from 'jose'
import { Provider } from 'oidc-provider'
import { onTestFinished } from 'vitest'

/** Where clients are sent back to; nobody listens there. */
export const REDIRECT = 'http://127.0.0.1:9/callback'

/** The client that introspects, and its secret. */
export const RESOURCE_SERVER = { clientId: 'resource-server', clientSecret: 'a-secret-that-nobody-is-told' }

/** A client that is registered beforehand; those that register themselves do so for the scopes they want then. */
export const PUBLIC_CLIENT = { client_id: 'public-client' }

const PUBLIC_CLIENT_METADATA = {
  redirect_uris: [REDIRECT],
  token_endpoint_auth_method: 'none',
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  client_name: 'test',
  application_type: 'native' as const,
}

/** What an {@link AuthorizationServer} is asked to be. */
export interface AuthorizationServerOptions {
  /** Resources that tokens can be for; the scopes each has. */
  readonly resources: Readonly<Record<string, string>>
  /** How long access tokens are good for, in seconds; asked for each. */
  readonly ttl?: () => number
  /** JWTs by default. */
  readonly format?: 'jwt' | 'opaque'
}

/** A running authorization server. */
export interface AuthorizationServer {
  readonly issuer: string
  /** Signs with a new key from now on, and forgets the others; an issuer of the same name, with the same clients. */
  rotate(): Promise<void>
  /** Ends it, as an outage does. */
  stop(): Promise<void>
  /** How often its keys were asked for. */
  readonly keyRequests: number
}

/** Starts one; it ends with the test. */
export async function startAuthorizationServer(
  options: AuthorizationServerOptions,
): Promise<AuthorizationServer> {
  let handle: (request: IncomingMessage, response: ServerResponse) => unknown = () => {}
  let keyRequests = 0
  const server = createServer((request, response) => {
    if (request.url === '/jwks') keyRequests += 1
    void handle(request, response)
  })
  // A busy machine pauses for longer than Node keeps connections, and what is sent on one that ends is lost.
  server.keepAliveTimeout = 60_000
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const registered = new Map<string, unknown>()
  const begin = async (): Promise<void> => {
    const { privateKey } = await generateKeyPair('RS256', { extractable: true })
    handle = providerOf(
      issuer,
      { ...(await exportJWK(privateKey)), use: 'sig', alg: 'RS256' },
      options,
      registered,
    )
  }
  await begin()
  const stop = (): Promise<void> => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(() => resolve()))
  }
  onTestFinished(stop)
  return {
    issuer,
    rotate: begin,
    stop,
    get keyRequests() {
      return keyRequests
    },
  }
}

function providerOf(
  issuer: string,
  key: object,
  { resources, ttl = () => 600, format = 'jwt' }: AuthorizationServerOptions,
  registered: Map<string, unknown>,
): (request: IncomingMessage, response: ServerResponse) => unknown {
  const provider = new Provider(issuer, {
    adapter: memoryAdapter(registered),
    jwks: { keys: [key] },
    cookies: { keys: ['test'] },
    clients: [
      { ...PUBLIC_CLIENT_METADATA, client_id: PUBLIC_CLIENT.client_id },
      {
        client_id: RESOURCE_SERVER.clientId,
        client_secret: RESOURCE_SERVER.clientSecret,
        grant_types: [],
        response_types: [],
        redirect_uris: [],
      },
    ],
    scopes: ['openid', 'offline_access', ...Object.values(resources).flatMap((scope) => scope.split(' '))],
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: (_context: unknown, resource: string) => ({
          scope: resources[resource] ?? '',
          audience: resource,
          accessTokenTTL: ttl(),
          accessTokenFormat: format,
          ...(format === 'jwt' && { jwt: { sign: { alg: 'RS256' } } }),
        }),
      },
    },
    ttl: { Interaction: 600, Grant: 3600, Session: 3600 },
    interactions: { url: () => '/login' },
    findAccount: (_context: unknown, accountId: string) => ({
      accountId,
      claims: () => ({ sub: accountId }),
    }),
    issueRefreshToken: () => true,
    // Whoever has logged in consents to what is asked.
    async loadExistingGrant({ oidc }: { oidc: LoadedContext }) {
      const grant = new provider.Grant({
        accountId: oidc.session?.accountId,
        clientId: oidc.client?.clientId,
      })
      const asked = String(oidc.params?.['scope'] ?? '')
      grant.addOIDCScope(`openid offline_access ${asked}`)
      for (const resource of Object.keys(resources)) grant.addResourceScope(resource, asked)
      await grant.save()
      return grant
    },
  })
  const callback = provider.callback()
  return async (request, response) => {
    if (request.url?.startsWith('/login') !== true) return callback(request, response)
    // The "browser" says who sits before it.
    const accountId = /(?:^|; )person=([^;]+)/.exec(request.headers.cookie ?? '')?.[1]
    const { prompt } = await provider.interactionDetails(request, response)
    const result = prompt.name === 'login' ? { login: { accountId } } : { consent: {} }
    return provider.interactionFinished(request, response, result)
  }
}

interface LoadedContext {
  readonly session?: { readonly accountId?: string }
  readonly client?: { readonly clientId: string }
  readonly params?: Readonly<Record<string, unknown>>
}

/** What outlives a new set of keys. */
function memoryAdapter(stored: Map<string, unknown>): unknown {
  return class {
    readonly name: string

    constructor(name: string) {
      this.name = name
    }

    async upsert(id: string, payload: unknown): Promise<void> {
      stored.set(`${this.name}:${id}`, payload)
      const { uid } = payload as { uid?: string }
      if (this.name === 'Session' && uid !== undefined) stored.set(`uid:${uid}`, id)
    }

    async find(id: string): Promise<unknown> {
      return stored.get(`${this.name}:${id}`)
    }

    async findByUid(uid: string): Promise<unknown> {
      return stored.get(`${this.name}:${String(stored.get(`uid:${uid}`))}`)
    }

    async findByUserCode(): Promise<undefined> {}

    async consume(id: string): Promise<void> {
      Object.assign(stored.get(`${this.name}:${id}`) as object, { consumed: Math.floor(Date.now() / 1000) })
    }

    async destroy(id: string): Promise<void> {
      stored.delete(`${this.name}:${id}`)
    }

    async revokeByGrantId(grantId: string): Promise<void> {
      for (const [key, payload] of stored)
        if ((payload as { grantId?: string }).grantId === grantId) stored.delete(key)
    }
  }
}

/** Follows a login from the client's authorization URL to the redirect back, as a browser with cookies does; gives what that has. */
export async function logIn(authorizationUrl: URL, person: string): Promise<URLSearchParams> {
  const cookies = new Map([['person', person]])
  let url = authorizationUrl
  for (let hop = 0; hop < 10; hop++) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const response = await fetch(url, { redirect: 'manual', headers: { cookie } })
    for (const line of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      if (value === '') cookies.delete(name)
      else cookies.set(name, value)
    }
    const location = response.headers.get('location')
    if (location === null)
      throw new Error(
        `the login stops at ${url.pathname}: ${response.status} ${(await response.text()).slice(0, 500)}`,
      )
    url = new URL(location, url)
    if (url.href.startsWith(REDIRECT)) {
      if (!url.searchParams.has('code')) throw new Error(`the login failed: ${url.search}`)
      return url.searchParams
    }
  }
  throw new Error('the login goes in circles')
}

/** Who logs in for a client: what both official SDKs ask of an `OAuthClientProvider`. */
export class Person {
  readonly redirectUrl = REDIRECT
  readonly name: string
  /** Where the client sent its user, each time. */
  readonly logins: URL[] = []
  saved: { access_token: string; token_type: string; scope?: string; refresh_token?: string } | undefined
  #client: { client_id: string } | undefined
  #verifier = ''

  /** `client`: one that was registered before, whose users share it. */
  constructor(name: string, client?: { client_id: string }) {
    this.name = name
    this.#client = client
  }

  get clientMetadata(): typeof PUBLIC_CLIENT_METADATA {
    return PUBLIC_CLIENT_METADATA
  }

  clientInformation(): { client_id: string } | undefined {
    return this.#client
  }

  saveClientInformation(client: { client_id: string }): void {
    this.#client = client
  }

  tokens(): Person['saved'] {
    return this.saved
  }

  saveTokens(tokens: NonNullable<Person['saved']>): void {
    this.saved = tokens
  }

  redirectToAuthorization(url: URL): void {
    this.logins.push(url)
  }

  saveCodeVerifier(verifier: string): void {
    this.#verifier = verifier
  }

  codeVerifier(): string {
    return this.#verifier
  }

  invalidateCredentials(what: string): void {
    if (what === 'tokens' || what === 'all') this.saved = undefined
  }

  /** Does what the client's user does: logs in where it was sent last. Gives what the client is sent back with. */
  logIn(): Promise<URLSearchParams> {
    const url = this.logins.at(-1)
    if (url === undefined) throw new Error('the client sent nobody to log in')
    return logIn(url, this.name)
  }
}
