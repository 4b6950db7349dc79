/**
 * What a call without a handshake costs (P10), ours against the official `createMcpHandler`, in turn:
 * `node --import tsx bench/per-request.ts [--tools 1,40] [--ms 400] [--rounds 15] [--only ours] [--dist <folder>] [--profile <folder>]`.
 * CPU time of the server process per call; goals: fresh at least 1.5 times less than theirs, pooled 4 times with one tool and 20 with 40.
 */

import { type ChildProcess, fork, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { loadavg } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type * as Sdk from '@modelcontextprotocol/server'
import type ts from 'typescript'

const { values } = parseArgs({
  options: {
    tools: { type: 'string', default: '1,40' },
    ms: { type: 'string', default: '400' },
    rounds: { type: 'string', default: '15' },
    only: { type: 'string', default: 'createMcpHandler,fresh,pooled' },
    dist: { type: 'string', default: new URL('../dist/', import.meta.url).href },
    profile: { type: 'string' },
    /** In a process of its own: serves, or calls. */
    role: { type: 'string' },
  },
})

const CONNECTIONS = 16
const REVISION = '2026-07-28'

if (values.role === 'load') load()
else if (values.role === 'server') await serve(values.only, Number(values.tools))
else await drive()

/** The same factory for all, schemas made in it as most do: an `echo` tool, and others of four parameters. */
async function factoryOf(tools: number): Promise<() => object> {
  // Ours serves this revision only with the copy that it imports itself, so all are given that one.
  const { McpServer } = (await import(sdkUrl())) as typeof Sdk
  const { z } = await import('zod')
  return () => {
    const server = new McpServer({ name: 'echo', version: '1.0.0' })
    server.registerTool(
      'echo',
      { description: 'Says it again', inputSchema: z.object({ text: z.string() }) },
      ({ text }) => ({ content: [{ type: 'text', text }] }),
    )
    for (let n = 1; n < tools; n += 1) {
      const inputSchema = z.object({
        query: z.string().describe('What to look for'),
        limit: z.number().int().min(1).max(100).default(20),
        tags: z.array(z.string()).optional(),
        order: z.enum(['asc', 'desc']).default('asc'),
      })
      server.registerTool(`tool-${n}`, { description: `Tool ${n}`, inputSchema }, ({ query }) => ({
        content: [{ type: 'text', text: query }],
      }))
    }
    return server
  }
}

function sdkUrl(): string {
  return new URL('../node_modules/@modelcontextprotocol/server/dist/index.mjs', process.env['BENCH_HOME'])
    .href
}

async function serve(kind: string, tools: number): Promise<void> {
  const server = createServer(await listenerOf(kind, await factoryOf(tools)))
  server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }))
  process.on('message', (message) => {
    if (message === 'cpu') process.send?.(process.cpuUsage())
  })
  // process.exit, not a signal: it writes the profile of --cpu-prof.
  process.on('disconnect', () => process.exit(0))
}

async function listenerOf(kind: string, factory: () => object): Promise<RequestListener> {
  if (kind === 'createMcpHandler') {
    const { createMcpHandler } = (await import(sdkUrl())) as typeof Sdk
    const { toNodeHandler } = await import('@modelcontextprotocol/node')
    // As its README mounts it on node:http; the guards that it tells to put in front are left out, in its favor.
    return toNodeHandler(createMcpHandler(factory as never)) as RequestListener
  }
  const { httpApp } = (await import(`${values.dist}index.js`)) as {
    httpApp(factory: () => object, options: object): { node: RequestListener }
  }
  return httpApp(factory, kind === 'pooled' ? { instances: 'pooled' } : {}).node
}

/** Calls over kept-alive sockets, one call in flight on each, and looks into every answer. */
function load(): void {
  process.on('disconnect', () => process.exit(0))
  process.on('message', (message) => {
    const { port, ms } = message as { port: number; ms: number }
    const until = performance.now() + ms
    const lanes = Array.from({ length: CONNECTIONS }, () => lane(port, until))
    Promise.all(lanes).then(
      (counts) => process.send?.({ calls: counts.reduce((sum, count) => sum + count, 0) }),
      (error: unknown) => process.send?.({ error: String(error) }),
    )
  })
}

function lane(port: number, until: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = callBytes(port)
    const socket = connect(port, '127.0.0.1', () => socket.write(request))
    let calls = 0
    let answer = ''
    socket.setNoDelay(true)
    socket.on('error', reject)
    socket.on('data', (chunk) => {
      answer += chunk.toString('latin1')
      // All are asked the same and answer in one JSON body: chunked, or of a told length.
      if (!answer.endsWith('}') && !answer.endsWith('0\r\n\r\n')) return
      if (!answer.startsWith('HTTP/1.1 200') || !answer.includes('"text":"the quick brown fox"')) {
        reject(new Error(`wrong answer: ${answer}`))
        socket.destroy()
        return
      }
      answer = ''
      calls += 1
      if (performance.now() < until) socket.write(request)
      else {
        socket.destroy()
        resolve(calls)
      }
    })
  })
}

function callBytes(port: number): string {
  const body = JSON.stringify({
    jsonrpc: '2.0',
    id: 1_000_000,
    method: 'tools/call',
    params: {
      name: 'echo',
      arguments: { text: 'the quick brown fox' },
      _meta: {
        'io.modelcontextprotocol/protocolVersion': REVISION,
        'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1.0.0' },
        'io.modelcontextprotocol/clientCapabilities': {},
      },
    },
  })
  return [
    'POST /mcp HTTP/1.1',
    `Host: 127.0.0.1:${port}`,
    'Content-Type: application/json',
    'Accept: application/json, text/event-stream',
    `MCP-Protocol-Version: ${REVISION}`,
    'Mcp-Method: tools/call',
    'Mcp-Name: echo',
    `Content-Length: ${body.length}`,
    '',
    body,
  ].join('\r\n')
}

async function drive(): Promise<void> {
  const entry = await plainJavaScript()
  const kinds = values.only.split(',')
  process.stdout.write(
    `node ${process.version}, load ${loadavg()
      .map((one) => one.toFixed(1))
      .join(' ')}\n`,
  )
  const caller = fork(entry, ['--role', 'load'])
  pin(caller, 1)
  for (const tools of values.tools.split(',')) {
    const rows = await Promise.all(kinds.map((kind) => start(entry, kind, tools)))
    for (let round = -1; round < Number(values.rounds); round += 1) {
      for (const row of rows) {
        const before = await ask<NodeJS.CpuUsage>(row.process, 'cpu')
        const ms = Number(values.ms) * (round < 0 ? 8 : 1)
        const { calls, error } = await ask<{ calls: number; error?: string }>(caller, { port: row.port, ms })
        if (error !== undefined) throw new Error(`${row.kind}, ${tools} tools: ${error}`)
        const after = await ask<NodeJS.CpuUsage>(row.process, 'cpu')
        const used = after.user - before.user + after.system - before.system
        if (round >= 0) row.samples.push(used / calls)
      }
    }
    const [first] = rows
    for (const row of rows) {
      const ratios = row.samples.map((sample, round) => (first?.samples[round] ?? Number.NaN) / sample)
      process.stdout.write(
        `${tools.padStart(2)} tools  ${row.kind.padEnd(16)} ${median(row.samples).toFixed(1).padStart(8)} us` +
          `  (${Math.min(...row.samples).toFixed(1)}-${Math.max(...row.samples).toFixed(1)})` +
          `  ${median(ratios).toFixed(2)} x less\n`,
      )
    }
    for (const row of rows) row.process.disconnect()
  }
  caller.disconnect()
}

interface Row {
  readonly kind: string
  readonly process: ChildProcess
  readonly port: number
  /** CPU per call of each round, microseconds. */
  readonly samples: number[]
}

async function start(entry: string, kind: string, tools: string): Promise<Row> {
  const execArgv = values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`]
  const args = ['--role', 'server', '--only', kind, '--tools', tools, '--dist', values.dist]
  const child = fork(entry, args, { execArgv, env: { ...process.env, NODE_ENV: 'production' } })
  const { port } = await answerOf<{ port: number }>(child)
  pin(child, 0)
  return { kind, process: child, port, samples: [] }
}

/** Servers on one core, who calls them on another; where that cannot be had, wherever they are. */
function pin({ pid }: ChildProcess, core: number): void {
  spawnSync('taskset', ['-acp', String(core), String(pid)])
}

async function ask<T>(child: ChildProcess, question: string | object): Promise<T> {
  const answer = answerOf<T>(child)
  child.send(question)
  return await answer
}

function answerOf<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const exited = (code: number | null): void => reject(new Error(`a process ended with ${code}`))
    child.once('exit', exited)
    child.once('message', (message) => {
      child.off('exit', exited)
      resolve(message as T)
    })
  })
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

/** This file without its types, so that no loader takes part in a measurement. */
async function plainJavaScript(): Promise<string> {
  const { default: compiler } = (await import('typescript')) as { default: typeof ts }
  process.env['BENCH_HOME'] = import.meta.url
  const { outputText } = compiler.transpileModule(readFileSync(fileURLToPath(import.meta.url), 'utf8'), {
    compilerOptions: { target: compiler.ScriptTarget.ES2023, module: compiler.ModuleKind.ESNext },
  })
  const folder = new URL('./node_modules/.cache/per-request/', import.meta.url)
  mkdirSync(folder, { recursive: true })
  const file = fileURLToPath(new URL('per-request.js', folder))
  writeFileSync(file, outputText)
  return file
}
