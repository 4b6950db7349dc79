/** R8: streams of both kinds are cut again and again while they go on, and resumed: nothing lost, nothing doubled, all in order. */

import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'

import { Random } from '../simulation/random.ts'
import { get, initialize, notification, post, rpc } from '../support/mcp-wire.ts'
import { RawConnection, type RawResponse } from '../support/raw-http.ts'
import type { Cut } from '../support/tcp-proxy.ts'
import type { Fault, OriginCommand, OriginOptions, OriginStats } from './fixtures/r8-origin.ts'
import { type CutConnection, CutProxy } from './r8-proxy.ts'
import { type Chaos, count, type Findings, milliseconds } from './chaos.ts'

/** How much is done. */
export interface R8Options {
  /** Name of the event log. */
  readonly log: string
  /** Half of them GET streams, half POST streams; one of each per session. */
  readonly streams: number
  /** Events per stream; the result of a POST stream comes on top. */
  readonly events: number
  /** Cuts per stream. */
  readonly cuts: number
  /** Mean time from one resume to the next cut, in milliseconds. */
  readonly pace: number
  /**
   * Most silences per GET stream: the third takeover in 30 s from a stream that seems alive gets 409, and the client has to wait for 5 s.
   */
  readonly getSilences: number
  readonly seed: number
  /** Makes the log faulty, to see that it is noticed. */
  readonly fault?: Fault
}

/** `npm run chaos -- r8` */
export const R8_WHOLE: Omit<R8Options, 'log' | 'seed'> = {
  streams: 200,
  events: 2000,
  cuts: 50,
  pace: 2400,
  getSilences: Number.POSITIVE_INFINITY,
}

/** `npm run chaos -- r8 --short` and the gate. */
export const R8_SHORT: Omit<R8Options, 'log' | 'seed'> = {
  streams: 10,
  events: 200,
  cuts: 10,
  pace: 20,
  getSilences: 2,
}

/** Times in milliseconds. */
export interface Times {
  readonly count: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** What a run counted. */
export interface R8Result {
  readonly log: string
  readonly streams: number
  /** Events that reached a client, results included, whole replays at the end not. */
  delivered: number
  lost: number
  doubled: number
  disordered: number
  readonly cuts: Record<Cut, number>
  /** Cuts while missed events were being replayed; the others hit live events. */
  cutsInReplay: number
  /** Resumes that were answered with a stream. */
  resumes: number
  /** Of them, those that had events to replay. */
  resumesWithGap: number
  /** Resumes that were told to wait, since the client's own dead connection still had the stream. */
  refused: number
  /** From connecting to the 50th of 50 missed events. */
  resumeOf50: Times
  /** At the end, the whole stream from its very first cursor. */
  wholeReplays: Times
  /** All the while, a ping on a new connection now and then: what of the other times is the machine's. */
  pings: Times
  /** p99 of the event loop's delay here, in milliseconds; the server's is in its own figures. */
  loopDelayP99: number
  seconds: number
  server: OriginStats | undefined
  readonly violations: string[]
}

/** How many missed events the timed resumes have. */
const TIMED = 50

/** Fewer bytes than any event has on the wire. */
const EVENT_BYTES = 100

/** Fewer bytes than the head of an event stream has, and its priming event. */
const HEAD_BYTES = 250

/** A replay that is to be cut has so many events at least, where there are any left. */
const FEWEST_REPLAYED = 3

/** How long anything is waited for, in milliseconds: what takes longer hangs. */
const DEADLINE = 10_000

/** How long a client waits that was told to, in milliseconds. */
const REFUSED_WAIT = 1000

/** Milliseconds from one ping to the next. */
const PING_EVERY = 50

const MOST_VIOLATIONS = 20

/** The whole run. */
export async function r8(
  options: R8Options,
  onProgress: (text: string) => void = () => {},
): Promise<R8Result> {
  const run = new Run(options)
  const started = performance.now()
  const { result } = run
  const origin = await Origin.start({ log: options.log, events: options.events, fault: options.fault })
  const proxy = await CutProxy.start(origin.port)
  const pings: number[] = []
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const stop = new AbortController()
  const report = setInterval(() => {
    const cuts = result.cuts.fin + result.cuts.rst + result.cuts.silence
    onProgress(
      `R8 ${options.log}: ${result.delivered} events, ${cuts} cuts, ${result.violations.length} violations`,
    )
  }, 500)
  try {
    const pinging = ping(proxy.port, pings, stop.signal)
    const clients = Array.from({ length: options.streams / 2 }, async (_, n) => {
      const headers = await openSession(proxy.port)
      const pair = (['get', 'post'] as const).map(
        (kind, at) => new StreamClient(run, origin, proxy, kind, 2 * n + at, headers),
      )
      await Promise.all(pair.map((client) => client.run()))
      return pair
    })
    const settled = await Promise.allSettled(clients)
    stop.abort()
    await pinging
    // Only now: so much at once would make the resumes of others look slow.
    for (const pair of settled) {
      if (pair.status === 'rejected') run.violate(String(pair.reason))
      else for (const client of pair.value) await client.replayWhole()
    }
    result.server = await origin.do<OriginStats>({ op: 'stats' })
    for (const complaint of result.server.complaints) run.violate(`the server complains: ${complaint}`)
  } finally {
    clearInterval(report)
    await origin.close()
    await proxy.close()
  }
  result.resumeOf50 = times(run.resumes)
  result.wholeReplays = times(run.wholeReplays)
  result.pings = times(pings)
  result.loopDelayP99 = delay.percentile(99) / 1e6
  result.seconds = (performance.now() - started) / 1000
  return result
}

class Run {
  readonly options: R8Options
  readonly result: R8Result
  readonly resumes: number[] = []
  readonly wholeReplays: number[] = []

  constructor(options: R8Options) {
    this.options = options
    this.result = {
      log: options.log,
      streams: options.streams,
      delivered: 0,
      lost: 0,
      doubled: 0,
      disordered: 0,
      cuts: { fin: 0, rst: 0, silence: 0 },
      cutsInReplay: 0,
      resumes: 0,
      resumesWithGap: 0,
      refused: 0,
      resumeOf50: times([]),
      wholeReplays: times([]),
      pings: times([]),
      loopDelayP99: 0,
      seconds: 0,
      server: undefined,
      violations: [],
    }
  }

  violate(text: string): void {
    if (this.result.violations.length < MOST_VIOLATIONS) this.result.violations.push(text)
  }
}

function times(values: readonly number[]): Times {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number): number => sorted[Math.ceil(sorted.length * share) - 1] ?? 0
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

async function openSession(port: number): Promise<Record<string, string>> {
  const connection = await RawConnection.open(port)
  try {
    const response = await connection.request(post(initialize()), DEADLINE)
    await response.text(DEADLINE)
    const id = response.header('mcp-session-id')
    if (id === undefined) throw new Error(`initialize was answered with ${response.status}`)
    const headers = { 'Mcp-Session-Id': id, 'Mcp-Protocol-Version': '2025-11-25' }
    const accepted = await connection.request(
      post(notification('notifications/initialized'), headers),
      DEADLINE,
    )
    await accepted.ended(DEADLINE)
    return headers
  } finally {
    connection.destroy()
  }
}

/** Pings the server until the signal, on a new connection each time. */
async function ping(port: number, took: number[], signal: AbortSignal): Promise<void> {
  const headers = await openSession(port)
  while (!signal.aborted) {
    const started = performance.now()
    const connection = await RawConnection.open(port)
    const response = await connection.request(post(rpc('ping'), headers), DEADLINE)
    await response.text(DEADLINE)
    took.push(performance.now() - started)
    connection.destroy()
    await pause(PING_EVERY)
  }
}

/** The server's process. */
class Origin {
  readonly port: number
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, { resolve(result: unknown): void; reject(reason: Error): void }>()
  #commands = 0

  private constructor(child: ChildProcess, port: number) {
    this.#child = child
    this.port = port
    child.on('message', ({ id, result, failure }: { id: number; result?: unknown; failure?: string }) => {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (failure === undefined) waiting?.resolve(result)
      else waiting?.reject(new Error(failure))
    })
    child.on('exit', (code) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the server exited with ${code}`))
      this.#waiting.clear()
    })
  }

  static async start(options: OriginOptions): Promise<Origin> {
    const file = fileURLToPath(new URL('fixtures/r8-origin.ts', import.meta.url))
    const child = fork(file, [JSON.stringify(options)], { execArgv: ['--import', 'tsx'] })
    const [first] = (await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) => {
        throw new Error(`the server exited with ${code} before it listened`)
      }),
    ])) as [{ port: number }]
    return new Origin(child, first.port)
  }

  do<T = void>(command: OriginCommand): Promise<T> {
    const id = ++this.#commands
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (result: unknown) => void, reject })
      this.#child.send({ id, command })
    })
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return
    const exited = once(this.#child, 'exit')
    await this.do({ op: 'close' })
    // A log may keep its process alive for as long as it closes, but not for ever.
    const kill = setTimeout(() => this.#child.kill('SIGKILL'), DEADLINE)
    await exited
    clearTimeout(kill)
  }
}

/** When a connection is cut, and how. */
interface Arm {
  readonly bytes: number
  readonly how: Cut
}

/** One connection of a stream. */
interface Attempt {
  readonly startedAt: number
  readonly connection: RawConnection
  readonly proxied: CutConnection
  /** Settles with the cut, where one was armed from the start. */
  readonly cut: Promise<void> | undefined
  /** Undefined when it was cut before its head was there. */
  readonly response: RawResponse | undefined
  /** Settles when all that came was taken, and nothing more comes. */
  readonly over: Promise<void>
}

/** What is to happen to one connection, and how it is resumed. */
interface Plan {
  readonly how: Cut
  /** Cut while missed events are replayed; otherwise when all of them are there and new ones come. */
  readonly inReplay: boolean
  /** Events that are sent while it is cut. */
  readonly live: number
  /** Events that are missing when the client comes back; more where more were cut off. */
  readonly missing: number
  /** Events that are sent in the moment it comes back. */
  readonly during: number
}

/** One stream, its client, and whoever cuts its connections. */
class StreamClient {
  readonly #run: Run
  readonly #origin: Origin
  readonly #proxy: CutProxy
  readonly #kind: 'get' | 'post'
  readonly #stream: number
  readonly #headers: Record<string, string>
  readonly #random: Random
  readonly #ids = new Set<string>()
  readonly #seen: Uint8Array
  /** How many events there are in all, a call's result included. */
  readonly #total: number
  /** What the client would send as `Last-Event-ID`. */
  #cursor: string | undefined
  #first: string | undefined
  #emitted = 0
  /** The highest event so far. */
  #last = 0
  /** Everything came, and comes a second time. */
  #again = false
  #wake: (() => void) | undefined

  constructor(
    run: Run,
    origin: Origin,
    proxy: CutProxy,
    kind: 'get' | 'post',
    stream: number,
    headers: Record<string, string>,
  ) {
    this.#run = run
    this.#origin = origin
    this.#proxy = proxy
    this.#kind = kind
    this.#stream = stream
    this.#headers = headers
    this.#random = new Random(run.options.seed * 1_000_003 + stream)
    this.#total = run.options.events + (kind === 'post' ? 1 : 0)
    this.#seen = new Uint8Array(this.#total + 1)
  }

  async run(): Promise<void> {
    const { options, result, resumes } = this.#run
    const random = this.#random
    const plans = this.#plans()
    await pause(random.next() * options.pace)
    let attempt = await this.#connect(undefined)
    await this.#until(() => this.#cursor !== undefined, attempt, 'the first cursor')
    this.#first = this.#cursor
    for (const [index, plan] of plans.entries()) {
      const next = plans[index + 1]
      let { cut } = attempt
      if (cut === undefined) {
        await pause(random.next() * 2 * options.pace)
        const live = Math.min(plan.live, options.events - this.#emitted)
        cut = attempt.proxied.cutAfter(random.int(0, live * EVENT_BYTES), plan.how)
        await this.#emit(live)
      } else result.cutsInReplay += 1
      await within(cut, 'the cut')
      result.cuts[plan.how] += 1
      // Nothing tells a client of a silence: it gives up by itself.
      if (plan.how === 'silence') attempt.connection.destroy()
      await within(attempt.over, `the end of a connection after ${plan.how}`)

      // A replay can only be cut where there is one.
      const more =
        next === undefined ? options.events : Math.max(plan.missing, next.inReplay ? FEWEST_REPLAYED : 0)
      await this.#emit(Math.max(0, more - (this.#emitted - this.#last)))
      // A result is an event like others: half of the clients miss it, the others see it come.
      const missesResult = next === undefined && random.chance(0.5)
      if (missesResult) await this.#finish()
      const target = this.#emitted
      const missing = target - this.#last
      const during = this.#emit(next === undefined ? 0 : plan.during)
      const gone = attempt
      attempt = await this.#resume(
        next?.inReplay === true ? { bytes: this.#bytesOfReplay(missing), how: next.how } : undefined,
      )
      if (missing > 0) result.resumesWithGap += 1
      if (attempt.cut === undefined) {
        await this.#until(() => this.#last >= target, attempt, `event ${target}`)
        if (missing === TIMED) resumes.push(performance.now() - attempt.startedAt)
      }
      await during
      gone.connection.destroy()
      gone.proxied.destroy()
      if (next === undefined && !missesResult) await this.#finish()
    }
    await this.#until(() => this.#last >= this.#total, attempt, `event ${this.#total}`)
    if (this.#kind === 'post') await within(attempt.over, 'the end of an answered call')
    attempt.connection.destroy()
    for (let n = 1; n <= this.#total; n++) if (this.#seen[n] === 0) result.lost += 1
    if (this.#kind === 'post') await this.#expectNothingLeft()
  }

  #plans(): Plan[] {
    const { events, cuts, getSilences } = this.#run.options
    const random = this.#random
    const timed = Math.min(Math.floor(cuts / 2), Math.floor((0.6 * events) / TIMED))
    const share = (events - timed * TIMED) / cuts
    const places = shuffled(
      Array.from({ length: cuts }, (_, index) => index),
      random,
    )
    const ways: Cut[] = ['fin', 'rst', 'silence']
    let silences = 0
    const hows = places.map((place) => {
      const how = ways[place % ways.length] ?? 'fin'
      if (how !== 'silence' || this.#kind === 'post' || ++silences <= getSilences) return how
      return random.chance(0.5) ? 'fin' : 'rst'
    })
    const timedAt = new Set(places.slice(0, timed))
    return hows.map((how, index) => ({
      how,
      inReplay: index > 0 && random.chance(0.3),
      live: random.int(1, Math.max(1, Math.floor(0.6 * share))),
      missing: timedAt.has(index) ? TIMED : random.int(0, Math.floor(0.8 * share)),
      during: random.int(0, Math.floor(0.3 * share)),
    }))
  }

  /** After how many bytes a replay is cut: anywhere, or between its priming event and the first that it replays. */
  #bytesOfReplay(missing: number): number {
    const most = HEAD_BYTES + missing * EVENT_BYTES
    const random = this.#random
    if (random.chance(0.5)) return random.int(0, most)
    return random.int(Math.min(HEAD_BYTES, most), Math.min(HEAD_BYTES + 2 * EVENT_BYTES, most))
  }

  /** Has events sent; resolves when the log has them. */
  #emit(wanted: number): Promise<void> {
    const count = Math.min(wanted, this.#run.options.events - this.#emitted)
    const from = this.#emitted + 1
    this.#emitted += count
    return this.#origin.do({
      op: 'emit',
      stream: this.#stream,
      session: this.#kind === 'get' ? this.#headers['Mcp-Session-Id'] : undefined,
      from,
      count,
      spread: this.#random.chance(0.5),
    })
  }

  /** Has the call answered, where there is one. */
  async #finish(): Promise<void> {
    if (this.#kind === 'get') return
    this.#emitted += 1
    await this.#origin.do({ op: 'finish', stream: this.#stream })
  }

  /** Comes back, as often as the server says that the stream is taken. */
  async #resume(arm: Arm | undefined): Promise<Attempt> {
    while (true) {
      const attempt = await this.#connect(this.#cursor, arm)
      const status = attempt.response?.status
      if (status !== 409) {
        if (status !== undefined && status !== 200)
          throw new Error(`stream ${this.#stream}: a resume from ${this.#cursor} was answered with ${status}`)
        this.#run.result.resumes += 1
        return attempt
      }
      this.#run.result.refused += 1
      attempt.connection.destroy()
      attempt.proxied.destroy()
      await pause(REFUSED_WAIT)
    }
  }

  async #connect(cursor: string | undefined, arm?: Arm): Promise<Attempt> {
    const startedAt = performance.now()
    const connection = await RawConnection.open(this.#proxy.port)
    const proxied = await within(this.#proxy.take(connection.socket.localPort ?? 0), 'the proxied connection')
    const cut = arm === undefined ? undefined : proxied.cutAfter(arm.bytes, arm.how)
    const head = connection.request(this.#request(cursor), DEADLINE).catch((thrown: unknown) => {
      if (arm === undefined) throw thrown
      return undefined
    })
    const response = await (cut === undefined ? head : Promise.race([head, cut.then(() => undefined)]))
    const over = response === undefined ? head.then((late) => this.#take(late)) : this.#take(response)
    // Whoever waits for it learns of it; nobody may.
    over.catch(() => {})
    return { startedAt, connection, proxied, cut, response, over }
  }

  #request(cursor: string | undefined): Parameters<RawConnection['request']>[0] {
    if (cursor !== undefined || this.#kind === 'get')
      return get({ ...this.#headers, 'Last-Event-ID': cursor })
    const call = {
      name: 'stream',
      arguments: { stream: this.#stream },
      _meta: { progressToken: this.#stream },
    }
    return post(rpc('tools/call', call, this.#callId), this.#headers)
  }

  get #callId(): string {
    return `call-${this.#stream}`
  }

  /** Takes what comes on a connection until it ends. */
  async #take(response: RawResponse | undefined): Promise<void> {
    if (response?.status !== 200) return
    while (true) {
      const event = await response.nextEvent(FOREVER)
      if (event === undefined) break
      if (event.id !== undefined) {
        if (this.#ids.has(event.id)) this.#violate(`event id ${event.id} came twice`)
        this.#ids.add(event.id)
        this.#cursor = event.id
      }
      if (event.data !== undefined && event.data !== '') this.#count(this.#numberOf(event.data))
      this.#wake?.()
    }
    this.#wake?.()
  }

  #count(n: number | undefined): void {
    const { result } = this.#run
    if (n === undefined) return
    if (!this.#again) result.delivered += 1
    if (this.#seen[n] === 1) {
      result.doubled += 1
      this.#violate(`event ${n} came twice`)
      return
    }
    this.#seen[n] = 1
    if (n < this.#last) {
      result.disordered += 1
      this.#violate(`event ${n} came after ${this.#last}`)
    } else if (n > this.#last + 1) this.#violate(`event ${n} came after ${this.#last}`)
    this.#last = Math.max(this.#last, n)
  }

  /** Which event of this stream a message is. */
  #numberOf(data: string): number | undefined {
    const message = JSON.parse(data) as {
      id?: unknown
      method?: string
      result?: unknown
      params?: { progress?: number; message?: string; data?: { stream: number; n: number } }
    }
    const { params } = message
    // The server looks whether its peer is there; a client that never answers is left alone.
    if (message.method === 'ping') return undefined
    const n =
      message.id === this.#callId && message.result !== undefined
        ? this.#total
        : params?.data?.stream === this.#stream
          ? params.data.n
          : params?.message === `stream ${this.#stream} event ${params?.progress}`
            ? params.progress
            : undefined
    if (n !== undefined && n >= 1 && n <= this.#total) return n
    this.#violate(`a message that is not of this stream: ${data.slice(0, 200)}`)
    return undefined
  }

  /** Whoever has the end of a call is told so. */
  async #expectNothingLeft(): Promise<void> {
    const attempt = await this.#connect(this.#cursor)
    const status = attempt.response?.status
    if (status !== 204) this.#violate(`a resume after the result was answered with ${status}`)
    attempt.connection.destroy()
    attempt.proxied.destroy()
  }

  /** The log holds all: from its very first cursor the whole stream comes again. */
  async replayWhole(): Promise<void> {
    this.#cursor = this.#first
    this.#last = 0
    this.#seen.fill(0)
    this.#ids.clear()
    this.#again = true
    const attempt = await this.#resume(undefined)
    await this.#until(() => this.#last >= this.#total, attempt, `event ${this.#total} of a whole replay`)
    this.#run.wholeReplays.push(performance.now() - attempt.startedAt)
    attempt.connection.destroy()
    attempt.proxied.destroy()
    await within(attempt.over, 'the end of a whole replay')
    if (this.#seen.subarray(1).includes(0)) this.#violate('a whole replay lacks events')
  }

  /** Waits until something holds that the next event may bring about. */
  async #until(holds: () => boolean, attempt: Attempt, what: string): Promise<void> {
    let over = false
    const end = attempt.over.finally(() => {
      over = true
      this.#wake?.()
    })
    end.catch(() => {})
    const due = performance.now() + DEADLINE
    while (!holds()) {
      if (over)
        throw new Error(`stream ${this.#stream}: the connection ended before ${what} (so far: ${this.#last})`)
      if (performance.now() > due)
        throw new Error(
          `stream ${this.#stream}: ${what} did not come within ${DEADLINE} ms (so far: ${this.#last})`,
        )
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, due - performance.now())
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  #violate(text: string): void {
    this.#run.violate(`${this.#kind} stream ${this.#stream}: ${text}`)
  }
}

/** Longer than any run. */
const FOREVER = 3_600_000

async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen within ${DEADLINE} ms`)), DEADLINE)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

function shuffled<T>(values: readonly T[], random: Random): T[] {
  const left = [...values]
  const out: T[] = []
  while (left.length > 0) out.push(...left.splice(random.int(0, left.length - 1), 1))
  return out
}

/** p99 that a resume of 50 events is to reach, in milliseconds. */
const RESUME_P99 = 25

/** `npm run chaos -- r8`: figures are kept by event log. */
export const chaos: Chaos<R8Result & Findings & { readonly seed: number }> = {
  name: 'r8',
  help: [
    ['', '200 streams of 2,000 events, each cut 50 times and resumed; three minutes'],
    [
      '--log sqlite',
      'on this event log: memory (the default), sqlite, or batched, a stand-in for a slow one',
    ],
    ['--short', '10 streams of 200 events, each cut 10 times'],
  ],
  options: { log: { type: 'string', default: 'memory' } },
  async run(args, progress) {
    const { seed, short } = args
    const log = args.text('log') ?? 'memory'
    const result = await r8({ ...(short ? R8_SHORT : R8_WHOLE), log, seed }, progress)
    const { p99 } = result.resumeOf50
    const slow = !short && p99 > RESUME_P99
    const violations = [
      ...result.violations,
      ...(slow ? [`p99 of a resume of 50 events is ${p99.toFixed(1)} ms, not ${RESUME_P99}`] : []),
    ]
    return { seed, ...result, violations }
  },
  tell(result) {
    const { log, delivered, lost, doubled, disordered, cuts, resumes, refused, resumeOf50 } = result
    const ms = ({ p50, p99, max }: Times): string =>
      `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, max ${max.toFixed(1)} ms`
    return (
      `R8 ${log}: ${delivered} events, ${lost} lost, ${doubled} doubled, ${disordered} out of order; ` +
      `cuts: ${cuts.fin} FIN, ${cuts.rst} RST, ${cuts.silence} silences, ${result.cutsInReplay} of all in a replay; ` +
      `${resumes} resumes, ${refused} told to wait; ${resumeOf50.count} of 50 events: ${ms(resumeOf50)} ` +
      `(a ping on a new connection: ${ms(result.pings)}); ${result.seconds.toFixed(1)} s`
    )
  },
  key: ({ log }) => `r8-${log}`,
  row(result) {
    const { streams, resumesWithGap, log, delivered, lost, doubled, disordered, resumeOf50 } = result
    return {
      test: 'R8 · 4',
      done: `${streams} streams, cut by FIN, RST or silence, ${count(resumesWithGap)} resumes with a gap; ${log} log`,
      came:
        `of ${count(delivered)} events ${lost} lost, ${doubled} doubled, ${disordered} out of order; ` +
        `resume of 50 events: median ${milliseconds(resumeOf50.p50)}, p99 ${milliseconds(resumeOf50.p99)} (to reach: ${RESUME_P99} ms)`,
    }
  },
}
