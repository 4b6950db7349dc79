/** A session manager in this process, on virtual time, without HTTP: what tests of the clock and of races drive. */

import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import type { SessionClosed, SessionEvent } from '../../src/session/events.ts'
import type { AppOptions, CloseReason, ServerContext } from '../../src/types.ts'
import { FakeServer, type FakeServerOptions } from './fake-server.ts'
import { initialize, notification } from './mcp-wire.ts'
import { SimExchange, type SimLink, type SimRequest } from './sim-exchange.ts'
import type { VirtualClock } from './virtual-clock.ts'

const POST_HEADERS = {
  host: 'localhost',
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
}

/** Header fields by name. */
export type SimHeaders = Readonly<Record<string, string | undefined>>

/** What an author's factory does before there is a server; how that one behaves. */
export type FakeFactory = (
  context: ServerContext,
) => Partial<FakeServerOptions> | Promise<Partial<FakeServerOptions>>

/** The app: a manager of fake servers, its events, and every exchange that was made with it. */
export class SimApp {
  readonly clock: VirtualClock
  readonly manager: StreamableHTTPSessionManager
  readonly fakes: FakeServer[] = []
  readonly events: SessionEvent[] = []
  readonly exchanges: SimExchange[] = []
  /** Told of every request, and of what became of it. */
  trace: ((text: string) => void) | undefined

  /** `fakeOptions` may do what an author's factory does: it is given the context, may wait, and may throw. */
  constructor(
    clock: VirtualClock,
    options: AppOptions = {},
    fakeOptions: Partial<FakeServerOptions> | FakeFactory = {},
  ) {
    this.clock = clock
    this.manager = new StreamableHTTPSessionManager(
      async (context) => {
        const given = typeof fakeOptions === 'function' ? await fakeOptions(context) : fakeOptions
        const fake = new FakeServer({ clock, tag: `fake-${this.fakes.length + 1}`, ...given })
        this.fakes.push(fake)
        return fake
      },
      { clock, ...options },
    )
    this.manager.sessions.subscribe((event) => this.events.push(event))
  }

  /** Sends a request; what becomes of it shows on the exchange. */
  send(request: SimRequest, link?: SimLink): SimExchange {
    const { trace } = this
    const exchange = new SimExchange(
      this.clock,
      request,
      trace === undefined ? link : this.#traced(request, trace, link),
    )
    this.exchanges.push(exchange)
    void this.manager.handle(exchange)
    return exchange
  }

  #traced(request: SimRequest, trace: (text: string) => void, link: SimLink | undefined): SimLink {
    const number = this.exchanges.length + 1
    const fields = request.headers ?? {}
    const who = ['authorization', 'mcp-session-id', 'last-event-id'].map((name) =>
      String(fields[name] ?? '-'),
    )
    const { body } = request
    trace(`> #${number} ${request.method ?? 'POST'} ${who.join(' ')} ${typeof body === 'string' ? body : ''}`)
    return {
      ...link,
      onanswer(exchange) {
        trace(`  #${number} answered ${exchange.answeredStatus}`)
        link?.onanswer?.(exchange)
      },
      onover(exchange, completed) {
        trace(`< #${number} ${exchange.outcome ?? (completed ? 'completed' : 'cut')} ${exchange.text}`)
        link?.onover?.(exchange, completed)
      },
    }
  }

  /** Sends a POST to a session. */
  post(session: string | undefined, message: object, headers: SimHeaders = {}, link?: SimLink): SimExchange {
    const body = JSON.stringify(message)
    return this.send({ headers: { ...POST_HEADERS, 'mcp-session-id': session, ...headers }, body }, link)
  }

  /** Opens a session's stream. */
  get(session: string, headers: SimHeaders = {}, link?: SimLink): SimExchange {
    const fields = { host: 'localhost', accept: 'text/event-stream', 'mcp-session-id': session, ...headers }
    return this.send({ method: 'GET', headers: fields }, link)
  }

  /** Deletes a session. */
  delete(session: string, headers: SimHeaders = {}): SimExchange {
    return this.send({
      method: 'DELETE',
      headers: { host: 'localhost', 'mcp-session-id': session, ...headers },
    })
  }

  /** Opens a session, handshake included; gives its id. */
  async open(headers: SimHeaders = {}): Promise<string> {
    const exchange = this.post(undefined, initialize(), headers)
    await this.clock.settle()
    const id = exchange.responseHeaders['mcp-session-id']
    if (id === undefined) throw new Error(`initialize was answered with ${exchange.status}: ${exchange.text}`)
    this.post(id, notification('notifications/initialized'), headers)
    await this.clock.settle()
    return id
  }

  /** Why a session ended, once for every time the app said so. */
  closings(id: string): CloseReason[] {
    return this.events
      .filter((event): event is SessionClosed => event.type === 'session.closed' && event.session === id)
      .map(({ reason }) => reason)
  }

  /** What must be true when all is over: nothing is left, nobody waits. Gives what is not, in words. */
  leftovers(): string[] {
    const wrong: string[] = []
    const { sessions } = this.manager
    const { total, opening, requests } = sessions.counts
    if (total + opening + requests > 0)
      wrong.push(`${total} sessions, ${opening} opening, ${requests} requests are left`)
    if (this.clock.pending > 0) wrong.push(`${this.clock.pending} timers are left`)
    for (const exchange of this.exchanges) {
      const what = `${exchange.method} ${exchange.headers['mcp-session-id'] === undefined ? '' : 'to a session'}`
      if (exchange.outcome === undefined)
        wrong.push(`${what}, answered with ${exchange.answeredStatus}, never ended`)
      if (exchange.closedAt === undefined) wrong.push(`${what} was never closed`)
      wrong.push(...exchange.misuse)
    }
    for (const fake of this.fakes) if (fake.closedAt === undefined) wrong.push(`${fake.tag} was not closed`)
    const opened = this.events.filter(({ type }) => type === 'session.opened').length
    const closed = this.events.filter(({ type }) => type === 'session.closed').length
    if (opened !== closed) wrong.push(`${opened} sessions opened, ${closed} closed`)
    for (const [start, end] of [
      ['request.started', 'request.ended'],
      ['stream.opened', 'stream.closed'],
    ]) {
      const starts = this.events.filter(({ type }) => type === start).length
      const ends = this.events.filter(({ type }) => type === end).length
      if (starts !== ends) wrong.push(`${starts} × ${start}, ${ends} × ${end}`)
    }
    return wrong
  }
}
