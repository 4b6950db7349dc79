/** Bearer tokens: who sends which token is verified with each request, and a session answers its owner only. */

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

import { McpServer, OAuthError, OAuthErrorCode, requireBearerAuth } from '@modelcontextprotocol/server'
import { runHttp, type AuthInfo, type ServerContext } from 'sojourn'
import { z } from 'zod'

// In place of an authorization server. The file has the form that `sojourn serve` takes as well.
const entry = z.object({
  issuer: z.string(),
  subject: z.string(),
  client: z.string(),
  scopes: z.array(z.string()),
})
const file = readFileSync(new URL('tokens.json', import.meta.url), 'utf8')
// Looked up by their hashes: how long that takes tells nothing about the tokens there are.
const hash = (token: string): string => createHash('sha256').update(token).digest('base64')
const known = new Map(
  Object.entries(z.record(z.string(), entry).parse(JSON.parse(file))).map(([token, of]) => [hash(token), of]),
)

async function verifyAccessToken(token: string): Promise<AuthInfo & { expiresAt: number }> {
  const found = known.get(hash(token))
  if (found === undefined) throw new OAuthError(OAuthErrorCode.InvalidToken, 'The token is not known')
  const { issuer, subject, client, scopes } = found
  // Whoever has the same issuer and subject is the same principal, whatever the token: a refresh keeps the session.
  const extra = { iss: issuer, sub: subject }
  return { token, clientId: client, scopes, expiresAt: Date.now() / 1000 + 3600, extra }
}

function createServer({ session, authInfo }: ServerContext): McpServer {
  const server = new McpServer({ name: 'bearer-tokens-example', version: '1.0.0' })
  const whoami = { subject: authInfo?.extra?.['sub'], scopes: authInfo?.scopes, principal: session.principal }
  server.registerTool('whoami', { description: 'Says who you are' }, () => ({
    content: [{ type: 'text', text: JSON.stringify(whoami) }],
  }))
  return server
}

const authenticate = requireBearerAuth({ verifier: { verifyAccessToken } })
const { url } = await runHttp(createServer, { authenticate, sessionIdleTimeout: '30m' })
console.log(url)
