/** Help texts, made from the table of settings. */

import { formatValue } from '../setting-value.ts'
import { settings } from '../settings.ts'
import type { Setting, SettingGroup } from '../settings.ts'
import type { Style } from './style.ts'

/** `sojourn --help` */
export function overview(style: Style): string {
  return `${style.bold('sojourn')}: serves MCP servers over Streamable HTTP, with sessions that end when they should

${style.bold('Usage')}
  sojourn serve <module> [flags]   serve the server that a module makes
  sojourn settings [flags]         show every setting, its value and where it came from
  sojourn sessions list [flags]    show the sessions of a server; also show, close
  sojourn --version                show the version

${style.bold('Example')}
  sojourn serve ./server.ts --port 3000 --session-idle-timeout 30m

A module is a .ts, .mts, .js or .mjs file whose default export (or export createServer) is a function that
returns a new McpServer. \`sojourn serve --help\` lists the flags.
`
}

/** `sojourn serve --help` */
export function serveHelp(style: Style): string {
  const groups = [...new Set(settings.map(({ group }) => group))]
  return `${style.bold('Usage')}
  sojourn serve <module> [flags]

  <module> is a .ts, .mts, .js or .mjs file. Its default export (or export createServer) is a function that returns
  a new McpServer or Server of @modelcontextprotocol/sdk or @modelcontextprotocol/server; it is called once per session.
  The URL is printed on stdout, the log goes to stderr. SIGTERM and Ctrl-C drain, then stop.

${groups.map((group) => section(group, style)).join('\n')}
${style.bold('Values')}
  Durations need a unit (500ms, 30s, 5m, 2h, 1d; Infinity turns a timeout off), sizes too (512B, 16KiB, 4MiB, 1GiB).
  Lists are separated by commas. A flag wins over its environment variable, that one over the default.

${style.bold('Exit codes')}
  0 after a clean stop, 1 for a failure at run time, 2 for wrong usage, 130 or 143 after a second signal
`
}

/** `sojourn settings --help` */
export function settingsHelp(style: Style): string {
  return `${style.bold('Usage')}
  sojourn settings [flags] [--json]

  Shows every setting, its value, and where it came from: a flag, an environment variable, or the default.
  Takes the flags of \`sojourn serve\`.
`
}

/** `sojourn sessions --help` */
export function sessionsHelp(style: Style): string {
  return `${style.bold('Usage')}
  sojourn sessions list [flags]             every session: who, which client, its state, and when it ends
  sojourn sessions show <session> [flags]   everything about one
  sojourn sessions close <session> [flags]  ends one
  sojourn sessions close --principal PRINCIPAL [flags]
                                            ends all that somebody has, calls and streams included

  <session> is the 8 characters that logs and the list show of it. Of a session's id no more is ever printed: whoever
  has the whole may use the session.

${style.bold('Whose sessions')}
  --store sqlite:FILE      the store as the server has it: a running one is asked through the socket beside the file,
                           of one that is stopped the file is read
                           ${style.dim('SOJOURN_STORE')}
  --admin-socket FILE      the socket that a running server was started with
                           ${style.dim('SOJOURN_ADMIN_SOCKET')}

${style.bold('Output')}
  --json                   for programs
  --data                   of show: session.data itself, and not only its size
  In a pipe the list has no head, and a tab between two cells.

${style.bold('Exit codes')}
  0 when it is done, 1 when there is no such session or nobody to ask, 2 for wrong usage
`
}

function section(group: SettingGroup, style: Style): string {
  const rows = settings.filter((setting) => setting.group === group)
  return `${style.bold(group)}\n${rows.map((setting) => row(setting, style)).join('')}`
}

function row(setting: Setting, style: Style): string {
  const { description, env, rule } = setting
  const flag = `--${setting.flag}${placeholder(setting)}`
  const value = formatValue(rule, setting.default)
  const initial = rule.kind === 'boolean' || value === 'none' ? '' : `default ${value}, `
  return `  ${flag.padEnd(40)} ${description}\n  ${' '.repeat(40)} ${style.dim(`${initial}${env.join(' or ')}`)}\n`
}

function placeholder({ rule }: Setting): string {
  switch (rule.kind) {
    case 'boolean':
      return ''
    case 'choice':
      return ` ${rule.values.join('|')}`
    case 'list':
      return ` ${rule.entry.toUpperCase()},…|${rule.wildcard}`
    default:
      return ` ${{ duration: 'DURATION', bytes: 'SIZE', rate: 'RATE', share: 'PERCENT|SIZE', integer: 'NUMBER', string: 'TEXT', url: 'URL', words: 'WORD,…', path: 'PATH', file: 'FILE', store: 'memory|sqlite:FILE' }[rule.kind]}`
  }
}
