/** Sojourn in Fastify 5, as a plugin. */

// #region serve
import { McpServer } from '@modelcontextprotocol/server'
import { fastify } from 'fastify'
import { mcpFastify } from 'sojourn/fastify'
import { z } from 'zod'

const greetInput = z.object({ name: z.string() })

function createServer(): McpServer {
  const server = new McpServer({ name: 'fastify-example', version: '1.0.0' })
  server.registerTool('greet', { description: 'Greets', inputSchema: greetInput }, ({ name }) => ({
    content: [{ type: 'text', text: `Hello ${name}, from Fastify` }],
  }))
  return server
}

const mcp = mcpFastify(createServer, { sessionIdleTimeout: '30m', drainTimeout: '30s' })

const server = fastify()
server.register(mcp, { prefix: '/mcp' })
server.get('/health', () => ({ sessions: mcp.app.sessions.size }))

const address = await server.listen({ port: Number(process.env['PORT'] ?? 3000), host: '127.0.0.1' })
console.log(`${address}/mcp`)
// #endregion serve

// #region stop
// The plugin closes the app first: running calls finish, streams end, and then Fastify does.
process.once('SIGTERM', () => void server.close())
// #endregion stop
