/** docs/api.md is what `npm run docs` would make of the source now. */

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

import { apiPage, renderApi } from '../../scripts/api-page.ts'
import * as sojourn from '../../src/index.ts'

test('the API page is up to date: if not, `npm run docs`', () => {
  expect(readFileSync(apiPage, 'utf8')).toBe(renderApi())
})

test('it has every export, and nothing internal', () => {
  const page = renderApi()
  for (const name of Object.keys(sojourn)) expect(page).toContain(`### \`${name}\``)
  expect(page).toContain('### `SessionOptions`')
  expect(page).not.toContain('@internal')
  expect(page).not.toMatch(/~~~ts\n\n~~~|#private/)
})
