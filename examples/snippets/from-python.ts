/** The code of docs/guides/from-python.md. */

// #region server
import { McpServer } from '@modelcontextprotocol/server'
import { runHttp } from 'sojourn'
import { z } from 'zod'

const sum = z.object({ a: z.number(), b: z.number() })

export function createServer(): McpServer {
  const server = new McpServer({ name: 'demo', version: '1.0.0' })
  server.registerTool('add', { description: 'Adds two numbers', inputSchema: sum }, ({ a, b }) => ({
    content: [{ type: 'text', text: String(a + b) }],
  }))
  return server
}
// #endregion server

/** Serves it as the Python server was. */
export async function main(): Promise<void> {
  // #region run
  await runHttp(createServer, { port: 8000, sessionIdleTimeout: '30m', jsonResponse: true })
  // #endregion run
}
