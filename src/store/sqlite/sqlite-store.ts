/** Sessions and events in one SQLite file, for one process that may be restarted. */

import { resolve } from 'node:path'

import { parseByteSize } from '../../duration.ts'
import type { EventLog, EventLogPage, RestoredStream } from '../../stream/event-log.ts'
import type { EventLogLimits } from '../../stream/memory-event-log.ts'
import type { ByteSize, RequestId } from '../../types.ts'
import type { SessionStore, StoredSession, StoredUse, StoreEvents, StoreOwnership } from '../session-store.ts'
import type { SessionPage, SqliteFileOptions, StreamCursor, StreamPage } from './operations.ts'
import { StoreThread } from './store-thread.ts'

/** How {@link sqliteStore} keeps its file. */
export interface SqliteStoreOptions {
  /**
   * What an acknowledged write survives. `'full'`, the default: everything, it is on disk. `'relaxed'`: a crash of the process, but the last
   * moments may be lost when the machine loses its power; writes wait for no disk then.
   */
  durability?: 'full' | 'relaxed'
  /**
   * Most bytes of the file and its write-ahead log together; default `'1GiB'`, at least `'4MiB'`. Half of it is for events. Where it is
   * reached the oldest events go first; when sessions alone fill it, new ones are refused with 503.
   */
  maxSize?: ByteSize
  /** Bounds of the events, as those of {@link EventLogLimits}; defaults as there. */
  eventLog?: Partial<EventLogLimits>
}

const LEAST_SIZE = 4 * 1024 ** 2

/** The defaults of the options `eventLog…` of an app. */
const LIMITS: EventLogLimits = {
  maxBytes: 1024 ** 2,
  maxEvents: 1000,
  maxAge: 600_000,
  maxTotalBytes: 256 * 1024 ** 2,
}

/**
 * A {@link SessionStore} in a SQLite file, with its `eventLog` in the same one. The file is made where there is none, its directory is not.
 * Only its owner may read it (0600). One process uses it at a time; all disk work is done by a worker thread.
 *
 *     httpApp(createServer, { store: sqliteStore('./sessions.db') })
 *
 * @param path relative to the working directory; SQLite keeps files with the endings `-wal` and `-shm` beside it, and this store `-lock`
 * @throws RangeError for a wrong option
 */
export function sqliteStore(
  path: string,
  options: SqliteStoreOptions = {},
): SessionStore & { readonly eventLog: EventLog } {
  return new SqliteStore(fileOptions(path, options))
}

/** Resolved and checked. */
export function fileOptions(path: string, options: SqliteStoreOptions = {}): SqliteFileOptions {
  if (typeof path !== 'string' || path.trim() === '' || path === ':memory:')
    throw new RangeError(
      `sqliteStore takes the path of a file such as './sessions.db', got ${JSON.stringify(path)}`,
    )
  const { durability = 'full', maxSize = '1GiB', eventLog = {} } = options
  if (durability !== 'full' && durability !== 'relaxed')
    throw new RangeError(`durability must be 'full' or 'relaxed', got ${JSON.stringify(durability)}`)
  const size = typeof maxSize === 'string' ? parseByteSize(maxSize) : maxSize
  if (size === undefined || !Number.isSafeInteger(size) || size < LEAST_SIZE)
    throw new RangeError(
      `maxSize must be a size from '4MiB' on such as '1GiB' or 1073741824 (bytes), got ${JSON.stringify(maxSize)}`,
    )
  const limits: EventLogLimits = { ...LIMITS, ...eventLog }
  for (const [name, value] of Object.entries(limits) as [string, unknown][]) {
    if (typeof value !== 'number' || !(value >= 0))
      throw new RangeError(`eventLog.${name} must be a number from 0 on, got ${JSON.stringify(value)}`)
  }
  return { path: resolve(path), durability, maxSize: size, limits }
}

class SqliteStore implements SessionStore {
  readonly eventLog: EventLog
  readonly #thread: StoreThread

  constructor(options: SqliteFileOptions) {
    this.#thread = new StoreThread(options)
    this.eventLog = new SqliteEventLog(this.#thread)
  }

  open(events: StoreEvents, signal: AbortSignal): Promise<StoreOwnership> {
    return this.#thread.open(events, signal)
  }

  async *load(): AsyncGenerator<readonly StoredSession[]> {
    for (let after: number | undefined = -1; after !== undefined;) {
      const page = (await this.#thread.do(['load', after])) as SessionPage
      if (page.sessions.length > 0) yield page.sessions
      after = page.next
    }
  }

  async save(session: StoredSession): Promise<void> {
    await this.#thread.do(['save', session])
  }

  async touch(at: number, uses: readonly StoredUse[]): Promise<void> {
    await this.#thread.do(['touch', at, uses])
  }

  async delete(key: string): Promise<void> {
    await this.#thread.do(['delete', key])
  }

  close(): Promise<void> {
    return this.#thread.close()
  }
}

/** The events in the same file; it is opened and closed with its store. */
class SqliteEventLog implements EventLog {
  readonly #thread: StoreThread

  constructor(thread: StoreThread) {
    this.#thread = thread
  }

  async append(
    session: string,
    stream: number,
    position: number,
    data: string,
    answer?: RequestId,
  ): Promise<void> {
    await this.#thread.do(['append', session, stream, position, data, answer])
  }

  async read(session: string, stream: number, after: number): Promise<EventLogPage> {
    return (await this.#thread.do(['read', session, stream, after])) as EventLogPage
  }

  async openStream(session: string, stream: number, requests: readonly RequestId[]): Promise<void> {
    await this.#thread.do(['openStream', session, stream, requests])
  }

  async dropStream(session: string, stream: number): Promise<void> {
    await this.#thread.do(['dropStream', session, stream])
  }

  async dropSession(session: string): Promise<void> {
    await this.#thread.do(['dropSession', session])
  }

  async *restore(): AsyncGenerator<readonly RestoredStream[]> {
    let after: StreamCursor | undefined
    do {
      const page = (await this.#thread.do(['restore', after])) as StreamPage
      if (page.streams.length > 0) yield page.streams
      after = page.next
    } while (after !== undefined)
  }

  /** The file is its store's to close. */
  close(): void {}
}
