/** What one setting takes: checks of given values, and reading them from flags and environment, where everything is text. */

import {
  formatByteSize,
  formatDuration,
  formatRate,
  isBareNumber,
  parseByteSize,
  parseDuration,
  parseRate,
  formatShare,
  parseShare,
} from './duration.ts'
import { didYouMean } from './did-you-mean.ts'
import { Guard } from './http/guard.ts'
import type { Duration } from './types.ts'

/** What a setting holds, once checked: durations in milliseconds, sizes in bytes, rates per second. */
export type SettingValue = number | string | boolean | readonly string[] | undefined

/** What kind of value a setting takes, and which of them. */
export type SettingRule =
  | {
      readonly kind: 'duration'
      /** Whether 0 is taken. */
      readonly zero?: boolean
      /** Whether `Infinity` is taken. */
      readonly infinity?: boolean
      /** What error messages show; the default where that is a plain duration. */
      readonly example: string
    }
  | { readonly kind: 'bytes'; readonly example: string }
  /** How often something may happen; `Infinity` is taken. */
  | { readonly kind: 'rate'; readonly example: string }
  /** A part of something (up to 1, or a percentage), or bytes of it; `Infinity` is taken. */
  | { readonly kind: 'share'; readonly example: string }
  | { readonly kind: 'integer'; readonly min: number; readonly max?: number; readonly infinity?: boolean }
  | { readonly kind: 'boolean' }
  | { readonly kind: 'choice'; readonly values: readonly string[] }
  | {
      readonly kind: 'list'
      /** The word that stands for "all of them". */
      readonly wildcard: string
      readonly entry: 'host' | 'origin'
    }
  | { readonly kind: 'string' }
  /** The URL of a server, to the letter. */
  | { readonly kind: 'url' }
  /** Words apart by commas or spaces. */
  | { readonly kind: 'words'; readonly example: string }
  /** A URL path. */
  | { readonly kind: 'path' }
  /** The name of a file. */
  | { readonly kind: 'file' }
  | { readonly kind: 'store' }

/** Whether messages speak to someone who wrote code or to someone who wrote a flag or variable, where all is text. */
type Reader = 'code' | 'text'

/**
 * Checks a value given in code.
 *
 * @param name how the setting is called where the value was given
 * @throws TypeError for a value of a wrong type, RangeError for a wrong value; the message names the setting, what it takes and what it got
 */
export function checkValue(rule: SettingRule, name: string, value: unknown): SettingValue {
  return check(rule, name, value, 'code')
}

/** Checks a duration given to a method, `0` and `Infinity` included, and gives its milliseconds; errors as {@link checkValue}. */
export function durationArgument(name: string, value: Duration): number {
  return checkValue(ANY_DURATION, name, value) as number
}

const ANY_DURATION: SettingRule = { kind: 'duration', zero: true, infinity: true, example: '30s' }

/**
 * Reads a value from the text of a flag or an environment variable.
 *
 * @param name the flag or the variable
 * @throws RangeError as {@link checkValue}; a number without its unit is refused with both readings spelled out
 */
export function readValue(rule: SettingRule, name: string, text: string): SettingValue {
  const trimmed = text.trim()
  switch (rule.kind) {
    case 'duration':
      if (isAmbiguous(trimmed)) throw new RangeError(bothDurations(name, trimmed))
      return check(rule, name, Number(trimmed) === 0 && trimmed !== '' ? 0 : text, 'text')
    case 'bytes':
      if (isAmbiguous(trimmed)) throw new RangeError(bothSizes(name, trimmed))
      return check(rule, name, text, 'text')
    case 'rate':
      if (isAmbiguous(trimmed)) throw new RangeError(bothRates(name, trimmed))
      return check(rule, name, text, 'text')
    case 'share':
      if (isAmbiguous(trimmed)) throw new RangeError(bothShares(name, trimmed))
      return check(rule, name, text, 'text')
    case 'integer':
      if (/^infinity$/i.test(trimmed)) return check(rule, name, Number.POSITIVE_INFINITY, 'text')
      return check(rule, name, isBareNumber(trimmed) ? Number(trimmed) : text, 'text')
    case 'boolean':
      if (/^(true|1|yes|on)$/i.test(trimmed)) return true
      if (/^(false|0|no|off)$/i.test(trimmed)) return false
      throw wrong(rule, name, text, 'text')
    case 'list': {
      if (trimmed === rule.wildcard) return trimmed
      const entries = trimmed.split(',').map((entry) => entry.trim())
      return check(
        rule,
        name,
        entries.filter((entry) => entry !== ''),
        'text',
      )
    }
    case 'words':
      return check(
        rule,
        name,
        trimmed.split(/[\s,]+/).filter((word) => word !== ''),
        'text',
      )
    default:
      return check(rule, name, trimmed, 'text')
  }
}

/** A value as people write it: `1800000` ms is `30m`, a list is joined by commas. */
export function formatValue(rule: SettingRule, value: SettingValue): string {
  if (value === undefined) return 'none'
  if (typeof value === 'number' && rule.kind === 'duration') return formatDuration(value)
  if (typeof value === 'number' && rule.kind === 'bytes') return formatByteSize(value)
  if (typeof value === 'number' && rule.kind === 'share') return formatShare(value)
  if (typeof value === 'number' && rule.kind === 'rate') return formatRate(value)
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.join(',')
  return String(value)
}

function check(rule: SettingRule, name: string, value: unknown, reader: Reader): SettingValue {
  switch (rule.kind) {
    case 'duration': {
      const milliseconds = typeof value === 'string' ? parseDuration(value) : value
      if (typeof milliseconds !== 'number') throw wrong(rule, name, value, reader)
      const enough = rule.zero === true ? milliseconds >= 0 : milliseconds > 0
      const finite = milliseconds !== Number.POSITIVE_INFINITY || rule.infinity === true
      if (!enough || !finite) throw wrong(rule, name, value, reader)
      return milliseconds
    }
    case 'bytes': {
      const bytes = typeof value === 'string' ? parseByteSize(value) : value
      if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes) || bytes < 1)
        throw wrong(rule, name, value, reader)
      return bytes
    }
    case 'share': {
      const share = typeof value === 'string' ? parseShare(value) : value
      if (typeof share !== 'number' || !(share > 0)) throw wrong(rule, name, value, reader)
      return share
    }
    case 'rate': {
      const perSecond = typeof value === 'string' ? parseRate(value) : value
      if (typeof perSecond !== 'number' || !(perSecond > 0)) throw wrong(rule, name, value, reader)
      return perSecond
    }
    case 'integer': {
      if (value === Number.POSITIVE_INFINITY && rule.infinity === true) return value
      if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw wrong(rule, name, value, reader)
      if (value < rule.min || value > (rule.max ?? value)) throw wrong(rule, name, value, reader)
      return value
    }
    case 'boolean':
      if (typeof value !== 'boolean') throw wrong(rule, name, value, reader)
      return value
    case 'choice':
      if (typeof value !== 'string' || !rule.values.includes(value)) throw wrong(rule, name, value, reader)
      return value
    case 'list':
      if (value === rule.wildcard) return rule.wildcard
      if (!Array.isArray(value)) throw wrong(rule, name, value, reader)
      return value.map((entry: unknown) => checkEntry(rule, name, entry, reader))
    case 'words':
      // No word at all is what is meant where nothing is said; said in a text, it is a slip.
      if (!Array.isArray(value) || (value.length === 0 && reader === 'text'))
        throw wrong(rule, name, value, reader)
      return value.map(String)
    case 'url':
      if (typeof value !== 'string' || !/^https?:\/\/[^\s"\\]+$/.test(value) || !URL.canParse(value))
        throw wrong(rule, name, value, reader)
      return value
    case 'string':
    case 'file':
      if (typeof value !== 'string' || value === '') throw wrong(rule, name, value, reader)
      return value
    case 'store':
      if (typeof value !== 'string' || !/^(?:memory|sqlite:.+)$/.test(value))
        throw wrong(rule, name, value, reader)
      return value
    case 'path':
      if (typeof value !== 'string' || !/^\/[^\s?#]*$/.test(value)) throw wrong(rule, name, value, reader)
      return value
  }
}

function checkEntry(
  rule: SettingRule & { kind: 'list' },
  name: string,
  entry: unknown,
  reader: Reader,
): string {
  if (typeof entry !== 'string') throw wrong(rule, name, entry, reader)
  if (entry === '*' || entry === 'any') {
    const whole = reader === 'code' ? `${name}: '${rule.wildcard}'` : `${rule.wildcard} alone`
    throw new RangeError(
      `${name} has '${entry}' among its entries; to take every ${rule.entry}, write ${whole}`,
    )
  }
  if (!isGuardEntry(rule.entry, entry)) throw wrong(rule, name, entry, reader)
  return entry
}

/** Whether the guard, which reads the entries again when the app is made, takes one. */
function isGuardEntry(kind: 'host' | 'origin', entry: string): boolean {
  try {
    return (
      new Guard(kind === 'host' ? { allowedHosts: [entry] } : { allowedOrigins: [entry] }) instanceof Guard
    )
  } catch {
    return false
  }
}

function wrong(rule: SettingRule, name: string, value: unknown, reader: Reader): RangeError | TypeError {
  const message = `${name} must be ${expectation(rule, value, reader)}, got ${format(value)}${hint(rule, value)}`
  return hasRightType(rule, value, reader) ? new RangeError(message) : new TypeError(message)
}

function hasRightType(rule: SettingRule, value: unknown, reader: Reader): boolean {
  if (reader === 'text') return true
  switch (rule.kind) {
    case 'duration':
    case 'bytes':
    case 'rate':
    case 'share':
      return typeof value === 'number' || typeof value === 'string'
    case 'integer':
      return typeof value === 'number'
    case 'boolean':
      return false
    default:
      return typeof value === 'string'
  }
}

/** The middle of the sentence "… must be …, got …". */
function expectation(rule: SettingRule, value: unknown, reader: Reader): string {
  switch (rule.kind) {
    case 'duration': {
      const finite = value === Number.POSITIVE_INFINITY && rule.infinity !== true ? 'finite ' : ''
      const kind = rule.zero === true ? `a ${finite}duration of 0 or more` : `a ${finite}positive duration`
      const number = reader === 'code' ? ` or ${parseDuration(rule.example)} (ms)` : ''
      return `${kind} such as '${rule.example}'${number}`
    }
    case 'bytes': {
      const number = reader === 'code' ? ` or ${parseByteSize(rule.example)} (bytes)` : ''
      return `a byte size such as '${rule.example}'${number}`
    }
    case 'share': {
      const number = reader === 'code' ? ` (a number is a part up to 1, or bytes)` : ''
      return `a percentage such as '${rule.example}', a byte size such as '512MiB', or Infinity${number}`
    }
    case 'rate': {
      const number = reader === 'code' ? ` or ${parseRate(rule.example)} (per second)` : ''
      return `a positive rate such as '${rule.example}'${number}`
    }
    case 'integer': {
      const range = rule.max === undefined ? `of ${rule.min} or more` : `from ${rule.min} to ${rule.max}`
      return `a whole number ${range}${rule.infinity === true ? ', or Infinity' : ''}`
    }
    case 'boolean':
      return 'true or false'
    case 'choice':
      return `one of ${rule.values.map((choice) => `'${choice}'`).join(', ')}`
    case 'list': {
      const entries =
        rule.entry === 'host'
          ? `host names without scheme and path such as 'mcp.example.com' or 'localhost:3000'`
          : `origins as browsers send them such as 'https://app.example.com'`
      const list = reader === 'code' ? `a list of ${entries}` : `${entries}, separated by commas`
      return `${list}, or '${rule.wildcard}'`
    }
    case 'string':
      return 'a string that is not empty'
    case 'url':
      return `a URL such as 'https://mcp.example.com/mcp'`
    case 'words':
      return `words such as '${rule.example}', separated by commas`
    case 'path':
      return `a URL path such as '/mcp', without query and fragment`
    case 'file':
      return 'the name of a file'
    case 'store': {
      const object = reader === 'code' ? ', or a SessionStore' : ''
      return `'memory' or 'sqlite:' and the name of a file such as 'sqlite:./sessions.db'${object}`
    }
  }
}

function hint(rule: SettingRule, value: unknown): string {
  if (typeof value !== 'string') return ''
  if (rule.kind === 'choice') return didYouMean(value, rule.values).replace(/^ /, '. ')
  if (!isAmbiguous(value.trim())) return ''
  return ['duration', 'bytes', 'rate', 'share'].includes(rule.kind) ? ' (a string needs a unit)' : ''
}

/** Longer ones are no number that anybody meant, and a message would repeat them five times. */
const LONGEST_NUMBER = 20

/** Whether a text is a positive number without a unit. */
function isAmbiguous(text: string): boolean {
  return text.length <= LONGEST_NUMBER && isBareNumber(text) && Number(text) > 0
}

function bothDurations(name: string, text: string): string {
  const seconds = `${text}s`
  const shorter = formatDuration(Number(text) * 1000)
  const also = shorter === seconds ? '' : ` (${shorter})`
  return `${name}=${text}: is that ${text} ms or ${text} s? write '${text}ms' or '${seconds}'${also}`
}

function bothRates(name: string, text: string): string {
  return `${name}=${text}: is that ${text} a second or ${text} a minute? write '${text}/s' or '${text}/m'`
}

function bothShares(name: string, text: string): string {
  return `${name}=${text}: is that ${text} % or ${text} MiB? write '${text}%' or '${text}MiB'`
}

function bothSizes(name: string, text: string): string {
  const shorter = formatByteSize(Number(text))
  const also = shorter === `${text}B` ? '' : ` (${shorter})`
  return `${name}=${text}: is that ${text} bytes or ${text} MiB? write '${text}B'${also} or '${text}MiB'`
}

/** A wrong value for an error message: never long, never more than its surface. */
export function format(value: unknown): string {
  if (typeof value === 'string') return `'${value.length > 80 ? `${value.slice(0, 80)}…` : value}'`
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object' && value !== null) return 'an object'
  return typeof value === 'bigint' ? `${value}n` : String(value)
}
