/** The official SDKs' own transports on node:http: one per session in a map, as their documentation has it. */

import { randomUUID } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { readBody } from './bare.ts'
import { loadEchoServer } from './echo-server.ts'
import type { AnswerMode, SdkVersion } from '../shared/types.ts'

/** What the transports of v1 and v2 have in common. */
interface SdkTransport {
  sessionId?: string | undefined
  onclose?: (() => void) | undefined
  handleRequest(request: IncomingMessage, response: ServerResponse, body?: unknown): Promise<void>
}

/** Makes one transport; calls `initialized` when its session has an id. */
type MakeTransport = (initialized: (id: string, transport: SdkTransport) => void) => SdkTransport

/** Serves sessions with the SDK's own transport in JSON or SSE mode. */
export async function sdkListener(sdk: SdkVersion, mode: AnswerMode): Promise<RequestListener> {
  const createServer = await loadEchoServer(sdk)
  const { makeTransport, admit } = sdk === 'v1' ? await loadV1(mode) : await loadV2(mode)
  const transports = new Map<string, SdkTransport>()

  const open = async (): Promise<SdkTransport> => {
    const transport = makeTransport((id, made) => transports.set(id, made))
    transport.onclose = () => {
      if (transport.sessionId !== undefined) transports.delete(transport.sessionId)
    }
    await createServer().connect(transport)
    return transport
  }

  const handle = async (request: IncomingMessage, response: ServerResponse, body: unknown): Promise<void> => {
    const id = request.headers['mcp-session-id']
    const known = typeof id === 'string' ? transports.get(id) : undefined
    const opens = id === undefined && (body as { method?: unknown } | undefined)?.method === 'initialize'
    const transport = known ?? (opens ? await open() : undefined)
    if (transport === undefined) response.writeHead(id === undefined ? 400 : 404).end()
    else await transport.handleRequest(request, response, body)
  }

  // The body is parsed here and handed over, as behind express.json(): cheaper for the SDK than its own reading.
  return (request, response) => {
    if (!admit(request, response)) return
    if (request.method === 'POST')
      readBody(request, (body) => void handle(request, response, JSON.parse(body)))
    else void handle(request, response, undefined)
  }
}

type Loaded = {
  makeTransport: MakeTransport
  admit: (request: IncomingMessage, response: ServerResponse) => boolean
}

async function loadV1(mode: AnswerMode): Promise<Loaded> {
  const { StreamableHTTPServerTransport } = await import('@modelcontextprotocol/sdk/server/streamableHttp.js')
  return {
    admit: () => true,
    makeTransport: (initialized) => {
      const transport: InstanceType<typeof StreamableHTTPServerTransport> = new StreamableHTTPServerTransport(
        {
          sessionIdGenerator: () => randomUUID(),
          enableJsonResponse: mode === 'json',
          onsessioninitialized: (id): void => initialized(id, transport),
        },
      )
      return transport
    },
  }
}

async function loadV2(mode: AnswerMode): Promise<Loaded> {
  const { NodeStreamableHTTPServerTransport, localhostHostValidation, localhostOriginValidation } =
    await import('@modelcontextprotocol/node')
  const validHost = localhostHostValidation()
  const validOrigin = localhostOriginValidation()
  return {
    // Its README puts both guards in front on plain node:http.
    admit: (request, response) => validHost(request, response) && validOrigin(request, response),
    makeTransport: (initialized) => {
      const transport: InstanceType<typeof NodeStreamableHTTPServerTransport> =
        new NodeStreamableHTTPServerTransport({
          sessionIdGenerator: () => randomUUID(),
          enableJsonResponse: mode === 'json',
          onsessioninitialized: (id): void => initialized(id, transport),
        })
      return transport
    },
  }
}
