/** Sojourn in Hono 4, here on Node. */

// #region serve
import { serve } from '@hono/node-server'
import { McpServer } from '@modelcontextprotocol/server'
import { Hono } from 'hono'
import { mcpHono } from 'sojourn/hono'
import { z } from 'zod'

const greetInput = z.object({ name: z.string() })

function createServer(): McpServer {
  const server = new McpServer({ name: 'hono-example', version: '1.0.0' })
  server.registerTool('greet', { description: 'Greets', inputSchema: greetInput }, ({ name }) => ({
    content: [{ type: 'text', text: `Hello ${name}, from Hono` }],
  }))
  return server
}

// Hono hands over a Request, which does not tell the address it came to: the names that clients may call us by have to be given.
const mcp = mcpHono(createServer, { allowedHosts: ['127.0.0.1', 'localhost'], sessionIdleTimeout: '30m' })

const hono = new Hono()
hono.all('/mcp', mcp)
hono.get('/health', (c) => c.json({ sessions: mcp.app.sessions.size }))

const port = Number(process.env['PORT'] ?? 3000)
const http = serve({ fetch: hono.fetch, port, hostname: '127.0.0.1' }, (info) => {
  console.log(`http://127.0.0.1:${info.port}/mcp`)
})
// #endregion serve

// #region stop
// The app first: it lets running calls finish and ends the streams, which would keep the server from closing.
process.once('SIGTERM', async () => {
  await mcp.app.close({ drain: '30s' })
  http.close()
})
// #endregion stop
