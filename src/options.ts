/** The options of an app with every value: checked, resolved over argument, environment and default, and what only code can give. */

import type { Clock } from './clock.ts'
import { didYouMean } from './did-you-mean.ts'
import { createLog } from './logging.ts'
import { checkValue, format } from './setting-value.ts'
import { checkListening, checkTogether, OWN_STORE } from './settings-together.ts'
import { type Environment, findSettings, foldResponseMode, idleTimeout, settings } from './settings.ts'
import type { SessionStore } from './store/session-store.ts'
import type { EventLog } from './stream/event-log.ts'
import type {
  AppOptions,
  Authenticate,
  ClientIdentity,
  Logger,
  PrincipalOf,
  RunHttpOptions,
  SessionOptions,
} from './types.ts'

/** How long instances may be unused by default where a store keeps their sessions, in milliseconds. */
const SLEEP_WITH_STORE = 10 * 60_000

/** Who a session belongs to, for a `sessionIdleTimeout` that depends on it. */
export interface SessionOwner {
  readonly principal: string | undefined
  readonly client: ClientIdentity | undefined
}

// Durations and sizes, which also take strings, are numbers once resolved.
type Resolved<T> = string extends T ? number : T
type ResolvedSettings = {
  readonly [
    Key in Exclude<keyof SessionOptions, 'sessionIdleTimeout' | 'jsonResponse' | 'store'>
  ]-?: Resolved<Exclude<SessionOptions[Key], undefined>>
}

/** Every option with its value: durations in milliseconds (`Infinity` possible), sizes in bytes. */
export interface ResolvedOptions extends ResolvedSettings {
  /** Milliseconds; a function never throws and returns a positive number. */
  readonly sessionIdleTimeout: number | ((session: SessionOwner) => number)
  /** `memory`, `sqlite:` and a file's name, or a store. */
  readonly store: string | SessionStore
  readonly authenticate: Authenticate | undefined
  readonly principal: PrincipalOf | undefined
  readonly eventLog: EventLog | false | undefined
  /** As given; `createLog` makes a `Log` of it. */
  readonly logger: Logger | undefined
  readonly clock: Clock | undefined
}

/** Where {@link RunHttpOptions} say to listen, resolved. */
export interface ResolvedListenOptions {
  readonly host: string
  readonly port: number
  readonly socket: string | undefined
  readonly path: string
  readonly healthPath: string
  readonly readyPath: string
  /** Milliseconds; `Infinity` possible. */
  readonly httpKeepAliveTimeout: number
  /** Milliseconds; `Infinity` possible. */
  readonly headersTimeout: number
  readonly maxConnections: number
  /** As given; where nothing was, it depends on the store. */
  readonly adminSocket: string | undefined
  readonly handleSignals: boolean
}

/** Options that only code can give, by key: what each must be. */
const codeOptions: Readonly<
  Record<Exclude<keyof AppOptions, keyof SessionOptions>, (value: unknown) => string | undefined>
> = {
  authenticate: (value) => (typeof value === 'function' ? undefined : 'a function'),
  principal: (value) => (typeof value === 'function' ? undefined : 'a function'),
  eventLog: (value) =>
    value === false || hasMethods(value, ['append', 'read', 'dropStream', 'dropSession', 'close'])
      ? undefined
      : 'an EventLog, or false',
  logger: (value) =>
    hasMethods(value, ['debug', 'info', 'warn', 'error'])
      ? undefined
      : 'an object with the methods debug, info, warn and error, such as console',
  clock: (value) =>
    hasMethods(value, ['now', 'wallTime', 'setTimer', 'afterInput']) ? undefined : 'a Clock',
}

const appSettings = settings.filter((setting) => setting.scope === 'app')
const listenSettings = settings.filter((setting) => setting.scope === 'listen')
const appKeys: readonly string[] = [...appSettings.map((setting) => setting.key), ...Object.keys(codeOptions)]
const listenKeys: readonly string[] = [...listenSettings.map((setting) => setting.key), 'handleSignals']

/**
 * Resolves the options of an app: argument, environment, default.
 *
 * @param env environment variables; default the process's own where there is a process
 * @throws RangeError for a wrong value, an unknown option, or options that exclude each other; TypeError for a value of a wrong type
 */
export function resolveOptions(
  options: AppOptions,
  env: Environment = processEnvironment(),
): ResolvedOptions {
  const given = checkNames('httpApp', options, appKeys)
  const { sessionIdleTimeout } = options
  const byFunction = typeof sessionIdleTimeout === 'function'
  // A function stands in for the default here: it is an argument, but its value is known only per session.
  const standIn = byFunction ? { sessionIdleTimeout: idleTimeout.default as number } : {}
  const { store } = options
  const ownStore = typeof store === 'object' ? checkedStore(store) : undefined
  const storeName = ownStore === undefined ? {} : { store: OWN_STORE }
  const found = findSettings(appSettings, { arguments: { ...given, ...standIn, ...storeName }, env })
  checkTogether(found)
  const resolved = Object.fromEntries([...found].map(([key, { value }]) => [key, value]))
  delete resolved['jsonResponse']
  const stored = resolved['store'] !== 'memory'
  if (stored && found.get('sleepAfter')?.origin === 'default') resolved['sleepAfter'] = SLEEP_WITH_STORE
  return {
    ...(resolved as unknown as ResolvedSettings & { sessionIdleTimeout: number }),
    ...(byFunction ? { sessionIdleTimeout: checkedIdleTimeout(sessionIdleTimeout, options.logger) } : {}),
    store: ownStore ?? (resolved['store'] as string),
    responseMode: foldResponseMode(found),
    authenticate: options.authenticate,
    principal: options.principal,
    eventLog: options.eventLog,
    logger: options.logger,
    clock: options.clock,
  }
}

/**
 * Resolves where to listen, and parts those options from the app's.
 *
 * @throws as {@link resolveOptions}; the app's own options are checked there
 */
export function resolveListenOptions(
  options: RunHttpOptions,
  env: Environment = processEnvironment(),
): { listen: ResolvedListenOptions; app: AppOptions } {
  const given = checkNames('runHttp', options, [...listenKeys, ...appKeys])
  const plain = {
    ...given,
    ...(typeof options.sessionIdleTimeout === 'function' && { sessionIdleTimeout: undefined }),
    ...(typeof options.store === 'object' && { store: undefined }),
  }
  const found = findSettings([...listenSettings, ...appSettings], { arguments: plain, env })
  checkListening(found)
  const handleSignals = options.handleSignals ?? true
  if (typeof handleSignals !== 'boolean') {
    throw new TypeError(`handleSignals must be true or false, got ${format(handleSignals)}`)
  }
  const resolved = Object.fromEntries(listenSettings.map(({ key }) => [key, found.get(key)?.value]))
  // Each session may have a stream and a call.
  if (found.get('maxConnections')?.origin === 'default')
    resolved['maxConnections'] = Math.max(
      resolved['maxConnections'] as number,
      2 * (found.get('maxSessions')?.value as number),
    )
  const app = Object.fromEntries(Object.entries(given).filter(([key]) => !listenKeys.includes(key)))
  return {
    listen: { ...(resolved as unknown as Omit<ResolvedListenOptions, 'handleSignals'>), handleSignals },
    app,
  }
}

/** Checks the names of options and those that are no settings. */
function checkNames(
  taker: string,
  options: unknown,
  known: readonly string[],
): Readonly<Record<string, unknown>> {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new TypeError(`the options of ${taker} must be an object, got ${format(options)}`)
  }
  const given = options as Readonly<Record<string, unknown>>
  for (const [key, value] of Object.entries(given)) {
    if (!known.includes(key)) throw new RangeError(unknownOption(taker, key, known))
    const expected = value === undefined ? undefined : codeOptions[key as keyof typeof codeOptions]?.(value)
    if (expected !== undefined) throw new TypeError(`${key} must be ${expected}, got ${format(value)}`)
  }
  return given
}

function unknownOption(taker: string, key: string, known: readonly string[]): string {
  if (listenKeys.includes(key)) return `${key} is an option of runHttp, which listens; ${taker} does not`
  return `${taker} has no option ${key}.${didYouMean(key, known)}`
}

function checkedStore(store: unknown): SessionStore {
  if (hasMethods(store, ['open', 'load', 'save', 'touch', 'delete', 'close'])) return store as SessionStore
  throw new TypeError(
    `store must be 'memory', 'sqlite:' and the name of a file such as 'sqlite:./sessions.db', or a SessionStore, got ${format(store)}`,
  )
}

/** Guards against what the author's function may do: each session ends at some time, whatever it returns. */
function checkedIdleTimeout(
  timeoutOf: Exclude<SessionOptions['sessionIdleTimeout'], undefined | number | string>,
  logger: Logger | undefined,
): (session: SessionOwner) => number {
  const log = createLog(logger)
  return (session) => {
    try {
      return checkValue(idleTimeout.rule, 'what sessionIdleTimeout returns', timeoutOf(session)) as number
    } catch (error) {
      log.error('sessionIdleTimeout failed; this session gets the default', { error })
      return idleTimeout.default as number
    }
  }
}

function hasMethods(value: unknown, methods: readonly string[]): boolean {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false
  return methods.every((method) => typeof (value as Readonly<Record<string, unknown>>)[method] === 'function')
}

// Web-standard runtimes have no process.
function processEnvironment(): Environment {
  return (globalThis as { process?: { env?: Environment } }).process?.env ?? {}
}
