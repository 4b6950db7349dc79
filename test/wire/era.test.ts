/** Which era a request belongs to: told apart by the official classifier, and answered where its era is not served. What serving looks like is in test/per-request. */

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import {
  classifyInboundRequest,
  CLIENT_CAPABILITIES_META_KEY,
  CLIENT_INFO_META_KEY,
  PROTOCOL_VERSION_META_KEY,
} from '@modelcontextprotocol/server'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { describe, expect, onTestFinished, test } from 'vitest'

import { FakeServer } from '../support/fake-server.ts'
import {
  del,
  expectError,
  expectNothing,
  get,
  ID,
  initialize,
  initializeParams,
  notification,
  openSession,
  post,
  rpc,
  VERSIONS,
} from '../support/mcp-wire.ts'
import { SDKS } from '../support/sdk-servers.ts'
import { serve, type Served } from '../support/serve.ts'
import type { AppOptions } from '../../src/types.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const MODERN = '2026-07-28'
const METHOD_NOT_ALLOWED = {
  status: 405,
  code: -32000,
  message: 'Method not allowed.',
  headers: { allow: 'POST' },
}

function envelope(version: unknown = MODERN): { _meta: Record<string, unknown> } {
  return {
    _meta: {
      [PROTOCOL_VERSION_META_KEY]: version,
      [CLIENT_INFO_META_KEY]: { name: 'wire', version: '1' },
      [CLIENT_CAPABILITIES_META_KEY]: {},
    },
  }
}

function unsupported(requested: string, id: string | null = ID): Parameters<typeof expectError>[1] {
  return {
    status: 400,
    code: -32022,
    message: `Unsupported protocol version: ${requested}`,
    data: { supported: expect.arrayContaining([...VERSIONS]), requested },
    id,
  }
}

function serveNothing(options: AppOptions = {}): Promise<Served> {
  return serve(() => {
    throw new Error('nothing may be built for a refused request')
  }, options)
}

const LEGACY: AppOptions = { protocolEras: 'legacy' }

describe("protocolEras: 'legacy': what the classifier calls modern → 400 -32022 with the versions of the handshake", () => {
  test.each<[string, object]>([
    ['server/discover', rpc('server/discover', envelope())],
    ['tools/list', rpc('tools/list', envelope())],
    ['tools/call', rpc('tools/call', { name: 'echo', arguments: {}, ...envelope() })],
    ['an unknown method', rpc('no/such', envelope())],
    ['initialize with an envelope', rpc('initialize', { ...initializeParams(), ...envelope() })],
  ])('%s, with the header and without', async (_, message) => {
    const server = await serveNothing(LEGACY)
    await expectError(
      await server.request(post(message, { 'Mcp-Protocol-Version': MODERN })),
      unsupported(MODERN),
    )
    await expectError(await server.request(post(message)), unsupported(MODERN))
    expect(server.events).toMatchObject([
      { type: 'request.refused', status: 400, cause: 'era' },
      { type: 'request.refused', status: 400, cause: 'era' },
    ])
    expectNothing(server)
  })

  test('the supported versions are those with a handshake, newest first, and no other', async () => {
    const server = await serveNothing(LEGACY)
    const response = await server.request(post(rpc('server/discover', envelope())))
    const { error } = (await response.json()) as { error: { data: { supported: string[] } } }
    expect(error.data.supported.slice(0, VERSIONS.length)).toEqual(VERSIONS)
    expect(error.data.supported).not.toContain(MODERN)
  })

  test('a revision later still', async () => {
    const server = await serveNothing(LEGACY)
    const response = await server.request(
      post(rpc('server/discover', envelope('2027-01-01')), { 'Mcp-Protocol-Version': '2027-01-01' }),
    )
    await expectError(response, unsupported('2027-01-01'))
    expectNothing(server)
  })

  test('notifications, by header or by envelope: the id is null', async () => {
    const server = await serveNothing(LEGACY)
    const byHeader = post(notification('notifications/x'), { 'Mcp-Protocol-Version': MODERN })
    await expectError(await server.request(byHeader), unsupported(MODERN, null))
    await expectError(
      await server.request(post(notification('notifications/x', envelope()))),
      unsupported(MODERN, null),
    )
    expectNothing(server)
  })
})

describe("the classifier's own rejections travel as they are", () => {
  test.each<[string, object | object[], Record<string, string>, number, string | null]>([
    ['initialize with a modern header', initialize(), { 'Mcp-Protocol-Version': MODERN }, -32020, ID],
    [
      'a modern header without an envelope',
      rpc('tools/list'),
      { 'Mcp-Protocol-Version': MODERN },
      -32602,
      ID,
    ],
    ['a header that is no version', rpc('tools/list'), { 'Mcp-Protocol-Version': 'banana' }, -32602, ID],
    [
      'header and envelope disagree',
      rpc('tools/list', envelope()),
      { 'Mcp-Protocol-Version': '2027-01-01' },
      -32020,
      ID,
    ],
    [
      'a legacy header and a modern envelope',
      rpc('tools/list', envelope()),
      { 'Mcp-Protocol-Version': '2025-11-25' },
      -32020,
      ID,
    ],
    [
      'the method header disagrees',
      rpc('tools/list', envelope()),
      { 'Mcp-Protocol-Version': MODERN, 'Mcp-Method': 'tools/call' },
      -32020,
      ID,
    ],
    ['an envelope whose version is no string', rpc('tools/list', envelope(7)), {}, -32602, ID],
    [
      'an envelope without the client’s capabilities',
      rpc('tools/list', { _meta: { [PROTOCOL_VERSION_META_KEY]: MODERN } }),
      { 'Mcp-Protocol-Version': MODERN },
      -32602,
      ID,
    ],
    [
      'a notification whose envelope disagrees with the header',
      notification('notifications/x', envelope()),
      { 'Mcp-Protocol-Version': '2027-01-01' },
      -32020,
      null,
    ],
    ['a batch with a modern element', [rpc('ping'), rpc('tools/list', envelope(), 2)], {}, -32600, null],
  ])('%s', async (_, body, headers, code, id) => {
    const server = await serveNothing()
    const verdict = classifyInboundRequest({
      httpMethod: 'POST',
      body,
      ...(headers['Mcp-Protocol-Version'] !== undefined && {
        protocolVersionHeader: headers['Mcp-Protocol-Version'],
      }),
      ...(headers['Mcp-Method'] !== undefined && { mcpMethodHeader: headers['Mcp-Method'] }),
    })
    if (verdict.kind !== 'reject') throw new Error(`the classifier says ${verdict.kind}`)
    const response = await server.request(post(body, headers))
    await expectError(response, {
      status: verdict.httpStatus,
      code,
      message: verdict.message,
      id,
      ...(verdict.data !== undefined && { data: verdict.data }),
    })
    expect([verdict.httpStatus, verdict.code]).toEqual([400, code])
    expectNothing(server)
  })
})

describe('`Mcp-Session-Id` and `Last-Event-ID` are ignored, never minted', () => {
  test('modern requests on a live session change nothing of it', async () => {
    const built: FakeServer[] = []
    const server = await serve(
      () => {
        const one = new FakeServer({ clock: new VirtualClock(), tag: 'fake' })
        built.push(one)
        return one
      },
      { clock: new VirtualClock() },
    )
    const session = await openSession(server)
    await server.waitFor(
      () => server.app.sessions.get(session.id)?.state === 'idle',
      'the end of the exchange',
    )
    const expiresIn = server.app.sessions.get(session.id)?.expiresIn ?? 0
    await server.clock.advance(1000)
    const headers = { 'Mcp-Session-Id': session.id, 'Mcp-Protocol-Version': MODERN, 'Last-Event-ID': 'x' }
    await expectError(await server.request(post(rpc('tools/list', envelope()), headers)), unsupported(MODERN))
    await expectError(await server.request(get(headers)), METHOD_NOT_ALLOWED)
    await expectError(await server.request(del(headers)), METHOD_NOT_ALLOWED)
    expect(server.app.sessions.get(session.id)?.expiresIn).toBe(expiresIn - 1000)
    expect(server.app.sessions.get(session.id)?.streams).toBe(0)
    expect(built[0]?.calls).toEqual([])
    // One was built to see whether it speaks the revision; it does not, and was not even connected.
    expect(built.length).toBe(2)
    expect(built[1]?.calls).toEqual([])
    expect((await server.request(post(rpc('ping'), session.headers))).status).toBe(200)
  })

  test('with an unknown id: the same answers, no 404', async () => {
    const server = await serveNothing(LEGACY)
    const headers = { 'Mcp-Session-Id': 'unknown', 'Mcp-Protocol-Version': MODERN }
    await expectError(await server.request(post(rpc('tools/list', envelope()), headers)), unsupported(MODERN))
    await expectError(await server.request(get(headers)), METHOD_NOT_ALLOWED)
    await expectError(await server.request(del(headers)), METHOD_NOT_ALLOWED)
  })
})

describe('what has nothing of 2026-07-28 belongs to the handshake', () => {
  test.each(VERSIONS)('the version header %s', async (version) => {
    const server = await serve(() => new FakeServer({ clock: new VirtualClock(), tag: 'fake' }))
    const session = await openSession(server, { version })
    for (const meta of [{}, { _meta: {} }, { _meta: { progressToken: 1, 'example.com/x': 1 } }]) {
      expect((await server.request(post(rpc('tools/list', meta), session.headers))).status).toBe(200)
    }
  })

  test('responses with a modern header answer nothing that a client could mean', async () => {
    const server = await serveNothing()
    const response = await server.request(
      post({ jsonrpc: '2.0', id: 1, result: {} }, { 'Mcp-Protocol-Version': MODERN }),
    )
    await expectError(response, {
      status: 400,
      code: -32000,
      message: 'Bad Request: Mcp-Session-Id header is required',
    })
  })
})

describe.each(SDKS)("official clients against servers of $name under protocolEras: 'legacy'", (sdk) => {
  /** A `fetch` that keeps what was asked and how it was answered, in order. */
  function watchingFetch(): { fetch: typeof fetch; seen: string[] } {
    const seen: string[] = []
    return {
      seen,
      fetch: async (input, init) => {
        const response = await fetch(input, init)
        const body =
          typeof init?.body === 'string' ? (JSON.parse(init.body) as { method?: string }) : undefined
        seen.push(`${init?.method ?? 'GET'} ${body?.method ?? '-'} ${response.status}`)
        return response
      },
    }
  }

  test.each(['auto', 'legacy', undefined] as const)(
    'the v2 client, mode %s, ends up with the handshake and works',
    async (mode) => {
      const server = await serve(() => sdk.build(), LEGACY)
      const { fetch, seen } = watchingFetch()
      const client = new Client(
        { name: 'c', version: '1' },
        mode === undefined ? {} : { versionNegotiation: { mode } },
      )
      onTestFinished(() => client.close())
      await client.connect(new StreamableHTTPClientTransport(server.url, { fetch }))
      expect(await client.callTool({ name: 'echo', arguments: { text: 'hi' } })).toMatchObject({
        content: [{ type: 'text', text: 'hi' }],
      })
      expect(server.app.sessions.list().map(({ protocolVersion }) => protocolVersion)).toEqual(['2025-11-25'])
      const posts = seen.filter((line) => line.startsWith('POST'))
      const handshake = ['POST initialize 200', 'POST notifications/initialized 202']
      expect(posts.slice(0, mode === 'auto' ? 3 : 2)).toEqual(
        mode === 'auto' ? ['POST server/discover 400', ...handshake] : handshake,
      )
      await client.close()
    },
  )

  test('the v2 client pinned to 2026-07-28 is told, and nothing is left', async () => {
    const server = await serve(() => sdk.build(), LEGACY)
    const client = new Client({ name: 'c', version: '1' }, { versionNegotiation: { mode: { pin: MODERN } } })
    onTestFinished(() => client.close())
    await expect(client.connect(new StreamableHTTPClientTransport(server.url))).rejects.toThrow(
      /version|2026-07-28/i,
    )
    expectNothing(server)
  })

  test('the v1 client works', async () => {
    const server = await serve(() => sdk.build(), LEGACY)
    const client = new ClientV1({ name: 'c', version: '1' })
    onTestFinished(() => client.close())
    await client.connect(new TransportV1(server.url) as Parameters<ClientV1['connect']>[0])
    expect(await client.callTool({ name: 'echo', arguments: { text: 'hi' } })).toMatchObject({
      content: [{ type: 'text', text: 'hi' }],
    })
    await client.close()
  })
})
