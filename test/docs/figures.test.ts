/** The figures in docs/guarantees.md are those of the last runs, and say so when a promise was broken. */

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

import { figuresPage, readFigures, renderFigures } from '../../scripts/figures.ts'
import { tests } from '../reliability/tests.ts'

const page = readFileSync(figuresPage, 'utf8')

test('the figures are up to date: if not, `npm run docs`', () => {
  expect(page).toBe(renderFigures(page, readFigures()))
})

test('a run with violations is told, a test that never ran has no row', () => {
  const { r9 } = readFigures()
  if (r9 === undefined) return
  const text = renderFigures(page, { r9: { ...r9, violations: ['one', 'two'] } })
  expect(text).toContain('**2 violations**')
  expect(text).not.toContain('| R10 ·')
})

test('whatever is kept belongs to a test: nothing is left of one that was renamed', () => {
  const names = new Set(tests.map(({ name }) => name))
  expect(Object.keys(readFigures()).filter((key) => !names.has(key.replace(/-.*/, '')))).toEqual([])
})
