/** Loads the module that a user names, and finds the factory in it. */

import { existsSync, statSync } from 'node:fs'
import { extname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

import { createJiti } from 'jiti'

import { SojournError, messageOf } from '../errors.ts'
import type { CreateServer } from '../types.ts'

const TYPESCRIPT: readonly string[] = ['.ts', '.mts']
const JAVASCRIPT: readonly string[] = ['.js', '.mjs']

/**
 * Imports a module and returns its factory: its default export or its export `createServer`. The factory is not called: a call may
 * have effects, and each is for a session.
 *
 * @param name the module as the user named it, relative to `directory`
 * @throws SojournError `module-load`
 */
export async function loadServer(name: string, directory: string): Promise<CreateServer> {
  const file = resolve(directory, name)
  const fail = (what: string, cause?: unknown): SojournError =>
    new SojournError('module-load', `Cannot load ${name}: ${what}`, { cause })
  if (!existsSync(file)) throw fail(`there is no file ${file}.`)
  const extension = extname(file)
  if (statSync(file).isDirectory() || ![...TYPESCRIPT, ...JAVASCRIPT].includes(extension)) {
    throw fail('a module is a file that ends in .ts, .mts, .js or .mjs.')
  }
  let exports: unknown
  // A top-level await that nothing can settle leaves the process with nothing to do, and it would end without a word.
  const stuck = (): void => {
    process.stderr.write(`sojourn: ${fail('its top-level await never ends.').message}\n`)
    process.exit(1)
  }
  process.once('beforeExit', stuck)
  try {
    const url = pathToFileURL(file).href
    // Node 20 knows no TypeScript. jiti is told the module's own place, so that its imports are found from there.
    exports = await (TYPESCRIPT.includes(extension) ? createJiti(url).import(file) : import(url))
  } catch (error) {
    throw fail(reasonOf(error), error)
  } finally {
    process.off('beforeExit', stuck)
  }
  const factory = findFactory(exports)
  if (typeof factory === 'string') throw fail(factory)
  return factory
}

/** The factory among a module's exports, or what is wrong with them. */
function findFactory(exports: unknown): CreateServer | string {
  const module = exports as Readonly<Record<string, unknown>>
  // A CommonJS module's exports are the default export of its import.
  const inner = module['default'] as Readonly<Record<string, unknown>> | undefined
  const candidates = [inner, module['createServer'], inner?.['default'], inner?.['createServer']]
  const factory = candidates.find((candidate) => typeof candidate === 'function')
  if (factory !== undefined) {
    if (!/^class\b/.test(Function.prototype.toString.call(factory))) return factory as unknown as CreateServer
    return 'it exports a class. Export a function that returns a new server: export default () => new YourServer(…).'
  }
  const server = candidates.find(
    (candidate) => typeof candidate === 'object' && candidate !== null && 'connect' in candidate,
  )
  if (server !== undefined) {
    return 'it exports a server, but every session needs its own. Export a function that returns a new one: export default () => new McpServer(…).'
  }
  const names = Object.keys(module)
    .filter((name) => name !== 'module.exports')
    .sort()
  const found = names.length === 0 ? 'It exports nothing.' : `It exports ${names.slice(0, 10).join(', ')}.`
  return `it has no factory: its default export, or its export createServer, must be a function that returns a new McpServer. ${found}`
}

/** One line about why a module failed. */
function reasonOf(error: unknown): string {
  // What follows is the chain of files that required it.
  const [message = ''] = messageOf(error).split(/\nRequire stack:/)
  const oneLine = message.replace(/\s+/g, ' ').trim()
  // Node tells where a syntax error is only in the first line of the stack.
  const [, where] =
    (error instanceof SyntaxError ? /^file:\/\/(\S+:\d+)\n/.exec(error.stack ?? '') : null) ?? []
  return `${oneLine}${where === undefined ? '' : ` (${where})`}${/[.!?]$/.test(oneLine) && where === undefined ? '' : '.'}`
}
