/** What all sessions of one manager share. */

import type { Clock } from '../clock.ts'
import type { Deadlines } from '../deadlines.ts'
import type { Log } from '../logging.ts'
import type { ResolvedOptions } from '../settings.ts'
import type { EventLog } from '../stream/event-log.ts'
import type { CreateServer } from '../types.ts'
import type { EventHub } from './events.ts'

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
