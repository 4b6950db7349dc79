/**
 * One of the two servers of the demo, as a process of its own: the same factory, served by Sojourn (`sojourn`) or by the map of transports
 * that the documentation of SDK v1 shows (`map`). Answers `measure` over IPC with its heap after a collection.
 */

import { randomUUID } from 'node:crypto'
import type { AddressInfo } from 'node:net'

import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { isInitializeRequest } from '@modelcontextprotocol/sdk/types.js'
import express from 'express'
import { z } from 'zod'

import { runHttp } from '../../src/index.ts'

/** What a server says of itself; bytes and sessions. */
export interface Measured {
  readonly heap: number
  readonly sessions: number
}

interface Served {
  readonly url: string
  readonly sessions: () => number
}

// Made once, as one should: what is left is what a session costs at least.
const echoInput = { text: z.string() }
const addInput = { a: z.number(), b: z.number() }

function createServer(): McpServer {
  const server = new McpServer({ name: 'demo', version: '1.0.0' })
  server.registerTool('echo', { inputSchema: echoInput }, ({ text }) => ({
    content: [{ type: 'text', text }],
  }))
  server.registerTool('add', { inputSchema: addInput }, ({ a, b }) => ({
    content: [{ type: 'text', text: String(a + b) }],
  }))
  return server
}

async function serveWithSojourn(sessionIdleTimeout: string): Promise<Served> {
  const { url, app } = await runHttp(createServer, { port: 0, sessionIdleTimeout, handleSignals: false })
  return { url, sessions: () => app.sessions.size }
}

/** The example of the SDK's documentation: transports are forgotten when they close, and they close when a client sends DELETE. */
async function serveWithMap(): Promise<Served> {
  const transports = new Map<string, StreamableHTTPServerTransport>()
  const app = express()
  app.use(express.json())
  app.all('/mcp', async (request, response) => {
    try {
      const id = request.headers['mcp-session-id']
      let transport = typeof id === 'string' ? transports.get(id) : undefined
      if (transport === undefined) {
        if (id !== undefined || !isInitializeRequest(request.body)) {
          response.status(id === undefined ? 400 : 404).end()
          return
        }
        const made = new StreamableHTTPServerTransport({
          sessionIdGenerator: () => randomUUID(),
          onsessioninitialized: (opened) => void transports.set(opened, made),
        })
        made.onclose = () => void transports.delete(made.sessionId ?? '')
        await createServer().connect(made)
        transport = made
      }
      await transport.handleRequest(request, response, request.body)
    } catch {
      if (!response.headersSent) response.status(500).end()
    }
  })
  const server = app.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}/mcp`, sessions: () => transports.size }
}

const [kind, idleTimeout = '3s'] = process.argv.slice(2)
const { url, sessions } = kind === 'sojourn' ? await serveWithSojourn(idleTimeout) : await serveWithMap()

process.on('message', () => {
  // The second collection takes what finalizers of the first let go.
  globalThis.gc?.()
  globalThis.gc?.()
  const { heapUsed, external } = process.memoryUsage()
  process.send?.({ heap: heapUsed + external, sessions: sessions() } satisfies Measured)
})
process.on('disconnect', () => process.exit())
process.send?.({ url })
