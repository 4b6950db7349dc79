/** The plain, serializable data of a session: what a sleeping session is, and all that is needed to build its instance again. */

import { randomBytes } from 'node:crypto'

import { SojournError } from '../errors.ts'
import { HANDSHAKE_VERSIONS } from '../http/era.ts'
import type { ClientIdentity, JsonValue } from '../types.ts'

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

/** A client as it names itself in `clientInfo`; undefined when that is no name. */
export function clientIdentity(info: unknown): ClientIdentity | undefined {
  if (!isObject(info) || typeof info['name'] !== 'string') return undefined
  return { name: info['name'], version: typeof info['version'] === 'string' ? info['version'] : '' }
}

/**
 * What an author assigned to `session.data`, as it is kept: a frozen copy.
 *
 * @param limit most bytes as JSON (`maxSessionDataSize`)
 * @throws TypeError for what JSON cannot say; SojournError `limit-exceeded`
 */
export function keptData(value: JsonValue, limit: number): JsonValue {
  const json: unknown = JSON.stringify(value)
  if (typeof json !== 'string') throw new TypeError(`session.data must be a JSON value, got ${typeof value}`)
  const size = Buffer.byteLength(json)
  if (size > limit) {
    throw new SojournError(
      'limit-exceeded',
      `session.data must be at most ${limit} bytes of JSON (maxSessionDataSize), got ${size}`,
    )
  }
  return freeze(JSON.parse(json) as JsonValue)
}

function freeze(value: JsonValue): JsonValue {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) freeze(member)
    Object.freeze(value)
  }
  return value
}

/** 192 random bits: the id is the credential of an anonymous session, and its first 8 characters stand in logs. */
const SESSION_ID_BYTES = 24

/** A new id for a session: visible ASCII, from a CSPRNG. */
export function randomSessionId(): string {
  return randomBytes(SESSION_ID_BYTES).toString('base64url')
}

/** The record of a session that is about to be opened. */
export function newRecord(
  id: string,
  principal: string | undefined,
  createdAt: number,
  params: Readonly<Record<string, unknown>> | undefined,
): SessionRecord {
  return {
    id,
    principal,
    createdAt,
    initializeParams: params ?? {},
    protocolVersion: HANDSHAKE_VERSIONS[0] ?? '',
    serverCapabilities: {},
    initialized: false,
    logLevel: undefined,
    subscriptions: undefined,
    data: {},
    serverRequests: 0,
    streams: 0,
  }
}
