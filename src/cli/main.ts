#!/usr/bin/env node
/** The command line `sojourn`: finds the command, tells errors in a paragraph, sets the exit code. */

import { existsSync, readFileSync } from 'node:fs'
import { inspect } from 'node:util'

import { didYouMean } from '../did-you-mean.ts'
import { messageOf } from '../errors.ts'
import { checkTogether } from '../settings-together.ts'
import { findSettings, settings } from '../settings.ts'
import type { FoundSetting, SettingKey } from '../settings.ts'
import { parseArguments, UsageError } from './arguments.ts'
import { overview, serveHelp, settingsHelp } from './help.ts'
import { serve, ToldError } from './serve.ts'
import { sessionsCommand } from './sessions-command.ts'
import { settingsJson, settingsTable } from './settings-command.ts'
import { styleFor } from './style.ts'

/** 0 after a clean stop, 1 for a failure at run time, 2 for wrong usage. */
const EXIT = { success: 0, failure: 1, usage: 2 } as const

const COMMANDS = ['serve', 'settings', 'sessions'] as const

// Whoever reads our output may stop reading; that ends neither a server nor anything else.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})

try {
  await run(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof ToldError)) process.stderr.write(`sojourn: ${messageOf(error)}\n`)
  if (isDebugging()) process.stderr.write(`${inspect(error)}\n`)
  process.exit(error instanceof UsageError ? EXIT.usage : EXIT.failure)
}

async function run([command, ...args]: string[]): Promise<void> {
  const style = styleFor(process.stdout, process.env)
  switch (command) {
    case 'serve': {
      const { positionals, flags, switches } = parseArguments('sojourn serve', args, ['help'])
      if (switches.has('help')) return print(serveHelp(style))
      const [module, extra] = positionals
      if (module === undefined)
        throw new UsageError(
          'serve needs a module: sojourn serve ./server.ts. `sojourn serve --help` tells more.',
        )
      if (extra !== undefined) throw new UsageError(`serve takes one module, but got ${module} and ${extra}.`)
      await serve(module, lookUp(flags))
      // The module may hold timers and connections of its own; the server has stopped, so they have nothing left to serve.
      process.exit(EXIT.success)
    }
    // eslint-disable-next-line no-fallthrough -- the case above never gets here
    case 'settings': {
      const { positionals, flags, switches } = parseArguments('sojourn settings', args, ['help', 'json'])
      if (switches.has('help')) return print(settingsHelp(style))
      if (positionals[0] !== undefined)
        throw new UsageError(`settings takes only flags, but got ${positionals[0]}.`)
      const found = lookUp(flags)
      return print(switches.has('json') ? settingsJson(found) : settingsTable(found, style))
    }
    case 'sessions': {
      await sessionsCommand(args, {
        terminal: process.stdout.isTTY === true,
        style,
        print,
        warn: (text) => process.stderr.write(text),
      })
      return
    }
    case '--version':
    case '-v':
      return print(`${version()}\n`)
    case '--help':
    case '-h':
    case 'help':
      return print(overview(style))
    case undefined:
      throw new UsageError(`a command is missing.\n\n${overview(styleFor(process.stderr, process.env))}`)
    default:
      throw new UsageError(unknownCommand(command))
  }
}

function print(text: string): void {
  process.stdout.write(text)
}

/** Every setting; what cannot be is wrong usage, whether it came by flag or environment. */
function lookUp(flags: Readonly<Record<string, string>>): Map<SettingKey, FoundSetting> {
  try {
    const found = findSettings(settings, { flags, env: process.env })
    checkTogether(found)
    return found
  } catch (error) {
    throw new UsageError(messageOf(error), { cause: error })
  }
}

function unknownCommand(command: string): string {
  if (existsSync(command) || /\.m?[jt]s$/.test(command))
    return `${command} is no command. Did you mean: sojourn serve ${command}?`
  const kind = command.startsWith('-') ? 'flag' : 'command'
  return `there is no ${kind} ${command}.${didYouMean(command, COMMANDS)} \`sojourn --help\` tells more.`
}

function isDebugging(): boolean {
  const { argv, env } = process
  return (
    argv.includes('--log-level=debug') ||
    argv[argv.indexOf('--log-level') + 1] === 'debug' ||
    env['SOJOURN_LOG_LEVEL'] === 'debug'
  )
}

/** The version of the package, from its package.json, wherever this file was built to. */
function version(): string {
  for (let directory = new URL('.', import.meta.url); ; directory = new URL('..', directory)) {
    const file = new URL('package.json', directory)
    if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
    if (directory.pathname === '/') return 'unknown'
  }
}
