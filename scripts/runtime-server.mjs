/** What check-runtime.mjs starts on Deno and on Bun: the built package, in the HTTP server of the runtime. Prints its URL. */
import { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { httpApp } from '../dist/index.js'

const input = z.object({ text: z.string() })
function createServer() {
  const server = new McpServer({ name: 'runtime', version: '1.0.0' })
  server.registerTool('echo', { inputSchema: input }, ({ text }) => ({ content: [{ type: 'text', text }] }))
  return server
}

const app = httpApp(createServer, { allowedHosts: ['127.0.0.1'], sessionIdleTimeout: '1s' })
const { Deno, Bun } = globalThis
const hostname = '127.0.0.1'
const port =
  Deno === undefined
    ? // Bun cuts a connection that is quiet for 10 s unless told otherwise: keep-alives come every 15 s.
      Bun.serve({ port: 0, hostname, idleTimeout: 0, fetch: app.fetch }).port
    : Deno.serve({ port: 0, hostname, onListen() {} }, (request) => app.fetch(request)).addr.port
console.log(`http://${hostname}:${port}/mcp`)
