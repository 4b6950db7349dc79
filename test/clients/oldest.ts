/**
 * Proves that the oldest SDK versions that Sojourn promises still work as servers under it: `npm run test:oldest`. With arguments
 * (`v1@1.12.0 v2@2.1.0`) it checks those instead, which is how the oldest ones were found.
 */

import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'

import { httpApp } from '../../src/http-app.ts'
import type { McpServerLike } from '../../src/types.ts'
import { deferred, within } from '../support/deferred.ts'
import type { Generation } from './probe-server.ts'

/** The oldest versions that pass; `peerDependencies` and the README state the same. */
const OLDEST: readonly Candidate[] = [
  // 1.10 works too but for progress: its McpServer keeps the token from tools.
  { generation: 'v1', version: '1.11.0' },
  { generation: 'v2', version: '2.0.0' },
]

const PACKAGES = { v1: '@modelcontextprotocol/sdk', v2: '@modelcontextprotocol/server' } as const
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/oldest-sdks/', import.meta.url))
const PROMPT = { messages: [{ role: 'user', content: { type: 'text', text: 'think' } }], maxTokens: 10 }
const FORM = {
  message: 'name?',
  requestedSchema: { type: 'object', properties: { value: { type: 'string' } } },
}

interface Candidate {
  readonly generation: Generation
  readonly version: string
}

/** What the tools need of a call, whichever SDK it came through. */
interface Call {
  readonly signal: AbortSignal
  readonly progressToken: unknown
  notify(notification: object): Promise<void>
  /** Asks the client by a request that names the call. */
  ask(method: string, params: object): Promise<unknown>
}

/** The parts of an SDK's `McpServer` that are used here, by any version of it. */
interface AnyServer extends McpServerLike {
  readonly server: {
    onclose?: () => void
    createMessage(params: object): Promise<unknown>
    elicitInput?(params: object): Promise<unknown>
  }
}

/** One installed version: makes servers and gives them tools. */
interface Sdk {
  create(): AnyServer
  tool(server: AnyServer, name: string, run: (call: Call) => string | Promise<string>): void
}

const candidates = process.argv.length > 2 ? process.argv.slice(2).map(parse) : OLDEST
let passed = 0
let failed = 0
for (const candidate of candidates) await check(candidate)
say(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

function parse(argument: string): Candidate {
  const match = /^(v[12])@(\d\S*)$/.exec(argument)
  if (match === null) throw new Error(`expected v1@<version> or v2@<version>, got ${argument}`)
  return { generation: match[1] as Generation, version: match[2] ?? '' }
}

/** Serves one version and puts the official client to it. */
async function check({ generation, version }: Candidate): Promise<void> {
  const name = `${PACKAGES[generation]}@${version}`
  const sdk = await (generation === 'v1' ? loadV1 : loadV2)(
    await install(name, PACKAGES[generation], version),
  )
  const aborted = deferred()
  const waiting = deferred()
  const closed = deferred()
  const servers: AnyServer[] = []
  const app = httpApp(() => {
    const server = sdk.create()
    servers.push(server)
    server.server.onclose = () => closed.resolve()
    sdk.tool(server, 'echo', () => 'hello')
    sdk.tool(server, 'progress', async ({ progressToken, notify }) => {
      for (const progress of [1, 2])
        await notify({ method: 'notifications/progress', params: { progressToken, progress } })
      return 'done'
    })
    sdk.tool(server, 'sample', async ({ ask }) => modelOf(await ask('sampling/createMessage', PROMPT)))
    sdk.tool(server, 'sample-unnamed', async () => modelOf(await server.server.createMessage(PROMPT)))
    sdk.tool(server, 'elicit', async ({ ask }) => actionOf(await ask('elicitation/create', FORM)))
    sdk.tool(server, 'elicit-unnamed', async () => actionOf(await server.server.elicitInput?.(FORM)))
    sdk.tool(server, 'wait', async ({ signal }) => {
      signal.addEventListener('abort', () => aborted.resolve())
      waiting.resolve()
      await aborted.promise
      return 'too late'
    })
    return server
  })
  const http = createHttpServer(app.node).listen(0, '127.0.0.1')
  await once(http, 'listening')
  const { port } = http.address() as AddressInfo
  const transport = new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${port}/mcp`))
  const client = new Client(
    { name: 'oldest', version: '1' },
    { capabilities: { sampling: {}, elicitation: {} } },
  )
  client.setRequestHandler('sampling/createMessage', () => ({
    role: 'assistant',
    model: 'parrot',
    content: { type: 'text', text: 'thought' },
  }))
  client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: { value: 'me' } }))
  const changed = deferred()
  client.setNotificationHandler('notifications/tools/list_changed', () => changed.resolve())
  const call = async (tool: string, options = {}): Promise<string> => {
    const { content } = await client.callTool({ name: tool }, { timeout: 5000, ...options })
    const [block] = content
    return block?.type === 'text' ? block.text : ''
  }
  const item = async (what: string, run: () => Promise<unknown>, expected: unknown): Promise<void> => {
    try {
      const got = await within(run(), what, 10_000)
      if (JSON.stringify(got) !== JSON.stringify(expected)) throw new Error(`got ${JSON.stringify(got)}`)
      passed += 1
    } catch (error) {
      failed += 1
      say(`FAILED ${name}: ${what}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  const opened = deferred()
  app.sessions.subscribe((event) => {
    if (event.type === 'stream.opened' && event.kind === 'get') opened.resolve()
  })
  await item('initialize', () => client.connect(transport, { timeout: 5000 }), undefined)
  await item('the GET stream', () => opened.promise, undefined)
  await item('tools/list', async () => (await client.listTools()).tools.length, 7)
  await item('tools/call', () => call('echo'), 'hello')
  const seen: number[] = []
  await item(
    'progress',
    () => call('progress', { onprogress: (report: { progress: number }) => seen.push(report.progress) }),
    'done',
  )
  await item('each report once', () => Promise.resolve(seen), [1, 2])
  await item('sampling that names its call', () => call('sample'), 'parrot')
  await item('sampling that names none', () => call('sample-unnamed'), 'parrot')
  if (servers[0]?.server.elicitInput === undefined) say(`${name} has no elicitation`)
  else {
    await item('elicitation that names its call', () => call('elicit'), 'accept')
    await item('elicitation that names none', () => call('elicit-unnamed'), 'accept')
  }
  await item(
    'cancellation',
    async () => {
      const controller = new AbortController()
      const cancelled = call('wait', { signal: controller.signal }).catch(() => 'cancelled')
      await waiting.promise
      controller.abort()
      await aborted.promise
      return [await cancelled, await call('echo')]
    },
    ['cancelled', 'hello'],
  )
  await item(
    'list change on the GET',
    async () => {
      const [server] = servers
      if (server !== undefined) sdk.tool(server, 'late', () => 'late')
      await changed.promise
    },
    undefined,
  )
  await item('DELETE', () => transport.terminateSession(), undefined)
  await item('the end of the server', () => closed.promise, undefined)
  await item(
    'nothing left',
    () => Promise.resolve(app.sessions.counts.total + app.sessions.counts.requests),
    0,
  )
  say(`${name} speaks ${client.getNegotiatedProtocolVersion() ?? 'nothing'}`)
  await client.close()
  await app.close()
  http.closeAllConnections()
  http.close()
}

async function loadV1(folder: string): Promise<Sdk> {
  const { McpServer } = (await load(folder, '@modelcontextprotocol/sdk/server/mcp.js')) as {
    McpServer: new (info: object) => AnyServer & {
      tool(name: string, run: (extra: ExtraV1) => Promise<object>): unknown
    }
  }
  const schemas = await load(folder, '@modelcontextprotocol/sdk/types.js')
  const resultOf: Record<string, unknown> = {
    'sampling/createMessage': schemas['CreateMessageResultSchema'],
    'elicitation/create': schemas['ElicitResultSchema'],
  }
  type ServerV1 = InstanceType<typeof McpServer>
  return {
    create: () => new McpServer({ name: 'oldest', version: '1' }),
    tool: (server, name, run) =>
      (server as ServerV1).tool(name, async (extra) =>
        result(
          await run({
            signal: extra.signal,
            progressToken: extra._meta?.progressToken,
            notify: (notification) => extra.sendNotification(notification),
            ask: (method, params) => extra.sendRequest({ method, params }, resultOf[method]),
          }),
        ),
      ),
  }
}

interface ExtraV1 {
  readonly signal: AbortSignal
  readonly _meta?: { progressToken?: unknown }
  sendNotification(notification: object): Promise<void>
  sendRequest(request: object, resultSchema: unknown): Promise<unknown>
}

async function loadV2(folder: string): Promise<Sdk> {
  const { McpServer } = (await load(folder, '@modelcontextprotocol/server')) as {
    McpServer: new (info: object) => AnyServer & {
      registerTool(name: string, config: object, run: (context: ContextV2) => Promise<object>): unknown
    }
  }
  type ServerV2 = InstanceType<typeof McpServer>
  return {
    create: () => new McpServer({ name: 'oldest', version: '1' }),
    tool: (server, name, run) =>
      (server as ServerV2).registerTool(name, {}, async ({ mcpReq }) =>
        result(
          await run({
            signal: mcpReq.signal,
            progressToken: mcpReq._meta?.progressToken,
            notify: (notification) => mcpReq.notify(notification),
            ask: (method, params) => mcpReq.send({ method, params }),
          }),
        ),
      ),
  }
}

interface ContextV2 {
  readonly mcpReq: {
    readonly signal: AbortSignal
    readonly _meta?: { progressToken?: unknown }
    notify(notification: object): Promise<void>
    send(request: object): Promise<unknown>
  }
}

/** Imports a module as a program in `folder` would: its ES module, not the CommonJS one that `require.resolve` finds. */
async function load(folder: string, specifier: string): Promise<Record<string, unknown>> {
  const entry = join(folder, `${specifier.replaceAll(/[^\w]/g, '-')}.mjs`)
  await writeFile(entry, `export * from '${specifier}'\n`)
  return (await import(pathToFileURL(entry).href)) as Record<string, unknown>
}

/** Installs exactly one version into a folder of its own, unless it is there. */
async function install(name: string, packageName: string, version: string): Promise<string> {
  const folder = join(CACHE, name.replaceAll('/', '-'))
  const manifest = join(folder, 'node_modules', packageName, 'package.json')
  if (!existsSync(manifest)) {
    await mkdir(folder, { recursive: true })
    await writeFile(
      join(folder, 'package.json'),
      JSON.stringify({ private: true, type: 'module', dependencies: { [packageName]: version } }),
    )
    await promisify(execFile)(
      'npm',
      ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock'],
      {
        cwd: folder,
      },
    )
  }
  const installed = (JSON.parse(await readFile(manifest, 'utf8')) as { version: string }).version
  if (installed !== version) throw new Error(`${folder} has ${installed}, not ${version}: delete it`)
  return folder
}

function result(text: string): object {
  return { content: [{ type: 'text', text }] }
}

function modelOf(answer: unknown): string {
  return (answer as { model: string }).model
}

function actionOf(answer: unknown): string {
  return (answer as { action: string }).action
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
