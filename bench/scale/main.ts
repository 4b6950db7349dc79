/** Entry of the process that measures what no generator can ask for: waking, and what very many sessions cost. */

import { PerformanceObserver } from 'node:perf_hooks'
import { fillAsleep, makeApp, openSessions } from './app.ts'
import { loadEchoServer } from '../servers/echo-server.ts'
import type { McpServerLike } from '../../src/types.ts'
import { echoRequest } from '../shared/echo.ts'
import { build, post } from '../shared/in-process.ts'
import { cpuMicros, serveDriver } from '../shared/ipc.ts'
import type { EndingRun, ScaleRun, TouchRun, WakingRun } from '../shared/scale-types.ts'
import type { SdkVersion } from '../shared/types.ts'

const HOUR = 3_600_000

type Factory = () => McpServerLike

async function factoryOf({ sdk, tools }: { sdk: SdkVersion; tools: number }): Promise<Factory> {
  return (await loadEchoServer(sdk, tools)) as unknown as Factory
}

/** Sleeping sessions woken one after another, in turn with servers that are only built, connected and initialized. */
async function waking(argument: {
  sdk: SdkVersion
  tools: number
  sessions: number
  rounds: number
}): Promise<WakingRun[]> {
  const createServer = await factoryOf(argument)
  const { app, clock } = makeApp(createServer, {
    sessionIdleTimeout: Number.POSITIVE_INFINITY,
    sleepAfter: HOUR,
  })
  const woken: number[] = []
  app.sessions.subscribe((event) => {
    if (event.type === 'session.woken') woken.push(event.durationMs * 1000)
  })
  const ids = await openSessions(app, argument.sessions, true)
  const runs: WakingRun[] = []
  // The first round is not counted.
  for (let round = -1; round < argument.rounds; round += 1) {
    const built: number[] = []
    for (let made = 0; made < argument.sessions; made += 1) {
      built.push(await build(createServer))
      // A turn between, as there is between two requests.
      await new Promise(setImmediate)
    }
    clock.jump(2 * HOUR)
    while (app.sessions.counts.awake > 0) await new Promise(setImmediate)
    woken.length = 0
    for (const id of ids) await post(app, echoRequest(1), id)
    if (woken.length !== ids.length)
      throw new Error(`${woken.length} of ${ids.length} calls woke their session`)
    if (round >= 0) runs.push({ buildMicros: middle(built), wakeMicros: middle(woken) })
  }
  await app.close()
  return runs
}

/** Very many sessions that all expire at one moment: the longest time that the event loop gets no turn. */
async function ending(argument: { sdk: SdkVersion; sessions: number; awake: boolean }): Promise<EndingRun> {
  const createServer = await factoryOf({ ...argument, tools: 1 })
  const { app, clock } = makeApp(createServer, {
    sessionIdleTimeout: 10 * HOUR,
    unusedSessionTimeout: 10 * HOUR,
  })
  if (argument.awake) await openSessions(app, argument.sessions, false)
  else await fillAsleep(app, clock, argument.sessions)
  collect()
  let longestGc = 0
  const observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) longestGc = Math.max(longestGc, duration)
  })
  observer.observe({ entryTypes: ['gc'] })
  const cpu = cpuMicros()
  const began = performance.now()
  clock.jump(11 * HOUR)
  let largestStallMs = 0
  for (let last = performance.now(); app.sessions.size > 0;) {
    await new Promise(setImmediate)
    const now = performance.now()
    largestStallMs = Math.max(largestStallMs, now - last)
    last = now
  }
  const run = {
    sessions: argument.sessions,
    elapsedMs: performance.now() - began,
    cpuMicros: cpuMicros() - cpu,
    largestStallMs,
  }
  await new Promise(setImmediate)
  observer.disconnect()
  await app.close()
  return { ...run, longestGcMs: longestGc }
}

/** What a process holds that has very many sleeping sessions, and what finding, holding and letting go of one of them takes. */
async function touching(argument: { sessions: number; touches: number; rounds: number }): Promise<ScaleRun> {
  const createServer = await factoryOf({ sdk: 'v2', tools: 1 })
  collect()
  const before = process.memoryUsage()
  const { app, clock } = makeApp(createServer, { sessionIdleTimeout: 10 * HOUR, sleepAfter: HOUR })
  const { table, ids } = await fillAsleep(app, clock, argument.sessions)
  collect()
  await new Promise(setImmediate)
  collect()
  const after = process.memoryUsage()
  const touch = (id: string): void => {
    const hold = table.find(id)?.clock.holdProvisionally('exchange')
    hold?.confirm()
    hold?.release()
  }
  const runs: TouchRun[] = []
  for (let round = -1; round < argument.rounds; round += 1) {
    const order = Array.from(
      { length: argument.touches },
      () => ids[Math.floor(Math.random() * ids.length)] ?? '',
    )
    const timers = clock.timers
    const cpu = cpuMicros()
    for (const id of order) touch(id)
    const micros = cpuMicros() - cpu
    if (round >= 0) runs.push({ touches: argument.touches, cpuMicros: micros, timers: clock.timers - timers })
    await new Promise(setImmediate)
  }
  const asleep = app.sessions.counts.asleep
  return {
    sessions: argument.sessions,
    asleep,
    // The ids are the clients' to keep; here they are kept as well, and counted.
    heapBytes: after.heapUsed - before.heapUsed,
    rssBytes: after.rss,
    touches: runs,
  }
}

function collect(): void {
  const { gc } = globalThis as { gc?: () => void }
  if (gc === undefined) throw new Error('needs --expose-gc')
  gc()
  gc()
}

function middle(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

serveDriver({ waking, ending, touching }, { port: 0 })
