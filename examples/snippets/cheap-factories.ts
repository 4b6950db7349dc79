/** The code of docs/guides/cheap-factories.md. */

import { AjvJsonSchemaValidator } from '@modelcontextprotocol/sdk/validation/ajv'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'

declare const find: (query: string) => Promise<string>

// #region shared
const searchInput = z.object({ query: z.string(), limit: z.number().int().default(20) }) // once

export function createServer(): McpServer {
  const server = new McpServer({ name: 'search', version: '1.0.0' }) // per session
  server.registerTool('search', { inputSchema: searchInput }, async ({ query }) => ({
    content: [{ type: 'text', text: await find(query) }],
  }))
  return server
}
// #endregion shared

// #region validator
const jsonSchemaValidator = new AjvJsonSchemaValidator()

export function createServerV1(): McpServerV1 {
  return new McpServerV1({ name: 'search', version: '1.0.0' }, { jsonSchemaValidator })
}
// #endregion validator
