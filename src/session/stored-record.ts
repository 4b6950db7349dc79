/** A session's record as a store keeps it: JSON, without the id. */

import { SojournError } from '../errors.ts'
import { isObject } from '../json.ts'
import type { JsonValue } from '../types.ts'
import { frozen, type SessionRecord } from './session-record.ts'
import type { SharedJsonPool } from './shared-json.ts'

/** The form below. A newer one comes from a newer version of this package. */
const FORM = 1

/** A record as text. What the client and the server declared is JSON already, and taken over as it is. */
export function recordToJson(record: SessionRecord): string {
  const { principal, createdAt, protocolVersion, initialized, used, changed, logLevel, data } = record
  const rest = JSON.stringify({
    form: FORM,
    principal,
    createdAt,
    protocolVersion,
    initialized,
    used,
    changed,
    logLevel,
    subscriptions: record.subscriptions === undefined ? undefined : [...record.subscriptions],
    streams: record.streams,
    delivered: record.delivered,
    data,
  })
  const capabilities = record.capabilities?.text ?? '{}'
  return `${rest.slice(0, -1)},"initialize":${record.initialize.text},"capabilities":${capabilities}}`
}

/**
 * A record from what {@link recordToJson} made of it. `id`: what stands for the id until its client comes.
 * @throws SojournError `store-unavailable` for what it cannot have made
 */
export function recordFromJson(json: string, id: string, shared: SharedJsonPool): SessionRecord {
  let stored: unknown
  try {
    stored = JSON.parse(json)
  } catch (thrown) {
    throw new SojournError('store-unavailable', `The record of session ${id} is not JSON`, { cause: thrown })
  }
  const wrong = (what: string, cause?: unknown): SojournError =>
    new SojournError('store-unavailable', `The record of session ${id} ${what}`, { cause })
  if (!isObject(stored)) throw wrong("is not one of Sojourn's")
  if (stored['form'] !== FORM)
    throw wrong(`has the form ${String(stored['form']).slice(0, 20)}; this version knows ${FORM}`)
  const { principal, createdAt, protocolVersion, initialize, capabilities, streams, delivered } = stored
  const { logLevel, subscriptions, data = {} } = stored
  // A file may be damaged and still be JSON: a time that is none would never come, and nothing behind it either.
  if (typeof protocolVersion !== 'string') throw wrong('has no protocolVersion')
  if (!isObject(initialize) || !isObject(capabilities))
    throw wrong('has no initialize params or capabilities')
  if (!isTime(createdAt)) throw wrong('has no time in createdAt')
  if (!isPosition(streams) || !isPosition(delivered)) throw wrong('has no number in streams or delivered')
  // To take it for none would hand the session to whoever is not logged in.
  if (principal !== undefined && typeof principal !== 'string') throw wrong('has no name in principal')
  let texts: readonly [initialize: string, capabilities: string]
  try {
    texts = [JSON.stringify(initialize), JSON.stringify(capabilities)]
    frozen(data as JsonValue)
  } catch (thrown) {
    throw wrong('is nested too deeply', thrown)
  }
  return {
    id,
    principal,
    createdAt,
    initialize: shared.hold(texts[0]),
    protocolVersion,
    capabilities: shared.hold(texts[1]),
    initialized: stored['initialized'] === true,
    used: stored['used'] === true,
    changed: stored['changed'] === true,
    logLevel: typeof logLevel === 'string' ? logLevel : undefined,
    subscriptions: Array.isArray(subscriptions) ? new Set(subscriptions.map(String)) : undefined,
    data: data as JsonValue,
    serverRequests: 0,
    streams,
    delivered,
    primings: 0,
  }
}

/** The farthest that a `Date` reaches, in milliseconds from the Unix epoch. */
const LAST_DATE = 8.64e15

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Math.abs(value) <= LAST_DATE
}

function isPosition(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0
}
