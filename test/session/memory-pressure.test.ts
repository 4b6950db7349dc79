/** When memory is short: nothing opens, what may be given up is, who is there is served, and it ends by itself. The heap is the test's. */

import { describe, expect, test } from 'vitest'

import type { HeapUse } from '../../src/session/heap.ts'
import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import type { AppOptions, Logger } from '../../src/types.ts'
import { FakeServer } from '../support/fake-server.ts'
import { initialize, notification, rpc } from '../support/mcp-wire.ts'
import { modernPost } from '../support/modern-wire.ts'
import { SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const SHORT = 'Service Unavailable: the server is short of memory'

/** A manager whose heap holds 100 bytes, of which the test says how many are used. */
class Setup {
  readonly clock = new VirtualClock()
  readonly fakes: FakeServer[] = []
  readonly logs: string[] = []
  readonly manager: StreamableHTTPSessionManager
  use: HeapUse | undefined = { used: 10, young: 0, limit: 100 }
  /** What a collection will leave. */
  live: number | undefined
  looks = 0
  collections = 0

  constructor(options: AppOptions = {}) {
    const note =
      (level: string) =>
      (...args: unknown[]): void =>
        void this.logs.push(`${level} ${String(args[0])}`)
    const logger: Logger = { debug() {}, info: note('info'), warn: note('warn'), error: note('error') }
    this.manager = new StreamableHTTPSessionManager(
      () => {
        const fake = new FakeServer({ clock: this.clock, tag: `fake-${this.fakes.length}` })
        this.fakes.push(fake)
        return fake
      },
      { clock: this.clock, logger, ...options },
      'many',
      undefined,
      {
        use: () => {
          this.looks += 1
          return this.use
        },
        hurryCollection: () => {
          this.collections += 1
          if (this.live !== undefined) this.use = { used: this.live, young: 0, limit: 100 }
        },
      },
    )
  }

  async post(message: object, session?: string): Promise<SimExchange> {
    const exchange = new SimExchange(this.clock, {
      headers: {
        host: 'localhost',
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-session-id': session,
      },
      body: JSON.stringify(message),
    })
    void this.manager.handle(exchange)
    await this.clock.settle()
    return exchange
  }

  /** Opens a session, and uses it where told so. */
  async open(used: boolean): Promise<string> {
    const id = (await this.post(initialize())).responseHeaders['mcp-session-id'] ?? ''
    if (id === '') throw new Error('no session was opened')
    await this.post(notification('notifications/initialized'), id)
    if (used) await this.post(rpc('tools/list'), id)
    // A look counts for a moment.
    await this.clock.advance(20)
    return id
  }

  alive(...ids: string[]): boolean[] {
    return ids.map((id) => this.manager.sessions.get(id) !== undefined)
  }
}

describe('beyond maxHeapUsed', () => {
  test('initialize gets 503 with Retry-After, nothing is built for it, and whoever is there is served', async () => {
    const it = new Setup()
    const session = await it.open(true)
    it.use = { used: 86, young: 0, limit: 100 }
    const events: unknown[] = []
    it.manager.sessions.subscribe((event) => events.push(event))
    const refused = await it.post(initialize())
    expect(refused.status).toBe(503)
    expect(refused.responseHeaders['retry-after']).toBe('10')
    expect(refused.json()).toMatchObject({ error: { code: -32000, message: SHORT }, id: 'q1' })
    expect(events).toMatchObject([{ type: 'request.refused', cause: 'memory', option: 'maxHeapUsed' }])
    expect(it.fakes).toHaveLength(1)
    for (let round = 0; round < 100; round++) {
      await it.clock.advance(1000)
      expect((await it.post(rpc('tools/list'), session)).status).toBe(200)
    }
    // A full heap is no reason to take the traffic of those sessions away.
    expect(it.manager.ready).toBe(true)
  })

  test('nothing opens either where the heap would be nearly full if nothing young were garbage: a flood is young, and stays', async () => {
    const it = new Setup()
    it.use = { used: 80, young: 12, limit: 100 }
    expect((await it.post(initialize())).status).toBe(200)
    await it.clock.advance(1000)
    it.use = { used: 80, young: 13, limit: 100 }
    it.live = 70
    expect((await it.post(initialize())).status).toBe(503)
    await it.clock.advance(250)
    expect((await it.post(initialize())).status).toBe(200)
  })

  test('what was garbage is collected first: then it is over in a quarter of a second, and nobody lost anything', async () => {
    const it = new Setup({ sleepAfter: '1h' })
    const sessions = [await it.open(true), await it.open(false)]
    it.use = { used: 90, young: 0, limit: 100 }
    it.live = 40
    expect((await it.post(initialize())).status).toBe(503)
    await it.clock.advance(250)
    expect((await it.post(initialize())).status).toBe(200)
    expect(it.alive(...sessions)).toEqual([true, true])
    expect(it.manager.sessions.counts).toMatchObject({ total: 3, asleep: 0 })
  })

  test('sessions that were never used end, those that were stay, and those that are being opened or used too', async () => {
    const it = new Setup()
    const used = await it.open(true)
    const unused = await it.open(false)
    const held = await it.open(false)
    const stream = new SimExchange(it.clock, {
      method: 'GET',
      headers: { host: 'localhost', accept: 'text/event-stream', 'mcp-session-id': held },
    })
    void it.manager.handle(stream)
    const reasons: unknown[] = []
    it.manager.sessions.subscribe((event) => {
      if (event.type === 'session.closed') reasons.push([event.session, event.reason])
    })
    it.use = { used: 90, young: 0, limit: 100 }
    await it.post(initialize())
    expect(it.alive(used, unused, held)).toEqual([true, true, true])
    await it.clock.advance(250)
    expect(it.alive(used, unused, held)).toEqual([true, false, true])
    expect(reasons).toEqual([[unused, 'evicted']])
    await it.clock.advance(60_000)
    expect(it.alive(used, held)).toEqual([true, true])
    stream.drop()
  })

  test('instances that may sleep do, and answer again', async () => {
    const it = new Setup({ sleepAfter: '1h' })
    const session = await it.open(true)
    await it.clock.advance(1000)
    it.use = { used: 90, young: 0, limit: 100 }
    await it.post(initialize())
    await it.clock.advance(250)
    expect(it.manager.sessions.get(session)?.awake).toBe(false)
    expect((await it.post(rpc('tools/list'), session)).status).toBe(200)
    expect(it.manager.sessions.get(session)?.awake).toBe(true)
    // Whoever was used just now would only be woken again.
    await it.clock.advance(500)
    expect(it.manager.sessions.get(session)?.awake).toBe(true)
  })

  test('without an option that says so no instance sleeps: what its author keeps in it is worth more', async () => {
    const it = new Setup()
    const session = await it.open(true)
    await it.clock.advance(10_000)
    it.use = { used: 90, young: 0, limit: 100 }
    await it.post(initialize())
    await it.clock.advance(60_000)
    expect(it.manager.sessions.get(session)?.awake).toBe(true)
  })

  test('a tenth at a time: no more is given up than is needed', async () => {
    const it = new Setup()
    const sessions: string[] = []
    for (let count = 0; count < 200; count++) sessions.push(await it.open(false))
    it.use = { used: 90, young: 0, limit: 100 }
    await it.post(initialize())
    await it.clock.advance(250)
    expect(it.manager.sessions.size).toBe(150)
    // The oldest went.
    expect(it.alive(sessions[49] as string, sessions[50] as string)).toEqual([false, true])
    it.use = { used: 80, young: 0, limit: 100 }
    await it.clock.advance(500)
    expect(it.manager.sessions.size).toBe(100)
    it.use = { used: 76, young: 0, limit: 100 }
    await it.clock.advance(60_000)
    expect(it.manager.sessions.size).toBe(100)
    expect((await it.post(initialize())).status).toBe(200)
  })

  test('opens again only at a tenth less, and logs each change once', async () => {
    const it = new Setup()
    await it.open(true)
    it.use = { used: 86, young: 0, limit: 100 }
    for (let attempt = 0; attempt < 20; attempt++) {
      expect((await it.post(initialize())).status).toBe(503)
      await it.clock.advance(100)
    }
    it.use = { used: 78, young: 0, limit: 100 }
    await it.clock.advance(10_000)
    expect((await it.post(initialize())).status).toBe(503)
    it.use = { used: 76, young: 0, limit: 100 }
    await it.clock.advance(5000)
    expect((await it.post(initialize())).status).toBe(200)
    expect(it.logs.map((line) => line.slice(0, 24))).toEqual([
      'warn memory is short: no',
      'info memory suffices aga',
    ])
  })

  test('looks at the heap now and then, not for every request, and collects ever less often', async () => {
    const it = new Setup()
    const session = await it.open(true)
    const looks = it.looks
    for (let count = 0; count < 100; count++) await it.post(initialize())
    for (let count = 0; count < 100; count++) await it.post(rpc('tools/list'), session)
    expect(it.looks - looks).toBeLessThanOrEqual(2)
    it.use = { used: 90, young: 0, limit: 100 }
    await it.clock.advance(20)
    await it.post(initialize())
    await it.clock.advance(60_000)
    expect(it.collections).toBeLessThan(25)
  })
})

describe('what else begins', () => {
  test('requests without a handshake are refused as well; stateless ones too', async () => {
    const modern = new Setup()
    modern.use = { used: 90, young: 0, limit: 100 }
    const request = modernPost('tools/list')
    const exchange = new SimExchange(modern.clock, {
      headers: { host: 'localhost', ...lowerCase(request.headers as Record<string, string>) },
      body: JSON.stringify(request.body),
    })
    void modern.manager.handle(exchange)
    await modern.clock.settle()
    expect([exchange.status, exchange.text.includes(SHORT)]).toEqual([503, true])
    const stateless = new Setup({ stateless: true })
    stateless.use = { used: 90, young: 0, limit: 100 }
    expect((await stateless.post(rpc('tools/list'))).status).toBe(503)
  })
})

describe('the option', () => {
  test.each([
    ['80%', 80, 81],
    [0.8, 80, 81],
    ['50B', 50, 51],
    [50, 50, 51],
  ])('%j: %d is taken, %d is too much', async (maxHeapUsed, taken, tooMuch) => {
    const it = new Setup({ maxHeapUsed })
    it.use = { used: taken, young: 0, limit: 100 }
    expect((await it.post(initialize())).status).toBe(200)
    await it.clock.advance(20)
    it.use = { used: tooMuch, young: 0, limit: 100 }
    expect((await it.post(initialize())).status).toBe(503)
  })

  test('Infinity turns it off, and so does a runtime that does not tell', async () => {
    const off = new Setup({ maxHeapUsed: 'Infinity' })
    off.use = { used: 1000, young: 0, limit: 100 }
    expect((await off.post(initialize())).status).toBe(200)
    expect(off.looks).toBe(0)
    const unknown = new Setup()
    unknown.use = undefined
    expect((await unknown.post(initialize())).status).toBe(200)
  })
})

function lowerCase(
  headers: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}
