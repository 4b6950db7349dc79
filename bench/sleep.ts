/**
 * What a sleeping session costs, and what waking costs:
 * `node --expose-gc --import tsx bench/sleep.ts [--sessions 10000] [--tools 1,40] [--sdk v1,v2] [--wakes 500]`.
 * Goals: P2, at most 1 KB of heap per sleeping session whatever the number of tools, 1,000,000 of them in 1.5 GB of RSS;
 * P6, waking in memory at most 1.2 times what factory, connect and initialize take. Run it on a quiet machine.
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { z } from 'zod'

import { httpApp } from '../src/index.ts'
import type { App, McpServerLike } from '../src/index.ts'
import { echoRequest, INITIALIZED, initializeRequest } from './shared/echo.ts'
import { build, post } from './shared/in-process.ts'

const { values } = parseArgs({
  options: {
    sessions: { type: 'string', default: '10000' },
    tools: { type: 'string', default: '1,40' },
    sdk: { type: 'string', default: 'v1,v2' },
    wakes: { type: 'string', default: '500' },
    /** One row, in this process. */
    row: { type: 'boolean', default: false },
  },
})
const sessions = Number(values.sessions)
const wakes = Number(values.wakes)

/** Opened at once: the rest of them sleep by then. */
const BATCH = 200

const UNLIMITED = {
  maxSessions: 2_000_000,
  sessionIdleTimeout: Number.POSITIVE_INFINITY,
  unusedSessionTimeout: Number.POSITIVE_INFINITY,
  handshakeTimeout: Number.POSITIVE_INFINITY,
}

if (values.row) await measure(values.sdk, Number(values.tools))
else {
  process.stdout.write(
    'sdk  tools  sessions   asleep   awake          RSS   build     wake  ratio\n' +
      '                       heap     heap                   us       us\n',
  )
  for (const sdk of values.sdk.split(',')) {
    for (const tools of values.tools.split(',')) {
      // Each in a process of its own, so that none finds the heap of another.
      const child = spawnSync(
        process.execPath,
        [
          '--expose-gc',
          '--max-old-space-size=6000',
          '--import',
          'tsx',
          fileURLToPath(import.meta.url),
          '--row',
          ...['--sdk', sdk, '--tools', tools, '--sessions', values.sessions, '--wakes', values.wakes],
        ],
        { stdio: 'inherit' },
      )
      if (child.status !== 0) process.exitCode = 1
    }
  }
}

function factory(sdk: string, tools: number): () => McpServerLike {
  const info = { name: 'asleep', version: '1.0.0' }
  const text = ({ text: said }: { text: string }): { content: { type: 'text'; text: string }[] } => ({
    content: [{ type: 'text', text: said }],
  })
  // Not `.describe()`: zod's table of described schemas stays as large as it ever was, 13 MB here, and is no session's.
  const schemaOf = (): { text: z.ZodString } => ({ text: z.string() })
  const register = (server: McpServerV1 | McpServerV2): McpServerLike => {
    for (let n = 0; n < tools; n++) {
      const name = n === 0 ? 'echo' : `tool-${n}`
      // Schemas in the factory, as most servers have them.
      if (server instanceof McpServerV1) server.registerTool(name, { inputSchema: schemaOf() }, text)
      else server.registerTool(name, { inputSchema: z.object(schemaOf()) }, text)
    }
    return server
  }
  return sdk === 'v1' ? () => register(new McpServerV1(info)) : () => register(new McpServerV2(info))
}

async function measure(sdk: string, tools: number): Promise<void> {
  const createServer = factory(sdk, tools)
  const app = httpApp(createServer, { allowedHosts: 'any', ...UNLIMITED, sleepAfter: 50, maxAwake: BATCH })
  await open(app, BATCH)
  await asleep(app)
  const before = await memory()
  const ids = await open(app, sessions)
  await asleep(app)
  const after = await memory()
  const heap = (after.heapUsed - before.heapUsed) / sessions
  const awakeHeap = await heapAwake(createServer)
  const { build, wake } = await costs(createServer, wakes)
  process.stdout.write(
    `${sdk}   ${String(tools).padStart(5)} ${String(sessions).padStart(9)} ${heap.toFixed(0).padStart(6)} B ` +
      `${(awakeHeap / 1024).toFixed(0).padStart(4)} KB  ${(after.rss / 2 ** 20).toFixed(0).padStart(8)} MB ` +
      `${build.toFixed(0).padStart(7)} ${wake.toFixed(0).padStart(8)} ${(wake / build).toFixed(2).padStart(6)}\n`,
  )
  if (ids.length !== sessions) throw new Error(`${ids.length} sessions were opened`)
  await app.close()
}

/** Waits until every session sleeps. */
async function asleep(app: App): Promise<void> {
  while (app.sessions.counts.awake > 0) await new Promise((resolve) => setTimeout(resolve, 10))
}

async function heapAwake(createServer: () => McpServerLike): Promise<number> {
  const app = httpApp(createServer, { allowedHosts: 'any', ...UNLIMITED })
  await open(app, 50)
  const before = await memory()
  await open(app, 200)
  const after = await memory()
  await app.close()
  return (after.heapUsed - before.heapUsed) / 200
}

/** Both in turn, so that they meet the same machine; medians in microseconds, the first half left out. */
async function costs(
  createServer: () => McpServerLike,
  count: number,
): Promise<{ build: number; wake: number }> {
  const app = httpApp(createServer, { allowedHosts: 'any', ...UNLIMITED, maxAwake: 1 })
  const woken: number[] = []
  const built: number[] = []
  app.sessions.subscribe((event) => {
    if (event.type === 'session.woken') woken.push(event.durationMs * 1000)
  })
  const ids = await open(app, 2)
  for (let n = 0; n < 2 * count; n++) {
    built.push(await build(createServer))
    await new Promise((resolve) => setTimeout(resolve, 1))
    await post(app, echoRequest(n), ids[n % 2])
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await app.close()
  if (woken.length < count) throw new Error(`only ${woken.length} of ${2 * count} calls woke their session`)
  return { build: median(built.slice(count)), wake: median(woken.slice(-count)) }
}

/** Opens sessions, each with a handshake and one call. */
async function open(app: App, count: number): Promise<string[]> {
  const ids: string[] = []
  while (ids.length < count) {
    const batch = Math.min(BATCH, count - ids.length)
    const opened = await Promise.all(
      Array.from({ length: batch }, async (_, n) => {
        const id = await post(app, initializeRequest(n))
        await post(app, INITIALIZED, id)
        await post(app, echoRequest(n), id)
        return id
      }),
    )
    ids.push(...opened)
  }
  return ids
}

async function memory(): Promise<NodeJS.MemoryUsage> {
  for (let round = 0; round < 6; round++) {
    globalThis.gc?.()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return process.memoryUsage()
}

function median(times: number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN
}
