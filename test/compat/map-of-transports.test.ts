/** The documented map of transports with one import changed: the SDK documentation's own handler, whose sessions now end. */

import { readFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

import { InMemoryEventStore } from '@modelcontextprotocol/sdk/examples/shared/inMemoryEventStore.js'
import { describe, expect, onTestFinished, test, vi } from 'vitest'

import { withoutAMap } from '../../examples/snippets/map-after.ts'
import { mapOfTransports } from '../../examples/snippets/map-drop-in.ts'
import { StreamableHTTPServerTransport } from '../../src/compat/streamable-http-server-transport.ts'
import type { SessionEvent } from '../../src/session/events.ts'
import { connect } from '../clients/probe-client.ts'
import { deferred, within } from '../support/deferred.ts'
import { del, initialize, notification, post, rpc } from '../support/mcp-wire.ts'
import { RawConnection, type RawResponse } from '../support/raw-http.ts'
import { SDKS } from '../support/sdk-servers.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

async function listen(listener: RequestListener): Promise<{ url: URL; connection: RawConnection }> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const connection = await RawConnection.open(port)
  onTestFinished(async () => {
    connection.destroy()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return { url: new URL(`http://127.0.0.1:${port}/mcp`), connection }
}

/** A session opened by hand on a transport; gives the headers of further requests. */
async function open(connection: RawConnection): Promise<{ id: string; headers: Record<string, string> }> {
  const opened = await connection.request(post(initialize()))
  await opened.text()
  expect(opened.status).toBe(200)
  const id = opened.header('mcp-session-id') ?? ''
  const headers = { 'Mcp-Session-Id': id }
  await (await connection.request(post(notification('notifications/initialized'), headers))).text()
  return { id, headers }
}

const echo = { name: 'echo', arguments: { text: 'hello' } }

test('the drop-in differs from the documented handler in one import', () => {
  const lines = ['map-before', 'map-drop-in'].map((name) =>
    readFileSync(new URL(`../../examples/snippets/${name}.ts`, import.meta.url), 'utf8')
      .split('\n')
      .slice(1),
  )
  const [before = [], after = []] = lines
  const changed = after.filter((line, index) => line !== before[index])
  expect(changed).toEqual(["import { StreamableHTTPServerTransport } from 'sojourn'"])
  expect(after).toHaveLength(before.length)
})

describe.each(SDKS)('server of SDK $name', (sdk) => {
  test.each(['v1', 'v2'] as const)(
    'the documented handler serves an official client %s, and lets go of the one that vanishes',
    async (generation) => {
      vi.stubEnv('SOJOURN_SESSION_IDLE_TIMEOUT', '1s')
      onTestFinished(() => void vi.unstubAllEnvs())
      const { app, transports } = mapOfTransports(() => sdk.build())
      const { url, connection } = await listen(app)
      const client = await connect(generation, url)
      expect(await client.tools()).toEqual(['echo'])
      // An official client holds its session by the GET stream that it keeps open: this one never comes back, and opens none.
      const { id, headers } = await open(connection)
      expect(Object.keys(transports)).toHaveLength(2)
      const closed = deferred<SessionEvent>()
      transports[id]?.sessions.subscribe((event) => {
        if (event.type === 'session.closed') closed.resolve(event)
      })
      expect(await within(closed.promise, 'the end of the session')).toMatchObject({ reason: 'idle' })
      expect(Object.keys(transports)).not.toContain(id)
      // What the documented handler answers where it knows no transport.
      const late = await connection.request(post(rpc('tools/call', echo), headers))
      expect(late.status).toBe(400)
    },
  )

  test('options of the SDK do what they do there, and DELETE ends the session', async () => {
    const clock = new VirtualClock()
    const calls: string[] = []
    const transport = new StreamableHTTPServerTransport({
      clock,
      sessionIdleTimeout: '10m',
      sessionIdGenerator: () => 'tenant-1.abc',
      onsessioninitialized: (id) => void calls.push(`initialized ${id}`),
      onsessionclosed: (id) => void calls.push(`closed ${id}`),
      enableJsonResponse: true,
      eventStore: new InMemoryEventStore(),
      retryInterval: 1000,
      keepAliveMs: 0,
      maxRequestBodySize: 1000,
    })
    transport.onclose = () => void calls.push('onclose')
    const server = sdk.build()
    await server.connect(transport)
    const { connection } = await listen((req, res) => void transport.handleRequest(req, res))
    const { id, headers } = await open(connection)
    expect(id).toBe('tenant-1.abc')
    expect(transport.sessionId).toBe(id)
    expect(calls).toEqual(['initialized tenant-1.abc'])
    const call = async (): Promise<RawResponse> => {
      const response = await connection.request(post(rpc('tools/call', echo), headers))
      await response.text()
      return response
    }
    const first = await call()
    expect(first.header('content-type')).toBe('application/json')
    const long = await connection.request(
      post(rpc('tools/call', { name: 'echo', arguments: { text: 'x'.repeat(2000) } }), headers),
    )
    await long.text()
    expect(long.status).toBe(413)
    const deleted = await connection.request(del(headers))
    await deleted.text()
    expect(deleted.status).toBe(200)
    expect(calls.sort()).toEqual(['closed tenant-1.abc', 'initialized tenant-1.abc', 'onclose'])
    expect((await call()).status).toBe(404)
    expect(server.closed).toBe(true)
    expect(clock.pending).toBe(0)
  })

  test('the same endpoint without a map', async () => {
    const { app, mcp } = withoutAMap(() => sdk.build())
    onTestFinished(() => mcp.close())
    const { url } = await listen(app)
    const client = await connect(sdk.name, url)
    expect(await client.tools()).toEqual(['echo'])
    expect(mcp.sessions.size).toBe(1)
  })
})

describe('options of the SDKs', () => {
  const [sdk] = SDKS

  test.each([
    [{}, 200],
    [{ allowedHosts: ['mcp.example.com'] }, 200],
    [{ enableDnsRebindingProtection: true, allowedHosts: ['mcp.example.com:443'] }, 403],
    [{ enableDnsRebindingProtection: true, allowedHosts: ['evil.example.com'] }, 200],
  ])('hosts are checked when that is enabled, as in the SDKs: %o → %i', async (options, status) => {
    const transport = new StreamableHTTPServerTransport(options)
    onTestFinished(() => transport.close())
    await sdk?.build().connect(transport)
    const { connection } = await listen((req, res) => void transport.handleRequest(req, res))
    const response = await connection.request(post(initialize(), { Host: 'evil.example.com' }))
    await response.text()
    expect(response.status).toBe(status)
  })

  test('a body that a middleware parsed is taken as it is given', async () => {
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: () => 'given' })
    onTestFinished(() => transport.close())
    await sdk?.build().connect(transport)
    const { connection } = await listen(async (req, res) => {
      let text = ''
      for await (const chunk of req) text += String(chunk)
      await transport.handleRequest(req, res, JSON.parse(text))
    })
    expect((await open(connection)).id).toBe('given')
  })

  test('a callback that throws is told to onerror, and the session goes on', async () => {
    const transport = new StreamableHTTPServerTransport({
      onsessioninitialized: () => Promise.reject(new Error('no database')),
    })
    onTestFinished(() => transport.close())
    const told = deferred<Error>()
    transport.onerror = told.resolve
    await sdk?.build().connect(transport)
    const { connection } = await listen((req, res) => void transport.handleRequest(req, res))
    await open(connection)
    expect((await within(told.promise, 'onerror')).message).toBe('no database')
  })

  test.each(['', 'with space', 'ümlaut', 'line\nbreak'])(
    'an id that is none opens no session: %j',
    async (id) => {
      const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: () => id })
      onTestFinished(() => transport.close())
      await sdk?.build().connect(transport)
      const { connection } = await listen((req, res) => void transport.handleRequest(req, res))
      const response = await connection.request(post(initialize()))
      await response.text()
      expect(response.status).toBe(500)
      expect(transport.sessions.size).toBe(0)
    },
  )

  test('a server without sessions is told where that is', () => {
    expect(() => new StreamableHTTPServerTransport({ sessionIdGenerator: undefined })).toThrow(
      /stateless: true/,
    )
    // What it does not know is refused, too.
    expect(() => new StreamableHTTPServerTransport({ sessionIdGeneratr: () => 'x' } as object)).toThrow(
      RangeError,
    )
  })
})
