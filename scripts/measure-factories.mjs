/**
 * What a session keeps in memory, by how its factory was written: 40 tools, schemas made inside or outside, one validator for all v1 servers or one
 * each. The figures of docs/guides/cheap-factories.md: `node --expose-gc --import tsx scripts/measure-factories.mjs`.
 */
import { AjvJsonSchemaValidator } from '@modelcontextprotocol/sdk/validation/ajv'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import os from 'node:os'
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { httpApp } from '../src/index.ts'

const TOOLS = 40
const SESSIONS = 300
const info = { name: 'measured', version: '1.0.0' }

/** A schema of the size that real tools have. */
const schema = (number) =>
  z.object({
    id: z.string().min(1).describe(`What tool ${number} works on`),
    limit: z.number().int().min(1).max(100).default(20),
    order: z.enum(['newest', 'oldest', 'name']).optional(),
    tags: z.array(z.string()).optional(),
  })
const shared = Array.from({ length: TOOLS }, (_, number) => schema(number))
const validator = new AjvJsonSchemaValidator()

const handler = () => ({ content: [{ type: 'text', text: 'done' }] })
function withTools(server, schemaOf) {
  for (let number = 0; number < TOOLS; number += 1) {
    server.registerTool(`tool-${number}`, { description: 'A tool', inputSchema: schemaOf(number) }, handler)
  }
  return server
}

const variants = {
  'v2, schemas made in the factory': () => withTools(new McpServerV2(info), schema),
  'v2, schemas shared': () => withTools(new McpServerV2(info), (number) => shared[number]),
  'v1, schemas made in the factory': () => withTools(new McpServerV1(info), schema),
  'v1, schemas shared': () => withTools(new McpServerV1(info), (number) => shared[number]),
  'v1, schemas and validator shared': () =>
    withTools(new McpServerV1(info, { jsonSchemaValidator: validator }), (number) => shared[number]),
}

async function heap() {
  for (let n = 0; n < 5; n += 1) {
    globalThis.gc()
    await new Promise((resolve) => setImmediate(resolve))
  }
  return process.memoryUsage().heapUsed
}

async function measure(createServer) {
  const app = httpApp(createServer, { allowedHosts: 'any' })
  const post = async (body, session) => {
    const answer = await app.fetch(
      new Request('http://localhost/mcp', {
        method: 'POST',
        headers: {
          host: 'localhost',
          accept: 'application/json, text/event-stream',
          'content-type': 'application/json',
          ...(session && { 'mcp-session-id': session, 'mcp-protocol-version': '2025-11-25' }),
        },
        body: JSON.stringify({ jsonrpc: '2.0', ...body }),
      }),
    )
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${answer.status} ${text}`)
    return answer.headers.get('mcp-session-id')
  }
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: info }
  const open = async () => {
    const session = await post({ id: 1, method: 'initialize', params })
    await post({ method: 'notifications/initialized' }, session)
    await post({ id: 2, method: 'tools/list' }, session)
    await post({ id: 3, method: 'tools/call', params: { name: 'tool-1', arguments: { id: 'x' } } }, session)
  }
  for (let n = 0; n < 50; n += 1) await open()
  const before = await heap()
  const cpu = process.cpuUsage()
  for (let n = 0; n < SESSIONS; n += 1) await open()
  const { user, system } = process.cpuUsage(cpu)
  const after = await heap()
  await app.close()
  return { kilobytes: (after - before) / 1024 / SESSIONS, microseconds: (user + system) / SESSIONS }
}

const [name] = process.argv.slice(2)
if (name === undefined) {
  console.log(
    `${TOOLS} tools, ${SESSIONS} sessions of one tools/list and one call each; Node ${process.version}, ${os.cpus()[0]?.model}, ${new Date().toISOString().slice(0, 10)}`,
  )
  console.log(`load before: ${os.loadavg()[0]?.toFixed(1)}\n`)
  console.log('| factory | heap per session | CPU of all that |\n|---|---|---|')
  // Each in a process of its own, so that none finds the heap of another.
  for (const each of Object.keys(variants)) {
    spawnSync(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), each], {
      stdio: 'inherit',
    })
  }
} else {
  const { kilobytes, microseconds } = await measure(variants[name])
  console.log(`| ${name} | ${kilobytes.toFixed(0)} KB | ${(microseconds / 1000).toFixed(1)} ms |`)
}
