/** The stores and logs of this package as the conformance checks take them. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { MemorySessionStore } from '../../src/store/memory-store.ts'
import type { SessionStore, StoreEvents, StoreOwnership } from '../../src/store/session-store.ts'
import { sqliteStore, type SqliteStoreOptions } from '../../src/store/sqlite/sqlite-store.ts'
import type { EventLog } from '../../src/stream/event-log.ts'
import { type EventLogLimits, MemoryEventLog } from '../../src/stream/memory-event-log.ts'
import type { EventLogSubject, SessionStoreSubject } from '../../src/testing.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

/** Small, so that checks reach them. */
export const LIMITS: EventLogLimits = {
  maxBytes: 32 * 1024,
  maxEvents: 60,
  maxAge: 60_000,
  maxTotalBytes: 100 * 1024,
}

/** Events of a store that nobody listens to. */
export const SILENT: StoreEvents = { waiting() {}, lost() {}, failing() {}, recovered() {} }

/** Opens a store as a test does, under a deadline. */
export function openStore(store: SessionStore, events: Partial<StoreEvents> = {}): Promise<StoreOwnership> {
  return store.open({ ...SILENT, ...events }, AbortSignal.timeout(10_000))
}

/** The event log of a store that has one. */
export function logOf(store: SessionStore): EventLog {
  if (store.eventLog === undefined) throw new Error('the store has no event log')
  return store.eventLog
}

/** A directory that is gone after the test. */
export function temporary(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'sojourn-store-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

export function memorySubject(): SessionStoreSubject {
  let store: MemorySessionStore | undefined
  return {
    connect() {
      store = store?.successor() ?? new MemorySessionStore()
      return store
    },
  }
}

export function sqliteSubject(options: SqliteStoreOptions = {}): SessionStoreSubject {
  const directory = temporary()
  return {
    connect: () => sqliteStore(join(directory.path, 'sessions.db'), options),
    dispose: () => directory.remove(),
  }
}

export function memoryLog(): EventLogSubject {
  const clock = new VirtualClock()
  return {
    log: new MemoryEventLog(clock, LIMITS),
    limits: LIMITS,
    passTime: (milliseconds) => clock.advance(milliseconds),
  }
}

export async function memoryStoreLog(): Promise<EventLogSubject> {
  const clock = new VirtualClock()
  let store = new MemorySessionStore({ clock, eventLog: LIMITS })
  await openStore(store)
  return {
    log: store.eventLog,
    limits: LIMITS,
    passTime: (milliseconds) => clock.advance(milliseconds),
    async restart() {
      store.kill()
      store = store.successor()
      await openStore(store)
      return store.eventLog
    },
  }
}

/** @param maxAge real milliseconds */
export async function sqliteLog(maxAge = 60_000): Promise<EventLogSubject> {
  const directory = temporary()
  const limits = { ...LIMITS, maxAge }
  const path = join(directory.path, 'sessions.db')
  let store = sqliteStore(path, { eventLog: limits })
  await openStore(store)
  return {
    log: logOf(store),
    limits,
    ...(maxAge < 1000 && {
      passTime: (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds)),
    }),
    async restart() {
      await store.close()
      store = sqliteStore(path, { eventLog: limits })
      await openStore(store)
      return logOf(store)
    },
    async dispose() {
      await store.close()
      directory.remove()
    },
  }
}
