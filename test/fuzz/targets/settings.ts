/** Settings: whatever stands in a flag or a variable is taken as documented, or refused by name. */

import { parseArguments, UsageError } from '../../../src/cli/arguments.ts'
import { formatByteSize, formatDuration, parseByteSize, parseDuration } from '../../../src/duration.ts'
import { checkValue, formatValue, readValue } from '../../../src/setting-value.ts'
import { resolveListenOptions } from '../../../src/options.ts'
import { findSettings, settings as table } from '../../../src/settings.ts'
import { must, utf8, type Target } from '../target.ts'

/** Words of a command line, one a line; those with `NAME=` stand in the environment as well. */
export const settings: Target = {
  name: 'settings',
  about: 'flags, environment variables, durations, byte sizes',
  seeds: [
    '--session-idle-timeout=30m\n--port\n8080\nserver.ts',
    'SOJOURN_MAX_BODY_SIZE=4MiB\nPORT=3000\n--no-stateless',
    '--allowed-hosts=a.example,b.example:80\n--cors-origins\nhttps://a.example',
    '1.5h\n2147483648ms\n1e3s\n0\nInfinity\n16KiB',
    '--path=/mcp\n--store=sqlite:./a.db\n--response-mode=json\n--trusted-proxies=1',
  ],
  words: [...table.flatMap(({ flag, env }) => [`--${flag}=`, `--no-${flag}`, ...env.map((name) => `${name}=`)]), 'ms', 's', 'm', 'h', 'd', 'B', 'KiB', 'MiB', 'GiB', 'Infinity', '--', '-h', 'any', '*', 'true', 'no'], // prettier-ignore
  longest: 1024,
  deadline: 1000,
  open: () => ({
    run(input) {
      const words = utf8(input).split('\n')
      for (const word of words.slice(0, 8)) checkText(word.slice(word.indexOf('=') + 1))
      const flags = refusable(() => parseArguments('sojourn serve', words, ['help']), UsageError)?.flags
      // A variable cannot hold NUL, nor can a flag.
      const env = Object.fromEntries(
        words.filter((word) => word.indexOf('=') > 0).map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]), // prettier-ignore
      )
      const found = refusable(() => findSettings(table, { flags: flags ?? {}, env }), RangeError, TypeError)
      for (const [key, { value }] of found ?? []) {
        const rule = table.find((setting) => setting.key === key)?.rule
        if (rule === undefined || value === undefined) continue
        // What was taken is taken again, as it is and as it is written.
        must(same(checkValue(rule, key, value), value), `${key} is another when given again`)
        const text = formatValue(rule, value)
        if (text === 'none') continue
        must(same(refusable(() => readValue(rule, key, text), RangeError), value), `${key} is written as ${text}, which is read differently`) // prettier-ignore
      }
      refusable(() => resolveListenOptions({}, env), RangeError, TypeError)
    },
  }),
}

/** Each kind of setting takes a text or refuses it, with a message that begins with the name and is not endless. */
function checkText(text: string): void {
  for (const { rule, flag } of BY_KIND.values()) {
    try {
      const value = readValue(rule, `--${flag}`, text)
      if (rule.kind === 'duration') must(typeof value === 'number' && value >= 0, `a duration of ${value}`)
      if (rule.kind === 'bytes') must(Number.isSafeInteger(value) && Number(value) >= 1, `a size of ${value}`)
      if (rule.kind === 'integer') must(typeof value === 'number' && value >= rule.min && value <= (rule.max ?? Infinity), `a number of ${value}`) // prettier-ignore
    } catch (thrown) {
      if (!(thrown instanceof RangeError)) throw thrown
      must(thrown.message.startsWith(`--${flag}`), `a refusal does not name its flag: ${thrown.message}`)
      must(thrown.message.length < 1000, 'a refusal is endless')
    }
  }
  const ms = parseDuration(text)
  if (ms !== undefined) must(ms >= 0 && parseDuration(formatDuration(ms)) === ms, `${ms} ms are written as ${formatDuration(ms)}`) // prettier-ignore
  const bytes = parseByteSize(text)
  if (bytes !== undefined) must(bytes >= 0 && parseByteSize(formatByteSize(bytes)) === bytes, `${bytes} bytes are written as ${formatByteSize(bytes)}`) // prettier-ignore
}

const BY_KIND = new Map(table.map((setting) => [setting.rule.kind, setting]))

/** What it gives; undefined where it refuses in one of these ways. */
function refusable<T>(
  what: () => T,
  ...refusals: readonly (new (...args: never[]) => Error)[]
): T | undefined {
  try {
    return what()
  } catch (thrown) {
    if (refusals.some((refusal) => thrown instanceof refusal)) return undefined
    throw thrown
  }
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other) && String(one) === String(other)
}
