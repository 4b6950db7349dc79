/** P1 to P11 of issue 5, each judged by the raw samples of a run and by nothing else. */

import { cpuOf, floorOf, heapOf, middle, ratio, rowOf } from './figures.ts'
import type { RawResults } from './raw.ts'

/** One number that a goal asks for. */
export interface GoalPart {
  readonly goal: string
  /** Undefined where this run did not measure it. */
  readonly value: number | undefined
  readonly measured: string
  readonly ok: boolean
}

/** A goal, whether it is reached, and by what numbers. `ok` is false for what was not measured. */
export interface Goal {
  readonly id: string
  readonly goal: string
  readonly measured: string
  readonly ok: boolean
  readonly parts: readonly GoalPart[]
}

type Compare = 'at most' | 'at least'

/** A part that holds when `value` is at most or at least `limit`. */
function part(
  goal: string,
  value: number | undefined,
  compare: Compare,
  limit: number,
  unit: string,
): GoalPart {
  const known = value !== undefined && Number.isFinite(value)
  const met = known && (compare === 'at most' ? value <= limit : value >= limit)
  return {
    goal: `${goal}: ${compare === 'at most' ? '≤' : '≥'} ${limit.toLocaleString('en-US')}${unit}`,
    value: known ? value : undefined,
    measured: known ? `${figure(value)}${unit}` : 'not measured',
    ok: met,
  }
}

function figure(value: number): string {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US')
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2)
}

function goal(id: string, text: string, parts: readonly GoalPart[]): Goal {
  return {
    id,
    goal: text,
    measured: parts
      .map(({ goal: asked, measured, ok }) => `${asked}; ${measured}${ok ? '' : ' (no)'}`)
      .join(' · '),
    ok: parts.every(({ ok }) => ok),
    parts,
  }
}

/** Judges every goal. */
export function judge(raw: RawResults): Goal[] {
  return [
    callGoal(raw),
    asleepGoal(raw),
    awakeGoal(raw),
    touchGoal(raw),
    endingGoal(raw),
    wakingGoal(raw),
    spreadGoal(raw),
    streamGoal(raw),
    logGoal(raw),
    modernGoal(raw),
    openGoal(raw),
  ]
}

function callGoal({ calls, run }: RawResults): Goal {
  const ours = (sdk: string): number[] => cpuOf(calls, `ours-${sdk}-auto`)
  const parts = ['v1', 'v2'].flatMap((sdk) => [
    part(`${sdk} auto × its floor, first`, ratio(ours(sdk), floorOf(calls, sdk)), 'at most', 1.3, ' ×'),
    part(`${sdk} auto × its floor, then`, ratio(ours(sdk), floorOf(calls, sdk)), 'at most', 1.15, ' ×'),
    ...['json', 'sse'].map((mode) =>
      part(
        `less than SDK ${sdk} on node:http, ${mode}`,
        ratio(cpuOf(calls, `sdk-${sdk}-${mode}`), ours(sdk)),
        'at least',
        3,
        ' ×',
      ),
    ),
  ])
  // Express gained more than others with Node 22: this one is asked of Node 20 only.
  if (run.machine.node.startsWith('v20.')) {
    const express = ratio(cpuOf(calls, 'sdk-v1-express-sse'), ours('v1'))
    parts.push(part('less than SDK v1 + Express on Node 20', express, 'at least', 5, ' ×'))
  }
  parts.push(part('McpServer v1 × mcp-lite', ratio(ours('v1'), cpuOf(calls, 'mcp-lite')), 'at most', 1, ' ×'))
  return goal(
    'P1',
    'CPU per call on a live session, every check on: ≤ 1.3 × the floor, then ≤ 1.15 ×; ≥ 3 × less than the SDK’s own transport on node:http; ≥ 5 × less than SDK v1 + Express on Node 20; below mcp-lite with McpServer v1',
    parts,
  )
}

function asleepGoal({ memory, touching }: RawResults): Goal {
  const parts = ['v1', 'v2'].flatMap((sdk) =>
    [1, 40].map((tools) =>
      part(
        `${sdk}, ${tools} ${tools === 1 ? 'tool' : 'tools'}`,
        heapOf(memory, `asleep-${sdk}-${tools}`),
        'at most',
        1,
        ' KB',
      ),
    ),
  )
  const million = rowOf(touching, 'touching')?.samples[0]
  // One was really opened, and is awake.
  const whole = million !== undefined && million.asleep >= 999_999
  parts.push(
    part('1,000,000 asleep, resident', whole ? million.rssBytes / 2 ** 30 : undefined, 'at most', 1.5, ' GB'),
  )
  return goal(
    'P2',
    'a sleeping session: ≤ 1 KB heap whatever the number of tools; 1,000,000 asleep on one node in ≤ 1.5 GB',
    parts,
  )
}

function awakeGoal({ memory }: RawResults): Goal {
  const beyond = (sdk: string): number | undefined => {
    const ours = heapOf(memory, `ours-${sdk}-auto-1`)
    const alone = heapOf(memory, `null-${sdk}-1`)
    return ours === undefined || alone === undefined ? undefined : ours - alone
  }
  return goal(
    'P3',
    'an awake idle session, beyond the same McpServer connected to a transport that does nothing: ≤ 1 KB',
    ['v1', 'v2'].map((sdk) => part(`${sdk}, heap beyond its McpServer`, beyond(sdk), 'at most', 1, ' KB')),
  )
}

function touchGoal({ touching }: RawResults): Goal {
  const scale = rowOf(touching, 'touching')?.samples[0]
  const whole = scale !== undefined && scale.sessions >= 1_000_000
  const micros = whole ? scale.touches.map(({ cpuMicros, touches }) => cpuMicros / touches) : []
  const timers = whole ? Math.max(...scale.touches.map((run) => run.timers)) : undefined
  return goal('P4', 'touching one of 1,000,000 sessions: ≤ 1 µs, no timer made', [
    part('one chosen at random, found, held and let go', middle(micros), 'at most', 1, ' µs'),
    part('timers made', timers, 'at most', 0, ''),
  ])
}

function endingGoal({ ending }: RawResults): Goal {
  const asked = (id: string): number | undefined => {
    const run = rowOf(ending, id)?.samples[0]
    return run === undefined || run.sessions < 100_000 ? undefined : run.largestStallMs
  }
  return goal('P5', 'ending 100,000 expired sessions: no loop stall > 20 ms', [
    part('asleep, largest stall', asked('ending-asleep'), 'at most', 20, ' ms'),
    part('awake, largest stall', asked('ending-awake'), 'at most', 20, ' ms'),
  ])
}

function wakingGoal({ waking }: RawResults): Goal {
  return goal(
    'P6',
    'waking a session: ≤ 1.2 × (factory + connect + initialize in memory)',
    ['v1-1', 'v2-1', 'v1-40', 'v2-40'].map((id) => {
      const runs = rowOf(waking, `waking-${id}`)?.samples ?? []
      const times = middle(runs.map(({ wakeMicros, buildMicros }) => wakeMicros / buildMicros))
      return part(
        `${id.replace('-', ', ')} ${id.endsWith('-1') ? 'tool' : 'tools'}`,
        times,
        'at most',
        1.2,
        ' ×',
      )
    }),
  )
}

function spreadGoal({ spread }: RawResults): Goal {
  const times = (sdk: string, variant: string): number | undefined =>
    ratio(cpuOf(spread, `ours-${sdk}-auto-${variant}`), cpuOf(spread, `ours-${sdk}-auto-few`))
  return goal(
    'P7',
    '10,000 sessions, 90 % of the calls on 10 % of them, at most 2,000 awake: ≤ 1.5 × the cost on 32; all awake, uniform: ≤ 2.5 ×',
    ['v1', 'v2'].flatMap((sdk) => [
      part(`${sdk}, 90 % on 10 %`, times(sdk, 'hot'), 'at most', 1.5, ' ×'),
      part(`${sdk}, uniform`, times(sdk, 'many'), 'at most', 2.5, ' ×'),
    ]),
  )
}

function streamGoal({ streams }: RawResults): Goal {
  const ours = heapOf(streams, 'ours-v2-auto')
  const bare = heapOf(streams, 'bare')
  const times = ours === undefined || bare === undefined ? undefined : ours / bare
  return goal('P8', 'an open GET stream: ≤ 1.2 × bare Node’s heap', [
    part('heap × bare', times, 'at most', 1.2, ' ×'),
  ])
}

function logGoal({ calls, store }: RawResults): Goal {
  const without = cpuOf(calls, 'ours-v2-nolog')
  return goal(
    'P9',
    'event log on: auto answers ≤ 1.3 × P1, streamed ones ≤ 2.5 ×, memory log; embedded store ≥ 30,000 durable appends/s with 64 in flight',
    [
      part(
        'auto × the same without a log',
        ratio(cpuOf(calls, 'ours-v2-auto'), without),
        'at most',
        1.3,
        ' ×',
      ),
      part(
        'streamed × auto without a log',
        ratio(cpuOf(calls, 'ours-v2-sse'), without),
        'at most',
        2.5,
        ' ×',
      ),
      part('durable appends', rowOf(store, 'store')?.samples[0]?.appendsPerSecond, 'at least', 30_000, '/s'),
    ],
  )
}

function modernGoal({ calls }: RawResults): Goal {
  const less = (ours: string, tools: number): number | undefined =>
    ratio(cpuOf(calls, `handler-${tools}`), cpuOf(calls, `ours-${ours}-${tools}`))
  return goal(
    'P10',
    'the 2026-07-28 leg, a server built per request: ≥ 1.5 × less CPU than createMcpHandler; pooled (opt-in): ≥ 4 × with 1 tool, ≥ 20 × with 40',
    [
      part('built per request, 1 tool', less('modern', 1), 'at least', 1.5, ' ×'),
      part('pooled, 1 tool', less('pooled', 1), 'at least', 4, ' ×'),
      part('pooled, 40 tools', less('pooled', 40), 'at least', 20, ' ×'),
    ],
  )
}

function openGoal({ opens }: RawResults): Goal {
  return goal(
    'P11',
    'opening sessions: ≥ 2 × the SDK’s own transport on node:http with the same McpServer',
    ['v1', 'v2'].map((sdk) =>
      part(
        `${sdk}, sessions per CPU second × the SDK’s`,
        ratio(cpuOf(opens, `sdk-${sdk}-sse`), cpuOf(opens, `ours-${sdk}-auto`)),
        'at least',
        2,
        ' ×',
      ),
    ),
  )
}
