/** The sessions of an app as its author sees them: to look at, to push to, to end. */

import { DeadlineCall } from '../deadlines.ts'
import { SojournError } from '../errors.ts'
import { durationArgument, format } from '../setting-value.ts'
import type { ClientIdentity, CloseReason, Duration, JsonValue } from '../types.ts'
import { type EventListener, type IteratedEvent, iterateEvents } from './events.ts'
import type { Runtime } from './runtime.ts'
import type { Session } from './session.ts'
import type { SessionTable } from './session-table.ts'

/** How many sessions there are, by state. */
export interface SessionCounts {
  /** All that can be found: `active` and `idle`. */
  readonly total: number
  /** Held by a request, a stream or an exchange. */
  readonly active: number
  /** Held by nothing: their idle clock runs. */
  readonly idle: number
  /** Of all that can be found, those that have their instance. */
  readonly awake: number
  /** The others: only their records are kept. */
  readonly asleep: number
  /** `initialize` is on its way; not part of `total`. */
  readonly opening: number
  /** JSON-RPC requests running now, in all sessions. */
  readonly requests: number
}

/** Options of {@link SessionHandle.request}. */
export interface SessionRequestOptions {
  /** How long to wait for the client's answer, once sent; default 60 s. */
  timeout?: Duration
}

/** One session, from outside its handlers. Stays usable after the session ended; what needs the session then throws. */
export class SessionHandle {
  readonly #session: Session

  /** @internal */
  constructor(session: Session) {
    this.#session = session
  }

  /** What `Mcp-Session-Id` names. A credential where no authentication is used: do not log it whole. */
  get id(): string {
    return this.#session.record.id
  }

  /** The beginning of the id, for people: what logs show. */
  get label(): string {
    return this.#session.label
  }

  /** Who owns the session; undefined for an anonymous one. */
  get principal(): string | undefined {
    return this.#session.record.principal
  }

  /** The client as it named itself. */
  get client(): ClientIdentity | undefined {
    return this.#session.client
  }

  /** The negotiated protocol version. */
  get protocolVersion(): string {
    return this.#session.record.protocolVersion
  }

  /** Wall clock at `initialize`, milliseconds since the Unix epoch. */
  get createdAt(): number {
    return this.#session.record.createdAt
  }

  /** `active` while something holds it, `idle` while its clock runs, `closed` after its end. */
  get state(): 'active' | 'idle' | 'closed' {
    if (this.#session.state === 'closed') return 'closed'
    return this.#session.clock.busy ? 'active' : 'idle'
  }

  /** Milliseconds until the session ends unless something happens; undefined while it is held, has no timeout or has ended. */
  get expiresIn(): number | undefined {
    const { clock, runtime } = this.#session
    return clock.armed ? Math.max(0, clock.due - runtime.clock.now()) : undefined
  }

  /** Wall clock since when nothing holds the session, milliseconds since the Unix epoch; undefined while something does, and after its end. */
  get idleSince(): number | undefined {
    if (this.state !== 'idle') return undefined
    const { clock } = this.#session.runtime
    return clock.wallTime() - (clock.now() - this.#session.idleSince)
  }

  /** Whether the session has its instance; one that sleeps is built again by the next request that needs it. */
  get awake(): boolean {
    return this.#session.instance !== undefined
  }

  /** JSON-RPC requests running now. */
  get requests(): number {
    return this.#session.running
  }

  /** SSE connections open now. */
  get streams(): number {
    return this.#session.openStreams
  }

  /** The author's own JSON; frozen, replaced by assignment. */
  get data(): JsonValue {
    return this.#session.record.data
  }

  set data(value: JsonValue) {
    this.#session.setData(value)
  }

  /** Aborts when the session ends. */
  get signal(): AbortSignal {
    return this.#session.signal
  }

  /** URIs the client subscribed to. */
  get subscriptions(): readonly string[] {
    return [...(this.#session.record.subscriptions ?? [])]
  }

  /**
   * Sends a notification to the client: on its GET stream, or kept for the next one.
   * @throws SojournError `session-closed` after the session's end, `limit-exceeded` when it is larger than `maxMessageSize`
   */
  notify(method: string, params?: Readonly<Record<string, unknown>>): void {
    this.#assertOpen()
    this.#session.notify(method, params)
  }

  /**
   * Sends a request to the client and gives its result.
   * @throws SojournError `session-closed`, `limit-exceeded` (too many pending), `undeliverable` (no stream opened in time), `timeout`,
   * `request-failed` with the client's JSON-RPC error as `data`
   */
  async request(
    method: string,
    params?: Readonly<Record<string, unknown>>,
    options?: SessionRequestOptions,
  ): Promise<Record<string, unknown>> {
    this.#assertOpen()
    const session = this.#session
    const timeout = durationArgument('timeout', options?.timeout ?? 60_000)
    return new Promise((resolve, reject) => {
      const deadline = new DeadlineCall(() => {
        if (id !== undefined) {
          session.serverRequests.remove(id)
          session.notify('notifications/cancelled', { requestId: id, reason: 'timeout' })
        }
        reject(new SojournError('timeout', `The client did not answer ${method} within ${timeout} ms`))
      })
      let id: number | undefined
      let answered = false
      session
        .request(method, params, (response) => {
          answered = true
          session.runtime.deadlines.disarm(deadline)
          if (response === undefined)
            reject(new SojournError('session-closed', 'The session ended before the client answered'))
          else if ('result' in response) resolve(response.result)
          else reject(new SojournError('request-failed', response.error.message, { data: response.error }))
        })
        .then((sent) => {
          id = sent
          if (!answered) session.runtime.deadlines.arm(deadline, timeout)
        }, reject)
    })
  }

  /**
   * Resolves when the session has ended, and with a store when a restart will not bring it back.
   * @throws SojournError `store-unavailable` when the store does not take the end; it is tried again, but a restart before may bring the
   * session back
   */
  get ended(): Promise<void> {
    const { signal, runtime } = this.#session
    const durable = async (): Promise<void> => {
      if ((await runtime.keeper?.ended(this.#session)) === false)
        throw new SojournError('store-unavailable', 'The session has ended, but the store does not take it')
    }
    if (signal.aborted) return durable()
    const ended = new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
    return ended.then(durable)
  }

  /** Ends the session. Returns false when it had ended before. */
  close(reason: CloseReason = 'admin'): boolean {
    if (this.#session.state === 'closed') return false
    this.#session.close(reason)
    return true
  }

  #assertOpen(): void {
    if (this.#session.state === 'closed') throw new SojournError('session-closed', 'The session has ended')
  }
}

/** All sessions of an app. */
export class Sessions {
  readonly #runtime: Runtime
  readonly #table: SessionTable
  readonly #closePrincipal: (principal: string) => readonly Session[]
  readonly #endings = new Set<() => void>()
  #ended = false

  /** @internal */
  constructor(
    runtime: Runtime,
    table: SessionTable,
    closePrincipal: (principal: string) => readonly Session[],
  ) {
    this.#runtime = runtime
    this.#table = table
    this.#closePrincipal = closePrincipal
  }

  /** How many there are. */
  get size(): number {
    return this.#table.size
  }

  /** How many there are, by state. Looks at each. */
  get counts(): SessionCounts {
    let active = 0
    let awake = 0
    for (const session of this.#table.values()) {
      if (session.clock.busy) active += 1
      if (session.instance !== undefined) awake += 1
    }
    const total = this.#table.size
    return {
      total,
      active,
      idle: total - active,
      awake,
      asleep: total - awake,
      opening: this.#table.taken - total,
      requests: this.#runtime.load.running,
    }
  }

  /** All of them, oldest first. */
  list(): SessionHandle[] {
    return Array.from(this.#table.values(), (session) => new SessionHandle(session))
  }

  /** One of them by its id; undefined when there is none. Does not ask who owns it. */
  get(id: string): SessionHandle | undefined {
    const session = this.#table.find(id)
    return session === undefined ? undefined : new SessionHandle(session)
  }

  /** Ends one by its id, with the reason `admin`. Returns whether there was one. */
  close(id: string): boolean {
    return this.get(id)?.close() ?? false
  }

  /**
   * Ends everything that a principal has here: its sessions, with the reason `admin`, whether awake or asleep; without a handshake
   * (2026-07-28) its calls, its `subscriptions/listen` and its pooled servers. What it had begun to open is refused with 401. Returns the
   * sessions; `ended` of each tells when a store has its end.
   *
   * Its tokens stay good: whoever gives them out has to refuse them first, or the next request opens a session again.
   *
   * @param principal as {@link SessionHandle.principal} has it
   * @throws TypeError for what is no name: anonymous callers have none, and share nothing but that
   */
  closePrincipal(principal: string): SessionHandle[] {
    if (typeof principal !== 'string' || principal === '') {
      throw new TypeError(
        `closePrincipal takes the principal of a session, as session.principal has it, got ${format(principal)}; anonymous sessions are closed one by one, with close(id)`,
      )
    }
    return this.#closePrincipal(principal).map((session) => new SessionHandle(session))
  }

  /** Calls `listener` for every event from now on; the result stops that. */
  subscribe(listener: EventListener): () => void {
    return this.#runtime.hub.subscribe(listener)
  }

  /** The events from now on, until the app is closed. A consumer that falls 1,024 events behind loses the oldest and is told so. */
  events(): AsyncIterableIterator<IteratedEvent, void, undefined> {
    return iterateEvents(this.#runtime.hub, (end) => {
      if (this.#ended) end()
      this.#endings.add(end)
      return () => {
        this.#endings.delete(end)
      }
    })
  }

  /** As {@link Sessions.events}: `for await (const event of app.sessions)`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<IteratedEvent, void, undefined> {
    return this.events()
  }

  /** @internal The app is closed. */
  end(): void {
    this.#ended = true
    for (const end of this.#endings) end()
  }
}
