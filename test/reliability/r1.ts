/** R1: never early. Commands at random (fast-check) against a session manager over a slow store, and a model that knows only what holds a session. */

import { availableParallelism } from 'node:os'

import fc from 'fast-check'

import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import { MemorySessionStore } from '../../src/store/memory-store.ts'
import type {
  JsonRpcMessage,
  Logger,
  McpServerLike,
  RequestId,
  ServerContext,
  ServerTransport,
} from '../../src/types.ts'
import { LATEST, type ModelCall, SessionModel } from '../simulation/session-model.ts'
import { share } from '../simulation/sharing.ts'
import { SlowStore } from '../simulation/slow-store.ts'
import { initialize, notification, rpc } from '../support/mcp-wire.ts'
import { type SimBody, SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { type Chaos, count, type Findings, type Progress, seconds } from './chaos.ts'

/** What commands counted. */
interface Counts {
  runs: number
  /** Commands that were executed. */
  commands: number
  sessions: number
  /** Sessions that ended for being idle; each was compared with its model. */
  expired: number
  /** Those of them that slept. */
  asleep: number
  early: number
  underHold: number
  /** Those of them whose end was due at a known moment. */
  timed: number
  late: number
}

/** What a run found. */
interface R1Findings extends Findings, Counts {
  readonly seed: number
  /** Given commands were executed once more: no figures. */
  readonly replayed: boolean
  readonly seconds: number
}

/** How much of it. */
export interface R1Size {
  readonly seed: number
  /** Commands in all: so many runs of `steps` have as many. */
  readonly runs: number
  /** How long a run is in the middle: lengths are drawn up to twice that. */
  readonly steps: number
  /** Processes; default 1. */
  readonly jobs?: number
}

/** A piece of work: plain data. */
export interface R1Chunk {
  readonly seed: number
  readonly commands: number
  readonly steps: number
}

/** What came of a piece. */
interface R1Result extends Counts {
  readonly violations: readonly string[]
}

/** How long a session may be idle, in milliseconds. */
const IDLE = 1000

/** How long an instance may be, in milliseconds. */
const SLEEP = 1200

/** Sessions at a time. */
const SESSIONS = 3

/** Commands of one run, in the middle. */
const STEPS = 1000

/** Runs of one piece of work. */
const RUNS_PER_CHUNK = 20

/** How long a failure is shrunk at most, in milliseconds. */
const SHRINKING = 60_000

/** How long an operation of the store takes at most, in milliseconds. */
const SLOWEST = 300

/** Rounding of sums of times, in milliseconds. */
const ROUNDING = 1e-6

const TIMES = {
  sessionIdleTimeout: IDLE,
  unusedSessionTimeout: Number.POSITIVE_INFINITY,
  handshakeTimeout: Number.POSITIVE_INFINITY,
}

const HEADERS = {
  host: 'localhost',
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
}

const nothing = (): void => {}
const QUIET: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing }

function noCounts(): Counts {
  return {
    runs: 0,
    commands: 0,
    sessions: 0,
    expired: 0,
    asleep: 0,
    early: 0,
    underHold: 0,
    timed: 0,
    late: 0,
  }
}

function add(sum: Counts, more: Counts): void {
  for (const name of Object.keys(sum) as (keyof Counts)[]) sum[name] += more[name]
}

/** A call that runs until it is told to end. */
interface HeldCall extends ModelCall {
  readonly id: RequestId
  /** The id that its client knows. */
  readonly number: number
}

/** A server whose calls end when they are told to. */
class HeldServer implements McpServerLike {
  readonly calls: HeldCall[] = []
  readonly #clock: VirtualClock
  readonly #oncall: (call: HeldCall) => void
  #transport: ServerTransport | undefined

  constructor(clock: VirtualClock, oncall: (call: HeldCall) => void) {
    this.#clock = clock
    this.#oncall = oncall
  }

  async connect(transport: ServerTransport): Promise<void> {
    this.#transport = transport
    transport.onmessage = (message: JsonRpcMessage) => this.#onmessage(message)
    await transport.start()
  }

  /** Answers a call. */
  end(call: HeldCall): void {
    call.endedAt = this.#clock.now()
    this.#forget(call)
    this.#answer(call.id, { content: [] })
  }

  async close(): Promise<void> {
    for (const call of this.calls) call.abortedAt = this.#clock.now()
    this.calls.length = 0
    const transport = this.#transport
    this.#transport = undefined
    await transport?.close()
  }

  #onmessage(message: JsonRpcMessage): void {
    if (!('method' in message)) return
    const { method, params = {} } = message
    if (method === 'notifications/cancelled') {
      const call = this.calls.find(({ id }) => id === params['requestId'])
      if (call === undefined) return
      call.abortedAt = this.#clock.now()
      this.#forget(call)
    }
    if (!('id' in message)) return
    const id = message.id as RequestId
    if (method === 'initialize') {
      const { protocolVersion } = params as { protocolVersion?: unknown }
      const serverInfo = { name: 'held', version: '1' }
      this.#answer(id, { protocolVersion, capabilities: { tools: {} }, serverInfo })
      return
    }
    if (method !== 'tools/call') {
      this.#answer(id, {})
      return
    }
    const { n: number } = params['arguments'] as { n: number }
    const call: HeldCall = {
      id,
      number,
      method,
      plan: undefined,
      asked: undefined,
      startedAt: this.#clock.now(),
      endedAt: undefined,
      abortedAt: undefined,
    }
    this.calls.push(call)
    this.#oncall(call)
  }

  #forget(call: HeldCall): void {
    this.calls.splice(this.calls.indexOf(call), 1)
  }

  #answer(id: RequestId, result: Record<string, unknown>): void {
    void this.#transport?.send({ jsonrpc: '2.0', id, result })
  }
}

/** A session and what its client has open. */
interface Kept {
  readonly model: SessionModel
  server: HeldServer
  /** Exchanges whose connection stands. */
  readonly open: Set<SimExchange>
  /** The last event id that its client was given. */
  cursor: string | undefined
  asleep: boolean
}

/** What decides whether a command is possible; the model of fast-check. */
interface Model {
  readonly slots: readonly (Kept | undefined)[]
}

/** The production code, and what became of it. */
class Real {
  readonly clock: VirtualClock
  readonly slots: (Kept | undefined)[] = Array.from({ length: SESSIONS }, () => undefined)
  /** How long each operation of the store takes from now on, in milliseconds. */
  storeDelay = 0
  /** How much timers are late from now on, or early. */
  skew = 0
  /** The first promise that was broken. */
  wrong: string | undefined
  /** Until when a slow store or a blocked event loop may have put things off. */
  putOffUntil = Number.NEGATIVE_INFINITY
  /** What happened, where somebody wants to know. */
  readonly history: string[] = []
  readonly #manager: StreamableHTTPSessionManager
  readonly #counts: Counts
  readonly #servers = new Map<string, HeldServer>()
  #seq = 0
  #calls = 0

  constructor(counts: Counts) {
    this.#counts = counts
    this.clock = new VirtualClock({ start: 0, turns: 1, skew: () => this.skew })
    const { clock } = this
    const store = new SlowStore(new MemorySessionStore({ clock }), () => this.#storeWorks())
    this.#manager = new StreamableHTTPSessionManager((context) => this.#createServer(context), {
      ...TIMES,
      clock,
      store,
      sleepAfter: SLEEP,
      detachedRequestTimeout: Number.POSITIVE_INFINITY,
      keepAliveInterval: Number.POSITIVE_INFINITY,
      logger: QUIET,
    })
    this.#manager.sessions.subscribe((event) => {
      const kept = this.slots.find((one) => one?.model.id === event.session)
      if (event.type === 'session.slept' && kept !== undefined) kept.asleep = true
      if (event.type === 'session.woken' && kept !== undefined) kept.asleep = false
      if (event.type !== 'session.closed' || kept === undefined) return
      this.note(`${kept.model.name} ended, ${event.reason}`)
      this.slots[this.slots.indexOf(kept)] = undefined
      if (event.reason === 'idle') this.#checkEnd(kept)
    })
  }

  note(text: string): void {
    this.history.push(`${this.clock.now().toFixed(1).padStart(10)}  ${text}`)
  }

  async #storeWorks(): Promise<void> {
    const { storeDelay, clock } = this
    if (storeDelay > 0) await clock.sleep(storeDelay)
    if (storeDelay > 0) this.putOffUntil = clock.now()
  }

  #createServer({ session }: ServerContext): HeldServer {
    const id = session.id ?? ''
    const server = new HeldServer(this.clock, (call) => this.#kept(id)?.model.calls.push(call))
    this.#servers.set(id, server)
    const kept = this.#kept(id)
    if (kept !== undefined) kept.server = server
    return server
  }

  #kept(id: string): Kept | undefined {
    return this.slots.find((kept) => kept?.model.id === id)
  }

  /** A session ended for being idle: was it? */
  #checkEnd({ model, asleep }: Kept): void {
    const now = this.clock.now()
    this.#counts.expired += 1
    if (asleep) this.#counts.asleep += 1
    const holder = model.holder(now)
    const idle = now - model.lastHoldEnd().certain
    if (holder !== undefined) {
      this.#counts.underHold += 1
      this.wrong ??= `a session ended under ${holder}`
    } else if (idle < IDLE - ROUNDING) {
      this.#counts.early += 1
      this.wrong ??= `a session ended ${idle} ms after its last hold, its timeout is ${IDLE} ms`
    }
    this.#checkLate(model)
  }

  #checkLate(model: SessionModel): void {
    const due = model.due()
    // The request of an answer that a slow store has yet to keep runs on.
    if (due === undefined || this.putOffUntil >= due - IDLE) return
    this.#counts.timed += 1
    const late = this.clock.now() - due
    if (late <= LATEST) return
    this.#counts.late += 1
    this.wrong ??= `a session is ${late} ms late`
  }

  #send(method: string, id: string | undefined, body?: SimBody, headers: object = {}): SimExchange {
    const exchange = new SimExchange(this.clock, {
      method,
      headers: { ...HEADERS, ...headers, ...(id === undefined ? {} : { 'mcp-session-id': id }) },
      ...(body === undefined ? {} : { body }),
    })
    this.#manager.handle(exchange).catch((thrown: unknown) => (this.wrong ??= `handle() rejected: ${thrown}`))
    return exchange
  }

  /** Sends something on a session. */
  send(kept: Kept, method: string, body?: SimBody, headers: object = {}): void {
    this.#hold(kept, this.#send(method, kept.model.id, body, headers))
  }

  /** Starts a call. */
  call(kept: Kept): void {
    const number = ++this.#calls
    this.send(
      kept,
      'POST',
      JSON.stringify(rpc('tools/call', { name: 'run', arguments: { n: number } }, number)),
    )
  }

  #hold(kept: Kept, exchange: SimExchange): void {
    const { model, open } = kept
    // Whether it was used changes nothing: both timeouts of the model are the same here.
    model.held.push({ exchange, bearing: 'request', uses: false, initializes: false, seq: ++this.#seq })
    open.add(exchange)
    exchange.onevent = ({ id }) => (kept.cursor = id ?? kept.cursor)
    void exchange.ended.then(() => open.delete(exchange))
  }

  async open(slot: number): Promise<void> {
    const { clock } = this
    const exchange = this.#send('POST', undefined, JSON.stringify(initialize()))
    await clock.settle()
    // A slow store has to be told before a session is open.
    for (let waits = 0; exchange.outcome === undefined && waits < 100; waits++) await clock.advance(100)
    const id = exchange.responseHeaders['mcp-session-id']
    const server = this.#servers.get(id ?? '')
    if (id === undefined || server === undefined) {
      this.wrong ??= `initialize got ${exchange.status} ${exchange.text}`
      return
    }
    this.#counts.sessions += 1
    const model = new SessionModel(
      {
        name: `S${this.#counts.sessions}`,
        id,
        tag: 'held',
        client: slot,
        principal: undefined,
        version: '2025-11-25',
        bornAt: exchange.startedAt,
        openedAt: exchange.answeredAt ?? clock.now(),
      },
      TIMES,
    )
    const kept: Kept = { model, server, open: new Set(), cursor: undefined, asleep: false }
    this.slots[slot] = kept
    this.#hold(kept, exchange)
    this.note(`${model.name} opened`)
    this.send(kept, 'POST', JSON.stringify(notification('notifications/initialized')))
  }

  /** Lets everything go: then every session ends, and nothing is left. */
  async finish(): Promise<void> {
    const { clock } = this
    this.storeDelay = 0
    this.skew = 0
    // The operation that is under way, and those that waited for it.
    await clock.advance(SLOWEST)
    for (const kept of this.slots) {
      for (const call of [...(kept?.server.calls ?? [])]) kept?.server.end(call)
      for (const exchange of [...(kept?.open ?? [])]) exchange.drop()
    }
    await clock.advance(IDLE + LATEST)
    for (const kept of this.slots)
      if (kept !== undefined) this.wrong ??= `nothing holds a session, and it does not end`
  }

  async close(): Promise<void> {
    let over = false
    void this.#manager.close().then(() => (over = true))
    for (let turn = 0; turn < 100 && !over; turn++) await this.clock.advance(300)
    if (!over) this.wrong ??= 'close() does not end'
  }

  admin(kept: Kept): void {
    void this.#manager.sessions.close(kept.model.id)
  }
}

/** What one kind of command does to a session, or to the world around all of them. */
interface Action {
  readonly weight: number
  readonly values?: fc.Arbitrary<number>
  /** On a session; where there is none it is opened instead. */
  on?(real: Real, kept: Kept, value: number): unknown
  /** Whether there is anything to do; always unless said. */
  possible?(kept: Kept): boolean
  all?(real: Real, value: number): unknown
}

/** Bodies and headers that are refused. */
const REFUSED: readonly (readonly [body: SimBody, headers: object])[] = [
  ['{"jsonrpc":', {}],
  [JSON.stringify(rpc('tools/list')), { accept: 'text/html' }],
  [JSON.stringify(rpc('tools/list')), { 'mcp-protocol-version': '1999-01-01' }],
  [
    [
      { after: IDLE / 4, bytes: '{"json' },
      { after: IDLE, bytes: 'rpc' },
    ],
    {},
  ],
]

/** Everything that may happen, by its name. */
const ACTIONS: Readonly<Record<string, Action>> = {
  request: { weight: 6, on: (real, kept) => real.call(kept) },
  end: {
    weight: 7,
    possible: ({ server }) => server.calls.length > 0,
    on: (_, { server }) => {
      const [call] = server.calls
      if (call !== undefined) server.end(call)
    },
  },
  cancel: {
    weight: 1,
    possible: ({ server }) => server.calls.length > 0,
    on: (real, kept) => {
      const params = { requestId: kept.server.calls.at(-1)?.number }
      real.send(kept, 'POST', JSON.stringify(notification('notifications/cancelled', params)))
    },
  },
  upload: {
    weight: 2,
    values: fc.constantFrom(1, IDLE - 1, IDLE + 1, 3 * IDLE),
    on: (real, kept, value) => {
      const text = JSON.stringify(rpc('tools/list'))
      real.send(kept, 'POST', [
        { after: 0, bytes: text.slice(0, 9) },
        { after: value, bytes: text.slice(9) },
      ])
    },
  },
  ping: { weight: 2, on: (real, kept) => real.send(kept, 'POST', JSON.stringify(rpc('ping'))) },
  notify: {
    weight: 1,
    on: (real, kept) =>
      real.send(kept, 'POST', JSON.stringify(notification('notifications/roots/list_changed'))),
  },
  refused: {
    weight: 4,
    values: fc.nat(REFUSED.length - 1),
    on: (real, kept, value) => {
      const [body = '', headers = {}] = REFUSED[value] ?? []
      real.send(kept, 'POST', body, headers)
    },
  },
  stream: { weight: 3, on: (real, kept) => real.send(kept, 'GET') },
  resume: {
    weight: 2,
    possible: ({ cursor }) => cursor !== undefined,
    on: (real, kept) => real.send(kept, 'GET', undefined, { 'last-event-id': kept.cursor }),
  },
  disconnect: {
    weight: 6,
    possible: ({ open }) => open.size > 0,
    on: (_, { open }) => [...open][0]?.drop(),
  },
  'disconnect-all': {
    weight: 3,
    possible: ({ open }) => open.size > 0,
    on: (_, { open }) => {
      for (const exchange of [...open]) exchange.drop()
    },
  },
  delete: { weight: 0.3, on: (real, kept) => real.send(kept, 'DELETE') },
  admin: { weight: 0.1, on: (real, kept) => real.admin(kept) },
  // To a moment around the end, as far as it can be known now.
  until: {
    weight: 6,
    values: fc.constantFrom(-1, -0.25, 0, 0.25, 1),
    possible: ({ model }) => model.expectedEnd() !== undefined,
    on: async ({ clock }, { model }, value) => {
      const left = (model.expectedEnd() ?? 0) + value - clock.now()
      if (left > 0) await clock.advance(left)
    },
  },
  advance: {
    weight: 9,
    values: fc.oneof(fc.constantFrom(0, 1, 10, SLEEP, IDLE / 2, IDLE - 1, IDLE, IDLE + 1), fc.nat(2 * IDLE)),
    all: ({ clock }, value) => clock.advance(value),
  },
  'slow-store': {
    weight: 2,
    values: fc.constantFrom(0, 0, 1, 40, SLOWEST),
    all: (real, value) => (real.storeDelay = value),
  },
  timers: {
    weight: 1,
    values: fc.constantFrom(0, 0, -0.9, 3, 15),
    all: (real, value) => (real.skew = value),
  },
  block: {
    weight: 0.5,
    values: fc.constantFrom(10, IDLE / 2, 2 * IDLE),
    all: (real, value) => {
      real.clock.jump(value)
      real.putOffUntil = real.clock.now()
    },
  },
  wall: {
    weight: 0.5,
    values: fc.constantFrom(-3_600_000, 3_600_000, 86_400_000),
    all: ({ clock }, value) => clock.stepWall(value),
  },
}

/** One command, which its text says in full: `request 0`, `advance 1000`. */
class Step implements fc.AsyncCommand<Model, Real> {
  readonly #action: Action
  readonly #counts: Counts
  readonly #name: string
  readonly #slot: number | undefined
  readonly #value: number | undefined

  constructor(counts: Counts, name: string, numbers: readonly number[]) {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action === undefined)
      throw new RangeError(`there is no command '${name}'; there is ${Object.keys(ACTIONS).join(', ')}`)
    const [slot, value] = action.on === undefined ? [undefined, numbers[0]] : numbers
    const wanted = [
      ...(action.on === undefined ? [] : [`a session from 0 to ${SESSIONS - 1}`]),
      ...(action.values === undefined ? [] : ['a number']),
    ]
    const known = action.on === undefined || (slot !== undefined && slot >= 0 && slot < SESSIONS)
    if (!known || numbers.some(Number.isNaN) || numbers.length !== wanted.length)
      throw new RangeError(
        `'${name}' takes ${wanted.length === 0 ? 'nothing' : wanted.join(' and ')}, got '${numbers.join(' ')}'`,
      )
    this.#action = action
    this.#counts = counts
    this.#name = name
    this.#slot = slot
    this.#value = value
  }

  /** Reads {@link Step.toString} back. */
  static parse(counts: Counts, text: string): Step {
    const [name = '', ...numbers] = text.trim().split(/\s+/)
    return new Step(counts, name, numbers.map(Number))
  }

  check({ slots }: Model): boolean {
    const kept = this.#slot === undefined ? undefined : slots[this.#slot]
    return kept === undefined || (this.#action.possible?.(kept) ?? true)
  }

  async run(_: Model, real: Real): Promise<void> {
    this.#counts.commands += 1
    real.note(`> ${this.toString()}`)
    const { on, all } = this.#action
    const kept = this.#slot === undefined ? undefined : real.slots[this.#slot]
    if (all !== undefined) await all(real, this.#value ?? 0)
    else if (kept !== undefined) await on?.(real, kept, this.#value ?? 0)
    else await real.open(this.#slot ?? 0)
    await real.clock.settle()
    if (real.wrong !== undefined) throw new Error(real.wrong)
  }

  toString(): string {
    return [this.#name, this.#slot, this.#value].filter((part) => part !== undefined).join(' ')
  }
}

function anyCommands(counts: Counts, steps: number): fc.Arbitrary<Iterable<fc.AsyncCommand<Model, Real>>> {
  const slot = fc.nat(SESSIONS - 1)
  const kinds = Object.entries(ACTIONS).map(([name, { weight, on, values }]) => {
    const numbers: fc.Arbitrary<number[]> = fc
      .tuple(on === undefined ? fc.constant(undefined) : slot, values ?? fc.constant(undefined))
      .map((drawn) => drawn.filter((number) => number !== undefined))
    return {
      weight: Math.round(weight * 10),
      arbitrary: numbers.map((drawn) => new Step(counts, name, drawn)),
    }
  })
  return fc.commands([fc.oneof(...kinds)], { maxCommands: 2 * steps, size: 'max' })
}

/** One run. Rejects where a promise was broken. */
async function runOnce(
  counts: Counts,
  commands: Iterable<fc.AsyncCommand<Model, Real>>,
  onhistory: (lines: readonly string[]) => void = () => {},
): Promise<void> {
  counts.runs += 1
  const real = new Real(counts)
  try {
    await fc.asyncModelRun(() => ({ model: { slots: real.slots }, real }), commands)
    await real.finish()
  } finally {
    await real.close()
    onhistory(real.history)
  }
  if (real.wrong !== undefined) throw new Error(real.wrong)
}

/** Runs as many commands as a piece of work has. A failure is shrunk to the fewest that still show it. */
export async function runChunk({ seed, commands, steps }: R1Chunk): Promise<R1Result> {
  const sum = noCounts()
  const violations: string[] = []
  // Lengths are drawn: so many runs more or less.
  for (let batch = 0; sum.commands < commands && violations.length === 0; batch++) {
    const counts = noCounts()
    // What shrinking runs is not counted.
    let done: Counts | undefined
    const details = await fc.check(
      fc.asyncProperty(anyCommands(counts, steps), async (chosen) => {
        try {
          await runOnce(counts, chosen)
        } catch (thrown) {
          done ??= { ...counts }
          throw thrown
        }
      }),
      {
        numRuns: 5,
        seed: seed * 1000 + batch,
        interruptAfterTimeLimit: SHRINKING,
        markInterruptAsFailure: true,
      },
    )
    add(sum, done ?? counts)
    if (details.failed)
      violations.push(
        `${messageOf(details.errorInstance)} (seed ${details.seed}, path ${details.counterexamplePath}): ` +
          `npm run chaos -- r1 --commands '${textOf(details.counterexample?.[0])}'`,
      )
  }
  return { ...sum, violations }
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}

/** The commands that ran, without what fast-check adds to them. */
function textOf(commands: unknown): string {
  return String(commands)
    .replace(/\/\*.*\*\//, '')
    .replaceAll(',', '; ')
    .trim()
}

/** Runs `runs` × `steps` commands. */
export async function r1(
  { seed, runs, steps, jobs = 1 }: R1Size,
  progress: Progress = () => {},
): Promise<R1Findings> {
  const started = performance.now()
  const sum = noCounts()
  const violations: string[] = []
  const all = runs * steps
  const chunks = function* (): Generator<R1Chunk> {
    for (let first = 0; first < runs && violations.length === 0; first += RUNS_PER_CHUNK)
      yield { seed: seed + first, commands: Math.min(RUNS_PER_CHUNK, runs - first) * steps, steps }
  }
  const take = (_: R1Chunk, result: R1Result): void => {
    add(sum, result)
    violations.push(...result.violations)
    const left = ((performance.now() - started) / sum.commands) * Math.max(0, all - sum.commands)
    progress(`R1: ${count(sum.commands)} of ${count(all)} commands, about ${Math.ceil(left / 1000)} s left`)
  }
  await share({
    chunks: chunks(),
    jobs,
    run: runChunk,
    worker: new URL('r1-worker.ts', import.meta.url),
    take,
  })
  return { seed, replayed: false, ...sum, seconds: (performance.now() - started) / 1000, violations }
}

/** Runs the commands of a text as {@link r1} prints them, and tells what happened. */
export async function replay(text: string, tell: (line: string) => void = () => {}): Promise<R1Findings> {
  const started = performance.now()
  const counts = noCounts()
  const violations: string[] = []
  const commands = text.split(';').map((one) => Step.parse(counts, one))
  try {
    await runOnce(counts, commands, (lines) => lines.forEach(tell))
  } catch (thrown) {
    violations.push(messageOf(thrown))
  }
  return {
    seed: 0,
    replayed: true,
    ...counts,
    seconds: (performance.now() - started) / 1000,
    violations,
  }
}

/** What the gate runs. */
export const R1_SHORT: Omit<R1Size, 'seed'> = { runs: 100, steps: 200 }

/** `npm run chaos -- r1` */
export const chaos: Chaos<R1Findings> = {
  name: 'r1',
  help: [
    ['', '10,000,000 random commands in runs of about 1,000, against a model of what holds a session'],
    ['--runs 500', 'as many as so many runs of 1,000 have'],
    ['--jobs 1', 'in one process instead of two'],
    ['--short', '20,000 commands in runs of about 200'],
    ["--commands 'request 0; end 0'", 'these commands, and what happens; nothing is kept'],
  ],
  options: {
    runs: { type: 'string', default: '10000' },
    jobs: { type: 'string', default: String(Math.min(2, availableParallelism())) },
    commands: { type: 'string' },
  },
  run(args, progress) {
    const text = args.text('commands')
    if (text !== undefined) return replay(text, (line) => process.stdout.write(`${line}\n`))
    const size = args.short ? R1_SHORT : { runs: args.count('runs'), steps: STEPS, jobs: args.count('jobs') }
    return r1({ ...size, seed: args.seed }, progress)
  },
  tell: ({ runs, commands, sessions, expired, asleep, early, underHold, timed, late, seconds: took }) =>
    `R1: ${count(commands)} commands in ${count(runs)} runs, ${count(sessions)} sessions, ${count(expired)} expired, ` +
    `${count(asleep)} of them asleep: ${early} early, ${underHold} with a hold, ${late} of ${count(timed)} late; ${seconds(took * 1000)}`,
  key: ({ replayed }) => (replayed ? undefined : 'r1'),
  row: ({ runs, commands, expired, early, underHold }) => ({
    test: 'R1 · 1, 2',
    done: `${count(commands)} random commands in ${count(runs)} runs (request, end, cancel, stream, resume, disconnect, advance, slow store, blocked event loop …) against a model of what holds a session`,
    came: `of ${count(expired)} sessions that expired ${early} early, ${underHold} with a hold`,
  }),
}
