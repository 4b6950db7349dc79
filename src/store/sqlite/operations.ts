/** What the main thread and the store's thread say to each other. */

import type { RequestId } from '../../types.ts'
import type { EventLogPage, RestoredStream } from '../../stream/event-log.ts'
import type { EventLogLimits } from '../../stream/memory-event-log.ts'
import type { StoredSession, StoredUse, StoreOwnership } from '../session-store.ts'

/** One operation. Tuples, because they are cloned between threads thirty thousand times a second. */
export type Operation =
  | readonly ['save', StoredSession]
  | readonly ['touch', at: number, uses: readonly StoredUse[]]
  | readonly ['delete', key: string]
  | readonly ['load', after: number]
  | readonly [
      'append',
      session: string,
      stream: number,
      position: number,
      data: string,
      answer: RequestId | undefined,
    ]
  | readonly ['read', session: string, stream: number, after: number]
  | readonly ['openStream', session: string, stream: number, requests: readonly RequestId[]]
  | readonly ['dropStream', session: string, stream: number]
  | readonly ['dropSession', session: string]
  | readonly ['restore', after: StreamCursor | undefined]

/** Where the reading of all streams goes on. */
export type StreamCursor = readonly [session: string, stream: number]

/** One batch of sessions, and where the next one begins. */
export interface SessionPage {
  readonly sessions: readonly StoredSession[]
  /** Undefined after the last one. */
  readonly next: number | undefined
}

/** One batch of streams, and where the next one begins. */
export interface StreamPage {
  readonly streams: readonly RestoredStream[]
  /** Undefined after the last one. */
  readonly next: StreamCursor | undefined
}

/** What an operation gives. */
export type Outcome = undefined | SessionPage | StreamPage | EventLogPage | Failed

/** An operation that failed alone, while others of its batch did not. */
export interface Failed {
  readonly failed: string
}

/** How a file is kept. */
export interface SqliteFileOptions {
  readonly path: string
  readonly durability: 'full' | 'relaxed'
  /** Most bytes of the file and its WAL together. */
  readonly maxSize: number
  readonly limits: EventLogLimits
}

/** From the main thread. */
export type ToWorker =
  | { readonly type: 'open' }
  | { readonly type: 'batch'; readonly operations: readonly Operation[] }
  | { readonly type: 'close' }

/** To the main thread. */
export type FromWorker =
  | { readonly type: 'waiting' }
  | { readonly type: 'opened'; readonly ownership: StoreOwnership }
  /** `open` failed for good. */
  | { readonly type: 'refused'; readonly message: string }
  /** The batch is done; outcomes are left out when nothing was asked. */
  | { readonly type: 'done'; readonly outcomes: readonly Outcome[] | undefined }
  /** Nothing of the batch was acknowledged. */
  | { readonly type: 'failed'; readonly message: string }
  | { readonly type: 'failing'; readonly message: string }
  | { readonly type: 'recovered'; readonly emptied: boolean }
  | { readonly type: 'lost'; readonly message: string }
  | { readonly type: 'warning'; readonly message: string }
  | { readonly type: 'closed' }
