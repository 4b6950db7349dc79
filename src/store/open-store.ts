/** The store that the option `store` names. */

import type { ByteSize, Durability } from '../types.ts'
import type { SessionStore } from './session-store.ts'
import { sqliteStore } from './sqlite/sqlite-store.ts'

/** What a store that is named as text is made with, resolved. */
export interface StoreSettings {
  readonly store: string | SessionStore
  readonly durability: Durability
  readonly maxStoreSize: ByteSize
  readonly eventLogMaxBytes: number
  readonly eventLogMaxEvents: number
  readonly eventLogMaxAge: number
  readonly eventLogMaxTotalBytes: number
}

const SQLITE = 'sqlite:'

/** The store; undefined for `memory`, which keeps nothing beyond the process. */
export function openStore(settings: StoreSettings): SessionStore | undefined {
  const { store } = settings
  if (typeof store !== 'string') return store
  if (!store.startsWith(SQLITE)) return undefined
  return sqliteStore(store.slice(SQLITE.length), {
    durability: settings.durability,
    maxSize: settings.maxStoreSize,
    eventLog: {
      maxBytes: settings.eventLogMaxBytes,
      maxEvents: settings.eventLogMaxEvents,
      maxAge: settings.eventLogMaxAge,
      maxTotalBytes: settings.eventLogMaxTotalBytes,
    },
  })
}
