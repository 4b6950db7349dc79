/** The code of docs/guides/surviving-deploys.md. */

import { createServer as createHttpServer } from 'node:http'

import { httpApp, runHttp } from 'sojourn'
import type { CreateServer } from 'sojourn'

declare const createServer: CreateServer

export async function listening(): Promise<void> {
  // #region run
  await runHttp(createServer, {
    store: 'sqlite:./sessions.db',
    drainTimeout: '30s', // how long running calls may go on
    restartGrace: '10s', // how long clients are told to stay away, at least
  })
  // #endregion run
}

export async function mounted(): Promise<void> {
  // #region own
  const app = httpApp(createServer, { store: 'sqlite:./sessions.db' })
  const http = createHttpServer((req, res) => {
    if (req.url === '/mcp') app.node(req, res)
    else if (req.url === '/health') res.writeHead(200).end()
    else if (req.url === '/ready') res.writeHead(app.ready ? 200 : 503).end()
    else res.writeHead(404).end()
  })
  await app.opened // who comes at once finds the sessions of before
  http.listen(3000, '127.0.0.1')

  process.once('SIGTERM', async () => {
    await app.close({ drain: '30s' })
    http.close()
  })
  // #endregion own
}
