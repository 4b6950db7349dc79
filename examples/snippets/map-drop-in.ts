/** The documented map of transports with one import changed: every transport ends by itself, and leaves the map. */

import { randomUUID } from 'node:crypto'

import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js'
import express, { type Express } from 'express'
// #region import
import { StreamableHTTPServerTransport } from 'sojourn'
// #endregion import
import type { McpServerLike } from 'sojourn'

/** The documented handler: one transport per session, in a map that the author keeps. */
export function mapOfTransports(getServer: () => McpServerLike): {
  app: Express
  transports: Record<string, StreamableHTTPServerTransport>
} {
  // #region handler
  const app = express()
  app.use(express.json())

  const transports: Record<string, StreamableHTTPServerTransport> = {}

  app.post('/mcp', async (req, res) => {
    const sessionId = req.headers['mcp-session-id'] as string | undefined
    let transport: StreamableHTTPServerTransport
    if (sessionId && transports[sessionId]) {
      transport = transports[sessionId]
    } else if (!sessionId && isInitializeRequest(req.body)) {
      transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: () => randomUUID(),
        onsessioninitialized: (sessionId) => {
          transports[sessionId] = transport
        },
      })
      transport.onclose = () => {
        if (transport.sessionId) delete transports[transport.sessionId]
      }
      await getServer().connect(transport)
    } else {
      res.status(400).json({
        jsonrpc: '2.0',
        error: { code: -32000, message: 'Bad Request: No valid session ID provided' },
        id: null,
      })
      return
    }
    await transport.handleRequest(req, res, req.body)
  })

  const handleSessionRequest = async (req: express.Request, res: express.Response) => {
    const sessionId = req.headers['mcp-session-id'] as string | undefined
    if (!sessionId || !transports[sessionId]) {
      res.status(400).send('Invalid or missing session ID')
      return
    }
    await transports[sessionId].handleRequest(req, res)
  }
  app.get('/mcp', handleSessionRequest)
  app.delete('/mcp', handleSessionRequest)
  // #endregion handler
  return { app, transports }
}
