/** One run: the production code, simulated clients around it, and a checker that watches both sides. */

import type { Clock } from '../../src/clock.ts'
import type { Exchange } from '../../src/http/exchange.ts'
import type { SessionEvent } from '../../src/session/events.ts'
import type { EventLog } from '../../src/stream/event-log.ts'
import { MemoryEventLog } from '../../src/stream/memory-event-log.ts'
import type { AppOptions, AuthInfo, CreateServer, ServerContext } from '../../src/types.ts'
import { type FakeCall, FakeServer } from '../support/fake-server.ts'
import { SimExchange, type SimLink, type SimRequest } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import {
  type Actor,
  authInfoOf,
  type ExchangeNote,
  principalOf,
  type SendOptions,
  type Surroundings,
} from './around.ts'
import { AdmissionModel, type Opener } from './admission-model.ts'
import { SimClient } from './client.ts'
import { type AuthorPlan, type Conditions, type ConnectionPlan, NETWORKS, type Plan } from './plan.ts'
import { Random } from './random.ts'
import { Recorder } from './record.ts'
import type { DeliberateFault, RunResult } from './simulation.ts'
import { LATEST, type ModelCall, SessionModel } from './session-model.ts'
import { DelayedLog, FailingLog } from './slow-logs.ts'

/** What the simulation uses of a session manager. */
export interface ManagerLike {
  handle(exchange: Exchange): Promise<void>
  readonly sessions: {
    readonly size: number
    subscribe(listener: (event: SessionEvent) => void): () => void
    close(id: string): unknown
    get(id: string): { notify(method: string, params?: Record<string, unknown>): unknown } | undefined
  }
  close(options?: { drain?: number }): Promise<void>
}

/** Makes the manager under test. */
export type MakeManager = (createServer: CreateServer, options: AppOptions) => ManagerLike

/** A deliberate fault: any of the parts around the production code, or of it, replaced by a worse one. */
export interface SessionFault extends DeliberateFault {
  /** What the clock shows to the production code. */
  clock?(clock: VirtualClock): Clock
  options?(options: AppOptions): AppOptions
  /** What travels differently on an exchange. */
  link?(exchange: ExchangeNote, world: World): Pick<SimLink, 'tamper'> | undefined
  eventLog?(log: EventLog, clock: VirtualClock): EventLog
  manager?(manager: ManagerLike, world: World): ManagerLike
  createServer?(createServer: CreateServer): CreateServer
}

/** Shared time in virtual milliseconds in which a body that was sent slowly arrives in so many parts. */
const UPLOAD_PARTS = 3

/** The instances of one session. */
interface Awake {
  /** The one at work; undefined while there is none. */
  server: FakeServer | undefined
  /** The one before. */
  last: FakeServer
  /** How many there were. */
  count: number
  /** Factories under way, and instances that are not awake yet. */
  waking: number
  /** When it was last woken, or opened. */
  since: number
}

/** The world of one run. */
export class World implements Surroundings {
  readonly plan: Plan
  readonly conditions: Conditions
  readonly clock: VirtualClock
  readonly recorder: Recorder
  readonly manager: ManagerLike
  readonly clients: SimClient[]
  /** Sessions by id. */
  readonly models = new Map<string, SessionModel>()
  readonly exchanges: ExchangeNote[] = []
  readonly servers: FakeServer[] = []
  /** When the drain began. */
  shutdownAt: number | undefined
  /** When `close()` resolved. */
  closedAt: number | undefined
  readonly #fault: SessionFault | undefined
  readonly #random: Random
  readonly #openings = new Map<
    string,
    {
      client: Actor
      author: AuthorPlan
      note?: ExchangeNote
      server?: FakeServer
      tag: string
      bornAt?: number
    }
  >()
  readonly #calls = new Map<string, FakeCall>()
  readonly #serverSessions = new Map<FakeServer, SessionModel>()
  readonly #awake = new Map<SessionModel, Awake>()
  /** Servers that were let go because nothing used them. */
  readonly #slept = new Set<FakeServer>()
  /** Where each call ran. */
  readonly #handled = new Map<ModelCall, { readonly server: FakeServer; readonly call: FakeCall }>()
  readonly #admission: AdmissionModel
  readonly #requests = new Map<string, number>()
  readonly #stalls: { at: number; length: number }[] = []
  #delayedLog: DelayedLog | undefined
  #callNumber = 0

  constructor(
    plan: Plan,
    makeManager: MakeManager,
    options: { keepHistory: boolean; fault?: SessionFault | undefined },
  ) {
    this.plan = plan
    const conditions = (this.conditions = plan.conditions)
    // Not the plan's stream of numbers: a shrunk plan must meet the same weather.
    const random = (this.#random = new Random(plan.seed ^ 0x5f356495))
    const fault = (this.#fault = options.fault)
    const { jitter, admission } = conditions
    this.#admission = new AdmissionModel(admission)
    this.clock = new VirtualClock({
      start: 0,
      turns: 1,
      tieBreak: () => random.next(),
      ...(jitter.late > 0 || jitter.early
        ? { skew: () => (jitter.early && random.chance(0.3) ? -random.next() : random.next() * jitter.late) }
        : {}),
    })
    this.recorder = new Recorder(() => this.clock.now(), options.keepHistory)
    const shown = fault?.clock?.(this.clock) ?? this.clock
    const createServer: CreateServer = (context) => this.#createServer(context)
    const given: AppOptions = { ...this.#options(shown), clock: shown }
    const app = fault?.options?.(given) ?? given
    const manager = makeManager(fault?.createServer?.(createServer) ?? createServer, app)
    this.manager = fault?.manager?.(manager, this) ?? manager
    this.manager.sessions.subscribe((event) => this.#onevent(event))
    this.clients = plan.clients.map((client, index) => new SimClient(this, index, client))
  }

  #options(clock: Clock): AppOptions {
    const {
      log,
      jitter: _jitter,
      hook,
      stalls: _stalls,
      wallSteps: _wallSteps,
      shutdownAt: _shutdownAt,
      closesAgainAfter: _closesAgainAfter,
      admission: { principal, address },
      sleep,
      ...options
    } = this.conditions
    // Times without fractions of 1/1024 ms: MemoryEventLog compares `at <= now - maxAge` and arms `at + maxAge`, which for other times
    // need not agree, and then its sweep does not end while the clock stands still.
    const exact: Clock = {
      now: () => Math.round(clock.now() * 1024) / 1024,
      wallTime: () => clock.wallTime(),
      setTimer: (callback, delay) => clock.setTimer(callback, delay),
      afterInput: (callback, longest) => clock.afterInput(callback, longest),
    }
    const memory = (): EventLog =>
      new MemoryEventLog(exact, {
        maxBytes: log.maxBytes,
        maxEvents: log.maxEvents,
        maxAge: log.maxAge,
        maxTotalBytes: 256 * 1024 * 1024,
      })
    let eventLog: EventLog | false = false
    if (log.kind === 'memory') eventLog = memory()
    if (log.kind === 'failing') eventLog = new FailingLog(memory(), () => this.#random.chance(0.2))
    if (log.kind === 'delayed') {
      this.#delayedLog = new DelayedLog(memory(), this.clock, () => this.#random.int(0, log.delay))
      eventLog = this.#delayedLog
    }
    if (eventLog !== false && this.#fault?.eventLog !== undefined)
      eventLog = this.#fault.eventLog(eventLog, this.clock)
    return {
      ...options,
      eventLog,
      allowedHosts: 'any',
      trustedProxies: 0,
      // A burst without a rate is a mistake.
      ...(principal && {
        openRatePerPrincipal: principal.perSecond,
        openBurstPerPrincipal: principal.burst,
      }),
      ...(address && { openRatePerAddress: address.perSecond, openBurstPerAddress: address.burst }),
      ...(sleep && { sleepAfter: sleep.after, maxAwake: sleep.maxAwake }),
      ...(hook ? { authenticate: async (request: Request) => this.#authenticate(request) } : {}),
      principal: (authInfo) => principalOf(authInfo.extra?.['sub'] as string),
    }
  }

  /** The hook of an author whose tokens name their owner. */
  async #authenticate(request: Request): Promise<AuthInfo | undefined> {
    await Promise.resolve()
    const [, principal, token] =
      /^Bearer token-(\w+)-(\d+)$/.exec(request.headers.get('authorization') ?? '') ?? []
    return authInfoOf(principal, Number(token))
  }

  // The author's side

  /** Announces how the author is going to behave for the client of this name. */
  expectOpening(name: string, client: Actor, author: AuthorPlan): void {
    this.#openings.set(name, { client, author, tag: `T${this.#openings.size + 1}` })
  }

  /** The initialize exchange of that name. */
  noteOpening(name: string, note: ExchangeNote): void {
    const opening = this.#openings.get(name)
    if (opening !== undefined) opening.note = note
  }

  #openerOf({ plan }: Pick<Actor, 'plan'>): Opener {
    return { principal: principalOf(plan.principal), network: NETWORKS[plan.address] }
  }

  async #createServer(context: ServerContext): Promise<FakeServer> {
    const { session } = context
    const { name = '' } = session.client ?? {}
    if (session.restored) return this.#wake(context)
    // Whoever gets as far as to the factory has used up a token.
    const client = this.clients[Number(/^c(\d+) /.exec(name)?.[1])]
    if (client !== undefined)
      this.#admission.admitted(this.clock.now(), this.#openerOf(client), `initialize of ${name}`)
    session.data = { instances: 1 }
    const opening = this.#openings.get(name)
    if (opening === undefined) throw new Error('a server for nobody')
    const { author, tag } = opening
    opening.bornAt = this.clock.now()
    this.recorder.note(`  factory ${tag} for c${opening.client.index} (${author.factory})`)
    if (context.session.principal !== principalOf(opening.client.plan.principal)) {
      this.recorder.violate(
        'opened for the principal who asked',
        `createServer was given principal ${context.session.principal}`,
      )
    }
    if (author.factory === 'throw') throw new Error('the factory throws')
    if (author.factory === 'hang') await new Promise(() => {})
    if (author.factoryAfter > 0) await this.clock.sleep(author.factoryAfter)
    if (author.factory === 'reject') throw new Error('the factory rejects')
    if (author.factory === 'nothing') return undefined as unknown as FakeServer
    const server = new FakeServer({
      clock: this.clock,
      tag,
      initialize: author.initialize,
      initializeAfter: author.initializeAfter,
      oncall: (call) => this.#oncall(server, call),
    })
    server.onclose = () => this.recorder.note(`  server ${tag} closed`)
    opening.server = server
    this.servers.push(server)
    return server
  }

  /** Another server for a session that slept. */
  async #wake({ session }: ServerContext): Promise<FakeServer> {
    const { clock, recorder } = this
    const model = this.models.get(session.id ?? '')
    const awake = model === undefined ? undefined : this.#awake.get(model)
    if (model === undefined || awake === undefined) {
      recorder.violate('woken once, for what needs it', 'a session was woken that never opened')
      throw new Error('woken for nobody')
    }
    recorder.stake('woken')
    recorder.note(`  factory wakes ${model.name}`)
    const wrong = (text: string): void =>
      recorder.violate('woken once, for what needs it', `${model.name} was woken ${text}`)
    if (model.end !== undefined) wrong('after its end')
    if (awake.waking > 0) wrong('twice at once')
    if (awake.server !== undefined) wrong('while it was awake')
    const needed = model.held.some(
      ({ exchange }) => exchange.method === 'POST' && exchange.answeredAt === undefined,
    )
    if (!needed) wrong('for nothing')
    if (session.principal !== principalOf(model.principal))
      recorder.violate(
        'opened for the principal who asked',
        `${model.name} was woken for ${session.principal}`,
      )
    const { instances } = session.data as { instances?: number }
    if (instances !== awake.count)
      recorder.violate(
        'what a session is survives its instance',
        `${model.name} had ${awake.count} instances, its data says ${instances}`,
      )
    awake.count += 1
    awake.waking += 1
    session.data = { instances: awake.count }
    const { waking = 0 } = this.conditions.sleep ?? {}
    // A blocked event loop may be longer than `initializeTimeout`.
    if (waking > 0 && this.conditions.stalls.length === 0) await clock.sleep(waking)
    const server = new FakeServer({
      clock,
      tag: model.tag,
      follows: awake.last,
      oncall: (call) => this.#oncall(server, call),
    })
    server.onclose = () => recorder.note(`  server ${server.tag} of ${model.name} closed`)
    awake.last = server
    this.servers.push(server)
    this.#serverSessions.set(server, model)
    return server
  }

  #oncall(server: FakeServer, call: FakeCall): void {
    const session = this.#serverSessions.get(server)
    session?.calls.push(call)
    this.#handled.set(call, { server, call })
    const tag = call.plan?.tag
    if (tag !== undefined) this.#calls.set(tag, call)
    this.recorder.note(`  handler ${server.tag} ${call.method} ${tag ?? ''}`)
    call.signal.addEventListener(
      'abort',
      () => this.recorder.note(`  handler ${server.tag} ${tag ?? call.method} aborted`),
      { once: true },
    )
  }

  /** What became of a call, once it reached its handler. */
  call(tag: string): FakeCall | undefined {
    return this.#calls.get(tag)
  }

  /** The server of a session. */
  serverOf(session: SessionModel): FakeServer | undefined {
    return this.#awake.get(session)?.server
  }

  /** A new tag for a call. */
  nextTag(): string {
    return `t${++this.#callNumber}`
  }

  // The wire

  /** Sends a request, and follows what becomes of it. */
  send(client: Actor, request: SimRequest, options: SendOptions): ExchangeNote {
    const { session, connection = {} } = options
    const number = this.exchanges.length + 1
    const seq = this.recorder.note(
      `> c${client.index} #${number} ${options.kind}${session === undefined ? '' : ` ${session.name}`}${options.detail === undefined ? '' : ` ${options.detail}`}`,
    )
    const link: SimLink = {
      ...(connection.latency === undefined ? {} : { latency: connection.latency }),
      ...(connection.finishAfter === undefined ? {} : { finishAfter: connection.finishAfter }),
      onanswer: () => this.#onanswer(note),
      onover: (_, completed) => {
        this.recorder.note(`  #${number} over${completed ? '' : ', cut'}`)
      },
      tamper: (chunk) => (tamper === undefined ? chunk : tamper(chunk)),
    }
    const upload = connection.upload ?? 0
    const { body } = request
    const slowly =
      upload > 0 && typeof body === 'string'
        ? Array.from({ length: UPLOAD_PARTS }, (_, index) => ({
            after: upload / UPLOAD_PARTS,
            bytes: body.slice(
              Math.floor((body.length * index) / UPLOAD_PARTS),
              Math.floor((body.length * (index + 1)) / UPLOAD_PARTS),
            ),
          }))
        : body
    const exchange = new SimExchange(
      this.clock,
      slowly === undefined ? request : { ...request, body: slowly },
      link,
    )
    const note: ExchangeNote = {
      number,
      seq,
      client,
      kind: options.kind,
      exchange,
      session,
      sentAt: client.wokenFor ?? this.clock.now(),
      bodyAt: this.clock.now() + (body === 'never' ? Number.POSITIVE_INFINITY : upload),
      refusals: options.refusals ?? [],
      disturbed: false,
    }
    const tamper = this.#fault?.link?.(note, this)?.tamper
    this.exchanges.push(note)
    if (session !== undefined && session.end === undefined) {
      session.held.push({
        exchange,
        bearing: options.bearing ?? 'request',
        uses: options.uses ?? false,
        initializes: options.initializes ?? false,
        seq,
      })
    }
    void exchange.ended.then((outcome) => {
      this.recorder.note(
        `< c${client.index} #${number} ${outcome} ${exchange.status ?? '-'} ${summary(exchange)}`,
      )
    })
    this.manager.handle(exchange).catch((thrown: unknown) => {
      this.recorder.violate(
        'nothing happens on an exchange that its contract does not foresee',
        `handle() rejected for #${number} ${options.kind}: ${String(thrown)}`,
      )
    })
    this.#disturb(note, connection)
    return note
  }

  #disturb(note: ExchangeNote, connection: ConnectionPlan): void {
    const { exchange } = note
    const { dropAfter, vanishAfter, stall } = connection
    const later = (after: number, what: string, act: () => void): void => {
      this.clock.after(after, () => {
        if (exchange.outcome !== undefined) return
        this.recorder.note(`> c${note.client.index} #${note.number} ${what}`)
        act()
      })
    }
    if (dropAfter !== undefined) later(dropAfter, 'dropped', () => this.drop(note))
    if (vanishAfter !== undefined) {
      later(vanishAfter, 'vanished', () => {
        note.disturbed = true
        exchange.vanish(0)
      })
    }
    if (stall !== undefined) {
      later(stall.after, 'reads no more', () => {
        note.disturbed = true
        exchange.stopReading()
      })
      if (stall.length > 0) later(stall.after + stall.length, 'reads again', () => exchange.resumeReading())
    }
  }

  /** The client closes a connection. */
  drop(note: ExchangeNote): void {
    note.disturbed = true
    note.exchange.drop()
  }

  #onanswer(note: ExchangeNote): void {
    const { exchange, session, kind } = note
    const status = exchange.answeredStatus ?? 0
    this.recorder.note(`  #${note.number} answered ${status}`)
    const { recorder } = this
    // An opening may fail by its author's fault; a second `initialize` is one when the session has ended.
    const opens =
      kind === 'open' || kind === 'foreign initialize' || (kind === 'refused' && session?.end !== undefined)
    if (status >= 500 && status !== 503 && !opens)
      recorder.violate('no status of 500 and more', `#${note.number} ${kind} was answered with ${status}`)
    if (status === 503 && kind !== 'open' && kind !== 'foreign initialize' && this.shutdownAt === undefined) {
      recorder.violate(
        '503 for a reason only',
        `#${note.number} ${kind} was answered with 503 by a server that is well`,
      )
    }
    if (opens && status === 503 && this.shutdownAt === undefined)
      // Full: it has used up a token all the same.
      this.#admission.admitted(this.clock.now(), this.#openerOf(note.client), `#${note.number}`)
    if (opens && status === 429)
      this.#admission.refused(this.clock.now(), this.#openerOf(note.client), `#${note.number}`, () => {
        const told = exchange.responseHeaders['retry-after']
        return exchange.outcome === 'completed' ? Number(told) : undefined
      })
    if (session === undefined) return
    const drains = this.shutdownAt !== undefined
    const { end } = session
    if (end !== undefined && (note.seq > end.seq || note.bodyAt > end.at)) {
      // It came after the end, or its body did.
      const allowed = status === 404 || note.refusals.includes(status) || (drains && status === 503)
      if (!allowed && exchange.startedAt + 1e-6 < end.at && status === 408) return
      if (!allowed)
        recorder.violate(
          'only 404 after the end',
          `#${note.number} ${kind} on ${session.name}, which had ended (${end.reason}), got ${status}`,
        )
      if (note.seq > end.seq) recorder.stake('asked after the end')
    }
    if (session.first404 !== undefined && note.seq > session.first404 && status < 300) {
      recorder.violate(
        'only 404 after the end',
        `#${note.number} ${kind} on ${session.name} succeeded after a 404`,
      )
    }
    if (status === 404) {
      session.first404 ??= recorder.seq
      if (end === undefined)
        recorder.violate(
          'no 404 while it lives',
          `#${note.number} ${kind} got 404 while ${session.name} had not ended`,
        )
      else this.#checkStalled(note, session)
    }
  }

  /** A request that lay in a socket while the event loop was blocked counts from when it was sent. */
  #checkStalled(note: ExchangeNote, session: SessionModel): void {
    const { end } = session
    if (end === undefined || (end.reason !== 'idle' && end.reason !== 'unused')) return
    const due = session.lastHoldEnd().certain + session.timeout.length
    if (note.sentAt < due && note.sentAt < end.at && note.seq > end.seq) {
      this.recorder.violate(
        'what waits in a socket counts from when it was sent',
        `#${note.number} was sent before ${session.name} was due and read after it had ended`,
      )
    }
  }

  // What the production code says of itself

  #onevent(event: SessionEvent): void {
    const { recorder } = this
    const session = event.session === undefined ? undefined : this.models.get(event.session)
    switch (event.type) {
      case 'session.opened':
        this.#onopened(event)
        return
      case 'session.closed': {
        recorder.note(`  ${session?.name} closed ${event.reason}`)
        if (session === undefined)
          recorder.violate('opens once, ends once', 'a session closed that never opened')
        else this.#onclosed(session, event.reason)
        return
      }
      case 'session.slept':
        if (session !== undefined) this.#onslept(session)
        return
      case 'session.woken': {
        recorder.note(`  ${session?.name} is awake`)
        const awake = session === undefined ? undefined : this.#awake.get(session)
        if (awake === undefined) return
        awake.waking -= 1
        awake.server = awake.last
        awake.since = this.clock.now()
        return
      }
      case 'request.started':
      case 'request.ended': {
        const key = `${session?.name} ${JSON.stringify(event.request)}`
        const running = (this.#requests.get(key) ?? 0) + (event.type === 'request.started' ? 1 : -1)
        if (running < 0)
          recorder.violate(
            'a request starts once, ends once',
            `request ${key} ended more often than it started`,
          )
        if (running === 0) this.#requests.delete(key)
        else this.#requests.set(key, running)
        return
      }
      case 'request.refused':
        recorder.note(`  refused ${event.status} ${event.cause}`)
    }
  }

  #onslept(session: SessionModel): void {
    const { recorder } = this
    recorder.note(`  ${session.name} sleeps`)
    recorder.stake('slept')
    const awake = this.#awake.get(session)
    const server = awake?.server
    if (awake === undefined || server === undefined) {
      recorder.violate('what nothing uses sleeps, what is at work does not', `${session.name} slept asleep`)
      return
    }
    awake.server = undefined
    this.#slept.add(server)
  }

  /** What was used last so long ago should have slept. */
  #checkSlept(session: SessionModel, now: number): void {
    const { sleep } = this.conditions
    const awake = this.#awake.get(session)
    if (sleep === undefined || awake === undefined) return
    if (awake.server === undefined) {
      this.recorder.stake('expired asleep')
      return
    }
    // A question that its client has not answered keeps the instance that asked.
    if (
      session.calls.some(
        ({ plan, asked }) => plan?.ask !== undefined && asked !== 'answered' && asked !== 'error',
      )
    )
      return
    let used = Math.max(awake.since, session.lastHoldEnd().latest)
    for (const { exchange } of session.held) used = Math.max(used, exchange.closedAt ?? now)
    const due = used + sleep.after
    if (now - due - this.stalledBetween(due, now) > LATEST)
      this.recorder.violate(
        'what nothing uses sleeps, what is at work does not',
        `${session.name} was awake ${(now - used).toFixed(1)} ms after its last use, it may be ${sleep.after}`,
      )
  }

  #onopened(event: Extract<SessionEvent, { type: 'session.opened' }>): void {
    const { recorder } = this
    const opening = this.#openings.get(event.client?.name ?? '')
    if (opening?.note === undefined || opening.server === undefined || event.session === undefined) {
      recorder.violate('opens once, ends once', `a session opened for nobody (${event.client?.name})`)
      return
    }
    if (this.models.has(event.session)) {
      recorder.violate(
        'opens once, ends once',
        `session ${this.models.get(event.session)?.name} opened twice`,
      )
      return
    }
    if (event.principal !== principalOf(opening.client.plan.principal))
      recorder.violate('opened for the principal who asked', `opened for principal ${event.principal}`)
    const model = new SessionModel(
      {
        name: `S${this.models.size + 1}`,
        id: event.session,
        tag: opening.tag,
        client: opening.client.index,
        principal: opening.client.plan.principal,
        version: event.protocolVersion,
        bornAt: opening.bornAt ?? this.clock.now(),
        openedAt: this.clock.now(),
      },
      this.conditions,
    )
    recorder.note(`  ${model.name} opened for c${model.client} ${opening.tag} ${model.version}`)
    this.models.set(event.session, model)
    this.#serverSessions.set(opening.server, model)
    this.#awake.set(model, {
      server: opening.server,
      last: opening.server,
      count: 1,
      waking: 0,
      since: this.clock.now(),
    })
    const { exchange, seq } = opening.note
    if (exchange.closedAt !== undefined)
      recorder.violate('what failed to open holds nothing', `${model.name} opened though its client had gone`)
    model.held.push({ exchange, bearing: 'request', uses: false, initializes: false, seq })
    if (this.manager.sessions.size > this.conditions.maxSessions)
      recorder.violate('limits hold', `${this.manager.sessions.size} sessions`)
  }

  #onclosed(session: SessionModel, reason: string): void {
    const { recorder } = this
    const now = this.clock.now()
    if (session.end !== undefined) {
      recorder.violate(
        'opens once, ends once',
        `${session.name} closed twice (${session.end.reason}, ${reason})`,
      )
      return
    }
    if (reason === 'idle' || reason === 'unused') this.#checkExpiry(session, reason, now)
    if (reason === 'evicted') this.#checkEviction(session)
    if (reason === 'max-age') this.#checkAge(session, now)
    const deleted = this.exchanges.some((note) => note.session === session && note.kind === 'delete')
    if (reason === 'deleted' && !deleted)
      recorder.violate(
        'deleted by its owner only, and then at once',
        `${session.name} ended as deleted, and nobody deleted it`,
      )
    if (reason === 'admin' && !session.closedByAdmin)
      recorder.violate('ends for the reason that applies', `${session.name} ended as closed by nobody`)
    if (reason === 'shutdown') this.#checkShutdown(session, now)
    session.end = { at: now, seq: recorder.seq, reason }
  }

  #checkExpiry(session: SessionModel, reason: string, now: number): void {
    const { recorder } = this
    const holder = session.holder(now)
    if (holder !== undefined)
      recorder.violate('not under a hold', `${session.name} ended as ${reason} under ${holder}`)
    const { length, reasons } = session.timeout
    if (!reasons.includes(reason))
      recorder.violate(
        'ends for the reason that applies',
        `${session.name} ended as ${reason} where ${reasons.join(' or ')} was right`,
      )
    const { certain } = session.lastHoldEnd()
    if (now - certain < length - 1e-6) {
      recorder.violate(
        'not before its time',
        `${session.name} ended as ${reason} ${(now - certain).toFixed(3)} ms after its last hold, the timeout is ${length}`,
      )
    }
    recorder.stake(reason === 'idle' ? 'expired idle' : 'expired unused')
    this.#checkLate(session, now)
    this.#checkSlept(session, now)
  }

  #checkLate(session: SessionModel, now: number): void {
    const due = session.due()
    if (due === undefined) return
    const late = now - due - this.stalledBetween(due, now)
    this.recorder.stake('deadline met')
    if (late > LATEST)
      this.recorder.violate(
        'at most 250 ms late',
        `${session.name} is ${late.toFixed(1)} ms late (due ${due.toFixed(2)})`,
      )
  }

  /** How long the event loop was blocked between two times, or around them. */
  stalledBetween(from: number, to: number): number {
    let sum = 0
    for (const { at, length } of this.#stalls) if (at <= to && at + length >= from) sum += length
    return sum
  }

  #checkEviction(session: SessionModel): void {
    const { recorder } = this
    recorder.stake('evicted')
    const holder = session.holder()
    if (holder !== undefined)
      recorder.violate('not under a hold', `${session.name} was evicted under ${holder}`)
    const now = this.clock.now()
    const newcomers = this.exchanges.filter(
      (note) =>
        (note.kind === 'open' || note.kind === 'foreign initialize') &&
        note.exchange.answeredAt === undefined &&
        note.exchange.closedAt === undefined,
    )
    const fits = newcomers.some((note) => note.client.plan.principal === session.principal)
    if (!fits)
      recorder.violate(
        'room is made of what the caller may give up',
        `${session.name} of ${session.principal} was evicted for somebody else`,
      )
    const idleFor = now - session.lastHoldEnd().certain
    if (session.principal === undefined && session.used && idleFor < this.conditions.evictableAfter - 1e-6) {
      recorder.violate('not before its time', `anonymous ${session.name} was evicted after ${idleFor} ms`)
    }
  }

  #checkAge(session: SessionModel, now: number): void {
    const { sessionMaxAge, drainTimeout } = this.conditions
    const age = now - session.bornAt
    if (age < sessionMaxAge - 1e-6)
      this.recorder.violate(
        'not before its time',
        `${session.name} ended by its age, ${age} of ${sessionMaxAge}`,
      )
    // One whose factory took longer than that is too old when it opens.
    const due = Math.max(session.bornAt + sessionMaxAge + drainTimeout, session.openedAt)
    const late = now - due - this.stalledBetween(session.bornAt + sessionMaxAge, now)
    if (late > LATEST)
      this.recorder.violate(
        'at most 250 ms late',
        `${session.name} ended ${late} ms after its age and the drain time`,
      )
    if (session.holder() !== undefined && age < sessionMaxAge + drainTimeout - 1e-6) {
      this.recorder.violate('not under a hold', `${session.name} ended by its age under ${session.holder()}`)
    }
  }

  #checkShutdown(session: SessionModel, now: number): void {
    const { recorder } = this
    if (this.shutdownAt === undefined) {
      recorder.violate(
        'ends for the reason that applies',
        `${session.name} ended by a shutdown that was not asked for`,
      )
      return
    }
    const running = session.running(now)
    const known =
      running?.plan === undefined ? undefined : this.clients[session.client]?.callByTag(running.plan.tag)
    // It may have ended by itself at that very moment.
    const detachedAt = known?.detachedAt(now)
    if (
      known?.cancelled === true ||
      (detachedAt !== undefined && now - detachedAt >= this.conditions.detachedRequestTimeout - 1e-6)
    )
      return
    // A timer of the platform may be a millisecond early.
    if (running !== undefined && now < this.shutdownAt + this.conditions.drainTimeout - 1) {
      recorder.violate(
        'calls finish in the drain',
        `${session.name} was shut down under call ${running.plan?.tag} with drain time left`,
      )
    }
  }

  // The run

  /** Runs the plan. */
  async run(): Promise<RunResult> {
    const { clock, conditions, recorder } = this
    for (const stall of conditions.stalls) {
      clock.after(stall.at, () => {
        recorder.note(`-- the event loop blocks for ${stall.length} ms`)
        this.#stalls.push({ at: clock.now(), length: stall.length })
        clock.jump(stall.length)
      })
    }
    for (const step of conditions.wallSteps) {
      clock.after(step.at, () => {
        recorder.note(`-- the wall clock steps by ${step.by} ms`)
        clock.stepWall(step.by)
      })
    }
    let scripts = 0
    for (const client of this.clients) {
      void client.run().then(
        () => (scripts += 1),
        (thrown: unknown) => {
          scripts += 1
          recorder.violate(
            'the run comes to its end',
            `the simulation itself failed: ${thrown instanceof Error ? thrown.stack : String(thrown)}`,
          )
        },
      )
    }
    if (conditions.shutdownAt !== undefined) {
      clock.after(conditions.shutdownAt, () => this.#shutdown())
      await this.#until(() => this.closedAt !== undefined && clock.now() > this.closedAt + 2000, 4 * 3600_000)
      for (const client of this.clients) client.stop()
    } else {
      await this.#until(() => scripts === this.clients.length, 4 * 3600_000)
      await this.#quiet()
      this.#shutdown()
      await this.#until(() => this.closedAt !== undefined, 3600_000)
    }
    await clock.advance(1000)
    // The last events of streams that ended with the shutdown.
    await this.#until(() => (this.#delayedLog?.waiting ?? 0) === 0, 3600_000)
    // What the peer of an ended exchange does not read keeps its connection until `unsentTimeout`.
    const slow = this.exchanges.some((note) => note.disturbed && note.exchange.closedAt === undefined)
    if (slow) await clock.advance(conditions.unsentTimeout + LATEST)
    this.#checkEnd()
    return { recorder, duration: clock.now() }
  }

  async #until(done: () => boolean, limit: number): Promise<void> {
    const end = this.clock.now() + limit
    while (!done()) {
      if (this.clock.now() > end) {
        this.recorder.violate('the run comes to its end', 'the run does not come to an end')
        return
      }
      await this.clock.advance(500)
    }
  }

  /** All clients are gone; everything ends by itself, without a shutdown. */
  async #quiet(): Promise<void> {
    const { clock, conditions, recorder, manager } = this
    // First what is under way may finish with its clients there.
    await clock.advance(1500)
    while ((this.#delayedLog?.waiting ?? 0) > 0) await clock.advance(500)
    for (const client of this.clients) client.checkHanging()
    for (const client of this.clients) client.stop()
    recorder.note('-- all clients are gone')
    for (const note of this.exchanges) if (note.exchange.outcome === undefined) this.drop(note)
    const finite = (value: number): number => (Number.isFinite(value) ? value : 0)
    const longest =
      finite(conditions.detachedRequestTimeout) +
      Math.max(
        finite(conditions.sessionIdleTimeout),
        conditions.unusedSessionTimeout,
        conditions.handshakeTimeout,
      ) +
      conditions.initializeTimeout +
      conditions.undeliveredRequestTimeout +
      // Uploads that were dropped have ended; connections that finish late have at most this left.
      60_000
    const end = clock.now() + longest + this.#stalls.length * 3000
    while (clock.now() < end && (manager.sessions.size > 0 || clock.pending > 0)) await clock.advance(500)
    await clock.advance(1)
    for (const session of this.models.values()) {
      if (session.end === undefined) this.#checkLate(session, clock.now())
    }
    const endless = conditions.sessionIdleTimeout === Number.POSITIVE_INFINITY
    if (endless) return
    if (manager.sessions.size > 0) {
      const left = [...this.models.values()].filter((session) => session.end === undefined)
      const text = left
        .map((session) => `${session.name} ${session.holder() ?? 'held by nothing'}`)
        .join(', ')
      recorder.violate(
        'nothing is left behind',
        `${manager.sessions.size} sessions are left with no client (${text})`,
      )
    } else if (clock.pending > 0) {
      recorder.violate('nothing is left behind', `${clock.pending} timers are left with no session`)
    }
  }

  #shutdown(): void {
    const { clock, recorder } = this
    const began = clock.now()
    this.shutdownAt = began
    recorder.note('-- shutdown')
    recorder.stake('drained')
    const open = this.exchanges.filter((note) => {
      const { exchange } = note
      return (
        exchange.answeredAt !== undefined &&
        exchange.outcome === undefined &&
        note.kind === 'get' &&
        !note.disturbed &&
        exchange.status === 200
      )
    })
    const { closesAgainAfter } = this.conditions
    if (closesAgainAfter !== undefined) clock.after(closesAgainAfter, () => this.#closeAgain())
    this.manager.close({ drain: this.conditions.drainTimeout }).then(
      () => {
        this.closedAt = clock.now()
        recorder.note('-- shut down')
        const late =
          clock.now() - began - this.conditions.drainTimeout - this.stalledBetween(began, clock.now())
        // What a slow log still has to write is not the drain's to shorten.
        const slack = this.#delayedLog === undefined ? 1000 : 10_000
        if (late > slack)
          recorder.violate('a drain ends in its time', `close() took ${late} ms more than the drain time`)
        for (const note of open) this.#checkHint(note)
      },
      (thrown: unknown) => {
        this.closedAt = clock.now()
        recorder.violate('a drain ends in its time', `close() rejected: ${String(thrown)}`)
      },
    )
  }

  /** Who closes again, and more hastily, waits for the first close and shortens nothing. */
  #closeAgain(): void {
    const { clock, recorder } = this
    recorder.note('-- close() once more')
    recorder.stake('closed twice')
    const wrong = (text: string): void =>
      recorder.violate('a second close waits for the first', `the second close() ${text}`)
    this.manager.close().then(
      () => {
        // Both may be settled in the same moment, in either order.
        clock.after(0, () => {
          if (this.closedAt === undefined) wrong('resolved before the first')
        })
      },
      (thrown: unknown) => wrong(`rejected: ${String(thrown)}`),
    )
  }

  /** A stream that a drain ends tells its client when to come back. */
  #checkHint(note: ExchangeNote): void {
    const { end } = note.session ?? {}
    const last = note.exchange.written.findLast((chunk) => chunk.text !== '')
    // A stream that another took over, or that its client left, ended before.
    if (end?.reason !== 'shutdown' || note.exchange.written.at(-1)?.at !== end.at) return
    if (note.exchange.outcome === 'completed' && !note.disturbed && last?.text.includes('retry:') !== true) {
      this.recorder.violate(
        'streams are told when to come back',
        `stream #${note.number} ended in the drain without a retry hint`,
      )
    }
  }

  #checkEnd(): void {
    const { clock, recorder, manager } = this
    let clean = true
    const left = (text: string): void => {
      clean = false
      recorder.violate('nothing is left behind', text)
    }
    if (manager.sessions.size > 0) left(`${manager.sessions.size} sessions are left after close()`)
    if (clock.pending > 0) left(`${clock.pending} timers are left after close()`)
    for (const session of this.models.values()) {
      if (session.end === undefined) left(`${session.name} never closed`)
    }
    for (const server of this.servers) {
      if (server.connectedAt !== undefined && server.closedAt === undefined)
        left(`server ${server.tag} was never closed`)
    }
    for (const note of this.exchanges) {
      // One whose body never came was never accepted: it is the HTTP server's to cut.
      if (!note.exchange.closed && note.bodyAt <= (this.closedAt ?? 0)) {
        clean = false
        recorder.violate(
          'what was accepted is answered',
          `#${note.number} ${note.kind} is still open after close()`,
        )
      }
      for (const misuse of note.exchange.misuse)
        recorder.violate(
          'nothing happens on an exchange that its contract does not foresee',
          `#${note.number} ${note.kind}: ${misuse}`,
        )
    }
    for (const [key, running] of this.#requests)
      recorder.violate(
        'a request starts once, ends once',
        `request ${key} started ${running} times more than it ended`,
      )
    if (clean) recorder.stake('run ended clean')
    for (const client of this.clients) client.checkEnd()
    this.#admission.check((check, text) => recorder.violate(check, text))
    this.#countStakes()
    for (const session of this.models.values()) this.#checkAborts(session)
  }

  /** Handlers are aborted for a reason, and then only. */
  #checkAborts(session: SessionModel): void {
    const { detachedRequestTimeout, drainTimeout } = this.conditions
    for (const call of session.calls) {
      const { abortedAt, plan } = call
      const { server, call: handled } = this.#handled.get(call) ?? {}
      // What is answered is over, even if its handler is told of an end in the same moment.
      const answered = handled?.sent.some((message) => !('method' in message)) === true
      if (abortedAt === undefined || answered) continue
      if (session.end !== undefined && abortedAt >= session.end.at) continue
      const slept = server !== undefined && this.#slept.has(server)
      if (!slept && server?.closedAt !== undefined && abortedAt >= server.closedAt) continue
      const known = plan === undefined ? undefined : this.clients[session.client]?.callByTag(plan.tag)
      if (known?.cancelled === true) continue
      if (this.shutdownAt !== undefined && abortedAt >= this.shutdownAt + drainTimeout - 1) continue
      const detachedAt = known?.detachedAt(abortedAt)
      if (detachedAt !== undefined && abortedAt - detachedAt >= detachedRequestTimeout - 1e-6) {
        this.recorder.stake('call detached too long')
        continue
      }
      this.recorder.violate(
        slept && abortedAt === server.closedAt
          ? 'what nothing uses sleeps, what is at work does not'
          : 'aborted for a reason only',
        `call ${plan?.tag ?? call.method} of ${session.name} was aborted at ${abortedAt} for no reason`,
      )
    }
  }

  #countStakes(): void {
    const { recorder } = this
    for (const session of this.models.values()) {
      const { length } = session.timeout
      for (const call of session.calls) {
        if ((call.endedAt ?? 0) - call.startedAt >= length)
          recorder.stake('outlived the timeout under a call')
      }
      for (const call of session.calls) {
        if (
          call.endedAt !== undefined &&
          call.abortedAt === undefined &&
          call.startedAt < (this.shutdownAt ?? 0) &&
          call.endedAt > (this.shutdownAt ?? 0)
        ) {
          recorder.stake('call finished in the drain')
        }
      }
      for (const { exchange } of session.held) {
        if ((exchange.answeredAt ?? 0) - exchange.startedAt >= length && exchange.answeredStatus === 200) {
          recorder.stake('outlived the timeout under an upload')
        } else if (
          (exchange.closedAt ?? 0) - (exchange.answeredAt ?? Infinity) >= length &&
          exchange.method === 'GET'
        ) {
          recorder.stake('outlived the timeout under a stream')
        }
        const status = exchange.answeredStatus ?? 200
        if (status >= 400) recorder.stake('refused while the clock ran')
      }
      const { end } = session
      if (end === undefined || (end.reason !== 'idle' && end.reason !== 'unused')) continue
      for (const note of this.exchanges) {
        if (note.session === session && Math.abs(note.exchange.startedAt - end.at) <= 1)
          recorder.stake('request within 1 ms of expiry')
      }
    }
  }
}

/** A response in short. */
function summary(exchange: SimExchange): string {
  if (exchange.events.length > 0 || exchange.responseHeaders['content-type'] === 'text/event-stream') {
    return `${exchange.events.filter((event) => event.data !== '').length} messages`
  }
  const text = exchange.text
  if (text === '') return ''
  try {
    const body = JSON.parse(text) as { error?: { code: number; message: string } }
    return body.error === undefined ? 'json' : `${body.error.code} ${body.error.message}`
  } catch {
    return 'not JSON'
  }
}
