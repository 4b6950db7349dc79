/** "Order of checks" in docs/wire.md, rows 1 to 5, 8 and the order itself, over real sockets; bodies and eras have files of their own. */

import { describe, expect, test } from 'vitest'

import type { AppOptions, AuthInfo, CreateServer } from '../../src/types.ts'
import { deferred, within } from '../support/deferred.ts'
import { FACE } from '../support/face.ts'
import { FakeServer } from '../support/fake-server.ts'
import {
  del,
  expectError,
  expectNothing,
  get,
  ID,
  initialize,
  notification,
  openSession,
  post,
  POST_HEADERS,
  rpc,
} from '../support/mcp-wire.ts'
import { encodeRequest, type RawRequest, type RawResponse } from '../support/raw-http.ts'
import { serve, type Served, type ServeOptions } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const fakeClock = new VirtualClock()
const fake: CreateServer = () => new FakeServer({ clock: fakeClock, tag: 'fake' })

const METHOD_NOT_ALLOWED = {
  status: 405,
  code: -32000,
  message: 'Method not allowed.',
  headers: { allow: 'GET, POST, DELETE' },
}

/** Serves a factory that must not be called. */
function serveNothing(options: AppOptions = {}, serveOptions: ServeOptions = {}): Promise<Served> {
  return serve(
    () => {
      throw new Error('nothing may be built for a refused request')
    },
    options,
    serveOptions,
  )
}

/** The same request by each method that is served, OPTIONS included. */
const everyMethod: readonly (readonly [string, (headers: Record<string, string>) => RawRequest])[] = [
  ['POST', (headers) => post(initialize(), headers)],
  ['GET', (headers) => get(headers)],
  ['DELETE', (headers) => del(headers)],
  [
    'OPTIONS',
    (headers) => ({ method: 'OPTIONS', headers: { 'Access-Control-Request-Method': 'POST', ...headers } }),
  ],
]

/** Runtimes refuse what makes no URL before the app is asked. */
async function expectHostRefused(response: RawResponse, host: string): Promise<void> {
  if (!FACE.node && response.status === 400) expect(await response.text()).toBe('')
  else await expectError(response, invalidHost(host) as never)
}

function invalidHost(host: string): object {
  return { status: 403, code: -32000, message: `Invalid Host header: ${host}` }
}

/** Whether a request got past host and origin, whatever became of it after. */
async function expectAdmitted(server: Served, response: Promise<RawResponse>): Promise<void> {
  const { status } = await response
  expect(status).toBe(200)
  expect(server.events.filter((event) => event.type === 'request.refused')).toEqual([])
}

describe('1. method and target', () => {
  test.each(['PUT', 'PATCH', 'OPTIONS', 'TRACE', ...(FACE.selective ? [] : ['PROPFIND', 'REPORT'])])(
    '%s → 405 with Allow',
    async (method) => {
      const server = await serveNothing()
      await expectError(await server.request({ method }), METHOD_NOT_ALLOWED)
      expect(server.events).toMatchObject([{ type: 'request.refused', status: 405, cause: 'method' }])
      expectNothing(server)
    },
  )

  test('HEAD → 405 with Allow, and no body', async () => {
    const server = await serveNothing()
    const connection = await server.connect()
    const response = await connection.request({ method: 'HEAD' })
    expect([response.status, response.header('allow')]).toEqual([405, 'GET, POST, DELETE'])
    await expectError(await connection.request({ method: 'PUT' }), METHOD_NOT_ALLOWED)
    expectNothing(server)
  })

  test('PUT with a body → 405, and the connection goes on', async () => {
    const server = await serveNothing()
    const connection = await server.connect()
    await expectError(await connection.request({ method: 'PUT', body: '{}' }), METHOD_NOT_ALLOWED)
    await expectError(await connection.request({ method: 'PUT', body: '{}' }), METHOD_NOT_ALLOWED)
  })

  test('the method comes first: 405 even where the host is wrong', async () => {
    const server = await serveNothing()
    await expectError(
      await server.request({ method: 'PUT', headers: { Host: 'evil.example' } }),
      METHOD_NOT_ALLOWED,
    )
  })

  test('a target in absolute-form is accepted', async () => {
    const server = await serve(fake)
    const response = await server.request({ ...post(initialize()), target: server.url.href })
    expect(response.status).toBe(200)
    expect(response.header('mcp-session-id')).toBeDefined()
  })

  test.runIf(FACE.node)('the authority of an absolute-form target is the host that counts', async () => {
    const server = await serveNothing()
    const refused = await server.request({ ...post(initialize()), target: 'http://evil.example/mcp' })
    await expectError(refused, invalidHost('evil.example') as never)
    expectNothing(server)
  })

  test('where the app is mounted decides the path, and a query does no harm', async () => {
    const server = await serve(fake)
    for (const target of ['/mcp?a=b', ...(FACE.routed ? [] : ['/', '//mcp', '/..%2f'])]) {
      expect((await server.request({ ...post(initialize()), target })).status, target).toBe(200)
    }
  })

  test.each(['*', 'ftp://127.0.0.1/mcp', 'mcp'])(
    'a target that is neither is refused: %s',
    async (target) => {
      const server = await serveNothing()
      const response = await server.request({ ...post(initialize()), target })
      expect(FACE.routed ? [400, 404] : [400]).toContain(response.status)
      expectNothing(server)
    },
  )
})

describe('2. Host', () => {
  test.each(everyMethod)('%s to a host that is not ours → 403', async (_, request) => {
    const server = await serveNothing({ corsOrigins: ['https://app.example.com'] })
    await expectError(
      await server.request(request({ Host: 'evil.example' })),
      invalidHost('evil.example') as never,
    )
    expect(server.events).toMatchObject([
      { type: 'request.refused', status: 403, cause: 'host', option: 'allowedHosts' },
    ])
    expect(server.logs).toMatchObject([{ level: 'warn', message: expect.stringContaining('allowedHosts') }])
    expectNothing(server)
  })

  test.each([
    'localhost',
    'LocalHost',
    'localhost.',
    'localhost:1',
    '127.0.0.1',
    '127.0.0.1:65535',
    ...(FACE.node ? ['127.8.9.10'] : []),
    '[::1]',
    '[::1]:80',
  ])('bound to loopback: loopback names pass, any port: %s', async (host) => {
    const server = await serve(fake)
    await expectAdmitted(server, server.request(post(initialize(), { Host: host })))
  })

  test.each([
    'evil.example',
    'localhost.evil.example',
    'evil-localhost',
    'notlocalhost',
    '127.0.0.1.evil.example',
    '127.0.0.1.nip.io',
    '127.1',
    '2130706433',
    '0x7f.0.0.1',
    '0.0.0.0',
    '[::]',
    '[::ffff:127.0.0.1]',
    '10.0.0.1',
    '127.0.0.256',
    'localhost:99999',
    'localhost:http',
    'localhost@evil.example',
    'evil.example#localhost',
    'localhost, evil.example',
    '[::1',
    '',
  ])('bound to loopback: everything else is 403: %s', async (host) => {
    const server = await serveNothing()
    await expectHostRefused(await server.request(post(initialize(), { Host: host })), host)
    expectNothing(server)
  })

  test.runIf(FACE.node)('a request without Host (HTTP/1.0) → 403', async () => {
    const server = await serveNothing()
    const connection = await server.connect()
    await connection.write('GET /mcp HTTP/1.0\r\n\r\n')
    await expectError(await connection.response(), {
      status: 403,
      code: -32000,
      message: 'Missing Host header',
    })
  })

  test.runIf(FACE.node)('what a stranger sends is repeated in print only, and not all of it', async () => {
    const server = await serveNothing()
    const host = `\u00e9\u009b31m${'x'.repeat(5000)}`
    await expectError(
      await server.request(post(initialize(), { Host: host })),
      invalidHost(`??31m${'x'.repeat(95)}`) as never,
    )
    expect(server.logs[0]?.message).not.toMatch(/[^\x20-\x7e]/)
  })

  const open = { host: '0.0.0.0' } as const

  test.runIf(FACE.node).each(['localhost', '127.0.0.1', 'mcp.example.com'])(
    'bound to all addresses, without a list: 403, loopback names too: %s',
    async (host) => {
      const server = await serveNothing({}, open)
      await expectError(await server.request(post(initialize(), { Host: host })), invalidHost(host) as never)
      expectNothing(server)
    },
  )

  test.each([
    'mcp.example.com',
    'MCP.Example.COM',
    'mcp.example.com.',
    'mcp.example.com:8443',
    '192.0.2.7:80',
    '[2001:db8::1]',
  ])('bound to all addresses: the list counts, by name: %s passes', async (host) => {
    const server = await serve(fake, { allowedHosts: ['mcp.example.com', '192.0.2.7', '2001:DB8::1'] }, open)
    await expectAdmitted(server, server.request(post(initialize(), { Host: host })))
  })

  test.each([
    'example.com',
    'a.mcp.example.com',
    'mcp.example.com.evil.example',
    'xmcp.example.com',
    'localhost',
    '192.0.2.70',
  ])('bound to all addresses: the list counts, by name: %s does not pass', async (host) => {
    const server = await serveNothing({ allowedHosts: ['mcp.example.com', '192.0.2.7'] }, open)
    await expectError(await server.request(post(initialize(), { Host: host })), invalidHost(host) as never)
    expectNothing(server)
  })

  test('an entry with a port counts with that port only', async () => {
    const server = await serve(fake, { allowedHosts: ['mcp.example.com:8443'] }, open)
    expect((await server.request(post(initialize(), { Host: 'mcp.example.com:8443' }))).status).toBe(200)
    expect((await server.request(post(initialize(), { Host: 'mcp.example.com:8444' }))).status).toBe(403)
    expect((await server.request(post(initialize(), { Host: 'mcp.example.com' }))).status).toBe(403)
  })

  test("allowedHosts: 'any' lets every host in, one that is missing too", async () => {
    const server = await serve(fake, { allowedHosts: 'any' }, open)
    expect((await server.request(post(initialize(), { Host: 'whatever.example' }))).status).toBe(200)
    if (!FACE.node) return
    const connection = await server.connect()
    await connection.write('GET /mcp HTTP/1.0\r\n\r\n')
    expect((await connection.response()).status).toBe(405)
  })

  test.runIf(FACE.node)('bound to loopback: the list adds to the loopback names', async () => {
    const server = await serve(fake, { allowedHosts: ['mcp.example.com'] })
    expect((await server.request(post(initialize(), { Host: 'mcp.example.com' }))).status).toBe(200)
    expect((await server.request(post(initialize(), { Host: 'localhost' }))).status).toBe(200)
    expect((await server.request(post(initialize(), { Host: 'other.example.com' }))).status).toBe(403)
  })
})

describe('2. Origin', () => {
  test.each(everyMethod)('%s from an origin that is not ours → 403', async (_, request) => {
    const server = await serveNothing({ corsOrigins: ['https://app.example.com'] })
    await expectError(await server.request(request({ Origin: 'https://evil.example' })), {
      status: 403,
      code: -32000,
      message: 'Invalid Origin header: https://evil.example',
    })
    expect(server.events).toMatchObject([
      { type: 'request.refused', status: 403, cause: 'origin', option: 'allowedOrigins' },
    ])
    expect(server.logs).toMatchObject([{ level: 'warn', message: expect.stringContaining('allowedOrigins') }])
    expectNothing(server)
  })

  test
    .runIf(FACE.node)
    .each([
      'http://localhost',
      'http://localhost:5173',
      'https://LOCALHOST:1',
      'http://127.0.0.1:8080',
      'http://[::1]:3000',
    ])('bound to loopback: loopback origins pass: %s', async (origin) => {
    const server = await serve(fake)
    await expectAdmitted(server, server.request(post(initialize(), { Origin: origin })))
  })

  test.each([
    'null',
    '',
    'https://evil.example',
    'http://localhost.evil.example',
    'http://evil.example/localhost',
    'http://localhost@evil.example',
    'http://127.0.0.1.nip.io',
    'http://evil-localhost',
    'http://localhost/',
    'http://localhost:5173/path',
    'http://localhost http://evil.example',
    'http://localhost, http://evil.example',
    'file://',
    'file://localhost',
    'chrome-extension://abcdefgh',
    'localhost',
    '//localhost',
  ])('bound to loopback: everything else is 403: %s', async (origin) => {
    const server = await serveNothing()
    await expectError(await server.request(post(initialize(), { Origin: origin })), {
      status: 403,
      code: -32000,
      message: `Invalid Origin header: ${origin}`,
    })
    expectNothing(server)
  })

  const options = {
    allowedHosts: ['mcp.example.com'],
    allowedOrigins: [
      'https://app.example.com',
      'https://other.example.com:8443/',
      'chrome-extension://abcdefgh',
    ],
    corsOrigins: ['https://cors.example.com'],
  }

  test.each([
    'https://app.example.com',
    'HTTPS://APP.example.com',
    'https://other.example.com:8443',
    'chrome-extension://abcdefgh',
    'https://cors.example.com',
  ])('the list counts, as a whole, cors-origins included: %s passes', async (origin) => {
    const server = await serve(fake, options, { host: '0.0.0.0' })
    await expectAdmitted(
      server,
      server.request(post(initialize(), { Host: 'mcp.example.com', Origin: origin })),
    )
  })

  test.each([
    'null',
    'http://app.example.com',
    'https://app.example.com:8443',
    'https://other.example.com',
    'https://app.example.com.evil.example',
    'https://evilapp.example.com',
    'https://sub.app.example.com',
    'chrome-extension://abcdefgi',
    'http://localhost',
    'https://mcp.example.com',
  ])('the list counts, as a whole: %s does not pass', async (origin) => {
    const server = await serveNothing(options, { host: '0.0.0.0' })
    const response = await server.request(post(initialize(), { Host: 'mcp.example.com', Origin: origin }))
    await expectError(response, { status: 403, code: -32000, message: `Invalid Origin header: ${origin}` })
    expectNothing(server)
  })

  test("allowedOrigins: 'any' lets every origin in, null too", async () => {
    const server = await serve(fake, { allowedOrigins: 'any' })
    for (const origin of ['null', 'https://evil.example']) {
      expect((await server.request(post(initialize(), { Origin: origin }))).status, origin).toBe(200)
    }
  })
})

describe('3. CORS', () => {
  const origin = 'https://app.example.com'
  const preflight = (headers: Record<string, string> = {}): RawRequest => ({
    method: 'OPTIONS',
    headers: { Origin: origin, 'Access-Control-Request-Method': 'POST', ...headers },
  })

  test('a preflight → 204 with what this protocol needs, no credentials, before authentication', async () => {
    const server = await serveNothing({
      corsOrigins: [origin],
      authenticate: () => {
        throw new Error('a preflight carries no credentials')
      },
    })
    const response = await server.request(preflight())
    expect(response.status).toBe(204)
    expect(response.header('access-control-allow-origin')).toBe(origin)
    expect(response.header('access-control-allow-methods')?.split(', ')).toEqual(['GET', 'POST', 'DELETE'])
    expect(new Set(response.header('access-control-allow-headers')?.split(', '))).toEqual(
      new Set([
        'mcp-session-id',
        'mcp-protocol-version',
        'last-event-id',
        'mcp-method',
        'mcp-name',
        'authorization',
        'content-type',
      ]),
    )
    expect(response.header('vary')).toContain('Origin')
    expect(response.header('access-control-allow-credentials')).toBeUndefined()
    expect(response.header('content-length')).toBeUndefined()
    expect(response.header('content-type')).toBeUndefined()
    expect(server.events).toEqual([])
    expectNothing(server)
  })

  test('mcp-param-* is allowed by the names that are asked for, and nothing else is', async () => {
    const server = await serveNothing({ corsOrigins: [origin] })
    const response = await server.request(
      preflight({ 'Access-Control-Request-Headers': 'Mcp-Param-Region,x-evil, mcp-param-a b' }),
    )
    const allowed = response.header('access-control-allow-headers')?.split(', ')
    expect(allowed).toContain('mcp-param-region')
    expect(allowed?.join()).not.toMatch(/evil|a b/)
  })

  test("corsOrigins: '*' → the wildcard, and never with credentials", async () => {
    const server = await serve(fake, { corsOrigins: '*' })
    const before = await server.request(preflight({ Origin: 'https://anywhere.example' }))
    expect(before.status).toBe(204)
    expect(before.header('access-control-allow-origin')).toBe('*')
    const response = await server.request(post(initialize(), { Origin: 'https://anywhere.example' }))
    expect(response.header('access-control-allow-origin')).toBe('*')
    for (const one of [before, response])
      expect(one.header('access-control-allow-credentials')).toBeUndefined()
  })

  test('answers expose Mcp-Session-Id and WWW-Authenticate, refusals too', async () => {
    const server = await serve(fake, { corsOrigins: [origin] })
    const answers = [
      await server.request(post(initialize(), { Origin: origin })),
      await server.request(post(rpc('ping'), { Origin: origin })),
      await server.request(post(rpc('ping'), { Origin: origin, 'Mcp-Session-Id': 'unknown' })),
      await server.request(post('{', { Origin: origin })),
      await server.request(post(rpc('ping'), { Origin: origin, Accept: 'text/html' })),
      await server.request(get({ Origin: origin })),
    ]
    expect(answers.map(({ status }) => status)).toEqual([200, 400, 404, 400, 406, 405])
    for (const answer of answers) {
      expect(answer.header('access-control-allow-origin')).toBe(origin)
      expect(answer.header('access-control-expose-headers')).toBe('Mcp-Session-Id, WWW-Authenticate')
      expect(answer.header('vary')).toBe('Origin')
    }
  })

  test('a 401 of the hook is readable for browsers, too', async () => {
    const server = await serveNothing({
      corsOrigins: [origin],
      authenticate: () => new Response('no', { status: 401, headers: { 'WWW-Authenticate': 'Bearer' } }),
    })
    const response = await server.request(post(initialize(), { Origin: origin }))
    expect(response.status).toBe(401)
    expect(response.header('access-control-allow-origin')).toBe(origin)
    expect(response.header('access-control-expose-headers')).toContain('WWW-Authenticate')
  })

  test('SSE answers carry the permission as well', async () => {
    const server = await serve(fake, { corsOrigins: [origin] })
    const session = await openSession(server, { headers: { Origin: origin } })
    const stream = await server.request(get({ Origin: origin, ...session.headers }))
    expect(stream.status).toBe(200)
    expect(stream.header('access-control-allow-origin')).toBe(origin)
  })

  test('without an Origin there is no permission, but caches are told', async () => {
    const server = await serve(fake, { corsOrigins: [origin] })
    const response = await server.request(post(initialize()))
    expect(response.header('access-control-allow-origin')).toBeUndefined()
    expect(response.header('vary')).toBe('Origin')
  })

  test('an allowed origin without CORS gets no permission', async () => {
    const server = await serve(fake, { corsOrigins: [origin], allowedOrigins: ['https://plain.example.com'] })
    const response = await server.request(post(initialize(), { Origin: 'https://plain.example.com' }))
    expect(response.status).toBe(200)
    expect(response.header('access-control-allow-origin')).toBeUndefined()
    await expectError(
      await server.request(preflight({ Origin: 'https://plain.example.com' })),
      METHOD_NOT_ALLOWED,
    )
  })

  test('OPTIONS that is no preflight → 405', async () => {
    const server = await serveNothing({ corsOrigins: [origin] })
    await expectError(await server.request({ method: 'OPTIONS' }), METHOD_NOT_ALLOWED)
    await expectError(
      await server.request({ method: 'OPTIONS', headers: { Origin: origin } }),
      METHOD_NOT_ALLOWED,
    )
  })

  test('without CORS no answer carries it', async () => {
    const server = await serve(fake, { allowedOrigins: ['http://localhost:5173'] })
    const response = await server.request(post(initialize(), { Origin: 'http://localhost:5173' }))
    expect(response.status).toBe(200)
    expect(response.rawHead).not.toMatch(/access-control/i)
    expect(response.rawHead).not.toMatch(/vary/i)
  })
})

describe('4. authentication', () => {
  const alice: AuthInfo = { token: 'a', clientId: 'client', scopes: [], extra: { sub: 'alice' } }

  test.each([401, 403])(
    'the hook answers %i with its own headers and body, before any session is looked up',
    async (status) => {
      const server = await serve(fake, {
        clock: new VirtualClock(),
        sessionIdleTimeout: '10m',
        authenticate: (request) =>
          request.headers.get('authorization') === 'Bearer a'
            ? alice
            : new Response('{"error":"invalid_token"}', {
                status,
                headers: {
                  'WWW-Authenticate': 'Bearer resource_metadata="https://mcp.example.com/.well-known/x"',
                  'Content-Type': 'application/json; charset=utf-8',
                  'X-Own': 'yes',
                },
              }),
      })
      const session = await openSession(server, { headers: { Authorization: 'Bearer a' } })
      await server.waitFor(
        () => server.app.sessions.get(session.id)?.state === 'idle',
        'the end of the exchange',
      )
      const expiresIn = server.app.sessions.get(session.id)?.expiresIn
      await server.clock.advance(1000)
      for (const request of [
        post(rpc('ping'), session.headers),
        get(session.headers),
        del(session.headers),
      ]) {
        const response = await server.request(request)
        expect(response.status).toBe(status)
        expect(response.header('www-authenticate')).toBe(
          'Bearer resource_metadata="https://mcp.example.com/.well-known/x"',
        )
        expect(response.header('content-type')).toBe('application/json; charset=utf-8')
        expect(response.header('x-own')).toBe('yes')
        expect(response.header('mcp-session-id')).toBeUndefined()
        expect(await response.text()).toBe('{"error":"invalid_token"}')
      }
      expect(server.app.sessions.get(session.id)?.expiresIn).toBe((expiresIn ?? 0) - 1000)
      expect(server.events.filter(({ type }) => type === 'request.refused')).toMatchObject([
        { status, cause: 'authentication' },
        { status, cause: 'authentication' },
        { status, cause: 'authentication' },
      ])
    },
  )

  test('it is called once per request, and not for what was refused before', async () => {
    let calls = 0
    const server = await serve(fake, {
      authenticate: () => {
        calls += 1
        return alice
      },
    })
    await server.request({ method: 'PUT' })
    await server.request(post(initialize(), { Host: 'evil.example' }))
    await server.request(post(initialize(), { Origin: 'https://evil.example' }))
    expect(calls).toBe(0)
    await server.request(post(initialize()))
    expect(calls).toBe(1)
  })

  test('it comes before what is wrong with the request itself, and before its body', async () => {
    const server = await serveNothing({ authenticate: () => new Response('', { status: 401 }) })
    const connection = await server.connect()
    await connection.write(
      encodeRequest(
        {
          method: 'POST',
          headers: { Accept: 'text/html', 'Content-Type': 'text/plain', 'Content-Length': '1000' },
        },
        `127.0.0.1:${server.port}`,
      ),
    )
    expect((await connection.response()).status).toBe(401)
  })

  test('cookies of the hook stay apart', async () => {
    const headers = new Headers([
      ['Set-Cookie', 'a=1'],
      ['Set-Cookie', 'b=2'],
    ])
    const server = await serveNothing({ authenticate: () => new Response('', { status: 401, headers }) })
    const response = await server.request(post(initialize()))
    expect(
      response.headerList.filter(([name]) => name.toLowerCase() === 'set-cookie').map(([, value]) => value),
    ).toEqual(['a=1', 'b=2'])
  })

  test('what frames the answer is not taken from the hook, which may pass on what it fetched', async () => {
    const headers = {
      'Content-Length': '9',
      'Content-Encoding': 'gzip',
      'Transfer-Encoding': 'chunked',
      Connection: 'close',
    }
    const server = await serveNothing({
      authenticate: () => new Response('no, ünd', { status: 403, headers }),
    })
    const connection = await server.connect()
    for (let round = 0; round < 2; round++) {
      const response = await connection.request(post(initialize()))
      expect(await response.text()).toBe('no, ünd')
      expect(response.headers).toMatchObject({ 'content-length': '8', connection: 'keep-alive' })
      expect(response.headers).not.toHaveProperty('content-encoding')
      expect(response.headers).not.toHaveProperty('transfer-encoding')
    }
  })

  test.each<[string, NonNullable<AppOptions['authenticate']>]>([
    ['gives a response without a status', () => Response.error()],
    [
      'gives a header that HTTP cannot carry',
      () => new Response('', { status: 401, headers: { 'WWW-Authenticate': 'Bearer error="\u0001"' } }),
    ],
    [
      'throws',
      () => {
        throw new Error('the secret of the author')
      },
    ],
    ['rejects', () => Promise.reject(new Error('the secret of the author'))],
    ['rejects with nothing', () => Promise.reject()],
    ['gives null', () => null as never],
    ['gives a string', () => 'alice' as never],
    ['gives true', () => true as never],
    ['gives auth without a token', () => ({ clientId: 'c' }) as never],
    [
      'gives a response whose body was read',
      async () => {
        const response = new Response('x', { status: 401 })
        await response.text()
        return response
      },
    ],
  ])('a hook that %s → 500, told to the log and not to the client', async (_, authenticate) => {
    const server = await serveNothing({ authenticate })
    for (const request of [post(initialize()), get(), del()]) {
      await expectError(await server.request(request), {
        status: 500,
        code: -32603,
        message: 'Internal error',
      })
    }
    expect(server.logs.filter(({ level }) => level === 'error')).toHaveLength(3)
    expectNothing(server)
  })

  test('a principal hook that throws → 500', async () => {
    const server = await serveNothing({
      authenticate: () => alice,
      principal: () => {
        throw new Error('no principal')
      },
    })
    await expectError(await server.request(post(initialize())), {
      status: 500,
      code: -32603,
      message: 'Internal error',
    })
    expectNothing(server)
  })

  test('a client that leaves while the hook works leaves nothing', async () => {
    const asked = deferred()
    const answer = deferred<AuthInfo>()
    const server = await serveNothing({
      authenticate: () => {
        asked.resolve()
        return answer.promise
      },
    })
    const connection = await server.connect()
    await connection.send(post(initialize()))
    await within(asked.promise, 'the call of the hook')
    connection.destroy()
    await within(
      new Promise((resolve) =>
        FACE.mount === undefined ? setImmediate(resolve) : server.http.getConnections(resolve),
      ),
      'counting',
    )
    await server.waitFor(() => connection.socket.destroyed, 'the end of the connection')
    answer.resolve(alice)
    await new Promise((resolve) => setImmediate(resolve))
    expectNothing(server)
  })

  test('what a framework put on the request counts where there is no hook', async () => {
    const server = await serve(
      fake,
      {},
      {
        middleware: ({ 'x-user': user }) =>
          user === undefined ? undefined : { ...alice, extra: { sub: user } },
      },
    )
    const session = await openSession(server, { headers: { 'X-User': 'alice' } })
    expect(server.app.sessions.get(session.id)?.principal).toContain('alice')
    expect((await server.request(post(rpc('ping'), { ...session.headers, 'X-User': 'alice' }))).status).toBe(
      200,
    )
    expect((await server.request(post(rpc('ping'), { ...session.headers, 'X-User': 'bob' }))).status).toBe(
      404,
    )
    expect((await server.request(post(rpc('ping'), session.headers))).status).toBe(404)
  })
})

const NEEDS_BOTH = {
  status: 406,
  code: -32000,
  message: 'Not Acceptable: Client must accept both application/json and text/event-stream',
}

describe('5. POST: Accept', () => {
  test.each([
    undefined,
    '*/*',
    'application/json, text/event-stream',
    'text/event-stream,application/json',
    'APPLICATION/JSON, Text/Event-Stream',
    'application/json;q=0.1, text/event-stream;q=0.001',
    'application/*, text/*',
    'application/json, */*;q=0.1',
    'text/html, application/json ; charset=utf-8 , text/event-stream ; x="a,b;q=0"',
    'application/json;q=1.000, text/event-stream;q=1',
  ])('both types are taken: %s', async (accept) => {
    const server = await serve(fake)
    expect((await server.request(post(initialize(), { Accept: accept }))).status).toBe(200)
  })

  test.each([
    '',
    'application/json',
    'text/event-stream',
    'text/html',
    'application/*',
    'text/*',
    'application/json, text/event-stream;q=0',
    'application/json;q=0, text/event-stream',
    'application/json;q=0.000, text/event-stream',
    '*/*;q=0',
    '*/*, application/json;q=0',
    '*/*, text/*;q=0',
    '*/*, text/event-stream;q=0.0',
    'application/jsonx, text/event-stream',
    'application/json-patch+json, text/event-stream',
    'application/json text/event-stream',
    '*',
  ])('one is missing → 406: %s', async (accept) => {
    const server = await serveNothing()
    await expectError(await server.request(post(initialize(), { Accept: accept })), NEEDS_BOTH)
    expect(server.events).toMatchObject([{ type: 'request.refused', status: 406, cause: 'accept' }])
    expectNothing(server)
  })

  test('repeated Accept lines count together', async () => {
    const server = await serve(fake)
    const response = await server.request({
      method: 'POST',
      headers: [
        ['Content-Type', 'application/json'],
        ['Accept', 'application/json'],
        ['Accept', 'text/event-stream'],
      ],
      body: initialize(),
    })
    expect(response.status).toBe(200)
  })

  test.each<[string, AppOptions]>([
    ["responseMode: 'json'", { responseMode: 'json' }],
    ['jsonResponse', { jsonResponse: true }],
    ['stateless', { stateless: true }],
  ])('%s: application/json alone suffices, and is needed', async (_, options) => {
    const server = await serve(fake, options)
    for (const accept of ['application/json', 'application/*', '*/*', undefined]) {
      const response = await server.request(post(initialize(), { Accept: accept }))
      expect(response.status, accept).toBe(200)
      expect(response.header('content-type')).toBe('application/json')
    }
    await expectError(await server.request(post(initialize(), { Accept: 'text/event-stream' })), {
      status: 406,
      code: -32000,
      message: 'Not Acceptable: Client must accept application/json',
    })
  })
})

describe('5. POST: Content-Type and Content-Encoding', () => {
  const WRONG_TYPE = {
    status: 415,
    code: -32000,
    message: 'Unsupported Media Type: Content-Type must be application/json',
  }

  test.each([
    'application/json',
    'Application/JSON',
    'application/json; charset=utf-8',
    'application/json;charset=UTF-8',
    'application/json; charset="utf-8"',
    'application/json ; charset=utf-8 ; profile="a;b"',
  ])('is taken: %s', async (type) => {
    const server = await serve(fake)
    expect((await server.request(post(initialize(), { 'Content-Type': type }))).status).toBe(200)
  })

  test.each([
    undefined,
    '',
    'text/plain',
    'text/json',
    'application/jsonx',
    'application/json-rpc',
    'application/vnd.api+json',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=application/json',
    'text/plain; application/json',
    'application/json; charset=utf-16',
    'application/json; charset=iso-8859-1',
    'application/json; charset=utf8',
    'application/json; charset',
    'application/json; charset=',
    'application/json; charset=utf-8; charset=latin1',
    'application/json, text/plain',
  ])('Content-Type → 415: %s', async (type) => {
    const server = await serveNothing()
    const response = await server.request(post(initialize(), { 'Content-Type': type }))
    if (FACE.selective && server.events.length === 0) {
      expect(response.status).toBe(415)
      return
    }
    await expectError(response, WRONG_TYPE)
    expect(server.events).toMatchObject([{ type: 'request.refused', status: 415, cause: 'content-type' }])
    expectNothing(server)
  })

  test.each(['identity', 'Identity'])('Content-Encoding: %s is taken', async (encoding) => {
    const server = await serve(fake)
    expect((await server.request(post(initialize(), { 'Content-Encoding': encoding }))).status).toBe(200)
  })

  test.each(['gzip', 'br', 'deflate', 'zstd', 'gzip, identity', 'identity, gzip', 'x', ''])(
    'Content-Encoding → 415: %s',
    async (encoding) => {
      const server = await serveNothing()
      await expectError(await server.request(post(initialize(), { 'Content-Encoding': encoding })), {
        status: 415,
        code: -32000,
        message: 'Unsupported Media Type: Content-Encoding must be identity',
        headers: { 'accept-encoding': 'identity' },
      })
      expect(server.events).toMatchObject([
        { type: 'request.refused', status: 415, cause: 'content-encoding' },
      ])
      expectNothing(server)
    },
  )
})

describe('5. GET: Accept', () => {
  test.each([undefined, 'text/event-stream', 'text/*', '*/*', 'text/html, text/event-stream;q=0.5'])(
    'a stream is taken: %s',
    async (accept) => {
      const server = await serve(fake)
      const session = await openSession(server)
      const response = await server.request(get({ ...session.headers, Accept: accept }))
      expect(response.status).toBe(200)
      expect(response.header('content-type')).toBe('text/event-stream')
    },
  )

  test.each(['', 'application/json', 'text/html', 'text/event-stream;q=0', '*/*, text/event-stream;q=0'])(
    '→ 406, and nothing is opened: %s',
    async (accept) => {
      const server = await serve(fake)
      const session = await openSession(server)
      await expectError(await server.request(get({ ...session.headers, Accept: accept })), {
        status: 406,
        code: -32000,
        message: 'Not Acceptable: Client must accept text/event-stream',
      })
      expect(server.app.sessions.get(session.id)?.streams).toBe(0)
      expect(server.app.sessions.get(session.id)?.state).toBe('idle')
    },
  )
})

describe('8. session, then protocol version, then dispatch', () => {
  const unsupported = (version: string): RegExp =>
    new RegExp(
      `^Bad Request: Unsupported protocol version: ${version.replaceAll('.', '\\.')} \\(supported versions: 2025-11-25, 2025-06-18, 2025-03-26, 2024-11-05`,
    )

  test.each(['1999-01-01', '2025-01-01', '2025-11-25x', '2024-10-07x', '1.0', '0', ''])(
    'legacy and unsupported → 400 -32000 on every method, nothing dispatched: %s',
    async (version) => {
      const built: FakeServer[] = []
      const server = await serve(() => {
        const one = new FakeServer({ clock: fakeClock, tag: 'fake' })
        built.push(one)
        return one
      })
      const session = await openSession(server)
      const headers = { ...session.headers, 'Mcp-Protocol-Version': version }
      await expectError(await server.request(post(rpc('tools/list'), headers)), {
        status: 400,
        code: -32000,
        message: unsupported(version),
        id: ID,
      })
      for (const request of [post(notification('notifications/x'), headers), get(headers), del(headers)]) {
        await expectError(await server.request(request), {
          status: 400,
          code: -32000,
          message: unsupported(version),
        })
      }
      expect(built[0]?.calls).toEqual([])
      expect(built[0]?.notifications).toHaveLength(1)
      expect(server.app.sessions.get(session.id)?.streams).toBe(0)
      expect(server.app.sessions.size).toBe(1)
    },
  )

  test('the session comes first: 404 where both are wrong', async () => {
    const server = await serveNothing()
    const headers = { 'Mcp-Session-Id': 'unknown', 'Mcp-Protocol-Version': '1999-01-01' }
    const expected = { status: 404, code: -32001, message: 'Session not found' }
    await expectError(await server.request(post(rpc('ping'), headers)), { ...expected, id: ID })
    await expectError(await server.request(get(headers)), expected)
    await expectError(await server.request(del(headers)), expected)
  })

  test('no session comes first as well', async () => {
    const server = await serveNothing()
    await expectError(await server.request(post(rpc('ping'), { 'Mcp-Protocol-Version': '1999-01-01' })), {
      status: 400,
      code: -32000,
      message: 'Bad Request: Mcp-Session-Id header is required',
      id: ID,
    })
  })

  test('the version header twice with one value is that value, with two it is refused', async () => {
    const server = await serve(fake)
    const session = await openSession(server)
    const twice = (a: string, b: string): RawRequest => ({
      method: 'POST',
      headers: [
        ...Object.entries(POST_HEADERS),
        ['Mcp-Session-Id', session.id],
        ['Mcp-Protocol-Version', a],
        ['Mcp-Protocol-Version', b],
      ],
      body: rpc('ping'),
    })
    expect((await server.request(twice('2025-11-25', '2025-11-25'))).status).toBe(200)
    await expectError(await server.request(twice('2025-11-25', '2025-06-18')), {
      status: 400,
      code: -32000,
      message: unsupported('two different values'),
      id: ID,
    })
  })

  test('a long version header is not repeated whole', async () => {
    const server = await serve(fake)
    const session = await openSession(server)
    const version = `1${'9'.repeat(3000)}`
    const response = await server.request(
      post(rpc('ping'), { ...session.headers, 'Mcp-Protocol-Version': version }),
    )
    expect(response.status).toBe(400)
    expect((await response.text()).length).toBeLessThan(500)
  })
})

describe('the order', () => {
  /** Every check fails; from top to bottom one after the other is put right. */
  test('each check hides those after it', async () => {
    const server = await serve(fake, {
      clock: new VirtualClock(),
      maxBodySize: 200,
      allowedOrigins: ['http://localhost'],
      authenticate: (request) =>
        request.headers.has('authorization') ? undefined : new Response('', { status: 401 }),
    })
    const session = await openSession(server, { headers: { Authorization: 'x' } })
    const wrong: Record<string, string> = {
      Host: 'evil.example',
      Origin: 'https://evil.example',
      Accept: 'text/html',
      'Content-Type': 'text/plain',
      'Content-Encoding': 'gzip',
      'Mcp-Session-Id': 'unknown',
      'Mcp-Protocol-Version': '1999-01-01',
    }
    const right: Record<string, string> = {
      Host: 'localhost',
      Origin: 'http://localhost',
      Authorization: 'x',
      Accept: '*/*',
      'Content-Type': 'application/json',
      'Content-Encoding': 'identity',
      'Mcp-Session-Id': session.id,
      'Mcp-Protocol-Version': '2025-11-25',
    }
    const headers = { ...wrong }
    let method = 'PUT'
    let body: string | object = 'x'.repeat(201)
    const steps: [number, number | undefined, () => void][] = [
      [405, -32000, () => (method = 'POST')],
      [403, -32000, () => fix('Host')],
      [403, -32000, () => fix('Origin')],
      [401, undefined, () => fix('Authorization')],
      [406, -32000, () => fix('Accept')],
      [415, -32000, () => fix('Content-Type')],
      [415, -32000, () => fix('Content-Encoding')],
      [413, -32000, () => (body = 'x')],
      [400, -32700, () => (body = {})],
      [400, -32600, () => (body = rpc('ping'))],
      [404, -32001, () => fix('Mcp-Session-Id')],
      [400, -32000, () => fix('Mcp-Protocol-Version')],
      [200, undefined, () => {}],
    ]
    const fix = (name: string): void => {
      headers[name] = right[name] ?? ''
    }
    for (const [status, code, correct] of steps) {
      const response = await server.request({ method, headers, body })
      const text = await response.text()
      expect([status, text]).toEqual([response.status, text])
      if (code !== undefined) expect(JSON.parse(text)).toMatchObject({ error: { code } })
      correct()
    }
  })
})
