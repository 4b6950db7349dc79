/**
 * `npm run demo -- restart [--quick]`. First an official client counts in its session, while the server is killed (`kill -9`) and started
 * again under it. Then many sessions come, and fall asleep: their servers are let go, which the heap shows; the server is killed once more,
 * and all of them are there when it is back. Ends with 1 where a number is lost or counted twice, a session is gone, or the memory stays.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

import { drawChart } from './chart.ts'
import { answerOf, screenFor } from './child.ts'
import type { Counted } from './counter.ts'

const quick = process.argv.includes('--quick')

/** Times in milliseconds; `kills`: how often the server is killed under the client that counts. */
const PLAN = quick
  ? { calls: 10, kills: 1, tick: 50, sessions: 150, coming: 1200, sleepAfter: 1000, sample: 200, samples: 18 }
  : {
      calls: 60,
      kills: 2,
      tick: 100,
      sessions: 1000,
      coming: 6000,
      sleepAfter: 3000,
      sample: 400,
      samples: 40,
    }

/** How soon a call is repeated that found nobody, in milliseconds. */
const PAUSE = 250

/** The server: killed, and started again on the same port with the same file. */
class Server {
  url = new URL('http://127.0.0.1/')
  readonly #file: string
  readonly #sleepAfter: string
  #child: ChildProcess | undefined

  constructor(file: string, sleepAfter: string) {
    this.#file = file
    this.#sleepAfter = sleepAfter
  }

  async start(): Promise<void> {
    const port = this.url.port === '' ? '0' : this.url.port
    const child = fork(
      fileURLToPath(new URL('counter.ts', import.meta.url)),
      [port, this.#file, this.#sleepAfter],
      {
        execArgv: ['--import', 'tsx', '--expose-gc'],
        env: { ...process.env, NODE_ENV: 'production' },
      },
    )
    this.#child = child
    const { url } = await answerOf<{ url: string }>(child, 'the demo')
    this.url = new URL(url)
  }

  async measure(): Promise<Counted> {
    const child = this.#child
    if (child === undefined) throw new Error('the server does not run')
    child.send('measure')
    return answerOf(child, 'the demo')
  }

  /** As the kernel does it when memory is short: nothing in the process is told. */
  async kill(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }
}

const problems: string[] = []

// ── A client counts ──

/** One column per moment: what the server was, and what became of the client's call. */
const moments: { server: '=' | 'K' | '.'; client: 'o' | 'x' | ' ' }[] = []
let counted = 0
let repeated = 0

function timeline(): string[] {
  // As much of the end as fits.
  const shown = moments.slice(-72)
  return [
    `One client counts in its session; kill -9 ${PLAN.kills === 1 ? 'once' : 'twice'}`,
    '',
    `server  ${shown.map(({ server }) => server).join('')}`,
    `client  ${shown.map(({ client }) => client).join('')}`,
    '',
    'server  = runs, K killed, . starts again',
    'client  o the next number, x nobody listens: the call is repeated',
    `counted to ${counted} in one session; ${repeated} calls found nobody`,
  ]
}

async function countThroughKills(server: Server): Promise<void> {
  const screen = screenFor(timeline().length)
  const client = new Client({ name: 'counting', version: '1.0.0' })
  const transport = new StreamableHTTPClientTransport(server.url)
  // The GET stream that breaks with the server; the client opens it again by itself.
  client.onerror = () => {}
  await client.connect(transport)
  const session = transport.sessionId
  let starting: Promise<void> | undefined
  let kills = 0
  while (counted < PLAN.calls) {
    if (kills < PLAN.kills && counted >= ((kills + 1) * PLAN.calls) / (PLAN.kills + 1)) {
      kills += 1
      await server.kill()
      moments.push({ server: 'K', client: ' ' })
      const started = server.start().then(() => {
        starting = undefined
      })
      starting = started
      // Told by the wait below.
      started.catch(() => {})
    }
    const runs = starting === undefined
    try {
      const { content } = await client.callTool({ name: 'count' })
      const [{ text }] = content as [{ text: string }]
      if (Number(text) !== counted + 1) problems.push(`after ${counted} came ${text}`)
      counted = Number(text)
      moments.push({ server: '=', client: 'o' })
    } catch (error) {
      // What is refused while the server runs is no kill's fault.
      if (runs) throw error
      repeated += 1
      moments.push({ server: '.', client: 'x' })
    }
    screen?.show(timeline())
    await Promise.race([
      delay(starting === undefined ? PLAN.tick : PAUSE),
      ...(starting === undefined ? [] : [rejecting(starting)]),
    ])
  }
  if (transport.sessionId !== session) problems.push('the client had to open another session')
  await client.close()
  if (screen === undefined) process.stdout.write(`${timeline().join('\n')}\n`)
}

/** Never resolves; rejects as the promise does. */
async function rejecting(promise: Promise<void>): Promise<never> {
  await promise
  return new Promise<never>(() => {})
}

// ── Many fall asleep ──

async function post(url: URL, message: object, session?: string): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Accept: 'application/json, text/event-stream',
      ...(session === undefined ? {} : { 'Mcp-Session-Id': session }),
    },
    body: JSON.stringify({ jsonrpc: '2.0', ...message }),
  })
}

const COUNT = { id: 1, method: 'tools/call', params: { name: 'count' } }

/** Opens a session, counts to one in it and leaves; gives its id. */
async function visit(url: URL): Promise<string> {
  const clientInfo = { name: 'visitor', version: '1.0.0' }
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo }
  const opened = await post(url, { id: 0, method: 'initialize', params })
  await opened.text()
  const id = opened.headers.get('mcp-session-id') ?? ''
  await (await post(url, { method: 'notifications/initialized' }, id)).text()
  await (await post(url, COUNT, id)).text()
  return id
}

async function fallAsleep(server: Server): Promise<void> {
  const heap: number[] = []
  let state: Counted = { heap: 0, awake: 0, asleep: 0 }
  const picture = (): string[] => [
    `${PLAN.sessions} sessions come, are used, and fall asleep after ${PLAN.sleepAfter / 1000} s`,
    'Heap since the start in MB, after a collection',
    '',
    ...drawChart([{ mark: 'o', values: heap }], {
      samples: PLAN.samples,
      height: 10,
      seconds: (PLAN.samples * PLAN.sample) / 1000,
    }),
    '',
    `awake ${state.awake}, asleep ${state.asleep}`,
  ]
  process.stdout.write('\n')
  const screen = screenFor(picture().length)
  // What is made at first use is there before the chart begins. These say goodbye.
  for (let round = 0; round < 10; round += 1) {
    const id = await visit(server.url)
    await (await fetch(server.url, { method: 'DELETE', headers: { 'Mcp-Session-Id': id } })).text()
  }
  const start = (await server.measure()).heap
  const sample = async (): Promise<void> => {
    state = await server.measure()
    heap.push((state.heap - start) / 1e6)
    screen?.show(picture())
  }

  const visits: Promise<string>[] = []
  const coming = Math.ceil(PLAN.coming / PLAN.sample)
  const began = performance.now()
  for (let step = 0; step < PLAN.samples; step += 1) {
    const due = Math.min(PLAN.sessions, Math.ceil(((step + 1) * PLAN.sessions) / coming))
    while (visits.length < due) visits.push(visit(server.url))
    await delay(Math.max(0, began + (step + 1) * PLAN.sample - performance.now()))
    await sample()
  }
  const ids = await Promise.all(visits)
  // A busy machine takes longer.
  for (let late = 0; state.awake > 0 && late < 50; late += 1) {
    await delay(PLAN.sample)
    state = await server.measure()
    heap[PLAN.samples - 1] = (state.heap - start) / 1e6
    screen?.show(picture())
  }
  const most = Math.max(...heap)
  const least = heap.at(-1) ?? most
  if (screen === undefined) process.stdout.write(`${picture().join('\n')}\n`)
  process.stdout.write(
    `\nheap ${most.toFixed(1)} MB with all awake, ${least.toFixed(1)} MB with all asleep\n`,
  )
  if (state.awake > 0) problems.push(`${state.awake} sessions did not fall asleep`)
  if (least > most / 2) problems.push('the memory of sleeping sessions was not given back')

  await server.kill()
  const down = performance.now()
  await server.start()
  const took = ((performance.now() - down) / 1000).toFixed(1)
  let found = 0
  for (const id of ids) {
    const response = await post(server.url, COUNT, id)
    if (response.status === 200 && (await response.text()).includes('"text":"2"')) found += 1
  }
  process.stdout.write(
    `kill -9, and started again in ${took} s: ${found} of ${PLAN.sessions} sessions count on to 2\n`,
  )
  if (found < PLAN.sessions) problems.push(`${PLAN.sessions - found} sessions were lost`)
}

const directory = mkdtempSync(join(tmpdir(), 'sojourn-demo-'))
const counting = new Server(join(directory, 'counting.db'), '10m')
const sleeping = new Server(join(directory, 'sleeping.db'), `${PLAN.sleepAfter}ms`)
try {
  await counting.start()
  await countThroughKills(counting)
  await counting.kill()
  await sleeping.start()
  await fallAsleep(sleeping)
} finally {
  await counting.kill()
  await sleeping.kill()
  rmSync(directory, { recursive: true, force: true })
}
for (const problem of problems) process.stdout.write(`Not as it should be: ${problem}.\n`)
if (problems.length > 0) process.exitCode = 1
