/** The command line taken apart: flags from the table of settings, with errors that say what was meant. */

import { parseArgs } from 'node:util'

import { didYouMean } from '../did-you-mean.ts'
import { settings } from '../settings.ts'
import type { Setting } from '../settings.ts'

/** The command line was used wrongly; ends with exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** What is asked of a setting here. */
export type FlagWithValue = Pick<Setting, 'flag' | 'rule'>

/** What a command was given. */
export interface ParsedArguments {
  readonly positionals: readonly string[]
  /** The text of each setting's flag, by flag name. */
  readonly flags: Readonly<Record<string, string>>
  /** Flags that are no settings: `help`, `json`. */
  readonly switches: ReadonlySet<string>
}

/**
 * Parses what follows a command.
 *
 * @param command how errors call it: `sojourn serve`
 * @param switches flags besides the settings that take no value
 * @param taken the settings it takes; default all
 * @throws UsageError for a flag that does not exist or lacks its value
 */
export function parseArguments(
  command: string,
  args: readonly string[],
  switches: readonly string[],
  taken: readonly FlagWithValue[] = settings,
): ParsedArguments {
  const byFlag = new Map(taken.map((setting) => [setting.flag, setting]))
  const takesValue = ({ rule }: FlagWithValue): boolean => rule.kind !== 'boolean'
  const { tokens } = parseArgs({
    args: [...args],
    // Not strict: Node's own errors know neither the settings nor what was probably meant.
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries([
      ...taken.map((setting) => [
        setting.flag,
        { type: takesValue(setting) ? 'string' : 'boolean' } as const,
      ]),
      ...switches.map((name) => [
        name,
        name === 'help' ? ({ type: 'boolean', short: 'h' } as const) : ({ type: 'boolean' } as const),
      ]),
    ]),
  })
  const positionals: string[] = []
  const flags: Record<string, string> = {}
  const seen = new Set<string>()
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    if (switches.includes(token.name)) {
      seen.add(token.name)
      continue
    }
    const setting = byFlag.get(token.name) ?? byFlag.get(token.name.replace(/^no-/, ''))
    const negated = setting !== undefined && setting.flag !== token.name
    if (setting === undefined || (negated && takesValue(setting))) {
      throw new UsageError(unknownFlag(command, token.rawName, [...byFlag.keys(), ...switches]))
    }
    if (!takesValue(setting)) flags[setting.flag] = negated ? 'false' : (token.value ?? 'true')
    else
      flags[setting.flag] = joined(
        setting,
        flags[setting.flag],
        valueOf(setting, token.value, token.inlineValue === true),
      )
  }
  return { positionals, flags, switches: seen }
}

function valueOf({ flag, rule }: FlagWithValue, value: string | undefined, inline: boolean): string {
  // `--host --port 80` forgot the host; `--port -1` is a wrong number, and told so by its check.
  const forgotten = value === undefined || (!inline && /^-\D/.test(value))
  if (forgotten) {
    const choices = rule.kind === 'choice' ? `: one of ${rule.values.join(', ')}` : ''
    throw new UsageError(
      `--${flag} needs a value${choices}. Write --${flag}=VALUE where the value begins with a dash.`,
    )
  }
  return value
}

/** A list may be given in several flags; of anything else the last one counts. */
function joined({ rule }: FlagWithValue, before: string | undefined, value: string): string {
  return rule.kind === 'list' && before !== undefined ? `${before},${value}` : value
}

function unknownFlag(command: string, rawName: string, known: readonly string[]): string {
  const name = rawName.replace(/^-+/, '')
  return `${command} has no flag ${rawName}.${didYouMean(name, known, '--')} \`${command} --help\` lists all.`
}
