/** The figures in docs/guarantees.md, from what the last runs of `npm run chaos` left. `npm run docs` and each whole run write them. */

import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import { count, type Entry, type Findings } from '../test/reliability/chaos.ts'
import { tests } from '../test/reliability/tests.ts'

/** Where the figures stand, between two comments. */
export const figuresPage = fileURLToPath(new URL('../docs/guarantees.md', import.meta.url))

const RESULTS = fileURLToPath(new URL('../bench/results/reliability.json', import.meta.url))
const BEGIN =
  '<!-- figures: made by `npm run chaos` and `npm run docs` from bench/results/reliability.json -->'
const END = '<!-- end of figures -->'

/** What `npm run chaos` wrote, by test, or by test and a word for the way it ran (`r8-sqlite`). */
export type Figures = Readonly<Record<string, Findings & Entry>>

/** The results as they are on disk; none when there are none. */
export function readFigures(): Figures {
  try {
    return JSON.parse(readFileSync(RESULTS, 'utf8')) as Figures
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return {}
    throw error
  }
}

/** Adds the findings of one run to those of the others, and to the page. */
export function keepFigures(key: string, entry: Findings & Entry): void {
  const all = Object.entries({ ...readFigures(), [key]: entry }).sort(([a], [b]) =>
    a.localeCompare(b, 'en', { numeric: true }),
  )
  writeFileSync(RESULTS, `${JSON.stringify(Object.fromEntries(all), undefined, 2)}\n`)
  writeFigures()
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
  const rows = tests.flatMap((each) =>
    Object.entries(figures)
      .filter(([key]) => key === each.name || key.startsWith(`${each.name}-`))
      .map(([, entry]) => {
        const { test, done, came } = each.row(entry)
        const { machine, violations } = entry
        const broken = violations.length === 0 ? '' : `. **${count(violations.length)} violations**`
        const loads = [machine.loadBefore, machine.loadAfter].flatMap((load) => load?.toFixed(1) ?? [])
        return `| ${test} | ${done} | ${came}${broken} | ${machine.date}, Node ${machine.node.slice(1)}, load ${loads.join(' → ')} |`
      }),
  )
  return `| test · promises | what was done | what came of it | run |\n|---|---|---|---|\n${rows.join('\n')}`
}
