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
}
