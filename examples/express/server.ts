/** Sojourn in Express 5, beside routes and middleware of your own. */

// #region serve
import type { AddressInfo } from 'node:net'

import { McpServer } from '@modelcontextprotocol/server'
import express from 'express'
import { mcpExpress } from 'sojourn/express'
import { z } from 'zod'

const greetInput = z.object({ name: z.string() })

function createServer(): McpServer {
  const server = new McpServer({ name: 'express-example', version: '1.0.0' })
  server.registerTool('greet', { description: 'Greets', inputSchema: greetInput }, ({ name }) => ({
    content: [{ type: 'text', text: `Hello ${name}, from Express` }],
  }))
  return server
}

const mcp = mcpExpress(createServer, { sessionIdleTimeout: '30m' })

const server = express()
server.all('/mcp', mcp)
// Below the endpoint, which reads its bodies itself: with its own limit, and a deadline.
server.use(express.json())
server.get('/health', (_req, res) => void res.json({ sessions: mcp.app.sessions.size }))

const http = server.listen(Number(process.env['PORT'] ?? 3000), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`)
})
// #endregion serve

// #region stop
// The app first: it lets running calls finish and ends the streams, which would keep the server from closing.
process.once('SIGTERM', async () => {
  await mcp.app.close({ drain: '30s' })
  http.close()
})
// #endregion stop
