/** The same endpoint without a map: the app keeps the sessions. */

import express, { type Express } from 'express'
import { type App, httpApp, type McpServerLike } from 'sojourn'

/** The endpoint that the documented handler is for. */
export function withoutAMap(getServer: () => McpServerLike): { app: Express; mcp: App } {
  // #region handler
  const app = express()
  app.use(express.json())

  const mcp = httpApp(getServer, { sessionIdleTimeout: '30m' })
  app.all('/mcp', mcp.node)
  // #endregion handler
  return { app, mcp }
}
