/** How an app stops: no new sessions, running calls finish, streams end a few at a time, then every session ends. */

import { DeadlineCall } from '../deadlines.ts'
import type { PerRequestLeg } from '../per-request/per-request-leg.ts'
import type { ResolvedOptions } from '../options.ts'
import type { Announcements } from './announcements.ts'
import type { Refusal } from './refusal.ts'
import type { Runtime } from './runtime.ts'
import type { Session } from './session.ts'
import type { Sessions } from './sessions.ts'

/** How long closing sessions may go on before the event loop gets a turn, in milliseconds. */
const CLOSE_SLICE = 8

/** So many streams end at once, so often in milliseconds: at most 2,000 a second, or whoever is asked next is overrun. */
const STREAM_BATCH = 100
const BATCH_INTERVAL = 50

/** Authors' hooks get this long even when the drain time is over, in milliseconds. */
const LEAST_HOOK_TIME = 500

const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2

/** How soon at the earliest clients are told to come back to an app that closes, in milliseconds. */
export function restartWait({ restartGrace, retryInterval }: ResolvedOptions): number {
  return Math.max(restartGrace, retryInterval)
}

/** What a {@link Shutdown} puts an end to. */
export interface ShutdownHost {
  readonly runtime: Runtime
  readonly sessions: Sessions
  readonly notify: Announcements
  readonly perRequest: PerRequestLeg | undefined
  /** Every `initialize` on its way, as what makes it fail. */
  readonly openings: Iterable<(refusal: Refusal) => void>
  /** All sessions there are, those of one POST included. */
  all(): Iterable<Session>
  /** Writes what is left, and closes what only this app uses. */
  closeStores(): Promise<void>
}

/**
 * - `serving`: as ever.
 * - `draining`: nothing opens; what runs goes on, and so does what comes to a session.
 * - `ending`: no call begins any more; what runs may still finish.
 * - `over`: no session is left.
 */
type ShutdownState = 'serving' | 'draining' | 'ending' | 'over'

/** The end of one app. */
export class Shutdown {
  readonly #host: ShutdownHost
  #state: ShutdownState = 'serving'
  #done: Promise<void> | undefined
  /** Ends a pause early. */
  #wake: (() => void) | undefined
  /** How many clients were told when to come back. */
  #told = 0

  constructor(host: ShutdownHost) {
    this.#host = host
  }

  get state(): ShutdownState {
    return this.#state
  }

  /** Ends everything; calls may run for `drain` milliseconds more. Idempotent: later calls wait for the first. */
  begin(drain: number): Promise<void> {
    this.#done ??= this.#shutDown(drain)
    return this.#done
  }

  async #shutDown(drain: number): Promise<void> {
    const { sessions, notify, perRequest, openings } = this.#host
    this.#state = 'draining'
    perRequest?.drain()
    // What is not open by now will not be: nobody has to wait for it.
    for (const refuse of [...openings]) refuse(this.#host.runtime.shuttingDown)
    const { clock } = this.#host.runtime
    const deadline = clock.now() + drain
    if (drain > 0) await this.#drain(drain)
    this.#state = 'ending'
    if (this.#host.runtime.keeper !== undefined) await this.#runSleepHooks(deadline)
    notify.close()
    await perRequest?.close()
    await this.#endSessions()
    sessions.end()
    this.#state = 'over'
    await this.#host.closeStores()
  }

  /**
   * Lets calls finish and ends GET streams, those of quiet sessions first: while a call runs, its session's GET may have to carry what
   * the call asks its client. Calls that come meanwhile are served for as long as those from before run, and refused after.
   */
  async #drain(duration: number): Promise<void> {
    const { clock, load, log } = this.#host.runtime
    const begun = clock.now()
    const waiting = new Set<Session>()
    for (const session of this.#host.all()) if (session.standaloneOpen) waiting.add(session)
    void load.idle().then(() => this.#wake?.())
    while (true) {
      const ended = this.#endStreams(waiting)
      if (load.running === 0 && waiting.size === 0) return
      if (ended < STREAM_BATCH && !this.#callsRunSince(begun)) this.#state = 'ending'
      const left = begun + duration - clock.now()
      if (left <= 0) break
      await this.#pause(Math.min(BATCH_INTERVAL, left), ended === 0)
    }
    if (load.running > 0) {
      log.warn('the drain time is over: calls that still run are answered with an error', {
        running: load.running,
        option: 'drainTimeout',
      })
    }
  }

  /** Ends a batch of GET streams, of sessions in which no call runs, and forgets those sessions. Returns how many streams that were. */
  #endStreams(waiting: Set<Session>): number {
    let ended = 0
    for (const session of waiting) {
      if (ended === STREAM_BATCH) break
      if (session.running > 0) continue
      waiting.delete(session)
      if (!session.standaloneOpen) continue
      ended += 1
      session.streams.standalone.endConnection(this.#retry())
    }
    return ended
  }

  /** Whether a call runs that had begun by then. Calls without a session all had: others are refused. */
  #callsRunSince(time: number): boolean {
    let inSessions = 0
    for (const session of this.#host.all()) {
      if (session.running === 0) continue
      inSessions += session.running
      if (session.requests.all().some(({ startedAt }) => startedAt <= time)) return true
    }
    return this.#host.runtime.load.running > inSessions
  }

  /** Waits; where that breaks no batch off, only until the first moment at which no call runs. */
  async #pause(duration: number, mayWake: boolean): Promise<void> {
    const { deadlines } = this.#host.runtime
    await new Promise<void>((resolve) => {
      const deadline = new DeadlineCall(resolve)
      deadlines.arm(deadline, duration)
      if (!mayWake) return
      this.#wake = () => {
        deadlines.disarm(deadline)
        resolve()
      }
    })
    this.#wake = undefined
  }

  /**
   * When the next client is told to come back, in milliseconds: not before a new process may be there, and each at a time of its own. Steps
   * of the golden ratio spread any number of them evenly, which chance does not.
   */
  #retry(): number {
    this.#told += 1
    return restartWait(this.#host.runtime.options) * (1 + ((this.#told * GOLDEN_RATIO) % 1))
  }

  /** With a store the sessions live on: what their authors hold in memory is put down, in what is left of the time, or a moment. */
  async #runSleepHooks(until: number): Promise<void> {
    const { clock, deadlines } = this.#host.runtime
    const running: Promise<boolean>[] = []
    for (const session of this.#host.all()) if (!session.ephemeral) running.push(session.runSleepHooks())
    await new Promise<void>((resolve) => {
      const deadline = new DeadlineCall(resolve)
      deadlines.arm(deadline, Math.max(until - clock.now(), LEAST_HOOK_TIME))
      void Promise.all(running).then(() => {
        deadlines.disarm(deadline)
        resolve()
      })
    })
  }

  /** The last step of every session, whatever is still open or runs in it. */
  async #endSessions(): Promise<void> {
    const { clock } = this.#host.runtime
    let sliceStart = clock.now()
    for (const session of [...this.#host.all()]) {
      session.close('shutdown', undefined, this.#retry())
      if (clock.now() - sliceStart < CLOSE_SLICE) continue
      await new Promise<void>((resolve) => clock.afterInput(resolve, 0))
      sliceStart = clock.now()
    }
  }
}
