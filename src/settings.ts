/** Every option once: what it takes, its default, its flag and environment variable. Help, checks and resolved options come from here. */

import { parseByteSize, parseDuration } from './duration.ts'
import { checkValue, readValue } from './setting-value.ts'
import type { SettingRule, SettingValue } from './setting-value.ts'
import type { ResponseMode, SessionOptions } from './types.ts'

/** Under which heading help shows a setting. */
export type SettingGroup =
  | 'Listening'
  | 'Security'
  | 'Authentication'
  | 'Sessions'
  | 'Streams'
  | 'Limits'
  | 'Command line'

/** Options that have a flag and an environment variable besides {@link SessionOptions}. */
type ListenKey =
  | 'host'
  | 'port'
  | 'socket'
  | 'path'
  | 'healthPath'
  | 'readyPath'
  | 'httpKeepAliveTimeout'
  | 'headersTimeout'
  | 'maxConnections'
  | 'adminSocket'
type CommandLineKey = AuthKey | 'logLevel' | 'logFormat' | 'live'
/** What `sojourn serve` makes `authenticate` of. In code that is `bearerAuth` of `sojourn/auth`. */
type AuthKey =
  | 'authTokens'
  | 'authIssuer'
  | 'authResource'
  | 'authScopes'
  | 'authAudience'
  | 'authCheck'
  | 'authJwksUri'
  | 'authAlgorithms'
  | 'authIntrospectionUri'
  | 'authClientId'
  | 'authClientSecretFile'
  | 'authClockTolerance'
  | 'authAllowHttp'

/** The name of a setting, as in code. */
export type SettingKey = keyof SessionOptions | ListenKey | CommandLineKey

/** One row of the table. */
export interface Setting {
  /** Its name in code: `sessionIdleTimeout`. */
  readonly key: SettingKey
  /** Its flag without the dashes: `session-idle-timeout`. */
  readonly flag: string
  /** Its environment variables, the first that is set counts: `SOJOURN_SESSION_IDLE_TIMEOUT`. */
  readonly env: readonly string[]
  readonly group: SettingGroup
  /** What it does, for help. */
  readonly description: string
  /** What it takes. */
  readonly rule: SettingRule
  /** Its value when nobody gave one, resolved: milliseconds, bytes. */
  readonly default: SettingValue
  /** Who takes it: the app, `runHttp`, or only the command line. */
  readonly scope: 'app' | 'listen' | 'command-line'
}

/** What a table says of one setting; the rest follows from its key. */
export type Row = Pick<Setting, 'group' | 'description' | 'rule' | 'default'>

// ── The rows' shorthands ──

function duration(
  group: SettingGroup,
  initial: string,
  description: string,
  also: { zero?: boolean; infinity?: boolean; example?: string } = {},
): Row {
  const { example = initial, ...allowed } = also
  return {
    group,
    description,
    rule: { kind: 'duration', example, ...allowed },
    default: parseDuration(initial),
  }
}

function bytes(group: SettingGroup, initial: string, description: string): Row {
  return { group, description, rule: { kind: 'bytes', example: initial }, default: parseByteSize(initial) }
}

function rate(group: SettingGroup, example: string, description: string): Row {
  return { group, description, rule: { kind: 'rate', example }, default: Number.POSITIVE_INFINITY }
}

function integer(
  group: SettingGroup,
  initial: number,
  description: string,
  range: { min?: number; max?: number; infinity?: boolean } = {},
): Row {
  return { group, description, rule: { kind: 'integer', min: 1, ...range }, default: initial }
}

function boolean(group: SettingGroup, description: string): Row {
  return { group, description, rule: { kind: 'boolean' }, default: false }
}

function choice(group: SettingGroup, values: readonly [string, ...string[]], description: string): Row {
  return { group, description, rule: { kind: 'choice', values }, default: values[0] }
}

function list(entry: 'host' | 'origin', wildcard: string, description: string): Row {
  return { group: 'Security', description, rule: { kind: 'list', entry, wildcard }, default: [] }
}

function text(
  group: SettingGroup,
  kind: 'string' | 'path' | 'file',
  initial: string | undefined,
  description: string,
): Row {
  return { group, description, rule: { kind }, default: initial }
}

// ── The table ──

const listenRows: Readonly<Record<ListenKey, Row>> = {
  host: text(
    'Listening',
    'string',
    '127.0.0.1',
    'address to bind; any but a loopback address needs allowed hosts',
  ),
  port: integer('Listening', 3000, 'TCP port; 0 takes a free one', { min: 0, max: 65_535 }),
  socket: text('Listening', 'file', undefined, 'Unix socket to listen on instead of a port'),
  path: text('Listening', 'path', '/mcp', 'URL path of the endpoint'),
  healthPath: text('Listening', 'path', '/health', 'where 200 says that the process lives'),
  readyPath: text('Listening', 'path', '/ready', 'where 200 or 503 says whether sessions can be opened'),
  httpKeepAliveTimeout: duration(
    'Listening',
    '75s',
    'how long an idle HTTP connection is kept; longer than a balancer in front does',
    { infinity: true },
  ),
  headersTimeout: duration('Listening', '30s', 'how long the head of a request may take to arrive', {
    infinity: true,
  }),
  maxConnections: integer(
    'Listening',
    20_000,
    'HTTP connections at once; twice the sessions where that is more',
    { infinity: true },
  ),
  adminSocket: text(
    'Listening',
    'file',
    undefined,
    'socket for `sojourn sessions`; beside a store file when none is named',
  ),
}

const sessionRows: Readonly<Record<keyof SessionOptions, Row>> = {
  allowedHosts: list(
    'host',
    'any',
    'host names this server answers to; loopback names count when bound to loopback',
  ),
  allowedOrigins: list(
    'origin',
    'any',
    'origins of web pages that may call; loopback ones count when bound to loopback',
  ),
  corsOrigins: list('origin', '*', 'origins that are allowed and get CORS headers'),
  trustedProxies: integer('Security', 0, 'reverse proxies in front whose X-Forwarded-For is believed', {
    min: 0,
  }),

  sessionIdleTimeout: duration('Sessions', '30m', 'how long a session may be idle before it ends', {
    infinity: true,
  }),
  unusedSessionTimeout: duration('Sessions', '5m', 'how long a session may live on its handshake alone', {
    infinity: true,
  }),
  handshakeTimeout: duration('Sessions', '60s', 'the same while notifications/initialized is missing', {
    infinity: true,
  }),
  sessionMaxAge: duration('Sessions', 'Infinity', 'how old a session may become', {
    infinity: true,
    example: '1d',
  }),
  initializeTimeout: duration('Sessions', '60s', 'how long initialize may take, your factory included', {
    infinity: true,
  }),
  detachedRequestTimeout: duration(
    'Sessions',
    '10m',
    'how long a call may go on after its connection dropped',
    {
      zero: true,
      infinity: true,
    },
  ),
  drainTimeout: duration('Sessions', '30s', 'how long running calls may go on after SIGTERM', {
    zero: true,
    infinity: true,
  }),
  restartGrace: duration('Sessions', '10s', 'least reconnect delay told to clients when a server stops', {
    zero: true,
  }),
  maxSessions: integer('Sessions', 10_000, 'sessions at once', { infinity: true }),
  maxSessionsPerPrincipal: integer(
    'Sessions',
    Number.POSITIVE_INFINITY,
    'sessions at once of one authenticated principal',
    {
      infinity: true,
    },
  ),
  evictableAfter: duration(
    'Sessions',
    '5m',
    'when full, how long an anonymous session must be idle to make room',
    {
      zero: true,
      infinity: true,
    },
  ),
  store: {
    group: 'Sessions',
    description: 'where sessions are kept; those in a file survive a restart',
    rule: { kind: 'store' },
    default: 'memory',
  },
  durability: choice(
    'Sessions',
    ['full', 'relaxed'],
    'whether the store waits for the disk; relaxed may lose the last moments with the power',
  ),
  maxStoreSize: bytes('Sessions', '1GiB', 'largest store'),
  sleepAfter: duration(
    'Sessions',
    'Infinity',
    'how long a server may be unused before it is let go; with a store 10m',
    { infinity: true, example: '10m' },
  ),
  maxAwake: integer('Sessions', Number.POSITIVE_INFINITY, 'servers at once; beyond, the idlest are let go', {
    infinity: true,
  }),
  stateless: boolean('Sessions', 'serve without sessions: one server per POST'),
  protocolEras: choice(
    'Sessions',
    ['both', 'legacy', 'modern'],
    'revisions served: with the handshake (legacy), 2026-07-28 (modern)',
  ),
  instances: choice(
    'Sessions',
    ['fresh', 'pooled'],
    'without handshake: a server for each request, or one for many of a principal',
  ),
  maxPooledInstances: integer('Sessions', 1000, 'pooled servers that wait for a request, in all'),
  maxPooledInstancesPerPrincipal: integer('Sessions', 16, 'pooled servers of one principal that wait'),
  pooledInstanceIdleTimeout: duration('Sessions', '60s', 'how long a pooled server waits for a request', {
    infinity: true,
  }),

  responseMode: choice(
    'Streams',
    ['auto', 'sse', 'json'],
    'how POSTs are answered: as a stream, as JSON, or what suits',
  ),
  jsonResponse: boolean('Streams', 'the same as a response mode of json'),
  jsonResponseWindow: duration('Streams', '25ms', 'how long an answer may take and still be plain JSON', {
    zero: true,
  }),
  retryInterval: duration('Streams', '3s', 'how soon clients are told to reconnect', { zero: true }),
  keepAliveInterval: duration('Streams', '15s', 'how often a quiet stream shows that it lives', {
    infinity: true,
  }),
  streamMaxAge: duration('Streams', 'Infinity', 'how old a stream may become before it is rotated', {
    infinity: true,
    example: '5m',
  }),
  endStreamsOnTokenExpiry: {
    ...boolean('Streams', 'end streams when the token they were opened with expires; clients come back'),
    default: true,
  },
  standaloneStream: choice('Streams', ['takeover', 'reject'], 'what a second GET stream of a session does'),
  undeliveredRequestTimeout: duration(
    'Streams',
    '10s',
    'how long a request to the client waits for a connection',
    {
      zero: true,
      infinity: true,
    },
  ),
  unsentTimeout: duration('Streams', '60s', 'how long bytes may stay unsent before the connection is cut', {
    infinity: true,
  }),
  eventLogMaxBytes: bytes('Streams', '1MiB', 'undelivered events kept per session: bytes'),
  eventLogMaxEvents: integer('Streams', 1000, 'undelivered events kept per session: number'),
  eventLogMaxAge: duration('Streams', '10m', 'undelivered events kept per session: age', { infinity: true }),
  eventLogMaxTotalBytes: bytes('Streams', '256MiB', 'undelivered events kept for all sessions: bytes'),

  openRatePerPrincipal: rate('Limits', '1/s', 'how fast one authenticated principal may open sessions'),
  openBurstPerPrincipal: integer('Limits', 20, 'sessions that one principal may open at once before that'),
  openRatePerAddress: rate(
    'Limits',
    '10/s',
    'how fast sessions may be opened from one address; needs trusted proxies',
  ),
  openBurstPerAddress: integer('Limits', 50, 'sessions that one address may open at once before that'),
  maxHeapUsed: {
    group: 'Limits',
    description: 'how full the heap may be and sessions still open',
    rule: { kind: 'share', example: '85%' },
    default: 0.85,
  },
  maxBodySize: bytes('Limits', '4MiB', 'largest request body'),
  bodyTimeout: duration('Limits', '30s', 'how long a request body may take to arrive', { infinity: true }),
  maxInitializeSize: bytes('Limits', '16KiB', 'largest params of initialize'),
  maxBatchSize: integer('Limits', 100, 'most messages in a JSON-RPC batch'),
  maxStreamsPerSession: integer('Limits', 64, 'most open streams per session'),
  maxRequestsPerSession: integer('Limits', 256, 'most running requests per session'),
  maxServerRequestsPerSession: integer('Limits', 64, 'most pending requests to the client per session'),
  maxStreamBuffer: bytes('Limits', '1MiB', 'most unsent bytes per stream'),
  maxMessageSize: bytes('Limits', '16MiB', 'largest single message to a client'),
  maxSessionDataSize: bytes('Limits', '64KiB', 'largest session.data as JSON'),
  maxSubscriptions: integer('Limits', 1000, 'most resource subscriptions per session', { min: 0 }),
  maxSubscriptionUriSize: bytes('Limits', '2KiB', 'longest URI of a subscription'),
}

function url(description: string): Row {
  return { group: 'Authentication', description, rule: { kind: 'url' }, default: undefined }
}

function words(example: string, description: string): Row {
  return { group: 'Authentication', description, rule: { kind: 'words', example }, default: [] }
}

const commandLineRows: Readonly<Record<CommandLineKey, Row>> = {
  authIssuer: url('authorization server whose access tokens are taken: its issuer, to the letter'),
  authResource: url('URL of the endpoint as clients have it; tokens must be issued for it'),
  authScopes: words('mcp,files', 'scopes that every request needs; without them 403 insufficient_scope'),
  authAudience: words(
    'https://mcp.example.com/mcp',
    'what tokens name as aud, where that is not the resource',
  ),
  authCheck: choice(
    'Authentication',
    ['jwt', 'introspection'],
    'how tokens are checked: by their signature, or by asking the issuer',
  ),
  authJwksUri: url('keys of the issuer, where its metadata does not name them'),
  authAlgorithms: words(
    'RS256,ES256',
    'signature algorithms that are taken; any with a public key by default',
  ),
  authIntrospectionUri: url('introspection endpoint, where the metadata of the issuer does not name it'),
  authClientId: text(
    'Authentication',
    'string',
    undefined,
    'who this server is to the issuer, to introspect',
  ),
  authClientSecretFile: text(
    'Authentication',
    'file',
    undefined,
    'file with its secret; or the secret itself as SOJOURN_AUTH_CLIENT_SECRET',
  ),
  authClockTolerance: duration('Authentication', '5s', 'how far the clock of the issuer may be off', {
    zero: true,
  }),
  authAllowHttp: boolean('Authentication', 'take plain http beyond this machine, in a closed network'),
  authTokens: text(
    'Authentication',
    'file',
    undefined,
    'without an issuer, a JSON file: bearer token → issuer, subject, client, scopes',
  ),
  logLevel: choice('Command line', ['info', 'debug', 'warn', 'error', 'silent'], 'how much is logged'),
  logFormat: choice(
    'Command line',
    ['auto', 'pretty', 'json'],
    'how the log is written; auto is pretty on a terminal',
  ),
  live: {
    ...boolean('Command line', 'the sessions below a pretty log on a terminal; --no-live turns that off'),
    default: true,
  },
}

function rowsToSettings(rows: Readonly<Record<string, Row>>, scope: Setting['scope']): Setting[] {
  return Object.entries(rows).map(([key, row]) => {
    const words = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    const own = `SOJOURN_${words.toUpperCase().replaceAll('-', '_')}`
    // What platforms set for every program they run.
    const env = key === 'port' || key === 'host' ? [own, key.toUpperCase()] : [own]
    return { key: key as SettingKey, flag: words, env, scope, ...row }
  })
}

/** Every setting, in the order help shows them. */
export const settings: readonly Setting[] = [
  ...rowsToSettings(listenRows, 'listen'),
  ...rowsToSettings(sessionRows, 'app'),
  ...rowsToSettings(commandLineRows, 'command-line'),
]

/** That of `sessionIdleTimeout`, which a function may stand in for. */
export const idleTimeout: Row = sessionRows.sessionIdleTimeout

// ── Values and where they came from ──

/** Where a setting's value came from; each wins over those after it. */
export type Origin = 'argument' | 'flag' | 'environment' | 'default'

const ORIGINS: readonly Origin[] = ['argument', 'flag', 'environment', 'default']

/** A setting's value and where it came from. */
export interface FoundSetting {
  readonly setting: Setting
  readonly value: SettingValue
  readonly origin: Origin
  /** How it is called there: `sessionIdleTimeout`, `--session-idle-timeout`, `SOJOURN_SESSION_IDLE_TIMEOUT`. */
  readonly name: string
}

/** Environment variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>

/** Where {@link findSettings} looks. */
export interface SettingSources {
  /** Values given in code, by key; `undefined` counts as not given. */
  readonly arguments?: Readonly<Record<string, unknown>>
  /** The text of flags, by flag name. */
  readonly flags?: Readonly<Record<string, string | undefined>>
  readonly env?: Environment
}

/**
 * Looks each setting up: argument, flag, environment, default. An environment variable that is empty counts as not set, as tools that
 * fill in `NAME=${NAME}` expect.
 *
 * @throws RangeError or TypeError for a wrong value, naming it as it is called where it was given
 */
export function findSettings(
  wanted: readonly Setting[],
  sources: SettingSources,
): Map<SettingKey, FoundSetting> {
  return new Map(wanted.map((setting) => [setting.key, findSetting(setting, sources)]))
}

function findSetting(setting: Setting, sources: SettingSources): FoundSetting {
  const { key, flag, rule } = setting
  const argument = sources.arguments?.[key]
  if (argument !== undefined)
    return { setting, value: checkValue(rule, key, argument), origin: 'argument', name: key }
  const given = sources.flags?.[flag]
  const flagName = `--${flag}`
  if (given !== undefined)
    return { setting, value: readValue(rule, flagName, given), origin: 'flag', name: flagName }
  for (const name of setting.env) {
    const found = sources.env?.[name]
    if (found === undefined || found.trim() === '') continue
    return { setting, value: readValue(rule, name, found), origin: 'environment', name }
  }
  return {
    setting,
    value: setting.default,
    origin: 'default',
    name: sources.flags === undefined ? key : flagName,
  }
}

/** How POSTs are answered, `jsonResponse` folded in; of two that were given in different places, the stronger place wins. */
export function foldResponseMode(found: ReadonlyMap<SettingKey, FoundSetting>): ResponseMode {
  const json = found.get('jsonResponse')
  const mode = found.get('responseMode')
  if (json?.value === true && ORIGINS.indexOf(json.origin) <= ORIGINS.indexOf(mode?.origin ?? 'default'))
    return 'json'
  return (mode?.value ?? 'auto') as ResponseMode
}
