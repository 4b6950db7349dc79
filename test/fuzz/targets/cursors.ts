/** `Last-Event-ID`: what a client may send to come back, and only ever gets what is its own. */

import { StreamableHTTPSessionManager } from '../../../src/session/session-manager.ts'
import { FakeServer } from '../../support/fake-server.ts'
import { initialize, notification, rpc } from '../../support/mcp-wire.ts'
import { SimExchange } from '../../support/sim-exchange.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { Broken, latin1, must, type Subject, type Target } from '../target.ts'

const HEADERS = {
  host: 'localhost',
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
}

/** Events of the session that is fuzzed, on its GET stream and on that of its call. */
const EVENTS = 5

/**
 * In an input `{GET}` and `{POST}` stand for the first part of an event id of the session's streams, `{FOREIGN}` for that of another session's.
 */
export const cursors: Target = {
  name: 'cursors',
  about: 'Last-Event-ID: only its own session, only what comes after, and a refusal changes nothing',
  seeds: ['{GET}.3', '{POST}.0', '{POST}.6', '{FOREIGN}.1', '{GET}.0.17', '{GET}.5, {GET}.5', 'garbage'],
  words: ['{GET}', '{POST}', '{FOREIGN}', '.0', '.1', '.99', '.', ', ', '-1', '1e1', '000', ' '],
  longest: 400,
  deadline: 3000,
  open: () => Sessions.open(),
}

class Sessions implements Subject {
  readonly #clock = new VirtualClock({ turns: 1 })
  readonly #fakes: FakeServer[] = []
  readonly #manager: StreamableHTTPSessionManager
  #id = ''
  #foreign = ''
  #names: Readonly<Record<string, string>> = {}

  private constructor() {
    const clock = this.#clock
    this.#manager = new StreamableHTTPSessionManager(
      () => {
        const fake = new FakeServer({ clock, tag: `session-${this.#fakes.length + 1}` })
        this.#fakes.push(fake)
        return fake
      },
      {
        clock,
        eventLogMaxAge: Number.MAX_SAFE_INTEGER,
        keepAliveInterval: Number.POSITIVE_INFINITY,
        logger: { debug() {}, info() {}, warn() {}, error: (...args) => this.#complaints.push(args.map(String).join(' ')) }, // prettier-ignore
      },
    )
  }

  readonly #complaints: string[] = []

  static async open(): Promise<Sessions> {
    const made = new Sessions()
    const own = await made.#session()
    const foreign = await made.#session()
    made.#id = own.id
    made.#foreign = foreign.id
    made.#names = { '{GET}': own.get, '{POST}': own.post, '{FOREIGN}': foreign.get }
    return made
  }

  async run(input: Uint8Array): Promise<void> {
    const sent = latin1(input).replace(/\{(?:GET|POST|FOREIGN)\}/g, (name) => this.#names[name] ?? name)
    const cursor = onceOf(sent)
    await this.#clock.advance(5)
    const before = this.#idleSince()
    const exchange = this.#send('GET', this.#id, '', { 'last-event-id': sent })
    await this.#clock.settle()
    const { answeredStatus: status, events } = exchange
    const problem = exchange.misuse[0] ?? this.#complaints[0]
    must(problem === undefined, `${problem}`)
    must(!exchange.text.includes('session-2'), 'events of another session')
    must(!exchange.text.includes(this.#id) && !exchange.text.includes(this.#foreign), 'a session id')
    const parts = /^([\w-]{8}\.\d{1,15})\.(\d{1,15})(?:\.\d{1,15})?$/.exec(cursor)
    const tag = (stream: string | undefined): string | undefined => stream?.replace(/\.0*(?=\d)/, '.')
    const known = parts !== null && [this.#names['{GET}'], this.#names['{POST}']].includes(tag(parts[1]))
    const numbers = events.filter(({ data }) => data !== '').map(({ data }) => numberOf(data))
    switch (status) {
      case 200: {
        must(known || cursor === '', `a stream is resumed from ${JSON.stringify(cursor)}`)
        const after = known ? Number(parts?.[2]) : EVENTS
        const all = tag(parts?.[1]) === this.#names['{POST}'] ? [1, 2, 3, 4, 5, 0] : [1, 2, 3, 4, 5]
        must(
          JSON.stringify(numbers) === JSON.stringify(all.slice(after)),
          `after ${after} came ${JSON.stringify(numbers)}`,
        )
        break
      }
      case 204:
        must(parts !== null && events.length === 0, `nothing is left after ${JSON.stringify(cursor)}`)
        break
      case 400:
        must(exchange.text.includes('"code":-32000'), 'a refusal without its code')
        break
      case 409:
        break
      default:
        throw new Broken(`answered with ${status}`)
    }
    exchange.drop()
    await this.#clock.settle()
    if (status !== 200) must(this.#idleSince() === before, `a GET that got ${status} touched the session`)
    must(
      this.#manager.sessions.size === 2 && this.#manager.sessions.counts.active === 0,
      'something is left of it',
    )
  }

  close(): Promise<void> {
    return this.#manager.close()
  }

  #idleSince(): number | undefined {
    return this.#manager.sessions.get(this.#id)?.idleSince
  }

  /** A session with events on both kinds of streams; gives its id, and the event ids without their positions. */
  async #session(): Promise<{ id: string; get: string; post: string }> {
    const clock = this.#clock
    const opening = this.#send('POST', undefined, JSON.stringify(initialize()))
    await clock.advance(100)
    const id = opening.responseHeaders['mcp-session-id'] ?? ''
    this.#send('POST', id, JSON.stringify(notification('notifications/initialized')))
    const get = this.#send('GET', id, '')
    await clock.advance(100)
    for (let n = 0; n < EVENTS; n++) void this.#fakes.at(-1)?.broadcast()
    const progress = { count: EVENTS, every: 1 }
    const post = this.#send('POST', id, JSON.stringify(rpc('tools/call', { name: 'run', arguments: { tag: 't', progress } }))) // prettier-ignore
    await clock.advance(100)
    get.drop()
    await clock.settle()
    const stem = (exchange: SimExchange): string =>
      exchange.events.at(-1)?.id?.split('.').slice(0, 2).join('.') ?? ''
    return { id, get: stem(get), post: stem(post) }
  }

  #send(method: string, id: string | undefined, body: string, headers = {}): SimExchange {
    const session = id === undefined ? {} : { 'mcp-session-id': id }
    const exchange = new SimExchange(this.#clock, {
      method,
      headers: { ...HEADERS, ...session, ...headers },
      body,
    })
    void this.#manager.handle(exchange)
    return exchange
  }
}

/** A field that came twice, with the same value, is that value. */
function onceOf(sent: string): string {
  const values = new Set(sent.split(',').map((value) => value.trim()))
  return values.size === 1 && sent.includes(',') ? ([...values][0] ?? '') : sent
}

/** The number of an event; 0 for the result of the call. */
function numberOf(data: string): number {
  const { params } = JSON.parse(data) as { params?: { progress?: number; data?: { n?: number } } }
  return params?.progress ?? params?.data?.n ?? 0
}
