/** Parity with the transport-level idle timeout (python-sdk #1159): one test per sentence of the row. */

import { describe, expect, test } from 'vitest'

import { SessionTransport } from '../../src/session/session-transport.ts'
import type { AppOptions } from '../../src/types.ts'
import { FakeServer } from '../support/fake-server.ts'
import { initialize, notification, rpc } from '../support/mcp-wire.ts'
import { SDKS } from '../support/sdk-servers.ts'
import { SimExchange } from '../support/sim-exchange.ts'
import { SimApp } from '../support/sim-app.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { call } from '../support/wire-app.ts'

const IDLE = 60_000
const HEADERS = {
  host: 'localhost',
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
}

/** A transport outside any manager, as people keep it in their own map. */
class Owned {
  readonly clock = new VirtualClock()
  readonly transport: SessionTransport
  /** Whose `onclose` took it out of the map. */
  readonly map = new Map<string, SessionTransport>()
  id = ''

  constructor(options: AppOptions = {}) {
    this.transport = new SessionTransport({
      clock: this.clock,
      sessionIdleTimeout: IDLE,
      unusedSessionTimeout: IDLE,
      ...options,
    })
  }

  async connect(server: { connect(transport: SessionTransport): Promise<void> }): Promise<void> {
    await server.connect(this.transport)
    const { onclose } = this.transport
    this.transport.onclose = () => {
      onclose?.()
      this.map.delete(this.id)
    }
    const opened = this.post(initialize())
    await this.clock.settle()
    this.id = opened.responseHeaders['mcp-session-id'] ?? ''
    this.map.set(this.id, this.transport)
    this.post(notification('notifications/initialized'))
    await this.clock.settle()
  }

  post(message: object): SimExchange {
    const headers = { ...HEADERS, ...(this.id !== '' && { 'mcp-session-id': this.id }) }
    const exchange = new SimExchange(this.clock, { headers, body: JSON.stringify(message) })
    void this.transport.handle(exchange)
    return exchange
  }
}

test('a transport that is handling a request is not idle', async () => {
  const owned = new Owned()
  await owned.connect(new FakeServer({ clock: owned.clock, tag: 'fake' }))
  const exchange = owned.post(call({ duration: 5 * IDLE }))
  await owned.clock.advance(5 * IDLE)
  expect(exchange.messages()).toMatchObject([{ result: {} }])
  expect(owned.map.size).toBe(1)
})

test('one that received and handled nothing for the period ends itself', async () => {
  const owned = new Owned()
  await owned.connect(new FakeServer({ clock: owned.clock, tag: 'fake' }))
  owned.post(rpc('tools/list'))
  await owned.clock.advance(IDLE - 1)
  expect(owned.map.size).toBe(1)
  await owned.clock.advance(1)
  expect(owned.map.size).toBe(0)
  expect(owned.clock.pending).toBe(0)
})

test('stateful instances are cleared even when the transport ended first', async () => {
  const app = new SimApp(new VirtualClock())
  const id = await app.open()
  // As the server itself would: it ends its transport, and nobody tells the manager.
  await app.fakes[0]?.transport?.close()
  expect(app.manager.sessions.size).toBe(0)
  expect(app.closings(id)).toEqual(['failed'])
  const after = app.post(id, rpc('tools/list'))
  await app.clock.settle()
  expect(after.status).toBe(404)
  await app.manager.close()
  expect(app.leftovers()).toEqual([])
})

describe.each(SDKS)('SessionTransport alone takes an idle timeout, with a $name server', (sdk) => {
  test('and ends the server with it', async () => {
    const owned = new Owned({ sessionIdleTimeout: '5s', unusedSessionTimeout: Number.POSITIVE_INFINITY })
    const server = sdk.build()
    await owned.connect(server)
    const exchange = owned.post(rpc('tools/call', { name: 'echo', arguments: { text: 'hello' } }))
    await owned.clock.advance(1)
    expect(exchange.messages()).toMatchObject([{ result: { content: [{ text: 'hello' }] } }])
    await owned.clock.advance(4998)
    expect(server.closed).toBe(false)
    await owned.clock.advance(1)
    expect(server.closed).toBe(true)
    expect(owned.map.size).toBe(0)
    const after = owned.post(rpc('tools/list'))
    await owned.clock.settle()
    expect(after.status).toBe(404)
  })
})
