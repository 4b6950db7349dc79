/** What a run found: the tables for people, and the JSON with every sample. */

import { CONNECTIONS, type Measured, type MemorySample, type Sample } from './measure.ts'
import type { Machine } from './machine.ts'
import { median, ratioOf, summarize, type Summary } from './stats.ts'

/** Everything that was measured in a run. */
export interface Results {
  readonly date: string
  readonly quick: boolean
  readonly machine: Machine
  readonly calls: readonly Measured<Sample>[]
  readonly memory: readonly Measured<MemorySample>[]
  readonly opens: readonly Measured<Sample>[]
}

interface CallFigures {
  readonly cpu: Summary
  readonly perSecond: number
  readonly load: number
  readonly toBare: number | undefined
  readonly toFloor: number | undefined
}

/** Microseconds of server CPU per call, round by round. */
export function cpuPerCall(result: Measured<Sample> | undefined): number[] {
  return result?.samples.map((sample) => sample.cpuMicros / sample.calls) ?? []
}

/** The floor of one SDK, round by round: bare node:http and its McpServer on a null transport. */
function floorOf(results: readonly Measured<Sample>[], sdk: string): number[] {
  const parts = cpuPerCall(results.find(({ row }) => row.id === `null-${sdk}`))
  const bare = cpuPerCall(results.find(({ row }) => row.id === 'bare'))
  return bare.flatMap((sample, round) => {
    const part = parts[round]
    return part === undefined ? [] : [sample + part]
  })
}

function callFigures(result: Measured<Sample>, all: readonly Measured<Sample>[]): CallFigures {
  const cpu = cpuPerCall(result)
  const { kind, sdk } = result.row.spec
  const served = kind === 'ours' || kind === 'sdk'
  const orNothing = (ratio: number): number | undefined => (Number.isNaN(ratio) ? undefined : ratio)
  return {
    cpu: summarize(cpu),
    perSecond: median(result.samples.map((sample) => (sample.calls / sample.elapsedMs) * 1000)),
    load: median(result.samples.map((sample) => sample.loadCpuMicros / 1000 / sample.elapsedMs)),
    toBare: orNothing(ratioOf(cpu, cpuPerCall(all.find(({ row }) => row.id === 'bare')))),
    toFloor: served ? orNothing(ratioOf(cpu, floorOf(all, sdk))) : undefined,
  }
}

function memoryFigures(sample: MemorySample): { heapKB: number; rssKB: number } {
  return {
    heapKB: (sample.after.heapUsed - sample.before.heapUsed) / sample.sessions / 1024,
    rssKB: (sample.after.rss - sample.before.rss) / sample.sessions / 1024,
  }
}

/** The tables of a run. */
export function renderResults(results: Results): string {
  const { machine } = results
  const pinned = machine.pinned.server === undefined ? 'not pinned' : 'server and generator on a core each'
  const parts = [
    `Node ${machine.node} · ${machine.platform} · ${machine.cpu}, ${machine.cores} cores, ${pinned} · load before ${machine.loadBefore.toFixed(2)}`,
    Object.entries(machine.versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(' · '),
  ]
  if (results.calls.length > 0) parts.push(callTable(results.calls))
  if (results.memory.length > 0) parts.push(memoryTable(results.memory))
  if (results.opens.length > 0) parts.push(openTable(results.opens))
  return `${parts.join('\n\n')}\n`
}

function callTable(calls: readonly Measured<Sample>[]): string {
  const lines = calls.map((result) => {
    if (result.failure !== undefined) return [result.row.label, result.failure]
    const { cpu, perSecond, load, toBare, toFloor } = callFigures(result, calls)
    const generator = result.row.spec.kind === 'null' ? '' : percent(load)
    return [
      result.row.label,
      micros(cpu.median),
      range(cpu),
      times(toBare),
      times(toFloor),
      count(perSecond),
      generator,
    ]
  })
  for (const sdk of ['v1', 'v2']) {
    const floor = floorOf(calls, sdk)
    if (floor.length === 0) continue
    const bare = calls.find(({ row }) => row.id === 'bare')
    const cells = [
      micros(median(floor)),
      range(summarize(floor)),
      times(ratioOf(floor, cpuPerCall(bare))),
      times(1),
    ]
    lines.splice(sdk === 'v1' ? 3 : 4, 0, [`floor ${sdk} = bare + McpServer ${sdk}`, ...cells])
  }
  return table(
    `tools/call echo over ${CONNECTIONS} live sessions: CPU of the server process per call`,
    ['', 'µs', 'min–max', '× bare', '× floor', 'calls/s', 'generator'],
    lines,
  )
}

function memoryTable(memory: readonly Measured<MemorySample>[]): string {
  const lines = memory.flatMap((result) => {
    if (result.failure !== undefined) return [[result.row.label, result.failure]]
    return result.samples.map((sample) => {
      const { heapKB, rssKB } = memoryFigures(sample)
      return [result.row.label, count(sample.sessions), heapKB.toFixed(1), rssKB.toFixed(1)]
    })
  })
  return table(
    'Idle sessions whose clients went away',
    ['', 'sessions', 'heap KB each', 'resident KB each'],
    lines,
  )
}

function openTable(opens: readonly Measured<Sample>[]): string {
  const lines = opens.map((result) => {
    if (result.failure !== undefined) return [result.row.label, result.failure]
    const cpu = summarize(cpuPerCall(result))
    const perSecond = median(result.samples.map((sample) => (sample.calls / sample.elapsedMs) * 1000))
    const load = median(result.samples.map((sample) => sample.loadCpuMicros / 1000 / sample.elapsedMs))
    return [result.row.label, micros(cpu.median), range(cpu), count(perSecond), percent(load)]
  })
  return table(
    'Opening sessions, initialize and initialized: CPU of the server process per session',
    ['', 'µs', 'min–max', 'opened/s', 'generator'],
    lines,
  )
}

/** The same as JSON: figures, and every sample they come from. */
export function resultsJson(results: Results): string {
  const outcome = (result: Measured<unknown>): object => ({
    id: result.row.id,
    label: result.row.label,
    ...(result.failure === undefined ? {} : { failure: result.failure }),
  })
  const json = {
    date: results.date,
    quick: results.quick,
    machine: results.machine,
    floorCpuMicrosPerCall: {
      v1: summarized(floorOf(results.calls, 'v1')),
      v2: summarized(floorOf(results.calls, 'v2')),
    },
    calls: results.calls.map((result) => ({
      ...outcome(result),
      ...(result.samples.length === 0 ? {} : callFigures(result, results.calls)),
      samples: result.samples,
    })),
    memory: results.memory.map((result) => ({
      ...outcome(result),
      samples: result.samples.map((sample) => ({ ...sample, ...memoryFigures(sample) })),
    })),
    opens: results.opens.map((result) => ({
      ...outcome(result),
      cpuMicrosPerSession: summarized(cpuPerCall(result)),
      samples: result.samples,
    })),
  }
  return `${JSON.stringify(json, undefined, 2)}\n`
}

function summarized(samples: readonly number[]): Summary | undefined {
  return samples.length === 0 ? undefined : summarize(samples)
}

const micros = (value: number): string => value.toFixed(1)
const range = ({ min, max }: Summary): string => `${min.toFixed(1)}–${max.toFixed(1)}`
const times = (ratio: number | undefined): string => (ratio === undefined ? '' : ratio.toFixed(2))
const count = (value: number): string => Math.round(value).toLocaleString('en-US')
const percent = (share: number): string => `${Math.round(share * 100)} %`

/** Aligns cells: the first to the left, figures to the right. A line of two cells says why there are no figures. */
function table(title: string, head: readonly string[], lines: readonly (readonly string[])[]): string {
  const full = lines.filter((line) => line.length > 2)
  const widths = head.map((name, column) =>
    Math.max(name.length, ...(column === 0 ? lines : full).map((line) => line[column]?.length ?? 0)),
  )
  const render = (line: readonly string[]): string =>
    line
      .map((cell, column) => {
        const width = widths[column] ?? 0
        return column === 0 || line.length === 2
          ? cell.padEnd(column === 0 ? width : 0)
          : cell.padStart(width)
      })
      .join('  ')
      .trimEnd()
  return [title, render(head), ...lines.map(render)].join('\n')
}
