/** docs/settings.md is what `npm run docs` would make of the table of settings now. */

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

import { renderSettings, settingsPage } from '../../scripts/make-docs.ts'
import { settings } from '../../src/settings.ts'

test('the settings reference is up to date: if not, `npm run docs`', () => {
  expect(readFileSync(settingsPage, 'utf8')).toBe(renderSettings())
})

test('it names every setting, with its flag and its environment variables', () => {
  const page = renderSettings()
  for (const { key, flag, env } of settings) {
    for (const name of [`### \`${key}\``, `\`--${flag}\``, ...env.map((each) => `\`${each}\``)]) {
      expect(page).toContain(name)
    }
  }
})

test('options that only code can give are there as well', () => {
  const page = renderSettings()
  for (const key of ['authenticate', 'principal', 'eventLog', 'logger', 'clock', 'handleSignals']) {
    expect(page).toContain(`| \`${key}\` |`)
  }
})
