/** What all sessions of one manager share. */

import type { Clock } from '../clock.ts'
import type { Deadlines } from '../deadlines.ts'
import type { Log } from '../logging.ts'
import type { ResolvedOptions } from '../options.ts'
import type { EventLog } from '../stream/event-log.ts'
import type { CreateServer } from '../types.ts'
import type { AwakeSessions } from './awake-sessions.ts'
import type { EventHub } from './events.ts'
import type { MemoryPressure } from './memory-pressure.ts'
import type { Refusal } from './refusal.ts'
import type { Session } from './session.ts'
import type { Revocations } from './revocations.ts'
import type { SharedJsonPool } from './shared-json.ts'

/** Shared by the sessions of one manager; two managers in one process share nothing. */
export interface Runtime {
  readonly createServer: CreateServer
  readonly options: ResolvedOptions
  readonly clock: Clock
  readonly deadlines: Deadlines
  readonly eventLog: EventLog | undefined
  readonly hub: EventHub
  readonly log: Log
  readonly load: Load
  /** What is told to who comes while the app closes. */
  readonly shuttingDown: Refusal
  /** Whose access was ended. */
  readonly revocations: Revocations
  /** JSON that sessions have in common. */
  readonly shared: SharedJsonPool
  /** Who is awake; undefined where nothing ever sleeps. */
  readonly awake: AwakeSessions | undefined
  /** Watches the heap; undefined where nobody does. */
  readonly memory: MemoryPressure | undefined
  /** Keeps sessions beyond the process; undefined where there is no store. */
  readonly keeper: Keeper | undefined
  /** Logs a warning the first time it is given. */
  warnOnce(message: string, details: Readonly<Record<string, unknown>>): void
}

/** What a session tells whoever keeps it in a store. */
export interface Keeper {
  /** Keeps a session that is about to be opened: durable when this resolves. Rejects when the store does not take it. */
  add(session: Session): Promise<void>
  /** The record changed: it is written soon, and before the next answer. */
  changed(session: Session): void
  /** Messages were taken by the client: written soon, but nothing waits for it. */
  delivered(session: Session): void
  /** Writes what an answer has to wait for; undefined when that is nothing. Rejects when the store does not take it. */
  commit(session: Session): Promise<void> | undefined
  /** Tells the store that the session is in use; undefined when it knows. Never rejects. */
  expectUse(session: Session): Promise<void> | undefined
  /** Something holds the session. */
  busy(session: Session): void
  /** Nothing holds it any more. */
  idle(session: Session): void
  /** The session ended. */
  forget(session: Session): void
  /** Whether the end of a session that was forgotten is durable; undefined when it is. Resolves with false when the store does not take it. */
  ended(session: Session): Promise<boolean> | undefined
  /** The session goes to sleep with its process. */
  leave(session: Session): void
}

/** How many requests run in all sessions, and who waits for them to end. */
export class Load {
  #running = 0
  #waiting: (() => void)[] = []

  /** Requests running now. */
  get running(): number {
    return this.#running
  }

  /** A request was handed to an instance. */
  started(): void {
    this.#running += 1
  }

  /** A request was answered or reported. */
  ended(): void {
    this.#running -= 1
    if (this.#running > 0) return
    const waiting = this.#waiting
    this.#waiting = []
    for (const resolve of waiting) resolve()
  }

  /** Resolves when nothing runs. */
  idle(): Promise<void> {
    if (this.#running === 0) return Promise.resolve()
    return new Promise((resolve) => this.#waiting.push(resolve))
  }
}
