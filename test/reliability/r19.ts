/** R19: a storm of newcomers, and one of clients that come back: no error, nothing woken for nothing, no long stall. */

import { headerOf } from '../../bench/load/http-answer.ts'
import { initialize } from '../support/mcp-wire.ts'
import { type Chaos, count, type Findings, milliseconds, type Progress } from './chaos.ts'
import { atRate, encode, inParallel, LightStream, Pool, type Times, timesOf } from './load.ts'
import { type Origin, startOrigin } from './processes.ts'

/** How much is done. */
interface R19Size {
  /** How long newcomers come, in milliseconds. */
  readonly storm: number
  /** How many per second, by the tools of each server. */
  readonly rates: Readonly<Record<number, number>>
  readonly resumes: number
  readonly resumesPerSecond: number
}

const WHOLE: R19Size = {
  storm: 60_000,
  rates: { 1: 1000, 40: 150 },
  resumes: 10_000,
  resumesPerSecond: 1000,
}
export const R19_SHORT: R19Size = {
  storm: 2000,
  rates: { 1: 100, 40: 20 },
  resumes: 200,
  resumesPerSecond: 200,
}

/** p99 of `initialize`, and the longest that the event loop may be without a turn, in milliseconds. */
const P99 = 100
const STALL = 250

/** What one storm came to. */
interface Storm {
  readonly perSecond: number
  readonly errors: number
  /** From when each was due until its answer, or until it had heard what it had missed. */
  readonly times: Times
  readonly stall: number
  /** Share of a core. */
  readonly core: number
  /** Share of the time in which the server was ready to run and had no core: others' load. */
  readonly waited: number
}

/** What a run found. */
interface R19Findings extends Findings {
  readonly one: Storm
  readonly forty: Storm
  readonly resumes: Storm & { readonly count: number; readonly woken: number }
}

/** The three storms, each on a server of its own. */
export async function r19(size: R19Size, onProgress: Progress = () => {}): Promise<R19Findings> {
  const violations: string[] = []
  const newcomers = (tools: number): Promise<Storm> => {
    const rate = size.rates[tools] ?? 1
    onProgress(`R19: ${rate} initialize a second, ${tools} tools`)
    return onServer(tools, {}, (origin) => initializeStorm(origin, rate, size.storm, violations))
  }
  const one = await newcomers(1)
  const forty = await newcomers(40)
  onProgress(`R19: ${size.resumes} streams`)
  const resumes = await onServer(1, { sleepAfter: 50 }, (origin) =>
    resumeStorm(origin, size, violations, onProgress),
  )
  return { one, forty, resumes, violations }
}

async function onServer<T>(
  tools: number,
  options: Record<string, unknown>,
  storm: (origin: Origin) => Promise<T>,
): Promise<T> {
  const origin = await startOrigin({ kind: 'sdk', tools, options })
  try {
    return await storm(origin)
  } finally {
    await origin.stop()
  }
}

/** Does something to a server at a steady rate, and looks at the server meanwhile. */
async function measured(
  origin: Origin,
  perSecond: number,
  milliseconds_: number,
  violations: string[],
  task: (index: number) => Promise<void>,
): Promise<Storm> {
  await origin.forgetStalls()
  const before = await origin.stats()
  const began = performance.now()
  const times: number[] = []
  let errors = 0
  await atRate(perSecond, milliseconds_, async (due, index) => {
    try {
      await task(index)
      times.push(performance.now() - due)
    } catch (error) {
      errors += 1
      if (errors <= 5) violations.push(String(error))
    }
  })
  const elapsed = performance.now() - began
  const after = await origin.stats()
  for (const complaint of after.complaints) violations.push(`the server complains: ${complaint}`)
  return {
    perSecond,
    errors,
    times: timesOf(times),
    stall: after.longestStall,
    core: (after.cpuMicros - before.cpuMicros) / 1000 / elapsed,
    waited: (after.waitedForCore - before.waitedForCore) / elapsed,
  }
}

async function initializeStorm(
  origin: Origin,
  perSecond: number,
  duration: number,
  violations: string[],
): Promise<Storm> {
  const pool = new Pool(origin.port, 256)
  const request = encode('POST', {}, initialize('2025-11-25'))
  const open = async (): Promise<void> => {
    const answer = await pool.ask(request)
    if (answer.status !== 200 || headerOf(answer, 'mcp-session-id') === undefined)
      throw new Error(`initialize was answered with ${answer.status} ${answer.body.slice(0, 200)}`)
  }
  try {
    // What is compiled first is compiled by now; so are the connections there.
    await inParallel(500, 256, open)
    return await measured(origin, perSecond, duration, violations, open)
  } finally {
    pool.close()
  }
}

/** Streams that were cut, missed an event, and come back while their servers sleep. */
async function resumeStorm(
  origin: Origin,
  { resumes: total, resumesPerSecond }: R19Size,
  violations: string[],
  onProgress: Progress,
): Promise<R19Findings['resumes']> {
  const pool = new Pool(origin.port, 64)
  const streams: LightStream[] = []
  const back: LightStream[] = []
  try {
    await inParallel(total, 64, async (n) => {
      const session = await pool.open()
      streams.push(await LightStream.open(origin.port, session))
      if (n % 100 === 0) onProgress(`R19: ${n} of ${total} streams`)
    })
    await Promise.all([origin.broadcast(), ...streams.map((stream) => stream.until(1))])
    for (const stream of streams) stream.cut()
    let stats = await origin.stats()
    while ((stats.sessions?.active ?? 0) > 0 || (stats.sessions?.awake ?? 0) > 0) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      stats = await origin.stats()
    }
    // What they missed.
    await origin.broadcast()
    onProgress(`R19: ${total} resumes`)
    const duration = (total * 1000) / resumesPerSecond
    const storm = await measured(origin, resumesPerSecond, duration, violations, async (index) => {
      const { session, cursor } = streams[index] as LightStream
      const stream = await LightStream.open(origin.port, session, { cursor })
      back.push(stream)
      await stream.until(1)
    })
    // What would be woken late, or heard twice, shows now.
    await new Promise((resolve) => setTimeout(resolve, 300))
    const twice = back.filter(({ heard }) => heard !== 1).length
    if (twice > 0)
      violations.push(`${twice} streams heard another number of events than the one they had missed`)
    const woken = (await origin.stats()).woken - stats.woken
    if (woken > 0) violations.push(`${woken} sessions were woken by resumes`)
    return { ...storm, count: total, woken }
  } finally {
    for (const stream of [...streams, ...back]) stream.cut()
    pool.close()
  }
}

/** `npm run chaos -- r19` */
export const chaos: Chaos<R19Findings> = {
  name: 'r19',
  help: [
    [
      '',
      '1,000 initialize a second for a minute, 150 a second with forty tools, 10,000 resumes in 10 s; three minutes',
    ],
    ['--short', '100 and 20 a second for 2 s, 200 resumes'],
  ],
  async run({ short }, progress) {
    const found = await r19(short ? R19_SHORT : WHOLE, progress)
    return short ? found : { ...found, violations: [...found.violations, ...missed(found)] }
  },
  tell({ one, forty, resumes }) {
    return Object.entries({ 'one tool': one, 'forty tools': forty, resumes })
      .map(
        ([name, { perSecond, errors, times, stall, core, waited }]) =>
          `R19 ${name}: ${times.count} at ${perSecond} a second, ${errors} errors, p50 ${milliseconds(times.p50)}, p99 ${milliseconds(times.p99)}, ` +
          `max ${milliseconds(times.max)}; longest stall ${milliseconds(stall)}, ${(100 * core).toFixed(0)} % of a core, ` +
          `without one ${(100 * waited).toFixed(0)} % of the time`,
      )
      .concat(`R19: ${resumes.woken} sessions woken by ${resumes.count} resumes`)
      .join('\n')
  },
  row({ one, forty, resumes }) {
    const storm = ({ times, stall, core }: Storm): string =>
      `p99 ${milliseconds(times.p99)}, longest stall ${milliseconds(stall)}, ${(100 * core).toFixed(0)} % of a core`
    return {
      test: 'R19 · 7',
      done:
        `${count(one.perSecond)} \`initialize\` a second for a minute with one tool, ${forty.perSecond} with forty; ` +
        `${count(resumes.count)} resumes at ${count(resumes.perSecond)} a second while the servers sleep`,
      came:
        `${one.errors + forty.errors + resumes.errors} errors, ${resumes.woken} woken by a resume. One tool: ${storm(one)}; forty: ${storm(forty)}; ` +
        `resumes: ${storm(resumes)} (to reach: p99 of initialize ${P99} ms, stall ${STALL} ms)`,
    }
  },
}

function missed({ one, forty, resumes }: R19Findings): string[] {
  const found: string[] = []
  for (const [name, { times, stall, errors }] of Object.entries({ one, forty, resumes })) {
    if (errors > 0) found.push(`${name}: ${errors} errors`)
    if (name !== 'resumes' && times.p99 > P99)
      found.push(`${name}: p99 ${milliseconds(times.p99)}, not ${P99}`)
    if (stall > STALL)
      found.push(`${name}: the event loop had no turn for ${milliseconds(stall)}, not ${STALL}`)
  }
  return found
}
