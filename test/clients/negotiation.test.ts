/** How clients find the protocol revision: the clients' modes against one endpoint, whichever SDK is behind it. */

import { UnsupportedProtocolVersionError } from '@modelcontextprotocol/client'
import { describe, expect, test } from 'vitest'

import { connect, probeClient, rejection } from './probe-client.ts'
import type { Generation } from './probe-server.ts'
import { serveProbe } from './serve-probe.ts'

const MODERN = '2026-07-28'
const PINNED = { mode: { pin: MODERN } }

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
})

describe.each<[string, Generation, 'both' | 'legacy']>([
  ['a factory of SDK v1', 'v1', 'both'],
  ['a factory of SDK v2 under protocolEras: legacy', 'v2', 'legacy'],
])('%s cannot speak 2026-07-28', (_, generation, protocolEras) => {
  test('auto: the probe is refused so that the client falls back to the handshake', async () => {
    const { url, served, events, getOpened } = await serveProbe(
      generation,
      { ask: (call) => call.server.elicit(call.input) },
      { protocolEras },
    )
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
    const { url, served } = await serveProbe(generation, {}, { protocolEras })
    const client = probeClient('v2', url, { versionNegotiation: PINNED })
    const failed = await rejection(client.connect(), 'connect()')
    expect(failed).toBeInstanceOf(UnsupportedProtocolVersionError)
    expect(failed).toMatchObject({
      message: 'Unsupported protocol version: 2026-07-28',
      supported: expect.arrayContaining(['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05']),
      requested: MODERN,
    })
    expect(served.app.sessions.counts).toMatchObject({ total: 0, opening: 0 })
  })

  test('only the first probe costs a server', async () => {
    const { url, probe } = await serveProbe(generation, {}, { protocolEras })
    await connect('v2', url, { versionNegotiation: { mode: 'auto' } })
    await connect('v2', url, { versionNegotiation: { mode: 'auto' } })
    // One per session, and the one that showed what the factory builds.
    expect(probe.servers.length).toBe(protocolEras === 'legacy' ? 2 : 3)
  })
})

describe('a factory of SDK v2', () => {
  test.each([
    ['auto', { mode: 'auto' as const }],
    ['pinned', PINNED],
  ])('%s: no handshake, no session', async (_, versionNegotiation) => {
    const { url, served } = await serveProbe('v2', { echo: ({ input }) => input })
    const client = await connect('v2', url, { versionNegotiation })
    expect(client.protocolVersion).toBe(MODERN)
    expect(client.sessionId).toBeUndefined()
    expect(await client.call('echo', 'hello')).toBe('hello')
    expect(await client.tools()).toEqual(['echo'])
    expect(client.errors.all).toEqual([])
    expect(served.app.sessions.size).toBe(0)
  })

  test('serves every official client and mode on one URL at once', async () => {
    const { url, served } = await serveProbe('v2', {
      echo: ({ input }) => input,
      slow: async ({ input, progress }) => {
        await progress(1, 2)
        await progress(2, 2)
        return input
      },
    })
    const clients = await Promise.all([
      connect('v1', url),
      connect('v2', url),
      connect('v2', url, { versionNegotiation: { mode: 'legacy' } }),
      connect('v2', url, { versionNegotiation: { mode: 'auto' } }),
      connect('v2', url, { versionNegotiation: PINNED }),
    ])
    expect(clients.map(({ protocolVersion }) => protocolVersion)).toEqual([
      '2025-11-25',
      '2025-11-25',
      '2025-11-25',
      MODERN,
      MODERN,
    ])
    const answers = await Promise.all(
      clients.flatMap((client, i) =>
        [0, 1, 2, 3].map(async (n) => {
          const input = `${i}.${n}`
          const seen: number[] = []
          const text =
            n % 2 === 0
              ? await client.call('echo', input)
              : await client.call('slow', input, { onprogress: ({ progress }) => seen.push(progress) })
          expect(text).toBe(input)
          if (n % 2 === 1) expect(seen).toEqual([1, 2])
          return text
        }),
      ),
    )
    expect(answers.length).toBe(20)
    expect(served.app.sessions.size).toBe(3)
    for (const client of clients) expect(client.errors.all).toEqual([])
  })
})

describe("protocolEras: 'modern'", () => {
  test('a client that opens with the handshake is told what is spoken', async () => {
    const { url, probe } = await serveProbe('v2', {}, { protocolEras: 'modern' })
    const failed = await rejection(probeClient('v2', url).connect(), 'connect()')
    expect(failed.message).toContain('Unsupported protocol version')
    expect(probe.servers).toEqual([])
    const client = await connect('v2', url, { versionNegotiation: { mode: 'auto' } })
    expect(client.protocolVersion).toBe(MODERN)
  })
})
