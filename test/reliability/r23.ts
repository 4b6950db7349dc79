/** R23: hours of everyday work in one process. Whatever grows shows: the heap, handles, timers, listeners. */

import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import { messagesOf } from '../../bench/load/http-answer.ts'
import { Random } from '../simulation/random.ts'
import { rpc } from '../support/mcp-wire.ts'
import { type Chaos, count, type Findings, type Progress } from './chaos.ts'
import type { OriginStats } from './fixtures/origin.ts'
import { heapPicture } from './heap-picture.ts'
import { atRate, encode, inParallel, LightStream, Pool, type Times, timesOf } from './load.ts'
import { type Origin, startOrigin } from './processes.ts'

/** How much is done; times in milliseconds. */
interface R23Size {
  readonly duration: number
  /** What the heap does before this is not counted. */
  readonly warmUp: number
  readonly sessions: number
  readonly requestsPerSecond: number
  /** Sessions that end and are replaced. */
  readonly churnPerSecond: number
  /** Streams that are cut and come back. */
  readonly cutsPerSecond: number
  /** From one look at the heap to the next. */
  readonly every: number
}

const EVERYDAY = { sessions: 2000, requestsPerSecond: 200, churnPerSecond: 20, cutsPerSecond: 5 }

export const R23_SHORT: R23Size = {
  duration: 3000,
  warmUp: 0,
  sessions: 40,
  requestsPerSecond: 40,
  churnPerSecond: 8,
  cutsPerSecond: 8,
  every: 1000,
}

/** What the heap may grow by, in MB an hour. */
const SLOPE = 1

const MINUTE = 60_000

/** Bounds that are reached while it warms up, so that what is kept on purpose is at its most by then. */
const OPTIONS = {
  eventLogMaxAge: '30s',
  eventLogMaxEvents: 50,
  // Who went away without DELETE; much longer than anybody else is left alone.
  sessionIdleTimeout: '3m',
  unusedSessionTimeout: '3m',
  sleepAfter: '10s',
}

/** One look at the server, its garbage collected. */
interface Look {
  /** Minutes since the start. */
  readonly minutes: number
  readonly heapMB: number
  readonly rssMB: number
  readonly sessions: number
}

/** What a run found. */
interface R23Findings extends Findings {
  readonly minutes: number
  readonly warmUpMinutes: number
  readonly requests: number
  readonly opened: number
  readonly cuts: number
  readonly times: Times
  /** Growth of the heap after warming up, in MB an hour, with its standard error. */
  readonly slope: number
  readonly slopeError: number
  readonly looks: readonly Look[]
  /** Before the first session and after the last. */
  readonly left: { readonly begin: Left; readonly end: Left }
}

/** What must be back where it was. */
interface Left {
  readonly resources: Readonly<Record<string, number>>
  readonly timers: number
  readonly listeners: Readonly<Record<string, number>>
  readonly sessions: number
}

/** Where the picture of a whole run goes. */
const PICTURE = fileURLToPath(new URL('../../docs/heap.svg', import.meta.url))

/** The whole run. */
export async function r23(
  size: R23Size,
  seed: number,
  onProgress: Progress = () => {},
): Promise<R23Findings> {
  const origin = await startOrigin({ kind: 'sdk', tools: 2, options: OPTIONS })
  const soak = new Soak(origin, size, new Random(seed))
  try {
    return await soak.run(onProgress)
  } finally {
    soak.close()
    await origin.stop()
  }
}

interface Member {
  session: string
  stream: LightStream | undefined
  /** Calls that run. */
  calls: number
  /** Being replaced or resumed just now. */
  taken: boolean
}

function isFree({ calls, taken }: Member): boolean {
  return calls === 0 && !taken
}

class Soak {
  readonly #origin: Origin
  readonly #size: R23Size
  readonly #random: Random
  #pool: Pool
  readonly #members: Member[] = []
  /** Whose clients went away without a word. */
  readonly #abandoned: string[] = []
  readonly #violations: string[] = []
  readonly #times: number[] = []
  #requests = 0
  #opened = 0
  #cuts = 0

  constructor(origin: Origin, size: R23Size, random: Random) {
    this.#origin = origin
    this.#size = size
    this.#random = random
    this.#pool = new Pool(origin.port, 64)
  }

  async run(onProgress: Progress): Promise<R23Findings> {
    // Everything that is made once is made: some of each, then all of them are gone again.
    await this.#fill(Math.min(50, this.#size.sessions))
    await this.#work(1000)
    const begin = await this.#empty()
    await this.#fill(this.#size.sessions)

    const looks: Look[] = []
    const began = performance.now()
    const working = this.#work(this.#size.duration)
    const over = working.then(() => true)
    for (let next = 1; ; next++) {
      const wait = began + next * this.#size.every - performance.now()
      const pause = new Promise<false>((resolve) => setTimeout(() => resolve(false), Math.max(0, wait)))
      if (await Promise.race([over, pause])) break
      const look = lookAt(await this.#origin.collected(1), (performance.now() - began) / MINUTE)
      looks.push(look)
      onProgress(
        `R23: ${look.minutes.toFixed(1)} of ${(this.#size.duration / MINUTE).toFixed(1)} minutes, ${this.#requests} requests, ` +
          `heap ${look.heapMB.toFixed(1)} MB, ${look.sessions} sessions, ${this.#violations.length} violations`,
      )
    }
    await working
    const minutes = (performance.now() - began) / MINUTE
    const end = await this.#empty()
    for (const complaint of (await this.#origin.stats()).complaints)
      this.#violate(`the server complains: ${complaint}`)
    compare(begin, end, this.#violations)

    const warmUpMinutes = this.#size.warmUp / MINUTE
    return {
      minutes,
      warmUpMinutes,
      requests: this.#requests,
      opened: this.#opened,
      cuts: this.#cuts,
      times: timesOf(this.#times),
      ...slopeOf(looks.filter(({ minutes: at }) => at >= warmUpMinutes)),
      looks,
      left: { begin, end },
      violations: this.#violations,
    }
  }

  close(): void {
    for (const { stream } of this.#members) stream?.cut()
    this.#pool.close()
  }

  async #work(duration: number): Promise<void> {
    const { requestsPerSecond, churnPerSecond, cutsPerSecond } = this.#size
    const steadily = (perSecond: number, task: (due: number) => Promise<void>): Promise<void> =>
      atRate(perSecond, duration, async (due) => {
        try {
          await task(due)
        } catch (error) {
          this.#violate(String(error))
        }
      })
    await Promise.all([
      steadily(requestsPerSecond, (due) => this.#call(due)),
      steadily(churnPerSecond, () => this.#replace()),
      steadily(cutsPerSecond, () => this.#cut()),
      // One event to every open stream, so that there is something to miss.
      steadily(0.5, () => this.#origin.broadcast()),
    ])
  }

  async #fill(total: number): Promise<void> {
    await inParallel(total - this.#members.length, 32, async () => {
      this.#members.push(await this.#open())
    })
  }

  /** Every other one listens. */
  async #open(): Promise<Member> {
    const session = await this.#pool.open()
    this.#opened += 1
    const stream = this.#opened % 2 === 0 ? await this.#listen(session) : undefined
    return { session, stream, calls: 0, taken: false }
  }

  #listen(session: string, cursor?: string): Promise<LightStream> {
    return LightStream.open(this.#origin.port, session, {
      cursor,
      onping: (of, id) => {
        // It may have been replaced meanwhile.
        this.#pool.ask(encode('POST', { session: of }, { jsonrpc: '2.0', id, result: {} })).catch(() => {})
      },
    })
  }

  async #call(due: number): Promise<void> {
    const member = this.#anyone(({ taken }) => !taken)
    if (member === undefined) return
    this.#requests += 1
    // One in twenty is answered by a stream.
    const name = this.#random.next() < 0.05 ? 'steps' : 'echo'
    const text = `request ${this.#requests}`
    member.calls += 1
    try {
      const message = rpc('tools/call', { name, arguments: { text } }, this.#requests)
      const answer = await this.#pool.ask(encode('POST', { session: member.session }, message))
      const last = answer.status === 200 ? JSON.stringify(messagesOf(answer).at(-1)) : ''
      if (!last.includes(text))
        this.#violate(`a call was answered with ${answer.status} ${answer.body.slice(0, 200)}`)
      this.#times.push(performance.now() - due)
    } finally {
      member.calls -= 1
    }
  }

  /** A session ends, some without a word, and another takes its place. */
  async #replace(): Promise<void> {
    const member = this.#anyone(isFree)
    if (member === undefined) return
    member.taken = true
    try {
      member.stream?.cut()
      member.stream = undefined
      if (this.#random.next() < 0.1) this.#abandoned.push(member.session)
      else {
        const { status } = await this.#pool.ask(encode('DELETE', { session: member.session }))
        if (status !== 200 && status !== 204) this.#violate(`DELETE was answered with ${status}`)
      }
      const { session, stream } = await this.#open()
      member.session = session
      member.stream = stream
    } finally {
      member.taken = false
    }
  }

  /** A stream breaks, and its client comes back for what it missed. */
  async #cut(): Promise<void> {
    const member = this.#anyone((one) => isFree(one) && one.stream !== undefined)
    const stream = member?.stream
    if (member === undefined || stream === undefined) return
    member.taken = true
    try {
      this.#cuts += 1
      stream.cut(this.#random.next() < 0.5 ? 'fin' : 'rst')
      await new Promise((resolve) => setTimeout(resolve, 200))
      member.stream = await this.#listen(member.session, stream.cursor)
    } finally {
      member.taken = false
    }
  }

  /** Someone at random; nobody where hardly anyone fits, as on a machine that does not keep up. */
  #anyone(fits: (member: Member) => boolean): Member | undefined {
    for (let tries = 0; tries < 100; tries++) {
      const member = this.#members[Math.floor(this.#random.next() * this.#members.length)]
      if (member !== undefined && fits(member)) return member
    }
    return undefined
  }

  /** Ends everything, and says what is left. */
  async #empty(): Promise<Left> {
    const members = this.#members.splice(0)
    for (const { stream } of members) stream?.cut()
    // Of those that were abandoned some have expired.
    const sessions = [...members.map(({ session }) => session), ...this.#abandoned.splice(0)]
    await inParallel(sessions.length, 32, async (index) => {
      await this.#pool.ask(encode('DELETE', { session: sessions[index] ?? '' }))
    })
    this.#pool.close()
    this.#pool = new Pool(this.#origin.port, 64)
    const due = performance.now() + MINUTE / 2
    for (;;) {
      const stats = await this.#origin.collected()
      const { TCPSocketWrap: sockets = 0 } = stats.resources
      const left = leftOf(stats)
      if ((left.sessions === 0 && sockets === 0 && left.timers === 0) || performance.now() > due) return left
      await new Promise((resolve) => setTimeout(resolve, 250))
    }
  }

  #violate(text: string): void {
    if (this.#violations.length < 20) this.#violations.push(text)
  }
}

function lookAt({ heapBytes, rssBytes, sessions }: OriginStats, minutes: number): Look {
  return { minutes, heapMB: heapBytes / 1e6, rssMB: rssBytes / 1e6, sessions: sessions?.total ?? 0 }
}

function leftOf({ resources, timers, listeners, sessions }: OriginStats): Left {
  return { resources, timers, listeners, sessions: sessions?.total ?? 0 }
}

/** Whatever there is more of at the end. */
function compare(begin: Left, end: Left, violations: string[]): void {
  if (end.sessions > 0) violations.push(`${end.sessions} sessions are left`)
  if (end.timers > begin.timers)
    violations.push(`${end.timers} timers are left, ${begin.timers} at the beginning`)
  for (const kind of ['resources', 'listeners'] as const)
    for (const [name, more] of Object.entries(end[kind])) {
      const before = begin[kind][name] ?? 0
      if (more > before) violations.push(`${more} × ${name} at the end, ${before} at the beginning`)
    }
}

/** The line through what was seen, by least squares. */
function slopeOf(looks: readonly Look[]): { slope: number; slopeError: number } {
  const n = looks.length
  const mean = (of: (look: Look) => number): number => looks.reduce((sum, look) => sum + of(look), 0) / n
  const [middle, heap] = [mean(({ minutes }) => minutes), mean(({ heapMB }) => heapMB)]
  const spread = looks.reduce((sum, { minutes }) => sum + (minutes - middle) ** 2, 0)
  const rise =
    looks.reduce((sum, { minutes, heapMB }) => sum + (minutes - middle) * (heapMB - heap), 0) / spread
  const rest = looks.reduce(
    (sum, { minutes, heapMB }) => sum + (heapMB - heap - rise * (minutes - middle)) ** 2,
    0,
  )
  return { slope: 60 * rise, slopeError: 60 * Math.sqrt(rest / (n - 2) / spread) }
}

/** `npm run chaos -- r23` */
export const chaos: Chaos<R23Findings> = {
  name: 'r23',
  help: [
    [
      '',
      '20 minutes of 200 requests a second over 2,000 sessions that come, go, and are cut: the heap must not grow',
    ],
    ['--minutes 5', 'for so long; half of it, at most 5 minutes, is to warm up'],
    ['--hours 8', 'for so long'],
    ['--short', '3 seconds of a little of it: handles, timers and listeners only'],
  ],
  options: { minutes: { type: 'string', default: '20' }, hours: { type: 'string' } },
  async run(args, progress) {
    if (args.short) return r23(R23_SHORT, args.seed, progress)
    const minutes = args.text('hours') === undefined ? args.count('minutes') : 60 * args.count('hours')
    const duration = minutes * MINUTE
    const warmUp = Math.min(5 * MINUTE, duration / 2)
    const every = Math.max(5000, duration / 720)
    const found = await r23({ ...EVERYDAY, duration, warmUp, every }, args.seed, progress)
    writeFileSync(PICTURE, heapPicture(found))
    const { slope, slopeError } = found
    // What chance may do to a line through so few points is no growth.
    const grows = slope - 2 * slopeError > SLOPE
    const growth = `the heap grows by ${slope.toFixed(1)} ± ${slopeError.toFixed(1)} MB an hour, not ${SLOPE}`
    return { ...found, violations: [...found.violations, ...(grows ? [growth] : [])] }
  },
  tell: ({ minutes, requests, opened, cuts, times, slope, slopeError, looks, left }) =>
    `R23: ${minutes.toFixed(1)} minutes, ${requests} requests (p50 ${times.p50.toFixed(1)} ms, p99 ${times.p99.toFixed(1)} ms), ${opened} sessions opened, ${cuts} streams cut; ` +
    `heap ${looks.at(-1)?.heapMB.toFixed(1)} MB, growing by ${slope.toFixed(2)} ± ${slopeError.toFixed(2)} MB an hour; ` +
    `left at the end: ${left.end.sessions} sessions, ${left.end.timers} timers, ${JSON.stringify(left.end.resources)}`,
  row: ({ minutes, warmUpMinutes, requests, opened, cuts, slope, slopeError, looks, left }) => ({
    test: 'R23 · 7',
    done:
      `${Math.round(minutes)} minutes: ${count(requests)} requests over ${count(EVERYDAY.sessions)} sessions, ${count(opened)} opened, ` +
      `${count(cuts)} streams cut and resumed`,
    came:
      `heap ${looks.at(-1)?.heapMB.toFixed(0)} MB ([over time](heap.svg)), after ${warmUpMinutes.toFixed(0)} minutes of warming up ${slope.toFixed(1)} ± ${slopeError.toFixed(1)} MB an hour ` +
      `(to reach: ${SLOPE}); sessions, timers, handles and listeners at the end ${left.end.sessions + left.end.timers === 0 ? 'as at the beginning' : 'left over'}`,
  }),
}
