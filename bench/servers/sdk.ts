/** The official SDKs' own transports, by their own documentation: on node:http and behind the frameworks they have adapters for. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import type { EventStore } from '@modelcontextprotocol/sdk/server/streamableHttp.js'

import { readBody } from './bare.ts'
import { loadEchoServer } from './echo-server.ts'
import { serveFetch } from './ours.ts'
import { SdkSessions, type SessionTransport } from './sdk-sessions.ts'
import { listen, portOf, type Served } from './served.ts'
import type { ServerSpec } from '../shared/types.ts'

/** Their transports for Node's requests. */
interface NodeTransport extends SessionTransport {
  handleRequest(request: IncomingMessage, response: ServerResponse, body?: unknown): Promise<void>
}

/** Serves one of both on plain node:http. */
export async function serveSdk(spec: ServerSpec): Promise<Served> {
  const sessions = await loadSessions(spec)
  const admit = spec.sdk === 'v1' ? () => true : await loadGuards()
  // The body is parsed here and handed over, as behind express.json(): cheaper for the SDK than its own reading.
  const { port } = await listen((request, response) => {
    if (!admit(request, response)) return
    if (request.method === 'POST')
      readBody(request, (body) => void handle(sessions, request, response, JSON.parse(body)))
    else void handle(sessions, request, response, undefined)
  })
  return { port, broadcast: () => sessions.broadcast() }
}

/** Serves one of both behind the Express app that its own package makes. */
export async function serveSdkExpress(spec: ServerSpec): Promise<Served> {
  const sessions = await loadSessions(spec)
  const { createMcpExpressApp } =
    spec.sdk === 'v1'
      ? await import('@modelcontextprotocol/sdk/server/express.js')
      : await import('@modelcontextprotocol/express')
  const app = createMcpExpressApp()
  app.all('/mcp', (request, response) => handle(sessions, request, response, request.body))
  const { port } = await listen(app)
  return { port, broadcast: () => sessions.broadcast() }
}

/** Serves v2 behind the Fastify app that its package makes. */
export async function serveSdkFastify(spec: ServerSpec): Promise<Served> {
  const sessions = await loadSessions(spec)
  const { createMcpFastifyApp } = await import('@modelcontextprotocol/fastify')
  const app = createMcpFastifyApp()
  app.all('/mcp', async (request, reply) => {
    await handle(sessions, request.raw, reply.raw, request.body)
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { port: portOf(app.server), broadcast: () => sessions.broadcast() }
}

/** Serves v2 behind the Hono app that its package makes, on @hono/node-server. */
export async function serveSdkHono(spec: ServerSpec): Promise<Served> {
  const { WebStandardStreamableHTTPServerTransport } = await import('@modelcontextprotocol/server')
  const { createMcpHonoApp } = await import('@modelcontextprotocol/hono')
  type Transport = InstanceType<typeof WebStandardStreamableHTTPServerTransport>
  const sessions = new SdkSessions<Transport>(
    await loadEchoServer('v2', spec.tools),
    spec.mode === 'json',
    ({ made, ...options }) => made(new WebStandardStreamableHTTPServerTransport(options)),
  )
  const app = createMcpHonoApp()
  app.all('/mcp', async (context) => {
    const parsedBody: unknown = context.get('parsedBody' as never)
    const found = await sessions.find(context.req.header('mcp-session-id'), parsedBody)
    if (typeof found === 'number') return context.body(null, found)
    return await found.handleRequest(context.req.raw, { parsedBody })
  })
  const { port } = await serveFetch(app.fetch)
  return { port, broadcast: () => sessions.broadcast() }
}

/** Serves @hono/mcp, which has a transport of its own for servers of SDK v1. */
export async function serveHonoMcp(spec: ServerSpec): Promise<Served> {
  const { StreamableHTTPTransport } = await import('@hono/mcp')
  const { Hono } = await import('hono')
  const sessions = new SdkSessions<InstanceType<typeof StreamableHTTPTransport>>(
    await loadEchoServer('v1', spec.tools),
    spec.mode === 'json',
    ({ made, ...options }) => made(new StreamableHTTPTransport(options)),
  )
  const app = new Hono()
  app.all('/mcp', async (context) => {
    const body: unknown = context.req.method === 'POST' ? await context.req.json() : undefined
    const found = await sessions.find(context.req.header('mcp-session-id'), body)
    if (typeof found === 'number') return context.body(null, found)
    return (await found.handleRequest(context)) ?? context.body(null, 202)
  })
  const { port } = await serveFetch(app.fetch)
  return { port, broadcast: () => sessions.broadcast() }
}

/** Serves revision 2026-07-28 with the official handler, on node:http as its package has it. */
export async function serveMcpHandler(spec: ServerSpec): Promise<Served> {
  const { createMcpHandler } = await import('@modelcontextprotocol/server')
  const { toNodeHandler } = await import('@modelcontextprotocol/node')
  const createServer = await loadEchoServer('v2', spec.tools)
  const handler = toNodeHandler(createMcpHandler(() => createServer() as never))
  const admit = await loadGuards()
  return await listen((request, response) => {
    if (admit(request, response)) void handler(request, response)
  })
}

async function handle(
  sessions: SdkSessions<NodeTransport>,
  request: IncomingMessage,
  response: ServerResponse,
  body: unknown,
): Promise<void> {
  const id = request.headers['mcp-session-id']
  const found = await sessions.find(typeof id === 'string' ? id : undefined, body)
  if (typeof found === 'number') response.writeHead(found).end()
  else await found.handleRequest(request, response, body)
}

async function loadSessions(spec: ServerSpec): Promise<SdkSessions<NodeTransport>> {
  const createServer = await loadEchoServer(spec.sdk, spec.tools)
  const json = spec.mode === 'json'
  if (spec.sdk === 'v2') {
    const { NodeStreamableHTTPServerTransport } = await import('@modelcontextprotocol/node')
    return new SdkSessions<NodeTransport>(createServer, json, ({ made, ...options }) =>
      made(new NodeStreamableHTTPServerTransport(options)),
    )
  }
  const { StreamableHTTPServerTransport } = await import('@modelcontextprotocol/sdk/server/streamableHttp.js')
  const makeStore = spec.eventStore === true ? await loadEventStore() : () => undefined
  return new SdkSessions<NodeTransport>(createServer, json, ({ made, ...options }) => {
    const eventStore = makeStore()
    return made(
      new StreamableHTTPServerTransport({ ...options, ...(eventStore !== undefined && { eventStore }) }),
    )
  })
}

/**
 * The event store of mcp-proxy. That of the SDK's own examples cannot resume a GET stream: it takes the id of a stream for what stands
 * before the first `_`, and the id of the GET stream begins with one.
 */
async function loadEventStore(): Promise<() => EventStore> {
  const { InMemoryEventStore } = await import('mcp-proxy')
  return () => new InMemoryEventStore()
}

/** The guards that the README of v2 puts in front on plain node:http. */
async function loadGuards(): Promise<(request: IncomingMessage, response: ServerResponse) => boolean> {
  const { localhostHostValidation, localhostOriginValidation } = await import('@modelcontextprotocol/node')
  const validHost = localhostHostValidation()
  const validOrigin = localhostOriginValidation()
  return (request, response) => validHost(request, response) && validOrigin(request, response)
}
