/** The official clients of both generations behind one face, so that a test is written once. */

import {
  Client as ClientV2,
  StreamableHTTPClientTransport as TransportV2,
} from '@modelcontextprotocol/client'
import type { VersionNegotiationOptions } from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  LoggingMessageNotificationSchema,
  PromptListChangedNotificationSchema,
  ResourceListChangedNotificationSchema,
  ResourceUpdatedNotificationSchema,
  ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { onTestFinished } from 'vitest'

import { within } from '../support/deferred.ts'
import { Inbox } from './inbox.ts'
import type { Generation, Level } from './probe-server.ts'

/** A notification that reached the client. */
export interface Notice {
  readonly method: string
  readonly params: Readonly<Record<string, unknown>> | undefined
}

/** What a client is made with. */
export interface ProbeClientOptions {
  /** A session to go on with, instead of `initialize`. */
  sessionId?: string
  /** Sent with every request. */
  headers?: Record<string, string>
  /** v2 only: how it finds the protocol revision; default is its own. */
  versionNegotiation?: VersionNegotiationOptions
  /** Answers elicitation; default accepts with `re: <message>`. */
  onElicit?: (message: string, signal: AbortSignal) => Promise<string>
}

/** Options of one call. */
export interface CallOptions {
  signal?: AbortSignal
  onprogress?: (progress: { progress: number; total?: number | undefined }) => void
  onresumptiontoken?: (token: string) => void
  /** How long the answer is waited for, in milliseconds; default 5 s. */
  timeout?: number
}

/** One official client, connected or about to be. */
export interface ProbeClient {
  readonly generation: Generation
  /** Notifications, in the order they came. */
  readonly notices: Inbox<Notice>
  /** What the transport reported. */
  readonly errors: Inbox<Error>
  readonly sessionId: string | undefined
  /** The revision that was agreed on. */
  readonly protocolVersion: string | undefined
  connect(): Promise<void>
  /** Calls a tool with `input` and gives the text of its result; rejects for a JSON-RPC error, and for a result that is one. */
  call(tool: string, input?: string, options?: CallOptions): Promise<string>
  tools(): Promise<string[]>
  resources(): Promise<string[]>
  prompts(): Promise<string[]>
  read(uri: string, options?: CallOptions): Promise<string>
  subscribe(uri: string): Promise<void>
  unsubscribe(uri: string): Promise<void>
  setLevel(level: Level): Promise<void>
  ping(): Promise<void>
  /** Sends `notifications/initialized`, upon which the transport opens its GET. */
  sendInitialized(): Promise<void>
  /** DELETE. */
  terminate(): Promise<void>
  close(): Promise<void>
}

/** How long a client waits for an answer before the test has failed, in milliseconds. */
const PATIENCE = 5000

const INFO = { name: 'probe-client', version: '1' }
const CAPABILITIES = { capabilities: { elicitation: {}, sampling: {} } }

interface ToolResult {
  content?: unknown
  isError?: boolean | undefined
}

/** Makes a client of one generation; it is closed when the test ends. */
export function probeClient(generation: Generation, url: URL, options: ProbeClientOptions = {}): ProbeClient {
  const client = generation === 'v1' ? clientV1(url, options) : clientV2(url, options)
  onTestFinished(() => client.close())
  return client
}

/** Makes a client and connects it. */
export async function connect(
  generation: Generation,
  url: URL,
  options: ProbeClientOptions = {},
): Promise<ProbeClient> {
  const client = probeClient(generation, url, options)
  await client.connect()
  return client
}

function clientV1(url: URL, { sessionId, headers, onElicit = agree }: ProbeClientOptions): ProbeClient {
  const { notices, errors } = inboxes()
  const transport = new TransportV1(url, {
    ...(sessionId && { sessionId }),
    ...(headers && { requestInit: { headers } }),
  })
  const client = new ClientV1(INFO, CAPABILITIES)
  client.onerror = (error) => errors.add(error)
  client.setRequestHandler(ElicitRequestSchema, async ({ params }, { signal }) =>
    accepted(await onElicit(params.message, signal)),
  )
  client.setRequestHandler(CreateMessageRequestSchema, ({ params }) => modelAnswer(params.messages))
  for (const schema of [
    LoggingMessageNotificationSchema,
    ToolListChangedNotificationSchema,
    ResourceListChangedNotificationSchema,
    PromptListChangedNotificationSchema,
    ResourceUpdatedNotificationSchema,
  ]) {
    client.setNotificationHandler(schema, ({ method, params }) => notices.add({ method, params }))
  }
  const limits = { timeout: PATIENCE }
  return {
    generation: 'v1',
    notices,
    errors,
    get sessionId() {
      return transport.sessionId
    },
    get protocolVersion() {
      return transport.protocolVersion
    },
    connect: () => within(client.connect(transport, limits), 'connect()'),
    call: async (name, input, options) =>
      textOf(
        (await client.callTool({ name, arguments: input === undefined ? {} : { input } }, undefined, {
          ...limits,
          ...options,
        })) as ToolResult,
      ),
    tools: async () => (await client.listTools(undefined, limits)).tools.map(({ name }) => name),
    resources: async () => (await client.listResources(undefined, limits)).resources.map(({ uri }) => uri),
    prompts: async () => (await client.listPrompts(undefined, limits)).prompts.map(({ name }) => name),
    read: async (uri, options) => readOf(await client.readResource({ uri }, { ...limits, ...options })),
    subscribe: async (uri) => void (await client.subscribeResource({ uri }, limits)),
    unsubscribe: async (uri) => void (await client.unsubscribeResource({ uri }, limits)),
    setLevel: async (level) => void (await client.setLoggingLevel(level, limits)),
    ping: async () => void (await client.ping(limits)),
    sendInitialized: () =>
      within(client.notification({ method: 'notifications/initialized' }), 'notifications/initialized'),
    terminate: () => within(transport.terminateSession(), 'terminateSession()'),
    close: () => within(client.close(), 'close()'),
  }
}

function clientV2(
  url: URL,
  { sessionId, headers, versionNegotiation, onElicit = agree }: ProbeClientOptions,
): ProbeClient {
  const { notices, errors } = inboxes()
  const transport = new TransportV2(url, {
    ...(sessionId && { sessionId }),
    ...(headers && { requestInit: { headers } }),
  })
  const client = new ClientV2(INFO, { ...CAPABILITIES, ...(versionNegotiation && { versionNegotiation }) })
  client.onerror = (error) => errors.add(error)
  client.setRequestHandler('elicitation/create', async ({ params }, { mcpReq }) =>
    accepted(await onElicit(params.message, mcpReq.signal)),
  )
  client.setRequestHandler('sampling/createMessage', ({ params }) => modelAnswer(params.messages))
  for (const method of [
    'notifications/message',
    'notifications/tools/list_changed',
    'notifications/resources/list_changed',
    'notifications/prompts/list_changed',
    'notifications/resources/updated',
  ] as const) {
    client.setNotificationHandler(method, ({ params }) => notices.add({ method, params }))
  }
  const limits = { timeout: PATIENCE }
  return {
    generation: 'v2',
    notices,
    errors,
    get sessionId() {
      return transport.sessionId
    },
    get protocolVersion() {
      return client.getNegotiatedProtocolVersion()
    },
    connect: () => within(client.connect(transport, limits), 'connect()'),
    call: async (name, input, options) =>
      textOf(
        await client.callTool(
          { name, arguments: input === undefined ? {} : { input } },
          { ...limits, ...options },
        ),
      ),
    tools: async () => (await client.listTools(undefined, limits)).tools.map(({ name }) => name),
    resources: async () => (await client.listResources(undefined, limits)).resources.map(({ uri }) => uri),
    prompts: async () => (await client.listPrompts(undefined, limits)).prompts.map(({ name }) => name),
    read: async (uri, options) => readOf(await client.readResource({ uri }, { ...limits, ...options })),
    subscribe: async (uri) => void (await client.subscribeResource({ uri }, limits)),
    unsubscribe: async (uri) => void (await client.unsubscribeResource({ uri }, limits)),
    setLevel: async (level) => void (await client.setLoggingLevel(level, limits)),
    ping: async () => void (await client.ping(limits)),
    sendInitialized: () =>
      within(client.notification({ method: 'notifications/initialized' }), 'notifications/initialized'),
    terminate: () => within(transport.terminateSession(), 'terminateSession()'),
    close: () => within(client.close(), 'close()'),
  }
}

/** The HTTP status behind a client's rejection; both generations say it, each in its own place. */
export function statusOf(error: unknown): unknown {
  const { code, status, data } = error as { code?: unknown; status?: unknown; data?: { status?: unknown } }
  return status ?? data?.status ?? code
}

/** What a promise rejected with, under a deadline. */
export async function rejection(promise: Promise<unknown>, what: string): Promise<Error> {
  return within(
    promise.then(
      (value) => {
        throw new Error(`${what} should have failed, and gave ${String(value)}`)
      },
      (error: unknown) => error as Error,
    ),
    what,
  )
}

function inboxes(): { notices: Inbox<Notice>; errors: Inbox<Error> } {
  return { notices: new Inbox('notification to the client'), errors: new Inbox('error of the client') }
}

function agree(message: string): Promise<string> {
  return Promise.resolve(`re: ${message}`)
}

function accepted(value: string): { action: 'accept'; content: { value: string } } {
  return { action: 'accept', content: { value } }
}

function modelAnswer(messages: readonly { content: unknown }[]): {
  role: 'assistant'
  model: string
  content: { type: 'text'; text: string }
} {
  const content = messages[0]?.content
  const [block] = Array.isArray(content) ? (content as unknown[]) : [content]
  return {
    role: 'assistant',
    model: 'parrot',
    content: { type: 'text', text: `re: ${(block as { text: string }).text}` },
  }
}

function textOf({ content, isError }: ToolResult): string {
  const [block] = content as { text: string }[]
  if (isError === true) throw new Error(block?.text)
  return block?.text ?? ''
}

function readOf({ contents }: { contents: readonly object[] }): string {
  const [first] = contents
  return first !== undefined && 'text' in first ? String(first.text) : ''
}
