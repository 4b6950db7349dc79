/** One internal log over whatever logger the author has. */

import type { Logger } from './types.ts'

/** Structured detail of a log line. */
export type LogFields = Readonly<Record<string, unknown>>

/** What the package logs through. None of these ever throws. */
export interface Log {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
}

type Level = keyof Log

const nothing = (): void => {}

const silent: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing }

/**
 * Adapts a logger: one shaped like `console` is called with `(message, fields)`, a pino logger (told by its `bindings` and `child`)
 * with `(fields, message)`. Without a logger nothing is logged. A logger that throws, rejects or lacks a level changes nothing.
 */
export function createLog(logger: Logger | undefined): Log {
  if (logger === undefined) return silent
  const fieldsFirst = isPino(logger)
  const write = (level: Level, message: string, fields: LogFields | undefined): void => {
    try {
      const returned: unknown = fieldsFirst
        ? logger[level](fields ?? {}, message)
        : fields === undefined
          ? logger[level](message)
          : logger[level](message, fields)
      // An async logger that rejects would otherwise end the process as an unhandled rejection.
      if (returned instanceof Promise) returned.catch(nothing)
    } catch {
      // There is nowhere left to report it.
    }
  }
  return {
    debug: (message, fields) => write('debug', message, fields),
    info: (message, fields) => write('info', message, fields),
    warn: (message, fields) => write('warn', message, fields),
    error: (message, fields) => write('error', message, fields),
  }
}

function isPino(logger: Logger): boolean {
  const candidate = logger as { bindings?: unknown; child?: unknown }
  return typeof candidate.bindings === 'function' && typeof candidate.child === 'function'
}
