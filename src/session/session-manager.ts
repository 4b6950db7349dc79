/** The session manager: every HTTP request of an endpoint goes through it, and every session lives in it. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import { systemClock } from '../clock.ts'
import { Deadlines } from '../deadlines.ts'
import { messageOf } from '../errors.ts'
import { FIRST_MODERN_VERSION } from '../http/era.ts'
import type { Exchange } from '../http/exchange.ts'
import { singleValue } from '../http/headers.ts'
import { NodeExchange, type NodeExchangeOptions } from '../http/node-exchange.ts'
import { type FetchOptions, WebExchange } from '../http/web-exchange.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import { createLog } from '../logging.ts'
import { durationArgument } from '../setting-value.ts'
import { PerRequestLeg } from '../per-request/per-request-leg.ts'
import { resolveOptions } from '../options.ts'
import { MemoryEventLog } from '../stream/memory-event-log.ts'
import type { AppOptions, CreateServer, Duration } from '../types.ts'
import { Announcements } from './announcements.ts'
import { AwakeSessions } from './awake-sessions.ts'
import { EventHub } from './events.ts'
import { type Caller, type Checked, HttpFront } from './http-front.ts'
import { type HeapOfProcess, MemoryPressure } from './memory-pressure.ts'
import { type PostHost, Posts } from './posts.ts'
import { type Refusal, sendRefusal, shuttingDown } from './refusal.ts'
import {
  ACCESS_ENDED,
  CURSOR_CONFLICT,
  NO_STREAM_HERE,
  NOT_FOUND,
  SESSION_CONFLICT,
  SESSION_REQUIRED,
  STORE_ELSEWHERE,
  STORE_FAILS,
} from './refusals.ts'
import { Revocations } from './revocations.ts'
import { Load, type Runtime } from './runtime.ts'
import { Persistence, type RestoredTimes } from './persistence.ts'
import { Session } from './session.ts'
import { recordFromJson } from './stored-record.ts'
import { openStore } from '../store/open-store.ts'
import type { StoredSession } from '../store/session-store.ts'
import { randomSessionId } from './session-record.ts'
import { SessionTable } from './session-table.ts'
import { SharedJsonPool } from './shared-json.ts'
import { type OpeningHost, SessionOpener } from './session-opener.ts'
import { Sessions } from './sessions.ts'
import { restartWait, Shutdown } from './shutdown.ts'
import { StatelessServing } from './stateless.ts'
import { checkVersion } from './version-check.ts'

/**
 * Serves MCP over Streamable HTTP with sessions that end when they should. Usable once made; one per endpoint; two in one process
 * share nothing. {@link httpApp} is the same with a smaller face.
 *
 * @example
 * const manager = new StreamableHTTPSessionManager(createServer, { sessionIdleTimeout: '30m' })
 * http.createServer((req, res) => manager.handleRequest(req, res)).listen(3000, '127.0.0.1')
 */
export class StreamableHTTPSessionManager {
  /** The sessions: look at them, push to their clients, end them, follow their events. */
  readonly sessions: Sessions
  /** Tells clients of both eras that something changed. */
  readonly notify: Announcements
  readonly #runtime: Runtime
  readonly #front: HttpFront
  readonly #table: SessionTable
  /** What serves clients without a handshake; undefined where only those with one are served. */
  readonly #perRequest: PerRequestLeg | undefined
  readonly #opener: SessionOpener
  readonly #stateless: StatelessServing
  readonly #posts: Posts
  readonly #nodeOptions: NodeExchangeOptions
  /** What keeps sessions beyond the process; undefined where nothing does. */
  readonly #persistence: Persistence | undefined
  /** Monotonic. No request came before. */
  readonly #began: number
  /** Every `initialize` on its way, as what makes it fail. */
  readonly #openings = new Set<(refusal: Refusal) => void>()
  readonly #shutdown: Shutdown
  #warnedOfUse = false

  /**
   * @param createServer builds one server per session
   * @param mode `single`: one session ever, for {@link SessionTransport}
   * @param newSessionId @internal for those who made the ids themselves before
   * @param heap @internal what is looked at in place of the heap of this process
   * @throws RangeError, TypeError naming the option that has a value it cannot take
   */
  constructor(
    createServer: CreateServer,
    options: AppOptions = {},
    mode: 'many' | 'single' = 'many',
    newSessionId: () => string = randomSessionId,
    heap?: HeapOfProcess,
  ) {
    if (typeof createServer !== 'function') {
      throw new TypeError(
        `createServer must be a function that returns an McpServer, got ${typeof createServer}`,
      )
    }
    const single = mode === 'single'
    const resolved = resolveOptions(options)
    const clock = resolved.clock ?? systemClock
    this.#began = clock.now()
    const log = createLog(options.logger)
    const failed = (thrown: unknown) => log.error('an internal callback failed', { error: thrown })
    const deadlines = new Deadlines(clock, failed)
    const { sleepAfter, maxAwake } = resolved
    // The one server of a SessionTransport cannot be built again.
    const sleeps =
      !single && !resolved.stateless && Math.min(sleepAfter, maxAwake) !== Number.POSITIVE_INFINITY
    const warned = new Set<string>()
    const store = single || resolved.stateless ? undefined : openStore(resolved)
    this.#persistence = store === undefined ? undefined : new Persistence(store)
    this.#runtime = {
      createServer,
      options: resolved,
      clock,
      deadlines,
      eventLog:
        resolved.stateless || resolved.eventLog === false
          ? undefined
          : (resolved.eventLog ?? store?.eventLog ?? memoryLog(resolved, clock)),
      hub: new EventHub((thrown) => log.error('an event listener threw', { error: thrown })),
      log,
      load: new Load(),
      shuttingDown: shuttingDown(restartWait(resolved)),
      revocations: new Revocations(),
      shared: new SharedJsonPool(),
      awake: sleeps ? new AwakeSessions({ clock, deadlines, log }, { sleepAfter, maxAwake }) : undefined,
      memory:
        single || resolved.maxHeapUsed === Number.POSITIVE_INFINITY
          ? undefined
          : new MemoryPressure({ clock, deadlines, log }, resolved.maxHeapUsed, heap),
      keeper: this.#persistence,
      warnOnce: (message, details) => {
        if (warned.has(message)) return
        warned.add(message)
        log.warn(message, details)
      },
    }
    this.#front = new HttpFront(resolved, log, clock)
    this.#nodeOptions = { clock, trustedProxies: resolved.trustedProxies }
    this.#table = new SessionTable(this.#runtime)
    this.sessions = new Sessions(this.#runtime, this.#table, (principal) => this.#closePrincipal(principal))
    const host = this.#openingHost()
    this.#opener = new SessionOpener(host, single, newSessionId)
    this.#stateless = new StatelessServing(host)
    // The one server of a SessionTransport is its session's.
    const legacyOnly = single || resolved.protocolEras === 'legacy'
    this.#perRequest = legacyOnly ? undefined : new PerRequestLeg(this.#runtime)
    this.notify = new Announcements(this.#runtime, {
      sessions: () => this.#table.values(),
      listeners: this.#perRequest?.listeners ?? [],
    })
    this.#shutdown = new Shutdown({
      runtime: this.#runtime,
      sessions: this.sessions,
      notify: this.notify,
      perRequest: this.#perRequest,
      openings: this.#openings,
      all: () => this.#all(),
      closeStores: () => this.#closeStores(),
    })
    this.#posts = new Posts(this.#postHost(host))
    this.#runtime.memory?.begin(
      () => this.#shed(),
      // The heap is the real one, and changes with real time only.
      resolved.clock === undefined ? () => this.#table.size > 0 : undefined,
    )
    this.#persistence?.begin({
      clock,
      deadlines,
      log,
      eventLog: this.#runtime.eventLog,
      restore: (stored, times) => this.#restore(stored, times),
      sessions: () => this.#table.values(),
      lost: () => {
        for (const session of [...this.#table.values()]) session.close('shutdown')
      },
    })
  }

  #postHost({ runtime, table, refuse }: OpeningHost): PostHost {
    const isEnding = (): boolean => this.#shutdown.state === 'ending'
    return {
      runtime,
      table,
      refuse,
      front: this.#front,
      opener: this.#opener,
      stateless: this.#stateless,
      perRequest: this.#perRequest,
      get ending() {
        return isEnding()
      },
      withoutStore: () => this.#withoutStore(),
      gone: (id, principal) => this.#gone(id, principal),
      after: (exchange, served, onServed) => this.#after(exchange, served, onServed),
      failed: (exchange, thrown) => this.#failed(exchange, thrown),
    }
  }

  /** Puts a session from the store in the table, asleep. */
  #restore(stored: StoredSession, times: RestoredTimes): Session | undefined {
    const { clock, shared } = this.#runtime
    const record = recordFromJson(stored.record, `${stored.label}…`, shared)
    record.serverRequests = times.serverRequests
    record.streams = Math.max(record.streams, times.streams)
    record.primings = times.primings
    const openedAt = clock.now() - Math.max(0, clock.wallTime() - record.createdAt)
    const session = new Session(this.#runtime, record, this.#table, false, { openedAt, key: stored.key })
    this.#table.restore(session)
    session.restore(times.idleSince, this.#began)
    return session.state === 'open' ? session : undefined
  }

  /** Memory is short: gives up a tenth of what may be given up; how much that was. */
  #shed(): number {
    const most = Math.max(LEAST_SHED, Math.ceil(this.#table.size / 10))
    const { awake } = this.#runtime
    return this.#table.shed(most) + (awake?.shed(most) ?? 0) + (this.#perRequest?.dropIdle() ?? 0)
  }

  async #closeStores(): Promise<void> {
    this.#runtime.memory?.stop()
    await this.#persistence?.close()
    // Those that were loaded when the others had ended already.
    for (const session of [...this.#table.values()]) session.close('shutdown')
    const { eventLog, options } = this.#runtime
    // A log that was given may serve others: it is its owner's to close. A store closes its own.
    if (options.eventLog === undefined && this.#persistence === undefined) await eventLog?.close()
  }

  /**
   * Resolves when sessions can be served: at once without a store; with one, when what it keeps is loaded, or when another process owns it
   * and requests are refused until that is gone.
   * @throws SojournError `store-unavailable` when the store cannot be used at all
   */
  get opened(): Promise<void> {
    return this.#persistence?.opened ?? Promise.resolve()
  }

  /** Why no session can be served at all. */
  #withoutStore(): Refusal | undefined {
    switch (this.#persistence?.state) {
      case 'unusable':
        return STORE_FAILS
      case 'opening':
      case 'waiting':
      case 'lost':
        return STORE_ELSEWHERE
      default:
        return undefined
    }
  }

  /** What to say of a session that is not here: unknown, but never of one that a store keeps, nor before its end is durable. */
  async #gone(id: string, principal: string | undefined): Promise<Refusal> {
    const persistence = this.#persistence
    if (persistence === undefined) return NOT_FOUND
    const without = this.#withoutStore()
    if (without !== undefined) return without
    if (this.#shutdown.state === 'ending' || this.#shutdown.state === 'over')
      return this.#runtime.shuttingDown
    return ((await persistence.mayDeny(id, principal)) ?? true) ? NOT_FOUND : STORE_FAILS
  }

  *#all(): Iterable<Session> {
    yield* this.#table.values()
    yield* this.#stateless.sessions
  }

  #openingHost(): OpeningHost {
    const isDraining = (): boolean => this.#shutdown.state !== 'serving'
    return {
      runtime: this.#runtime,
      table: this.#table,
      openings: this.#openings,
      get draining() {
        return isDraining()
      },
      refuse: (exchange, refusal) => this.#refuse(exchange, refusal),
    }
  }

  /** Serves one request of Node's HTTP server (`node:http`, Express). Never throws. */
  handleRequest(req: IncomingMessage, res: ServerResponse): void {
    this.#begin(new NodeExchange(req, res, this.#nodeOptions))
  }

  /**
   * Serves one Web-standard request; needs no `this`. The promise never rejects.
   *
   * @throws TypeError when read without `allowedHosts`: a `Request` does not tell which address its server is bound to
   */
  get fetch(): (request: Request, options?: FetchOptions) => Promise<Response> {
    const { clock, options } = this.#runtime
    if (options.allowedHosts === undefined || options.allowedHosts.length === 0) {
      throw new TypeError(
        `app.fetch needs the option allowedHosts, since a Request does not tell which address its server is bound to: the names clients use, such as ['mcp.example.com'] or ['localhost', '127.0.0.1'], or 'any' where something in front checks them; got ${JSON.stringify(options.allowedHosts)}`,
      )
    }
    return (request, given) => {
      // Runtimes hand over things of their own here, and some nothing: no destructuring.
      const exchange = new WebExchange(request, {
        clock,
        trustedProxies: options.trustedProxies,
        authInfo: given?.authInfo,
        parsedBody: given?.parsedBody,
      })
      this.#begin(exchange)
      return exchange.response
    }
  }

  /** Serves one exchange, whatever its runtime. Never rejects; resolves when the request was dispatched or refused. */
  handle(exchange: Exchange): Promise<void> {
    return new Promise((resolve) => this.#begin(exchange, resolve))
  }

  /** `onServed` is called once, when the request was dispatched or refused. */
  #begin(exchange: Exchange, onServed?: () => void): void {
    try {
      this.#serve(exchange, onServed)
    } catch (thrown) {
      this.#failed(exchange, thrown)
      onServed?.()
    }
  }

  #after(exchange: Exchange, served: Promise<void>, onServed: (() => void) | undefined): void {
    void served.catch((thrown: unknown) => this.#failed(exchange, thrown)).then(() => onServed?.())
  }

  #closePrincipal(principal: string): Session[] {
    const { clock, revocations } = this.#runtime
    revocations.add(principal, clock.now())
    const owned = [...this.#all()].filter(({ record }) => record.principal === principal)
    for (const session of owned) session.close('admin')
    this.#perRequest?.closePrincipal(principal, ACCESS_ENDED)
    return owned.filter(({ ephemeral }) => !ephemeral)
  }

  #failed(exchange: Exchange, thrown: unknown): void {
    this.#runtime.log.error('a request failed unexpectedly', { error: thrown, message: messageOf(thrown) })
    this.#refuse(exchange, {
      status: 500,
      code: JsonRpcErrorCode.INTERNAL_ERROR,
      message: 'Internal error',
      cause: 'internal',
    })
  }

  /** URL paths beside the endpoint's own that it answers: those of its metadata, where `authenticate` has some. */
  get wellKnownPaths(): readonly string[] {
    return this.#runtime.options.authenticate?.protectedResource?.paths ?? []
  }

  /** Whether sessions can be opened: not from `close()` on. What `/ready` tells, for those with an HTTP server of their own. */
  get ready(): boolean {
    return this.#shutdown.state === 'serving' && (this.#persistence?.state ?? 'ready') === 'ready'
  }

  /**
   * Ends everything: no new sessions from now on, running calls may finish within `drain` (default 0: they do not), GET streams end in
   * batches with a hint when to come back, then every session ends with the reason `shutdown`. Idempotent; later calls wait for the first.
   */
  close(options?: { drain?: Duration }): Promise<void> {
    return this.#shutdown.begin(options?.drain === undefined ? 0 : durationArgument('drain', options.drain))
  }

  /** As {@link StreamableHTTPSessionManager.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #warnOfUseAfterClose(): void {
    if (this.#warnedOfUse) return
    this.#warnedOfUse = true
    this.#runtime.log.error(
      'a request came after close(): the app opens no session any more and knows none; make a new one with httpApp()',
    )
  }

  #serve(exchange: Exchange, onServed: (() => void) | undefined): void {
    if (this.#shutdown.state !== 'serving') exchange.commonHeaders = CLOSE_CONNECTION
    if (this.#shutdown.state === 'over') this.#warnOfUseAfterClose()
    const admitted = this.#front.admit(exchange)
    if (admitted.kind === 'refused') this.#refuse(exchange, admitted.refusal)
    if (admitted.kind !== 'pass') {
      onServed?.()
      return
    }
    const authentication = this.#front.authenticate(exchange)
    if (authentication instanceof Promise || this.#persistence?.state === 'opening')
      this.#after(exchange, this.#routeLater(exchange, authentication), onServed)
    else this.#route(exchange, authentication, onServed)
  }

  async #routeLater(
    exchange: Exchange,
    authentication: Checked<Caller> | Promise<Checked<Caller>>,
  ): Promise<void> {
    // Sessions may be about to be loaded: whoever comes in the first moments waits.
    if (this.#persistence?.state === 'opening') await this.#persistence.opened.catch(() => {})
    // The session named in the head must not end while its own request is looked at; whoever the request turns out to be from.
    const hold = this.#findNamed(exchange)?.clock.holdProvisionally('exchange')
    try {
      const caller = await authentication
      // Takes a hold of its own, if it is to have one, before it waits for anything.
      const routed = new Promise<void>((resolve) => this.#route(exchange, caller, resolve))
      hold?.release()
      await routed
    } finally {
      hold?.release()
    }
  }

  #route(exchange: Exchange, caller: Checked<Caller>, onServed: (() => void) | undefined): void {
    if (caller.kind === 'refused') this.#refuse(exchange, caller.refusal)
    // Nobody is left to be told that the exchange is over: what it would hold would be held for ever.
    if (caller.kind !== 'pass' || exchange.closed) {
      onServed?.()
      return
    }
    if (exchange.method === 'POST') this.#posts.serve(exchange, caller.value, onServed)
    else if (exchange.method === 'GET') this.#after(exchange, this.#get(exchange, caller.value), onServed)
    else this.#after(exchange, this.#delete(exchange, caller.value), onServed)
  }

  /** The session that a request names, whoever owns it. */
  #findNamed(exchange: Exchange): Session | undefined {
    const id = singleValue(exchange.header('mcp-session-id'))
    return id === 'conflict' || id.value === undefined ? undefined : this.#table.find(id.value)
  }

  async #get(exchange: Exchange, caller: Caller): Promise<void> {
    const unacceptable = this.#front.acceptsStream(exchange)
    if (unacceptable !== undefined) return this.#refuse(exchange, unacceptable)
    const id = singleValue(exchange.header('mcp-session-id'))
    if (id === 'conflict') return this.#refuse(exchange, SESSION_CONFLICT)
    // Clients read 405 as 'no stream here' and go on; any other refusal breaks them.
    if (id.value === undefined || this.#sessionless(exchange)) return this.#refuse(exchange, NO_STREAM_HERE)
    const session = this.#table.findOwned(id.value, caller.principal)
    if (session === undefined) return this.#refuse(exchange, await this.#gone(id.value, caller.principal))
    const hold = session.clock.holdProvisionally('stream')
    exchange.onclose = () => hold.release()
    const told = this.#persistence?.expectUse(session)
    if (told !== undefined) {
      await told
      if (session.state !== 'open')
        return this.#refuse(exchange, await this.#gone(id.value, caller.principal))
      if (exchange.closed) return
    }
    const lastEventId = singleValue(exchange.header('last-event-id'))
    const refusal =
      checkVersion(exchange, session) ??
      (lastEventId === 'conflict'
        ? CURSOR_CONFLICT
        : lastEventId.value === undefined || lastEventId.value === ''
          ? session.streams.openStandalone(exchange, hold)
          : session.streams.resume(exchange, hold, lastEventId.value))
    if (refusal === undefined) return
    this.#refuse(exchange, refusal)
    hold.release()
  }

  async #delete(exchange: Exchange, caller: Caller): Promise<void> {
    if (this.#sessionless(exchange)) return this.#refuse(exchange, NO_STREAM_HERE)
    const id = singleValue(exchange.header('mcp-session-id'))
    if (id === 'conflict') return this.#refuse(exchange, SESSION_CONFLICT)
    if (id.value === undefined) return this.#refuse(exchange, SESSION_REQUIRED)
    const session = this.#table.findOwned(id.value, caller.principal)
    if (session === undefined) return this.#refuse(exchange, await this.#gone(id.value, caller.principal))
    const version = checkVersion(exchange, session)
    if (version !== undefined) return this.#refuse(exchange, version)
    session.close('deleted')
    const durable = this.#persistence?.mayDeny(id.value, caller.principal)
    if (durable !== undefined && !(await durable)) return this.#refuse(exchange, STORE_FAILS)
    exchange.respond(200, {}, '')
  }

  /** Whether a GET or DELETE comes from where there are no sessions: `stateless`, or a revision without them. */
  #sessionless(exchange: Exchange): boolean {
    const { stateless, protocolEras } = this.#runtime.options
    const version = exchange.header('mcp-protocol-version')
    return stateless || protocolEras === 'modern' || version === FIRST_MODERN_VERSION
  }

  #refuse(exchange: Exchange, refusal: Refusal): void {
    const { hub, clock } = this.#runtime
    sendRefusal(exchange, refusal)
    if (!hub.active) return
    hub.emit({
      type: 'request.refused',
      time: clock.wallTime(),
      session: undefined,
      status: refusal.status,
      cause: refusal.cause,
      message: refusal.message,
      option: refusal.option,
      address: exchange.remoteAddress,
    })
  }
}

/** So many sessions end, and instances sleep, at least at a time when memory is short. */
const LEAST_SHED = 50

const CLOSE_CONNECTION = { Connection: 'close' } as const

function memoryLog(options: Runtime['options'], clock: Runtime['clock']): MemoryEventLog {
  return new MemoryEventLog(clock, {
    maxBytes: options.eventLogMaxBytes,
    maxEvents: options.eventLogMaxEvents,
    maxAge: options.eventLogMaxAge,
    maxTotalBytes: options.eventLogMaxTotalBytes,
  })
}
