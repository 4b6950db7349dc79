/** The McpServer of every row: an `echo` tool with a zod schema, made as the SDKs' documentation makes it. */

import type { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import type { z as Zod } from 'zod'

import type { SdkVersion } from '../shared/types.ts'

/** The little of an McpServer that the benchmark itself touches. */
export interface EchoServer {
  // Method syntax on purpose: each SDK has its own Transport type.
  connect(transport: unknown): Promise<void>
  close(): Promise<void>
  sendToolListChanged(): unknown
}

/** What a tool of the benchmark answers. */
export interface Echoed {
  [key: string]: unknown
  content: { type: 'text'; text: string }[]
}

/** Answers with the text it was given. */
export function echo({ text }: { text: string }): Echoed {
  return { content: [{ type: 'text', text }] }
}

/** What the first tool says of itself. */
export const DESCRIPTION = 'Says it again'

/** The names of `count` tools, `echo` first. */
export function toolNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => (index === 0 ? 'echo' : `tool-${index}`))
}

/** The arguments of a tool, made anew each time, as most factories do. */
export function echoShape(z: typeof Zod): { text: Zod.ZodString } {
  return { text: z.string() }
}

/**
 * Loads the SDK and returns a function that makes one server.
 * @param from where the v2 package comes from; ours serves the 2026-07-28 leg only with the copy it imports itself
 */
export async function loadEchoServer(
  sdk: SdkVersion,
  tools: number,
  from = '@modelcontextprotocol/server',
): Promise<() => EchoServer> {
  const { z } = await import('zod')
  const names = toolNames(tools)
  if (sdk === 'v1') {
    const { McpServer } = await import('@modelcontextprotocol/sdk/server/mcp.js')
    return () => {
      const server = new McpServer({ name: 'echo', version: '1.0.0' })
      for (const name of names)
        server.registerTool(name, { description: DESCRIPTION, inputSchema: echoShape(z) }, echo)
      return server as EchoServer
    }
  }
  const { McpServer } = (await import(from)) as { McpServer: typeof McpServerV2 }
  return () => {
    const server = new McpServer({ name: 'echo', version: '1.0.0' })
    for (const name of names)
      server.registerTool(name, { description: DESCRIPTION, inputSchema: z.object(echoShape(z)) }, echo)
    return server as EchoServer
  }
}
