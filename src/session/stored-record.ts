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
  if (!isObject(stored) || typeof stored['protocolVersion'] !== 'string' || !isObject(stored['initialize']))
    throw new SojournError('store-unavailable', `The record of session ${id} is not one of Sojourn's`)
  if (stored['form'] !== FORM) {
    throw new SojournError(
      'store-unavailable',
      `The record of session ${id} has the form ${String(stored['form'])}; this version knows ${FORM}`,
    )
  }
  const { principal, logLevel, subscriptions } = stored
  return {
    id,
    principal: typeof principal === 'string' ? principal : undefined,
    createdAt: Number(stored['createdAt']),
    initialize: shared.hold(JSON.stringify(stored['initialize'])),
    protocolVersion: stored['protocolVersion'],
    capabilities: shared.hold(JSON.stringify(stored['capabilities'])),
    initialized: stored['initialized'] === true,
    used: stored['used'] === true,
    changed: stored['changed'] === true,
    logLevel: typeof logLevel === 'string' ? logLevel : undefined,
    subscriptions: Array.isArray(subscriptions) ? new Set(subscriptions.map(String)) : undefined,
    data: frozen((stored['data'] ?? {}) as JsonValue),
    serverRequests: 0,
    streams: Number(stored['streams']),
    delivered: Number(stored['delivered']),
    primings: 0,
  }
}
