/** Sojourn as a plain fetch handler: a Request in, a Response out. Here @hono/node-server carries them over Node's sockets. */

// #region serve
import { serve } from '@hono/node-server'
import { McpServer } from '@modelcontextprotocol/server'
import { httpApp } from 'sojourn'
import { z } from 'zod'

const greetInput = z.object({ name: z.string() })

function createServer(): McpServer {
  const server = new McpServer({ name: 'fetch-example', version: '1.0.0' })
  server.registerTool('greet', { description: 'Greets', inputSchema: greetInput }, ({ name }) => ({
    content: [{ type: 'text', text: `Hello ${name}, from a fetch handler` }],
  }))
  return server
}

// A Request does not tell the address it came to: the names that clients may call us by have to be given.
const app = httpApp(createServer, { allowedHosts: ['127.0.0.1', 'localhost'], sessionIdleTimeout: '30m' })

async function handle(request: Request): Promise<Response> {
  if (new URL(request.url).pathname === '/mcp') return app.fetch(request)
  return new Response('Not found', { status: 404 })
}

const port = Number(process.env['PORT'] ?? 3000)
const http = serve({ fetch: handle, port, hostname: '127.0.0.1' }, (info) => {
  console.log(`http://127.0.0.1:${info.port}/mcp`)
})
// #endregion serve

// #region stop
// The app first: it lets running calls finish and ends the streams, which would keep the server from closing.
process.once('SIGTERM', async () => {
  await app.close({ drain: '30s' })
  http.close()
})
// #endregion stop
