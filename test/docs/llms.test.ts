/** llms.txt at the root is docs/llms.txt with other paths, and what both link is there. */

import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
const links = (text: string): string[] => Array.from(text.matchAll(/\]\(([^)]+)\)/g), ([, path = '']) => path)

test('both say the same', () => {
  const root = read('llms.txt').replaceAll('](docs/', '](').replace('](README.md)', '](../README.md)')
  expect(root).toBe(read('docs/llms.txt'))
})

test('what they link is there', () => {
  expect(links(read('llms.txt')).length).toBeGreaterThan(5)
  for (const path of links(read('llms.txt'))) {
    expect(existsSync(new URL(`../../${path}`, import.meta.url)), path).toBe(true)
  }
})
