/** The thread of a SQLite store: every wait for the disk happens here. */

import { type MessagePort, parentPort, workerData } from 'node:worker_threads'

import { messageOf, SojournError } from '../../errors.ts'
import { loadSqlite, SqliteCode, sqliteCode } from './driver.ts'
import { OwnershipLost, SqliteEngine } from './engine.ts'
import type { FromWorker, Operation, SqliteFileOptions, ToWorker } from './operations.ts'

/** How often it is tried to take the lock of another process, in milliseconds. */
const POLL = 250

/** Time between two rounds of housekeeping, or attempts to use a file again that stopped working, in milliseconds. */
const TICK = 1000

class StoreThread {
  readonly #port: MessagePort
  readonly #engine: SqliteEngine
  #waiting = false
  #closed = false
  #lost: string | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(port: MessagePort, engine: SqliteEngine) {
    this.#port = port
    this.#engine = engine
  }

  take(message: ToWorker): void {
    if (message.type === 'open') this.#open()
    else if (message.type === 'batch') this.#batch(message.operations)
    else this.#close()
  }

  #open(): void {
    if (this.#closed) return
    try {
      if (!this.#engine.tryLock()) {
        this.#wait()
        return
      }
      const ownership = this.#engine.open()
      this.#say({ type: 'opened', ownership })
      this.#tickAfter(TICK)
    } catch (error) {
      this.#engine.close()
      if (error instanceof SojournError && sqliteCode(error.cause) === SqliteCode.busy) this.#wait()
      else this.#say({ type: 'refused', message: messageOf(error) })
    }
  }

  #wait(): void {
    if (!this.#waiting) this.#say({ type: 'waiting' })
    this.#waiting = true
    this.#timer = setTimeout(() => this.#open(), POLL)
  }

  #batch(operations: readonly Operation[]): void {
    try {
      if (this.#lost !== undefined) throw new OwnershipLost(this.#lost)
      const healthy = this.#engine.fault === undefined
      try {
        const outcomes = this.#engine.apply(operations)
        const asked = outcomes.some((outcome) => outcome !== undefined)
        this.#say({ type: 'done', outcomes: asked ? outcomes : undefined })
      } catch (error) {
        this.#noteFault(error, healthy)
        throw error
      }
    } catch (error) {
      this.#say({ type: 'failed', message: messageOf(error) })
    }
  }

  /** Housekeeping while the file works; otherwise an attempt to use it again. */
  #tick(): void {
    const started = performance.now()
    const healthy = this.#engine.fault === undefined
    const said = this.#engine.fault?.message
    try {
      if (healthy) this.#engine.tidy()
      else this.#say({ type: 'recovered', emptied: this.#engine.recover() })
    } catch (error) {
      // Its reason may have changed, from locked to damaged for instance.
      this.#noteFault(error, healthy || messageOf(error) !== said)
    }
    // A large file that is damaged takes long to check: not all the time goes there.
    if (this.#lost === undefined) this.#tickAfter(Math.max(TICK, (performance.now() - started) * 4))
  }

  #tickAfter(delay: number): void {
    this.#timer = setTimeout(() => this.#tick(), delay)
  }

  #noteFault(error: unknown, news: boolean): void {
    const message = messageOf(error)
    if (error instanceof OwnershipLost) {
      if (this.#lost !== undefined) return
      this.#lost = message
      clearTimeout(this.#timer)
      this.#say({ type: 'lost', message })
    } else if (news) this.#say({ type: 'failing', message })
  }

  #close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#engine.close()
    this.#say({ type: 'closed' })
    this.#port.close()
  }

  #say(message: FromWorker): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of node:worker_threads, not a window
    this.#port.postMessage(message)
  }
}

/** Without a parent this was imported by mistake. */
if (parentPort !== null) {
  const port = parentPort
  // Messages wait in the port until there is a listener.
  try {
    const engine = new SqliteEngine(await loadSqlite(), {
      ...(workerData as SqliteFileOptions),
      now: () => Date.now(),
      warn: (message) => port.postMessage({ type: 'warning', message } satisfies FromWorker),
    })
    const thread = new StoreThread(port, engine)
    port.on('message', (message: ToWorker) => thread.take(message))
  } catch (error) {
    port.postMessage({ type: 'refused', message: messageOf(error) } satisfies FromWorker)
    port.on('message', (message: ToWorker) => {
      if (message.type !== 'close') return
      port.postMessage({ type: 'closed' } satisfies FromWorker)
      port.close()
    })
  }
}
