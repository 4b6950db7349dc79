/** Modules that make servers, and all the ways they do not. */

import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { loadServer } from '../../src/cli/load-server.ts'
import { SojournError } from '../../src/errors.ts'
import type { ServerContext } from '../../src/types.ts'
import { directoryWith } from './run-cli.ts'

const context = {} as ServerContext

async function load(name: string, text: string, more: Record<string, string> = {}): Promise<unknown> {
  const createServer = await loadServer(name, directoryWith({ [name]: text, ...more }))
  return createServer(context)
}

async function failure(name: string, text: string): Promise<string> {
  const error = await load(name, text).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(SojournError)
  expect(error).toMatchObject({ code: 'module-load' })
  return (error as SojournError).message
}

describe('a factory', () => {
  it.each([
    ['default.mjs', 'export default () => "made"'],
    ['named.mjs', 'export const createServer = async () => "made"'],
    ['both.mjs', 'export const other = 1; export default function () { return "made" }'],
    ['common.js', 'module.exports = () => "made"'],
    ['named-common.js', 'exports.createServer = () => "made"'],
    ['typed.ts', 'enum Word { Made = "made" }\nexport default (): string => Word.Made'],
    ['typed.mts', 'await Promise.resolve()\nexport const createServer = (): string => "made"'],
    ['both.ts', 'export const other = 1\nexport default (): string => "made"'],
  ])('is found in %s', async (name, text) => {
    expect(await load(name, text)).toBe('made')
  })

  it.each([
    [
      'server.ts',
      'import { greet } from "greeting"\nimport { name } from "./name.ts"\nexport default (): string => greet(name)',
    ],
    ['server.mjs', 'import { greet } from "greeting"\nexport default () => greet("you")'],
  ])('finds the packages of its own directory: %s', async (name, text) => {
    const made = await load(name, text, {
      'name.ts': 'export const name: string = "you"',
      'node_modules/greeting/package.json': '{"name": "greeting", "type": "module", "exports": "./index.js"}',
      'node_modules/greeting/index.js': 'export const greet = (name) => `hello ${name}`',
    })
    expect(made).toBe('hello you')
  })

  it('is not called by loading', async () => {
    const directory = directoryWith({ 'server.mjs': 'export default () => { throw new Error("called") }' })
    const createServer = await loadServer('server.mjs', directory)
    expect(() => createServer(context)).toThrow('called')
  })
})

describe('what is none', () => {
  it('is a file that is not there', async () => {
    const directory = directoryWith({})
    await expect(loadServer('servr.ts', directory)).rejects.toThrow(
      `Cannot load servr.ts: there is no file ${join(directory, 'servr.ts')}.`,
    )
  })

  it.each([
    ['server.py', 'x', 'a module is a file that ends in .ts, .mts, .js or .mjs.'],
    [
      'empty.mjs',
      '',
      'it has no factory: its default export, or its export createServer, must be a function that returns a new McpServer. It exports nothing.',
    ],
    [
      'wrong.ts',
      'export const server = 1, port = 2',
      'it has no factory: its default export, or its export createServer, must be a function that returns a new McpServer. It exports port, server.',
    ],
    [
      'server.mjs',
      'export default { connect() {} }',
      'it exports a server, but every session needs its own. Export a function that returns a new one: export default () => new McpServer(…).',
    ],
    [
      'class.mjs',
      'export default class Server {}',
      'it exports a class. Export a function that returns a new server: export default () => new YourServer(…).',
    ],
    ['throws.mjs', 'throw new Error("no database")', 'no database.'],
    ['throws.ts', 'throw new Error("no database!")', 'no database!'],
  ])('%s: %s', async (name, text, message) => {
    expect(await failure(name, text)).toBe(`Cannot load ${name}: ${message}`)
  })

  it.each([
    [
      'import.mjs',
      'import "nowhere-to-be-found"',
      /^Cannot load import\.mjs: Cannot find package 'nowhere-to-be-found' imported from .*$/,
    ],
    [
      'import.ts',
      'import "nowhere-to-be-found"',
      /^Cannot load import\.ts: Cannot find (module|package) 'nowhere-to-be-found'.*$/,
    ],
    ['syntax.ts', 'export default () => {\n  return ]\n}', /^Cannot load syntax\.ts: .*syntax\.ts:2:\d+.*$/],
  ])('%s says what is wrong, in one line', async (name, text, message) => {
    expect(await failure(name, text)).toMatch(message)
  })
})
