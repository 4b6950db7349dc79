/** The fixture behind the official SDK's own transport: what our results are measured against. */

import { randomUUID } from 'node:crypto'
import { createServer as createHttpServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import type { ReadableStream as NodeReadableStream } from 'node:stream/web'

import {
  WebStandardStreamableHTTPServerTransport,
  createMcpHandler,
  hostHeaderValidationResponse,
  isLegacyRequest,
  localhostAllowedHostnames,
  localhostAllowedOrigins,
  originValidationResponse,
} from '@modelcontextprotocol/server'
import type {
  EventStore,
  JSONRPCMessage,
  McpHttpHandler,
  McpServer,
  ServerNotifier,
} from '@modelcontextprotocol/server'

/** A server that listens, and its end. */
export interface RunningServer {
  readonly url: string
  close(): Promise<void>
}

/**
 * Serves `createServer` as the documentation of the official SDK has its users do it: a transport per session, in a map, and its handler
 * for those without a handshake.
 */
export async function serveBaseline(
  createServer: (notify?: ServerNotifier) => McpServer,
): Promise<RunningServer> {
  const modern: McpHttpHandler = createMcpHandler(() => createServer(modern.notify), { legacy: 'reject' })
  const sessions = new Map<string, WebStandardStreamableHTTPServerTransport>()

  async function handle(request: Request): Promise<Response> {
    const refused =
      hostHeaderValidationResponse(request, localhostAllowedHostnames()) ??
      originValidationResponse(request, localhostAllowedOrigins())
    if (refused) return refused
    if (!(await isLegacyRequest(request))) return modern.fetch(request)
    const id = request.headers.get('mcp-session-id')
    if (id !== null) {
      return (
        sessions.get(id)?.handleRequest(request) ??
        Response.json({ error: 'Session not found' }, { status: 404 })
      )
    }
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: memoryEventStore(),
      retryInterval: 500,
      onsessioninitialized: (newId) => void sessions.set(newId, transport),
      onsessionclosed: (oldId) => void sessions.delete(oldId),
    })
    await createServer().connect(transport)
    return transport.handleRequest(request)
  }

  const http = createHttpServer((incoming, outgoing) => {
    void handle(toRequest(incoming)).then(
      (response) => send(response, outgoing),
      (error: unknown) => {
        console.error(error)
        if (!outgoing.headersSent) outgoing.writeHead(500)
        outgoing.end()
      },
    )
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const { port } = http.address() as AddressInfo

  return {
    url: `http://127.0.0.1:${port}/mcp`,
    close: async () => {
      await modern.close()
      await Promise.all(Array.from(sessions.values(), (transport) => transport.close()))
      http.closeAllConnections()
      await new Promise((resolve) => http.close(resolve))
    },
  }
}

function toRequest(incoming: IncomingMessage): Request {
  const headers = new Headers()
  for (const [name, value] of Object.entries(incoming.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value)
  }
  const body = incoming.method === 'POST' ? (Readable.toWeb(incoming) as ReadableStream) : undefined
  return new Request(`http://${incoming.headers.host ?? 'localhost'}${incoming.url ?? '/'}`, {
    method: incoming.method,
    headers,
    ...(body && { body, duplex: 'half' }),
  })
}

function send(response: Response, outgoing: ServerResponse): void {
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  outgoing.flushHeaders()
  if (response.body === null) {
    outgoing.end()
    return
  }
  const body = Readable.fromWeb(response.body as NodeReadableStream)
  // Either end may go first: a client that leaves cancels the body, a body that fails cuts the connection.
  body.on('error', () => outgoing.destroy())
  outgoing.on('close', () => body.destroy())
  body.pipe(outgoing)
}

/** The event store of one session. */
function memoryEventStore(): EventStore {
  const events: { id: string; streamId: string; message: JSONRPCMessage }[] = []
  return {
    storeEvent: (streamId, message) => {
      const id = `${streamId}_${events.length}`
      events.push({ id, streamId, message })
      return Promise.resolve(id)
    },
    getStreamIdForEventId: (eventId) => Promise.resolve(events.find(({ id }) => id === eventId)?.streamId),
    replayEventsAfter: async (lastEventId, { send: replay }) => {
      const index = events.findIndex(({ id }) => id === lastEventId)
      const streamId = events[index]?.streamId ?? ''
      for (const event of events.slice(index + 1)) {
        const priming = Object.keys(event.message).length === 0
        if (event.streamId === streamId && !priming) await replay(event.id, event.message)
      }
      return streamId
    },
  }
}
