/** `sojourn settings`: each setting with its value and where it came from. */

import { formatValue } from '../setting-value.ts'
import type { FoundSetting, SettingKey } from '../settings.ts'
import type { Style } from './style.ts'

/** For reading: one line per setting. */
export function settingsTable(found: ReadonlyMap<SettingKey, FoundSetting>, style: Style): string {
  const rows = [...found.values()].map(
    (each) => [each.setting.flag, formatValue(each.setting.rule, each.value), cameFrom(each)] as const,
  )
  const nameWidth = Math.max(...rows.map(([name]) => name.length))
  const valueWidth = Math.min(40, Math.max(...rows.map(([, value]) => value.length)))
  return rows
    .map(([name, value, origin]) => {
      const line = `${name.padEnd(nameWidth)}  ${value.padEnd(valueWidth)}  `
      return `${line}${origin === 'default' ? style.dim(origin) : origin}\n`
    })
    .join('')
}

/** For programs: an object by key. Durations and sizes have their unit, since JSON knows no `Infinity`; what is not set is null. */
export function settingsJson(found: ReadonlyMap<SettingKey, FoundSetting>): string {
  const entries = [...found].map(([key, each]) => {
    const { setting, origin, name } = each
    return [
      key,
      {
        value: jsonValue(each),
        origin,
        ...(origin === 'default' ? {} : { name }),
        flag: `--${setting.flag}`,
        env: setting.env,
      },
    ]
  })
  return `${JSON.stringify(Object.fromEntries(entries), null, 2)}\n`
}

function jsonValue({ setting: { rule }, value }: FoundSetting): unknown {
  if (value === undefined) return null
  return rule.kind === 'duration' ||
    rule.kind === 'bytes' ||
    rule.kind === 'rate' ||
    rule.kind === 'share' ||
    value === Number.POSITIVE_INFINITY
    ? formatValue(rule, value)
    : value
}

function cameFrom({ origin, name }: FoundSetting): string {
  return origin === 'default' ? 'default' : `${origin} ${name}`
}
