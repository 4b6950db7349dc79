/** One app after another over one store, in this process and on virtual time: what a restart is to its clients. */

import type { Clock, Timer } from '../../src/clock.ts'
import { MemorySessionStore, type MemoryStoreOptions } from '../../src/store/memory-store.ts'
import type { SessionStore } from '../../src/store/session-store.ts'
import type { AppOptions, ServerContext } from '../../src/types.ts'
import { type Deferred, deferred } from '../support/deferred.ts'
import { rpc } from '../support/mcp-wire.ts'
import { type FakeFactory, SimApp } from '../support/sim-app.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

/** The clock of one process: with the process its timers are gone. */
class ProcessClock implements Clock {
  readonly #clock: VirtualClock
  readonly #timers = new Set<Timer>()
  #dead = false

  constructor(clock: VirtualClock) {
    this.#clock = clock
  }

  now(): number {
    return this.#clock.now()
  }

  wallTime(): number {
    return this.#clock.wallTime()
  }

  setTimer(callback: () => void, delay: number): Timer {
    if (this.#dead) return { cancel() {} }
    const timers = this.#timers
    const timer = this.#clock.setTimer(() => {
      timers.delete(timer)
      callback()
    }, delay)
    timers.add(timer)
    return {
      cancel() {
        timers.delete(timer)
        timer.cancel()
      },
    }
  }

  afterInput(callback: () => void): void {
    this.#clock.afterInput(() => {
      if (!this.#dead) callback()
    })
  }

  die(): void {
    this.#dead = true
    for (const timer of this.#timers) timer.cancel()
    this.#timers.clear()
  }
}

/** What an incarnation logged, by level. */
export interface Line {
  readonly level: string
  readonly message: string
}

/** A line of apps, each of which takes over what the one before left. */
export class Incarnations {
  readonly clock: VirtualClock
  readonly logs: Line[] = []
  /** What the factories were given, in order. */
  readonly contexts: ServerContext[] = []
  /** The store as the present app sees it. */
  store: MemorySessionStore
  app: SimApp
  #process: ProcessClock
  #options: AppOptions
  #author: FakeFactory
  readonly #dress: (store: MemorySessionStore) => SessionStore
  #held: Deferred<void> | undefined

  /** `dress` makes of the store what an app gets: a worse one. */
  constructor(
    options: AppOptions = {},
    author: FakeFactory = () => ({}),
    store: Partial<MemoryStoreOptions> = {},
    dress: (store: MemorySessionStore) => SessionStore = (given) => given,
  ) {
    this.#dress = dress
    this.clock = new VirtualClock({ start: 5_000 })
    this.#options = options
    this.#author = author
    const settle = (): Promise<void> => this.#held?.promise ?? Promise.resolve()
    this.store = new MemorySessionStore({ clock: this.clock, settle, ...store })
    this.#process = new ProcessClock(this.clock)
    this.app = this.#make(this.store, this.#process)
  }

  #make(store: MemorySessionStore, clock: ProcessClock): SimApp {
    const write =
      (level: string) =>
      (...args: unknown[]): void =>
        void this.logs.push({ level, message: String(args[0]) })
    const logger = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
    return new SimApp(
      this.clock,
      { logger, ...this.#options, store: this.#dress(store), clock },
      (context) => {
        this.contexts.push(context)
        return this.#author(context)
      },
    )
  }

  /** Another app on the same store, beside the present one, which stays the present one. */
  rival(): { app: SimApp; store: MemorySessionStore } {
    const store = this.store.successor()
    return { app: this.#make(store, new ProcessClock(this.clock)), store }
  }

  /** From now on the store takes what it is given, and acknowledges nothing until the result is called. */
  hold(): () => void {
    const held = deferred()
    this.#held = held
    return () => {
      if (this.#held === held) this.#held = undefined
      held.resolve()
    }
  }

  /** `kill -9`: connections end, and nothing the process had planned happens any more. */
  crash(): void {
    this.#process.die()
    this.store.kill()
    for (const exchange of this.app.exchanges) if (exchange.outcome === undefined) exchange.drop()
  }

  /** The next process; the one before must be gone or going. */
  async start(options: AppOptions = {}, author?: FakeFactory): Promise<SimApp> {
    this.#options = { ...this.#options, ...options }
    if (author !== undefined) this.#author = author
    this.store = this.store.successor()
    this.#process = new ProcessClock(this.clock)
    this.app = this.#make(this.store, this.#process)
    await this.clock.settle()
    return this.app
  }

  /** Ends the present app in order; calls may run for `drain` milliseconds more. */
  async stop(drain = 0): Promise<void> {
    let over = false
    void this.app.manager.close({ drain }).then(() => (over = true))
    const end = this.clock.now() + drain + 1000
    while (!over && this.clock.now() < end) await this.clock.advance(end - this.clock.now() > 1000 ? 10 : 1)
    if (!over) throw new Error(`close() did not end within a second after ${drain} ms of virtual time`)
  }

  /** The end of one process and the start of the next, `down` milliseconds later. */
  async restart(how: 'crash' | 'stop', down = 0): Promise<SimApp> {
    if (how === 'crash') this.crash()
    else await this.stop()
    await this.clock.advance(down)
    return this.start()
  }
}

/** A call of the fake server's tool. */
export function call(duration = 0, more: object = {}, id: string | number = 'q1'): object {
  return rpc('tools/call', { name: 'run', arguments: { tag: `call ${id}`, duration, ...more } }, id)
}

/** Both ways in which a process ends. */
export const ENDS = ['stop', 'crash'] as const
