/** What users of the package import. */

export { type Clock, systemClock, type Timer } from './clock.ts'
export { type EventStoreOptions, fromEventStore, type SdkEventStore } from './compat/event-store.ts'
export {
  StreamableHTTPServerTransport,
  type StreamableHTTPServerTransportOptions,
} from './compat/streamable-http-server-transport.ts'
export { SojournError, type SojournErrorCode } from './errors.ts'
export { type App, httpApp } from './http-app.ts'
export type { FetchOptions } from './http/web-exchange.ts'
export { type HttpServerHandle, runHttp } from './run-http.ts'
export { Announcements } from './session/announcements.ts'
export type {
  EventListener,
  EventsLost,
  IteratedEvent,
  RefusalCause,
  RequestEnded,
  RequestOutcome,
  RequestRefused,
  RequestStarted,
  SessionClosed,
  SessionSlept,
  SessionWoken,
  SessionEvent,
  SessionInitialized,
  SessionOpened,
  StreamClosed,
  StreamKind,
  StreamOpened,
} from './session/events.ts'
export { StreamableHTTPSessionManager } from './session/session-manager.ts'
export { SessionTransport } from './session/session-transport.ts'
export {
  type SessionCounts,
  SessionHandle,
  type SessionRequestOptions,
  Sessions,
} from './session/sessions.ts'
export type { SettingRule, SettingValue } from './setting-value.ts'
export { type Setting, type SettingGroup, type SettingKey, settings } from './settings.ts'
export type {
  SessionStore,
  StoredSession,
  StoredUse,
  StoreEvents,
  StoreOwnership,
} from './store/session-store.ts'
export { openSqliteFile, type SqliteFile } from './store/sqlite/sqlite-file.ts'
export { sqliteStore, type SqliteStoreOptions } from './store/sqlite/sqlite-store.ts'
export type {
  Awaitable,
  EventLog,
  EventLogPage,
  LoggedAnswer,
  LoggedEvent,
  RestoredStream,
} from './stream/event-log.ts'
export { type EventLogLimits, MemoryEventLog } from './stream/memory-event-log.ts'
export type * from './types.ts'
