/** The contract: every public type a user of this package meets, documented here once. */

import type { Clock } from './clock.ts'
import type { Log } from './logging.ts'
import type { SessionStore } from './store/session-store.ts'
import type { EventLog } from './stream/event-log.ts'

/** Milliseconds as a number, or a string with a unit: `'500ms'`, `'30s'`, `'5m'`, `'2h'`, `'1d'`. `Infinity` turns a timeout off. */
export type Duration = number | string

/** Bytes as a number, or a string with a unit: `'512B'`, `'16KiB'`, `'4MiB'`, `'1GiB'`. */
export type ByteSize = number | string

/** How often: a number per second, or a string with a unit of time: `'10/s'`, `'90/m'`, `'1000/h'`. `Infinity` is no limit. */
export type Rate = number | string

/** A value that JSON can represent. */
export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue }

/** Verified authentication of one request: structurally the `AuthInfo` of both official SDKs. */
export interface AuthInfo {
  /** The access token. */
  token: string
  /** The OAuth client the token was issued to. Never identifies a user: all users of a client share it. */
  clientId: string
  /** Scopes granted to the token. */
  scopes: string[]
  /** When the token expires, in seconds since the Unix epoch. */
  expiresAt?: number
  /** The RFC 8707 resource the token is for. */
  resource?: URL
  /** Where the RFC 9728 metadata of this resource is. */
  resourceMetadataUrl?: string
  /** More from the token; the default principal is made of `extra.iss` and `extra.sub` (RFC 7519 claims). */
  extra?: Record<string, unknown>
}

/** Why a session ended. */
export type CloseReason =
  | 'idle'
  | 'unused'
  | 'deleted'
  | 'failed'
  | 'evicted'
  | 'shutdown'
  | 'max-age'
  | 'admin'

/** Which family of protocol revisions a server instance speaks: `legacy` has the `initialize` handshake (up to 2025-11-25), `modern` has none. */
export type Era = 'legacy' | 'modern'

/** What the client said of itself in `initialize`. */
export interface ClientIdentity {
  readonly name: string
  readonly version: string
}

/** A JSON-RPC request id as MCP allows it. */
export type RequestId = string | number

/** A JSON-RPC request. */
export interface JsonRpcRequest {
  jsonrpc: '2.0'
  id: RequestId
  method: string
  params?: { [key: string]: unknown }
}

/** A JSON-RPC notification. */
export interface JsonRpcNotification {
  jsonrpc: '2.0'
  method: string
  params?: { [key: string]: unknown }
}

/** A JSON-RPC response that carries a result. */
export interface JsonRpcResult {
  jsonrpc: '2.0'
  id: RequestId
  result: { [key: string]: unknown }
}

/** A JSON-RPC response that carries an error. `id` is absent or null where the request's id could not be read. */
export interface JsonRpcError {
  jsonrpc: '2.0'
  id?: RequestId | null
  error: { code: number; message: string; data?: unknown }
}

/** A JSON-RPC response. */
export type JsonRpcResponse = JsonRpcResult | JsonRpcError

/** Any JSON-RPC message. */
export type JsonRpcMessage = JsonRpcRequest | JsonRpcNotification | JsonRpcResponse

/** What travels with a message from the transport to the SDK; the union of what v1 and v2 read. */
export interface MessageExtra {
  /** Read by SDK v1: headers and URL of the HTTP request. */
  readonly requestInfo?: {
    readonly headers: Readonly<Record<string, string | string[] | undefined>>
    readonly url: URL
  }
  /** Read by SDK v2: the HTTP request. */
  readonly request?: Request
  /** Verified authentication of the HTTP request. */
  readonly authInfo?: AuthInfo
  /** Ends the SSE connection of this request so that the client polls; there only when the stream can be resumed. */
  readonly closeSSEStream?: () => void
  /** The same for the session's GET stream. */
  readonly closeStandaloneSSEStream?: () => void
}

/** Structurally the `Transport` of both official SDKs, as their servers use it. */
export interface ServerTransport {
  start(): Promise<void>
  // Method syntax on purpose: both SDKs declare their own message types, and bivariance lets either server take this transport.
  send(message: JsonRpcMessage, options?: { relatedRequestId?: RequestId }): Promise<void>
  close(): Promise<void>
  onclose?: (() => void) | undefined
  onerror?: ((error: Error) => void) | undefined
  // oxlint-disable-next-line typescript/no-explicit-any -- v1 and v2 type message and extra differently; both must be assignable
  onmessage?: ((message: any, extra?: any) => void) | undefined
  sessionId?: string | undefined
  setProtocolVersion?: ((version: string) => void) | undefined
  setSupportedProtocolVersions?: ((versions: string[]) => void) | undefined
}

/** What `createServer` returns: an `McpServer` or `Server` of either official SDK (v1 `@modelcontextprotocol/sdk`, v2 `@modelcontextprotocol/server`). */
export interface McpServerLike {
  // oxlint-disable-next-line typescript/no-explicit-any -- v1 and v2 name different Transport types; ours is structurally both
  connect(transport: any): Promise<void>
  close(): Promise<void>
}

/**
 * A session as the author of the server sees it. Where there are no sessions it is as long as one request: under `stateless`, and in the
 * `modern` era, where `data` starts as `{}` for every request and the signal aborts with its end.
 */
export interface SessionContext {
  /** What `Mcp-Session-Id` names; undefined where there are no sessions. It is a credential where no authentication is used: do not log it whole. */
  readonly id: string | undefined
  /** Who owns the session; undefined for an anonymous one. */
  readonly principal: string | undefined
  /** The client as it named itself in `initialize`, or in the request's own `_meta` (`modern`); undefined under `stateless`. */
  readonly client: ClientIdentity | undefined
  /**
   * The author's own JSON, kept as long as the session. Reading gives a frozen value; replace it by assignment. `{}` at first.
   * @throws SojournError `limit-exceeded` when the new value is larger than `maxSessionDataSize`.
   */
  data: JsonValue
  /** Aborts when the session ends, with the {@link CloseReason} as its reason (`shutdown` for one request's); not when its instance sleeps. */
  readonly signal: AbortSignal
  /** Whether the instance being built replaces an earlier one of the same session: it slept, or the process was restarted. */
  readonly restored: boolean
  /**
   * Keeps this instance from sleeping until the result is released (`using`, or `release()`), for work that goes on outside any request.
   * The session may still end. Does nothing where there are no sessions, nor for an instance that was let go.
   */
  keepAwake(): KeepAwake
}

/** Keeps an instance awake; see {@link SessionContext.keepAwake}. */
export interface KeepAwake extends Disposable {
  /** Lets the instance sleep again; harmless when repeated. */
  release(): void
}

/** What `createServer` is given. A function that takes no parameters works too. */
export interface ServerContext {
  /** The session the server is built for. */
  readonly session: SessionContext
  /** Aborts when this instance is let go: with the reason `sleep`, or that of the session's end. */
  readonly instanceSignal: AbortSignal
  /**
   * Registers what is done before this instance sleeps: put into `session.data` what the next one is to know. Runs each time the instance
   * is about to be let go while its session lives on, at a shutdown with a store too, unless the process dies first; it may run and the
   * instance be used again all the same, when a request comes meanwhile. What throws, or takes longer than 5 s, keeps the instance awake.
   */
  onSleep(hook: () => void | PromiseLike<void>): void
  /**
   * Registers what is done once this instance has taken the place of an earlier one, after the handshake was repeated and before it gets
   * its first request; never for a session's first instance. What throws fails the waking, as a throw of the factory does.
   */
  onWake(hook: () => void | PromiseLike<void>): void
  /** `legacy` for protocol revisions with the `initialize` handshake. */
  readonly era: Era
  /** Authentication of the request that made the server necessary. */
  readonly authInfo: AuthInfo | undefined
  /** That HTTP request, without its body. Named as in SDK v2's own factory context. */
  readonly requestInfo: Request | undefined
}

/** Builds one server for one session, or for one request of the `modern` era. Must return a new server each time. */
export type CreateServer = (context: ServerContext) => McpServerLike | Promise<McpServerLike>

/**
 * Called once per HTTP request, before any session is looked up. Return the verified authentication, `undefined` for an anonymous
 * request, or a Web `Response` (401, 403) to refuse; a `Response` is sent as it is. SDK v2's `requireBearerAuth(…)` fits. A throw is
 * answered with 500 and logged.
 */
export interface Authenticate {
  (request: Request): AuthInfo | Response | undefined | Promise<AuthInfo | Response | undefined>
  /** What the app serves about itself for clients to log in; what `bearerAuth` of `sojourn/auth` makes has it. */
  readonly protectedResource?: ProtectedResource
}

/** Metadata of the endpoint as a protected resource (RFC 9728), which the app serves beside it to everybody, browsers of any origin included. */
export interface ProtectedResource {
  /** URL paths under which it is served: at the well-known place before the path of the resource, and at the root. */
  readonly paths: readonly string[]
  /** Where it is, for challenges. */
  readonly metadataUrl: string
  /** The document. */
  readonly metadata: Readonly<Record<string, string | readonly string[]>>
  /** Scopes without which no request is let in. */
  readonly requiredScopes: readonly string[]
  /** @internal Called by each app that is made with it. */
  attach?(host: { readonly log: Log; readonly clock: Clock }): void
}

/** Names who owns a session: a string that stays the same when the token is refreshed; `undefined` means anonymous. */
export type PrincipalOf = (authInfo: AuthInfo, request: Request) => string | undefined

/** Anything shaped like `console`; a pino logger is recognized and given fields first. */
export interface Logger {
  debug(...args: unknown[]): void
  info(...args: unknown[]): void
  warn(...args: unknown[]): void
  error(...args: unknown[]): void
}

/** How a POST that carries requests is answered: `auto` decides per answer, `sse` always streams, `json` never does. */
export type ResponseMode = 'auto' | 'sse' | 'json'

/** Which eras an endpoint serves: those with the `initialize` handshake (`legacy`), those without (`modern`), or both. */
export type ProtocolEras = 'both' | 'legacy' | 'modern'

/** Whether a server of the `modern` era serves one request (`fresh`), or may serve many of one principal (`pooled`). */
export type InstanceMode = 'fresh' | 'pooled'

/** What happens when a session's GET stream is opened while one is open: the newcomer takes over, or gets 409. */
export type StandaloneStreamMode = 'takeover' | 'reject'

/** When a store acknowledges what it is given. */
export type Durability = 'full' | 'relaxed'

/** Options of sessions, streams and limits; every one can also be set by flag and environment, see `settings.ts`. */
export interface SessionOptions {
  /** How long a session may be idle before it ends; default 30 minutes. `Infinity` turns it off. May depend on principal and client. */
  sessionIdleTimeout?:
    | Duration
    | ((session: { principal: string | undefined; client: ClientIdentity | undefined }) => Duration)
  /** How long a session may be idle that was never used (no request but `ping`, no GET); default 5 minutes. A `ping` restarts its clock. */
  unusedSessionTimeout?: Duration
  /** The same while `notifications/initialized` is missing; default 60 s. */
  handshakeTimeout?: Duration
  /** How old a session may become; default `Infinity`. It waits for work in flight, at most `drainTimeout`. */
  sessionMaxAge?: Duration
  /** Sessions at once, asleep and awake; default 10,000. */
  maxSessions?: number
  /** Sessions at once of one authenticated principal; default `Infinity`. */
  maxSessionsPerPrincipal?: number
  /** When the table is full, anonymous sessions idle for longer than this make room for an anonymous newcomer; default 5 minutes. */
  evictableAfter?: Duration
  /**
   * How fast one authenticated principal may open sessions, once `openBurstPerPrincipal` is used up; default `Infinity`. Beyond it
   * `initialize` gets 429, with the time until it would be served as `Retry-After`. Requests without a handshake (2026-07-28) open nothing.
   */
  openRatePerPrincipal?: Rate
  /** How many sessions a principal may open at once that opened none for a while; default 20. Needs `openRatePerPrincipal`. */
  openBurstPerPrincipal?: number
  /**
   * How fast sessions may be opened from one address, or from one /64 network of IPv6; default `Infinity`. Needs `trustedProxies`, given as 0
   * where clients connect directly: behind a proxy that is not counted all clients would share one rate.
   */
  openRatePerAddress?: Rate
  /** How many sessions may be opened at once from an address that opened none for a while; default 50. Needs `openRatePerAddress`. */
  openBurstPerAddress?: number
  /**
   * How full V8's heap may be: a percentage of the size at which V8 ends the process (`--max-old-space-size`), or bytes; default 85 %. Beyond
   * it no session opens and no request without a handshake begins (503 with `Retry-After`), sessions that were never used end, instances
   * that may sleep do and pooled ones that wait go, until a tenth less is used. Sessions that are in use are served all along. `Infinity`
   * turns it off.
   */
  maxHeapUsed?: number | string
  /** How long `initialize` may take, factory included; default 60 s. */
  initializeTimeout?: Duration
  /** How long a call may go on after its connection dropped; default 10 minutes. */
  detachedRequestTimeout?: Duration
  /** How long a server→client request waits for a connection to travel on before it is rejected; default 10 s. */
  undeliveredRequestTimeout?: Duration
  /** How long running calls may go on after `close()` or SIGTERM; default 30 s. */
  drainTimeout?: Duration
  /**
   * Least reconnect delay told to clients when a server stops; default 10 s. Each is told a time of its own between this and twice this, so
   * that they do not all come back at once. What clients are told otherwise (`retryInterval`) counts where it is longer.
   */
  restartGrace?: Duration
  /**
   * Where sessions are kept; default `memory`. `sqlite:` and the name of a file (or a {@link SessionStore} of your own) keeps them over
   * restarts: sessions, their owners, idle times, `session.data` and undelivered events. One process owns a store at a time; another one
   * waits until it is gone.
   */
  store?: string | SessionStore
  /**
   * What the store has acknowledged is on disk (`full`, the default), or may be lost with the machine's power, not with the process
   * (`relaxed`). Given without a `store` it is an error.
   */
  durability?: Durability
  /** Largest store, its file and what is yet to be merged into it together; default 1 GiB. */
  maxStoreSize?: ByteSize
  /**
   * How long a session's instance may be unused before it is let go, to be built again by the next request that needs it; default
   * `Infinity`, with a store 10 minutes. Unused means: no running request, none pending to the client, nothing that keeps it awake.
   */
  sleepAfter?: Duration
  /** Instances at once; when there are more, the idlest that nothing needs are let go. Those at work stay. Default `Infinity`. */
  maxAwake?: number
  /** Serve handshake clients without sessions: a server is built per POST, GET and DELETE are 405. Default false. */
  stateless?: boolean
  /**
   * Which protocol revisions are served: `legacy` those with the `initialize` handshake, `modern` 2026-07-28, which has neither handshake
   * nor sessions; default `both`. Clients of the other era are told so, in the way they fall back on where they can. Servers of SDK v1
   * cannot speak 2026-07-28.
   */
  protocolEras?: ProtocolEras
  /**
   * Where there is no handshake (2026-07-28): whether `createServer` is called for each request (`fresh`, the default), or its servers may
   * serve many requests of one principal, one after another (`pooled`). Then it is told nothing of a request: reading `authInfo`,
   * `requestInfo`, `session.principal` or `session.client` of its context throws. What a closure in it holds is shared by a principal's
   * requests, and by all anonymous ones.
   */
  instances?: InstanceMode
  /** With `pooled`: instances that wait for a request, in all; default 1,000. */
  maxPooledInstances?: number
  /** With `pooled`: instances that wait for a request of the same principal; default 16. */
  maxPooledInstancesPerPrincipal?: number
  /** With `pooled`: how long an instance waits for a request before it is let go; default 60 s. */
  pooledInstanceIdleTimeout?: Duration
  /** How POSTs are answered; default `auto`. */
  responseMode?: ResponseMode
  /** `true` is `responseMode: 'json'`, under the name the official SDKs know. */
  jsonResponse?: boolean
  /** Under `auto`, how long an answer may take and still be one JSON body; default 25 ms. */
  jsonResponseWindow?: Duration
  /** The `retry:` hint of SSE streams; default 3 s. */
  retryInterval?: Duration
  /** The interval of SSE keep-alives; default 15 s. `Infinity` turns them off. */
  keepAliveInterval?: Duration
  /** How old an SSE connection may become before it is rotated; default `Infinity`. */
  streamMaxAge?: Duration
  /**
   * Whether a stream ends when the token that it was opened with expires (`authInfo.expiresAt`); default true. The client comes back with a
   * new token, and resumes without loss. The answer of a call whose client could not resume it is sent all the same.
   */
  endStreamsOnTokenExpiry?: boolean
  /** What a second GET stream does; default `takeover`. */
  standaloneStream?: StandaloneStreamMode
  /** How long response bytes may stay unsent before the connection is cut; default 60 s. */
  unsentTimeout?: Duration
  /** Largest request body; default 4 MiB. */
  maxBodySize?: ByteSize
  /** How long a request body may take to arrive; default 30 s. */
  bodyTimeout?: Duration
  /** Largest `params` of `initialize`; default 16 KiB. */
  maxInitializeSize?: ByteSize
  /** Most messages in a JSON-RPC batch (protocol 2025-03-26 and before); default 100. */
  maxBatchSize?: number
  /**
   * Most open streams per session; default 64. Checked when a request comes: calls that were admitted together, before any of them needed a
   * stream, may open more, up to `maxRequestsPerSession`.
   */
  maxStreamsPerSession?: number
  /** Most running requests per session; default 256. */
  maxRequestsPerSession?: number
  /** Most pending server→client requests per session; default 64. */
  maxServerRequestsPerSession?: number
  /** Most unsent bytes per stream before a further message closes its connection; default 1 MiB. */
  maxStreamBuffer?: ByteSize
  /** Largest single message to a client; default 16 MiB. */
  maxMessageSize?: ByteSize
  /** Largest `session.data` as JSON; default 64 KiB. */
  maxSessionDataSize?: ByteSize
  /** Most resource subscriptions per session; default 1,000. */
  maxSubscriptions?: number
  /** Longest URI of a subscription; default 2 KiB. */
  maxSubscriptionUriSize?: ByteSize
  /** Event log, per session: most bytes; default 1 MiB. */
  eventLogMaxBytes?: ByteSize
  /** Event log, per session: most events; default 1,000. */
  eventLogMaxEvents?: number
  /** Event log: oldest event; default 10 minutes. */
  eventLogMaxAge?: Duration
  /** Event log, all sessions together: most bytes; default 256 MiB. */
  eventLogMaxTotalBytes?: ByteSize
  /** Host names this server answers to, or `'any'`. Bound to loopback, loopback names always count. */
  allowedHosts?: readonly string[] | 'any'
  /** Origins allowed, exactly as browsers send them, or `'any'`. Bound to loopback, loopback origins always count. */
  allowedOrigins?: readonly string[] | 'any'
  /** Origins that get CORS headers (and are allowed), or `'*'`. Default none. */
  corsOrigins?: readonly string[] | '*'
  /** Hops of reverse proxies whose `X-Forwarded-For` is believed; default 0. */
  trustedProxies?: number
}

/** Options that only code can give. */
export interface AppOptions extends SessionOptions {
  /** Verifies each request; see {@link Authenticate}. Without it, what a framework's middleware left in `req.auth` counts. */
  authenticate?: Authenticate
  /** Names the owner of a session; see {@link PrincipalOf}. */
  principal?: PrincipalOf
  /** Where undelivered stream events wait; default a bounded log in memory. `false` turns resuming off. One that is given is not closed by the app. */
  eventLog?: EventLog | false
  /** Where log lines go; default nowhere. */
  logger?: Logger
  /** Where time comes from; default the system's. */
  clock?: Clock
}

/** Options of {@link runHttp}: those of the app, and where to listen. */
export interface RunHttpOptions extends AppOptions {
  /** Address to bind; default `127.0.0.1`. A non-loopback address needs `allowedHosts`. */
  host?: string
  /** TCP port; default 3000, 0 takes a free one. */
  port?: number
  /** Unix socket to listen on instead. */
  socket?: string
  /** URL path of the endpoint; default `/mcp`. */
  path?: string
  /** URL path that answers 200 while the process lives; default `/health`. The path of the endpoint itself turns it off. */
  healthPath?: string
  /** URL path that answers 200 while sessions can be opened, else 503; default `/ready`. The path of the endpoint itself turns it off. */
  readyPath?: string
  /** How long an idle HTTP connection is kept; default 75 s, longer than the balancers in front usually keep theirs. */
  httpKeepAliveTimeout?: Duration
  /** How long the head of a request may take to arrive, from its first byte or from the start of a connection; default 30 s, then 408. */
  headersTimeout?: Duration
  /**
   * HTTP connections at once; further ones are closed unanswered. Default 20,000, or twice `maxSessions` where that is more. Keep it below the
   * limit of open files.
   */
  maxConnections?: number
  /**
   * Unix socket on which `sojourn sessions` asks this server for its sessions, and ends them; open to its user only (0600), removed at exit.
   * By default beside the file of a SQLite store, as `<file>-admin.sock`, and without such a file none. `'none'` makes none.
   */
  adminSocket?: string
  /** Whether SIGTERM and SIGINT drain and stop the server; default true. */
  handleSignals?: boolean
}
