/** SQLite as this runtime has it: `node:sqlite`, or on Node 20 the same interface from `@photostructure/sqlite`. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import { SojournError } from '../../errors.ts'

/** What can be bound to a statement. */
export type SqlValue = string | number | null

/** One row; a column is whatever the file holds, so every use checks it. */
export type SqlRow = Readonly<Record<string, unknown>>

/** The part of a prepared statement that is used here. */
export interface SqlStatement {
  run(...values: SqlValue[]): unknown
  get(...values: SqlValue[]): SqlRow | undefined
  all(...values: SqlValue[]): SqlRow[]
}

/** The part of a connection that is used here. */
export interface SqlDatabase {
  exec(sql: string): void
  prepare(sql: string): SqlStatement
  close(): void
}

/** Opens a connection; throws the library's error. */
export type OpenDatabase = (path: string) => SqlDatabase

interface SqliteModule {
  readonly DatabaseSync: new (path: string) => SqlDatabase
}

/** Why not libsql on Node 20: it aborts the whole process where a damaged file holds text that is not UTF-8. */
const PACKAGE = '@photostructure/sqlite'

/**
 * Finds SQLite.
 * @throws SojournError `store-unavailable` where there is none
 */
export async function loadSqlite(): Promise<OpenDatabase> {
  const { DatabaseSync } = builtIn() ?? (await fromPackage())
  return (path) => new DatabaseSync(path)
}

/** `node:sqlite` from Node 22.13 on. Node 22 prints a warning that it is experimental, which says nothing to the user of a store. */
function builtIn(): SqliteModule | undefined {
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    return process.getBuiltinModule('node:sqlite') as unknown as SqliteModule | undefined
  } finally {
    process.emitWarning = emitWarning
  }
}

async function fromPackage(): Promise<SqliteModule> {
  try {
    const module = (await import('@photostructure/sqlite')) as unknown as SqliteModule
    return { DatabaseSync: collecting(module.DatabaseSync) }
  } catch (cause) {
    throw new SojournError(
      'store-unavailable',
      `A SQLite store needs Node 22.13 or newer, or the package ${PACKAGE} (an optional dependency that was not installed here): ` +
        `npm install ${PACKAGE}@1`,
      { cause },
    )
  }
}

/**
 * A closed connection of the package (1.2.1) keeps its files open until its statements are collected; a file that is tried again every
 * second would use up the descriptors of the process. Closing is rare, so what was closed before is collected then.
 */
function collecting(DatabaseSync: SqliteModule['DatabaseSync']): SqliteModule['DatabaseSync'] {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  return class extends DatabaseSync {
    override close(): void {
      super.close()
      collect()
    }
  }
}

/** SQLite's primary result codes that mean something here. */
export const SqliteCode = {
  permission: 3,
  busy: 5,
  locked: 6,
  readOnly: 8,
  inputOutput: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  notADatabase: 26,
} as const

/** The primary result code of an error that SQLite threw; undefined for any other. */
export function sqliteCode(thrown: unknown): number | undefined {
  const code = (thrown as { errcode?: unknown } | undefined)?.errcode
  return typeof code === 'number' ? code & 0xff : undefined
}
