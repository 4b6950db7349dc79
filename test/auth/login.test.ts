/** Both official clients log in for real, call, refresh, step up and lose access, against an authorization server of this machine. */

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { McpServer, requireScopes } from '@modelcontextprotocol/server'
import { describe, expect, onTestFinished, test } from 'vitest'

import { bearerAuth, type BearerAuthOptions } from '../../src/auth/index.ts'
import { type App, httpApp } from '../../src/http-app.ts'
import type { AppOptions } from '../../src/types.ts'
import {
  type AuthorizationServer,
  type AuthorizationServerOptions,
  Person,
  PUBLIC_CLIENT,
  RESOURCE_SERVER,
  startAuthorizationServer,
} from './authorization-server.ts'

/** A protected server, and where its tokens come from. */
interface Protected {
  readonly app: App
  readonly url: URL
  readonly logs: string[]
  readonly as: AuthorizationServer
}

async function protect(
  options: Partial<BearerAuthOptions> = {},
  asOptions: Partial<AuthorizationServerOptions> = {},
  appOptions: AppOptions = {},
): Promise<Protected> {
  let serve: App['node'] = () => {}
  const http = createServer((req, res) => serve(req, res))
  http.keepAliveTimeout = 60_000
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const url = new URL(`http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`)
  const as = await startAuthorizationServer({ resources: { [url.href]: 'mcp admin' }, ...asOptions })
  const logs: string[] = []
  const write = (...args: unknown[]): void => void logs.push(JSON.stringify(args))
  const app = httpApp(
    () => {
      const server = new McpServer({ name: 'protected', version: '1' })
      server.registerTool('whoami', {}, (context) => {
        const { authInfo } = context.http ?? {}
        const { extra, scopes } = authInfo ?? {}
        return { content: [{ type: 'text', text: JSON.stringify({ sub: extra?.['sub'], scopes }) }] }
      })
      server.registerTool('admin', { scopeChallenge: requireScopes('mcp', 'admin') }, () => ({
        content: [{ type: 'text', text: 'done' }],
      }))
      return server
    },
    {
      authenticate: bearerAuth({
        issuer: as.issuer,
        resource: url,
        requiredScopes: ['mcp'],
        scopesSupported: ['mcp', 'admin'],
        jwksCooldown: 1,
        ...options,
      }),
      logger: { debug: write, info: write, warn: write, error: write },
      ...appOptions,
    },
  )
  serve = app.node
  onTestFinished(async () => {
    await app.close()
    http.closeAllConnections()
    await new Promise((resolve) => http.close(resolve))
  })
  return { app, url, logs, as }
}

/** What tests do with a client of either generation. */
interface OfficialClient {
  call(name: string): Promise<string>
  /** Finishes a login that a call or `connect` has asked for. */
  finish(answer: URLSearchParams): Promise<void>
  readonly sessionId: string | undefined
}

interface Sdk {
  readonly name: string
  connect(url: URL, person: Person): Promise<OfficialClient>
}

const textOf = (result: unknown): string => (result as { content: { text: string }[] }).content[0]?.text ?? ''

/** The issuer names itself in the answer (RFC 9207), which v2 wants to see. */
function finish(
  transport: { finishAuth(code: string, issuer?: string): Promise<void> },
  answer: URLSearchParams,
): Promise<void> {
  return transport.finishAuth(answer.get('code') ?? '', answer.get('iss') ?? undefined)
}

/** The first attempt is refused, and sends its user to log in; the second has the token. */
function sdk(name: string, make: (url: URL, person: Person) => { client: never; transport: never }): Sdk {
  return {
    name,
    async connect(url, person) {
      interface Parts {
        client: {
          connect(transport: unknown): Promise<void>
          callTool(params: object): Promise<unknown>
          close(): Promise<void>
        }
        transport: { finishAuth(code: string, issuer?: string): Promise<void>; readonly sessionId?: string }
      }
      if (person.saved === undefined) {
        const first = make(url, person) as Parts
        await expect(first.client.connect(first.transport)).rejects.toThrow(/unauthorized/i)
        await finish(first.transport, await person.logIn())
        await first.client.close()
      }
      const { client, transport } = make(url, person) as Parts
      await client.connect(transport)
      onTestFinished(() => client.close())
      return {
        call: async (tool) => textOf(await client.callTool({ name: tool, arguments: {} })),
        finish: (answer) => finish(transport, answer),
        get sessionId() {
          return transport.sessionId
        },
      }
    },
  }
}

const SDKS: readonly Sdk[] = [
  sdk('v1', (url, person) => ({
    client: new ClientV1({ name: 'v1', version: '1' }) as never,
    transport: new TransportV1(url, { authProvider: person }) as never,
  })),
  sdk('v2', (url, person) => ({
    client: new Client({ name: 'v2', version: '1' }) as never,
    transport: new StreamableHTTPClientTransport(url, { authProvider: person }) as never,
  })),
  sdk('v2 without a handshake', (url, person) => ({
    client: new Client({ name: 'v2', version: '1' }, { versionNegotiation: { mode: 'auto' } }) as never,
    transport: new StreamableHTTPClientTransport(url, { authProvider: person }) as never,
  })),
]

describe.each(SDKS)('the official client $name', ({ name, connect }) => {
  test('finds the issuer, logs in, and calls as whoever logged in', async () => {
    const { url, app, logs } = await protect()
    const ada = new Person('ada')
    const client = await connect(url, ada)
    expect(JSON.parse(await client.call('whoami'))).toEqual({
      sub: 'ada',
      scopes: expect.arrayContaining(['mcp']),
    })
    expect(ada.logins.length).toBe(1)
    const asked = ada.logins[0]?.searchParams
    expect([asked?.get('resource'), asked?.get('code_challenge_method')]).toEqual([url.href, 'S256'])
    expect(asked?.get('scope')?.split(' ')).toContain('mcp')
    if (client.sessionId !== undefined) expect(app.sessions.get(client.sessionId)?.principal).toMatch(/"ada"/)
    expect(logs.join('')).not.toContain(ada.saved?.access_token)
  })

  test('refreshes an expired token in the middle of a session, which goes on', async () => {
    let ttl = 1
    const { url, as } = await protect({ clockTolerance: 0 }, { ttl: () => ttl })
    const ada = new Person('ada')
    ttl = 2
    const client = await connect(url, ada)
    const [first, session] = [ada.saved?.access_token, client.sessionId]
    ttl = 600
    // The one real wait: two seconds of a token's life.
    await expiry(first)
    expect(JSON.parse(await client.call('whoami'))).toMatchObject({ sub: 'ada' })
    expect(ada.saved?.access_token).not.toBe(first)
    expect(client.sessionId).toBe(session)
    expect(ada.logins.length).toBe(1)
    expect(as.keyRequests).toBeGreaterThan(0)
  })

  test('is told which scopes a tool needs, asks for them, and is let in', async () => {
    const { url } = await protect()
    const ada = new Person('ada', PUBLIC_CLIENT)
    const client = await connect(url, ada)
    const session = client.sessionId
    // The client of v1 would refresh its token, which brings no new scope, and give up.
    if (name === 'v1') delete ada.saved?.refresh_token
    await expect(client.call('admin')).rejects.toThrow(/unauthorized/i)
    expect(ada.logins.length).toBe(2)
    expect(ada.logins[1]?.searchParams.get('scope')?.split(' ').sort()).toEqual(
      expect.arrayContaining(['admin', 'mcp']),
    )
    await client.finish(await ada.logIn())
    expect(await client.call('admin')).toBe('done')
    expect(client.sessionId).toBe(session)
  })

  test('of two users of one client neither sees the session of the other', async () => {
    const { url } = await protect()
    const ada = new Person('ada')
    const client = await connect(url, ada)
    const bob = new Person('bob', ada.clientInformation())
    const other = await connect(url, bob)
    expect(JSON.parse(await other.call('whoami'))).toMatchObject({ sub: 'bob' })
    if (client.sessionId === undefined) return
    const ask = async (session: string, token: string | undefined): Promise<string> => {
      const response = await fetch(url, {
        headers: { Accept: 'text/event-stream', Authorization: `Bearer ${token}`, 'Mcp-Session-Id': session },
      })
      return `${response.status} ${await response.text()}`
    }
    expect(await ask(client.sessionId, bob.saved?.access_token)).toBe(
      await ask('no-such-session', bob.saved?.access_token),
    )
    expect(await ask(client.sessionId, bob.saved?.access_token)).toMatch(/^404 /)
  })

  test('loses access when the issuer gives its keys up, and has it again with a new token', async () => {
    const { url, as, app } = await protect({ jwksMaxAge: 1 })
    const ada = new Person('ada')
    const client = await connect(url, ada)
    const old = ada.saved?.access_token
    await as.rotate()
    const raw = await fetch(url, { headers: { Accept: 'text/event-stream', Authorization: `Bearer ${old}` } })
    expect(raw.status).toBe(401)
    expect(raw.headers.get('www-authenticate')).toMatch(/error="invalid_token".*resource_metadata=/)
    // Its refresh token is good as before: nobody has to log in.
    expect(JSON.parse(await client.call('whoami'))).toMatchObject({ sub: 'ada' })
    expect(ada.saved?.access_token).not.toBe(old)
    expect(app.sessions.size).toBe(client.sessionId === undefined ? 0 : 1)
  })
})

test('opaque tokens, introspected at the issuer with a secret of ours', async () => {
  const { url, logs } = await protect(
    { introspection: RESOURCE_SERVER, jwksCooldown: undefined as never },
    { format: 'opaque' },
  )
  const ada = new Person('ada')
  const [, v2] = SDKS
  const client = await v2?.connect(url, ada)
  expect(ada.saved?.access_token).not.toContain('.')
  expect(JSON.parse((await client?.call('whoami')) ?? '')).toMatchObject({ sub: 'ada' })
  const raw = await fetch(url, {
    headers: { Accept: 'text/event-stream', Authorization: 'Bearer nobody-knows-it' },
  })
  expect(raw.status).toBe(401)
  expect(logs.join('')).not.toContain(RESOURCE_SERVER.clientSecret)
})

test('a token for another resource of the same issuer is of no use here', async () => {
  const elsewhere = 'https://other.test/mcp'
  const as = await startAuthorizationServer({ resources: { [elsewhere]: 'mcp' } })
  const { url } = await protect({ issuer: as.issuer })
  const person = new Person('ada')
  const { auth } = await import('@modelcontextprotocol/client')
  // A client that logs in for the other resource, as if that had sent it here.
  const fetchFn: typeof fetch = async (input, init) => {
    const target = new URL(String(input instanceof Request ? input.url : input))
    if (target.hostname !== 'other.test') return fetch(input, init)
    const document = { resource: elsewhere, authorization_servers: [as.issuer], scopes_supported: ['mcp'] }
    return target.pathname.includes('oauth-protected-resource')
      ? Response.json(document)
      : new Response(null, { status: 404 })
  }
  expect(await auth(person as never, { serverUrl: elsewhere, scope: 'mcp', fetchFn })).toBe('REDIRECT')
  const answer = await person.logIn()
  await auth(person as never, {
    serverUrl: elsewhere,
    authorizationCode: answer.get('code') ?? '',
    iss: answer.get('iss') ?? '',
    fetchFn,
  })
  const headers = { Accept: 'text/event-stream', Authorization: `Bearer ${person.saved?.access_token}` }
  const response = await fetch(url, { headers })
  expect(response.status).toBe(401)
  expect(response.headers.get('www-authenticate')).toContain('the token is for another resource')
})

/** Resolves when a token has expired by the clock of this machine. */
async function expiry(token: string | undefined): Promise<void> {
  const payload = JSON.parse(Buffer.from(token?.split('.')[1] ?? '', 'base64url').toString()) as {
    exp: number
  }
  while (Date.now() < payload.exp * 1000)
    await new Promise((resolve) => setTimeout(resolve, payload.exp * 1000 - Date.now()))
}
