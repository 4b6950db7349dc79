/** The plain, serializable data of a session: what a sleeping session is, and all that is needed to build its instance again. */

import { randomBytes } from 'node:crypto'

import { SojournError } from '../errors.ts'
import { HANDSHAKE_VERSIONS } from '../http/era.ts'
import { isObject } from '../json.ts'
import type { ClientIdentity, JsonValue } from '../types.ts'
import type { RunningRequest } from './running-request.ts'
import type { SharedJson } from './shared-json.ts'

/** One session as data; what most clients have in common is shared. */
export interface SessionRecord {
  /** What `Mcp-Session-Id` names. After a restart, until its client comes back, only its first 8 characters and `…`: the id is a credential, and no store gets it. */
  id: string
  /** Who owns it; undefined for an anonymous session. */
  readonly principal: string | undefined
  /** Wall clock at `initialize`, milliseconds since the Unix epoch. */
  readonly createdAt: number
  /** The client's `initialize` params, as received. */
  readonly initialize: SharedJson
  /** The version the server answered with. */
  protocolVersion: string
  /** The capabilities the server answered with; undefined until it has. */
  capabilities: SharedJson | undefined
  /** Whether `notifications/initialized` arrived. */
  initialized: boolean
  /** Whether a request other than `ping` was accepted, or a GET opened, since the handshake. */
  used: boolean
  /** Whether an instance announced changes of its own that a rebuilt one would not know of. */
  changed: boolean
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
  /** The highest position of the GET stream that any connection took. */
  delivered: number
  /** The last number given to a priming event; like the requests', not kept: each process has numbers of its own. */
  primings: number
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
  return frozen(JSON.parse(json) as JsonValue)
}

/** A JSON value, frozen through and through. */
export function frozen(value: JsonValue): JsonValue {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) frozen(member)
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

/** What `session.data` is until its author assigns something. */
const NO_DATA: JsonValue = Object.freeze({})

/** The record of a session that is about to be opened. */
export function newRecord(
  id: string,
  principal: string | undefined,
  createdAt: number,
  initialize: SharedJson,
): SessionRecord {
  return {
    id,
    principal,
    createdAt,
    initialize,
    protocolVersion: HANDSHAKE_VERSIONS[0] ?? '',
    capabilities: undefined,
    initialized: false,
    used: false,
    changed: false,
    logLevel: undefined,
    subscriptions: undefined,
    data: NO_DATA,
    serverRequests: 0,
    streams: 0,
    delivered: 0,
    primings: 0,
  }
}

/** What `logging/setLevel` can set (server/utilities/logging, all revisions); a client may send anything of any size. */
const LOG_LEVELS: ReadonlySet<unknown> = new Set([
  'debug',
  'info',
  'notice',
  'warning',
  'error',
  'critical',
  'alert',
  'emergency',
])

/** Keeps of a request that was answered what a rebuilt instance would have to be told again. Whether that is anything new. */
export function remember(
  record: SessionRecord,
  { method, params }: Pick<RunningRequest, 'method' | 'params'>,
): boolean {
  const uri = params?.['uri']
  if (method === 'resources/subscribe' && typeof uri === 'string') {
    record.subscriptions ??= new Set()
    record.subscriptions.add(uri)
    return true
  }
  if (method === 'resources/unsubscribe' && typeof uri === 'string')
    return record.subscriptions?.delete(uri) === true
  if (method !== 'logging/setLevel') return false
  const level = params?.['level']
  if (!LOG_LEVELS.has(level)) return false
  record.logLevel = level as string
  return true
}

/** Whether the client said in `initialize` that a server may ask it something. */
export function asksClient(record: SessionRecord): boolean {
  const { capabilities } = record.initialize.parse()
  if (!isObject(capabilities)) return false
  return (
    capabilities['sampling'] !== undefined ||
    capabilities['elicitation'] !== undefined ||
    capabilities['roots'] !== undefined
  )
}

/** What the server declared under a name (`tools`, `resources`, …); undefined when it did not. */
export function capabilityOf(record: SessionRecord, name: string): unknown {
  return record.capabilities?.value[name]
}
