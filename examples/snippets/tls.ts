/** The code of docs/not-in-this-version.md. */

import { readFileSync } from 'node:fs'
import https from 'node:https'

import { httpApp } from 'sojourn'
import type { CreateServer } from 'sojourn'

declare const createServer: CreateServer

export function serveTls(): void {
  // #region tls
  const app = httpApp(createServer, { allowedHosts: ['mcp.example.com'] })
  const credentials = { key: readFileSync('key.pem'), cert: readFileSync('cert.pem') }
  https.createServer(credentials, app.node).listen(443)
  // #endregion tls
}
