/** `npm run docs`: makes docs/settings.md of the table in src/settings.ts, docs/api.md, and the figures in
 * docs/guarantees.md. Tests fail while they differ. */

import { readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

import { formatValue } from '../src/setting-value.ts'
import type { SettingRule } from '../src/setting-value.ts'
import { settings } from '../src/settings.ts'
import type { Setting, SettingGroup } from '../src/settings.ts'
import { apiPage, renderApi } from './api-page.ts'
import { writeFigures } from './figures.ts'

/** Where the reference stands. */
export const settingsPage = fileURLToPath(new URL('../docs/settings.md', import.meta.url))

// What a reader of the page wants to know of a whole group, and cannot tell from its rows.
const introductions: Readonly<Record<SettingGroup, string>> = {
  Listening: 'For `runHttp` and `sojourn serve`. An app that you mount yourself listens where you let it.',
  Security:
    'Who may talk to this server at all; see [behind a proxy](guides/behind-a-proxy.md) and [authentication](guides/authentication.md).',
  Authentication:
    'For `sojourn serve` only; in code, `authenticate` takes what `bearerAuth` of `sojourn/auth` makes. See [authentication](guides/authentication.md).',
  Sessions: 'How long sessions live, and how many; see [choosing timeouts](guides/choosing-timeouts.md).',
  Streams: 'How answers travel, and what is kept for clients that come back.',
  Limits:
    'What exceeds one of these costs the request or the connection that exceeded it, never the process.',
  'Command line': 'For `sojourn serve` only. In code, pass a `logger`.',
}

/** The text of the reference, from the table and the doc comments of the options' types. */
export function renderSettings(): string {
  const comments = optionComments()
  const groups = [...new Set(settings.map(({ group }) => group))]
  return `<!-- Made by \`npm run docs\` from src/settings.ts and src/types.ts. Change those, not this page. -->

# Settings

Every setting has one meaning and up to three names: an option in code, a flag of \`sojourn serve\`, an environment variable. Where more than one is
given, the option wins over the flag, the flag over the environment, and that over the default. \`sojourn settings\` shows what holds and where it
came from. A wrong value stops the start and says what it got and what it takes; an empty environment variable counts as not set.

- A **duration** is a number with a unit: \`500ms\`, \`30s\`, \`5m\`, \`2h\`, \`1d\`. In code a bare number is milliseconds; in flags and environment the unit is
  required. Where *Infinity* is allowed, it turns the timeout off; where *0* is, it means at once.
- A **size** is a number with a unit: \`512B\`, \`16KiB\`, \`4MiB\`, \`1GiB\`. In code a bare number is bytes.
- A **rate** is a number with a unit of time: \`10/s\`, \`90/m\`, \`1000/h\`. In code a bare number is per second.
- A **list** is an array in code, and separated by commas elsewhere.
- A **switch** is \`true\` or \`false\` in code and in the environment; its flag alone means true.

${groups.map((group) => section(group, comments)).join('\n')}
## Only in code

Not everything can be written as text. \`httpApp\`, \`runHttp\` and the adapters also take these; their types tell the rest.

| option | what it is |
|---|---|
${codeOnly(comments)}
`
}

function section(group: SettingGroup, comments: ReadonlyMap<string, string>): string {
  const rows = settings.filter((setting) => setting.group === group)
  return `## ${group}\n\n${introductions[group]}\n\n${rows.map((row) => entry(row, comments)).join('\n')}`
}

function entry(setting: Setting, comments: ReadonlyMap<string, string>): string {
  const { key, flag, env, rule, scope } = setting
  const initial = setting.default === false ? 'false' : formatValue(rule, setting.default)
  const names = [`\`--${flag}\``, ...env.map((name) => `\`${name}\``)].join(' · ')
  const comment = scope === 'command-line' ? undefined : comments.get(key)
  return `### \`${key}\`

${sentence(comment ?? setting.description)}

- takes ${takes(rule)}; default \`${initial}\`
- ${names}
`
}

function takes(rule: SettingRule): string {
  switch (rule.kind) {
    case 'duration': {
      const edges = [rule.zero === true ? '0' : undefined, rule.infinity === true ? 'Infinity' : undefined]
      const also = edges.filter((edge) => edge !== undefined).join(' or ')
      return `a duration${also === '' ? '' : `, or *${also}*`}`
    }
    case 'bytes':
      return 'a size'
    case 'share':
      return 'a percentage, a size, or *Infinity*'
    case 'rate':
      return 'a rate, or *Infinity*'
    case 'integer':
      return `a whole number, ${rule.max === undefined ? `at least ${rule.min}` : `${rule.min} to ${rule.max}`}${rule.infinity === true ? ', or *Infinity*' : ''}`
    case 'boolean':
      return 'a switch'
    case 'choice':
      return rule.values.map((value) => `\`${value}\``).join(', ')
    case 'list':
      return `a list of ${rule.entry}s, or \`${rule.wildcard}\``
    case 'path':
      return 'a URL path'
    case 'file':
      return 'the path of a file'
    case 'store':
      return '`memory`, or `sqlite:` and the path of a file; in code also a `SessionStore`'
    case 'string':
      return 'a text'
    case 'url':
      return 'a URL'
    case 'words':
      return `words such as \`${rule.example}\`, separated by commas`
  }
}

function codeOnly(comments: ReadonlyMap<string, string>): string {
  const asText = new Set<string>(settings.map(({ key }) => key))
  return [...comments]
    .filter(([key]) => !asText.has(key))
    .map(([key, comment]) => `| \`${key}\` | ${sentence(comment)} |`)
    .join('\n')
}

/** The doc comments of the options in src/types.ts, by option. */
function optionComments(): ReadonlyMap<string, string> {
  const source = readFileSync(new URL('../src/types.ts', import.meta.url), 'utf8')
  const found = new Map<string, string>()
  for (const name of ['SessionOptions', 'AppOptions', 'RunHttpOptions']) {
    const body = new RegExp(`export interface ${name}\\b[^{]*\\{\\n(.*?)\\n\\}`, 's').exec(source)?.[1]
    if (body === undefined) throw new Error(`src/types.ts has no interface ${name}`)
    for (const [, comment = '', key = ''] of body.matchAll(/\/\*\*(.*?)\*\/\s*(\w+)\?:/gs)) {
      found.set(key, plain(comment))
    }
  }
  return found
}

function plain(comment: string): string {
  return comment
    .replace(/^\s*\*\s?/gm, ' ')
    .replace(/\{@link (\w+)\}/g, '`$1`')
    .replace(/\s+/g, ' ')
    .trim()
}

function sentence(text: string): string {
  const whole = /[.!?)]$/.test(text) ? text : `${text}.`
  return whole.charAt(0).toUpperCase() + whole.slice(1)
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  writeFileSync(settingsPage, renderSettings())
  writeFileSync(apiPage, renderApi())
  writeFigures()
}
