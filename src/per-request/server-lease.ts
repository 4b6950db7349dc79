/** The server that one call uses: its own, or one that a pool lends it. */

import { messageOf } from '../errors.ts'
import type { Runtime } from '../session/runtime.ts'
import type { McpServerLike, RequestId, ServerTransport } from '../types.ts'

/** Connects a server as its author has it. */
export type Connect = (transport: ServerTransport) => Promise<void>

/**
 * A server between the official handler, which prepares it for a request and connects it, and the call, which takes it from there:
 * the handler's own way to an answer makes Web objects of everything.
 */
export class ServerLease {
  readonly server: McpServerLike
  /** The id that the server sees for the request; undefined where that is the client's own. */
  innerId: RequestId | undefined
  /** What the handler's next connecting is turned into. */
  onConnect: ((connect: Connect) => Promise<void>) | undefined

  constructor(server: McpServerLike) {
    this.server = server
    const connect: Connect = server.connect.bind(server)
    server.connect = (transport: ServerTransport) => {
      const take = this.onConnect
      this.onConnect = undefined
      return take === undefined ? connect(transport) : take(connect)
    }
  }

  /** Closes the server; what it throws costs nobody else anything. */
  close({ log }: Runtime): void {
    const failed = (thrown: unknown): void =>
      log.warn('the server threw while it was closed', { error: messageOf(thrown) })
    try {
      this.server.close().catch(failed)
    } catch (thrown) {
      failed(thrown)
    }
  }
}
