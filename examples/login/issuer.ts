/** In place of your authorization server: `oidc-provider` on this machine, with a login page that takes any name and any password. */

import { generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { Provider } from 'oidc-provider'

/** Starts it on `ISSUER_PORT`, 3001 by default. */
export async function startIssuer(): Promise<{ url: string; close(): void }> {
  const http = createServer()
  const port = Number(process.env['ISSUER_PORT'] ?? 3001)
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject).listen(port, '127.0.0.1', resolve)
  })
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`

  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const provider = new Provider(url, {
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' }] },
    scopes: ['openid', 'offline_access', 'notes:read', 'notes:write'],
    // So that nobody has to log in again every ten minutes.
    issueRefreshToken: () => true,
    // A client that was registered beforehand. Any port of this machine will do for its callback (RFC 8252 §7.3).
    clients: [
      {
        client_id: 'login-example',
        redirect_uris: ['http://127.0.0.1/callback'],
        application_type: 'native',
        grant_types: ['authorization_code', 'refresh_token'],
        // Nobody can keep a secret in an app that is handed out: PKCE proves that a code is meant for whoever brings it.
        token_endpoint_auth_method: 'none',
      },
    ],
    features: {
      // Clients that nobody told of register themselves (RFC 7591).
      registration: { enabled: true },
      // Clients name the server that they want a token for (RFC 8707): it becomes the audience. A real one has a list of those it knows.
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_context: unknown, resource: string) => ({
          scope: 'notes:read notes:write',
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 600,
        }),
      },
    },
  })
  http.on('request', provider.callback())
  return {
    url,
    close() {
      http.close()
      http.closeAllConnections()
    },
  }
}
