/** The McpServer of every row: one `echo` tool with a zod schema, made as the SDKs' documentation makes it. */

import type { SdkVersion } from '../shared/types.ts'

/** The little of an McpServer that the benchmark itself touches. */
export interface EchoServer {
  // Method syntax on purpose: each SDK has its own Transport type.
  connect(transport: unknown): Promise<void>
  close(): Promise<void>
}

/** Loads the SDK and returns a function that makes one server. */
export async function loadEchoServer(sdk: SdkVersion): Promise<() => EchoServer> {
  const { z } = await import('zod')
  const echo = ({ text }: { text: string }): { content: { type: 'text'; text: string }[] } => ({
    content: [{ type: 'text', text }],
  })
  if (sdk === 'v1') {
    const { McpServer } = await import('@modelcontextprotocol/sdk/server/mcp.js')
    return () => {
      const server = new McpServer({ name: 'echo', version: '1.0.0' })
      server.registerTool('echo', { description: 'Says it again', inputSchema: { text: z.string() } }, echo)
      return server as EchoServer
    }
  }
  const { McpServer } = await import('@modelcontextprotocol/server')
  return () => {
    const server = new McpServer({ name: 'echo', version: '1.0.0' })
    server.registerTool(
      'echo',
      { description: 'Says it again', inputSchema: z.object({ text: z.string() }) },
      echo,
    )
    return server as EchoServer
  }
}
