/** SessionTransport alone, without a manager, as people use it who keep their own map: with servers of both SDKs. */

import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

import { describe, expect, onTestFinished, test } from 'vitest'

import { SessionTransport } from '../../src/session/session-transport.ts'
import { within } from '../support/deferred.ts'
import { del, initialize, notification, post, rpc } from '../support/mcp-wire.ts'
import { RawConnection, type RawRequest, type RawResponse } from '../support/raw-http.ts'
import { type Sdk, SDKS, type SdkServer } from '../support/sdk-servers.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const IDLE = 60_000

/** A server connected to a transport of its own, behind a socket. */
class Alone {
  readonly clock = new VirtualClock()
  readonly server: SdkServer
  readonly transport: SessionTransport
  /** How often the transport said that it is closed. */
  closes = 0
  readonly #http: Server
  #connection: RawConnection | undefined

  private constructor(sdk: Sdk) {
    const { clock } = this
    this.server = sdk.build()
    this.transport = new SessionTransport({ sessionIdleTimeout: IDLE, unusedSessionTimeout: IDLE, clock })
    this.#http = createServer((req, res) => this.transport.handleRequest(req, res))
  }

  static async of(sdk: Sdk): Promise<Alone> {
    const alone = new Alone(sdk)
    await alone.#start()
    onTestFinished(() => alone.#stop())
    return alone
  }

  async #start(): Promise<void> {
    await new Promise<void>((resolve) => this.#http.listen(0, '127.0.0.1', resolve))
    this.#connection = await RawConnection.open((this.#http.address() as AddressInfo).port)
    await this.server.connect(this.transport)
    const { onclose } = this.transport
    this.transport.onclose = () => {
      onclose?.()
      this.closes += 1
    }
  }

  async #stop(): Promise<void> {
    this.#connection?.destroy()
    await within(this.server.close(), 'close()')
    this.#http.closeAllConnections()
    await within(new Promise((resolve) => this.#http.close(resolve)), 'the end of the HTTP server')
    if (this.clock.pending > 0) throw new Error(`${this.clock.pending} timers are left`)
  }

  async request(request: RawRequest): Promise<RawResponse> {
    const response = await this.#connection?.request(request)
    if (response === undefined) throw new Error('not started')
    await response.text()
    return response
  }

  /** The handshake; gives the headers of further requests. */
  async open(): Promise<Record<string, string>> {
    const response = await this.request(post(initialize()))
    const headers = { 'Mcp-Session-Id': response.header('mcp-session-id') ?? '' }
    await this.request(post(notification('notifications/initialized'), headers))
    return headers
  }

  /** Waits until nothing holds the session. */
  async idle(): Promise<void> {
    while (this.transport.sessions.counts.active > 0) await new Promise((resolve) => setImmediate(resolve))
  }
}

const echo = rpc('tools/call', { name: 'echo', arguments: { text: 'hello' } })

describe.each(SDKS)('a $name server', (sdk) => {
  test('serves one session, which ends by itself when it is idle', async () => {
    const alone = await Alone.of(sdk)
    const headers = await alone.open()
    expect(alone.transport.sessionId).toBe(headers['Mcp-Session-Id'])
    const answer = await alone.request(post(echo, headers))
    expect(await answer.json()).toMatchObject({ result: { content: [{ text: 'hello' }] } })
    await alone.idle()
    await alone.clock.advance(IDLE - 1)
    expect(alone.closes).toBe(0)
    expect(alone.server.closed).toBe(false)
    await alone.clock.advance(1)
    expect(alone.closes).toBe(1)
    expect(alone.server.closed).toBe(true)
    expect(alone.transport.session).toBeUndefined()
    expect((await alone.request(post(echo, headers))).status).toBe(404)
  })

  test.each(['DELETE', 'server.close()', 'transport.close()'])(
    'ends by %s, once, and answers 404 from then on',
    async (how) => {
      const alone = await Alone.of(sdk)
      const headers = await alone.open()
      const reasons: string[] = []
      alone.transport.sessions.subscribe(
        (event) => event.type === 'session.closed' && reasons.push(event.reason),
      )
      if (how === 'DELETE') await alone.request(del(headers))
      else if (how === 'server.close()') await alone.server.close()
      else await alone.transport.close()
      expect(alone.closes).toBe(1)
      expect(alone.server.closed).toBe(true)
      await alone.transport.close()
      await alone.server.close()
      expect(alone.closes).toBe(1)
      expect(reasons).toHaveLength(1)
      expect((await alone.request(post(echo, headers))).status).toBe(404)
    },
  )

  test('takes one initialize, and no second, also not after its end', async () => {
    const alone = await Alone.of(sdk)
    const headers = await alone.open()
    expect((await alone.request(post(initialize()))).status).toBe(400)
    await alone.request(del(headers))
    expect((await alone.request(post(initialize()))).status).toBe(400)
  })

  test('that nobody ever initializes ends by itself as well', async () => {
    const alone = await Alone.of(sdk)
    await alone.clock.advance(IDLE - 1)
    expect(alone.closes).toBe(0)
    // A request that opens nothing is handled, and buys time: it was received.
    expect((await alone.request(post(echo))).status).toBe(400)
    await alone.clock.advance(IDLE - 1)
    expect(alone.closes).toBe(0)
    await alone.clock.advance(1)
    expect(alone.closes).toBe(1)
    expect(alone.server.closed).toBe(true)
  })
})

test('a wrong timeout fails when the transport is made', () => {
  expect(() => new SessionTransport({ sessionIdleTimeout: 0 })).toThrow(
    /^sessionIdleTimeout must be a positive duration/,
  )
})

test('one that was never connected needs no end', () => {
  const clock = new VirtualClock()
  const transport = new SessionTransport({ clock })
  expect(transport.session).toBeUndefined()
  expect(clock.pending).toBe(0)
})
