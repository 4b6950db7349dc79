/** One server in two SDKs: what its tools do is a test's own code, which sees the same call whichever SDK carries it. */

import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import type { ServerContext as ContextV2 } from '@modelcontextprotocol/server'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import type { RequestHandlerExtra } from '@modelcontextprotocol/sdk/shared/protocol.js'
import {
  CreateMessageResultSchema,
  ElicitResultSchema,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'
import type { CallToolResult, ServerNotification, ServerRequest } from '@modelcontextprotocol/sdk/types.js'
import { z } from 'zod'

import type { CreateServer, RequestId } from '../../src/types.ts'

/** v1 is `@modelcontextprotocol/sdk`, v2 the split packages. */
export type Generation = 'v1' | 'v2'

/** Both SDKs know these levels. */
export type Level = 'debug' | 'info' | 'warning' | 'error'

/** One call of a tool, or one read of the resource, as a test's handler sees it. */
export interface Call {
  /** The argument `input`; the URI where a resource is read. */
  readonly input: string
  /** The request's id as the handler sees it. */
  readonly id: RequestId
  readonly sessionId: string | undefined
  readonly signal: AbortSignal
  /** The server the call came to. */
  readonly server: ProbeServer
  /** Reports progress when the client asked for it. */
  progress(done: number, total?: number): Promise<void>
  /** A log message that names the call. */
  log(level: Level, text: string): Promise<void>
  /** Asks the user by a request that names the call; gives `action` and what was entered. */
  elicit(message: string): Promise<string>
  /** Asks the client's model by a request that names the call. */
  sample(prompt: string): Promise<string>
  /** Ends the connection that the answer would travel on; undefined where the client could not come back. */
  readonly closeStream: (() => void) | undefined
  /** Ends the connection of the GET stream. */
  readonly closeStandaloneStream: (() => void) | undefined
}

/** One instance of the probe server, as a test drives it from outside a call. */
export interface ProbeServer {
  readonly subscriptions: Set<string>
  /** Asks by `server.elicitInput`, which names no request. */
  elicit(message: string, options?: { signal: AbortSignal }): Promise<string>
  /** Asks by `server.createMessage`, which names no request. */
  sample(prompt: string): Promise<string>
  /** A log message that belongs to no call. */
  log(level: Level, text: string, sessionId: string | undefined): Promise<void>
  /** A tool more, which the SDK announces. */
  addTool(name: string): void
  /** A resource more, which the SDK announces. */
  addResource(uri: string): void
  /** A prompt more, which the SDK announces. */
  addPrompt(name: string): void
  resourceUpdated(uri: string): Promise<void>
}

/** What a tool of a test does; the text is its result. */
export type Tool = (call: Call) => string | Promise<string>

/** A factory, and every server it built. */
export interface Probe {
  readonly createServer: CreateServer
  readonly servers: readonly ProbeServer[]
}

/** The resource that every probe server has; reading it calls the tool `read`, whose throw is a JSON-RPC error. */
export const RESOURCE = 'probe://item'

const CAPABILITIES = { capabilities: { logging: {}, resources: { subscribe: true, listChanged: true } } }
const INPUT = { input: z.string().optional() }
const INPUT_SCHEMA = z.object(INPUT)
const FORM = {
  type: 'object' as const,
  properties: { value: { type: 'string' as const } },
  required: ['value'],
}

/** A probe of one SDK. */
export function probe(generation: Generation, tools: Readonly<Record<string, Tool>>): Probe {
  const servers: ProbeServer[] = []
  const createServer = (): McpServerV1 | McpServerV2 => {
    const [server, face] = generation === 'v1' ? buildV1(tools) : buildV2(tools)
    servers.push(face)
    return server
  }
  return { createServer, servers }
}

function buildV1(tools: Readonly<Record<string, Tool>>): [McpServerV1, ProbeServer] {
  const server = new McpServerV1({ name: 'probe', version: '1' }, CAPABILITIES)
  const subscriptions = new Set<string>()
  const face: ProbeServer = {
    subscriptions,
    elicit: async (message, options) =>
      elicited(await server.server.elicitInput({ message, requestedSchema: FORM }, options)),
    sample: async (prompt) => sampled(await server.server.createMessage(sampling(prompt))),
    log: (level, text, sessionId) => server.sendLoggingMessage({ level, data: text }, sessionId),
    addTool: (name) => void server.registerTool(name, {}, () => text(name)),
    addResource: (uri) => void server.registerResource(uri, uri, {}, () => contents(uri, uri)),
    addPrompt: (name) => void server.registerPrompt(name, {}, () => ({ messages: [] })),
    resourceUpdated: (uri) => server.server.sendResourceUpdated({ uri }),
  }
  const call = (input: string, extra: RequestHandlerExtra<ServerRequest, ServerNotification>): Call => ({
    input,
    id: extra.requestId,
    sessionId: extra.sessionId,
    signal: extra.signal,
    server: face,
    async progress(progress, total) {
      const progressToken = extra._meta?.progressToken
      if (progressToken === undefined) return
      await extra.sendNotification({
        method: 'notifications/progress',
        params: { progressToken, progress, total },
      })
    },
    log: (level, data) =>
      extra.sendNotification({ method: 'notifications/message', params: { level, data } }),
    elicit: async (message) =>
      elicited(
        await extra.sendRequest(
          { method: 'elicitation/create', params: { message, requestedSchema: FORM } },
          ElicitResultSchema,
        ),
      ),
    sample: async (prompt) =>
      sampled(
        await extra.sendRequest(
          { method: 'sampling/createMessage', params: sampling(prompt) },
          CreateMessageResultSchema,
        ),
      ),
    closeStream: extra.closeSSEStream,
    closeStandaloneStream: extra.closeStandaloneSSEStream,
  })
  for (const [name, run] of Object.entries(tools)) {
    server.registerTool(name, { inputSchema: INPUT }, async ({ input = '' }, extra) =>
      text(await run(call(input, extra))),
    )
  }
  server.registerResource('item', RESOURCE, {}, async (uri, extra) =>
    contents(uri.href, (await tools['read']?.(call(uri.href, extra))) ?? 'item'),
  )
  server.registerPrompt('hello', {}, () => ({
    messages: [{ role: 'user', content: { type: 'text', text: 'hello' } }],
  }))
  server.server.setRequestHandler(SubscribeRequestSchema, ({ params }) => {
    subscriptions.add(params.uri)
    return {}
  })
  server.server.setRequestHandler(UnsubscribeRequestSchema, ({ params }) => {
    subscriptions.delete(params.uri)
    return {}
  })
  return [server, face]
}

function buildV2(tools: Readonly<Record<string, Tool>>): [McpServerV2, ProbeServer] {
  const server = new McpServerV2({ name: 'probe', version: '1' }, CAPABILITIES)
  const subscriptions = new Set<string>()
  const face: ProbeServer = {
    subscriptions,
    elicit: async (message, options) =>
      elicited(await server.server.elicitInput({ message, requestedSchema: FORM }, options)),
    sample: async (prompt) => sampled(await server.server.createMessage(sampling(prompt))),
    log: (level, text, sessionId) => server.sendLoggingMessage({ level, data: text }, sessionId),
    addTool: (name) => void server.registerTool(name, {}, () => text(name)),
    addResource: (uri) => void server.registerResource(uri, uri, {}, () => contents(uri, uri)),
    addPrompt: (name) => void server.registerPrompt(name, {}, () => ({ messages: [] })),
    resourceUpdated: (uri) => server.server.sendResourceUpdated({ uri }),
  }
  const call = (input: string, { mcpReq, http, sessionId }: ContextV2): Call => ({
    input,
    id: mcpReq.id,
    sessionId,
    signal: mcpReq.signal,
    server: face,
    async progress(progress, total) {
      const progressToken = mcpReq._meta?.progressToken
      if (progressToken === undefined) return
      await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total } })
    },
    log: (level, data) => mcpReq.log(level, data),
    elicit: async (message) => elicited(await mcpReq.elicitInput({ message, requestedSchema: FORM })),
    sample: async (prompt) => sampled(await mcpReq.requestSampling(sampling(prompt))),
    closeStream: http?.closeSSE,
    closeStandaloneStream: http?.closeStandaloneSSE,
  })
  for (const [name, run] of Object.entries(tools)) {
    server.registerTool(name, { inputSchema: INPUT_SCHEMA }, async ({ input = '' }, context) =>
      text(await run(call(input, context))),
    )
  }
  server.registerResource('item', RESOURCE, {}, async (uri, context) =>
    contents(uri.href, (await tools['read']?.(call(uri.href, context))) ?? 'item'),
  )
  server.registerPrompt('hello', {}, () => ({
    messages: [{ role: 'user', content: { type: 'text', text: 'hello' } }],
  }))
  server.server.setRequestHandler('resources/subscribe', ({ params }) => {
    subscriptions.add(params.uri)
    return {}
  })
  server.server.setRequestHandler('resources/unsubscribe', ({ params }) => {
    subscriptions.delete(params.uri)
    return {}
  })
  return [server, face]
}

function text(text: string): CallToolResult & { content: [{ type: 'text'; text: string }] } {
  return { content: [{ type: 'text', text }] }
}

function contents(uri: string, text: string): { contents: [{ uri: string; text: string }] } {
  return { contents: [{ uri, text }] }
}

function sampling(prompt: string): {
  messages: [{ role: 'user'; content: { type: 'text'; text: string } }]
  maxTokens: number
} {
  return { messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens: 10 }
}

function elicited({
  action,
  content,
}: {
  action: string
  content?: Record<string, unknown> | undefined
}): string {
  return content === undefined ? action : `${action}: ${String(content['value'])}`
}

function sampled({ model, content }: { model: string; content: unknown }): string {
  const [block] = Array.isArray(content) ? (content as unknown[]) : [content]
  return `${model}: ${(block as { text: string }).text}`
}
