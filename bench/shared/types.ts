/** What the driver, the servers and the load generator say to each other. */

/** What a server process serves: the limits (`bare`, `null`), the official SDK's own transport, or ours. */
export type ServerKind = 'bare' | 'null' | 'sdk' | 'ours'

/** Which official SDK makes the `McpServer`. */
export type SdkVersion = 'v1' | 'v2'

/** How a POST is answered; the SDKs know no `auto`. */
export type AnswerMode = 'json' | 'sse' | 'auto'

/** Given to a server process as JSON in its first argument. */
export interface ServerSpec {
  readonly kind: ServerKind
  readonly sdk: SdkVersion
  readonly mode: AnswerMode
  /** URL of our built entry point; only `ours` reads it. */
  readonly dist: string
}

/** First message of a server process. `port` is 0 for a server without HTTP. */
export interface Ready {
  readonly port: number
}

/** User + system time of all threads of a process, in microseconds, since it began. */
export interface CpuReading {
  readonly cpuMicros: number
}

/** Memory of a server process after garbage collection, in bytes. */
export interface MemoryReading {
  readonly heapUsed: number
  readonly rss: number
}

/** Work done in process by a `null` server, which no generator drives. */
export interface DrivenRun {
  readonly calls: number
  readonly elapsedMs: number
  readonly cpuMicros: number
}

/** What the load generator did in a round; `cpuMicros` is its own. */
export interface LoadRun {
  readonly calls: number
  readonly elapsedMs: number
  readonly cpuMicros: number
}

/** Where the generator sends, and over how many connections. */
export interface LoadTarget {
  readonly port: number
  readonly connections: number
  /** False for a server that has no sessions: the header is then made up, so that the requests are as long. */
  readonly sessions: boolean
}
