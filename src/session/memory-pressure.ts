/** Whether memory is short: then nothing new begins, and what may be given up is. */

import { DeadlineCall } from '../deadlines.ts'
import { formatByteSize } from '../duration.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import { heapUse, type HeapUse, hurryCollection } from './heap.ts'
import type { Refusal } from './refusal.ts'
import type { Runtime } from './runtime.ts'

/** What the platform does; tests have their own. */
export interface HeapOfProcess {
  /** How full the heap is; undefined where nobody knows. */
  use(): HeapUse | undefined
  /** Has garbage collected soon. */
  hurryCollection(): void
}

const thisProcess: HeapOfProcess = { use: heapUse, hurryCollection }

/** A look at the heap counts for so long, in milliseconds: at 1,000 openings a second one in twenty looks. */
const LOOK_AGE = 20

/** How often is looked while sessions live and nothing opens, in milliseconds. */
const IDLE_LOOK = 2000

/** Between two looks while memory is short, in milliseconds: the first, after which what was garbage is gone, and the last. */
const FIRST_PAUSE = 250
const LONGEST_PAUSE = 5000

/** Memory suffices again at this part of the high-water mark. */
const LOW_WATER = 0.9

/** Memory may be short now and again for long: so often it is worth a line, in milliseconds. */
const LOG_PAUSE = 60_000

/** What a newcomer is told. */
export const MEMORY_SHORT: Refusal = {
  status: 503,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Service Unavailable: the server is short of memory',
  cause: 'memory',
  option: 'maxHeapUsed',
  headers: { 'Retry-After': '10' },
}

/** Watches the heap of the process for one app. */
export class MemoryPressure {
  readonly #runtime: Pick<Runtime, 'clock' | 'deadlines' | 'log'>
  /** Up to 1 a share of the limit, beyond that bytes. */
  readonly #most: number
  readonly #heap: HeapOfProcess
  readonly #look = new DeadlineCall(() => this.#looked())
  /** Gives up a part of what may be; how much that was. */
  #shed: () => number = () => 0
  /** Whether to go on looking while nothing opens. */
  #needed: (() => boolean) | undefined
  #short = false
  #lookedAt = Number.NEGATIVE_INFINITY
  #pause = FIRST_PAUSE
  #toldAt = Number.NEGATIVE_INFINITY
  #told = false
  #stopped = false

  /** `most` is `maxHeapUsed`. */
  constructor(
    runtime: Pick<Runtime, 'clock' | 'deadlines' | 'log'>,
    most: number,
    heap: HeapOfProcess = thisProcess,
  ) {
    this.#runtime = runtime
    this.#most = most
    this.#heap = heap
  }

  /**
   * `shed` gives up a part of what may be given up and tells how much that was; `needed` tells whether to go on looking while nothing
   * opens. Without it nobody looks then.
   */
  begin(shed: () => number, needed: (() => boolean) | undefined): void {
    this.#shed = shed
    this.#needed = needed
  }

  /** Whether memory is short; looks at the heap where the last look is old. */
  get short(): boolean {
    const { clock, deadlines } = this.#runtime
    const now = clock.now()
    if (!this.#short && !this.#stopped && now - this.#lookedAt >= LOOK_AGE) {
      this.#lookAt(now)
      if (!this.#look.armed && this.#needed !== undefined) deadlines.arm(this.#look, IDLE_LOOK)
    }
    return this.#short
  }

  /** Looks no more. */
  stop(): void {
    this.#stopped = true
    this.#runtime.deadlines.disarm(this.#look)
  }

  #lookAt(now: number): void {
    this.#lookedAt = now
    const use = this.#heap.use()
    if (use === undefined || this.#suffices(use, 1)) return
    this.#short = true
    this.#pause = FIRST_PAUSE
    this.#tell(
      'memory is short: no session opens until it suffices again, instances that may sleep do, and sessions that were never used end',
      use,
    )
    // Much of it may be garbage: the next look tells.
    this.#heap.hurryCollection()
    this.#runtime.deadlines.arm(this.#look, this.#pause)
  }

  #looked(): void {
    const { clock, deadlines } = this.#runtime
    if (!this.#short) {
      this.#lookAt(clock.now())
      if (!this.#short && this.#needed?.() === true) deadlines.arm(this.#look, IDLE_LOOK)
      return
    }
    const use = this.#heap.use()
    if (use === undefined || this.#suffices(use, LOW_WATER)) {
      this.#short = false
      this.#lookedAt = clock.now()
      if (use !== undefined) this.#tell('memory suffices again: sessions are opened', use)
      if (this.#needed?.() === true) deadlines.arm(this.#look, IDLE_LOOK)
      return
    }
    // What is given up is garbage only then; and to look for garbage where there is none is dear.
    this.#pause = this.#shed() > 0 ? FIRST_PAUSE * 2 : Math.min(this.#pause * 2, LONGEST_PAUSE)
    this.#heap.hurryCollection()
    deadlines.arm(this.#look, this.#pause)
  }

  /** Whether less is used than a part of the mark; and if nothing of what is young were garbage, still half of what is left beyond it. */
  #suffices(use: HeapUse, part: number): boolean {
    const mark = this.#mark(use)
    return use.used <= mark * part && use.used + use.young <= (mark + Math.max(mark, use.limit)) / 2
  }

  #mark({ limit }: HeapUse): number {
    return this.#most <= 1 ? this.#most * limit : this.#most
  }

  /** One line for each change, unless memory is short again and again. */
  #tell(message: string, use: HeapUse): void {
    const { clock, log } = this.#runtime
    if (this.#short) {
      this.#told = clock.now() - this.#toldAt >= LOG_PAUSE
      if (this.#told) this.#toldAt = clock.now()
    }
    log[this.#told ? (this.#short ? 'warn' : 'info') : 'debug'](message, this.#fields(use))
  }

  #fields(use: HeapUse): Readonly<Record<string, string>> {
    const rounded = (bytes: number): string => formatByteSize(Math.round(bytes / 1024 ** 2) * 1024 ** 2)
    return {
      used: rounded(use.used),
      limit: rounded(use.limit),
      maxHeapUsed: rounded(this.#mark(use)),
    }
  }
}
