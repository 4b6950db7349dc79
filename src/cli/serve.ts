/** `sojourn serve`: loads a module, listens, logs what happens, stops when told. */

import { didYouMean } from '../did-you-mean.ts'
import { createLog, type LogFields } from '../logging.ts'
import { runHttp } from '../run-http.ts'
import { foldResponseMode, settings } from '../settings.ts'
import type { FoundSetting, SettingKey } from '../settings.ts'
import type { Logger, RunHttpOptions } from '../types.ts'
import { authenticateFrom, CLIENT_SECRET_VARIABLE } from './auth-settings.ts'
import { elapsed, logEvents, plural } from './event-log-lines.ts'
import { canShowLive, LiveView } from './live.ts'
import { loadServer } from './load-server.ts'
import { JsonOutput, loggerTo, PrettyOutput } from './log-output.ts'
import type { LogOutput } from './log-output.ts'
import { styleFor } from './style.ts'

/** Why the server did not start, where the log has said it already. */
export class ToldError extends Error {
  override readonly name = 'ToldError'
}

/**
 * Serves until a signal; resolves after a clean stop.
 *
 * @throws ToldError for what the log has told with all that there is to say
 */
export async function serve(module: string, found: ReadonlyMap<SettingKey, FoundSetting>): Promise<void> {
  const valueOf = (key: SettingKey): string | undefined => found.get(key)?.value as string | undefined
  const terminal = process.stderr.isTTY === true
  const pretty = valueOf('logFormat') === 'pretty' || (valueOf('logFormat') === 'auto' && terminal)
  const output = openOutput(valueOf('logLevel') ?? 'info', pretty)
  const log = loggerTo(output)
  warnOfUnknownVariables(output)

  const authenticate = await authenticateFrom(found, process.env, createLog(log))
  // A promise that the author's code forgot costs that call, not the sessions of everyone else.
  process.on('unhandledRejection', (reason) =>
    log.error('a promise of the server module was rejected, and nobody handled it', { error: reason }),
  )
  const createServer = await loadServer(module, process.cwd())

  const told = new WeakSet<Error>()
  const logger: Logger = {
    ...log,
    error(message: string, fields?: LogFields) {
      const error = fields?.['error']
      if (error instanceof Error && output.takes('error')) told.add(error)
      log.error(message, fields)
    },
  }
  const starting = runHttp(createServer, { ...givenOptions(found), authenticate, logger })
  const handle = await starting.catch((thrown: unknown) => {
    throw thrown instanceof Error && told.has(thrown)
      ? new ToldError(thrown.message, { cause: thrown })
      : thrown
  })
  const { sessions } = handle.app
  logEvents(sessions, output, pretty)
  process.stdout.write(`${handle.url}\n`)
  const live =
    pretty && found.get('live')?.value === true && canShowLive(process.stderr, process.env)
      ? new LiveView(sessions, process.stderr, styleFor(process.stderr, process.env))
      : undefined

  let streams = 0
  let aborted = 0
  let stopping: number | undefined
  sessions.subscribe(({ type, ...event }) => {
    if (type === 'stream.opened') streams += 1
    if (type === 'stream.closed') streams -= 1
    if (stopping !== undefined && 'outcome' in event && event.outcome === 'aborted') aborted += 1
  })
  const draining = (): void => {
    for (const signal of STOPPING) process.off(signal, draining)
    stopping = performance.now()
    live?.drain()
    const { requests: running, total } = sessions.counts
    const text = `draining, ${plural(running, 'call')} running, ${plural(streams, 'stream')} open; signal again to stop at once`
    output.write({ level: 'info', event: 'draining', text, fields: { running, streams, sessions: total } })
  }
  // Before runHttp's own listener, which ends what is idle at once.
  for (const signal of STOPPING) process.prependListener(signal, draining)
  try {
    await handle.finished
  } finally {
    live?.stop()
  }
  const durationMs = Math.round(performance.now() - (stopping ?? performance.now()))
  const lost = aborted === 0 ? '' : `, ${plural(aborted, 'call')} did not finish`
  output.write({
    level: aborted === 0 ? 'info' : 'warn',
    event: 'stopped',
    text: `stopped after ${elapsed(durationMs)}${lost}`,
    fields: { durationMs, aborted },
  })
}

const STOPPING = ['SIGINT', 'SIGTERM'] as const

function openOutput(level: string, pretty: boolean): LogOutput {
  if (!pretty) return new JsonOutput(level, process.stderr.fd)
  return new PrettyOutput(level, styleFor(process.stderr, process.env), (text) => process.stderr.write(text))
}

/** What flags and environment said, as options. Defaults are left out: some rules ask whether an option was given. */
function givenOptions(found: ReadonlyMap<SettingKey, FoundSetting>): RunHttpOptions {
  const given = [...found.values()].filter(
    ({ origin, setting }) => origin !== 'default' && setting.scope !== 'command-line',
  )
  const { jsonResponse, ...options } = Object.fromEntries(
    given.map(({ setting, value }) => [setting.key, value]),
  )
  return jsonResponse === undefined ? options : { ...options, responseMode: foldResponseMode(found) }
}

function warnOfUnknownVariables(output: LogOutput): void {
  const known = [...settings.flatMap(({ env }) => env), CLIENT_SECRET_VARIABLE]
  for (const name of Object.keys(process.env)) {
    if (!name.startsWith('SOJOURN_') || known.includes(name)) continue
    output.write({
      level: 'warn',
      event: 'log',
      text: `the environment variable ${name} is no setting.${didYouMean(name, known)}`,
    })
  }
}
