/**
 * `npm run demo [-- --quick]`, the demo `map`: official clients come, work, and vanish without a goodbye. Two servers are built by the same factory and
 * visited by the same clients; one is Sojourn with a short idle timeout, the other keeps the map of transports that the SDK documents.
 * Their heaps, each after a collection, are drawn over time. On a terminal one can watch; in a pipe only the result is printed. Ends
 * with 1 where a session outlives its timeout.
 */

import { type ChildProcess, fork } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

import { drawChart } from './chart.ts'
import { answerOf, screenFor } from './child.ts'
import type { Measured } from './server.ts'

const quick = process.argv.includes('--quick')

/** Times in milliseconds. Clients come during the first part of a run; the rest is for watching. */
const PLAN = quick
  ? { duration: 5000, coming: 2000, idle: 1000, sample: 200, perSample: 4, stay: 300 }
  : { duration: 27_000, coming: 18_000, idle: 3000, sample: 450, perSample: 9, stay: 1000 }

const SAMPLES = Math.round(PLAN.duration / PLAN.sample)

/** A server process, and what it said so far. */
class Subject {
  readonly mark: string
  readonly name: string
  readonly values: number[] = []
  sessions = 0
  url = new URL('http://127.0.0.1/')
  readonly #child: ChildProcess
  #start = 0

  private constructor(mark: string, name: string, child: ChildProcess) {
    this.mark = mark
    this.name = name
    this.#child = child
  }

  static async start(mark: string, kind: string, name: string): Promise<Subject> {
    const child = fork(fileURLToPath(new URL('server.ts', import.meta.url)), [kind, `${PLAN.idle}ms`], {
      execArgv: ['--import', 'tsx', '--expose-gc'],
      env: { ...process.env, NODE_ENV: 'production' },
    })
    const subject = new Subject(mark, name, child)
    const { url } = await answerOf<{ url: string }>(child, name)
    subject.url = new URL(url)
    return subject
  }

  /** What is on the heap now is where the chart begins. */
  async begin(): Promise<void> {
    this.#start = (await this.#measure()).heap
  }

  /** Takes a sample: megabytes since the beginning. */
  async sample(): Promise<void> {
    const { heap, sessions } = await this.#measure()
    this.values.push((heap - this.#start) / 1e6)
    this.sessions = sessions
  }

  stop(): void {
    this.#child.kill()
  }

  #measure(): Promise<Measured> {
    this.#child.send('measure')
    return answerOf(this.#child, this.name)
  }
}

/** A client: it connects, calls two tools, stays a while and is gone. Official clients do not send DELETE when they close. */
async function visit(url: URL, goodbye: boolean): Promise<void> {
  const client = new Client({ name: 'visitor', version: '1.0.0' })
  const transport = new StreamableHTTPClientTransport(url)
  await client.connect(transport)
  await client.callTool({ name: 'echo', arguments: { text: 'hello' } })
  await client.callTool({ name: 'add', arguments: { a: 1, b: 2 } })
  await delay(PLAN.stay)
  if (goodbye) await transport.terminateSession()
  await client.close()
}

const subjects = await Promise.all([
  Subject.start('#', 'map', "the SDK's map of transports"),
  Subject.start('o', 'sojourn', `Sojourn, idle timeout ${PLAN.idle / 1000} s`),
])
const [map, sojourn] = subjects

function chart(opened: number): string[] {
  return [
    'Heap since the start in MB, after a collection',
    ...subjects.map(({ mark, name }) => `${mark} ${name}`),
    '',
    ...drawChart(subjects, { samples: SAMPLES, height: 10, seconds: PLAN.duration / 1000 }),
    '',
    `${opened} clients came; sessions held: ${subjects.map(({ mark, sessions }) => `${mark} ${sessions}`).join('  ')}`,
  ]
}

/** The result as a table, and what it means. */
function table(): string {
  const row = (cells: readonly string[]): string =>
    cells.map((cell, index) => (index === 0 ? cell.padEnd(30) : cell.padStart(14))).join('')
  const head = row(['', 'sessions left', 'heap, highest', 'heap, at end'])
  const lines = subjects.map(({ name, values, sessions }) => {
    const end = values.at(-1) ?? 0
    const highest = Math.max(...values)
    return row([name, String(sessions), `${highest.toFixed(1)} MB`, `${end.toFixed(1)} MB`])
  })
  return [head, ...lines].map((line) => `${line}\n`).join('')
}

const { stdout } = process
const screen = screenFor(chart(0).length)

try {
  screen?.show(chart(0))
  // Whatever is made at first use is there before the chart begins. These clients say goodbye.
  for (let round = 0; round < 3; round += 1) {
    await Promise.all(subjects.flatMap(({ url }) => Array.from({ length: 10 }, () => visit(url, true))))
  }
  for (const subject of subjects) await subject.begin()

  const visits: Promise<void>[] = []
  const start = performance.now()
  let opened = 0
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    if (sample * PLAN.sample < PLAN.coming) {
      opened += PLAN.perSample
      for (const { url } of subjects) {
        for (let count = 0; count < PLAN.perSample; count += 1) {
          const visiting = visit(url, false)
          visits.push(visiting)
          // Told at the end, where all are awaited.
          visiting.catch(() => {})
        }
      }
    }
    await delay(Math.max(0, start + (sample + 1) * PLAN.sample - performance.now()))
    for (const subject of subjects) await subject.sample()
    screen?.show(chart(opened))
  }
  await Promise.all(visits)
  // On a busy machine the last visitors leave late, and their sessions are due later.
  const deadline = performance.now() + 2 * PLAN.idle + 5000
  while (sojourn.sessions > 0 && performance.now() < deadline) {
    await delay(PLAN.sample)
    for (const subject of subjects) await subject.sample()
  }
  if (screen !== undefined) screen.show(chart(opened))
  else stdout.write(`${chart(opened).join('\n')}\n`)
  stdout.write(`\n${table()}`)
  if (sojourn.sessions > 0 || map.sessions < opened) {
    stdout.write(`\nNot as it should be: ${opened} clients came.\n`)
    process.exitCode = 1
  }
} finally {
  for (const subject of subjects) subject.stop()
}
