/** A SQLite store's file without a server: what the command line shows of it, and closes in it. */

import { unavailable } from './faults.ts'
import { loadSqlite } from './driver.ts'
import { SqliteEngine } from './engine.ts'
import { fileOptions } from './sqlite-store.ts'
import type { Outcome, SessionPage } from './operations.ts'
import type { StoredSession } from '../session-store.ts'
import { statSync } from 'node:fs'

/** A store's file that no server uses; all of it is synchronous. */
export class SqliteFile {
  readonly #engine: SqliteEngine
  /** When its owner lived last: wall clock, milliseconds since the Unix epoch; undefined when it had none. */
  readonly aliveAt: number | undefined
  /** What was found damaged so far, one line each. */
  readonly warnings: readonly string[]

  /** Use {@link openSqliteFile}. */
  constructor(engine: SqliteEngine, aliveAt: number | undefined, warnings: readonly string[]) {
    this.#engine = engine
    this.aliveAt = aliveAt
    this.warnings = warnings
  }

  /** Every session, in the order they were first saved. */
  *sessions(): Generator<StoredSession> {
    for (let after: number | undefined = -1; after !== undefined;) {
      const [page] = this.#engine.apply([['load', after]]) as [Outcome]
      const { sessions, next } = page as SessionPage
      yield* sessions
      after = next
    }
  }

  /** The sessions with this label (the first 8 characters of the id) or key; more than one only when ids begin alike. */
  find(labelOrKey: string): StoredSession[] {
    const found: StoredSession[] = []
    for (const session of this.sessions())
      if (session.label === labelOrKey || session.key === labelOrKey) found.push(session)
    return found
  }

  /** Removes a session with its streams and events; on disk when it returns. */
  delete(key: string): void {
    this.#engine.apply([['delete', key]])
  }

  /** Gives the file back; idempotent. */
  close(): void {
    this.#engine.close()
  }
}

/**
 * Opens the file of a store that no server uses. It is not made where there is none.
 * @throws SojournError `store-unavailable`: there is no such file, a server uses it, or it cannot be used
 */
export async function openSqliteFile(path: string): Promise<SqliteFile> {
  const options = fileOptions(path)
  if (statSync(options.path, { throwIfNoEntry: false }) === undefined)
    throw unavailable(`There is no session store ${options.path}.`)
  const warnings: string[] = []
  const engine = new SqliteEngine(await loadSqlite(), {
    ...options,
    // Looking at a file must remove nothing from it: no event is too old, nor one too many.
    limits: { maxBytes: Infinity, maxEvents: Infinity, maxAge: Infinity, maxTotalBytes: Infinity },
    maxSize: 2 ** 42,
    now: () => Date.now(),
    warn: (message) => warnings.push(message),
  })
  if (!engine.tryLock())
    throw unavailable(
      `The session store ${options.path} is used by a running server. Ask that, or stop it first.`,
    )
  try {
    const { aliveAt } = engine.open()
    return new SqliteFile(engine, aliveAt, warnings)
  } catch (error) {
    engine.close()
    throw error
  }
}
