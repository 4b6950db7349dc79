/** Where the command line's log goes: lines for reading on a terminal, JSON lines in a pipe. Session ids are cut to 8 characters. */

import { inspect } from 'node:util'

import { destination, pino } from 'pino'

import { messageOf } from '../errors.ts'
import type { Log, LogFields } from '../logging.ts'
import { harmless } from './style.ts'
import type { Style } from './style.ts'

/** How bad a line is. */
export type Level = keyof Log

/** One line of the log. */
export interface Line {
  readonly level: Level
  /** What happened, for programs: `session.opened`; `log` for plain messages. */
  readonly event: string
  /** Milliseconds since the Unix epoch; default now. */
  readonly time?: number
  /** The session's whole id; only its beginning is written. */
  readonly session?: string | undefined
  /** What happened, for people. */
  readonly text: string
  /** More for programs. */
  readonly fields?: LogFields
}

/** Takes lines of the log. */
export interface LogOutput {
  /** Whether lines of this level are written at all. */
  takes(level: Level): boolean
  write(line: Line): void
}

const LEVELS: readonly string[] = ['debug', 'info', 'warn', 'error', 'silent']

/** How much of a session's id may be shown: the whole is a credential. */
const SHOWN_ID = 8

/** Lines for reading. */
export class PrettyOutput implements LogOutput {
  readonly #level: number
  readonly #style: Style
  readonly #write: (text: string) => void

  constructor(level: string, style: Style, write: (text: string) => void) {
    this.#level = LEVELS.indexOf(level)
    this.#style = style
    this.#write = write
  }

  takes(level: Level): boolean {
    return LEVELS.indexOf(level) >= this.#level
  }

  write({ level, time = Date.now(), session, text }: Line): void {
    if (!this.takes(level)) return
    const { dim, red, yellow, cyan } = this.#style
    const clock = dim(new Date(time).toTimeString().slice(0, 8))
    const id = session === undefined ? '' : `${cyan(session.slice(0, SHOWN_ID))} `
    const color = { debug: dim, info: (plain: string) => plain, warn: yellow, error: red }[level]
    this.#write(`${clock} ${id}${color(text)}\n`)
  }
}

/** JSON lines, by pino. */
export class JsonOutput implements LogOutput {
  readonly #pino: ReturnType<typeof pino>

  /** @param descriptor the file descriptor to write to */
  constructor(level: string, descriptor: number) {
    // Synchronous: what was logged before an exit is there after it.
    const stream = destination({ dest: descriptor, sync: true })
    // A reader that went away must not end the server.
    stream.on('error', () => {})
    this.#pino = pino(
      { level, base: null, timestamp: false, formatters: { level: (label) => ({ level: label }) } },
      stream,
    )
  }

  takes(level: Level): boolean {
    return this.#pino.isLevelEnabled(level)
  }

  write({ level, event, time = Date.now(), session, text, fields }: Line): void {
    if (!this.takes(level)) return
    const head = { time: new Date(time).toISOString(), event }
    this.#pino[level](
      { ...head, ...(session === undefined ? {} : { session: session.slice(0, SHOWN_ID) }), ...fields },
      text,
    )
  }
}

/** The logger that the app is given: its messages become lines. Stacks are written only where debugging is. */
export function loggerTo(output: LogOutput): Log {
  const line =
    (level: Level) =>
    (message: string, fields: LogFields = {}): void => {
      const { session, error, message: detail, ...rest } = fields
      const reason = error === undefined ? detail : messageOf(error)
      // How many a store brought is worth more than a field for programs.
      const { sessions } = rest
      const restored =
        typeof sessions === 'number' ? [`${sessions} session${sessions === 1 ? '' : 's'} restored`] : []
      const text = [message, ...(reason === undefined ? [] : [String(reason)]), ...restored]
        .map((part) => harmless(part, 500))
        .join(': ')
      const stack = error instanceof Error && output.takes('debug') ? inspect(error) : undefined
      output.write({
        level,
        event: 'log',
        session: typeof session === 'string' ? session : undefined,
        text: output instanceof PrettyOutput && stack !== undefined ? `${text}\n${stack}` : text,
        fields: {
          ...rest,
          ...(reason === undefined ? {} : { error: reason }),
          ...(stack === undefined ? {} : { stack }),
        },
      })
    }
  return { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') }
}
