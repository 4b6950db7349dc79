/** What the process with very many sessions tells. */

/** One round of waking: medians in microseconds. */
export interface WakingRun {
  /** Factory, connect and handshake in memory. */
  readonly buildMicros: number
  /** From the request that needs the instance until it is there. */
  readonly wakeMicros: number
}

/** All sessions expired at one moment. */
export interface EndingRun {
  readonly sessions: number
  readonly elapsedMs: number
  readonly cpuMicros: number
  /** The longest that the event loop was without a turn, garbage collection included. */
  readonly largestStallMs: number
  /** The longest single pause of the garbage collector in that time. */
  readonly longestGcMs: number
}

/** One round of touches of sessions chosen at random. */
export interface TouchRun {
  readonly touches: number
  readonly cpuMicros: number
  /** Timers made meanwhile. */
  readonly timers: number
}

/** Very many sleeping sessions in one process. */
export interface ScaleRun {
  readonly sessions: number
  readonly asleep: number
  readonly heapBytes: number
  /** Resident memory of the whole process. */
  readonly rssBytes: number
  readonly touches: readonly TouchRun[]
}
