/** SECURITY.md cites tests that are there, under the names they have, and every attack has one. */

import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
const page = readFileSync(`${root}/SECURITY.md`, 'utf8')
const CITATION = /^- `(test\/[\w./-]+)`: "(.+)"$/gm

test('each cited test exists', () => {
  const wrong = [...page.matchAll(CITATION)].filter(
    ([, file = '', name = '']) =>
      !existsSync(`${root}/${file}`) || !readFileSync(`${root}/${file}`, 'utf8').includes(name),
  )
  expect(wrong.map(([line]) => line)).toEqual([])
})

test('each attack has a test, and each line that looks like a citation is one', () => {
  const [, attacks = ''] =
    page
      .split(/^## /m)
      .filter((section) => section.startsWith('Attacks'))[0]
      ?.split('Attacks\n') ?? []
  const sections = attacks.split(/^### /m).slice(1)
  expect(sections.length).toBeGreaterThan(12)
  expect(sections.filter((section) => [...section.matchAll(CITATION)].length === 0)).toEqual([])
  expect([...page.matchAll(/^- `/gm)]).toHaveLength([...page.matchAll(CITATION)].length)
})
