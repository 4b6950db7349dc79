/**
 * The server of the demo `restart`, as a process of its own: a counter in `session.data`, and as many tools as servers have.
 * Arguments: port (0: any), file of the store, how long instances may be unused. Answers `measure` over IPC.
 */

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { z } from 'zod'

import { runHttp } from '../../src/index.ts'
import type { ServerContext } from '../../src/index.ts'

/** What the server says of itself; bytes and sessions. */
export interface Counted {
  readonly heap: number
  readonly awake: number
  readonly asleep: number
}

const TOOLS = 12

const input = { text: z.string() }

function createServer({ session }: ServerContext): McpServer {
  const server = new McpServer({ name: 'counter', version: '1.0.0' })
  server.registerTool('count', {}, () => {
    const { count = 0 } = session.data as { count?: number }
    session.data = { count: count + 1 }
    return { content: [{ type: 'text', text: String(count + 1) }] }
  })
  for (let tool = 1; tool < TOOLS; tool += 1)
    server.registerTool(`echo-${tool}`, { inputSchema: input }, ({ text }) => ({
      content: [{ type: 'text', text }],
    }))
  return server
}

const [port = '0', file = '', sleepAfter = '10m'] = process.argv.slice(2)
const { url, app } = await runHttp(createServer, {
  port: Number(port),
  store: `sqlite:${file}`,
  sleepAfter,
  adminSocket: 'none',
  handleSignals: false,
})

process.on('message', () => {
  // The second collection takes what finalizers of the first let go.
  globalThis.gc?.()
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  const { awake, asleep } = app.sessions.counts
  process.send?.({ heap: heapUsed + external, awake, asleep } satisfies Counted)
})
process.on('disconnect', () => process.exit())
process.send?.({ url })
