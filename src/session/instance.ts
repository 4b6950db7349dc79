/** The author's server, connected to its session. */

import { messageOf, SojournError } from '../errors.ts'
import type { CloseReason, McpServerLike, ServerContext } from '../types.ts'
import type { InstanceLife } from './instance-life.ts'
import { InstanceTransport, type TransportHost } from './instance-transport.ts'
import type { Runtime } from './runtime.ts'
import type { FactoryContext } from './server-context.ts'

/** Servers that were handed out: one session, one instance, never shared. Weak, so that it keeps nothing alive. */
const seen = new WeakSet<object>()

/** A built and connected server. */
export class Instance {
  readonly transport: InstanceTransport
  readonly life: InstanceLife
  readonly #server: McpServerLike
  readonly #runtime: Runtime
  #foreign = false

  private constructor(
    server: McpServerLike,
    transport: InstanceTransport,
    life: InstanceLife,
    runtime: Runtime,
  ) {
    this.#server = server
    this.transport = transport
    this.life = life
    this.#runtime = runtime
  }

  /**
   * Calls the factory. What it returns is not connected yet: whoever asked may have gone meanwhile.
   * @throws as {@link callFactory}
   */
  static async create(
    runtime: Runtime,
    host: TransportHost,
    context: FactoryContext,
    sessionId: string | undefined,
  ): Promise<Instance> {
    const server = await callFactory(runtime, context)
    return new Instance(server, new InstanceTransport(host, sessionId), context.life, runtime)
  }

  /** Connects the server to its transport. Rejects as the server does. */
  async connect(): Promise<void> {
    try {
      await this.#server.connect(this.transport)
    } catch (thrown) {
      // A server that refused before it took the transport is connected elsewhere: closing it would cut somebody else off.
      this.#foreign = !this.transport.started
      throw thrown
    }
  }

  /** Closes the server, because its session sleeps or ends; idempotent. What it throws costs nobody else anything. */
  close(reason: CloseReason | 'sleep'): void {
    this.life.end(reason)
    if (this.#foreign) return
    try {
      this.#server.close().catch((thrown: unknown) => this.#closeFailed(thrown))
    } catch (thrown) {
      this.#closeFailed(thrown)
    }
    // A server that forgets its transport must not keep its handlers waiting.
    try {
      this.transport.shut()
    } catch (thrown) {
      this.#closeFailed(thrown)
    }
  }

  #closeFailed(thrown: unknown): void {
    this.#runtime.log.warn('the server threw while it was closed', { error: messageOf(thrown) })
  }
}

/**
 * Calls the author's factory, and checks that it returned a server of its own.
 * @throws SojournError `invalid-factory` when that is not a server, or one that was returned before; whatever the factory throws.
 */
export async function callFactory(runtime: Runtime, context: ServerContext): Promise<McpServerLike> {
  const server: unknown = await runtime.createServer(context)
  if (!isServer(server)) {
    throw new SojournError(
      'invalid-factory',
      `createServer must return an McpServer or Server of @modelcontextprotocol/sdk or @modelcontextprotocol/server, got ${describe(server)}`,
    )
  }
  if (seen.has(server)) {
    throw new SojournError(
      'invalid-factory',
      'createServer returned a server that is already in use: build a new one on every call, each session needs its own',
    )
  }
  seen.add(server)
  return server
}

function isServer(value: unknown): value is McpServerLike {
  if (typeof value !== 'object' || value === null) return false
  const { connect, close } = value as { connect?: unknown; close?: unknown }
  return typeof connect === 'function' && typeof close === 'function'
}

function describe(value: unknown): string {
  if (value === null) return 'null'
  if (typeof value === 'object')
    return `an object without connect() and close() (${value.constructor?.name ?? 'no class'})`
  return typeof value
}
