/** The code of docs/guides/pooled-instances.md. */

import { McpServer } from '@modelcontextprotocol/server'
import { httpApp } from 'sojourn'
import { z } from 'zod'

declare const db: { notesOf(user: string): Promise<string[]> }

// #region options
export const app = httpApp(createServer, { instances: 'pooled' })
// #endregion options

// #region handlers
const noInput = z.object({})

export function createServer(): McpServer {
  const server = new McpServer({ name: 'notes', version: '1.0.0' })
  server.registerTool('notes', { inputSchema: noInput }, async (_, ctx) => {
    const user = String(ctx.http?.authInfo?.extra?.['sub']) // of this call
    return { content: [{ type: 'text', text: (await db.notesOf(user)).join('\n') }] }
  })
  return server
}
// #endregion handlers

// #region shared
export function createSearch(): McpServer {
  const server = new McpServer({ name: 'search', version: '1.0.0' })
  const recent: string[] = [] // of everybody whom this instance serves
  server.registerTool('search', { inputSchema: z.object({ query: z.string() }) }, ({ query }) => {
    recent.push(query)
    return { content: [{ type: 'text', text: `Before: ${recent.join(', ')}` }] }
  })
  return server
}
// #endregion shared
