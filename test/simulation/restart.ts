/** Crash and restart by seeds: clients, a slow store that also fails, and processes that die between any two things. Promises 1 to 9. */

import { sessionKey } from '../../src/session/session.ts'
import type { MemorySessionStore } from '../../src/store/memory-store.ts'
import type { SessionStore } from '../../src/store/session-store.ts'
import type { ServerContext } from '../../src/types.ts'
import { Incarnations } from '../restart/incarnations.ts'
import type { FakeServerOptions } from '../support/fake-server.ts'
import { rpc } from '../support/mcp-wire.ts'
import type { SimEvent, SimExchange } from '../support/sim-exchange.ts'
import { authenticateByName } from '../support/wire-app.ts'
import type { Check, Stake } from './promises.ts'
import { Random } from './random.ts'
import { Recorder } from './record.ts'
import { IDLE, LONG, NAMES, type RestartPlan, type RestartStep } from './restart-plan.ts'
import type { DeliberateFault, RunOptions, RunResult } from './simulation.ts'
import { SlowStore } from './slow-store.ts'
import { type StreamConnection, StreamModel } from './stream-model.ts'
import { Trace } from './trace.ts'

/** A deliberate fault: a worse store, or production code that is changed. */
export interface RestartFault extends DeliberateFault {
  store?(store: MemorySessionStore): void
}

/** Promise 1: how late after a crash. */
const LATEST = 6_000

/** One client with one session after the other. */
class Visitor {
  readonly name: string
  readonly headers: { authorization: string }
  id: string | undefined
  opening = false
  /** The number of the last call, and of the last that was answered with a result. */
  asked = 0
  acknowledged = 0
  stream = new StreamModel()
  get: SimExchange | undefined
  /** The last end of anything that held the session for certain, and the last that may have. */
  heldUntil = 0
  perhapsUntil = 0
  deleting = false
  /** Since when it knows that its session is over: it was told so, or deleted it. */
  goneAt: number | undefined
  readonly open = new Set<SimExchange>()
  readonly asks = new Set<unknown>()
  /** Long calls that were cut, with where their client stands. */
  readonly cut: { id: string; cursor: string; answers: number }[] = []

  constructor(name: string) {
    this.name = name
    this.headers = { authorization: `Bearer ${name}` }
  }

  forget(): void {
    this.id = undefined
    this.goneAt = undefined
    this.deleting = false
    this.asked = 0
    this.acknowledged = 0
    this.stream = new StreamModel()
    this.get = undefined
    this.open.clear()
    this.asks.clear()
    this.cut.length = 0
  }
}

/** Runs a plan. */
export function runRestart(plan: RestartPlan, options: RunOptions<RestartFault> = {}): Promise<RunResult> {
  return new Run(plan, options).run()
}

class Run {
  readonly #plan: RestartPlan
  readonly #recorder: Recorder
  readonly #trace: Trace
  readonly #line: Incarnations
  readonly #visitors = NAMES.map((name) => new Visitor(name))
  readonly #fails: boolean
  /** The data of each event id that was ever seen. */
  readonly #ids = new Map<string, string>()
  /** What is in the log, of GET streams, by session key. */
  readonly #logged = new Map<string, string[]>()
  /** Long calls of the present process, and when they end if nothing happens to them. */
  #longCalls: { session: string | undefined; exchange: SimExchange; endsAt: number }[] = []
  /** Ids of sessions that were deleted, or were to be. */
  readonly #deleted = new Set<string | undefined>()
  #up = true
  #failing = false
  #startedAt = 0
  /** Until when 503 is no surprise. */
  #unwellUntil = 0
  #blurredUntil = 0
  #said = 0

  constructor(plan: RestartPlan, { fault, keepHistory = false }: RunOptions<RestartFault>) {
    this.#plan = plan
    const { fails, delay } = plan.conditions
    this.#fails = fails
    // Not the plan's stream of numbers: a shrunk plan must meet the same weather.
    const random = new Random(plan.seed ^ 0x5f356495)
    const dress = (store: MemorySessionStore): SessionStore => {
      fault?.store?.(store)
      this.#watch(store)
      return new SlowStore(store, () =>
        delay === 0 ? Promise.resolve() : this.#line.clock.sleep(random.int(0, delay)),
      )
    }
    this.#recorder = new Recorder(() => this.#line.clock.now(), keepHistory)
    this.#trace = new Trace(this.#recorder)
    this.#line = new Incarnations(
      {
        authenticate: (request) => authenticateByName(request),
        sessionIdleTimeout: IDLE,
        unusedSessionTimeout: Infinity,
        handshakeTimeout: Infinity,
        retryInterval: 100,
      },
      (context) => this.#author(context),
      {},
      dress,
    )
    this.#trace.follow(this.#line.app)
  }

  async run(): Promise<RunResult> {
    const { clock } = this.#line
    await clock.advance(200)
    for (const step of this.#plan.clients[0].steps) {
      await this.#act(step)
      await clock.advance(step.wait)
    }
    if (this.#failing) this.#recover()
    if (!this.#up) await this.#start()
    await clock.advance(2000)
    for (const visitor of this.#visitors) await this.#lastLook(visitor)
    await this.#stop(0)
    this.#checkEnd()
    return { recorder: this.#recorder, duration: clock.now() }
  }

  #stake(what: Stake): void {
    this.#recorder.stake(what)
  }

  #violate(check: Check, text: string): void {
    this.#recorder.violate(check, text)
  }

  #author({ session }: ServerContext): Partial<FakeServerOptions> {
    return {
      oncall: ({ plan }) => {
        const [name, number] = plan?.tag.split(':') ?? []
        const visitor = this.#visitors.find((one) => one.name === name)
        if (visitor?.id === undefined || visitor.id !== session.id) return
        const { last = 0 } = session.data as { last?: number }
        if (last < visitor.acknowledged)
          this.#violate(
            'what was acknowledged is there',
            `${name} was answered call ${visitor.acknowledged}, its session knows ${last}`,
          )
        session.data = { last: Math.max(last, Number(number)) }
      },
    }
  }

  /** Notes what the log has taken. */
  #watch(store: MemorySessionStore): void {
    const { eventLog } = store
    const append = eventLog.append.bind(eventLog)
    eventLog.append = async (session, stream, position, data, answer) => {
      await append(session, stream, position, data, answer)
      if (stream !== 0 || !data.includes('"n":')) return
      const logged = this.#logged.get(session) ?? []
      this.#logged.set(session, logged)
      logged.push(data)
    }
  }

  async #act(step: RestartStep): Promise<void> {
    if (!this.#up) return this.#start()
    const visitor = this.#visitors[step.visitor]
    if (visitor === undefined) return
    if (visitor.goneAt !== undefined) visitor.forget()
    if (visitor.id === undefined) return this.#openSession(visitor)
    switch (step.do) {
      case 'call':
        return this.#call(visitor, step.duration, step.asks)
      case 'listen':
        return this.#listen(visitor, step.from)
      case 'say':
        return this.#say(visitor)
      case 'long':
        return this.#long(visitor)
      case 'resume-cut':
        return this.#resumeCut(visitor.cut.length > 0 ? visitor : (this.#whoWasCut() ?? visitor))
      case 'steal':
        return this.#steal(visitor, step.anonymous)
      case 'delete':
        return this.#delete(visitor)
      case 'drop':
        return visitor.get?.drop()
      case 'crash':
        return this.#crash()
      case 'stop':
        return this.#stop(step.drain)
      case 'fail-or-recover':
        return this.#failing ? this.#recover() : this.#fail()
    }
  }

  // The process and its store

  #crash(): void {
    this.#stake('crash')
    this.#trace.note('=== crash')
    if (this.#fails && this.#line.clock.now() < this.#unwellUntil) this.#blurredUntil = this.#line.clock.now()
    this.#up = false
    this.#failing = false
    this.#longCalls = []
    this.#line.crash()
  }

  async #stop(drain: number): Promise<void> {
    if (this.#failing) this.#recover()
    this.#stake('stopped in order')
    this.#trace.note(`=== stop, ${drain} ms for calls`)
    this.#up = false
    this.#unwellUntil = Number.POSITIVE_INFINITY
    const { clock } = this.#line
    const began = clock.now()
    const inTime = this.#longCalls.filter(
      // A DELETE ends the calls of its session, whose last words a slow log may still have to take.
      ({ session, exchange, endsAt }) =>
        !this.#deleted.has(session) &&
        exchange.outcome === undefined &&
        endsAt > began &&
        endsAt < began + drain,
    )
    this.#longCalls = []
    await this.#line.stop(drain)
    await clock.settle()
    for (const { exchange } of inTime) {
      // One that came before the store was read, or for a session that had ended, never ran.
      if (exchange.outcome === 'dropped' || (exchange.status ?? 200) >= 400) continue
      this.#stake('call finished in the drain')
      if (!exchange.text.includes('"result"'))
        this.#violate('calls finish in the drain', `${exchange.outcome} ${exchange.text.slice(-200)}`)
    }
    // What a slow store still has to write is not the drain's to shorten.
    const late = clock.now() - began - drain
    if (late > 1000 + 20 * this.#plan.conditions.delay)
      this.#violate('a drain ends in its time', `close() took ${late} ms more than the drain time`)
  }

  async #start(): Promise<void> {
    this.#trace.note('=== start')
    this.#trace.follow(await this.#line.start())
    this.#up = true
    this.#startedAt = this.#line.clock.now()
    this.#unwellUntil = this.#startedAt + 1000
  }

  /** Nothing is left once the last process has stopped in order. */
  #checkEnd(): void {
    const { app } = this.#line
    const wrong: string[] = []
    if (app.manager.sessions.size > 0) wrong.push(`${app.manager.sessions.size} sessions are left`)
    for (const exchange of app.exchanges) {
      if (exchange.outcome === undefined) wrong.push(`${exchange.method} never ended`)
      for (const misuse of exchange.misuse)
        this.#violate('nothing happens on an exchange that its contract does not foresee', misuse)
    }
    for (const text of wrong) this.#violate('nothing is left behind', text)
    if (wrong.length === 0) this.#stake('run ended clean')
  }

  #fail(): void {
    // A store that fails while it is read makes an app that has to be started again.
    if (this.#line.clock.now() < this.#startedAt + 500) return
    this.#stake('store failure')
    this.#trace.note('=== the store fails')
    this.#failing = true
    this.#unwellUntil = Number.POSITIVE_INFINITY
    this.#line.store.fail('The disk is gone.')
  }

  #recover(): void {
    this.#trace.note('=== the store works again')
    this.#failing = false
    this.#unwellUntil = this.#line.clock.now() + 3000
    this.#line.store.recover()
  }

  // What clients do

  async #openSession(visitor: Visitor): Promise<void> {
    if (visitor.opening) return
    visitor.opening = true
    const { app, clock } = this.#line
    const opening = app.post(
      undefined,
      rpc('initialize', {
        protocolVersion: '2025-11-25',
        capabilities: { elicitation: {} },
        clientInfo: { name: visitor.name, version: '1' },
      }),
      visitor.headers,
    )
    void opening.ended.then(() => {
      visitor.opening = false
      if (opening.status !== 200) return
      visitor.id = opening.responseHeaders['mcp-session-id']
      visitor.heldUntil = visitor.perhapsUntil = clock.now()
      const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }
      this.#follow(visitor, this.#line.app.post(visitor.id, initialized, visitor.headers))
    })
  }

  /** Notes what an exchange of the owner says of the session. */
  #follow(visitor: Visitor, exchange: SimExchange): void {
    const { id } = visitor
    visitor.open.add(exchange)
    const heldUntil = visitor.heldUntil
    const perhapsUntil = visitor.perhapsUntil
    const others = visitor.open.size > 1
    void exchange.ended.then(async () => {
      await this.#line.clock.settle()
      if (visitor.id !== id) return
      visitor.open.delete(exchange)
      const { status, closedAt = this.#line.clock.now() } = exchange
      visitor.perhapsUntil = Math.max(visitor.perhapsUntil, closedAt)
      if (status === 200 || status === 202 || status === 204)
        this.#accepted(visitor, exchange, others ? undefined : perhapsUntil)
      else if (status === 404) this.#denied(visitor, exchange, heldUntil)
      else if (status === 400)
        this.#violate('each request is answered as foreseen', `${visitor.name} got 400: ${exchange.text}`)
      else if (status === 503 && exchange.startedAt > this.#unwellUntil)
        this.#violate('503 for a reason only', `503 of a server that is well: ${exchange.text}`)
    })
  }

  #accepted(visitor: Visitor, exchange: SimExchange, idleSince: number | undefined): void {
    const { closedAt = 0, answeredAt = 0, startedAt } = exchange
    if (visitor.goneAt !== undefined && startedAt > visitor.goneAt)
      this.#violate('only 404 after the end', `${exchange.method} was accepted after the end was told`)
    // A resume that nothing is left for prolongs nothing.
    if (exchange.status !== 204) visitor.heldUntil = Math.max(visitor.heldUntil, closedAt)
    if (idleSince === undefined || this.#fails) return
    const late = answeredAt - idleSince - IDLE
    if (late > -1000) this.#stake('idle time checked')
    if (late > 0) this.#stake('late use checked')
    // Deadlines that passed while nothing ran are kept a moment after the start.
    if (late > LATEST && startedAt > this.#startedAt + 250)
      this.#violate(
        'at most 6 s late after a crash',
        `${visitor.name} was let in ${late} ms after its session's time`,
      )
  }

  #denied(visitor: Visitor, exchange: SimExchange, heldUntil: number): void {
    this.#stake('told of an end')
    const { answeredAt = 0 } = exchange
    const held = Math.max(heldUntil, visitor.deleting ? 0 : visitor.heldUntil)
    // What a failing store was not told of before a crash is not known after it.
    if (!visitor.deleting && answeredAt < held + IDLE && held > this.#blurredUntil)
      this.#violate(
        'no 404 while it lives',
        `${visitor.name} got 404 ${answeredAt - held} ms after its last use`,
      )
    if (!visitor.deleting) {
      this.#stake('idle time checked')
      this.#stake('late use checked')
    }
    visitor.goneAt ??= answeredAt
  }

  #call(visitor: Visitor, duration: number, asks: boolean): void {
    const tag = `${visitor.name}:${++visitor.asked}`
    const number = visitor.asked
    const plan = { tag, duration, ...(asks ? { ask: { related: false, timeout: 50 } } : {}) }
    const exchange = this.#line.app.post(
      visitor.id,
      rpc('tools/call', { name: 'run', arguments: plan }, number),
      visitor.headers,
    )
    const { id } = visitor
    this.#follow(visitor, exchange)
    for (const event of exchange.events) this.#note(event.id, event.data)
    void exchange.ended.then(() => {
      if (exchange.status !== 200 || visitor.id !== id) return
      const answer = exchange.messages().find((message) => (message as { result?: object }).result)
      if (answer === undefined) return
      this.#stake('call answered')
      this.#stake('change acknowledged')
      visitor.acknowledged = Math.max(visitor.acknowledged, number)
    })
  }

  #long(visitor: Visitor): void {
    const { id: session } = visitor
    const id = `long ${++this.#said}`
    const plan = { tag: `${visitor.name}:0`, duration: LONG, progress: { count: 4, every: 100 } }
    const exchange = this.#line.app.post(
      session,
      rpc('tools/call', { name: 'run', arguments: plan }, id),
      visitor.headers,
    )
    this.#follow(visitor, exchange)
    exchange.onevent = (event) => this.#note(event.id, event.data)
    this.#longCalls.push({ session, exchange, endsAt: this.#line.clock.now() + LONG })
    visitor.perhapsUntil = Math.max(visitor.perhapsUntil, this.#line.clock.now() + LONG)
    void exchange.ended.then(() => {
      const cursor = exchange.events.at(-1)?.id
      if (visitor.id !== session || cursor === undefined) return
      const answers = exchange.messages().filter((message) => (message as { id?: string }).id === id).length
      if (answers === 0) visitor.cut.push({ id, cursor, answers })
    })
  }

  #whoWasCut(): Visitor | undefined {
    return this.#visitors.find(({ cut, goneAt }) => cut.length > 0 && goneAt === undefined)
  }

  /** A client comes back for a call that was cut: it gets an answer, once. */
  #resumeCut(visitor: Visitor): void {
    const call = visitor.cut.shift()
    if (call === undefined) return
    const exchange = this.#line.app.get(visitor.id ?? '', {
      ...visitor.headers,
      'last-event-id': call.cursor,
    })
    const session = visitor.id
    this.#follow(visitor, exchange)
    exchange.onevent = (event) => this.#note(event.id, event.data)
    void exchange.ended.then(() => {
      if (visitor.id !== session || exchange.status === 404) return
      const answers = exchange.messages().filter((message) => (message as { id?: string }).id === call.id)
      const cursor = exchange.events.at(-1)?.id ?? call.cursor
      const over = exchange.outcome === 'completed' && (exchange.status === 200 || exchange.status === 204)
      if (over && !this.#fails) {
        this.#stake('cut call resumed')
        if (answers.length !== 1)
          this.#violate(
            'what was accepted is answered',
            `${call.id} has ${answers.length} answers (${exchange.status})`,
          )
      } else if (answers.length === 0) visitor.cut.push({ ...call, cursor })
    })
  }

  /** Opens the GET, from the last event that came or an earlier one. */
  #listen(visitor: Visitor, from: number): void {
    const { stream } = visitor
    const { cursors } = stream
    const cursor = cursors[Math.round(from * Math.max(0, cursors.length - 1))]
    const connection: StreamConnection = cursor === undefined ? stream.open() : stream.resume(cursor)
    const exchange = this.#line.app.get(visitor.id ?? '', { ...visitor.headers, 'last-event-id': cursor })
    if (cursor !== undefined) this.#stake('resumed')
    visitor.get = exchange
    this.#follow(visitor, exchange)
    exchange.onevent = (event) => {
      this.#take(visitor, connection, event)
      if (!event.data.includes('elicitation/create')) return
      const { id: number } = JSON.parse(event.data) as { id: unknown }
      if (visitor.asks.has(`${String(number)}`) && !visitor.asks.has(event.data))
        this.#violate(
          'a number is given out once',
          `the number ${String(number)} of a request to the client came twice`,
        )
      visitor.asks.add(`${String(number)}`).add(event.data)
    }
  }

  #say(visitor: Visitor): void {
    const params = { level: 'info', data: { n: ++this.#said } }
    this.#line.app.manager.sessions.get(visitor.id ?? '')?.notify('notifications/message', params)
  }

  #delete(visitor: Visitor): void {
    visitor.deleting = true
    const { id } = visitor
    this.#deleted.add(id)
    const exchange = this.#line.app.delete(id ?? '', visitor.headers)
    void exchange.ended.then(() => {
      if (exchange.status !== 200 && exchange.status !== 404) return
      this.#stake('deleted')
      if (visitor.id === id) visitor.goneAt ??= this.#line.clock.now()
      this.#never(visitor, id)
    })
  }

  /** What was told to be over is asked for again, in whatever process runs then. */
  #never(visitor: Visitor, id: string | undefined): void {
    for (const after of [10, 3000, 15_000]) {
      this.#line.clock.after(after, () => {
        if (!this.#up) return
        const exchange = this.#line.app.post(id, rpc('tools/list'), visitor.headers)
        void exchange.ended.then(() => {
          if (exchange.status === undefined) return
          this.#stake('asked after the end')
          if (exchange.status !== 404 && exchange.status !== 503)
            this.#violate('only 404 after the end', `a session that ended answered ${exchange.status}`)
        })
      })
    }
  }

  /** Somebody else has the id, and a cursor. */
  #steal(visitor: Visitor, anonymous: boolean): void {
    const thief = this.#visitors.find((one) => one !== visitor)
    const cursor = visitor.stream.cursors.at(-1)
    const { app } = this.#line
    const headers = anonymous ? {} : thief?.headers
    const exchanges = [
      app.post(visitor.id, rpc('tools/list'), headers),
      app.get(visitor.id ?? '', { ...headers, 'last-event-id': cursor }),
      app.delete(visitor.id ?? '', headers),
    ]
    this.#stake('foreign attempt')
    for (const exchange of exchanges) {
      void exchange.ended.then(() => {
        const { status = 404 } = exchange
        if (status !== 404 && status !== 503)
          this.#violate(
            'foreign is refused',
            `${exchange.method} of a stranger on ${visitor.name}'s session got ${status}`,
          )
      })
    }
  }

  /** At the end everything that the log has is with its client. */
  async #lastLook(visitor: Visitor): Promise<void> {
    const { id, goneAt } = visitor
    if (id === undefined || goneAt !== undefined) return
    visitor.get?.drop()
    await this.#line.clock.settle()
    const { cursors } = visitor.stream
    if (cursors.length === 0) return
    this.#listenFromLast(visitor)
    await this.#line.clock.advance(1000)
    if (visitor.get?.status !== 200) return
    const seen = new Set(visitor.stream.known.map(({ data }) => data))
    for (const data of this.#logged.get(sessionKey(id)) ?? []) {
      this.#stake('logged event found')
      if (!seen.has(data))
        this.#violate('what was acknowledged is there', `${visitor.name} never got ${data}`)
    }
  }

  #listenFromLast(visitor: Visitor): void {
    const { stream } = visitor
    const cursor = stream.cursors.at(-1) ?? ''
    const connection = stream.resume(cursor)
    const exchange = this.#line.app.get(visitor.id ?? '', { ...visitor.headers, 'last-event-id': cursor })
    visitor.get = exchange
    this.#follow(visitor, exchange)
    exchange.onevent = (event) => this.#take(visitor, connection, event)
  }

  #take(visitor: Visitor, connection: StreamConnection, event: SimEvent): void {
    this.#note(event.id, event.data)
    // Asks for a sign of life, and is no part of the stream.
    if (event.id === undefined && event.data.includes('"ping"')) return
    const problem = visitor.stream.take(connection, event, this.#fails)
    if (problem !== undefined) this.#violate('each event once, in order', `${visitor.name}: ${problem}`)
  }

  /** An id stands for one event for ever; a priming event has one of its own each time. */
  #note(id: string | undefined, data: string): void {
    if (id === undefined) return
    this.#stake('event id checked')
    const before = this.#ids.get(id)
    if (before !== undefined && (data === '' || before !== data))
      this.#violate('an event id stands for one event', `the id ${id} came twice`)
    this.#ids.set(id, data)
  }
}
