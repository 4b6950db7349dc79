/** What no connection took: the events of a session's streams, kept for clients that come back (`Last-Event-ID`). */

import type { RequestId } from '../types.ts'

/** A value, or a promise of it: a log in memory answers at once, one on disk later. */
export type Awaitable<T> = T | PromiseLike<T>

/** One logged event of one stream. */
export interface LoggedEvent {
  /** Position in its stream; grows, not necessarily by one. */
  readonly position: number
  /** The JSON-RPC message, serialized. */
  readonly data: string
}

/** What {@link EventLog.read} gives. */
export interface EventLogPage {
  /** Events after the cursor that are still there, in order. */
  readonly events: readonly LoggedEvent[]
  /** The highest position of this stream that was trimmed or never kept; 0 when none. A cursor below it has a gap. */
  readonly trimmed: number
}

/** An answer that travelled on a stream: where, and to which request. Known for as long as its stream, even when its event was trimmed. */
export interface LoggedAnswer {
  readonly position: number
  readonly id: RequestId
}

/** A stream as a log that outlives its process remembers it. */
export interface RestoredStream {
  /** The session's key. */
  readonly session: string
  readonly stream: number
  /** Requests the stream was opened for, as {@link EventLog.openStream} was told; empty for the GET stream. */
  readonly requests: readonly RequestId[]
  /** The highest position that was ever appended, whether or not it is still there; 0 when none. */
  readonly position: number
  /** The answers that were appended. */
  readonly answers: readonly LoggedAnswer[]
}

/**
 * Bounded storage of stream events, keyed by session first, so that no cursor reaches another session's events. A session's key is the
 * SHA-256 of its id (base64url): the id is a credential, and no log gets it. Implementations keep the order of appends per stream and may
 * trim the oldest whenever a bound is reached. Every promise must settle: an event is sent only after its append has. A log given as an
 * option may serve several apps; it is closed by whoever made it.
 */
export interface EventLog {
  /** Stores an event. When it returns (or resolves), the event is kept until trimmed or dropped. `answer` is the request that it answers. */
  append(session: string, stream: number, position: number, data: string, answer?: RequestId): Awaitable<void>
  /** The events of a stream after `after`, and whether any were trimmed. */
  read(session: string, stream: number, after: number): Awaitable<EventLogPage>
  /** Forgets one stream of a session. */
  dropStream(session: string, stream: number): Awaitable<void>
  /** Forgets everything of a session. */
  dropSession(session: string): Awaitable<void>
  /** Releases what the log holds; idempotent. */
  close(): Awaitable<void>
  /**
   * A stream was opened for these requests. Only logs that outlive their process have it: no client gets a cursor of the stream before
   * this has settled, and after a restart {@link EventLog.restore} tells what became of the requests.
   */
  openStream?(session: string, stream: number, requests: readonly RequestId[]): Awaitable<void>
  /** Every stream the log knows, in batches. Only logs that outlive their process have it; called once, when the app starts. */
  restore?(): AsyncIterable<readonly RestoredStream[]>
}
