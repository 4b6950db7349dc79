/** Apps for wire tests: fake servers on virtual time, official servers of both generations, and what tests do with them again and again. */

import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { expect } from 'vitest'

import type { AppOptions, McpServerLike, RequestId } from '../../src/types.ts'
import { type CallPlan, type FakeCall, FakeServer, type FakeServerOptions } from './fake-server.ts'
import { get, rpc, type Fields, type WireSession } from './mcp-wire.ts'
import type { RawConnection, RawRequest, RawResponse, SseBlock } from './raw-http.ts'
import { serve, type Served } from './serve.ts'
import { VirtualClock } from './virtual-clock.ts'

export { authenticateByName } from './by-name.ts'

/** An app of {@link FakeServer}s on a {@link VirtualClock}. */
export interface FakeApp extends Served {
  /** The servers, in the order they were built. */
  readonly fakes: readonly FakeServer[]
  /** Waits until `count` requests have reached handlers of a server, the newest by default; gives the last of them. */
  called(count?: number, fake?: FakeServer): Promise<FakeCall>
  /** Waits until nothing holds any session, so that time passes for all. */
  idle(): Promise<void>
}

/** Serves fake servers; time passes only when the test says so. */
export async function serveFake(
  options: AppOptions = {},
  fakeOptions: Partial<FakeServerOptions> = {},
): Promise<FakeApp> {
  const clock = new VirtualClock()
  const fakes: FakeServer[] = []
  const served = await serve(
    () => {
      const fake = new FakeServer({ clock, tag: `fake-${fakes.length + 1}`, ...fakeOptions })
      fakes.push(fake)
      return fake
    },
    { clock, ...options },
  )
  return Object.assign(served, {
    fakes,
    async called(count = 1, fake?: FakeServer): Promise<FakeCall> {
      const found = (): FakeCall | undefined => (fake ?? fakes.at(-1))?.calls[count - 1]
      await served.waitFor(() => found() !== undefined, `call ${count} of a handler`)
      return found() as FakeCall
    },
    async idle(): Promise<void> {
      await served.waitFor(() => served.app.sessions.counts.active === 0, 'the last hold being released')
    },
  })
}

/** A call of a fake server's tool. */
export function call(plan: Omit<CallPlan, 'tag'> & { tag?: string } = {}, id?: RequestId): object {
  return rpc('tools/call', { name: 'run', arguments: { tag: 'call', ...plan } }, id)
}

/** The header fields of a caller for {@link authenticateByName}. */
export function as(name: string): Fields {
  return { Authorization: `Bearer ${name}` }
}

/** The head without `Date` (and what Node says of the connection), and the body: what two answers are compared by. */
export async function bytesOf(response: RawResponse): Promise<string> {
  const lines = response.rawHead.split('\r\n').filter((line) => !/^date:/i.test(line))
  return `${lines.join('\r\n')}\r\n\r\n${await response.text()}`
}

/** A session's GET, with the event id a client resumes from where it has one. */
export function getStream(session: WireSession, lastEventId?: string, headers: Fields = {}): RawRequest {
  return get({
    ...session.headers,
    ...(lastEventId !== undefined && { 'Last-Event-ID': lastEventId }),
    ...headers,
  })
}

/** Sends a request on a connection of its own and keeps the connection, to drop, pause or watch it. */
export async function open(
  server: Served,
  request: RawRequest,
): Promise<{ connection: RawConnection; response: Promise<RawResponse>; reads: number[] }> {
  const connection = await server.connect()
  const reads: number[] = []
  connection.socket.on('data', (bytes: Buffer) => reads.push(bytes.length))
  const response = connection.request(request)
  // Looked at later, or never when the test drops the connection.
  response.catch(() => {})
  return { connection, response, reads }
}

/** Takes the next event of a stream and checks that it is a priming event; gives its id. */
export async function expectPriming(response: RawResponse, retry: number = 3000): Promise<string> {
  const event = await response.nextEvent()
  expect(event).toMatchObject({ data: '', retry, event: undefined, id: expect.any(String) })
  return event?.id ?? ''
}

/** The last message of an answer, whether it is one JSON body or a stream. */
export async function answerOf(response: Promise<RawResponse>): Promise<unknown> {
  const answer = await response
  if (answer.header('content-type') === 'application/json') return answer.json()
  return (await answer.messages()).at(-1)
}

/** The header fields of every event stream. */
export function expectStream(response: RawResponse): void {
  expect(response.status).toBe(200)
  expect(response.header('content-type')).toBe('text/event-stream')
  expect(response.header('cache-control')).toBe('no-cache, no-transform')
  expect(response.header('x-accel-buffering')).toBe('no')
  expect(response.header('mcp-session-id')).toBeUndefined()
}

/** The message of an event. */
export function messageOf(event: SseBlock | undefined): Record<string, unknown> {
  if (event?.data === undefined || event.data === '') throw new Error('the stream has no further message')
  return JSON.parse(event.data) as Record<string, unknown>
}

/** What a handler of an official server gets, in the words that both generations share. */
export interface OfficialCall {
  readonly id: RequestId
  readonly signal: AbortSignal
  /** The low-level server, for requests to the client that do not name the call. */
  readonly server: { elicitInput(params: object): Promise<unknown> }
  /** Sends a notification that belongs to the call. */
  notify(notification: { method: string; params: object }): Promise<void>
}

/** One generation of the official SDK, as wire tests use it. */
export interface OfficialSdk {
  readonly name: 'v1' | 'v2'
  /** Makes a server with one tool `run` that does what the test says. */
  make(run: (call: OfficialCall) => string | Promise<string>): McpServerLike
}

interface ExtraV1 {
  signal: AbortSignal
  requestId: RequestId
  sendNotification(notification: object): Promise<void>
}

interface ContextV2 {
  mcpReq: { id: RequestId; signal: AbortSignal; notify(notification: object): Promise<void> }
}

/** Both generations. */
export const OFFICIAL: readonly OfficialSdk[] = [
  {
    name: 'v1',
    make(run) {
      const server = new McpServerV1({ name: 'v1', version: '1' }, { capabilities: { logging: {} } })
      const low = server.server as unknown as OfficialCall['server']
      const handler = async (extra: ExtraV1) => ({
        content: [
          {
            type: 'text' as const,
            text: await run({
              id: extra.requestId,
              signal: extra.signal,
              server: low,
              notify: (notification) => extra.sendNotification(notification),
            }),
          },
        ],
      })
      server.registerTool('run', {}, handler as unknown as Parameters<typeof server.registerTool>[2])
      return server
    },
  },
  {
    name: 'v2',
    make(run) {
      const server = new McpServerV2({ name: 'v2', version: '1' }, { capabilities: { logging: {} } })
      const low = server.server as unknown as OfficialCall['server']
      const handler = async (context: ContextV2) => ({
        content: [
          {
            type: 'text' as const,
            text: await run({
              id: context.mcpReq.id,
              signal: context.mcpReq.signal,
              server: low,
              notify: (notification) => context.mcpReq.notify(notification),
            }),
          },
        ],
      })
      server.registerTool('run', {}, handler as unknown as Parameters<typeof server.registerTool>[2])
      return server
    },
  },
]
