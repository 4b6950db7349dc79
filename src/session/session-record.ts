/** The plain, serializable data of a session: what a sleeping session is, and all that is needed to build its instance again. */

import type { JsonValue } from '../types.ts'

/** One session as data; about 1 KB. */
export interface SessionRecord {
  /** What `Mcp-Session-Id` names. */
  readonly id: string
  /** Who owns it; undefined for an anonymous session. */
  readonly principal: string | undefined
  /** Wall clock at `initialize`, milliseconds since the Unix epoch. */
  readonly createdAt: number
  /** The client's `initialize` params, as received. */
  readonly initializeParams: Readonly<Record<string, unknown>>
  /** The version the server answered with. */
  protocolVersion: string
  /** The capabilities the server answered with. */
  serverCapabilities: Readonly<Record<string, unknown>>
  /** Whether `notifications/initialized` arrived. */
  initialized: boolean
  /** The level of the last successful `logging/setLevel`. */
  logLevel: string | undefined
  /** URIs of successful `resources/subscribe`; made on first use. */
  subscriptions: Set<string> | undefined
  /** The author's own JSON, frozen. */
  data: JsonValue
  /** The last number given to a server→client request; numbers never repeat, whatever instance asks. */
  serverRequests: number
  /** The last number given to a stream of a POST; 0 is the GET stream. */
  streams: number
}

/** The capabilities a client declared, by name. */
export function clientCapabilities(record: SessionRecord): Readonly<Record<string, unknown>> {
  const capabilities = record.initializeParams['capabilities']
  return isObject(capabilities) ? capabilities : {}
}

/** Whether a value is a JSON object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
