/** MCP over raw sockets: the messages and requests that wire tests are made of. */

import { expect } from 'vitest'

import type { RawRequest, RawResponse } from './raw-http.ts'
import { NOTHING_LEFT, type Served } from './serve.ts'

/** The revisions with a handshake, newest first; in wire.md's letters C, B, A and the one treated like A. */
export const VERSIONS = ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05'] as const

/** A header field set to undefined is left out. */
export type Fields = Readonly<Record<string, string | undefined>>

/** What a well-behaved client sends with every POST. */
export const POST_HEADERS: Readonly<Record<string, string>> = {
  'Content-Type': 'application/json',
  Accept: 'application/json, text/event-stream',
}

/** The id of requests that name none. */
export const ID = 'q1'

/** A JSON-RPC request. */
export function rpc(method: string, params?: object, id: string | number = ID): object {
  return { jsonrpc: '2.0', id, method, ...(params && { params }) }
}

/** A JSON-RPC notification. */
export function notification(method: string, params?: object): object {
  return { jsonrpc: '2.0', method, ...(params && { params }) }
}

/** The params of `initialize`. */
export function initializeParams(version: string = VERSIONS[0], capabilities: object = {}): object {
  return { protocolVersion: version, capabilities, clientInfo: { name: 'wire', version: '1' } }
}

/** An `initialize` request. */
export function initialize(
  version: string = VERSIONS[0],
  capabilities: object = {},
  id: string | number = ID,
): object {
  return rpc('initialize', initializeParams(version, capabilities), id)
}

/** A POST with the headers of a well-behaved client, and more; undefined leaves one out. */
export function post(body: string | Uint8Array | object | undefined, headers: Fields = {}): RawRequest {
  return { method: 'POST', headers: { ...POST_HEADERS, ...headers }, ...(body !== undefined && { body }) }
}

/** A GET that asks for a stream. */
export function get(headers: Fields = {}): RawRequest {
  return { method: 'GET', headers: { Accept: 'text/event-stream', ...headers } }
}

/** A DELETE. */
export function del(headers: Fields = {}): RawRequest {
  return { method: 'DELETE', headers }
}

/** A session as a client sees it. */
export interface WireSession {
  readonly id: string
  readonly version: string
  /** `Mcp-Session-Id` and `Mcp-Protocol-Version`, for further requests. */
  readonly headers: Record<string, string>
  /** The answer to `initialize`. */
  readonly response: RawResponse
}

/** Opens a session: `initialize`, and `notifications/initialized` unless told otherwise. */
export async function openSession(
  server: Served,
  options: { version?: string; capabilities?: object; headers?: Fields; initialized?: boolean } = {},
): Promise<WireSession> {
  const { version = VERSIONS[0], capabilities, headers = {}, initialized = true } = options
  const response = await server.request(post(initialize(version, capabilities), headers))
  await response.text()
  expect(response.status, await response.text()).toBe(200)
  const id = response.header('mcp-session-id')
  if (id === undefined) throw new Error('initialize was answered without a session id')
  const sessionHeaders = { 'Mcp-Session-Id': id, 'Mcp-Protocol-Version': version }
  if (initialized) {
    const accepted = await server.request(
      post(notification('notifications/initialized'), { ...headers, ...sessionHeaders }),
    )
    expect(accepted.status).toBe(202)
    await accepted.ended()
  }
  return { id, version, headers: sessionHeaders, response }
}

/** What a refusal must be. */
export interface ExpectedError {
  readonly status: number
  readonly code: number
  /** The whole message, or a pattern of it. */
  readonly message: string | RegExp
  /** Default null. */
  readonly id?: string | number | null
  /** Header fields it must have besides, by lower-case name. */
  readonly headers?: Readonly<Record<string, string | RegExp>>
  readonly data?: unknown
}

/** Checks a transport error to the letter: status, `application/json`, exactly the members that it may have, and no session id. */
export async function expectError(response: RawResponse, expected: ExpectedError): Promise<void> {
  const text = await response.text()
  expect({ status: response.status, text }).toMatchObject({ status: expected.status })
  expect(response.header('content-type')).toBe('application/json')
  expect(response.header('content-length')).toBe(String(Buffer.byteLength(text)))
  expect(response.header('mcp-session-id')).toBeUndefined()
  expect(JSON.parse(text)).toStrictEqual({
    jsonrpc: '2.0',
    error: {
      code: expected.code,
      message:
        typeof expected.message === 'string' ? expected.message : expect.stringMatching(expected.message),
      ...('data' in expected && { data: expected.data }),
    },
    id: expected.id ?? null,
  })
  for (const [name, value] of Object.entries(expected.headers ?? {})) {
    if (typeof value === 'string') expect(response.header(name), name).toBe(value)
    else expect(response.header(name), name).toMatch(value)
  }
}

/** Nothing was allocated and nothing is left: no session, no place taken, no request running. */
export function expectNothing(server: Served): void {
  expect(server.app.sessions.counts).toEqual(NOTHING_LEFT)
  expect(server.app.sessions.size).toBe(0)
}
