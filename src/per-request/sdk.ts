/** Which copy of the official v2 package built a server: only that copy can serve it without a handshake. */

import { createMcpHandler, McpServer, Server } from '@modelcontextprotocol/server'

import type { McpServerLike } from '../types.ts'

/** What is used of one copy of the package. */
export interface Sdk {
  readonly McpServer: typeof McpServer
  readonly Server: typeof Server
  readonly createMcpHandler: typeof createMcpHandler
}

/** The copy that this package imports. */
export const importedSdk: Sdk = { McpServer, Server, createMcpHandler }

/** A server of v2, or why it is none that can be served here. */
export type Recognized = Sdk | 'not-v2' | 'other-copy'

/**
 * The copy of the v2 package that built a server. Authors whose code is CommonJS have the package's other build, whose classes are not
 * the imported ones; it is asked for only then.
 */
export function sdkOf(server: McpServerLike): Recognized {
  if (builtBy(importedSdk, server)) return importedSdk
  if (!looksLikeV2(server)) return 'not-v2'
  const required = requiredSdk()
  return required !== undefined && builtBy(required, server) ? required : 'other-copy'
}

function builtBy(sdk: Sdk, server: object): boolean {
  return server instanceof sdk.McpServer || server instanceof sdk.Server
}

/** v1 has no such method. */
function looksLikeV2(server: object): boolean {
  const inner = 'server' in server && typeof server.server === 'object' ? server.server : server
  return inner !== null && 'getNegotiatedProtocolVersion' in inner
}

function requiredSdk(): Sdk | undefined {
  // Asked for like this, so that runtimes without Node's modules can load this file.
  const { process } = globalThis as { process?: { getBuiltinModule?(id: string): unknown } }
  const module = process?.getBuiltinModule?.('node:module') as
    | { createRequire(from: string): (id: string) => unknown }
    | undefined
  try {
    return module?.createRequire(import.meta.url)('@modelcontextprotocol/server') as Sdk | undefined
  } catch {
    return undefined
  }
}
