/** Sleep and wake by seeds: clients whose sessions sleep between almost any two things, factories that fail, and what must hold all the same. */

import type { JsonRpcMessage, ServerContext } from '../../src/types.ts'
import type { FakeCall, FakeServer, FakeServerOptions } from '../support/fake-server.ts'
import { rpc } from '../support/mcp-wire.ts'
import { SimApp } from '../support/sim-app.ts'
import type { SimEvent, SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { authenticateByName } from '../support/wire-app.ts'
import { Random } from './random.ts'
import { Recorder } from './record.ts'
import { LATEST, SessionModel } from './session-model.ts'
import type { DeliberateFault, RunOptions, RunResult } from './simulation.ts'
import type { SleepCall, SleepClient, SleepPlan, SleepStep } from './sleep-plan.ts'
import { type StreamConnection, StreamModel } from './stream-model.ts'
import { Trace } from './trace.ts'

/** A deliberate fault: production code that is changed, or something done to the app of a run. */
export interface SleepFault extends DeliberateFault {
  install?(app: SimApp): void
}

/** How long a session that could not be woken is not tried again, in milliseconds. */
const WAKE_PAUSE = 1_000
const INITIALIZE_TIMEOUT = 500

/** How often it is looked how many are awake, in milliseconds. */
const GLANCE = 50

/** How long too many may be awake. One whose hooks ran for nothing is asked again a second later. */
const SETTLING = { plain: 100, hooks: 1200 } as const

const PARAMS = {
  protocolVersion: '2025-11-25',
  capabilities: { elicitation: {} },
  clientInfo: { name: 'sleeper', version: '1' },
}

/** What a session must be like. */
interface Known {
  readonly owner: string
  incarnations: number
  /** Factories under way, and instances that are not awake yet. */
  waking: number
  asleep: boolean
  slept: number
  level: string | undefined
  subscriptions: Set<string>
  /** POSTs that need the instance and have no answer yet. */
  readonly needing: Set<SimExchange>
  readonly calls: FakeCall[]
  failedAt: number
  /** When the instance was last at work. */
  usedAt: number
  session: SessionModel | undefined
}

/** Runs a plan. */
export function runSleep(plan: SleepPlan, options: RunOptions<SleepFault> = {}): Promise<RunResult> {
  return new Run(plan, options).run()
}

class Run {
  readonly plan: SleepPlan
  readonly clock: VirtualClock
  readonly recorder: Recorder
  readonly random: Random
  readonly app: SimApp
  readonly known = new Map<string, Known>()
  readonly sleepers: Sleeper[]
  closing = false
  #tooManySince: number | undefined

  constructor(plan: SleepPlan, { fault, keepHistory = false }: RunOptions<SleepFault>) {
    this.plan = plan
    // Not the plan's stream of numbers: a shrunk plan must meet the same weather.
    const random = (this.random = new Random(plan.seed ^ 0x5f356495))
    this.clock = new VirtualClock({ start: 0, turns: 1, tieBreak: () => random.next() })
    this.recorder = new Recorder(() => this.clock.now(), keepHistory)
    const { sleepAfter, maxAwake, sessionIdleTimeout } = plan.conditions
    this.app = new SimApp(
      this.clock,
      {
        sleepAfter,
        maxAwake,
        sessionIdleTimeout,
        initializeTimeout: INITIALIZE_TIMEOUT,
        authenticate: (request) => authenticateByName(request),
        principal: (authInfo) => String(authInfo.extra?.['sub']),
      },
      (context) => this.#author(context),
    )
    new Trace(this.recorder).follow(this.app)
    fault?.install?.(this.app)
    this.#subscribe()
    this.sleepers = plan.clients.map((client) => new Sleeper(this, client))
  }

  async run(): Promise<RunResult> {
    const { app, clock, recorder } = this
    const { sleepAfter, maxAwake } = this.plan.conditions
    const running = new Set(this.sleepers)
    for (const sleeper of this.sleepers) {
      void sleeper.run().then(
        () => running.delete(sleeper),
        (thrown: unknown) => {
          running.delete(sleeper)
          recorder.violate(
            'the run comes to its end',
            thrown instanceof Error ? `${thrown.stack}` : `${thrown}`,
          )
        },
      )
    }
    for (let turn = 0; turn < 2000 && running.size > 0; turn++) await this.#advance(100)
    if (running.size > 0) recorder.violate('what was accepted is answered', 'a client waits for ever')
    // Half of the runs end while sessions are there.
    if (this.plan.conditions.drain === 0) {
      await this.#advance(sleepAfter + 1100)
      const { awake } = app.manager.sessions.counts
      if (awake > 0)
        recorder.violate(
          'what nothing uses sleeps, what is at work does not',
          `${awake} stay awake (${maxAwake})`,
        )
      await this.#advance(70_000)
      await this.#askAgain()
    } else await this.#lastCalls()
    await this.#close()
    // What a factory brought too late was never connected.
    const late = app.fakes.filter(({ connectedAt }) => connectedAt === undefined).map(({ tag }) => tag)
    for (const text of app.leftovers())
      if (!late.some((tag) => text === `${tag} was not closed`))
        recorder.violate('nothing is left behind', text)
    this.#checkMessages()
    return { recorder, duration: clock.now() }
  }

  /** Lets time pass, and looks at how many are awake meanwhile. */
  async #advance(milliseconds: number): Promise<void> {
    const end = this.clock.now() + milliseconds
    while (this.clock.now() < end) {
      await this.clock.advance(Math.min(GLANCE, end - this.clock.now()))
      this.#checkAwake()
    }
  }

  #checkAwake(): void {
    const { maxAwake, hooks } = this.plan.conditions
    const settling = hooks ? SETTLING.hooks : SETTLING.plain
    const now = this.clock.now()
    let atRest = 0
    let atWork = 0
    for (const known of this.known.values()) {
      if (known.asleep || known.session === undefined || known.session.end !== undefined) continue
      const works =
        known.needing.size > 0 || known.waking > 0 || known.calls.some(runs) || now - known.usedAt < GLANCE
      if (works) atWork += 1
      else atRest += 1
    }
    if (atRest === 0 || atRest + atWork <= maxAwake) this.#tooManySince = undefined
    else this.#tooManySince ??= now
    if (this.#tooManySince !== undefined && now - this.#tooManySince > settling) {
      this.recorder.violate(
        'what nothing uses sleeps, what is at work does not',
        `${atRest + atWork} awake, ${atWork} of them at work, ${maxAwake} may be`,
      )
      this.#tooManySince = now
    }
  }

  // The author

  async #author(context: ServerContext): Promise<Partial<FakeServerOptions>> {
    const { clock, recorder, random } = this
    const { session } = context
    const { hooks, failing } = this.plan.conditions
    const id = session.id ?? ''
    let known = this.known.get(id)
    if (!session.restored) {
      this.known.set(id, (known = newKnown(session.principal ?? '')))
    } else if (known === undefined) {
      recorder.violate('woken once, for what needs it', 'a session was woken that never opened')
      return {}
    }
    const model = known
    model.incarnations += 1
    if (session.principal !== model.owner)
      recorder.violate(
        'opened for the principal who asked',
        `${model.owner}'s is woken for ${session.principal}`,
      )
    if (session.restored) {
      recorder.stake('woken')
      if (model.needing.size > 1) recorder.stake('woken by several at once')
      if (model.needing.size === 0)
        recorder.violate('woken once, for what needs it', `${model.owner}'s session was woken for nothing`)
      if (model.waking > 0)
        recorder.violate('woken once, for what needs it', `${model.owner}'s session was woken twice at once`)
      model.waking += 1
      const { kept } = session.data as { kept?: number }
      if (kept !== model.incarnations - 1)
        recorder.violate('what a session is survives its instance', `${model.owner}'s session lost its data`)
    }
    session.data = { kept: model.incarnations }
    if (hooks) context.onSleep(() => clock.sleep(random.int(0, 30)))
    if (session.restored) {
      const after = random.weighted([
        [6, 0],
        [3, random.int(1, 80)],
        [failing, 700],
      ])
      if (after > 0) await clock.sleep(after)
      if (random.chance(failing)) {
        model.waking -= 1
        model.failedAt = clock.now()
        throw new Error('the factory fails')
      }
    }
    return {
      oninitialized: (server) => {
        if (session.restored)
          void server.transport?.send({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
      },
      oncall: (call) => {
        model.calls.push(call)
        model.session?.calls.push(call)
        const server = this.app.fakes.find(({ calls }) => calls.includes(call))
        if (session.restored && call.method === 'tools/call' && server !== undefined)
          for (const text of this.#replayed(server, model))
            recorder.violate('what a session is survives its instance', `${model.owner}'s server ${text}`)
      },
    }
  }

  /** What an instance must have been told before its first call. */
  #replayed(server: FakeServer, model: Known): string[] {
    const told = server.received as readonly { method?: string; params?: { level?: string; uri?: string } }[]
    const wrong: string[] = []
    if (told[0]?.method !== 'initialize' || told[1]?.method !== 'notifications/initialized')
      wrong.push('was given a call before its handshake')
    const level = told.findLast(({ method }) => method === 'logging/setLevel')?.params?.level
    if (level !== model.level) wrong.push(`has the log level ${level}, not ${model.level}`)
    const uris = told
      .filter(({ method }) => method === 'resources/subscribe')
      .map(({ params }) => params?.uri)
    for (const uri of model.subscriptions)
      if (!uris.includes(uri)) wrong.push(`does not know of the subscription to ${uri}`)
    if (model.level !== undefined || model.subscriptions.size > 0)
      this.recorder.stake('level or subscription replayed')
    return wrong
  }

  // What the app says of itself

  #subscribe(): void {
    const { clock, recorder } = this
    this.app.manager.sessions.subscribe((event) => {
      const model = this.known.get(event.session ?? '')
      if (model === undefined) return
      if (event.type === 'session.woken') {
        model.waking -= 1
        model.asleep = false
        model.usedAt = clock.now()
        recorder.note(`  ${model.owner}'s session is awake`)
      }
      if (event.type === 'session.slept') {
        model.asleep = true
        model.slept += 1
        recorder.stake('slept')
        if (clock.now() - model.usedAt < this.plan.conditions.sleepAfter) recorder.stake('slept to make room')
        recorder.note(`  ${model.owner}'s session sleeps`)
        const aborted = model.calls.some(
          ({ abortedAt, endedAt }) => abortedAt !== undefined && (endedAt ?? abortedAt) >= abortedAt,
        )
        if (aborted || model.calls.some(runs))
          recorder.violate(
            'what nothing uses sleeps, what is at work does not',
            `${model.owner}'s session slept under a running call`,
          )
      }
      if (event.type === 'session.closed') this.#onclosed(model, event.reason)
    })
  }

  #onclosed(model: Known, reason: string): void {
    const { clock, recorder } = this
    const { session } = model
    const now = clock.now()
    recorder.note(`  ${model.owner}'s session ended, ${reason}`)
    if (session === undefined) return
    if (session.end !== undefined) recorder.violate('opens once, ends once', `${model.owner}'s ended twice`)
    if (reason === 'idle') {
      if (model.asleep) recorder.stake('expired asleep')
      const holder = session.holder(now)
      if (holder !== undefined) recorder.violate('not under a hold', `${model.owner}'s ended under ${holder}`)
      const idle = now - session.lastHoldEnd().certain
      if (idle < session.timeout.length - 1e-6)
        recorder.violate(
          'not before its time',
          `${model.owner}'s ended after ${idle} of ${session.timeout.length} ms`,
        )
      const due = session.due()
      recorder.stake('expiry on time')
      if (due !== undefined && now - due > LATEST)
        recorder.violate('at most 250 ms late', `${model.owner}'s ended ${now - due} ms late`)
    } else if (reason !== 'deleted' && (reason !== 'shutdown' || !this.closing))
      recorder.violate('ends for the reason that applies', `${model.owner}'s ended as ${reason}`)
    session.end = { at: now, seq: recorder.seq, reason }
  }

  // The end

  /** What ended is asked for again. */
  async #askAgain(): Promise<void> {
    for (const { known, id, headers } of this.sleepers) {
      if (known?.session === undefined) continue
      const { end } = known.session
      if (end === undefined) {
        this.recorder.violate('at most 250 ms late', `${known.owner}'s session is still there`)
        continue
      }
      for (const message of [rpc('ping'), rpc('tools/list')]) {
        const exchange = this.app.post(id, message, headers)
        await this.clock.settle()
        this.recorder.stake('asked after the end')
        if (exchange.status !== 404)
          this.recorder.violate('only 404 after the end', `${known.owner} got ${exchange.status}`)
      }
    }
  }

  /** Calls that run when the app is about to close, of sessions that sleep as well. */
  async #lastCalls(): Promise<void> {
    for (const sleeper of this.sleepers) sleeper.lastCall()
    await this.#advance(5)
  }

  async #close(): Promise<void> {
    const { app, clock, recorder } = this
    const { drain } = this.plan.conditions
    this.closing = true
    const began = clock.now()
    let over = false
    recorder.stake('drained')
    recorder.note(`-- close, ${drain} ms for calls`)
    const closed = app.manager.close({ drain }).then(() => (over = true))
    const late = app.post(undefined, rpc('initialize', PARAMS), { authorization: 'Bearer late' })
    while (!over && clock.now() < began + drain + 2000) await clock.advance(drain === 0 ? 1 : 20)
    if (!over) recorder.violate('a drain ends in its time', `close() takes more than ${drain + 2000} ms`)
    else await closed
    if (late.status !== 503) recorder.violate('nothing opens in a drain', `initialize got ${late.status}`)
    for (const sleeper of this.sleepers) sleeper.checkLastCall()
  }

  /** What came: no change of a list, no number for two questions, no answer to somebody else's. */
  #checkMessages(): void {
    const { app, recorder } = this
    const asked = new Map<string, string>()
    for (const exchange of app.exchanges) {
      if (exchange.status !== 200 || exchange.text === '') continue
      for (const message of exchange.messages() as JsonRpcMessage[]) {
        if (!('method' in message)) continue
        if (message.method.endsWith('list_changed'))
          recorder.violate('what no call sent, in order', 'a change of replay leaked')
        if (message.method !== 'elicitation/create' || !('id' in message)) continue
        recorder.stake('asked the client')
        const key = `${String(exchange.headers['mcp-session-id'])} ${message.id}`
        const question = JSON.stringify(message.params)
        if ((asked.get(key) ?? question) !== question)
          recorder.violate('a number is given out once', `${message.id} stands for two questions`)
        asked.set(key, question)
      }
    }
    for (const fake of app.fakes) {
      // A question that its server gave up may be answered late, to the same server.
      const strange = fake.strayResponses.filter(({ id }) => typeof id !== 'number')
      if (strange.length > 0)
        recorder.violate(
          'messages of its own server only',
          `${fake.tag} was given answers that are not its own`,
        )
    }
  }
}

function newKnown(owner: string): Known {
  return {
    owner,
    incarnations: 0,
    waking: 0,
    asleep: false,
    slept: 0,
    level: undefined,
    subscriptions: new Set(),
    needing: new Set(),
    calls: [],
    failedAt: Number.NEGATIVE_INFINITY,
    usedAt: 0,
    session: undefined,
  }
}

function runs(call: FakeCall): boolean {
  return call.endedAt === undefined && call.abortedAt === undefined
}

/** One client with one session. */
class Sleeper {
  readonly headers: { authorization: string }
  id: string | undefined
  known: Known | undefined
  readonly #run: Run
  readonly #plan: SleepClient
  readonly #stream = new StreamModel()
  readonly #answered = new Set<unknown>()
  /** Notifications it must get, by number, and those it got. */
  #said = 0
  #heard = 0
  #get: SimExchange | undefined
  /** How often its session had slept when the GET's last event came. */
  #sleptAtEvent = 0
  #next = 0
  #last: { exchange: SimExchange; endsAt: number } | undefined

  constructor(run: Run, plan: SleepClient) {
    this.#run = run
    this.#plan = plan
    this.headers = { authorization: `Bearer ${plan.name}` }
  }

  /** Acts out its plan. */
  async run(): Promise<void> {
    const { clock } = this.#run
    await clock.sleep(this.#plan.begins)
    await this.#open()
    if (this.known === undefined) return
    for (const step of this.#plan.steps) {
      await clock.sleep(step.wait)
      if (this.known.session?.end !== undefined) return
      await this.#act(step)
    }
    await clock.sleep(3000)
    await this.#lastLook()
    this.#get?.drop()
    if (this.#plan.deletes && this.known.session?.end === undefined)
      await this.#hold(this.#run.app.delete(this.id ?? '', this.headers)).ended
  }

  /** A call while the app is about to close. */
  lastCall(): void {
    const { lastCall: duration } = this.#plan
    if (duration === undefined || this.known === undefined || this.known.session?.end !== undefined) return
    const { exchange } = this.#callTool({ duration, ask: 'none' })
    this.#last = { exchange, endsAt: this.#run.clock.now() + duration }
  }

  checkLastCall(): void {
    const { exchange } = this.#last ?? {}
    if (exchange === undefined) return
    const { recorder } = this.#run
    // One that the session could not be woken for.
    if (exchange.status === 503) return
    if (!exchange.text.includes('"result"'))
      recorder.violate(
        'calls finish in the drain',
        `${this.#plan.name} got ${exchange.status} ${exchange.text.slice(-200)}`,
      )
    else recorder.stake('call finished in the drain')
  }

  async #open(): Promise<void> {
    const { app, clock, known, recorder } = this.#run
    const opened = app.post(undefined, rpc('initialize', PARAMS), this.headers)
    await opened.ended
    const id = opened.responseHeaders['mcp-session-id'] ?? ''
    const model = known.get(id)
    if (model === undefined) {
      recorder.violate(
        'each request is answered as foreseen',
        `initialize was answered with ${opened.status}`,
      )
      return
    }
    this.id = id
    this.known = model
    model.usedAt = clock.now()
    model.session = new SessionModel(
      {
        name: this.#plan.name,
        id,
        tag: '',
        client: 0,
        principal: this.#plan.name,
        version: '2025-11-25',
        bornAt: opened.startedAt,
        openedAt: opened.answeredAt ?? clock.now(),
      },
      {
        sessionIdleTimeout: this.#run.plan.conditions.sessionIdleTimeout,
        unusedSessionTimeout: 300_000,
        handshakeTimeout: 60_000,
      },
    )
    model.session.held.push({ exchange: opened, bearing: 'request', uses: false, initializes: false, seq: 0 })
    const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }
    await this.#hold(app.post(id, initialized, this.headers), 'initialized').ended
  }

  /** The owner's exchanges are what holds its session. */
  #hold(exchange: SimExchange, kind: 'uses' | 'initialized' | 'answers' | 'plain' = 'plain'): SimExchange {
    this.known?.session?.held.push({
      exchange,
      bearing: kind === 'answers' ? 'ambiguous' : 'request',
      uses: kind === 'uses',
      initializes: kind === 'initialized',
      seq: 0,
    })
    return exchange
  }

  async #act(step: SleepStep): Promise<void> {
    const { app } = this.#run
    const { known, id = '', headers } = this
    if (known === undefined) return
    switch (step.do) {
      case 'call':
        await this.#callTool(step.call).done
        break
      case 'burst':
        await Promise.all(step.calls.map((call) => this.#callTool(call).done))
        break
      case 'get':
        this.#listen()
        break
      case 'drop':
        this.#get?.drop()
        break
      case 'ping':
        await this.#hold(app.post(id, rpc('ping'), headers)).ended
        break
      case 'notify':
        this.#said += 1
        app.manager.sessions
          .get(id)
          ?.notify('notifications/message', { level: 'emergency', data: { n: this.#said } })
        break
      case 'level':
        if (
          (await this.#need(rpc('logging/setLevel', { level: step.level }, (this.#next += 1))).done) === 200
        )
          known.level = step.level
        break
      case 'subscribe':
        if ((await this.#need(rpc('resources/subscribe', { uri: step.uri }, (this.#next += 1))).done) === 200)
          known.subscriptions.add(step.uri)
        break
      case 'steal':
        this.#steal(step)
    }
  }

  #callTool({ duration, ask }: SleepCall): { exchange: SimExchange; done: Promise<number | undefined> } {
    this.#next += 1
    const asks = ask === 'none' ? {} : { ask: { related: ask === 'related', timeout: 300 } }
    const plan = { tag: `${this.#plan.name} ${this.#next}`, duration, ...asks }
    return this.#need(rpc('tools/call', { name: 'run', arguments: plan }, this.#next))
  }

  /** Sends what needs the instance. */
  #need(message: object): { exchange: SimExchange; done: Promise<number | undefined> } {
    const { app } = this.#run
    const exchange = this.#watch(this.#hold(app.post(this.id, message, this.headers), 'uses'))
    return { exchange, done: this.#answerTo(exchange, (message as { id: unknown }).id) }
  }

  async #answerTo(exchange: SimExchange, wanted: unknown): Promise<number | undefined> {
    const { clock, recorder } = this.#run
    const { known } = this
    if (known === undefined) return undefined
    const began = clock.now()
    if (exchange.answeredAt === undefined) known.needing.add(exchange)
    void exchange.head.then(() => known.needing.delete(exchange))
    const outcome = await exchange.ended
    known.needing.delete(exchange)
    known.usedAt = clock.now()
    const { status } = exchange
    const took = clock.now() - began
    const gaveUp = took >= INITIALIZE_TIMEOUT - 1
    if (status === 503) {
      recorder.stake('waking failed')
      const justFailed =
        Math.min(began, clock.now()) - known.failedAt <= WAKE_PAUSE ||
        clock.now() - known.failedAt <= WAKE_PAUSE
      if (!justFailed && !gaveUp && !this.#run.closing)
        recorder.violate('503 for a reason only', `${known.owner} got 503, and no factory had failed`)
      else if (gaveUp) [known.failedAt, known.waking] = [clock.now(), 0]
    } else if (status === 404) {
      if (known.session?.end === undefined)
        recorder.violate('no 404 while it lives', `${known.owner} got 404`)
    } else if (outcome !== 'completed' || status !== 200)
      recorder.violate('each request is answered as foreseen', `${known.owner}: ${outcome} ${status}`)
    else {
      const last = exchange.messages().at(-1) as { id?: unknown; result?: unknown } | undefined
      if (last?.id === wanted && last?.result !== undefined) recorder.stake('call answered')
      else if (!this.#run.closing)
        recorder.violate('what was accepted is answered', `${known.owner}: no answer to ${String(wanted)}`)
    }
    return status
  }

  /** Answers what the server asks, now and then twice. */
  #watch(exchange: SimExchange): SimExchange {
    exchange.onevent = ({ data }) => data !== '' && this.#answer(data)
    return exchange
  }

  #answer(text: string): void {
    const { app, clock, random } = this.#run
    const message = JSON.parse(text) as { id?: unknown; method?: string }
    if (message.method !== 'elicitation/create' || this.#answered.has(message.id)) return
    this.#answered.add(message.id)
    const times = random.pick([1, 1, 2])
    for (let n = 0; n < times; n++)
      clock.after(random.int(0, 50) + n * 1500, () => {
        if (this.known?.session?.end !== undefined || this.#run.closing) return
        this.#hold(app.post(this.id, { jsonrpc: '2.0', id: message.id, result: {} }, this.headers), 'answers')
      })
  }

  // Its stream

  #listen(): void {
    const { app, recorder } = this.#run
    this.#get?.drop()
    const cursor = this.#stream.cursors.at(-1)
    const connection = cursor === undefined ? this.#stream.open() : this.#stream.resume(cursor)
    const slept = this.known?.slept ?? 0
    if (cursor !== undefined && slept > this.#sleptAtEvent) recorder.stake('resumed over a sleep')
    const exchange = this.#hold(app.get(this.id ?? '', { ...this.headers, 'last-event-id': cursor }), 'uses')
    this.#get = exchange
    for (const event of exchange.events) this.#take(connection, event)
    exchange.onevent = (event) => this.#take(connection, event)
  }

  #take(connection: StreamConnection, event: SimEvent): void {
    const { recorder } = this.#run
    // Asks for a sign of life, and is no part of the stream.
    if (event.id === undefined && event.data.includes('"ping"')) return
    const before = this.#stream.known.length
    const wrong = this.#stream.take(connection, event, false)
    if (wrong !== undefined) recorder.violate('each event once, in order', `${this.#plan.name}: ${wrong}`)
    if (event.data !== '') this.#answer(event.data)
    const slept = this.known?.slept ?? 0
    if (slept > this.#sleptAtEvent && event.data !== '') recorder.stake('event over a sleep')
    this.#sleptAtEvent = slept
    const n = Number(/"n":(\d+)/.exec(event.data)?.[1] ?? 0)
    if (n === 0 || this.#stream.known.length === before) return
    if (n !== this.#heard + 1)
      recorder.violate(
        'what no call sent, in order',
        `${this.#plan.name}: ${n} came where ${this.#heard + 1} was due`,
      )
    this.#heard = n
  }

  /** In the end everything that was said has been heard. */
  async #lastLook(): Promise<void> {
    const { clock, recorder } = this.#run
    if (this.known?.session?.end !== undefined) return
    this.#get?.drop()
    await clock.sleep(1)
    this.#listen()
    await clock.sleep(50)
    if (this.#get?.status !== 200) return
    if (this.#heard !== this.#said)
      recorder.violate(
        'what no call sent, in order',
        `${this.#plan.name} heard ${this.#heard} of ${this.#said}`,
      )
  }

  // What it has no right to

  #steal(step: SleepStep & { do: 'steal' }): void {
    const { app, recorder, sleepers } = this.#run
    const victim = sleepers[step.victim]
    if (victim === undefined || victim === this || victim.known === undefined) return
    if (victim.known.asleep) recorder.stake('foreign attempt on a sleeper')
    const unknown = 'A'.repeat(32)
    const attempt = (id: string): SimExchange => {
      if (step.method === 'GET') return app.get(id, this.headers)
      if (step.method === 'DELETE') return app.delete(id, this.headers)
      return app.post(id, rpc('tools/list'), this.headers)
    }
    const exchanges = [attempt(victim.id ?? ''), attempt(unknown)]
    void Promise.all(exchanges.map(({ ended }) => ended)).then(() => {
      const [foreign, none] = exchanges.map(({ status, responseHeaders, text }) =>
        JSON.stringify([status, responseHeaders, text]),
      )
      if (foreign !== none)
        recorder.violate(
          'foreign and unknown get the same bytes',
          `${foreign}, but nobody's is answered ${none}`,
        )
    })
  }
}
