/** What a run found: the tables for people, and the JSON with every sample. */

import { CONNECTIONS, type Measured, type Sample } from './bench.ts'
import { cpuOf, cpuPerCall, floorOf, kilobytes, ratio } from './figures.ts'
import type { Goal } from './goals.ts'
import type { RawResults } from './raw.ts'
import type { MemorySample } from './sessions.ts'
import { median, summarize, type Summary } from './stats.ts'

type Cells = readonly string[]

/** The tables of a run. */
export function renderResults(raw: RawResults, goals: readonly Goal[]): string {
  const { machine, mode, seconds } = raw.run
  const pinned = machine.pinned.server === undefined ? 'not pinned' : 'server and generator on a core each'
  const parts: (string | undefined)[] = [
    `Node ${machine.node} · ${machine.platform} · ${machine.cpu}, ${machine.cores} cores, ${pinned} · load before ${machine.loadBefore.toFixed(2)} · ${mode}, ${Math.round(seconds)} s`,
    Object.entries(machine.versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(' · '),
    callTable(raw),
    memoryTable('Idle sessions whose clients went away', 'sessions', raw.memory),
    sampleTable(
      'Opening sessions, initialize and initialized: CPU of the server process per session',
      'opened/s',
      raw.opens,
    ),
    memoryTable('Open GET streams, beyond their sessions', 'streams', raw.streams),
    sampleTable('Calls over many sessions: CPU of the server process per call', 'calls/s', raw.spread),
    sampleTable(
      'One notification to every open stream: CPU of the server process per stream',
      'streams/s',
      raw.broadcast,
    ),
    sampleTable(
      'Streams resumed, each of 50 missed events: CPU of the server process per stream',
      'streams/s',
      raw.resume,
    ),
    wakingTable(raw),
    endingTable(raw),
    touchingTable(raw),
    storeTable(raw),
    goalTable(goals),
  ]
  return `${parts.filter((text) => text !== undefined).join('\n\n')}\n`
}

function callTable({ calls }: RawResults): string | undefined {
  if (calls === undefined) return undefined
  const bare = cpuOf(calls, 'bare')
  const lines: Cells[] = calls.map((row) => {
    if (row.samples.length === 0) return [row.label, row.failure ?? 'not measured']
    const cpu = cpuPerCall(row)
    const sdk = /^(?:ours|sdk)-(v[12])/.exec(row.id)?.[1]
    return [
      row.label,
      ...spreadCells(cpu),
      times(ratio(cpu, bare)),
      sdk === undefined ? '' : times(ratio(cpu, floorOf(calls, sdk))),
      count(perSecond(row)),
      row.id.startsWith('null') ? '' : percent(generatorLoad(row)),
    ]
  })
  const floors = ['v1', 'v2'].flatMap((sdk): Cells[] => {
    const floor = floorOf(calls, sdk)
    if (floor.length === 0) return []
    return [
      [
        `floor ${sdk} = bare + McpServer ${sdk}`,
        ...spreadCells(floor),
        times(ratio(floor, bare)),
        '1.00',
        '',
        '',
      ],
    ]
  })
  const limits = calls.filter(({ id }) => id === 'bare' || id.startsWith('null')).length
  return table(
    `tools/call echo over ${CONNECTIONS} live sessions: CPU of the server process per call`,
    ['', 'µs', 'min–max', '× bare', '× floor', 'calls/s', 'generator'],
    [...lines.slice(0, limits), ...floors, ...lines.slice(limits)],
  )
}

function memoryTable(
  title: string,
  what: string,
  rows: readonly Measured<MemorySample>[] | undefined,
): string | undefined {
  if (rows === undefined) return undefined
  const lines = rows.flatMap((row): Cells[] => {
    if (row.samples.length === 0) return [[row.label, row.failure ?? 'not measured']]
    return row.samples.map((sample) => {
      const { heapKB, rssKB } = kilobytes(sample)
      return [row.label, count(sample.count), heapKB.toFixed(2), rssKB.toFixed(2)]
    })
  })
  return table(title, ['', what, 'heap KB each', 'resident KB each'], lines)
}

function sampleTable(
  title: string,
  rate: string,
  rows: readonly Measured<Sample>[] | undefined,
): string | undefined {
  if (rows === undefined) return undefined
  const lines = rows.map((row): Cells => {
    if (row.samples.length === 0) return [row.label, row.failure ?? 'not measured']
    return [row.label, ...spreadCells(cpuPerCall(row)), count(perSecond(row)), percent(generatorLoad(row))]
  })
  return table(title, ['', 'µs', 'min–max', rate, 'generator'], lines)
}

function wakingTable({ waking }: RawResults): string | undefined {
  if (waking === undefined) return undefined
  const lines = waking.map(({ label, samples, failure }): Cells => {
    if (samples.length === 0) return [label, failure ?? 'not measured']
    const ratios = samples.map((run) => run.wakeMicros / run.buildMicros)
    return [
      label,
      micros(median(samples.map((run) => run.buildMicros))),
      micros(median(samples.map((run) => run.wakeMicros))),
      times(median(ratios)),
      range(summarize(ratios), 2),
    ]
  })
  return table(
    'Waking a session, beside factory + connect + initialize in memory',
    ['', 'build µs', 'wake µs', 'ratio', 'min–max'],
    lines,
  )
}

function endingTable({ ending }: RawResults): string | undefined {
  if (ending === undefined) return undefined
  const lines = ending.map(({ label, samples, failure }): Cells => {
    const [run] = samples
    if (run === undefined) return [label, failure ?? 'not measured']
    return [
      label,
      (run.cpuMicros / run.sessions).toFixed(2),
      run.elapsedMs.toFixed(0),
      run.largestStallMs.toFixed(1),
      run.longestGcMs.toFixed(1),
    ]
  })
  return table(
    'Sessions that all expire at one moment',
    ['', 'µs each', 'ms in all', 'largest stall ms', 'of it one collection ms'],
    lines,
  )
}

function touchingTable({ touching }: RawResults): string | undefined {
  if (touching === undefined) return undefined
  const lines = touching.map(({ label, samples, failure }): Cells => {
    const [scale] = samples
    if (scale === undefined) return [label, failure ?? 'not measured']
    const each = scale.touches.map((run) => run.cpuMicros / run.touches)
    return [
      label,
      (scale.heapBytes / scale.sessions).toFixed(0),
      (scale.rssBytes / 2 ** 20).toFixed(0),
      median(each).toFixed(3),
      range(summarize(each), 3),
      String(Math.max(...scale.touches.map((run) => run.timers))),
    ]
  })
  return table(
    'Very many sleeping sessions in one process, and touching one of them',
    ['', 'heap bytes each', 'RSS MB in all', 'touch µs', 'min–max', 'timers'],
    lines,
  )
}

function storeTable({ store }: RawResults): string | undefined {
  if (store === undefined) return undefined
  const lines = store.map(({ label, samples, failure }): Cells => {
    const [run] = samples
    if (run === undefined) return [label, failure ?? 'not measured']
    return [label, count(run.appendsPerSecond), run.largestStallMs.toFixed(1), String(run.resumeMicros)]
  })
  return table(
    'The embedded store by itself',
    ['', 'appends/s', 'largest stall ms', 'read of 50 events µs'],
    lines,
  )
}

function goalTable(goals: readonly Goal[]): string {
  const lines = goals.flatMap(({ id, ok, parts }) => [
    `${id.padEnd(4)}${ok ? 'reached' : parts.some(({ value }) => value === undefined) ? 'not reached, or not all measured' : 'not reached'}`,
    ...parts.map((part) => `      ${part.ok ? '+' : '-'} ${part.goal}: ${part.measured}`),
  ])
  return ['Goals', ...lines].join('\n')
}

/** The same as JSON: figures, and every sample they come from. */
export function resultsJson(raw: RawResults, goals: readonly Goal[]): string {
  const { run, ...parts } = raw
  const bare = cpuOf(raw.calls, 'bare')
  const sampled = (rows: readonly Measured<Sample>[] | undefined): object[] | undefined =>
    rows?.map((row) => {
      const cpu = cpuPerCall(row)
      return {
        ...row,
        ...(cpu.length > 0 && {
          cpuMicros: summarize(cpu),
          perSecond: perSecond(row),
          generator: generatorLoad(row),
          ...(rows === raw.calls && { timesBare: ratio(cpu, bare) }),
        }),
      }
    })
  const weighed = (rows: readonly Measured<MemorySample>[] | undefined): object[] | undefined =>
    rows?.map((row) => ({
      ...row,
      samples: row.samples.map((sample) => ({ ...sample, ...kilobytes(sample) })),
    }))
  const json = {
    date: run.date,
    mode: run.mode,
    seconds: Math.round(run.seconds),
    machine: run.machine,
    goals,
    floorCpuMicros: {
      v1: summarized(floorOf(raw.calls, 'v1')),
      v2: summarized(floorOf(raw.calls, 'v2')),
    },
    ...parts,
    calls: sampled(raw.calls),
    opens: sampled(raw.opens),
    spread: sampled(raw.spread),
    broadcast: sampled(raw.broadcast),
    resume: sampled(raw.resume),
    memory: weighed(raw.memory),
    streams: weighed(raw.streams),
  }
  return `${JSON.stringify(json, undefined, 2)}\n`
}

function perSecond({ samples }: Measured<Sample>): number {
  return median(samples.map((sample) => (sample.calls / sample.elapsedMs) * 1000))
}

function generatorLoad({ samples }: Measured<Sample>): number {
  return median(samples.map((sample) => sample.loadCpuMicros / 1000 / sample.elapsedMs))
}

function summarized(samples: readonly number[]): Summary | undefined {
  return samples.length === 0 ? undefined : summarize(samples)
}

const micros = (value: number): string => value.toFixed(1)
const range = ({ min, max }: Summary, digits = 1): string => `${min.toFixed(digits)}–${max.toFixed(digits)}`
const times = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(2))
const count = (value: number): string => Math.round(value).toLocaleString('en-US')
const percent = (share: number): string => `${Math.round(share * 100)} %`
const spreadCells = (cpu: readonly number[]): Cells => [micros(median(cpu)), range(summarize(cpu))]

/** Aligns cells: the first to the left, figures to the right. A line of two cells says why there are no figures. */
function table(title: string, head: Cells, lines: readonly Cells[]): string {
  const full = lines.filter((line) => line.length > 2)
  const widths = head.map((name, column) =>
    Math.max(name.length, ...(column === 0 ? lines : full).map((line) => line[column]?.length ?? 0)),
  )
  const render = (line: Cells): string =>
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
