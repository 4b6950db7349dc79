/** The map of transports that the documentation of both official SDKs has everyone write: one per session. */

import { randomUUID } from 'node:crypto'
import type { EchoServer } from './echo-server.ts'

/** What the transports of v1, v2 and @hono/mcp have in common. */
export interface SessionTransport {
  sessionId?: string | undefined
  onclose?: (() => void) | undefined
}

/** What every such transport is made with. */
export interface TransportOptions<T> {
  readonly sessionIdGenerator: () => string
  readonly enableJsonResponse: boolean
  readonly onsessioninitialized: (id: string) => void
  /** @internal Ties `onsessioninitialized` to the transport it is of. */
  readonly made: (transport: T) => T
}

/** Sessions by id, each a transport with a server of its own. */
export class SdkSessions<T extends SessionTransport> {
  readonly #sessions = new Map<string, { transport: T; server: EchoServer }>()
  readonly #createServer: () => EchoServer
  readonly #makeTransport: (options: TransportOptions<T>) => T
  readonly #json: boolean

  constructor(
    createServer: () => EchoServer,
    json: boolean,
    makeTransport: (options: TransportOptions<T>) => T,
  ) {
    this.#createServer = createServer
    this.#json = json
    this.#makeTransport = makeTransport
  }

  /** The transport that takes a request: the named session's, or a new one for `initialize`. The number is the status to refuse with. */
  async find(id: string | undefined, body: unknown): Promise<T | 400 | 404> {
    if (id !== undefined) return this.#sessions.get(id)?.transport ?? 404
    if ((body as { method?: unknown } | undefined)?.method !== 'initialize') return 400
    const server = this.#createServer()
    let made: T | undefined
    const transport = this.#makeTransport({
      sessionIdGenerator: () => randomUUID(),
      enableJsonResponse: this.#json,
      onsessioninitialized: (sessionId) => {
        if (made !== undefined) this.#sessions.set(sessionId, { transport: made, server })
      },
      made: (given) => (made = given),
    })
    transport.onclose = () => {
      if (transport.sessionId !== undefined) this.#sessions.delete(transport.sessionId)
    }
    await server.connect(transport)
    return transport
  }

  /** Tells every client that the tools changed. */
  broadcast(): void {
    for (const { server } of this.#sessions.values()) server.sendToolListChanged()
  }
}
