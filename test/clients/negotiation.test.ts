/** How clients find the protocol revision: the v2 client's modes against an endpoint with the handshake. */

import { UnsupportedProtocolVersionError } from '@modelcontextprotocol/client'
import { describe, expect, test } from 'vitest'

import { connect, probeClient, rejection } from './probe-client.ts'
import type { Generation } from './probe-server.ts'
import { serveProbe } from './serve-probe.ts'

describe.each<Generation>(['v1', 'v2'])('server %s', (generation) => {
  test.each([
    ['by default', undefined],
    ['legacy', { mode: 'legacy' as const }],
  ])('%s: the handshake, and no probe before it', async (_, versionNegotiation) => {
    const { url, served, requests } = await serveProbe(generation, { echo: ({ input }) => input })
    const client = await connect('v2', url, { ...(versionNegotiation && { versionNegotiation }) })
    expect(client.protocolVersion).toBe('2025-11-25')
    expect(await client.call('echo', 'hello')).toBe('hello')
    expect(requests.all.slice(0, 2).map(({ method }) => method)).toEqual(['POST', 'POST'])
    expect(served.app.sessions.size).toBe(1)
  })

  test('auto: the probe is refused so that the client falls back to the handshake', async () => {
    const { url, served, events, getOpened } = await serveProbe(generation, {
      ask: (call) => call.server.elicit(call.input),
    })
    const client = await connect('v2', url, { versionNegotiation: { mode: 'auto' } })
    await getOpened()
    expect(client.protocolVersion).toBe('2025-11-25')
    expect(client.sessionId).toBeDefined()
    expect(await client.call('ask', 'name?')).toBe('accept: re: name?')
    expect(client.errors.all).toEqual([])
    expect(events.all.filter(({ type }) => type === 'request.refused')).toMatchObject([
      { status: 400, cause: 'era' },
    ])
    // Nothing is left of the probe.
    expect(served.app.sessions.size).toBe(1)
  })

  test('pinned to 2026-07-28: the client says clearly that the server does not speak it', async () => {
    const { url, served } = await serveProbe(generation, {})
    const client = probeClient('v2', url, { versionNegotiation: { mode: { pin: '2026-07-28' } } })
    const failed = await rejection(client.connect(), 'connect()')
    expect(failed).toBeInstanceOf(UnsupportedProtocolVersionError)
    expect(failed).toMatchObject({
      message: 'Unsupported protocol version: 2026-07-28',
      supported: expect.arrayContaining(['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05']),
      requested: '2026-07-28',
    })
    expect(served.app.sessions.counts).toMatchObject({ total: 0, opening: 0 })
  })
})
