/** "Opening a session" in docs/wire.md: how fast, per principal and per address. */

import { describe, expect, test } from 'vitest'

import type { AppOptions } from '../../src/types.ts'
import { FACE } from '../support/face.ts'
import { expectError, type Fields, ID, initialize, openSession, post, rpc } from '../support/mcp-wire.ts'
import type { Served } from '../support/serve.ts'
import { as, authenticateByName, serveFake } from '../support/wire-app.ts'

const TOO_FAST = {
  status: 429,
  code: -32000,
  message: 'Too Many Requests: sessions are opened too fast',
  id: ID,
}

/** Tries to open a session; gives its status and `Retry-After`. */
async function knock(server: Served, headers: Fields): Promise<[number, string | undefined]> {
  const response = await server.request(post(initialize(), headers))
  await response.ended()
  return [response.status, response.header('retry-after')]
}

const from = (address: string): Fields => ({ 'X-Forwarded-For': address })

const byPrincipal: AppOptions = {
  authenticate: authenticateByName,
  openRatePerPrincipal: '6/m',
  openBurstPerPrincipal: 3,
}

const byAddress: AppOptions = { openRatePerAddress: '6/m', openBurstPerAddress: 3, trustedProxies: 1 }

describe('per principal', () => {
  test('its burst, then 429 with the time until the next is served, and then it is', async () => {
    const server = await serveFake(byPrincipal)
    for (let opened = 0; opened < 3; opened++)
      expect(await knock(server, as('alice'))).toEqual([200, undefined])
    await expectError(await server.request(post(initialize(), as('alice'))), {
      ...TOO_FAST,
      headers: { 'retry-after': /^10$/ },
    })
    expect(server.events.at(-1)).toMatchObject({
      type: 'request.refused',
      status: 429,
      cause: 'rate',
      option: 'openRatePerPrincipal',
    })
    await server.clock.advance(2500)
    expect(await knock(server, as('alice'))).toEqual([429, '8'])
    await server.clock.advance(7499)
    expect(await knock(server, as('alice'))).toEqual([429, '1'])
    await server.clock.advance(1)
    expect(await knock(server, as('alice'))).toEqual([200, undefined])
    expect(await knock(server, as('alice'))).toEqual([429, '10'])
  })

  test('nothing is built for an attempt that is refused, and nothing of it is left', async () => {
    const server = await serveFake(byPrincipal)
    for (let attempt = 0; attempt < 20; attempt++) await knock(server, as('alice'))
    expect(server.fakes).toHaveLength(3)
    expect(server.app.sessions.counts).toMatchObject({ total: 3, opening: 0 })
  })

  test('nobody else is concerned, nor the sessions that she has', async () => {
    const server = await serveFake(byPrincipal)
    const session = await openSession(server, { headers: as('alice') })
    for (let attempt = 0; attempt < 20; attempt++) await knock(server, as('alice'))
    expect(await knock(server, as('alice'))).toEqual([429, '10'])
    expect(await knock(server, as('bob'))).toEqual([200, undefined])
    expect(await knock(server, {})).toEqual([200, undefined])
    const used = await server.request(post(rpc('tools/list'), { ...session.headers, ...as('alice') }))
    expect(used.status).toBe(200)
  })

  test('an attempt that fails counts as well: the factory is what costs', async () => {
    const server = await serveFake(byPrincipal, { initialize: 'error' })
    for (let attempt = 0; attempt < 3; attempt++) {
      const [status] = await knock(server, as('alice'))
      expect(status).not.toBe(429)
    }
    expect(await knock(server, as('alice'))).toEqual([429, '10'])
  })

  test('what is refused before costs nothing', async () => {
    const server = await serveFake({ ...byPrincipal, maxInitializeSize: 500 })
    const large = rpc('initialize', { padding: 'x'.repeat(1000) })
    for (let attempt = 0; attempt < 10; attempt++)
      expect((await server.request(post(large, as('alice')))).status).toBe(400)
    expect(await knock(server, as('alice'))).toEqual([200, undefined])
  })
})

describe('per address', () => {
  test('the one that the counted proxies report, whatever the client wrote there', async () => {
    const server = await serveFake(byAddress)
    for (let opened = 0; opened < 3; opened++)
      expect(await knock(server, from(`198.51.100.${opened}, 203.0.113.7`))).toEqual([200, undefined])
    expect(await knock(server, from('192.0.2.1, 203.0.113.7'))).toEqual([429, '10'])
    expect(server.events.at(-1)).toMatchObject({ option: 'openRatePerAddress', address: '203.0.113.7' })
    expect(await knock(server, from('203.0.113.7, 203.0.113.8'))).toEqual([200, undefined])
    await server.clock.advance(10_000)
    expect(await knock(server, from('203.0.113.7'))).toEqual([200, undefined])
  })

  test('of IPv6 the whole /64 network', async () => {
    const server = await serveFake(byAddress)
    for (let host = 1; host <= 3; host++)
      expect(await knock(server, from(`2001:db8::${host}`))).toEqual([200, undefined])
    expect(await knock(server, from('2001:db8::ffff:1'))).toEqual([429, '10'])
    expect(await knock(server, from('2001:db8:0:1::1'))).toEqual([200, undefined])
  })

  test('principals of one address share it, and each has its own rate besides', async () => {
    const server = await serveFake({ ...byPrincipal, ...byAddress })
    const both = (name: string): Fields => ({ ...as(name), ...from('203.0.113.7') })
    for (const name of ['alice', 'bob', 'carol'])
      expect(await knock(server, both(name))).toEqual([200, undefined])
    expect(await knock(server, both('dave'))).toEqual([429, '10'])
    expect(await knock(server, { ...as('dave'), ...from('203.0.113.8') })).toEqual([200, undefined])
  })

  test.skipIf(!FACE.node)('with no proxy it is the one of the connection', async () => {
    const server = await serveFake({ ...byAddress, trustedProxies: 0 })
    for (let opened = 0; opened < 3; opened++)
      expect(await knock(server, from(`203.0.113.${opened}`))).toEqual([200, undefined])
    expect(await knock(server, from('203.0.113.9'))).toEqual([429, '10'])
  })

  test.skipIf(FACE.node)('where no address is known the log says once that nothing is limited', async () => {
    const server = await serveFake({ ...byAddress, trustedProxies: 0 })
    for (let opened = 0; opened < 5; opened++) expect(await knock(server, {})).toEqual([200, undefined])
    expect(server.logs.filter(({ message }) => message.includes('openRatePerAddress'))).toHaveLength(1)
  })
})

test('by default nobody is limited', async () => {
  const server = await serveFake()
  for (let opened = 0; opened < 200; opened++) expect(await knock(server, {})).toEqual([200, undefined])
})
