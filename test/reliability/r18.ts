/** R18: very many open streams on which nothing happens, beside those of bare Node: memory, CPU time, and one event to all of them. */

import { type Chaos, count, type Findings, milliseconds, type Progress } from './chaos.ts'
import type { OriginSpec, OriginStats } from './fixtures/origin.ts'
import { encode, inParallel, LightStream, Pool } from './load.ts'
import { type Origin, startOrigin } from './processes.ts'

/** How much is done. */
interface R18Size {
  readonly streams: number
  /** How long CPU time is counted, in milliseconds; of four keep-alives of 15 s two are pings. */
  readonly window: number
  /** `keepAliveInterval` */
  readonly keepAlive: string
}

const WHOLE: R18Size = { streams: 10_000, window: 60_000, keepAlive: '15s' }
export const R18_SHORT: R18Size = { streams: 300, window: 1500, keepAlive: '500ms' }

/** Of bare Node's resident size, of a core, and of a second in milliseconds. */
const MOST_RESIDENT = 1.5
const MOST_CORE = 0.1
const MOST_EVENT = 1000

/** Opened and dropped first, for what is made once. */
const FIRST = 100

/** What one server came to. */
interface R18Part {
  /** Resident size with the streams open, after a collection, and what of it came with them. */
  readonly residentBytes: number
  readonly bytesPerStream: number
  /** The same of the heap. */
  readonly heapPerStream: number
  /** Share of a core while nothing happens. */
  readonly core: number
  /** Milliseconds until the last stream has heard an event, the longest of some. */
  readonly event: number
  /** Pings that were answered meanwhile. */
  readonly pings: number
  /** Share of the time in which the process was ready to run and had no core. */
  readonly waited: number
}

/** What a run found. */
interface R18Findings extends Findings {
  readonly streams: number
  readonly bare: R18Part
  /** Sojourn with servers of next to nothing: its own cost. */
  readonly own: R18Part
  /** With servers of SDK v2 that sleep while nothing happens, and with the same awake. */
  readonly asleep: R18Part
  readonly awake: R18Part
}

const SERVERS = {
  bare: { kind: 'bare' },
  own: { kind: 'null' },
  asleep: { kind: 'sdk', tools: 1, options: { sleepAfter: 50 } },
  awake: { kind: 'sdk', tools: 1 },
} as const satisfies Record<string, OriginSpec>

/** Measures the four servers one after another. */
export async function r18(size: R18Size, onProgress: Progress = () => {}): Promise<R18Findings> {
  const violations: string[] = []
  const measured: Partial<Record<keyof typeof SERVERS, R18Part>> = {}
  for (const [name, spec] of Object.entries(SERVERS) as [keyof typeof SERVERS, OriginSpec][]) {
    const say = (text: string): void => onProgress(`R18 ${name}: ${text}`)
    const options = { ...spec.options, keepAliveInterval: size.keepAlive }
    const origin = await startOrigin({ ...spec, options })
    try {
      measured[name] = await measure(origin, spec, size, say, violations)
    } finally {
      await origin.stop()
    }
  }
  const { bare, own, asleep, awake } = measured as Record<keyof typeof SERVERS, R18Part>
  return { streams: size.streams, bare, own, asleep, awake, violations }
}

async function measure(
  origin: Origin,
  spec: OriginSpec,
  { streams: total, window }: R18Size,
  say: Progress,
  violations: string[],
): Promise<R18Part> {
  const pool = new Pool(origin.port, 32)
  let pings = 0
  // What is on its way when the measuring ends is cut with everything else.
  let over = false
  const onping = (session: string, id: unknown): void => {
    pings += 1
    const answer = { jsonrpc: '2.0', id, result: {} }
    pool.ask(encode('POST', { session }, answer)).then(
      ({ status }) => over || status === 202 || violations.push(`the answer to a ping got ${status}`),
      (error: unknown) => over || violations.push(`a ping could not be answered: ${String(error)}`),
    )
  }
  const openOne = async (): Promise<LightStream> => {
    const session = spec.kind === 'bare' ? 'none' : await pool.open()
    return LightStream.open(origin.port, session, { onping })
  }
  const streams: LightStream[] = []
  try {
    const first: LightStream[] = []
    await inParallel(Math.min(FIRST, total), 32, async () => void first.push(await openOne()))
    for (const stream of first) stream.cut()
    const before = await origin.collected()
    await inParallel(total, 64, async (n) => {
      streams.push(await openOne())
      if (n % 100 === 0) say(`${n} of ${total} streams`)
    })
    await settled(origin, spec)
    const open = await origin.collected()
    say('nothing happens')
    const began = performance.now()
    const quiet = await origin.stats()
    await new Promise((resolve) => setTimeout(resolve, window))
    const after = await origin.stats()
    const elapsed = performance.now() - began
    say('an event to all')
    const event = Math.max(...(await events(origin, streams, 3)))
    const gone = streams.filter((stream) => stream.gone !== undefined).length
    if (gone > 0) violations.push(`${spec.kind}: ${gone} streams ended by themselves`)
    for (const complaint of after.complaints) violations.push(`${spec.kind} complains: ${complaint}`)
    return {
      residentBytes: open.rssBytes,
      bytesPerStream: (open.rssBytes - before.rssBytes) / total,
      heapPerStream: (open.heapBytes - before.heapBytes) / total,
      core: (after.cpuMicros - quiet.cpuMicros) / 1000 / elapsed,
      event,
      pings,
      waited: (after.waitedForCore - quiet.waitedForCore) / elapsed,
    }
  } finally {
    over = true
    for (const stream of streams) stream.cut()
    pool.close()
  }
}

/** Milliseconds that each of some events took to be heard by all. */
async function events(origin: Origin, streams: readonly LightStream[], rounds: number): Promise<number[]> {
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const heard = Promise.all(streams.map((stream) => stream.until(stream.heard + 1)))
    const began = performance.now()
    await Promise.all([origin.broadcast(), heard])
    times.push(performance.now() - began)
  }
  return times
}

/** Waits until every session sleeps that is to. */
async function settled(origin: Origin, { options }: OriginSpec): Promise<OriginStats> {
  const sleeps = options?.['sleepAfter'] !== undefined
  for (;;) {
    const stats = await origin.stats()
    if (!sleeps || stats.sessions?.awake === 0) return stats
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** `npm run chaos -- r18` */
export const chaos: Chaos<R18Findings> = {
  name: 'r18',
  help: [
    ['', '10,000 idle streams beside those of bare Node: memory, CPU time, one event to all; six minutes'],
    ['--short', '300 streams'],
  ],
  async run({ short }, progress) {
    const found = await r18(short ? R18_SHORT : WHOLE, progress)
    return short ? found : { ...found, violations: [...found.violations, ...missed(found)] }
  },
  tell({ streams, bare, ...ours }) {
    return Object.entries({ bare, ...ours })
      .filter((entry): entry is [string, R18Part] => typeof entry[1] === 'object' && 'core' in entry[1])
      .map(
        ([name, part]) =>
          `R18 ${name}: ${streams} streams, ${mebibytes(part.residentBytes)} resident (${(part.residentBytes / bare.residentBytes).toFixed(2)} × bare), ` +
          `${kilobytes(part.bytesPerStream)} of it each, ${kilobytes(part.heapPerStream)} of heap; ` +
          `${(100 * part.core).toFixed(1)} % of a core, ${part.pings} pings; an event to all in ${milliseconds(part.event)}; ` +
          `without a core ${(100 * part.waited).toFixed(0)} % of the time`,
      )
      .join('\n')
  },
  row({ streams, bare, own, asleep, awake }) {
    const times = (part: R18Part): string => `${(part.residentBytes / bare.residentBytes).toFixed(2)} ×`
    const worst = Math.max(own.core, asleep.core, awake.core)
    const event = Math.max(own.event, asleep.event, awake.event)
    return {
      test: 'R18 · 7',
      done: `${count(streams)} idle streams, pings answered, beside those of bare Node in the same run`,
      came:
        `resident: bare ${mebibytes(bare.residentBytes)} (${kilobytes(bare.bytesPerStream)} each); Sojourn alone ${times(own)}, with servers of SDK v2 asleep ${times(asleep)} ` +
        `(to reach: ${MOST_RESIDENT} ×), awake ${times(awake)}; ${(100 * worst).toFixed(1)} % of a core (${100 * MOST_CORE} %); ` +
        `one event to all in ${milliseconds(event)} (${MOST_EVENT} ms)`,
    }
  },
}

/** What did not reach its figure. Servers that are awake hold what their SDK holds: their memory is told, and no promise. */
function missed({ bare, own, asleep, awake }: R18Findings): string[] {
  const found: string[] = []
  for (const [name, part] of Object.entries({ own, asleep, awake })) {
    const ratio = part.residentBytes / bare.residentBytes
    if (name !== 'awake' && ratio > MOST_RESIDENT)
      found.push(`${name}: ${ratio.toFixed(2)} × bare Node's resident size, not ${MOST_RESIDENT}`)
    if (part.core > MOST_CORE) found.push(`${name}: ${(100 * part.core).toFixed(1)} % of a core`)
    if (part.event > MOST_EVENT) found.push(`${name}: an event to all took ${milliseconds(part.event)}`)
  }
  return found
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`
}

function kilobytes(bytes: number): string {
  return `${(bytes / 1024).toFixed(1)} KiB`
}
