/** The figures in docs/guarantees.md, from what the last runs of `npm run chaos` left. `npm run docs` and each whole run write them. */

import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** Where the figures stand, between two comments. */
export const figuresPage = fileURLToPath(new URL('../docs/guarantees.md', import.meta.url))

const RESULTS = fileURLToPath(new URL('../bench/results/reliability.json', import.meta.url))
const BEGIN =
  '<!-- figures: made by `npm run chaos` and `npm run docs` from bench/results/reliability.json -->'
const END = '<!-- end of figures -->'

interface Times {
  readonly p50: number
  readonly p99: number
}

/** What every entry of the results has beside its own figures. */
interface Entry {
  readonly machine: { readonly node: string; readonly loadAfter: number; readonly date: string }
}

interface R7Part {
  readonly requests: number
  readonly served: number
  readonly notFound: number
  readonly violations: readonly string[]
}

interface R8Entry extends Entry {
  readonly streams: number
  readonly delivered: number
  readonly lost: number
  readonly doubled: number
  readonly disordered: number
  readonly resumesWithGap: number
  readonly resumeOf50: Times
  readonly violations: readonly string[]
}

interface R15Part {
  readonly exit: number
  readonly exitAfter: number
  readonly answered: number
  readonly failed: number
  readonly ended: number
  readonly mostInASecond: number
}

/** What `npm run chaos` wrote, as far as the table shows it. */
export interface Figures {
  readonly r7?: Entry & { readonly inProcess: R7Part; readonly overHttp: R7Part }
  readonly 'r8-memory'?: R8Entry
  readonly 'r8-sqlite'?: R8Entry
  readonly r9?: Entry & {
    readonly rounds: number
    readonly sessions: number
    readonly events: number
    readonly deletes: number
    readonly violations: readonly string[]
  }
  readonly r10?: Entry & {
    readonly truncations: number
    readonly flips: number
    readonly opened: number
    readonly refused: number
    readonly diskFull?: string
    readonly violations: readonly string[]
  }
  readonly r15?: Entry & {
    readonly size: { readonly streams: number; readonly calls: number }
    readonly drained: R15Part
    readonly overdue: R15Part
    readonly twice: R15Part
    readonly violations: readonly string[]
  }
}

/** The results as they are on disk; none when there are none. */
export function readFigures(): Figures {
  try {
    return JSON.parse(readFileSync(RESULTS, 'utf8')) as Figures
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return {}
    throw error
  }
}

/** The page with its figures made anew. */
export function renderFigures(page: string, figures: Figures): string {
  const begin = page.indexOf(BEGIN)
  const end = page.indexOf(END)
  if (begin < 0 || end < begin)
    throw new Error('docs/guarantees.md has no place for figures between its two comments')
  return `${page.slice(0, begin + BEGIN.length)}\n\n${table(figures)}\n\n${page.slice(end)}`
}

/** Puts the figures of the last runs into the page. */
export function writeFigures(): void {
  writeFileSync(figuresPage, renderFigures(readFileSync(figuresPage, 'utf8'), readFigures()))
}

function table(figures: Figures): string {
  const { r7, r9, r10, r15 } = figures
  const rows: string[] = []
  if (r7 !== undefined) {
    const [here, http] = [r7.inProcess, r7.overHttp]
    rows.push(
      row(
        'R7 · 1, 3, 6',
        `${count(here.requests)} requests in one process and ${count(http.requests)} over HTTP, aimed at the moment of expiry`,
        `${count(here.served + http.served)} served, ${count(here.notFound + http.notFound)} clean 404s`,
        [...here.violations, ...http.violations],
        r7,
      ),
    )
  }
  for (const log of ['memory', 'sqlite'] as const) {
    const r8 = figures[`r8-${log}`]
    if (r8 === undefined) continue
    rows.push(
      row(
        'R8 · 4',
        `${r8.streams} streams, cut by FIN, RST or silence, ${count(r8.resumesWithGap)} resumes with a gap; ${log} log`,
        `of ${count(r8.delivered)} events ${r8.lost} lost, ${r8.doubled} doubled, ${r8.disordered} out of order; ` +
          `resume of 50 events: median ${milliseconds(r8.resumeOf50.p50)}, p99 ${milliseconds(r8.resumeOf50.p99)} (to reach: 25 ms)`,
        r8.violations,
        r8,
      ),
    )
  }
  if (r9 !== undefined)
    rows.push(
      row(
        'R9 · 9',
        `a process killed ${count(r9.rounds)} times while it writes into a SQLite store`,
        `${count(r9.sessions)} saves, ${count(r9.events)} events and ${count(r9.deletes)} ends had been acknowledged${r9.violations.length === 0 ? ': all there' : ''}`,
        r9.violations,
        r9,
      ),
    )
  if (r10 !== undefined)
    rows.push(
      row(
        'R10 · 9',
        `a SQLite store cut at ${count(r10.truncations)} places, ${count(r10.flips)} bits flipped, a full disk`,
        `${count(r10.opened)} opened, ${count(r10.refused)} refused by name${r10.violations.length === 0 ? ', never a wrong or foreign event' : ''}; ` +
          `full disk: ${r10.diskFull ?? 'not tried'}`,
        r10.violations,
        r10,
      ),
    )
  if (r15 !== undefined) {
    const { drained, overdue, twice } = r15
    rows.push(
      row(
        'R15 · 6, 8',
        `SIGTERM with ${count(r15.size.streams)} open streams and ${count(r15.size.calls)} running calls`,
        `${count(drained.answered)} answered, exit ${drained.exit} after ${seconds(drained.exitAfter)}, ` +
          `at most ${count(drained.mostInASecond)} streams ended in a second. Too little time: ${count(overdue.failed)} ended ` +
          `with an error, exit ${overdue.exit} after ${seconds(overdue.exitAfter)}. Second signal: exit ${twice.exit} after ${seconds(twice.exitAfter)}`,
        r15.violations,
        r15,
      ),
    )
  }
  return `| test · promises | what was done | what came of it | run |\n|---|---|---|---|\n${rows.join('\n')}`
}

function row(
  test: string,
  done: string,
  came: string,
  violations: readonly string[],
  { machine }: Entry,
): string {
  const broken = violations.length === 0 ? '' : `. **${count(violations.length)} violations**`
  return `| ${test} | ${done} | ${came}${broken} | ${machine.date}, Node ${machine.node.slice(1)}, load ${machine.loadAfter.toFixed(1)} |`
}

function count(value: number): string {
  return value.toLocaleString('en-US')
}

function milliseconds(value: number): string {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`
}

function seconds(value: number): string {
  return `${(value / 1000).toFixed(1)} s`
}
