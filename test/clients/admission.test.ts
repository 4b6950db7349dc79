/** What the official clients make of an endpoint that takes no session now: connect() fails at once and says so, and works when it is time. */

import { describe, expect, test } from 'vitest'

import { VirtualClock } from '../support/virtual-clock.ts'
import { connect, probeClient, type ProbeClientOptions, rejection } from './probe-client.ts'
import type { Generation } from './probe-server.ts'
import { serveProbe } from './serve-probe.ts'

const CLIENTS: readonly (readonly [string, Generation, ProbeClientOptions])[] = [
  ['v1', 'v1', {}],
  ['v2', 'v2', {}],
  ['v2 in its auto mode', 'v2', { versionNegotiation: { mode: 'auto' } }],
]

describe.each(CLIENTS)('%s', (_, generation, options) => {
  test('429: connect() fails with the message, asks nothing else, and works after Retry-After', async () => {
    const { url, served, requests, answered } = await serveProbe(
      'v1',
      { echo: ({ input }) => input },
      {
        clock: new VirtualClock(),
        openRatePerAddress: '1/m',
        openBurstPerAddress: 1,
        trustedProxies: 1,
      },
    )
    const headers = { 'X-Forwarded-For': '203.0.113.7' }
    const first = await connect(generation, url, { ...options, headers })
    expect(await first.call('echo', 'one')).toBe('one')
    const before = requests.all.length
    const failed = await rejection(
      probeClient(generation, url, { ...options, headers }).connect(),
      'connect()',
    )
    expect(String(failed)).toContain('sessions are opened too fast')
    // The probe of the other era, where there is one, and the handshake: no fallback to the transport of 2024, no second try.
    expect(requests.all.slice(before).every(({ method }) => method === 'POST')).toBe(true)
    expect(answered.all.filter(({ status }) => status === 429)).toHaveLength(1)
    expect(served.app.sessions.size).toBe(1)
    // The one before is not concerned.
    expect(await first.call('echo', 'two')).toBe('two')
    await served.clock.advance(60_000)
    const second = await connect(generation, url, { ...options, headers })
    expect(await second.call('echo', 'three')).toBe('three')
  })
})
