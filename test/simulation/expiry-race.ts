/** R7: requests aimed at the moment of expiry. Each is served or gets a clean 404, and nothing is served after a 404. */

import { Agent, createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import { FakeServer } from '../support/fake-server.ts'
import { SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { Random } from './random.ts'

/** What a race came to. */
export interface RaceResult {
  readonly requests: number
  /** Requests that were served. */
  readonly served: number
  /** Requests that came too late. */
  readonly refused: number
  readonly sessions: number
  /** What must not be; the first of each kind in words. */
  readonly wrong: readonly string[]
}

/** How far from expiry requests are aimed, in milliseconds: no farther than this before and after. */
const AIM = 2

/** A session that was refused is asked so often whether it stays so. */
const AFTERWARDS = 3

const HEADERS = {
  host: '127.0.0.1',
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  'mcp-protocol-version': '2025-11-25',
}

const INITIALIZE = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'racer', version: '1' } },
})

/** The requests of the race: what the session answers itself, what its server answers, and what nobody answers. */
const BODIES = [
  '{"jsonrpc":"2.0","id":2,"method":"ping"}',
  '{"jsonrpc":"2.0","id":2,"method":"tools/list"}',
  '{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}',
] as const

/** What one racer needs of the transport it races over. */
interface Track {
  sleep(milliseconds: number): Promise<void>
  send(
    session: string | undefined,
    body: string,
  ): Promise<{ status: number; session: string | undefined; text: string }>
}

class Race {
  readonly #track: Track
  readonly #random: Random
  readonly #timeout: number
  readonly #closed = new Map<string, number>()
  readonly #wrong = new Map<string, string>()
  #left: number
  #served = 0
  #refused = 0
  #sessions = 0

  constructor(
    track: Track,
    manager: StreamableHTTPSessionManager,
    requests: number,
    timeout: number,
    random: Random,
  ) {
    this.#track = track
    this.#left = requests
    this.#timeout = timeout
    this.#random = random
    manager.sessions.subscribe((event) => {
      if (event.type !== 'session.closed' || event.session === undefined) return
      const times = (this.#closed.get(event.session) ?? 0) + 1
      this.#closed.set(event.session, times)
      if (times > 1) this.#blame('a session closed twice', event.reason)
    })
  }

  /** One client: opens sessions and asks each around its expiry until it is gone, then whether it stays so. */
  async racer(): Promise<void> {
    while (this.#left > 0) {
      const opened = await this.#track.send(undefined, INITIALIZE)
      if (opened.session === undefined) {
        this.#blame(`initialize got ${opened.status}`, opened.text)
        return
      }
      this.#sessions += 1
      await this.#track.send(opened.session, '{"jsonrpc":"2.0","method":"notifications/initialized"}')
      // Used at once, so that `sessionIdleTimeout` is what counts.
      await this.#track.send(opened.session, BODIES[1])
      await this.#ask(opened.session)
      this.#closed.delete(opened.session)
    }
  }

  async #ask(session: string): Promise<void> {
    let gone = 0
    while (gone < AFTERWARDS && this.#left > 0) {
      const aim = gone > 0 ? this.#random.next() : this.#timeout + (this.#random.next() * 2 - 1) * AIM
      await this.#track.sleep(aim)
      this.#left -= 1
      const { status, text } = await this.#track.send(session, this.#random.pick(BODIES))
      if (status === 404) {
        this.#refused += 1
        gone += 1
      } else if (status === 200 || status === 202) {
        this.#served += 1
        if (gone > 0) this.#blame('served after a 404', text)
      } else this.#blame(`status ${status}`, text)
      if (status === 200 && !text.includes('"result"')) this.#blame('200 without a result', text)
    }
    if (gone > 0 && this.#closed.get(session) !== 1)
      this.#blame('404 without one end of the session', session.slice(0, 8))
  }

  #blame(what: string, detail: string): void {
    if (!this.#wrong.has(what)) this.#wrong.set(what, `${what}: ${detail.slice(0, 200)}`)
  }

  get result(): RaceResult {
    return {
      requests: this.#served + this.#refused,
      served: this.#served,
      refused: this.#refused,
      sessions: this.#sessions,
      wrong: [...this.#wrong.values()],
    }
  }
}

/** In one process, over a virtual clock whose timers are up to a millisecond early and three late. */
export async function raceInProcess(requests: number, seed = 1, racers = 200): Promise<RaceResult> {
  const random = new Random(seed)
  const timeout = 1000
  const clock = new VirtualClock({
    turns: 1,
    tieBreak: () => random.next(),
    skew: () => random.next() * 4 - 1,
  })
  const manager = new StreamableHTTPSessionManager(() => new FakeServer({ clock, tag: 'race' }), {
    sessionIdleTimeout: timeout,
    allowedHosts: 'any',
    clock,
  })
  const track: Track = {
    sleep: (milliseconds) => clock.sleep(milliseconds),
    async send(session, body) {
      const headers = session === undefined ? HEADERS : { ...HEADERS, 'mcp-session-id': session }
      const exchange = new SimExchange(clock, { headers, body })
      void manager.handle(exchange)
      await exchange.ended
      return {
        status: exchange.status ?? 0,
        session: exchange.responseHeaders['mcp-session-id'],
        text: exchange.text,
      }
    },
  }
  const race = new Race(track, manager, requests, timeout, random)
  let running = racers
  for (let index = 0; index < racers; index++) void race.racer().then(() => (running -= 1))
  while (running > 0) await clock.advance(1000)
  await manager.close()
  return race.result
}

/** Over HTTP on this machine, in real time. */
export async function raceOverHttp(requests: number, seed = 1, racers = 250): Promise<RaceResult> {
  const random = new Random(seed)
  const timeout = 250
  const clock = new VirtualClock()
  const manager = new StreamableHTTPSessionManager(() => new FakeServer({ clock, tag: 'race' }), {
    sessionIdleTimeout: timeout,
  })
  const server = createServer((req, res) => manager.handleRequest(req, res))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const agent = new Agent({ keepAlive: true, maxSockets: racers })
  const track: Track = {
    sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    send: (session, body) =>
      new Promise((resolve, reject) => {
        const headers = session === undefined ? HEADERS : { ...HEADERS, 'mcp-session-id': session }
        const outgoing = httpRequest(
          { agent, host: '127.0.0.1', port, path: '/mcp', method: 'POST', headers },
          (response) => {
            let text = ''
            response.setEncoding('utf8')
            response.on('data', (chunk: string) => (text += chunk))
            response.on('end', () => {
              const id = response.headers['mcp-session-id']
              resolve({
                status: response.statusCode ?? 0,
                session: typeof id === 'string' ? id : undefined,
                text,
              })
            })
          },
        )
        outgoing.on('error', reject)
        outgoing.end(body)
      }),
  }
  const race = new Race(track, manager, requests, timeout, random)
  try {
    await Promise.all(Array.from({ length: racers }, () => race.racer()))
  } finally {
    agent.destroy()
    await manager.close()
    await new Promise((resolve) => server.close(resolve))
  }
  return race.result
}
