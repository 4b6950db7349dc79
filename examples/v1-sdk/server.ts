/** A server of SDK v1, `@modelcontextprotocol/sdk`: nothing changes but the import. `runHttp` takes PORT, and drains on SIGTERM. */

// #region serve
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { runHttp, type ServerContext } from 'sojourn'
import { z } from 'zod'

const addInput = { a: z.number(), b: z.number() }

function createServer({ session }: ServerContext): McpServer {
  const server = new McpServer({ name: 'v1-sdk-example', version: '1.0.0' })
  server.registerTool('add', { description: 'Adds two numbers', inputSchema: addInput }, ({ a, b }) => ({
    content: [{ type: 'text', text: String(a + b) }],
  }))
  server.registerTool('client', { description: 'Says which client opened this session' }, () => ({
    content: [{ type: 'text', text: session.client?.name ?? 'unknown' }],
  }))
  return server
}

const { url } = await runHttp(createServer, { sessionIdleTimeout: '30m' })
console.log(url)
// #endregion serve
