/** Frameworks that have a way of their own to make a server, each by its own documentation. */

import { DESCRIPTION, echo, echoShape, loadEchoServer, toolNames } from './echo-server.ts'
import { serveFetch } from './ours.ts'
import { freePort, type Served } from './served.ts'
import type { ServerSpec } from '../shared/types.ts'

/** fastmcp, the framework on top of mcp-proxy. */
export async function serveFastMcp(spec: ServerSpec): Promise<Served> {
  const { FastMCP } = await import('fastmcp')
  const { z } = await import('zod')
  const server = new FastMCP({ name: 'echo', version: '1.0.0' })
  for (const name of toolNames(spec.tools)) {
    server.addTool({
      name,
      description: DESCRIPTION,
      parameters: z.object(echoShape(z)),
      execute: ({ text }) => Promise.resolve(text),
    })
  }
  const port = await freePort()
  await server.start({
    transportType: 'httpStream',
    httpStream: { port, host: '127.0.0.1', enableJsonResponse: spec.mode === 'json' },
  })
  return { port }
}

/** mcp-proxy's own HTTP server in front of a server of SDK v2. */
export async function serveMcpProxy(spec: ServerSpec): Promise<Served> {
  const { startHTTPServer } = await import('mcp-proxy')
  const createServer = await loadEchoServer('v2', spec.tools)
  const port = await freePort()
  await startHTTPServer({
    // It asks for the server below an McpServer.
    createServer: () => Promise.resolve((createServer() as unknown as { server: never }).server),
    port,
    host: '127.0.0.1',
    enableJsonResponse: spec.mode === 'json',
  })
  return { port }
}

/** tmcp on srvx. */
export async function serveTmcp(spec: ServerSpec): Promise<Served> {
  const { McpServer } = await import('tmcp')
  const { ZodJsonSchemaAdapter } = await import('@tmcp/adapter-zod')
  const { HttpTransport } = await import('@tmcp/transport-http')
  const { serve } = await import('srvx')
  const { z } = await import('zod')
  const server = new McpServer(
    { name: 'echo', version: '1.0.0', description: 'The server of a benchmark' },
    { adapter: new ZodJsonSchemaAdapter(), capabilities: { tools: { listChanged: true } } },
  )
  for (const name of toolNames(spec.tools))
    server.tool({ name, description: DESCRIPTION, schema: z.object(echoShape(z)) }, echo)
  const transport = new HttpTransport(server, { path: '/mcp' })
  const port = await freePort()
  const served = serve({
    port,
    hostname: '127.0.0.1',
    fetch: async (request: Request) =>
      (await transport.respond(request)) ?? new Response('Not Found', { status: 404 }),
  })
  await served.ready()
  return { port }
}

/** mcp-lite with its sessions in memory, on Hono as its README has it. */
export async function serveMcpLite(spec: ServerSpec): Promise<Served> {
  const { InMemorySessionAdapter, McpServer, StreamableHttpTransport } = await import('mcp-lite')
  const { Hono } = await import('hono')
  const { z } = await import('zod')
  const server = new McpServer({
    name: 'echo',
    version: '1.0.0',
    schemaAdapter: (schema) => z.toJSONSchema(schema as never),
  })
  for (const name of toolNames(spec.tools)) {
    server.tool(name, {
      description: DESCRIPTION,
      inputSchema: z.object(echoShape(z)),
      handler: (given) => echo(given as { text: string }),
    })
  }
  const transport = new StreamableHttpTransport({
    sessionAdapter: new InMemorySessionAdapter({ maxEventBufferSize: 1024 }),
  })
  const handler = transport.bind(server)
  const app = new Hono()
  app.all('/mcp', (context) => handler(context.req.raw))
  return await serveFetch(app.fetch)
}

/** mcp-use, which builds a server for each request. */
export async function serveMcpUse(spec: ServerSpec): Promise<Served> {
  const { MCPServer } = await import('mcp-use')
  const { z } = await import('zod')
  const server = new MCPServer({ name: 'echo', version: '1.0.0' })
  for (const name of toolNames(spec.tools))
    server.tool({ name, description: DESCRIPTION, inputSchema: z.object(echoShape(z)) }, echo)
  return await server.listen(0)
}
