/** What no connection took: the events of a session's streams, kept for clients that come back (`Last-Event-ID`). */

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

/**
 * Bounded storage of stream events, keyed by session first, so that no cursor reaches another session's events. Implementations keep
 * the order of appends per stream and may trim the oldest whenever a bound is reached. Every promise must settle: an event is sent only
 * after its append has. A log given as an option may serve several apps; it is closed by whoever made it.
 */
export interface EventLog {
  /** Stores an event. When it returns (or resolves), the event is kept until trimmed or dropped. */
  append(session: string, stream: number, position: number, data: string): Awaitable<void>
  /** The events of a stream after `after`, and whether any were trimmed. */
  read(session: string, stream: number, after: number): Awaitable<EventLogPage>
  /** Forgets one stream of a session. */
  dropStream(session: string, stream: number): Awaitable<void>
  /** Forgets everything of a session. */
  dropSession(session: string): Awaitable<void>
  /** Releases what the log holds; idempotent. */
  close(): Awaitable<void>
}
