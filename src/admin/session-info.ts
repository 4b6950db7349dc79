/** What an administrator is shown of a session: plain JSON, with neither its id nor anyone's token. */

import type { SessionHandle } from '../session/sessions.ts'
import type { StoredSession } from '../store/session-store.ts'
import type { ClientIdentity, JsonValue } from '../types.ts'

/** One session in a list. */
export interface SessionInfo {
  /** The first 8 characters of its id; the whole is a credential. */
  readonly session: string
  readonly principal: string | null
  readonly client: ClientIdentity | null
  /** `asleep`: only its record is kept. */
  readonly state: 'active' | 'idle' | 'asleep'
  /** Wall clock as an ISO 8601 text. */
  readonly createdAt: string
  /** Since when nothing holds it; null while something does. */
  readonly idleSince: string | null
  /** Milliseconds until it ends if nothing happens; null while nothing would end it, or where no server runs that could. */
  readonly endsIn: number | null
  /** Calls running now. */
  readonly calls: number
  /** SSE connections open now. */
  readonly streams: number
}

/** Everything about one session. */
export interface SessionDetails extends SessionInfo {
  readonly protocolVersion: string
  /** URIs the client subscribed to. */
  readonly subscriptions: readonly string[]
  /** How large `session.data` is as JSON, in bytes. */
  readonly dataBytes: number
  /** `session.data`, where it was asked for. */
  readonly data?: JsonValue
}

/** A session of a running server. */
export function infoOf(handle: SessionHandle): SessionInfo {
  const { label, principal, client, state, awake, createdAt, idleSince, expiresIn, requests, streams } =
    handle
  return {
    session: label,
    principal: principal ?? null,
    client: client === undefined ? null : { name: client.name, version: client.version },
    // While an instance is being built again, the calls that wait for it run already.
    state: !awake && requests === 0 ? 'asleep' : state === 'active' ? 'active' : 'idle',
    createdAt: new Date(createdAt).toISOString(),
    idleSince: idleSince === undefined ? null : new Date(idleSince).toISOString(),
    endsIn: expiresIn === undefined ? null : Math.round(expiresIn),
    calls: requests,
    streams,
  }
}

/** The same with everything that is only wanted of one. */
export function detailsOf(handle: SessionHandle, withData: boolean): SessionDetails {
  const { protocolVersion, subscriptions, data } = handle
  return { ...infoOf(handle), protocolVersion, subscriptions, ...shownData(data, withData) }
}

/** A session in the store of a server that does not run. `aliveAt`: when that lived last. */
export function infoOfStored(stored: StoredSession, aliveAt: number | undefined): SessionInfo {
  const { principal, createdAt, initialize } = recordOf(stored)
  // What was in use when its server died is idle since then.
  const idleSince = stored.idleSince ?? aliveAt
  return {
    session: stored.label,
    principal: typeof principal === 'string' ? principal : null,
    client: clientOf(initialize),
    state: 'asleep',
    createdAt: isoTime(createdAt) ?? '',
    idleSince: isoTime(idleSince),
    endsIn: null,
    calls: 0,
    streams: 0,
  }
}

/** The same with everything that is only wanted of one. */
export function detailsOfStored(
  stored: StoredSession,
  aliveAt: number | undefined,
  withData: boolean,
): SessionDetails {
  const { protocolVersion, subscriptions, data = {} } = recordOf(stored)
  return {
    ...infoOfStored(stored, aliveAt),
    protocolVersion: String(protocolVersion ?? ''),
    subscriptions: Array.isArray(subscriptions) ? subscriptions.map(String) : [],
    ...shownData(data as JsonValue, withData),
  }
}

function shownData(data: JsonValue, withData: boolean): { dataBytes: number; data?: JsonValue } {
  return { dataBytes: Buffer.byteLength(JSON.stringify(data)), ...(withData ? { data } : {}) }
}

/** The members of a stored record; none where a newer version of this package wrote something else. */
function recordOf({ record }: StoredSession): Readonly<Record<string, unknown>> {
  try {
    return objectOr(JSON.parse(record))
  } catch {
    return {}
  }
}

function clientOf(initialize: unknown): ClientIdentity | null {
  const { clientInfo } = objectOr(initialize)
  const { name, version } = objectOr(clientInfo)
  return typeof name === 'string' ? { name, version: typeof version === 'string' ? version : '' } : null
}

function objectOr(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {}
}

function isoTime(time: unknown): string | null {
  return typeof time === 'number' && Math.abs(time) < 8.64e15 ? new Date(time).toISOString() : null
}
