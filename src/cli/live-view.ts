/** What a terminal shows of the sessions below the log: state in, lines out. Nothing here writes, waits or knows the time. */

import { plural } from './event-log-lines.ts'
import { harmless } from './style.ts'
import type { Style } from './style.ts'

/** One session, as the view shows it. */
export interface LiveRow {
  /** The session's whole id; only its beginning is shown. */
  readonly id: string
  /** Name and version of the client. */
  readonly client: string
  readonly state: 'active' | 'idle' | 'asleep'
  /** Milliseconds until it ends if nothing happens; undefined while nothing would end it. */
  readonly endsIn: number | undefined
  /** Calls running now. */
  readonly running: number
  /** Calls that ended. */
  readonly calls: number
  /** SSE connections open now. */
  readonly streams: number
}

/** Everything the view shows. */
export interface LiveState {
  /** The sessions that may be shown, used last first; at most those that fit are. */
  readonly rows: readonly LiveRow[]
  /** All sessions there are. */
  readonly sessions: number
  /** Those of them that something holds. */
  readonly active: number
  /** Those whose server was let go, or was not built since the process began. */
  readonly asleep: number
  /** Calls that ended lately, per second. */
  readonly callsPerSecond: number
  /** HTTP requests refused since the start. */
  readonly refused: number
  /** Milliseconds since the start. */
  readonly uptime: number
  /** Resident memory of the process, in bytes. */
  readonly memory: number
  /** Calls that run now, in all sessions. */
  readonly running: number
  /** SSE connections open now, in all sessions. */
  readonly streams: number
  /** Whether the server was told to stop. */
  readonly draining: boolean
}

/** The size of a terminal, in cells. */
export interface TerminalSize {
  readonly columns: number
  readonly rows: number
}

/** Most sessions shown, however high the terminal: the log above is worth its place too. */
export const MOST_ROWS = 12

/** How much of a session's id is shown, as in the log. */
const SHOWN_ID = 8

const GAP = '  '

/** The lines of the view, each narrower than the terminal, together at most about half its height. */
export function renderLive(state: LiveState, size: TerminalSize, style: Style): string[] {
  const width = Math.max(1, size.columns - 1)
  // A rule, the head, the line of those that did not fit, the totals, and a line for the cursor.
  const room = Math.max(0, Math.min(MOST_ROWS, Math.floor(size.rows / 2) - 5))
  const shown = state.rows.slice(0, room)
  const more = state.sessions - shown.length
  const table = shown.map((row) => cellsOf(row))
  const widths = HEAD.map((title, column) =>
    Math.max(...[title, ...table.map((cells) => cells[column] ?? '')].map(textWidth)),
  )
  const line = (cells: readonly string[]): string[] =>
    cells.map((cell, column) => cell + ' '.repeat(Math.max(0, (widths[column] ?? 0) - textWidth(cell))))
  const painted = (cells: readonly string[], paint: readonly ((text: string) => string)[]): string =>
    fit(
      line(cells).map((text, column) => [paint[column] ?? plain, text] as const),
      width,
    )

  const lines = [style.dim('─'.repeat(width))]
  if (shown.length > 0) {
    lines.push(style.dim(painted(HEAD, [])))
    for (const [index, row] of shown.entries()) {
      const paint = row.state === 'active' ? plain : style.dim
      lines.push(painted(table[index] ?? [], [style.cyan, plain, paint, paint, paint, paint]))
    }
    if (more > 0) lines.push(style.dim(cut(`… and ${more} more`, width)))
  }
  lines.push(cut(totals(state), width))
  return lines
}

const HEAD = ['session ', 'client', 'state', 'ends in', 'calls', 'streams'] as const

function cellsOf({ id, client, state, endsIn, running, calls, streams }: LiveRow): string[] {
  return [
    id.slice(0, SHOWN_ID),
    harmless(client, 40),
    state,
    endsIn === undefined ? '—' : countdown(endsIn),
    running === 0 ? String(calls) : `${calls} + ${running} running`,
    String(streams),
  ]
}

function totals(state: LiveState): string {
  const { sessions, active, asleep, callsPerSecond, refused, uptime, memory, running, streams, draining } =
    state
  return [
    ...(draining ? [`draining: ${plural(running, 'call')}, ${plural(streams, 'stream')} left`] : []),
    sessions === 0
      ? 'no sessions'
      : `${plural(sessions, 'session')}, ${active} active${asleep === 0 ? '' : `, ${asleep} asleep`}`,
    ...(draining
      ? []
      : [`${callsPerSecond < 10 ? callsPerSecond.toFixed(1) : Math.round(callsPerSecond)} calls/s`]),
    ...(draining ? [] : [`${refused} refused`]),
    `up ${timeSpan(Math.floor(uptime / 1000))}`,
    `${Math.round(memory / 2 ** 20)} MiB`,
  ].join(' · ')
}

/** Time that is left: rounded up, so that `1s` is never a lie. */
function countdown(milliseconds: number): string {
  return timeSpan(Math.ceil(milliseconds / 1000))
}

/** Seconds as a clock shows them: `12s`, `29m 48s`, `5h 12m`, `3d 4h`. The second unit has no more digits than change in a glance. */
function timeSpan(seconds: number): string {
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${seconds % 60}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)}h ${minutes % 60}m`
  const hours = Math.floor(minutes / 60)
  return `${Math.floor(hours / 24)}d ${hours % 24}h`
}

function plain(text: string): string {
  return text
}

/** Cells with a gap between them, cut where the width ends. Painted after that: escape sequences take no cell. */
function fit(
  cells: readonly (readonly [paint: (text: string) => string, text: string])[],
  width: number,
): string {
  let left = width
  let line = ''
  for (const [index, [paint, text]] of cells.entries()) {
    const gap = index === 0 ? '' : GAP
    if (left <= gap.length) break
    const shown = cut(text, left - gap.length)
    line += gap + paint(shown)
    left -= gap.length + textWidth(shown)
  }
  return line
}

/** A text that is at most so many cells wide; where something is missing, it ends in `…`. */
function cut(text: string, width: number): string {
  if (textWidth(text) <= width) return text
  let left = width - 1
  let shown = ''
  for (const character of text) {
    left -= characterWidth(character)
    if (left < 0) break
    shown += character
  }
  return `${shown}…`
}

/** How many cells of a terminal a text takes. */
export function textWidth(text: string): number {
  let width = 0
  for (const character of text) width += characterWidth(character)
  return width
}

// What Unicode calls wide (East Asian Width W and F) and emoji take two cells, marks that combine none.
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u
const COMBINING = /\p{M}/u

function characterWidth(character: string): number {
  if (character <= '~') return 1
  if (COMBINING.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}
