/** The main thread's side of a store's thread: operations are gathered while it works, and each batch becomes one transaction. */

import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { Worker, type WorkerOptions } from 'node:worker_threads'

import type { SojournError } from '../../errors.ts'
import type { StoreEvents, StoreOwnership } from '../session-store.ts'
import { walReserve } from './engine.ts'
import { unavailable } from './faults.ts'
import type { FromWorker, Operation, Outcome, SqliteFileOptions, ToWorker } from './operations.ts'

/** A transaction has at most so many operations, for those in it wait for each other. */
const MOST_OPERATIONS = 2048

/** After its thread died of something that should not happen, such as memory, another one begins so much later, in milliseconds. */
const RESTART_DELAY = 1000

interface Pending {
  readonly operation: Operation
  readonly size: number
  resolve(outcome: Outcome): void
  reject(error: SojournError): void
}

/** One worker thread and the queue before it. */
export class StoreThread {
  readonly #options: SqliteFileOptions
  readonly #mostBytes: number
  #events: StoreEvents | undefined
  #worker: Worker | undefined
  #opening: { resolve(ownership: StoreOwnership): void; reject(error: SojournError): void } | undefined
  #open = false
  #epoch = 0
  #lost = false
  #queue: Pending[] = []
  #running: readonly Pending[] = []
  #scheduled = false
  /** Why nothing is taken any more: lost, closed, or not opened yet. */
  #refusal: string | undefined
  #closing: Promise<void> | undefined
  #closed: (() => void) | undefined

  constructor(options: SqliteFileOptions) {
    this.#options = options
    this.#mostBytes = walReserve(options.maxSize) / 4
    this.#refusal = `The session store ${options.path} is not open yet.`
  }

  async open(events: StoreEvents, signal: AbortSignal): Promise<StoreOwnership> {
    if (this.#events !== undefined)
      throw unavailable(`The session store ${this.#options.path} is opened once.`)
    this.#events = events
    const abort = (): void => {
      this.#opening?.reject(unavailable(`Waiting for the session store ${this.#options.path} was given up.`))
    }
    try {
      return await new Promise<StoreOwnership>((resolve, reject) => {
        this.#opening = { resolve, reject }
        if (signal.aborted) {
          abort()
          return
        }
        signal.addEventListener('abort', abort, { once: true })
        this.#start()
      })
    } catch (error) {
      await this.close()
      throw error
    } finally {
      this.#opening = undefined
      signal.removeEventListener('abort', abort)
    }
  }

  /** Resolves when the operation is durable. */
  do(operation: Operation): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      if (this.#refusal !== undefined) {
        reject(unavailable(this.#refusal))
        return
      }
      this.#queue.push({ operation, size: sizeOf(operation), resolve, reject })
      this.#schedule()
    })
  }

  /** Writes what is left, and ends the thread; idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    const { path } = this.#options
    if (this.#open) {
      await Promise.allSettled([...this.#running, ...this.#queue].map((pending) => settled(pending)))
    }
    this.#refusal = `The session store ${path} is closed.`
    this.#open = false
    const worker = this.#worker
    if (worker === undefined) return
    worker.ref()
    await new Promise<void>((resolve) => {
      this.#closed = resolve
      this.#say({ type: 'close' })
    })
    this.#worker = undefined
    await worker.terminate()
  }

  #start(): void {
    const worker = startWorker(this.#options)
    this.#worker = worker
    worker.on('message', (message: FromWorker) => this.#take(message))
    worker.on('error', (error) => this.#died(worker, error))
    worker.on('exit', (code) => this.#died(worker, new Error(`it exited with code ${code}`)))
    this.#say({ type: 'open' })
  }

  #take(message: FromWorker): void {
    switch (message.type) {
      case 'waiting':
        if (this.#opening !== undefined) this.#events?.waiting()
        else this.#lose(this.#takenOver())
        break
      case 'opened':
        // After a thread has died: whoever owned the file meanwhile has changed it.
        if (this.#opening === undefined && message.ownership.epoch !== this.#epoch + 1) {
          this.#lose(this.#takenOver())
          break
        }
        this.#epoch = message.ownership.epoch
        this.#refusal = undefined
        this.#open = true
        this.#idle()
        if (this.#opening !== undefined) this.#opening.resolve(message.ownership)
        else this.#events?.recovered(false)
        break
      case 'refused':
        if (this.#opening !== undefined) this.#opening.reject(unavailable(message.message))
        else this.#startAgain(message.message)
        break
      case 'done':
        for (const [index, pending] of this.#finish().entries()) {
          const outcome = message.outcomes?.[index]
          if (outcome !== undefined && 'failed' in outcome) pending.reject(unavailable(outcome.failed))
          else pending.resolve(outcome)
        }
        this.#next()
        break
      case 'failed':
        for (const pending of this.#finish()) pending.reject(unavailable(message.message))
        this.#next()
        break
      case 'failing':
        this.#events?.failing(unavailable(message.message))
        break
      case 'recovered':
        this.#events?.recovered(message.emptied)
        break
      case 'lost':
        this.#lose(message.message)
        break
      case 'warning':
        this.#events?.warning?.(message.message)
        break
      case 'closed':
        this.#closed?.()
        break
    }
  }

  /** What comes in one turn of the event loop goes in one batch. */
  #schedule(): void {
    if (this.#scheduled || this.#running.length > 0) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#next()
    })
  }

  #next(): void {
    if (this.#running.length > 0 || !this.#open) return
    if (this.#queue.length === 0) {
      this.#idle()
      return
    }
    let bytes = 0
    let count = 0
    for (const { size } of this.#queue) {
      bytes += size
      if (count > 0 && (bytes > this.#mostBytes || count >= MOST_OPERATIONS)) break
      count += 1
    }
    this.#running = count === this.#queue.length ? this.#queue : this.#queue.slice(0, count)
    this.#queue = count === this.#queue.length ? [] : this.#queue.slice(count)
    // Whoever waits for a write keeps the process alive; an idle store does not.
    this.#worker?.ref()
    this.#say({ type: 'batch', operations: this.#running.map(({ operation }) => operation) })
  }

  #finish(): readonly Pending[] {
    const finished = this.#running
    this.#running = []
    return finished
  }

  #idle(): void {
    if (this.#closing === undefined) this.#worker?.unref()
  }

  #lose(message: string): void {
    if (this.#lost || this.#closing !== undefined) return
    this.#lost = true
    this.#refusal = message
    const error = unavailable(message)
    for (const pending of [...this.#finish(), ...this.#queue]) pending.reject(error)
    this.#queue = []
    this.#events?.lost(error)
  }

  #takenOver(): string {
    return `The session store ${this.#options.path} was taken over by another process. Nothing is served from here any more.`
  }

  #died(worker: Worker, error: Error): void {
    if (worker !== this.#worker) return
    this.#worker = undefined
    this.#closed?.()
    const message = `The thread of the session store ${this.#options.path} died: ${error.message}. Another one begins.`
    if (this.#opening !== undefined) {
      this.#opening.reject(unavailable(message))
      return
    }
    if (this.#closing === undefined && !this.#lost) this.#startAgain(message)
  }

  /** Everything is refused with this message until another thread has the file. */
  #startAgain(message: string): void {
    const worker = this.#worker
    this.#worker = undefined
    void worker?.terminate()
    this.#open = false
    this.#refusal = message
    for (const pending of [...this.#finish(), ...this.#queue]) pending.reject(unavailable(message))
    this.#queue = []
    this.#events?.failing(unavailable(message))
    setTimeout(() => {
      if (this.#closing === undefined) this.#start()
    }, RESTART_DELAY).unref()
  }

  #say(message: ToWorker): void {
    this.#worker?.postMessage(message)
  }
}

/** Resolves when an operation has settled, however it did. */
function settled(pending: Pending): Promise<void> {
  return new Promise((done) => {
    const { resolve, reject } = pending
    pending.resolve = (outcome) => {
      resolve(outcome)
      done()
    }
    pending.reject = (error) => {
      reject(error)
      done()
    }
  })
}

/** About what an operation adds to a transaction, in bytes. */
function sizeOf(operation: Operation): number {
  const [type] = operation
  if (type === 'append') return operation[4].length + 200
  if (type === 'save') return operation[1].record.length + 200
  if (type === 'touch') return operation[2].length * 200
  return 200
}

/** The thread's file: beside this one in dist/, and in src/ where TypeScript runs unbuilt. */
function startWorker(workerData: SqliteFileOptions): Worker {
  const here = import.meta.url
  // Flags of the process, a debugger's port or a loader, are not for this thread.
  const options: WorkerOptions = { workerData, name: 'sojourn store', execArgv: [] }
  if (!here.endsWith('.ts')) return new Worker(new URL('./sqlite-worker.js', here), options)
  // In a thread `--import tsx` does nothing on Node 20.
  const api = pathToFileURL(createRequire(here).resolve('tsx/esm/api')).href.replace(/\.cjs$/, '.mjs')
  const file = new URL('./worker.ts', here).href
  const code = `import(${JSON.stringify(api)}).then(({ register }) => { register(); return import(${JSON.stringify(file)}) })`
  return new Worker(code, { ...options, eval: true })
}
