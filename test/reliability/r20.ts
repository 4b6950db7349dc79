/** R20: hostile requests over real HTTP against a server of its own process: each gets the answer that is due to it, and leaves nothing behind. */

import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import { Random } from '../simulation/random.ts'
import { initialize, notification, rpc } from '../support/mcp-wire.ts'
import { encodeChunk, RawConnection, type RawResponse } from '../support/raw-http.ts'
import { type Chaos, count, milliseconds, seconds } from './chaos.ts'
import type { R20State } from './fixtures/r20-server.ts'
import {
  askChild as ask,
  type GoodClients,
  type GoodTimes,
  nextMessage as message,
  startGoodClients,
} from './processes.ts'
import { KINDS, type Known, type Shot } from './r20-kinds.ts'

/** How much is at stake. */
export interface R20Size {
  readonly requests: number
  /** Clients that send heads or bodies a byte at a time, or nothing at all. */
  readonly slow: number
  /** Bodies beyond the limit, half of them declared, half in chunks: how many, and of how many MiB. */
  readonly bodies: number
  readonly bodyMiB: number
  /** How long the good clients are alone with others as good, in milliseconds. */
  readonly calm: number
  /** `bodyTimeout`, in milliseconds. */
  readonly bodyTimeout: number
  /** Whether Node's own minute for heads is waited for, and heap and times are judged. */
  readonly whole: boolean
}

/** The whole test, and what the gate runs of it. */
export const R20_WHOLE: R20Size = {
  requests: 1_000_000,
  slow: 1000,
  bodies: 40,
  bodyMiB: 100,
  calm: 20_000,
  bodyTimeout: 30_000,
  whole: true,
}
export const R20_SHORT: R20Size = {
  requests: 2000,
  slow: 30,
  bodies: 2,
  bodyMiB: 8,
  calm: 300,
  bodyTimeout: 1000,
  whole: false,
}

/** Pings of the good clients, in milliseconds. */
type Times = Omit<GoodTimes, 'failures'>

/** What a run found. Everything under `violations` breaks a promise. */
export interface R20Result {
  readonly size: R20Size
  readonly seed: number
  requests: number
  /** Answers by status. */
  readonly statuses: Record<string, number>
  /** Slow clients that were told 408, and those that were cut without a word. */
  slowTold: number
  slowCut: number
  /** How long it took the slowest of them, in milliseconds. */
  slowest: number
  /** Bytes of heap in use before and after, and the most memory the process ever held in between. */
  heapBefore: number
  heapAfter: number
  residentMost: number
  /** While as many clients sent what is right, and while they sent what is not. */
  calm: Times
  attacked: Times
  seconds: number
  readonly violations: string[]
}

/** Hostile clients at a time. */
const CLIENTS = 16
/** Requests on one connection. */
const PER_CONNECTION = 200
/** How long anything may take on a loaded machine, in milliseconds. */
const DEADLINE = 30_000
/** Many violations say no more than some. */
const MOST_VIOLATIONS = 30
/** How much of the heap may be more afterwards, and how many times slower a good client may be served. */
const MOST_HEAP = 1.05
const MOST_SLOWDOWN = 2
/** Node looks every half minute for heads that took a minute. */
const HEADS_CUT = 95_000
/** How often a slow client sends a byte, in milliseconds. */
const DRIBBLE = 500

/** One run. The same seed sends the same. */
export async function r20(
  size: R20Size,
  seed: number,
  onProgress: (text: string) => void = () => {},
): Promise<R20Result> {
  const server = fork(fixture('r20-server.ts'), [JSON.stringify({ bodyTimeout: `${size.bodyTimeout}ms` })], {
    execArgv: ['--import', import.meta.resolve('tsx'), '--expose-gc'],
  })
  let good: GoodClients | undefined
  try {
    const url = new URL(String((await message<{ url: string }>(server)).url))
    const run = new Attack(url, size, seed, onProgress)
    const known = await run.open()
    const fields = { Authorization: 'Bearer alice' }
    good = await startGoodClients({
      url: url.href,
      session: known.session,
      fields,
      message: rpc('ping'),
    })
    return await run.attack(server, good)
  } finally {
    server.kill('SIGKILL')
    good?.stop()
  }
}

class Attack {
  readonly #port: number
  readonly #size: R20Size
  readonly #seed: number
  readonly #onProgress: (text: string) => void
  readonly #kinds = Object.entries(KINDS)
  #result: R20Result
  #known: Known = { host: '', session: '', foreign: '', foreignCursor: '' }

  constructor(url: URL, size: R20Size, seed: number, onProgress: (text: string) => void) {
    this.#port = Number(url.port)
    this.#size = size
    this.#seed = seed
    this.#onProgress = onProgress
    const none = { count: 0, p50: 0, p99: 0 }
    this.#result = {
      ...{ size, seed, requests: 0, statuses: {}, slowTold: 0, slowCut: 0, slowest: 0 },
      ...{
        heapBefore: 0,
        heapAfter: 0,
        residentMost: 0,
        calm: none,
        attacked: none,
        seconds: 0,
        violations: [],
      },
    }
  }

  /** A session of alice, and one of bob with an event. */
  async open(): Promise<Known> {
    const host = `127.0.0.1:${this.#port}`
    const session = await this.#open('alice')
    const foreign = await this.#open('bob')
    const connection = await this.#connect()
    const stream = await connection.request({ headers: { ...as('bob'), 'Mcp-Session-Id': foreign, Accept: 'text/event-stream' } }) // prettier-ignore
    const foreignCursor = (await stream.nextEvent(DEADLINE))?.id ?? ''
    connection.destroy()
    this.#known = { host, session, foreign, foreignCursor }
    return this.#known
  }

  async attack(server: ChildProcess, good: GoodClients): Promise<R20Result> {
    const began = performance.now()
    const { requests, calm, whole, bodies } = this.#size
    const random = new Random(this.#seed)
    // What is compiled and cached at the first requests is no leak.
    await this.#send(Math.max(500, requests / 50), () => this.#shot(random))
    const before = await ask<R20State>(server)
    this.#result.requests = 0
    for (const status of Object.keys(this.#result.statuses)) delete this.#result.statuses[status]

    await good.times()
    const calmUntil = performance.now() + calm
    while (performance.now() < calmUntil) await this.#send(200, () => ['ping', this.#ping()])
    const calmTimes = await good.times()

    const slow = this.#slowClients()
    let residentMost = 0
    const watch = setInterval(() => void ask<R20State>(server).then(({ resident }) => (residentMost = Math.max(residentMost, resident))), 5000) // prettier-ignore
    const large = this.#largeBodies(bodies)
    this.#result.requests = 0
    await this.#send(requests, () => this.#shot(random))
    await large
    const attacked = await good.times()
    await slow
    clearInterval(watch)
    good.stop()

    const after = await this.#settled(server, before)
    Object.assign(this.#result, {
      heapBefore: before.heap,
      heapAfter: after.heap,
      residentMost: Math.max(residentMost, after.resident),
      calm: { count: calmTimes.count, p50: calmTimes.p50, p99: calmTimes.p99 },
      attacked: { count: attacked.count, p50: attacked.p50, p99: attacked.p99 },
      seconds: (performance.now() - began) / 1000,
    })
    for (const failure of [...calmTimes.failures, ...attacked.failures])
      this.#violate(`a good client: ${failure}`)
    for (const complaint of after.complaints) this.#violate(`the server says: ${complaint}`)
    if (after.sessions !== 2) this.#violate(`${after.sessions} sessions are there, of 2`)
    if (server.exitCode !== null) this.#violate(`the server ended with ${server.exitCode}`)
    if (whole) {
      if (after.heap > before.heap * MOST_HEAP)
        this.#violate(`the heap grew from ${before.heap} to ${after.heap} bytes`)
      if (attacked.p99 > calmTimes.p99 * MOST_SLOWDOWN)
        this.#violate(`good clients' p99 went from ${calmTimes.p99} to ${attacked.p99} ms`)
    }
    return this.#result
  }

  #shot(random: Random): readonly [name: string, shot: Shot] {
    const [name, kind] = this.#kinds[random.int(0, this.#kinds.length - 1)] ?? []
    if (name === undefined || kind === undefined) throw new Error('there is no kind')
    return [name, kind(random, this.#known)]
  }

  #ping(): Shot {
    const body = JSON.stringify(rpc('ping'))
    const { host, session } = this.#known
    const fields = { Host: host, ...as('alice'), 'Mcp-Session-Id': session, 'Content-Length': body.length }
    const head = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`)
    return {
      status: 200,
      code: undefined,
      bytes: Buffer.from(`POST /mcp HTTP/1.1\r\n${head.join('')}\r\n${body}`),
    }
  }

  /** So many requests from all clients, each of which waits for its answer. */
  async #send(requests: number, next: () => readonly [name: string, shot: Shot]): Promise<void> {
    let left = Math.round(requests)
    const client = async (): Promise<void> => {
      let connection: RawConnection | undefined
      for (let sent = 0; left > 0; sent++) {
        left -= 1
        const [name, shot] = next()
        if (connection === undefined || connection.gone !== undefined || sent % PER_CONNECTION === 0) {
          connection?.destroy()
          connection = await this.#connect()
        }
        connection = await this.#one(connection, name, shot)
      }
      connection?.destroy()
    }
    await Promise.all(Array.from({ length: CLIENTS }, client))
  }

  /** Sends one and judges its answer. Gives the connection where it can be used again. */
  async #one(connection: RawConnection, name: string, shot: Shot): Promise<RawConnection | undefined> {
    const result = this.#result
    result.requests += 1
    if (result.requests % 1000 === 0)
      this.#onProgress(`R20: ${count(result.requests)} of ${count(this.#size.requests)} requests, ${result.violations.length} violations`) // prettier-ignore
    try {
      void connection.write(shot.bytes).catch(() => {})
      const response = await connection.response(DEADLINE)
      const text = await response.text(DEADLINE)
      result.statuses[response.status] = (result.statuses[response.status] ?? 0) + 1
      const problem = wrong(shot, response, text)
      if (problem !== undefined) this.#violate(`${name}: ${problem} (${JSON.stringify(shot.bytes.toString('latin1').slice(0, 300))})`) // prettier-ignore
      const ends = shot.ends === true || response.header('connection') === 'close'
      if (!ends) return connection
      connection.destroy()
    } catch (error) {
      connection.destroy()
      this.#violate(`${name}: ${String(error)}`)
    }
    return undefined
  }

  /** Bodies of which the server may never hold more than its limit: the refusal comes while they are still sent. */
  async #largeBodies(bodies: number): Promise<void> {
    const piece = Buffer.alloc(2 ** 20, 0x20)
    for (let n = 0; n < bodies; n++) {
      const declared = n % 2 === 0
      const connection = await this.#connect()
      const length = declared
        ? `Content-Length: ${this.#size.bodyMiB * piece.length}`
        : 'Transfer-Encoding: chunked'
      const { host, session } = this.#known
      const head = Object.entries({ Host: host, ...as('alice'), 'Mcp-Session-Id': session })
      const response = connection.response(DEADLINE)
      response.catch(() => {})
      const write = (bytes: string | Uint8Array): Promise<boolean> =>
        connection.write(bytes).then(
          () => true,
          () => false,
        )
      await write(
        `POST /mcp HTTP/1.1\r\n${head.map(([name, value]) => `${name}: ${value}\r\n`).join('')}${length}\r\n\r\n`,
      )
      for (let sent = 0; sent < this.#size.bodyMiB; sent++) {
        // A client that does not look at its answer, until it is cut off.
        if (connection.gone !== undefined || !(await write(declared ? piece : encodeChunk(piece)))) break
      }
      try {
        const { status } = await response
        if (status !== 413) this.#violate(`a body of ${this.#size.bodyMiB} MiB is answered with ${status}`)
      } catch (error) {
        this.#violate(`a body of ${this.#size.bodyMiB} MiB: ${String(error)}`)
      }
      connection.destroy()
    }
  }

  async #slowClients(): Promise<void> {
    const { slow, bodyTimeout, whole } = this.#size
    const { host, session } = this.#known
    const fields = Object.entries({ Host: host, ...as('alice'), 'Mcp-Session-Id': session })
    const head = `POST /mcp HTTP/1.1\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}`
    const client = async (index: number): Promise<void> => {
      const connection = await this.#connect()
      const began = performance.now()
      const kind = index % 3
      if (kind === 0) await connection.write(`${head}Content-Length: 1000\r\n\r\n`)
      if (kind === 1) await connection.write(head)
      const due = began + (kind === 0 ? bodyTimeout + 5000 : whole ? HEADS_CUT : 0)
      // Neither does what is sent meanwhile buy them any time.
      const byte = kind === 0 ? ' ' : 'X-Slow: a\r\n'
      while (connection.gone === undefined && performance.now() < due) {
        await new Promise((resolve) => setTimeout(resolve, DRIBBLE))
        if (kind !== 2) await connection.write(byte).catch(() => {})
        if (connection.bytesReceived > 0) break
      }
      const took = performance.now() - began
      if (connection.bytesReceived > 0) {
        const { status } = await connection.response(DEADLINE)
        if (status !== 408) this.#violate(`a slow client is answered with ${status}`)
        this.#result.slowTold += 1
        this.#result.slowest = Math.max(this.#result.slowest, took)
      } else if (connection.gone !== undefined) {
        this.#result.slowCut += 1
        this.#result.slowest = Math.max(this.#result.slowest, took)
      } else if (kind === 0 || whole) {
        this.#violate(
          `a client that sends ${['its body', 'its head', 'nothing'][kind]} for ${Math.round(took)} ms is not cut`,
        )
      }
      connection.destroy()
    }
    await Promise.all(Array.from({ length: slow }, (_, index) => client(index)))
  }

  /** What closed connections leave goes with the next turns and collections. */
  async #settled(server: ChildProcess, before: R20State): Promise<R20State> {
    let state = await ask<R20State>(server)
    for (
      let attempt = 0;
      attempt < 10 && state.heap > before.heap * MOST_HEAP && this.#size.whole;
      attempt++
    ) {
      await new Promise((resolve) => setTimeout(resolve, 1000))
      state = await ask<R20State>(server)
    }
    return state
  }

  async #open(who: string): Promise<string> {
    const connection = await this.#connect()
    const opened = await connection.request(
      { method: 'POST', headers: as(who), body: initialize() },
      DEADLINE,
    )
    await opened.text(DEADLINE)
    const id = opened.header('mcp-session-id')
    if (id === undefined) throw new Error(`initialize was answered with ${opened.status}`)
    const headers = { ...as(who), 'Mcp-Session-Id': id }
    await connection.request(
      { method: 'POST', headers, body: notification('notifications/initialized') },
      DEADLINE,
    )
    connection.destroy()
    return id
  }

  /** A full backlog refuses for a moment. */
  async #connect(): Promise<RawConnection> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await RawConnection.open(this.#port)
      } catch (error) {
        if (attempt === 5) throw error
      }
    }
  }

  #violate(text: string): void {
    if (this.#result.violations.length < MOST_VIOLATIONS) this.#result.violations.push(text)
  }
}

/** What is wrong with an answer; undefined when it is the one that is due. */
function wrong({ status, code, holds }: Shot, response: RawResponse, text: string): string | undefined {
  if (response.status !== status)
    return `answered with ${response.status} instead of ${status}: ${text.slice(0, 200)}`
  if (status === 202) return text === '' ? undefined : `202 with a body: ${text.slice(0, 200)}`
  if (response.header('content-type') !== 'application/json')
    return `answered as ${response.header('content-type')}`
  if (holds !== undefined && !text.includes(holds)) return `${holds} is not in ${text.slice(0, 200)}`
  const { jsonrpc, error } = JSON.parse(text) as { jsonrpc?: unknown; error?: { code?: unknown } }
  if (jsonrpc !== '2.0') return `no JSON-RPC: ${text.slice(0, 200)}`
  return error?.code === code || (status === 200 && code === undefined) ? undefined : `the code ${String(error?.code)} instead of ${code}` // prettier-ignore
}

function as(who: string): Record<string, string> {
  return {
    Authorization: `Bearer ${who}`,
    Accept: 'application/json, text/event-stream',
    'Content-Type': 'application/json',
  }
}

function fixture(name: string): string {
  return fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url))
}

/** `npm run chaos -- r20` */
export const chaos: Chaos<R20Result> = {
  name: 'r20',
  help: [
    ['', 'a million hostile requests over HTTP, 1,000 slow clients, bodies of 100 MiB; ten minutes'],
    ['--short', '2,000 of them, and 30 slow clients'],
  ],
  run: (args, progress) => r20(args.short ? R20_SHORT : R20_WHOLE, args.seed, progress),
  tell({
    requests,
    statuses,
    slowTold,
    slowCut,
    slowest,
    heapBefore,
    heapAfter,
    residentMost,
    calm,
    attacked,
    ...rest
  }) {
    const answers = Object.entries(statuses).map(([status, times]) => `${count(times)} × ${status}`)
    return (
      `R20: ${count(requests)} requests: ${answers.join(', ')}; slow clients: ${slowTold} told 408, ${slowCut} cut, the last after ${seconds(slowest)}; ` +
      `heap ${mebibytes(heapBefore)} before, ${mebibytes(heapAfter)} after, at most ${mebibytes(residentMost)} resident; ` +
      `good clients' p99 ${milliseconds(calm.p99)} among others as good, ${milliseconds(attacked.p99)} under attack; ${rest.seconds.toFixed(1)} s`
    )
  },
  row: ({ requests, size, statuses, heapBefore, heapAfter, calm, attacked }) => ({
    test: 'R20 · 5, 7, 10',
    done: `${count(requests)} hostile requests of ${Object.keys(KINDS).length} kinds, ${count(size.slow)} clients that send a byte at a time, ${size.bodies} bodies of ${size.bodyMiB} MiB`,
    came:
      `${count(Object.entries(statuses).reduce((sum, [status, times]) => sum + (Number(status) >= 500 ? times : 0), 0))} × 5xx; ` +
      `heap ${mebibytes(heapBefore)} before, ${mebibytes(heapAfter)} after; good clients' p99 ${milliseconds(calm.p99)} before, ${milliseconds(attacked.p99)} under attack`,
  }),
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}
