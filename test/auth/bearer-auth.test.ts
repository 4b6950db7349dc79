/** `bearerAuth` over real sockets: what lets a token in, and that nothing else does (promise 5). */

import { createHmac, generateKeyPairSync } from 'node:crypto'

import { type CryptoKey, exportSPKI, importJWK } from 'jose'
import { describe, expect, test } from 'vitest'

import { bearerAuth } from '../../src/auth/index.ts'
import type { BearerAuthOptions } from '../../src/auth/index.ts'
import type { AppOptions } from '../../src/types.ts'
import { del, get, initialize, openSession, post, type WireSession } from '../support/mcp-wire.ts'
import type { RawResponse } from '../support/raw-http.ts'
import { OFFICIAL, call, getStream, serveFake, type FakeApp } from '../support/wire-app.ts'
import { serve, type Served } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { type Issuer, RESOURCE, signingKey, startIssuer } from './issuer.ts'

const METADATA_URL = 'https://mcp.test/.well-known/oauth-protected-resource/mcp'

const bearer = (token: string): { Authorization: string } => ({ Authorization: `Bearer ${token}` })

async function protect(
  issuer: Issuer,
  options: Partial<BearerAuthOptions> = {},
  appOptions: AppOptions = {},
): Promise<FakeApp> {
  const authenticate = bearerAuth({ issuer: issuer.url, resource: RESOURCE, ...options })
  // Tokens are made by the time of this machine.
  const clock = new VirtualClock({ wall: Date.now() })
  return serveFake({ authenticate, clock, ...appOptions })
}

/** The answer of one GET, which needs nothing but to be let in: 405 when it was. */
async function ask(server: Served, token?: string): Promise<RawResponse> {
  const response = await server.request(get(token === undefined ? {} : bearer(token)))
  await response.text()
  return response
}

async function expectRefused(response: RawResponse, description: string, what?: string): Promise<void> {
  expect([response.status, await response.text()], what).toEqual([
    401,
    JSON.stringify({
      jsonrpc: '2.0',
      error: { code: -32000, message: `Unauthorized: ${description}` },
      id: null,
    }),
  ])
  expect(response.header('www-authenticate'), what).toBe(
    `Bearer error="invalid_token", error_description="${description}", resource_metadata="${METADATA_URL}"`,
  )
}

const LET_IN = 405

describe('a token', () => {
  test('of the issuer, for the resource, is let in, and its claims are what handlers get', async () => {
    const issuer = await startIssuer()
    const authenticate = bearerAuth({ issuer: issuer.url, resource: RESOURCE })
    const token = await issuer.token({ scope: 'a b', tenant: 't' })
    const info = await authenticate(new Request(RESOURCE, { headers: bearer(token) }))
    expect(info).toMatchObject({
      token,
      clientId: 'client',
      scopes: ['a', 'b'],
      expiresAt: expect.any(Number),
      resource: new URL(RESOURCE),
      resourceMetadataUrl: METADATA_URL,
      extra: { iss: issuer.url, sub: 'ada', tenant: 't' },
    })
  })

  test('of each algorithm that is taken', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer)
    const algorithms = ['RS256', 'PS384', 'ES384', 'EdDSA', 'RS512', 'ES512']
    issuer.keys = await Promise.all(algorithms.map((alg) => signingKey(alg, alg)))
    for (const key of issuer.keys)
      expect((await ask(server, await issuer.token({}, { key }))).status, key.alg).toBe(LET_IN)
  })

  test('as other issuers make them: no type, scp, azp, several audiences, no kid', async () => {
    const issuer = await startIssuer()
    issuer.keys = [await signingKey('key-1'), await signingKey('key-2'), await signingKey('key-3', 'RS256')]
    const server = await protect(issuer, { requiredScopes: ['read'] })
    for (const [what, token] of [
      ['JWT', await issuer.token({ scope: 'read' }, { header: { typ: 'JWT' } })],
      ['no typ', await issuer.token({ scope: 'read' }, { header: { typ: undefined } })],
      ['scp', await issuer.token({ scope: undefined, scp: ['write', 'read'] })],
      ['azp', await issuer.token({ scope: 'read', client_id: undefined, azp: 'other' })],
      ['aud', await issuer.token({ scope: 'read', aud: ['https://other.test', RESOURCE] })],
      ['kid', await issuer.token({ scope: 'read' }, { key: issuer.keys[1], header: { kid: undefined } })],
    ] as const)
      expect((await ask(server, token)).status, what).toBe(LET_IN)
  })

  test('that is wrong in any way is 401 with the same challenge, never a 5xx', async () => {
    const issuer = await startIssuer()
    const other = await startIssuer()
    const [key] = issuer.keys
    if (key === undefined) throw new Error('no key')
    const now = Math.floor(Date.now() / 1000)
    const server = await protect(issuer)
    const good = await issuer.token()
    const [head = '', body = '', signature = ''] = good.split('.')
    const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
    const payload = JSON.parse(Buffer.from(body, 'base64url').toString()) as object
    const publicPem = await exportSPKI((await importJWK(key.jwk, key.alg)) as CryptoKey)
    const hmac = (secret: string, alg = 'HS256'): string => {
      const signed = `${encode({ alg, kid: key.kid, typ: 'at+jwt' })}.${body}`
      return `${signed}.${createHmac(`sha${alg.slice(2)}`, secret)
        .update(signed)
        .digest('base64url')}`
    }
    const stranger = await signingKey('key-1')
    const own = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const embedded = {
      jwk: own.publicKey.export({ format: 'jwk' }),
      jku: `${other.url}/jwks`,
      x5u: other.url,
    }
    const algorithm = 'the token is signed with an algorithm that is not taken'
    const notJwt = 'the token is not a JWT'
    const forged = 'the signature of the token is wrong'
    const unknownKey = 'the token is signed with a key that its issuer does not have'
    const cases: readonly (readonly [string, string, string])[] = [
      [
        'another audience',
        await issuer.token({ aud: 'https://other.test/mcp' }),
        'the token is for another resource',
      ],
      [
        'an audience that begins alike',
        await issuer.token({ aud: `${RESOURCE}/x` }),
        'the token is for another resource',
      ],
      ['no audience', await issuer.token({ aud: undefined }), 'the token is for another resource'],
      ['the client as audience', await issuer.token({ aud: 'client' }), 'the token is for another resource'],
      ['another issuer', await other.token({ aud: RESOURCE }), 'the token is of another issuer'],
      [
        'another issuer with our key',
        await issuer.token({ iss: other.url }),
        'the token is of another issuer',
      ],
      [
        'the issuer with a slash',
        await issuer.token({ iss: `${issuer.url}/` }),
        'the token is of another issuer',
      ],
      ["another issuer's key", await issuer.token({}, { key: stranger }), forged],
      ['expired', await issuer.token({ exp: now - 6 }), 'the token has expired'],
      [
        'no expiry',
        await issuer.token({ exp: undefined }),
        'the token lacks a claim, or has one that is wrong',
      ],
      [
        'an expiry that is text',
        await issuer.token({ exp: String(now + 600) }),
        'the token lacks a claim, or has one that is wrong',
      ],
      ['not before', await issuer.token({ nbf: now + 60 }), 'the token is not valid yet'],
      ['alg none', `${encode({ alg: 'none', typ: 'at+jwt' })}.${body}.`, algorithm],
      ['alg None', `${encode({ alg: 'None', typ: 'at+jwt' })}.${body}.${signature}`, algorithm],
      ['no alg', `${encode({ typ: 'at+jwt' })}.${body}.${signature}`, algorithm],
      ['HS256 with the public key', hmac(publicPem), algorithm],
      ['HS512 with the public key as JWK', hmac(JSON.stringify(key.jwk), 'HS512'), algorithm],
      ['unsigned', `${head}.${body}.`, forged],
      ['without its signature', `${head}.${body}`, notJwt],
      ['tampered', `${head}.${encode({ ...payload, sub: 'root' })}.${signature}`, forged],
      [
        'an ID token',
        await issuer.token({}, { header: { typ: 'id_token+jwt' } }),
        'the token is not an access token',
      ],
      [
        'a logout token',
        await issuer.token({}, { header: { typ: 'logout+jwt' } }),
        'the token is not an access token',
      ],
      [
        'bound to a key',
        await issuer.token({ cnf: { jkt: 'x' } }),
        'the token is bound to a key, and bearers of it are not taken',
      ],
      [
        'a key of its own',
        `${encode({ alg: 'ES256', typ: 'at+jwt', kid: 'mine', ...embedded })}.${body}.${signature}`,
        unknownKey,
      ],
      ['a path as kid', await issuer.token({}, { header: { kid: '../../../../etc/passwd' } }), unknownKey],
      ['a query as kid', await issuer.token({}, { header: { kid: "' OR 1=1 --" } }), unknownKey],
      ['__proto__ as kid', await issuer.token({}, { header: { kid: '__proto__' } }), unknownKey],
      [
        'a number as kid',
        `${encode({ alg: 'ES256', kid: 7, typ: 'at+jwt' })}.${body}.${signature}`,
        unknownKey,
      ],
      ['five parts', `${head}.${body}.${signature}.${body}.${signature}`, notJwt],
      ['not JSON', `AAAA.${body}.${signature}`, notJwt],
      ['an opaque token', 'mF_9.B5f-4.1JqM', notJwt],
      [
        'huge',
        await issuer.token({ padding: 'x'.repeat(11_000), aud: 'https://other.test' }),
        'the token is for another resource',
      ],
    ]
    for (const [what, token, description] of cases) {
      await expectRefused(await ask(server, token), description, what)
    }
    expect((await ask(server, good)).status).toBe(LET_IN)
    // Of all those nonsensical keys the issuer was asked for none but once.
    expect(issuer.count('/jwks')).toBeLessThanOrEqual(2)
  })

  test('headers that are none: missing has no error code, malformed has one', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer)
    const token = await issuer.token()
    const missing = `Bearer resource_metadata="${METADATA_URL}"`
    for (const header of [undefined, 'Basic YTpi', 'Bearerx', `bearer_${token}`, 'Digest a="Bearer b"']) {
      const response = await server.request(get(header === undefined ? {} : { Authorization: header }))
      expect([response.status, response.header('www-authenticate')], header).toEqual([401, missing])
    }
    for (const header of [
      'Bearer',
      'Bearer  ',
      `Bearer ${token} ${token}`,
      `Bearer ${token}, Bearer ${token}`,
      'Bearer "x"',
      'Bearer ü',
      `Bearer ${'x'.repeat(13_000)}=x`,
    ])
      await expectRefused(
        await server.request(get({ Authorization: header })),
        'the Authorization header is malformed',
        header,
      )
    for (const header of [`bearer ${token}`, `BEARER   ${token}`])
      expect((await server.request(get({ Authorization: header }))).status).toBe(LET_IN)
    // Never in the address (MCP authorization, "Token Requirements").
    const inQuery = await server.request({
      method: 'GET',
      target: `/mcp?access_token=${token}`,
      headers: { Accept: 'text/event-stream' },
    })
    expect(inQuery.status).toBe(401)
    // Through app.fetch, which no HTTP parser bounds.
    const authenticate = bearerAuth({ issuer: issuer.url, resource: RESOURCE })
    const huge = await authenticate(new Request(RESOURCE, { headers: bearer('x'.repeat(1_000_000)) }))
    expect((huge as Response).status).toBe(401)
  })

  test('is checked with every request: GET, DELETE and resume as well', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer)
    const session = await openSession(server, { headers: bearer(await issuer.token()) })
    const expired = bearer(await issuer.token({ exp: Math.floor(Date.now() / 1000) - 60 }))
    for (const headers of [{}, expired]) {
      for (const request of [
        post(call(), { ...session.headers, ...headers }),
        getStream(session, undefined, headers),
        getStream(session, 'AAAAAAAA.0.0', headers),
        del({ ...session.headers, ...headers }),
        post(initialize(), headers),
      ])
        expect((await server.request(request)).status).toBe(401)
    }
    expect(server.app.sessions.size).toBe(1)
  })

  test('two users of one client, and one user of two: the session of the other is not there', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer)
    const mine = bearer(await issuer.token({ sub: 'ada' }))
    const session = await openSession(server, { headers: mine })
    const others = [await issuer.token({ sub: 'bob' }), await issuer.token({ sub: 'ada', client_id: 'b' })]
    const unknown = { ...session, headers: { ...session.headers, 'Mcp-Session-Id': 'no-such-session' } }
    for (const token of others) {
      const requests = (of: WireSession): ReturnType<typeof post>[] => [
        post(call(), { ...of.headers, ...bearer(token) }),
        getStream(of, undefined, bearer(token)),
        getStream(of, 'AAAAAAAA.0.0', bearer(token)),
        del({ ...of.headers, ...bearer(token) }),
      ]
      const strange = requests(unknown)
      for (const [n, request] of requests(session).entries()) {
        const answers = await Promise.all(
          [request, strange[n] ?? request].map((each) => server.request(each)),
        )
        const [ours, theirs] = await Promise.all(
          answers.map(async (each) => [each.status, await each.text()]),
        )
        expect(ours).toEqual(theirs)
        expect(ours?.[0]).toBe(404)
      }
    }
    // A refreshed token is the same owner.
    const refreshed = bearer(await issuer.token({ sub: 'ada' }))
    expect((await server.request(post(call(), { ...session.headers, ...refreshed }))).status).toBe(200)
  })

  test('that lacks a scope: 403, with what it has and what it needs; the challenge of a tool of SDK v2 as well', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer, { requiredScopes: ['mcp', 'base'] })
    const response = await ask(server, await issuer.token({ scope: 'openid mcp we"ird' }))
    expect(response.status).toBe(403)
    expect(response.header('www-authenticate')).toBe(
      `Bearer error="insufficient_scope", error_description="the token lacks a scope that every request needs", scope="openid mcp base", resource_metadata="${METADATA_URL}"`,
    )
    expect((await ask(server)).header('www-authenticate')).toBe(
      `Bearer scope="mcp base", resource_metadata="${METADATA_URL}"`,
    )
    expect((await ask(server, await issuer.token({ scope: 'base mcp' }))).status).toBe(LET_IN)
  })

  test('RFC 9068 to the letter, where that is asked for', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer, { rfc9068: true })
    expect((await ask(server, await issuer.token())).status).toBe(LET_IN)
    for (const claim of ['sub', 'client_id', 'iat', 'jti'])
      await expectRefused(
        await ask(server, await issuer.token({ [claim]: undefined })),
        'the token lacks a claim, or has one that is wrong',
        claim,
      )
    await expectRefused(
      await ask(server, await issuer.token({}, { header: { typ: 'JWT' } })),
      'the token is not an access token',
    )
  })

  test('a signature that was found good is not a token that is: it expires all the same', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer)
    const token = await issuer.token({ exp: Math.floor(Date.now() / 1000) + 60 })
    expect((await ask(server, token)).status).toBe(LET_IN)
    await server.clock.advance(59_000)
    expect((await ask(server, token)).status).toBe(LET_IN)
    await server.clock.advance(7000)
    await expectRefused(await ask(server, token), 'the token has expired')
    server.clock.stepWall(-60_000)
    expect((await ask(server, token)).status).toBe(LET_IN)
  })
})

describe('the keys of the issuer', () => {
  test('are loaded once for many, found by OpenID discovery as well, and for an issuer with a path', async () => {
    const issuer = await startIssuer()
    const tenant = `${issuer.url}/tenant`
    const found = issuer.answers.get('/.well-known/oauth-authorization-server')
    issuer.answers.delete('/.well-known/oauth-authorization-server')
    issuer.answers.set('/.well-known/openid-configuration', found ?? {})
    issuer.answers.set('/tenant/.well-known/openid-configuration', {
      issuer: tenant,
      jwks_uri: `${issuer.url}/jwks`,
    })
    const server = await protect(issuer)
    const answers = await Promise.all(
      Array.from({ length: 10 }, async () => ask(server, await issuer.token())),
    )
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(LET_IN))
    expect(issuer.asked).toEqual([
      '/.well-known/oauth-authorization-server',
      '/.well-known/openid-configuration',
      '/jwks',
    ])
    issuer.asked.length = 0
    const second = await protect(issuer, { issuer: tenant })
    expect((await ask(second, await issuer.token({ iss: tenant }))).status).toBe(LET_IN)
    expect(issuer.asked).toEqual([
      '/.well-known/oauth-authorization-server/tenant',
      '/.well-known/openid-configuration/tenant',
      '/tenant/.well-known/openid-configuration',
      '/jwks',
    ])
  })

  test('a new one is found with its first token, and asked for once per cooldown, whoever sends what', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer)
    expect((await ask(server, await issuer.token())).status).toBe(LET_IN)
    const old = await issuer.token()
    const next = await signingKey('key-2')
    issuer.keys = [next]
    const nonsense = await issuer.token({}, { header: { kid: 'nonsense' } })
    for (let n = 0; n < 5; n++)
      await expectRefused(
        await ask(server, nonsense),
        'the token is signed with a key that its issuer does not have',
      )
    expect(issuer.count('/jwks')).toBe(1)
    // Loaded a moment ago: the new key has to wait, and the old one still counts.
    await expectRefused(
      await ask(server, await issuer.token()),
      'the token is signed with a key that its issuer does not have',
    )
    expect((await ask(server, old)).status).toBe(LET_IN)
    await server.clock.advance(30_000)
    expect((await ask(server, await issuer.token())).status).toBe(LET_IN)
    expect(issuer.count('/jwks')).toBe(2)
    // Its signature was found good before; its key is gone.
    await expectRefused(
      await ask(server, old),
      'the token is signed with a key that its issuer does not have',
    )
    for (let n = 0; n < 5; n++) await ask(server, nonsense)
    expect(issuer.count('/jwks')).toBe(2)
  })

  test('a key that was withdrawn counts no longer than they are kept', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer, { jwksMaxAge: '5m' })
    const token = await issuer.token({ exp: Math.floor(Date.now() / 1000) + 3600 })
    expect((await ask(server, token)).status).toBe(LET_IN)
    issuer.keys = [await signingKey('key-2')]
    await server.clock.advance(299_000)
    expect((await ask(server, token)).status).toBe(LET_IN)
    await server.clock.advance(1000)
    expect((await ask(server, token)).status).toBe(401)
  })

  test('out of reach: those from before go on being used, told once; without any it is 503, not 401', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer)
    const lasting = await issuer.token({ exp: Math.floor(Date.now() / 1000) + 3 * 86_400 })
    expect((await ask(server, lasting)).status).toBe(LET_IN)
    issuer.answers.set('/jwks', 500)
    for (let hour = 0; hour < 4; hour++) {
      await server.clock.advance(3_600_000)
      expect((await ask(server, lasting)).status).toBe(LET_IN)
    }
    // An unknown key may be a new one: nobody can tell.
    const unknown = await issuer.token(
      { exp: Math.floor(Date.now() / 1000) + 3 * 86_400 },
      { header: { kid: 'new' } },
    )
    expect((await ask(server, unknown)).status).toBe(503)
    expect(server.logs.filter(({ level }) => level === 'warn').map(({ message }) => message)).toEqual([
      'the keys of the issuer could not be loaded; those from before go on being used',
    ])
    await server.clock.advance(21 * 3_600_000)
    expect((await ask(server, lasting)).status).toBe(503)
    issuer.answers.set('/jwks', { keys: issuer.keys.map(({ jwk }) => jwk) })
    await server.clock.advance(30_000)
    expect((await ask(server, lasting)).status).toBe(LET_IN)

    const fresh = await protect(issuer)
    for (const [what, answer] of [
      ['an error', 500],
      ['a redirect', 302],
      ['no JSON', 'oops'],
      ['no keys', { keys: 'none' }],
      ['too much', `"${'x'.repeat(2 * 1024 * 1024)}"`],
    ] as const) {
      issuer.answers.set('/jwks', answer)
      const response = await ask(fresh, lasting)
      expect([response.status, response.header('retry-after')], what).toEqual([503, '5'])
      expect(response.header('www-authenticate')).toBeUndefined()
      await fresh.clock.advance(2000)
    }
    // Who sends no token is told to log in even then.
    expect((await ask(fresh)).status).toBe(401)
    expect(fresh.logs.filter(({ level }) => level === 'error').length).toBe(1)
    issuer.answers.set('/jwks', { keys: issuer.keys.map(({ jwk }) => jwk) })
    expect((await ask(fresh, lasting)).status).toBe(LET_IN)
    expect(fresh.logs.at(-1)?.message).toBe('the keys of the issuer were loaded again')
  })

  test('an issuer that does not answer is waited for 5 s', async () => {
    const issuer = await startIssuer()
    issuer.answers.set('/jwks', 'never')
    const server = await protect(issuer)
    const asked = ask(server, await issuer.token())
    await server.waitFor(() => issuer.count('/jwks') === 1, 'the question')
    await server.clock.advance(5000)
    expect((await asked).status).toBe(503)
  })

  test('metadata of another issuer, or keys over plain http, are not taken; the log says what to write', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer)
    issuer.answers.set('/.well-known/oauth-authorization-server', {
      issuer: `${issuer.url}/`,
      jwks_uri: `${issuer.url}/jwks`,
    })
    issuer.answers.set('/.well-known/openid-configuration', {
      issuer: issuer.url,
      jwks_uri: 'http://keys.test/jwks',
    })
    expect((await ask(server, await issuer.token())).status).toBe(503)
    const told = JSON.stringify(server.logs.at(-1)?.args)
    expect(told).toContain('the option issuer has to be that to the letter')
    expect(told).toContain('is no https URL')
    await expect(bearerAuth({ issuer: issuer.url, resource: RESOURCE }).prepare()).rejects.toThrow(
      /to the letter/,
    )
  })
})

describe('introspection', () => {
  const introspection = { clientId: 'us & them', clientSecret: 's3cr:et %' }

  async function introspecting(
    options: Partial<NonNullable<BearerAuthOptions['introspection']>> = {},
    answer: object = {},
  ): Promise<{
    issuer: Issuer
    server: FakeApp
    requests: { authorization: string | undefined; body: string }[]
  }> {
    const issuer = await startIssuer()
    const requests: { authorization: string | undefined; body: string }[] = []
    issuer.answers.set('/introspect', (request, body) => {
      requests.push({ authorization: request.headers.authorization, body })
      const active = new URLSearchParams(body).get('token')?.startsWith('good') === true
      return active
        ? { active, sub: 'ada', client_id: 'client', aud: RESOURCE, scope: 'mcp', ...answer }
        : { active: false }
    })
    const server = await protect(issuer, { introspection: { ...introspection, ...options } })
    return { issuer, server, requests }
  }

  test('asks who it is about, as whom the option says, and remembers the answer for a moment', async () => {
    const { server, requests } = await introspecting()
    for (let n = 0; n < 3; n++) expect((await ask(server, 'good')).status).toBe(LET_IN)
    await expectRefused(await ask(server, 'bad'), 'the token is not active')
    await expectRefused(await ask(server, 'bad'), 'the token is not active')
    expect(requests.map(({ body }) => new URLSearchParams(body).get('token'))).toEqual(['good', 'bad'])
    const [scheme, credentials] = requests[0]?.authorization?.split(' ') ?? []
    expect(scheme).toBe('Basic')
    expect(Buffer.from(credentials ?? '', 'base64').toString()).toBe('us+%26+them:s3cr%3Aet+%25')
    await server.clock.advance(10_000)
    await ask(server, 'good')
    expect(requests.length).toBe(3)
  })

  test('in the body, and without remembering', async () => {
    const { server, requests } = await introspecting({ authentication: 'client_secret_post', cacheFor: 0 })
    for (let n = 0; n < 2; n++) expect((await ask(server, 'good')).status).toBe(LET_IN)
    expect(requests.length).toBe(2)
    expect(requests[0]?.authorization).toBeUndefined()
    expect(Object.fromEntries(new URLSearchParams(requests[0]?.body))).toEqual({
      token: 'good',
      token_type_hint: 'access_token',
      client_id: introspection.clientId,
      client_secret: introspection.clientSecret,
    })
  })

  test('what the answer says counts: audience, issuer, times, type, binding; never longer than the token', async () => {
    const now = Math.floor(Date.now() / 1000)
    for (const [answer, description] of [
      [{ aud: 'https://other.test' }, 'the token is for another resource'],
      [{ aud: undefined }, 'the token is for another resource'],
      [{ iss: 'https://other.test' }, 'the token is of another issuer'],
      [{ exp: now - 10 }, 'the token has expired'],
      [{ nbf: now + 60 }, 'the token is not valid yet'],
      [{ token_type: 'DPoP' }, 'the token is not a bearer token'],
      [{ cnf: { jkt: 'x' } }, 'the token is bound to a key, and bearers of it are not taken'],
      [{ active: 'true' }, 'the token is not active'],
    ] as const) {
      const { server } = await introspecting({}, answer)
      await expectRefused(await ask(server, 'good'), description, JSON.stringify(answer))
    }
    const { server } = await introspecting(
      { allowMissingAudience: true, cacheFor: '1h' },
      { aud: undefined, exp: now + 60 },
    )
    expect((await ask(server, 'good')).status).toBe(LET_IN)
    await server.clock.advance(67_000)
    await expectRefused(await ask(server, 'good'), 'the token has expired')
  })

  test('an issuer that refuses us, or is not there, makes 503, told once and without the secret', async () => {
    const { issuer, server } = await introspecting()
    issuer.answers.set('/introspect', 401)
    for (let n = 0; n < 3; n++) expect((await ask(server, 'good')).status).toBe(503)
    const told = JSON.stringify(server.logs)
    expect(told.match(/tokens cannot be introspected/g)?.length).toBe(1 + 1)
    expect(told).not.toContain('s3cr')
    issuer.answers.set('/introspect', { active: true, sub: 'ada', aud: RESOURCE })
    expect((await ask(server, 'good')).status).toBe(LET_IN)
  })

  test('a flood of tokens does not become one of questions', async () => {
    const { issuer, server } = await introspecting()
    let open = 0
    issuer.answers.set('/introspect', 'never')
    const flood = Array.from({ length: 100 }, (_, n) => ask(server, `good-${n}`))
    void Promise.all(flood.map((each) => each.then(({ status }) => (open += status === 503 ? 1 : 0))))
    await server.waitFor(() => issuer.count('/introspect') === 64 && open === 36, '64 questions, 36 refusals')
    await server.clock.advance(5000)
    expect((await Promise.all(flood)).every(({ status }) => status === 503)).toBe(true)
  })
})

describe('the metadata', () => {
  test('is there for everybody, browsers of any origin included, at both places, and says what the challenge says', async () => {
    const issuer = await startIssuer()
    const server = await protect(issuer, {
      requiredScopes: ['mcp'],
      scopesSupported: ['mcp', 'admin'],
      resourceName: 'Test',
    })
    const paths = ['/.well-known/oauth-protected-resource/mcp', '/.well-known/oauth-protected-resource']
    expect(server.app.wellKnownPaths).toEqual(paths)
    for (const target of paths) {
      const headers = { Origin: 'https://anywhere.test', Host: 'mcp.test' }
      const response = await server.request({ method: 'GET', target, headers })
      expect(response.status).toBe(200)
      expect(response.header('content-type')).toBe('application/json')
      expect(response.header('access-control-allow-origin')).toBe('*')
      expect(await response.json()).toEqual({
        resource: RESOURCE,
        authorization_servers: [issuer.url],
        bearer_methods_supported: ['header'],
        scopes_supported: ['mcp', 'admin'],
        resource_name: 'Test',
      })
      const preflight = await server.request({
        method: 'OPTIONS',
        target,
        headers: {
          ...headers,
          'Access-Control-Request-Method': 'GET',
          'Access-Control-Request-Headers': 'mcp-protocol-version',
        },
      })
      expect([preflight.status, preflight.header('access-control-allow-headers')]).toEqual([204, '*'])
      const head = await server.request({ method: 'HEAD', target, headers })
      expect(head.status).toBe(200)
      const posted = await server.request({ method: 'POST', target, headers, body: '{}' })
      expect([posted.status, posted.header('allow')]).toEqual([405, 'GET, HEAD, OPTIONS'])
    }
    // Near misses are not it.
    for (const target of ['/.well-known/oauth-protected-resource/other', '/.well-known/../mcp'])
      expect((await server.request({ method: 'GET', target, headers: {} })).status).toBe(401)
  })
})

test('why a token was refused is in the log at debug, in words of our own', async () => {
  const issuer = await startIssuer()
  const server = await protect(issuer, { requiredScopes: ['read'] })
  const reasons = (): unknown[] =>
    server.logs
      .filter(({ level, message }) => level === 'debug' && message === 'a token was refused')
      .map(({ args }) => args[1])
  await ask(server)
  expect(reasons()).toEqual([])
  await ask(server, await issuer.token({ aud: 'https://other.test' }))
  await ask(server, await issuer.token({ scope: 'write' }))
  expect(reasons()).toEqual([
    { reason: 'the token is for another resource' },
    { reason: 'the token lacks a scope that every request needs' },
  ])
})

test('neither tokens nor secrets are in logs, events or answers, whatever becomes of them', async () => {
  const issuer = await startIssuer()
  const secret = 'the-secret-of-this-server'
  const sent: string[] = []
  const told: string[] = []
  for (const introspection of [undefined, { clientId: 'rs', clientSecret: secret }]) {
    issuer.answers.set('/introspect', (_, body) =>
      body.includes('odd') ? 500 : { active: true, aud: RESOURCE },
    )
    const server = await protect(issuer, { ...(introspection && { introspection }) })
    const tokens = [
      await issuer.token(),
      await issuer.token({ aud: 'other' }),
      await issuer.token({}, { header: { kid: 'unknown' } }),
      `${await issuer.token()}x`,
      'odd-opaque-token-that-nobody-knows',
    ]
    sent.push(...tokens)
    for (const token of tokens) {
      for (const request of [
        post(initialize(), bearer(token)),
        get(bearer(token)),
        post('{"', bearer(token)),
      ]) {
        const response = await server.request(request)
        told.push(response.rawHead, await response.text())
      }
    }
    issuer.answers.set('/jwks', 500)
    await server.clock.advance(3_600_000)
    for (const token of tokens) told.push(await (await server.request(get(bearer(token)))).text())
    issuer.answers.set('/jwks', { keys: issuer.keys.map(({ jwk }) => jwk) })
    const all = {
      logs: server.logs.map(({ args }) => args),
      events: server.events,
      list: server.app.sessions.list(),
    }
    told.push(JSON.stringify(all, (_, value: unknown) => (value instanceof Error ? `${value.stack}` : value)))
  }
  const text = told.join('\n')
  expect(text.length).toBeGreaterThan(1000)
  for (const token of [...sent, secret]) {
    expect(text).not.toContain(token)
    // Nor any part of them that could be used.
    for (const part of token.split('.')) if (part.length > 20) expect(text).not.toContain(part)
  }
})

test('both official servers see the token of the call itself', async () => {
  for (const sdk of OFFICIAL) {
    const issuer = await startIssuer()
    const authenticate = bearerAuth({ issuer: issuer.url, resource: RESOURCE })
    const server = await serve(() => sdk.make(() => 'done'), { authenticate })
    const session = await openSession(server, { headers: bearer(await issuer.token()) })
    const answer = await server.request(post(call(), { ...session.headers, ...bearer(await issuer.token()) }))
    expect(answer.status, sdk.name).toBe(200)
  }
})
