/** R15: SIGTERM to a `sojourn serve` that carries streams and running calls, as its clients and its supervisor see it. */

import { type ChildProcess, spawn } from 'node:child_process'
import { Agent, type IncomingMessage, request } from 'node:http'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

import { type Chaos, count, seconds } from './chaos.ts'

/** How much is at stake. */
export interface R15Size {
  /** Sessions with an open GET stream. */
  readonly streams: number
  /** Calls that run when the signal comes, each in one of those sessions. */
  readonly calls: number
  /** How long each takes, in milliseconds. */
  readonly callTime: number
  /** `drainTimeout` where calls can finish, in milliseconds. */
  readonly drain: number
  /** The same where they cannot. */
  readonly shortDrain: number
}

/** The whole test, and what the gate runs of it. */
export const R15_WHOLE: R15Size = {
  streams: 5000,
  calls: 200,
  callTime: 5000,
  drain: 10_000,
  shortDrain: 4000,
}
export const R15_SHORT: R15Size = {
  streams: 200,
  calls: 20,
  callTime: 1000,
  drain: 5000,
  shortDrain: 500,
}

/** What one stop came to. Times are milliseconds after the signal. */
interface Stop {
  exit: number | NodeJS.Signals | null
  exitAfter: number
  /** Calls with a result, with an error, and without either. */
  answered: number
  failed: number
  lost: number
  /** Streams that ended whole, and those that were cut. */
  ended: number
  cut: number
  /** Most streams that ended in any second, as their clients saw it. */
  mostInASecond: number
  lastStreamAfter: number
  leastRetry: number | undefined
  greatestRetry: number | undefined
}

/** What a run found. Everything under `violations` breaks a promise. */
export interface R15Result {
  size: R15Size
  /** Calls finish in time. */
  drained: Stop
  /** Calls take longer than the drain time. */
  overdue: Stop
  /** A second signal comes while calls run; times are after that one. */
  twice: Stop
  readonly violations: string[]
}

/** How much later than the drain time the process may be there, and how long a second signal may take, in milliseconds. */
const GRACE = 1000

/** `restartGrace` as it is by default, in milliseconds. */
const RESTART_GRACE = 10_000

/** Streams that may end in a second. Clients see them in bursts where the machine is busy: they are given a fifth more. */
const MOST_IN_A_SECOND = 2000 * 1.2

/** A signal sooner than this after the first counts as the same, in milliseconds. */
const SECOND_SIGNAL = 400

/** Three servers are stopped, one after the other. */
export async function r15(size: R15Size, onProgress: (text: string) => void = () => {}): Promise<R15Result> {
  const violations: string[] = []
  const must = (holds: boolean, text: string): void => void (holds || violations.push(text))
  const all = size.streams
  const eachEnded = (name: string, stop: Stop): void => {
    must(stop.ended === all, `${name}: ${stop.ended} of ${all} streams ended whole`)
    must(
      stop.leastRetry !== undefined && stop.leastRetry >= RESTART_GRACE,
      `${name}: retry ${stop.leastRetry}`,
    )
    must(stop.exit === 0, `${name}: exit ${stop.exit}`)
  }

  onProgress('R15: calls that finish in time')
  const drained = await stopServer(size, { drain: size.drain, callTime: size.callTime }, violations)
  eachEnded('drained', drained)
  must(
    drained.answered === size.calls,
    `drained: ${size.calls - drained.answered} of ${size.calls} calls lost`,
  )
  must(drained.exitAfter <= size.drain + GRACE, `drained: exit after ${drained.exitAfter} ms`)
  must(drained.mostInASecond <= MOST_IN_A_SECOND, `drained: ${drained.mostInASecond} streams in a second`)

  onProgress('R15: calls that take longer than the drain time')
  const overdue = await stopServer(size, { drain: size.shortDrain, callTime: 600_000 }, violations)
  eachEnded('overdue', overdue)
  must(overdue.failed === size.calls, `overdue: ${overdue.failed} of ${size.calls} calls got an error`)
  must(overdue.exitAfter <= size.shortDrain + GRACE, `overdue: exit after ${overdue.exitAfter} ms`)

  onProgress('R15: a second signal')
  const twice = await stopServer(size, { drain: 60_000, callTime: 600_000, twice: true }, violations)
  must(twice.exit === 143, `twice: exit ${twice.exit}`)
  must(twice.exitAfter <= GRACE, `twice: exit after ${twice.exitAfter} ms`)
  return { size, drained, overdue, twice, violations }
}

async function stopServer(
  size: R15Size,
  how: { drain: number; callTime: number; twice?: boolean },
  violations: string[],
): Promise<Stop> {
  const server = await Served.start(how.drain)
  const clients = new Clients(server.url)
  try {
    await clients.open(size.streams)
    await clients.call(size.calls, how.callTime)
    let signaled = performance.now()
    server.child.kill('SIGTERM')
    // The signal and a request race for the event loop: probes are asked until one shows that the signal has won.
    let ready = await clients.status('GET', '/ready')
    while (ready === 200 && performance.now() - signaled < GRACE)
      ready = await clients.status('GET', '/ready')
    const health = await clients.status('GET', '/health')
    const opening = await clients.status('POST', '/mcp', INITIALIZE)
    if (ready !== 503 || health !== 200 || opening !== 503)
      violations.push(`/ready ${ready}, /health ${health}, initialize ${opening} while draining`)
    if (how.twice === true) {
      await new Promise((resolve) => setTimeout(resolve, SECOND_SIGNAL))
      signaled = performance.now()
      server.child.kill('SIGTERM')
    }
    const { code, at } = await server.exited
    await clients.over()
    return { exit: code, exitAfter: Math.round(at - signaled), ...clients.figures(signaled) }
  } finally {
    server.child.kill('SIGKILL')
    clients.close()
  }
}

/** The command line as its own process. */
class Served {
  readonly child: ChildProcess
  readonly url: URL
  readonly exited: Promise<{ code: number | NodeJS.Signals | null; at: number }>

  constructor(child: ChildProcess, url: URL, exited: Served['exited']) {
    this.child = child
    this.url = url
    this.exited = exited
  }

  static async start(drain: number): Promise<Served> {
    const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
    const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
    const module = fileURLToPath(new URL('./fixtures/slow-calls.mjs', import.meta.url))
    const flags = ['--port=0', `--drain-timeout=${drain}ms`, '--log-level=warn']
    const { PATH, HOME } = process.env
    const child = spawn(process.execPath, ['--import', tsx, main, 'serve', module, ...flags], {
      env: { PATH, HOME },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const exited = new Promise<{ code: number | NodeJS.Signals | null; at: number }>((resolve) => {
      child.once('exit', (code, signal) => resolve({ code: code ?? signal, at: performance.now() }))
    })
    const url = await new Promise<URL>((resolve, reject) => {
      child.stdout?.setEncoding('utf8').once('data', (text: string) => resolve(new URL(text.trim())))
      void exited.then(({ code }) => reject(new Error(`the server ended with ${code} before it listened`)))
    })
    return new Served(child, url, exited)
  }
}

const INITIALIZE = {
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'r15', version: '1' },
  },
}

const HEADERS = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' }

/** A response that comes over time. */
interface Incoming {
  text: string
  /** When it ended, and whether whole; undefined while it goes on. */
  endedAt: number | undefined
  whole: boolean
  readonly over: Promise<void>
}

/** Everyone who talks to the server. */
class Clients {
  readonly #url: URL
  readonly #shared = new Agent({ keepAlive: true, maxSockets: 64 })
  readonly #own = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY })
  readonly #sessions: string[] = []
  readonly #streams: Incoming[] = []
  readonly #calls: Incoming[] = []

  constructor(url: URL) {
    this.#url = url
  }

  /** Opens so many sessions, each with its stream. */
  async open(count: number): Promise<void> {
    await inParallel(count, 64, async () => {
      const response = await this.#send('POST', '/mcp', {}, INITIALIZE, this.#shared)
      await incoming(response).over
      const session = String(response.headers['mcp-session-id'])
      const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }
      await incoming(await this.#send('POST', '/mcp', named(session), initialized, this.#shared)).over
      this.#streams.push(incoming(await this.#send('GET', '/mcp', named(session), undefined, this.#own)))
      this.#sessions.push(session)
    })
  }

  /** Begins so many calls; resolves when all of them run. */
  async call(count: number, ms: number): Promise<void> {
    await inParallel(count, count, async (index) => {
      const message = {
        jsonrpc: '2.0',
        id: 1,
        method: 'tools/call',
        params: { name: 'slow', arguments: { ms } },
      }
      const session = this.#sessions[index] ?? ''
      this.#calls.push(incoming(await this.#send('POST', '/mcp', named(session), message, this.#own)))
    })
  }

  async status(method: string, path: string, body?: object): Promise<number | undefined> {
    const response = await this.#send(method, path, {}, body, this.#shared).catch(() => undefined)
    response?.resume()
    return response?.statusCode
  }

  /** Resolves when nothing is open any more. */
  async over(): Promise<void> {
    await Promise.all([...this.#streams, ...this.#calls].map(({ over }) => over))
  }

  figures(since: number): Omit<Stop, 'exit' | 'exitAfter'> {
    const answered = this.#calls.filter(({ text }) => text.includes('"result"')).length
    const failed = this.#calls.filter(({ text }) => text.includes('"error"')).length
    const ends = this.#streams.flatMap(({ endedAt }) => endedAt ?? []).sort((a, b) => a - b)
    // The priming event has a hint of its own, so the last one counts.
    const retries = this.#streams.flatMap(({ text }) =>
      Number(/.*^retry: (\d+)/ms.exec(text)?.[1] ?? Number.NaN),
    )
    const whole = this.#streams.filter((stream) => stream.whole).length
    return {
      answered,
      failed,
      lost: this.#calls.length - answered - failed,
      ended: whole,
      cut: this.#streams.length - whole,
      mostInASecond: mostWithin(ends, 1000),
      lastStreamAfter: Math.round((ends.at(-1) ?? since) - since),
      leastRetry: Math.min(...retries),
      greatestRetry: Math.max(...retries),
    }
  }

  close(): void {
    this.#shared.destroy()
    this.#own.destroy()
  }

  #send(
    method: string,
    path: string,
    headers: Record<string, string>,
    body: object | undefined,
    agent: Agent,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = this.#url
      const sent = request(
        { hostname, port, method, path, agent, headers: { ...HEADERS, ...headers } },
        resolve,
      )
      sent.once('error', reject)
      sent.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }
}

function named(session: string): Record<string, string> {
  return { 'Mcp-Session-Id': session, 'Mcp-Protocol-Version': '2025-11-25' }
}

function incoming(response: IncomingMessage): Incoming {
  const over = new Promise<void>((resolve) => {
    response.setEncoding('utf8').on('data', (text: string) => (state.text += text))
    response.once('error', () => {})
    response.once('close', () => {
      state.endedAt = performance.now()
      state.whole = response.complete
      resolve()
    })
  })
  const state: Incoming = { text: '', endedAt: undefined, whole: false, over }
  return state
}

async function inParallel(
  count: number,
  width: number,
  task: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const work = async (): Promise<void> => {
    while (next < count) await task(next++)
  }
  await Promise.all(Array.from({ length: width }, work))
}

/** Most of these times, in order, that lie within `span` of each other. */
function mostWithin(times: readonly number[], span: number): number {
  let most = 0
  let from = 0
  for (const [index, time] of times.entries()) {
    while (time - (times[from] ?? time) >= span) from += 1
    most = Math.max(most, index - from + 1)
  }
  return most
}

/** `npm run chaos -- r15` */
export const chaos: Chaos<R15Result> = {
  name: 'r15',
  help: [
    ['', 'SIGTERM with 5,000 streams and 200 calls of 5 s, in three ways; a minute'],
    ['--short', 'with 200 streams and 20 calls of 1 s'],
  ],
  run: ({ short }, progress) => r15(short ? R15_SHORT : R15_WHOLE, progress),
  tell(result) {
    return (['drained', 'overdue', 'twice'] as const)
      .map((name) => {
        const { exit, exitAfter, answered, failed, lost, ended, mostInASecond } = result[name]
        return (
          `R15 ${name}: exit ${exit} after ${exitAfter} ms, ${answered} calls answered, ${failed} ended with an error, ${lost} without any; ` +
          `${ended} streams ended, at most ${mostInASecond} in a second`
        )
      })
      .join('\n')
  },
  row({ size, drained, overdue, twice }) {
    return {
      test: 'R15 · 6, 8',
      done: `SIGTERM with ${count(size.streams)} open streams and ${count(size.calls)} running calls`,
      came:
        `${count(drained.answered)} answered, exit ${drained.exit} after ${seconds(drained.exitAfter)}, ` +
        `at most ${count(drained.mostInASecond)} streams ended in a second. Too little time: ${count(overdue.failed)} ended ` +
        `with an error, exit ${overdue.exit} after ${seconds(overdue.exitAfter)}. Second signal: exit ${twice.exit} after ${seconds(twice.exitAfter)}`,
    }
  },
}
