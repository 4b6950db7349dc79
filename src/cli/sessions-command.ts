/** `sojourn sessions`: looks at the sessions of a server, running or stopped, and ends them. */

import { administer } from '../admin/administration.ts'
import type { Administration } from '../admin/administration.ts'
import { storeFile } from '../admin/admin-socket.ts'
import type { SessionDetails, SessionInfo } from '../admin/session-info.ts'
import { didYouMean } from '../did-you-mean.ts'
import { formatByteSize } from '../duration.ts'
import { messageOf } from '../errors.ts'
import { findSettings, settings } from '../settings.ts'
import { type FlagWithValue, parseArguments, UsageError } from './arguments.ts'
import { elapsed, plural } from './event-log-lines.ts'
import { sessionsHelp } from './help.ts'
import { textWidth } from './live-view.ts'
import { harmless } from './style.ts'
import type { Style } from './style.ts'

const ACTIONS = ['list', 'show', 'close'] as const
type Action = (typeof ACTIONS)[number]

/** The settings that say whose sessions. */
const WHERE = settings.filter(({ key }) => key === 'store' || key === 'adminSocket')

/** Whose sessions `close` ends, instead of one. */
const PRINCIPAL: FlagWithValue = { flag: 'principal', rule: { kind: 'string' } }

/** Where a command writes. */
export interface CommandOutput {
  /** Whether people read it: a table has a head then. */
  readonly terminal: boolean
  readonly style: Style
  print(text: string): void
  warn(text: string): void
}

/**
 * Runs what follows `sojourn sessions`.
 * @throws UsageError, SojournError
 */
export async function sessionsCommand(args: readonly string[], output: CommandOutput): Promise<void> {
  const { positionals, flags, switches } = parseArguments(
    'sojourn sessions',
    labelsApart(args),
    ['help', 'json', 'data'],
    [...WHERE, PRINCIPAL],
  )
  if (switches.has('help')) return output.print(sessionsHelp(output.style))
  const [action, name, extra] = positionals
  if (!isAction(action)) throw new UsageError(wrongAction(action))
  if (action === 'list' ? name !== undefined : extra !== undefined)
    throw new UsageError(
      `sessions ${action} takes ${action === 'list' ? 'only flags' : 'one session'}, but got ${action === 'list' ? name : `${name} and ${extra}`}.`,
    )
  const { principal } = flags
  if (principal !== undefined && (action !== 'close' || name !== undefined || principal === ''))
    throw new UsageError(
      'sessions close takes either one session or --principal PRINCIPAL, as `sojourn sessions list` shows it; no other command takes a principal.',
    )
  if (action !== 'list' && name === undefined && principal === undefined)
    throw new UsageError(
      `sessions ${action} needs a session: the 8 characters that \`sojourn sessions list\` shows of it.`,
    )
  if (switches.has('data') && action !== 'show')
    throw new UsageError(`sessions ${action} has no flag --data: \`sojourn sessions show\` has it.`)

  const administration = await administer(placeFrom(flags))
  try {
    if (principal !== undefined) await closePrincipal(principal, administration, switches.has('json'), output)
    else await run(action, name ?? '', administration, switches, output)
  } finally {
    for (const warning of administration.warnings) output.warn(`sojourn: ${warning}\n`)
    administration.close()
  }
}

async function run(
  action: Action,
  name: string,
  administration: Administration,
  switches: ReadonlySet<string>,
  output: CommandOutput,
): Promise<void> {
  const json = switches.has('json')
  const { style, terminal } = output
  switch (action) {
    case 'list': {
      const sessions = await administration.list()
      if (json) output.print(`${JSON.stringify(sessions, null, 2)}\n`)
      else output.print(terminal ? table(sessions, administration.subject, style) : rows(sessions))
      return
    }
    case 'show': {
      const details = await administration.show(name, switches.has('data'))
      output.print(json ? `${JSON.stringify(details, null, 2)}\n` : sheet(details))
      return
    }
    case 'close': {
      const ended = await administration.end(name)
      output.print(json ? `${JSON.stringify(ended, null, 2)}\n` : `closed ${ended.session}\n`)
    }
  }
}

async function closePrincipal(
  principal: string,
  administration: Administration,
  json: boolean,
  output: CommandOutput,
): Promise<void> {
  const ended = await administration.endPrincipal(principal)
  if (json) output.print(`${JSON.stringify(ended, null, 2)}\n`)
  else for (const { session } of ended) output.print(`closed ${session}\n`)
  if (ended.length === 0)
    output.warn(
      `sojourn: the principal ${harmless(principal, 100)} has no session ${administration.subject}\n`,
    )
}

/** A label, or a whole id, may begin with a dash, as one in 64 does; no flag of this command looks like one. */
function labelsApart(args: readonly string[]): string[] {
  const flags = WHERE.map(({ flag }) => `--${flag}`)
  const isLabel = (arg: string, index: number): boolean =>
    /^-[\w-]{7}(?:[\w-]{24})?$/.test(arg) && !flags.includes(args[index - 1] ?? '') && !/^--[a-z]+$/.test(arg)
  const labels = args.filter(isLabel)
  if (labels.length === 0 || args.includes('--')) return [...args]
  return [...args.filter((arg, index) => !isLabel(arg, index)), '--', ...labels]
}

function isAction(action: string | undefined): action is Action {
  return action !== undefined && (ACTIONS as readonly string[]).includes(action)
}

function wrongAction(action: string | undefined): string {
  const more = '`sojourn sessions --help` tells more.'
  return action === undefined
    ? `sessions needs to know what to do: ${ACTIONS.join(', ')}. ${more}`
    : `there is no command sessions ${action}.${didYouMean(action, ACTIONS)} ${more}`
}

function placeFrom(flags: Readonly<Record<string, string>>): {
  socket: string | undefined
  file: string | undefined
} {
  let found: ReturnType<typeof findSettings>
  try {
    found = findSettings(WHERE, { flags, env: process.env })
  } catch (error) {
    throw new UsageError(messageOf(error), { cause: error })
  }
  const socket = found.get('adminSocket')?.value as string | undefined
  const file = storeFile(found.get('store')?.value)
  if (socket === undefined && file === undefined)
    throw new UsageError(
      'sessions needs to know whose: --store sqlite:FILE as the server has it, or the --admin-socket FILE it was started with.',
    )
  return { socket: socket === 'none' ? undefined : socket, file }
}

const HEAD = ['session', 'principal', 'client', 'state', 'idle for', 'ends in', 'calls', 'streams'] as const

/** For people: a head, the rows, and what they are together. */
function table(sessions: readonly SessionInfo[], subject: string, style: Style): string {
  const lines = [HEAD, ...sessions.map((info) => cellsOf(info))]
  const widths = HEAD.map((_, column) => Math.max(...lines.map((cells) => textWidth(cells[column] ?? ''))))
  const text = lines.map((cells) =>
    cells
      .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - textWidth(cell)))
      .join('  ')
      .trimEnd(),
  )
  const [head = '', ...body] = sessions.length === 0 ? [] : text
  return [
    ...(head === '' ? [] : [`${style.dim(head)}\n`]),
    ...body.map((line) => `${line}\n`),
    `${style.dim(`${summary(sessions)} ${subject}`)}\n`,
  ].join('')
}

/** For programs: the rows, with a tab between two cells. */
function rows(sessions: readonly SessionInfo[]): string {
  return sessions.map((info) => `${cellsOf(info).join('\t')}\n`).join('')
}

function summary(sessions: readonly SessionInfo[]): string {
  const active = sessions.filter(({ state }) => state === 'active').length
  const asleep = sessions.filter(({ state }) => state === 'asleep').length
  return sessions.length === 0
    ? 'no sessions'
    : `${plural(sessions.length, 'session')}, ${active} active, ${asleep} asleep`
}

function cellsOf(info: SessionInfo): string[] {
  const { session, principal, client, state, calls, streams } = info
  return [
    session,
    principal === null ? '—' : harmless(principal, 60),
    client === null ? '—' : harmless(`${client.name} ${client.version}`.trim(), 40),
    state,
    idleFor(info),
    endsIn(info),
    String(calls),
    String(streams),
  ]
}

function idleFor({ idleSince }: SessionInfo): string {
  return idleSince === null ? '—' : elapsed(Math.max(0, Date.now() - Date.parse(idleSince)))
}

function endsIn(info: SessionInfo): string {
  return info.endsIn === null ? '—' : elapsed(info.endsIn)
}

/** One session, a line for each thing that is known of it. */
function sheet(details: SessionDetails): string {
  const { session, principal, client, state, createdAt, idleSince, calls, streams } = details
  const { protocolVersion, subscriptions, dataBytes, data } = details
  const lines: readonly (readonly [string, string])[] = [
    ['session', `${session}…`],
    ['principal', principal === null ? 'anonymous' : harmless(principal, 500)],
    ['client', client === null ? 'without a name' : harmless(`${client.name} ${client.version}`.trim(), 200)],
    ['protocol version', harmless(protocolVersion)],
    ['state', state],
    ['opened', createdAt],
    ['idle since', idleSince ?? 'in use'],
    ['ends in', endsIn(details)],
    ['calls running', String(calls)],
    ['streams open', String(streams)],
    [
      'subscriptions',
      subscriptions.length === 0 ? 'none' : subscriptions.map((uri) => harmless(uri)).join(' '),
    ],
    ['session.data', formatByteSize(dataBytes)],
  ]
  const width = Math.max(...lines.map(([name]) => name.length))
  const text = lines.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join('')
  // JSON.stringify leaves no control character but the line ends it makes itself; some invisible ones it keeps.
  return data === undefined ? text : `${text}${JSON.stringify(data, null, 2)}\n`
}
