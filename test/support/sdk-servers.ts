/** Small servers of both official SDKs, told apart by name in tests that run with each. */

import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { InitializeRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { z } from 'zod'

import type { McpServerLike } from '../../src/types.ts'

/** What a test can make `initialize` do; it answers with what this returns, or with the error this throws. */
export type InitializeHandler = (params: {
  protocolVersion?: unknown
  clientInfo?: unknown
}) => object | Promise<object>

/** A server of one of the SDKs, and what a test wants to know of it. */
export interface SdkServer extends McpServerLike {
  /** Whether it was closed, by whomever. */
  readonly closed: boolean
  /** Calls of `tools/call` that reached the handler. */
  readonly calls: number
}

/** One SDK. */
export interface Sdk {
  readonly name: 'v1' | 'v2'
  /** A server with the tool `echo`, which gives back its argument `text`. */
  build(initialize?: InitializeHandler): SdkServer
}

const v1: Sdk = {
  name: 'v1',
  build(initialize) {
    const server = new McpServerV1({ name: 'sdk-v1', version: '1' })
    const state = { closed: false, calls: 0 }
    server.registerTool('echo', { inputSchema: { text: z.string() } }, ({ text }) => {
      state.calls += 1
      return { content: [{ type: 'text', text }] }
    })
    server.server.onclose = () => {
      state.closed = true
    }
    if (initialize !== undefined) {
      server.server.setRequestHandler(
        InitializeRequestSchema,
        async (request) => await initialize(request.params),
      )
    }
    return wrap(server, state)
  },
}

const v2: Sdk = {
  name: 'v2',
  build(initialize) {
    const server = new McpServerV2({ name: 'sdk-v2', version: '1' })
    const state = { closed: false, calls: 0 }
    server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, ({ text }) => {
      state.calls += 1
      return { content: [{ type: 'text', text }] }
    })
    server.server.onclose = () => {
      state.closed = true
    }
    if (initialize !== undefined) {
      server.server.setRequestHandler(
        'initialize',
        async (request) => (await initialize(request.params)) as never,
      )
    }
    return wrap(server, state)
  },
}

/** Both SDKs, for `describe.each(SDKS)('$name', …)`. */
export const SDKS: readonly Sdk[] = [v1, v2]

function wrap(server: McpServerLike, state: { closed: boolean; calls: number }): SdkServer {
  return {
    connect: (transport) => server.connect(transport),
    close: () => server.close(),
    get closed() {
      return state.closed
    },
    get calls() {
      return state.calls
    },
  }
}
