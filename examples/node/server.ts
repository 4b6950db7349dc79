/** Sojourn on a server of `node:http` that is yours: the app takes the requests you give it. */

// #region serve
import { createServer as createHttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { McpServer } from '@modelcontextprotocol/server'
import { httpApp } from 'sojourn'
import { z } from 'zod'

const greetInput = z.object({ name: z.string() })

function createServer(): McpServer {
  const server = new McpServer({ name: 'node-example', version: '1.0.0' })
  server.registerTool('greet', { description: 'Greets', inputSchema: greetInput }, ({ name }) => ({
    content: [{ type: 'text', text: `Hello ${name}, from node:http` }],
  }))
  return server
}

const app = httpApp(createServer, { sessionIdleTimeout: '30m' })

// The app does not look at the path: what is its own and what is not is decided here.
const http = createHttpServer((req, res) => {
  if (req.url === '/mcp') app.node(req, res)
  else res.writeHead(404).end()
})
http.listen(Number(process.env['PORT'] ?? 3000), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`)
})
// #endregion serve

// #region stop
// The app first: it lets running calls finish and ends the streams, which would keep the server from closing.
process.once('SIGTERM', async () => {
  await app.close({ drain: '30s' })
  http.close()
})
// #endregion stop
