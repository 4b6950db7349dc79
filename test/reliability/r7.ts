/** R7: requests aimed at ±2 ms around expiry, in this process on virtual time and over HTTP on real time. */

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { httpApp } from '../../src/http-app.ts'
import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import { FakeServer } from '../support/fake-server.ts'
import { initialize, notification, post, rpc } from '../support/mcp-wire.ts'
import { RawConnection, type RawResponse } from '../support/raw-http.ts'
import { type SimBody, SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { Random } from '../simulation/random.ts'
import { type Chaos, count, type Findings } from './chaos.ts'

/** Half the width of what is aimed at, in milliseconds. */
const AIM = 2

/** What a run counted. Everything under `violations` breaks a promise; the rest says what was at stake. */
export interface R7Result {
  requests: number
  /** Requests that were served: 200, 202, 204, or a refusal of their own by a living session. */
  served: number
  /** Requests that got a clean 404. */
  notFound: number
  /** Sessions that were opened; each must close once. */
  sessions: number
  /** How often a request came after the deadline and was served, since expiry was late or waited. */
  servedLate: number
  /** Latest that a session ended after its deadline, in milliseconds. */
  latest: number
  seconds: number
  readonly violations: string[]
}

function emptyResult(): R7Result {
  return {
    requests: 0,
    served: 0,
    notFound: 0,
    sessions: 0,
    servedLate: 0,
    latest: 0,
    seconds: 0,
    violations: [],
  }
}

/** How a run shows that it goes on. */
export type OnProgress = (text: string) => void

/** Many violations say no more than some. */
const MOST_VIOLATIONS = 20

function violate(result: R7Result, text: string): void {
  if (result.violations.length < MOST_VIOLATIONS) result.violations.push(text)
}

// In this process

const SIM_IDLE = 1000
const SIM_CLIENTS = 400

/** How late a timer of the simulated platform may be, in milliseconds; and with it the end of a session. */
const SKEW = 3

/** A request that was aimed, and what it is to the clock of its session. */
interface Aimed {
  readonly exchange: SimExchange
  readonly kind: Kind
}

type Kind =
  | 'request'
  | 'ping'
  | 'notification'
  | 'call'
  | 'get'
  | 'upload'
  | 'bad-version'
  | 'bad-json'
  | 'bad-upload'
  | 'delete'

/** Kinds that are refused by a living session, and buy it no time. */
const REFUSED: ReadonlySet<Kind> = new Set<Kind>(['bad-version', 'bad-json', 'bad-upload'])

const KINDS: readonly (readonly [Kind, number])[] = [
  ['request', 8],
  ['ping', 2],
  ['notification', 2],
  ['call', 4],
  ['get', 2],
  ['upload', 3],
  ['bad-version', 1],
  ['bad-json', 1],
  ['bad-upload', 1],
  ['delete', 0.2],
]

const KIND_SUM = KINDS.reduce((sum, [, weight]) => sum + weight, 0)

const HEADERS = {
  host: 'localhost',
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
}

/** `requests` requests on virtual time; the same seed gives the same run. */
export async function r7InProcess(
  requests: number,
  seed: number,
  onProgress: OnProgress = () => {},
): Promise<R7Result> {
  const run = new SimRun(requests, seed)
  return run.run(onProgress)
}

class SimRun {
  readonly #result = emptyResult()
  readonly #random: Random
  readonly #clock: VirtualClock
  readonly #manager: StreamableHTTPSessionManager
  readonly #closedAt = new Map<string, number>()
  #left: number

  constructor(requests: number, seed: number) {
    this.#left = requests
    const random = new Random(seed)
    this.#random = random
    this.#clock = new VirtualClock({
      start: 0,
      skew: () => (random.next() < 0.5 ? 0 : random.next() * (SKEW + 1) - 1),
      tieBreak: () => random.next(),
    })
    this.#manager = new StreamableHTTPSessionManager(
      () => new FakeServer({ clock: this.#clock, tag: 'fake' }),
      {
        clock: this.#clock,
        sessionIdleTimeout: SIM_IDLE,
        unusedSessionTimeout: Number.POSITIVE_INFINITY,
        handshakeTimeout: Number.POSITIVE_INFINITY,
        maxSessions: Number.POSITIVE_INFINITY,
      },
    )
  }

  async run(onProgress: OnProgress): Promise<R7Result> {
    const result = this.#result
    const started = performance.now()
    const { sessions } = this.#manager
    sessions.subscribe((event) => {
      if (event.type !== 'session.closed' || event.session === undefined) return
      if (this.#closedAt.has(event.session)) violate(result, 'a session closed twice')
      this.#closedAt.set(event.session, this.#clock.now())
    })
    const total = this.#left
    let working = SIM_CLIENTS
    for (let n = 0; n < SIM_CLIENTS; n++) void this.#client().finally(() => (working -= 1))
    while (working > 0) {
      const before = this.#clock.now()
      await this.#clock.advance(SIM_IDLE)
      onProgress(
        `R7 in process: ${total - this.#left} of ${total} requests, ${result.sessions} sessions, ${result.violations.length} violations`,
      )
      if (this.#clock.now() - before <= 0 || this.#clock.now() > (total + 1000) * SIM_IDLE) {
        violate(result, `${working} clients hang`)
        break
      }
    }
    await this.#clock.advance(10 * SIM_IDLE)
    const { counts } = sessions
    if (counts.total + counts.opening + counts.requests > 0)
      violate(result, `left: ${JSON.stringify(counts)}`)
    await this.#manager.close()
    if (this.#clock.pending > 0) violate(result, `${this.#clock.pending} timers are left`)
    result.seconds = (performance.now() - started) / 1000
    return result
  }

  /** One client: opens a session, aims at its end until it has ended, checks what became of it, and opens the next. */
  async #client(): Promise<void> {
    while (this.#left > 0) {
      await this.#clock.sleep(this.#random.next() * SIM_IDLE)
      await this.#life()
    }
  }

  async #life(): Promise<void> {
    const clock = this.#clock
    const opening = this.#send('POST', {}, JSON.stringify(initialize()))
    const { headers, status } = await opening.head
    await opening.ended
    const id = headers['mcp-session-id']
    if (id === undefined) {
      violate(this.#result, `initialize was answered with ${status}`)
      return
    }
    this.#result.sessions += 1
    const aimed: Aimed[] = []
    // The hold goes with the exchange, which is over in the microtask after its last byte.
    await clock.sleep(1)
    let due = (opening.closedAt ?? 0) + SIM_IDLE
    while (this.#closedAt.get(id) === undefined && this.#left > 0) {
      const volley = 1 + Math.floor(this.#random.next() * 3)
      const times = Array.from({ length: volley }, () => due + this.#offset()).sort((a, b) => a - b)
      for (const at of times) {
        if (at > clock.now()) await clock.sleep(at - clock.now())
        aimed.push(this.#aim(id, this.#kind()))
      }
      await Promise.all(aimed.map(({ exchange }) => exchange.ended))
      await clock.sleep(3 * AIM + 2 * SKEW)
      for (const shot of aimed) if (accepted(shot)) due = Math.max(due, endOf(shot) + SIM_IDLE)
    }
    // What an ended session answers, it answers for good.
    if (this.#closedAt.has(id)) {
      for (let n = 0; n < 2; n++) aimed.push(this.#aim(id, 'request'))
      await Promise.all(aimed.map(({ exchange }) => exchange.ended))
    }
    await clock.sleep(3 * SIM_IDLE)
    this.#judge(id, opening, aimed)
  }

  /** Mostly anywhere in the target, now and then exactly its middle or a hair beside it. */
  #offset(): number {
    const chance = this.#random.next()
    if (chance < 0.1) return 0
    if (chance < 0.2) return (this.#random.next() - 0.5) * 1e-6
    return (this.#random.next() * 2 - 1) * AIM
  }

  #kind(): Kind {
    let at = this.#random.next() * KIND_SUM
    for (const [kind, weight] of KINDS) {
      at -= weight
      if (at < 0) return kind
    }
    return 'request'
  }

  #aim(id: string, kind: Kind): Aimed {
    this.#left -= 1
    this.#result.requests += 1
    return { kind, exchange: this.#shoot(id, kind) }
  }

  #shoot(id: string, kind: Kind): SimExchange {
    const session = { 'mcp-session-id': id }
    const random = (): number => this.#random.next() * AIM
    const slowly = (text: string): SimBody => [
      { after: random(), bytes: text.slice(0, 5) },
      { after: random(), bytes: text.slice(5) },
    ]
    switch (kind) {
      case 'request':
        return this.#send('POST', session, JSON.stringify(rpc('tools/list')))
      case 'ping':
        return this.#send('POST', session, JSON.stringify(rpc('ping')))
      case 'notification':
        return this.#send('POST', session, JSON.stringify(notification('notifications/x')))
      case 'call':
        return this.#send(
          'POST',
          session,
          JSON.stringify(rpc('tools/call', { name: 'run', arguments: { tag: 't', duration: random() } })),
        )
      case 'upload':
        return this.#send('POST', session, slowly(JSON.stringify(rpc('tools/list'))))
      case 'bad-version':
        return this.#send(
          'POST',
          { ...session, 'mcp-protocol-version': '1999-01-01' },
          JSON.stringify(rpc('tools/list')),
        )
      case 'bad-json':
        return this.#send('POST', session, '{')
      case 'bad-upload':
        return this.#send('POST', session, slowly('{"jsonrpc"'))
      case 'delete':
        return this.#send('DELETE', session, '')
      case 'get': {
        const exchange = this.#send('GET', { ...session, accept: 'text/event-stream' }, '')
        this.#clock.after(random(), () => exchange.drop())
        return exchange
      }
    }
  }

  #send(method: string, headers: Record<string, string>, body: SimBody): SimExchange {
    const exchange = new SimExchange(this.#clock, { method, headers: { ...HEADERS, ...headers }, body })
    void this.#manager.handle(exchange)
    return exchange
  }

  /** Walks through what was sent to a session, and holds it against what the clock must have done. */
  #judge(id: string, opening: SimExchange, aimed: readonly Aimed[]): void {
    const result = this.#result
    const timeline = new Timeline(opening.closedAt ?? 0, aimed)
    for (const shot of aimed) {
      const { exchange, kind } = shot
      if (exchange.misuse.length > 0) violate(result, exchange.misuse.join(', '))
      if (!(endOf(shot) >= exchange.startedAt)) violate(result, `${kind} was never closed`)
      const problem = wrongAnswer(kind, exchange) ?? timeline.take(shot)
      if (problem !== undefined) violate(result, problem)
      if (exchange.answeredStatus === 404) result.notFound += 1
      else result.served += 1
    }
    result.servedLate += timeline.servedLate
    const closedAt = this.#closedAt.get(id)
    this.#closedAt.delete(id)
    if (closedAt === undefined) {
      violate(result, 'a session never closed')
      return
    }
    if (timeline.deletedAt !== undefined) return
    const { due, heldUntil, maybeHeldUntil } = timeline
    if (closedAt < due) violate(result, `a session closed ${due - closedAt} ms early`)
    if (closedAt < heldUntil) violate(result, 'a session closed while it was held')
    const late = closedAt - Math.max(due, maybeHeldUntil)
    result.latest = Math.max(result.latest, late)
    if (late > SKEW + ROUNDING) violate(result, `a session closed ${late} ms late`)
  }
}

/** Virtual times are sums of fractions. */
const ROUNDING = 1e-6

function endOf({ exchange }: Aimed): number {
  return exchange.closedAt ?? Number.NaN
}

/** Whether a request stopped the clock of its session. */
function accepted({ exchange, kind }: Aimed): boolean {
  const status = exchange.answeredStatus
  return status !== 404 && status !== 409 && !REFUSED.has(kind) && kind !== 'delete'
}

/** What the clock of a session must have done, told from the answers. */
class Timeline {
  due: number
  /** Until when something certainly held the session, and until when something may have. */
  heldUntil: number
  maybeHeldUntil: number
  readonly deletedAt: number | undefined
  servedLate = 0
  readonly #goneAt: number

  constructor(openedAt: number, aimed: readonly Aimed[]) {
    this.due = openedAt + SIM_IDLE
    this.heldUntil = openedAt
    this.maybeHeldUntil = openedAt
    const gone = aimed.filter(({ exchange }) => exchange.answeredStatus === 404).map(endOf)
    this.#goneAt = Math.min(Number.POSITIVE_INFINITY, ...gone)
    this.deletedAt = aimed.find(
      ({ kind, exchange }) => kind === 'delete' && exchange.answeredStatus === 200,
    )?.exchange.startedAt
  }

  /** Takes the next request in the order they were sent; gives what is wrong with its answer. */
  take(shot: Aimed): string | undefined {
    const { kind, exchange } = shot
    const { startedAt, answeredStatus: status } = exchange
    const end = endOf(shot)
    const surelyAlive = startedAt < Math.max(this.due, this.heldUntil)
    if (status === 404) {
      const early = surelyAlive && !(this.deletedAt !== undefined && end >= this.deletedAt)
      return early ? `${kind} got 404 ${Math.max(this.due, this.heldUntil) - startedAt} ms early` : undefined
    }
    const latest = Math.max(this.due, this.maybeHeldUntil) + SKEW + ROUNDING
    // What is wrong with a body shows whether or not there is a session; the request may have held one.
    const blind = kind === 'bad-json' || kind === 'bad-upload'
    if (surelyAlive || !blind) this.heldUntil = Math.max(this.heldUntil, end)
    if (startedAt <= latest) this.maybeHeldUntil = Math.max(this.maybeHeldUntil, end)
    if (blind) return undefined
    if (startedAt > this.due) this.servedLate += 1
    const due = this.due
    if (accepted(shot)) this.due = Math.max(this.due, end + SIM_IDLE)
    if (startedAt > this.#goneAt) return `${kind} was answered with ${status} after a 404`
    if (startedAt > latest) return `${kind} was served ${startedAt - due} ms late`
    return undefined
  }
}

/** What is wrong with the answer to a request, whether or not its session had ended. */
function wrongAnswer(kind: Kind, exchange: SimExchange): string | undefined {
  const { answeredStatus: status, outcome, text } = exchange
  const dropped = kind === 'get' && outcome === 'dropped'
  if (outcome !== 'completed' && !dropped) return `${kind} ended ${outcome}`
  if (status === undefined) return `${kind} was not answered`
  if (status === 404)
    return dropped || text.includes('"code":-32001') ? undefined : `${kind} got a 404 that says ${text}`
  const expected: Readonly<Record<Kind, number>> = {
    request: 200,
    ping: 200,
    call: 200,
    upload: 200,
    get: 200,
    delete: 200,
    notification: 202,
    'bad-version': 400,
    'bad-json': 400,
    'bad-upload': 400,
  }
  // The third newcomer to a stream that is alive.
  if (kind === 'get' && status === 409) return undefined
  if (status !== expected[kind]) return `${kind} was answered with ${status} ${text}`
  const answers = kind === 'request' || kind === 'ping' || kind === 'call' || kind === 'upload'
  if (answers && !text.includes('"result"')) {
    // A DELETE may have come between.
    if (!text.includes('Session closed: deleted')) return `${kind} was answered with ${text}`
  }
  return undefined
}

// Over HTTP

const HTTP_IDLE = 100
const HTTP_CLIENTS = 100
/** How long an answer is waited for, in milliseconds: a loop takes one new connection a turn, and on a busy machine turns are long. */
const PATIENCE = 60_000

/** `requests` requests over real sockets on real time. */
export async function r7OverHttp(
  requests: number,
  seed: number,
  onProgress: OnProgress = () => {},
): Promise<R7Result> {
  const result = emptyResult()
  const random = new Random(seed)
  const started = performance.now()
  const clock = {
    now: () => performance.now(),
    after(delay: number, callback: () => void) {
      const handle = setTimeout(callback, delay)
      return { cancel: () => clearTimeout(handle) }
    },
  }
  const app = httpApp(() => new FakeServer({ clock, tag: 'fake' }), {
    sessionIdleTimeout: HTTP_IDLE,
    unusedSessionTimeout: Number.POSITIVE_INFINITY,
    handshakeTimeout: Number.POSITIVE_INFINITY,
  })
  const open = new Set<string>()
  /** When each session last told of an end; its clock starts a moment later. */
  const lastEnd = new Map<string, number>()
  app.sessions.subscribe((event) => {
    const { session } = event
    if (session === undefined) return
    if (event.type === 'session.opened') {
      result.sessions += 1
      open.add(session)
    } else if (event.type === 'request.ended') lastEnd.set(session, performance.now())
    else if (event.type === 'session.closed') {
      if (!open.delete(session)) violate(result, 'a session closed twice')
      const idle = performance.now() - (lastEnd.get(session) ?? Number.NEGATIVE_INFINITY)
      if (event.reason === 'idle' && idle < HTTP_IDLE)
        violate(result, `a session closed ${HTTP_IDLE - idle} ms early`)
      if (event.reason === 'idle' && Number.isFinite(idle))
        result.latest = Math.max(result.latest, idle - HTTP_IDLE)
      lastEnd.delete(session)
    }
  })
  const http = createServer(app.node)
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const { port } = http.address() as AddressInfo
  let left = requests

  const ask = async (connection: RawConnection, id: string): Promise<boolean> => {
    left -= 1
    result.requests += 1
    const response = await connection.request(post(rpc('tools/list'), { 'Mcp-Session-Id': id }), PATIENCE)
    const text = await response.text()
    if (response.status === 404 && text.includes('"code":-32001')) {
      result.notFound += 1
      return false
    }
    if (response.status !== 200 || !text.includes('"result"')) violate(result, `${response.status} ${text}`)
    result.served += 1
    return true
  }
  const client = async (): Promise<void> => {
    const connection = await RawConnection.open(port)
    try {
      while (left > 0) {
        const asked = performance.now()
        const opening: RawResponse = await connection.request(post(initialize()), PATIENCE)
        await opening.text()
        const id = opening.header('mcp-session-id')
        if (id === undefined) {
          violate(result, `initialize was answered with ${opening.status}`)
          return
        }
        let alive = await ask(connection, id)
        // Between the two a busy machine may take longer than the session lives.
        if (!alive && performance.now() - asked < HTTP_IDLE) violate(result, 'a new session was not found')
        while (alive && left > 0) {
          const aim = HTTP_IDLE + (random.next() * 2 - 1) * AIM
          await new Promise((resolve) => setTimeout(resolve, aim))
          alive = await ask(connection, id)
        }
        // What an ended session answers, it answers for good.
        if (!alive && (await ask(connection, id))) violate(result, 'a success after a 404')
      }
    } finally {
      connection.destroy()
    }
  }
  const report = setInterval(
    () =>
      onProgress(
        `R7 over HTTP: ${requests - left} of ${requests} requests, ${result.sessions} sessions, ${result.violations.length} violations`,
      ),
    500,
  )
  const clients = await Promise.allSettled(Array.from({ length: HTTP_CLIENTS }, client))
  clearInterval(report)
  for (const settled of clients) if (settled.status === 'rejected') violate(result, String(settled.reason))
  await app.close()
  if (open.size > 0) violate(result, `${open.size} sessions never closed`)
  http.closeAllConnections()
  await new Promise((resolve) => http.close(resolve))
  result.seconds = (performance.now() - started) / 1000
  return result
}

/** What both halves of a run found. */
interface R7Findings extends Findings {
  readonly seed: number
  readonly inProcess: R7Result
  readonly overHttp: R7Result
}

/** `npm run chaos -- r7` */
export const chaos: Chaos<R7Findings> = {
  name: 'r7',
  help: [
    ['', '1,000,000 requests in this process, 20,000 over HTTP, at ±2 ms around expiry'],
    ['--requests 50000', 'fewer in this process'],
    ['--http 2000', 'fewer over HTTP'],
    ['--short', '20,000 in this process, 1,000 over HTTP'],
  ],
  options: {
    requests: { type: 'string', default: '1000000' },
    http: { type: 'string', default: '20000' },
  },
  async run(args, progress) {
    const { seed, short } = args
    const inProcess = await r7InProcess(short ? 20_000 : args.count('requests'), seed, progress)
    const overHttp = await r7OverHttp(short ? 1000 : args.count('http'), seed, progress)
    return { seed, inProcess, overHttp, violations: [...inProcess.violations, ...overHttp.violations] }
  },
  tell({ inProcess, overHttp }) {
    return [['R7 in process', inProcess] as const, ['R7 over HTTP', overHttp] as const]
      .map(
        ([title, { requests, served, notFound, servedLate, sessions, latest, seconds }]) =>
          `${title}: ${requests} requests, ${served} served (${servedLate} after the deadline), ${notFound} clean 404s, ` +
          `${sessions} sessions, the latest ended ${latest.toFixed(3)} ms after its deadline, ${seconds.toFixed(1)} s`,
      )
      .join('\n')
  },
  row({ inProcess, overHttp }) {
    return {
      test: 'R7 · 1, 3, 6',
      done: `${count(inProcess.requests)} requests in one process and ${count(overHttp.requests)} over HTTP, aimed at the moment of expiry`,
      came: `${count(inProcess.served + overHttp.served)} served, ${count(inProcess.notFound + overHttp.notFound)} clean 404s`,
    }
  },
}
