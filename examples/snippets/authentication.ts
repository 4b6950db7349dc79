/** The code of docs/guides/authentication.md. */

import { OAuthError, OAuthErrorCode, requireBearerAuth } from '@modelcontextprotocol/server'
import express from 'express'
import { httpApp, runHttp } from 'sojourn'
import { bearerAuth } from 'sojourn/auth'
import { mcpExpress } from 'sojourn/express'
import type { AuthInfo, Authenticate, CreateServer } from 'sojourn'

/** The claims of a token whose signature, expiry and audience were found good; undefined for any other. */
declare function verify(
  token: string,
): Promise<{ iss: string; sub: string; client_id: string; scope: string; exp: number } | undefined>
declare const createServer: CreateServer

export async function byIssuer(): Promise<void> {
  // #region issuer
  const authenticate = bearerAuth({
    issuer: 'https://auth.example.com',
    resource: 'https://mcp.example.com/mcp',
    requiredScopes: ['mcp'],
  })
  await runHttp(createServer, { authenticate, host: '0.0.0.0', allowedHosts: ['mcp.example.com'] })
  // #endregion issuer
}

export function byIntrospection(clientSecret: string): void {
  // #region introspection
  bearerAuth({
    issuer: 'https://auth.example.com',
    resource: 'https://mcp.example.com/mcp',
    introspection: { clientId: 'mcp-server', clientSecret },
  })
  // #endregion introspection
}

export function mounted(authenticate: Authenticate): void {
  // #region mounted
  const mcp = mcpExpress(createServer, { authenticate })
  const server = express()
  server.use(mcp.wellKnown) // before whatever else asks for a token
  server.all('/mcp', mcp)
  // #endregion mounted
}

export async function byHook(): Promise<void> {
  // #region hook
  const authenticate: Authenticate = async (request) => {
    const token = /^Bearer (\S+)$/i.exec(request.headers.get('authorization') ?? '')?.[1]
    const claims = token === undefined ? undefined : await verify(token)
    if (token === undefined || claims === undefined) {
      return new Response(null, { status: 401, headers: { 'WWW-Authenticate': 'Bearer' } })
    }
    return {
      token,
      clientId: claims.client_id,
      scopes: claims.scope.split(' '),
      expiresAt: claims.exp,
      extra: { iss: claims.iss, sub: claims.sub },
    }
  }

  await runHttp(createServer, { authenticate })
  // #endregion hook
}

export async function byGate(): Promise<void> {
  // #region gate
  const gate = requireBearerAuth({
    verifier: {
      async verifyAccessToken(token): Promise<AuthInfo> {
        const claims = await verify(token)
        if (claims === undefined) throw new OAuthError(OAuthErrorCode.InvalidToken, 'the token is not valid')
        const { iss, sub, client_id, scope, exp } = claims
        return { token, clientId: client_id, scopes: scope.split(' '), expiresAt: exp, extra: { iss, sub } }
      },
    },
    requiredScopes: ['mcp'],
    resourceMetadataUrl: 'https://mcp.example.com/.well-known/oauth-protected-resource/mcp',
  })

  await runHttp(createServer, { authenticate: gate })
  // #endregion gate
}

export function byMiddleware(
  requireAuth: (req: express.Request, res: express.Response, next: express.NextFunction) => void,
): void {
  // #region middleware
  const app = httpApp(createServer)
  const server = express()
  server.all('/mcp', requireAuth, app.node) // requireAuth leaves its AuthInfo in req.auth
  server.listen(3000, '127.0.0.1')
  // #endregion middleware
}

export function byTenant(authenticate: Authenticate): void {
  // #region principal
  httpApp(createServer, {
    authenticate,
    // One person may use several clients: here they share what they own. Tenants are kept apart.
    // `authenticate` has refused every token that lacks one of the two.
    principal: ({ extra }) => JSON.stringify([extra?.tenant, extra?.sub]),
  })
  // #endregion principal
}
