/** The sessions of a SQLite store, and the line that says who owned it and when it lived last. */

import type { StoredSession, StoredUse } from '../session-store.ts'
import { checksum } from './checksum.ts'
import type { SqlDatabase, SqlRow, SqlStatement } from './driver.ts'
import type { SessionPage } from './operations.ts'

/** Creates what this file reads and writes. */
export const SESSION_SCHEMA = `
  CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL, sum TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE sessions (
    id INTEGER PRIMARY KEY NOT NULL,
    key TEXT UNIQUE NOT NULL,
    label TEXT NOT NULL,
    record TEXT NOT NULL,
    sum TEXT NOT NULL,
    idle_since REAL,
    idle_sum TEXT NOT NULL
  );
`

/** So many rows are read at once. */
const PAGE = 500

/** Integers that a damaged row may hold, and JavaScript cannot, are read as null. */
const INTEGERS = 'BETWEEN 0 AND 9007199254740991'

/** Reads and writes sessions; transactions are its caller's. */
export class SessionTable {
  readonly #warn: (message: string) => void
  readonly #save: SqlStatement
  readonly #use: SqlStatement
  readonly #delete: SqlStatement
  readonly #page: SqlStatement
  readonly #deleteRow: SqlStatement
  readonly #get: SqlStatement
  readonly #set: SqlStatement

  constructor(db: SqlDatabase, warn: (message: string) => void) {
    this.#warn = warn
    this.#save = db.prepare(
      'INSERT INTO sessions (key, label, record, sum, idle_since, idle_sum) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE ' +
        'SET label = excluded.label, record = excluded.record, sum = excluded.sum, idle_since = excluded.idle_since, idle_sum = excluded.idle_sum',
    )
    this.#use = db.prepare('UPDATE sessions SET idle_since = ?, idle_sum = ? WHERE key = ?')
    this.#delete = db.prepare('DELETE FROM sessions WHERE key = ?')
    this.#page = db.prepare(
      `SELECT CASE WHEN id ${INTEGERS} THEN id END AS id, key, label, record, sum, CAST(idle_since AS REAL) AS idle_since, ` +
        `idle_since IS NULL AS busy, idle_sum FROM sessions WHERE sessions.id > ? ORDER BY sessions.id LIMIT ${PAGE}`,
    )
    this.#deleteRow = db.prepare('DELETE FROM sessions WHERE id = ?')
    this.#get = db.prepare(
      `SELECT CASE WHEN typeof(value) = 'integer' AND value ${INTEGERS} THEN value END AS value, sum FROM meta WHERE name = ?`,
    )
    this.#set = db.prepare(
      'INSERT INTO meta (name, value, sum) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value, sum = excluded.sum',
    )
  }

  /** A number of the file itself; undefined when it was never written or fails its check. */
  meta(name: 'epoch' | 'alive'): number | undefined {
    const row = this.#get.get(name)
    if (row === undefined) return undefined
    const { value } = row
    return typeof value === 'number' && row['sum'] === checksum(name, value) ? value : undefined
  }

  setMeta(name: 'epoch' | 'alive', value: number): void {
    this.#set.run(name, value, checksum(name, value))
  }

  save({ key, label, record, idleSince: idle }: StoredSession): void {
    const idleSince = idle ?? null
    this.#save.run(key, label, record, checksum(key, label, record), idleSince, checksum(key, idleSince))
  }

  touch(at: number, uses: readonly StoredUse[]): void {
    this.setMeta('alive', Math.floor(at))
    for (const { key, idleSince: idle } of uses) {
      const idleSince = idle ?? null
      this.#use.run(idleSince, checksum(key, idleSince), key)
    }
  }

  delete(key: string): void {
    this.#delete.run(key)
  }

  /**
   * The sessions after a row id. One that fails its check is dropped, with a line for the log: nothing in it can be believed, not even whose it
   * is, so it must not come back; and it is no reason to keep the others from coming back.
   */
  page(after: number): SessionPage {
    const rows = this.#page.all(after)
    const sessions: StoredSession[] = []
    let next: number | undefined
    for (const row of rows) {
      const { id } = row
      const session = this.#session(row)
      if (session === undefined) {
        this.#warn(`a stored session (label ${JSON.stringify(row['label'])}) was damaged and is dropped`)
        if (typeof id === 'number') this.#deleteRow.run(id)
      } else sessions.push(session)
      next = typeof id === 'number' ? id : undefined
    }
    return { sessions, next: rows.length < PAGE ? undefined : next }
  }

  #session(row: SqlRow): StoredSession | undefined {
    const { id, key, label, record, sum } = row
    if (typeof id !== 'number') return undefined
    if (typeof key !== 'string' || typeof label !== 'string' || typeof record !== 'string') return undefined
    if (sum !== checksum(key, label, record)) return undefined
    const idle = row['busy'] === 1 ? null : row['idle_since']
    const idleSince = typeof idle === 'number' ? idle : undefined
    if ((idle !== null && idleSince === undefined) || row['idle_sum'] !== checksum(key, idleSince ?? null)) {
      // As if it had been in use until its process died: too late an end, never too early a one.
      this.#warn(
        `since when the stored session ${label} was idle is damaged; it counts as used until the last`,
      )
      return { key, label, record, idleSince: undefined }
    }
    return { key, label, record, idleSince }
  }
}
