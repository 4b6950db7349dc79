/** Login: an MCP server that takes the access tokens of an authorization server, and a tool that wants more than reading. */

import { McpServer, requireScopes } from '@modelcontextprotocol/server'
import { runHttp, type ServerContext } from 'sojourn'
import { bearerAuth } from 'sojourn/auth'
import { z } from 'zod'

import { startIssuer } from './issuer.ts'

// Yours is there already: then its URL is all that is needed, and issuer.ts goes.
const issuer = await startIssuer()

// Each user's own. The principal stays the same over sessions and over new tokens.
const notes = new Map<string | undefined, string[]>()
const textInput = z.object({ text: z.string() })

function createServer({ session }: ServerContext): McpServer {
  const server = new McpServer({ name: 'login-example', version: '1.0.0' })
  const mine = notes.get(session.principal) ?? []
  notes.set(session.principal, mine)
  server.registerTool('read_notes', { description: 'Reads your notes' }, ({ http }) => {
    // The authentication of this very call, not of the one that opened the session.
    const who = http?.authInfo?.extra?.['sub']
    return { content: [{ type: 'text', text: `${String(who)}: ${mine.join(', ') || 'no notes yet'}` }] }
  })
  server.registerTool(
    'add_note',
    {
      description: 'Adds a note',
      inputSchema: textInput,
      // Without these scopes the call gets 403, and the client asks its user for them. All it needs, not only what is missing.
      scopeChallenge: requireScopes('notes:read', 'notes:write'),
    },
    ({ text }) => {
      mine.push(text)
      return { content: [{ type: 'text', text: `${mine.length} notes` }] }
    },
  )
  return server
}

// The URL as clients have it. Tokens are made out to it, so that one which was meant for another server is of no use here.
const resource = `http://127.0.0.1:${process.env['PORT'] ?? 3000}/mcp`
const authenticate = bearerAuth({
  issuer: issuer.url,
  resource,
  requiredScopes: ['notes:read'],
  scopesSupported: ['notes:read', 'notes:write'],
})
const { url, finished } = await runHttp(createServer, { authenticate, sessionIdleTimeout: '30m' })
console.log(url)

await finished
issuer.close()
