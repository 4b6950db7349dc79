/** What the streams of one session need from it. */

import type { Clock } from '../clock.ts'
import type { Deadlines } from '../deadlines.ts'
import type { StreamKind } from '../session/events.ts'
import type { EventLog } from './event-log.ts'

/** Times and bounds of streams; milliseconds and bytes. */
export interface StreamOptions {
  readonly retryInterval: number
  readonly keepAliveInterval: number
  readonly streamMaxAge: number
  readonly unsentTimeout: number
  readonly maxStreamBuffer: number
}

/** The session side of its streams. */
export interface StreamContext {
  readonly deadlines: Deadlines
  readonly clock: Clock
  readonly options: StreamOptions
  /** Monotonic time in milliseconds. */
  now(): number
  /** Where events are kept; undefined when resuming is off. */
  readonly eventLog: EventLog | undefined
  /** The session's key in the event log. */
  readonly logKey: string
  /** Whether SSE streams may start with an event of empty data (protocol 2025-11-25 and later, with an event log). */
  readonly primes: boolean
  /** The id of an event, to be sent back in `Last-Event-ID`. */
  eventId(stream: number, position: number): string
  /** A number that no priming event of the session had before, in this process or an earlier one. */
  nextPriming(): number
  /** A connection took a message that none had taken before. */
  taken(stream: number, position: number): void
  /** An SSE connection was attached. */
  connectionOpened(stream: number, kind: StreamKind): void
  /** It ended. */
  connectionClosed(stream: number, kind: StreamKind, durationMs: number): void
  /** An event log failed; the stream goes on without it. */
  logFailed(thrown: unknown): void
}
