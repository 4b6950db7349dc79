/** `instances: 'pooled'`: servers that were built for one principal and serve its requests one after another. */

import { Deadline } from '../deadlines.ts'
import { SojournError } from '../errors.ts'
import { callFactory } from '../session/instance.ts'
import type { Runtime } from '../session/runtime.ts'
import type { Era, McpServerLike, ServerContext, SessionContext } from '../types.ts'
import { NoSession } from './no-session.ts'
import { ServerLease } from './server-lease.ts'

/** What a protocol object of SDK v2 holds that its author, or a handler, may replace at any time. */
interface Listening {
  readonly transport?: { close(): Promise<void> } | undefined
  onclose?: (() => void) | undefined
  onerror?: ((error: Error) => void) | undefined
  oninitialized?: (() => void) | undefined
  fallbackRequestHandler?: unknown
  fallbackNotificationHandler?: unknown
}

/** A server of a pool. */
export class PooledInstance extends ServerLease {
  readonly principal: string | undefined
  /** When it was last given back, by the clock's `now()`. */
  since = 0
  /** Something happened that cannot be undone. */
  spoiled = false
  readonly #context: PooledContext
  readonly #listening: Listening
  readonly #asBuilt: Listening
  #discarded = false

  constructor(server: McpServerLike, principal: string | undefined, context: PooledContext) {
    super(server)
    this.principal = principal
    this.#context = context
    this.#listening = ('server' in server ? server.server : server) as Listening
    const { onclose, onerror, oninitialized, fallbackRequestHandler, fallbackNotificationHandler } =
      this.#listening
    this.#asBuilt = {
      onclose,
      onerror: (error) => {
        this.spoiled = true
        onerror?.(error)
      },
      oninitialized,
      fallbackRequestHandler,
      fallbackNotificationHandler,
    }
    const close = server.close.bind(server)
    // The official handler closes servers that it does not connect, and handlers may do so too; here only the connection ends with that.
    server.close = async () => {
      if (this.#discarded) return await close()
      if (this.#listening.transport === undefined) return
      this.spoiled = true
      await this.#listening.transport.close()
    }
    this.reset()
  }

  /** Puts back what a handler may have put in its place; false when it is still connected. The SDK itself forgets the rest when it is disconnected. */
  reset(): boolean {
    // Being closed is for the end of the server, not for that of one of its requests.
    Object.assign(this.#listening, this.#asBuilt, { onclose: undefined })
    return this.#listening.transport === undefined
  }

  /** Ends it, once. Its author is told as for any server that is closed. */
  discard(runtime: Runtime): void {
    if (this.#discarded) return
    this.#discarded = true
    this.#context.end()
    this.reset()
    this.close(runtime)
    try {
      this.#asBuilt.onclose?.()
    } catch (thrown) {
      runtime.log.warn('onclose of a server threw', { error: thrown })
    }
  }
}

/** The idle instances of one leg, by principal. Who is in use belongs to its call alone. */
export class InstancePool extends Deadline {
  readonly #runtime: Runtime
  readonly #idle = new Map<string | undefined, PooledInstance[]>()
  /** The same, those idle for longest first. */
  readonly #byAge = new Set<PooledInstance>()
  #lastId = 0
  #closed = false

  constructor(runtime: Runtime) {
    super()
    this.#runtime = runtime
  }

  /** How many wait for a request. */
  get size(): number {
    return this.#byAge.size
  }

  /** The instance of this principal that was used last; nobody else gets it until it is given back. */
  take(principal: string | undefined): PooledInstance | undefined {
    const waiting = this.#idle.get(principal)
    const instance = waiting?.pop()
    if (instance === undefined) return undefined
    if (waiting?.length === 0) this.#idle.delete(principal)
    this.#byAge.delete(instance)
    this.#renumber(instance)
    return instance
  }

  /** Builds one. Rejects as the factory does. */
  async build(principal: string | undefined): Promise<PooledInstance> {
    const context = new PooledContext(this.#runtime.options.maxSessionDataSize)
    const server = await callFactory(this.#runtime, context)
    const instance = new PooledInstance(server, principal, context)
    this.#renumber(instance)
    return instance
  }

  /** Takes back one that is disconnected and as good as new; where there is no place for it, the one idle for longest makes some. */
  give(instance: PooledInstance): void {
    const { clock, deadlines, options } = this.#runtime
    if (this.#closed || instance.spoiled || !instance.reset()) return instance.discard(this.#runtime)
    const { principal } = instance
    const others = this.#idle.get(principal) ?? []
    if (others.length >= options.maxPooledInstancesPerPrincipal) return instance.discard(this.#runtime)
    if (others.length === 0) this.#idle.set(principal, others)
    others.push(instance)
    this.#byAge.add(instance)
    instance.since = clock.now()
    const [oldest] = this.#byAge
    if (oldest !== undefined && this.#byAge.size > options.maxPooledInstances) this.#drop(oldest)
    if (!this.armed) deadlines.arm(this, options.pooledInstanceIdleTimeout)
  }

  /** @internal The one idle for longest may be due. */
  override onDue(): void {
    const { clock, deadlines, options } = this.#runtime
    const last = clock.now() - options.pooledInstanceIdleTimeout
    for (const instance of this.#byAge) {
      if (instance.since > last) {
        deadlines.armAt(this, instance.since + options.pooledInstanceIdleTimeout)
        return
      }
      this.#drop(instance)
    }
  }

  /** Ends those of one principal that are idle. */
  dropPrincipal(principal: string): void {
    for (const instance of this.#idle.get(principal) ?? []) this.#drop(instance)
  }

  /** Ends all that are idle; how many those were. */
  dropIdle(): number {
    const { size } = this.#byAge
    for (const instance of this.#byAge) this.#drop(instance)
    return size
  }

  /** Ends all that are idle, and from now on whatever is given back. */
  close(): void {
    this.#closed = true
    this.#runtime.deadlines.disarm(this)
    this.dropIdle()
  }

  /** What a handler says late must never pass for what the next request's handler says: no id is used twice. */
  #renumber(instance: PooledInstance): void {
    this.#lastId += 1
    instance.innerId = this.#lastId
  }

  #drop(instance: PooledInstance): void {
    const { principal } = instance
    const left = (this.#idle.get(principal) ?? []).filter((other) => other !== instance)
    if (left.length === 0) this.#idle.delete(principal)
    else this.#idle.set(principal, left)
    this.#byAge.delete(instance)
    instance.discard(this.#runtime)
  }
}

/** The session of many requests: there is none, and nobody whose it is. */
class PooledSession extends NoSession {
  get principal(): never {
    throw notHere('context.session.principal')
  }

  get client(): never {
    throw notHere('context.session.client')
  }
}

/** What a factory is given where its server may serve many requests: nothing that belongs to one of them. */
class PooledContext implements ServerContext {
  readonly era: Era = 'modern'
  readonly session: SessionContext
  readonly #session: PooledSession

  constructor(maxDataSize: number) {
    this.#session = new PooledSession(maxDataSize)
    this.session = this.#session
  }

  get instanceSignal(): AbortSignal {
    return this.#session.signal
  }

  get authInfo(): never {
    throw notHere('context.authInfo')
  }

  get requestInfo(): never {
    throw notHere('context.requestInfo')
  }

  onSleep(): void {}

  onWake(): void {}

  end(): void {
    this.#session.end.abort()
  }
}

const IN_HANDLERS: Readonly<Record<string, string>> = {
  'context.authInfo': 'ctx.http.authInfo',
  'context.requestInfo': 'ctx.http.req',
}

function notHere(what: string): SojournError {
  const instead = IN_HANDLERS[what] ?? 'ctx.http.authInfo, or the _meta of the request,'
  return new SojournError(
    'invalid-factory',
    `createServer read ${what}, which belongs to one request: with instances: 'pooled' the server it builds serves many. ` +
      `Read ${instead} in the handlers instead, which is there for each call, or leave instances at 'fresh'`,
  )
}
