/** Where sessions are kept that outlive their process. */

import type { EventLog } from '../stream/event-log.ts'

/** A session as a store keeps it. */
export interface StoredSession {
  /** SHA-256 of the session id (base64url). Without authentication the id is the credential: no store gets it. */
  readonly key: string
  /** The first 8 characters of the id, for people. */
  readonly label: string
  /** The session's record without its id, as JSON. */
  readonly record: string
  /** Wall clock (milliseconds since the Unix epoch) since when nothing holds the session; undefined while it is in use. */
  readonly idleSince: number | undefined
}

/** What changed about the use of a session. */
export interface StoredUse {
  readonly key: string
  /** As {@link StoredSession.idleSince}. */
  readonly idleSince: number | undefined
}

/** How {@link SessionStore.open} tells what it waits for, and what happens after it. */
export interface StoreEvents {
  /** Another process owns the store; `open` goes on waiting for it to be gone. Called once. */
  waiting(): void
  /**
   * The store is lost to this process: another one has taken it (a newer epoch), so that nothing may be served from here on. Called at
   * most once, after `open` has resolved.
   */
  lost(error: Error): void
  /** The store does not work at the moment, and why; what needs it is refused. Called at each change. */
  failing(error: Error): void
  /**
   * The store works again. `emptied`: what it held is gone (its file was deleted), so that every session must be saved again and every
   * event before counts as trimmed.
   */
  recovered(emptied: boolean): void
  /** One line for the log: something kept was damaged, and what became of it. */
  warning?(message: string): void
}

/** What {@link SessionStore.open} resolves with. */
export interface StoreOwnership {
  /** Grows with every owner of the store, from 1. A writer with an old epoch is refused. */
  readonly epoch: number
  /** The last {@link SessionStore.touch} of the owner before: wall clock, milliseconds since the Unix epoch; undefined when there was none. */
  readonly aliveAt: number | undefined
}

/**
 * Keeps sessions over restarts. One process owns a store at a time. The app keeps every session in memory as well: the store is read once,
 * by {@link SessionStore.load}, and written from then on.
 *
 * A promise of a write resolves when the write is durable as configured, and rejects with a SojournError `store-unavailable` whose message
 * says what to do; the store goes on trying to recover by itself. Writes take effect in the order of the calls.
 */
export interface SessionStore {
  /** The event log that keeps its events in the same place; used unless the option `eventLog` says otherwise. */
  readonly eventLog?: EventLog
  /**
   * Makes this process the owner; waits while another one is. Called once, before everything else.
   * @param signal gives up waiting; `open` rejects then
   * @throws SojournError `store-unavailable` for a store that cannot be used at all: corrupt, of a newer schema, no permission
   */
  open(events: StoreEvents, signal: AbortSignal): Promise<StoreOwnership>
  /** Every session, in batches, in the order they were first saved. */
  load(): AsyncIterable<readonly StoredSession[]>
  /** Keeps a session: a new one, or in place of what is kept under its key. */
  save(session: StoredSession): Promise<void>
  /** Notes at `at` (wall clock) that this process lives, and which sessions became idle or busy. Unknown keys are ignored. */
  touch(at: number, uses: readonly StoredUse[]): Promise<void>
  /** Forgets a session, and its events where they are kept in the same place. */
  delete(key: string): Promise<void>
  /** Writes what is left and gives the ownership up; idempotent. */
  close(): Promise<void>
}
