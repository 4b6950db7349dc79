/** What the driver, the servers and the load generator say to each other. */

/** What a server process serves: the limits (`bare`, `null`), ours, or a peer. */
export type ServerKind =
  | 'bare'
  | 'null'
  | 'ours'
  | 'sdk'
  | 'sdk-express'
  | 'sdk-fastify'
  | 'sdk-hono'
  | 'create-mcp-handler'
  | 'hono-mcp'
  | 'fastmcp'
  | 'mcp-proxy'
  | 'tmcp'
  | 'mcp-lite'
  | 'mcp-use'
  | 'python-sdk'
  | 'python-fastmcp'

/** Which official SDK makes the `McpServer`. */
export type SdkVersion = 'v1' | 'v2'

/** How a POST is answered; the SDKs know no `auto`. */
export type AnswerMode = 'json' | 'sse' | 'auto'

/** What of ours, or what in front of it, takes the requests. */
export type Face = 'node' | 'fetch' | 'express' | 'fastify' | 'hono'

/** Given to a server process as JSON in its first argument. */
export interface ServerSpec {
  readonly kind: ServerKind
  readonly sdk: SdkVersion
  readonly mode: AnswerMode
  /** How many tools the server has; `echo` is the first. */
  readonly tools: number
  /** Only for ours; `node` by default. */
  readonly face?: Face
  /** Only for ours: more options of the app. */
  readonly options?: Readonly<Record<string, unknown>>
  /** Only for ours: sessions in a SQLite file of this run. */
  readonly sqlite?: boolean
  /** Only for the SDKs: with an event store, so that streams can be resumed. */
  readonly eventStore?: boolean
  /** URL of the folder of our built package; only `ours` reads it. */
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
  /** Sockets that were open then. */
  readonly sockets: number
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

/** What a server needs before it can be called: nothing, a handshake, or revision 2026-07-28's envelope in each request. */
export type Protocol = 'none' | 'session' | 'modern'

/** Where the generator sends, and over how many connections. */
export interface LoadTarget {
  readonly port: number
  readonly connections: number
  /** Where it is `none` the session header is made up, so that the requests are as long. */
  readonly protocol: Protocol
}

/** How calls are spread over sessions: in turn, or nine of ten on the first tenth. */
export type Spread = 'uniform' | 'hot'
