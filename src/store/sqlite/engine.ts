/** A SQLite file of sessions and events, and everything that is done to it: opened, migrated, written in groups, kept small, recovered. */

import { chmodSync, closeSync, openSync, rmSync, statSync } from 'node:fs'

import { formatByteSize } from '../../duration.ts'
import type { SojournError } from '../../errors.ts'
import type { StoreOwnership } from '../session-store.ts'
import { type OpenDatabase, type SqlDatabase, SqliteCode, sqliteCode, type SqlStatement } from './driver.ts'
import { EVENT_SCHEMA, EventTable } from './event-table.ts'
import { damaged, faultOf, placeFault, unavailable } from './faults.ts'
import type { Operation, Outcome, SqliteFileOptions } from './operations.ts'
import { SESSION_SCHEMA, SessionTable } from './session-table.ts'

/** What marks a file as ours: "SJRN". */
const APPLICATION_ID = 0x534a524e

/** Each takes the schema from its index to the next version. */
const MIGRATIONS: readonly string[] = [SESSION_SCHEMA + EVENT_SCHEMA]

const PAGE_SIZE = 4096

/** Pages beyond the largest size that opening a file may use. */
const OPENING_PAGES = 64

/** How long a write waits for another program that works on the file, in milliseconds. */
const BUSY_TIMEOUT = 2000

/** Another process owns the file: it has a newer epoch, or its lock. */
export class OwnershipLost extends Error {
  override readonly name = 'OwnershipLost'
}

/** What the engine tells besides its results. */
export interface EngineOptions extends SqliteFileOptions {
  /** Wall clock, milliseconds since the Unix epoch. */
  now(): number
  /** One line for the log: something was damaged, and what became of it. */
  warn(message: string): void
}

interface OpenFile {
  readonly db: SqlDatabase
  readonly begin: SqlStatement
  readonly commit: SqlStatement
  readonly sessions: SessionTable
  readonly events: EventTable
  readonly inode: number
  readonly walInode: number
}

/** One process's hold on one file. Everything is synchronous: it belongs into a thread of its own, or into a command that exits. */
export class SqliteEngine {
  readonly #openDatabase: OpenDatabase
  readonly #options: EngineOptions
  readonly #path: string
  readonly #walReserve: number
  #lock: { readonly db: SqlDatabase; readonly inode: number } | undefined
  #file: OpenFile | undefined
  #epoch = 0
  #fault: SojournError | undefined
  /** Where events of streams could not be kept since the file stopped working: session, stream, highest position. */
  readonly #missed = new Map<string, Map<number, number>>()

  constructor(openDatabase: OpenDatabase, options: EngineOptions) {
    this.#openDatabase = openDatabase
    this.#options = options
    this.#path = options.path
    this.#walReserve = walReserve(options.maxSize)
  }

  /** Why the file does not work now; undefined while it does. */
  get fault(): SojournError | undefined {
    return this.#fault
  }

  /**
   * Takes the lock that makes this process the owner; false while another one has it. The kernel releases it with its process.
   *
   * It is not a lock on the file itself: those of POSIX are gone when anything in this process closes the file, a copy of it for instance.
   * @throws SojournError `store-unavailable` where there can be no file
   */
  tryLock(): boolean {
    const fault = placeFault(this.#path)
    if (fault !== undefined) throw fault
    const path = `${this.#path}-lock`
    try {
      createPrivately(path)
      const db = this.#openDatabase(path)
      try {
        db.exec('PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE')
      } catch (error) {
        db.close()
        if (sqliteCode(error) === SqliteCode.busy) return false
        throw error
      }
      this.#lock = { db, inode: statSync(path).ino }
      return true
    } catch (error) {
      throw placeFault(path) ?? faultOf(error, path)
    }
  }

  /**
   * Opens the file under the lock, and makes it or brings its schema up to date; begins a new epoch.
   * @throws SojournError `store-unavailable`: damaged, of a newer schema, of another program, no permission
   */
  open(): StoreOwnership {
    let ownership: StoreOwnership = { epoch: 1, aliveAt: undefined }
    this.#file = this.#open((sessions) => {
      const epoch = (sessions.meta('epoch') ?? 0) + 1
      ownership = { epoch, aliveAt: sessions.meta('alive') }
      sessions.setMeta('epoch', epoch)
    })
    this.#epoch = ownership.epoch
    return ownership
  }

  /**
   * Does operations in one transaction; they are durable when it returns.
   * @returns what each gives; where the file has reached its largest size, those that did not fit are {@link Failed}
   * @throws SojournError `store-unavailable`: none of them was acknowledged
   * @throws OwnershipLost
   */
  apply(operations: readonly Operation[]): Outcome[] {
    try {
      if (this.#fault !== undefined) throw this.#fault
      try {
        return this.#together(operations)
      } catch (error) {
        if (!this.#isTooLarge(error)) throw error
        this.#reopen((events) => events.trimTotal(events.totalBytes / 2))
        return operations.map((operation) => this.#alone(operation))
      }
    } catch (error) {
      this.#noteMissed(operations)
      if (!(error instanceof OwnershipLost)) this.#fault ??= faultOf(error, this.#path)
      throw this.#fault ?? error
    }
  }

  #together(operations: readonly Operation[]): Outcome[] {
    const file = this.#opened()
    return this.#transaction(file, () => operations.map((operation) => perform(file, operation)))
  }

  /** Where the file is as large as it may be, what makes it smaller still works, and whoever wants it larger is refused. */
  #alone(operation: Operation): Outcome {
    try {
      const [outcome] = this.#together([operation])
      return outcome
    } catch (error) {
      if (!this.#isTooLarge(error)) throw error
      this.#noteMissed([operation])
      this.#reopen((events) => this.#tellMissed(events))
      return {
        failed:
          `The session store ${this.#path} has reached its maxSize of ${formatByteSize(this.#options.maxSize)}. ` +
          'Raise maxSize, or let sessions end sooner.',
      }
    }
  }

  /**
   * Housekeeping, about once a second: removes what is too old, gives back what the file does not need, and looks whether the file is still
   * there.
   * @throws SojournError `store-unavailable`: the file has just stopped working
   * @throws OwnershipLost
   */
  tidy(): void {
    if (this.#fault !== undefined) return
    this.apply([])
    const { db } = this.#opened()
    try {
      const free = pragma(db, 'freelist_count')
      if (free > 256 && free * 4 > pragma(db, 'page_count')) {
        db.exec('PRAGMA incremental_vacuum(1024)')
        db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
      }
    } catch (error) {
      this.#fault = faultOf(error, this.#path)
      throw this.#fault
    }
  }

  /**
   * Tries to use a file again that stopped working.
   * @returns whether it had to be made anew: what it held is gone
   * @throws SojournError `store-unavailable`: it still does not work
   * @throws OwnershipLost
   */
  recover(): boolean {
    try {
      const fault = placeFault(this.#path)
      if (fault !== undefined) throw fault
      this.#lockAgain()
      const before = this.#opened()
      const inode = inodeOf(this.#path)
      const emptied = inode === undefined
      // Not even opened: SQLite would write what is in our WAL into it.
      if (!emptied && inode !== before.inode) throw this.#replaced(undefined)
      this.#letGo(before, emptied)
      this.#file = this.#open((sessions, events) => {
        const epoch = sessions.meta('epoch')
        if (emptied) sessions.setMeta('epoch', this.#epoch)
        else if (epoch !== this.#epoch) throw this.#replaced(epoch)
        this.#tellMissed(events)
      })
      this.#fault = undefined
      return emptied
    } catch (error) {
      if (error instanceof OwnershipLost) throw error
      this.#fault = faultOf(error, this.#path)
      throw this.#fault
    }
  }

  /** Gives the file and the lock up; idempotent. */
  close(): void {
    const file = this.#file
    this.#file = undefined
    try {
      // An owner of before must not touch what another one writes.
      if (file !== undefined && this.#fault === undefined) file.db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    } catch {
      // What was acknowledged is in the WAL.
    }
    closeQuietly(file?.db)
    closeQuietly(this.#lock?.db)
    this.#lock = undefined
  }

  #opened(): OpenFile {
    if (this.#file === undefined) throw unavailable(`The session store ${this.#path} is not open.`)
    return this.#file
  }

  #open(begin: (sessions: SessionTable, events: EventTable) => void): OpenFile {
    const { limits, maxSize, durability, now, warn } = this.#options
    const path = this.#path
    const fault = placeFault(path)
    if (fault !== undefined) throw fault
    let db: SqlDatabase | undefined
    try {
      createPrivately(path)
      db = this.#openDatabase(path)
      // Whoever opens tries again later; whoever writes would fail.
      db.exec('PRAGMA busy_timeout = 100; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON')
      prepareFile(db, path)
      const reserve = this.#walReserve
      db.exec(`PRAGMA synchronous = ${durability === 'full' ? 'FULL' : 'NORMAL'}`)
      const pages = Math.floor((maxSize - reserve) / PAGE_SIZE)
      // What opening writes, an epoch and what is told of gaps, fits into a full file too.
      db.exec(`PRAGMA max_page_count = ${pages + OPENING_PAGES}`)
      db.exec(`PRAGMA wal_autocheckpoint = ${Math.floor(reserve / 2 / PAGE_SIZE)}`)
      db.exec(`PRAGMA journal_size_limit = ${Math.floor(reserve / 2)}`)
      db.exec('PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY')
      db.exec('BEGIN IMMEDIATE')
      const sessions = new SessionTable(db, (message) => warn(`${path}: ${message}`))
      const eventLimits = { ...limits, maxTotalBytes: Math.min(limits.maxTotalBytes, maxSize / 2) }
      eventLimits.maxBytes = Math.min(limits.maxBytes, reserve / 2)
      const events = new EventTable(db, eventLimits, now, (message) => warn(`${path}: ${message}`))
      begin(sessions, events)
      events.flush()
      db.exec('COMMIT')
      db.exec(`PRAGMA max_page_count = ${pages}; PRAGMA busy_timeout = ${BUSY_TIMEOUT}`)
      const inode = inodeOf(path)
      const walInode = inodeOf(`${path}-wal`)
      if (inode === undefined || walInode === undefined)
        throw unavailable(`The session store ${path} was deleted while it was opened.`)
      return {
        db,
        begin: db.prepare('BEGIN IMMEDIATE'),
        commit: db.prepare('COMMIT'),
        sessions,
        events,
        inode,
        walInode,
      }
    } catch (error) {
      closeQuietly(db)
      throw error instanceof OwnershipLost ? error : faultOf(error, this.#path)
    }
  }

  #transaction<T>(file: OpenFile, work: () => T): T {
    const { db, begin, commit, sessions, events } = file
    begin.run()
    let result: T
    try {
      const epoch = sessions.meta('epoch')
      if (epoch !== this.#epoch) throw this.#replaced(epoch)
      events.trimOld()
      result = work()
      events.flush()
      commit.run()
    } catch (error) {
      try {
        db.exec('ROLLBACK')
      } catch {
        // SQLite has rolled back already.
      }
      throw error
    }
    // What was written to a file that nobody finds any more is not durable.
    if (inodeOf(this.#path) !== file.inode)
      throw unavailable(
        `The session store ${this.#path} was deleted or replaced while it was used. A new one is made if there is none.`,
      )
    if (inodeOf(`${this.#path}-wal`) !== file.walInode)
      throw unavailable(
        `The newest part of the session store, ${this.#path}-wal, was deleted while it was used. It is written again.`,
      )
    return result
  }

  #replaced(epoch: number | undefined): Error {
    if (epoch !== undefined && epoch > this.#epoch)
      return new OwnershipLost(
        `The session store ${this.#path} was taken over by another process (epoch ${epoch}, ours is ${this.#epoch}). Nothing is served from here any more.`,
      )
    return unavailable(
      `The session store ${this.#path} was replaced by another file while it was used. Restart to serve what that holds, or move it away.`,
    )
  }

  /** Whether a write failed for the size the file may have, and not for the disk's. */
  #isTooLarge(error: unknown): boolean {
    if (sqliteCode(error) !== SqliteCode.full || this.#file === undefined) return false
    const { db } = this.#file
    try {
      // A write of several pages fails before the last one is used.
      return pragma(db, 'page_count') + 256 >= pragma(db, 'max_page_count')
    } catch {
      return false
    }
  }

  /** What is remembered of the events is of a transaction that was rolled back: everything is read again. */
  #reopen(change: (events: EventTable) => void): void {
    closeQuietly(this.#opened().db)
    this.#file = this.#open((_sessions, events) => change(events))
  }

  #tellMissed(events: EventTable): void {
    for (const [session, streams] of this.#missed)
      for (const [stream, position] of streams) events.miss(session, stream, position)
    this.#missed.clear()
  }

  /** Closes a connection whose file may not be there any more, and saves from it what can be. */
  #letGo(file: OpenFile, emptied: boolean): void {
    if (emptied) {
      // What streams had is gone with the file, and clients are to be told.
      for (const [session, stream, position] of file.events.positions()) this.#miss(session, stream, position)
    } else if (inodeOf(`${this.#path}-wal`) !== file.walInode) {
      try {
        file.db.exec('PRAGMA wal_checkpoint(TRUNCATE)')
      } catch {
        // Then what was only in the WAL is gone.
      }
    }
    closeQuietly(file.db)
    if (!emptied) return
    rmSync(`${this.#path}-wal`, { force: true })
    rmSync(`${this.#path}-shm`, { force: true })
  }

  /** The lock may have been deleted together with the file, and another process may have taken a new one. */
  #lockAgain(): void {
    if (this.#lock !== undefined && inodeOf(`${this.#path}-lock`) === this.#lock.inode) return
    closeQuietly(this.#lock?.db)
    this.#lock = undefined
    if (!this.tryLock())
      throw new OwnershipLost(
        `The session store ${this.#path} was deleted, and another process has taken its place. Nothing is served from here any more.`,
      )
  }

  #noteMissed(operations: readonly Operation[]): void {
    for (const operation of operations) {
      const [type] = operation
      if (type === 'append') this.#miss(operation[1], operation[2], operation[3])
      else if (type === 'delete' || type === 'dropSession') this.#missed.delete(operation[1])
      else if (type === 'dropStream') this.#missed.get(operation[1])?.delete(operation[2])
    }
  }

  #miss(session: string, stream: number, position: number): void {
    let streams = this.#missed.get(session)
    if (streams === undefined) this.#missed.set(session, (streams = new Map()))
    streams.set(stream, Math.max(streams.get(stream) ?? 0, position))
  }
}

function perform({ sessions, events }: OpenFile, operation: Operation): Outcome {
  switch (operation[0]) {
    case 'append':
      events.append(operation[1], operation[2], operation[3], operation[4], operation[5])
      return undefined
    case 'save':
      sessions.save(operation[1])
      return undefined
    case 'touch':
      sessions.touch(operation[1], operation[2])
      return undefined
    case 'delete':
      sessions.delete(operation[1])
      events.dropSession(operation[1])
      return undefined
    case 'load':
      return sessions.page(operation[1])
    case 'read':
      return events.read(operation[1], operation[2], operation[3])
    case 'openStream':
      events.openStream(operation[1], operation[2], operation[3])
      return undefined
    case 'dropStream':
      events.dropStream(operation[1], operation[2])
      return undefined
    case 'dropSession':
      events.dropSession(operation[1])
      return undefined
    case 'restore':
      return events.streams(operation[1])
  }
}

/** Checks that a file is ours and whole, and brings its schema up to date. */
function prepareFile(db: SqlDatabase, path: string): void {
  const application = pragma(db, 'application_id')
  const version = pragma(db, 'user_version')
  const tables = Number(db.prepare('SELECT count(*) AS n FROM sqlite_schema').get()?.['n'])
  const empty = application === 0 && version === 0 && tables === 0
  if (!empty && application !== APPLICATION_ID)
    throw unavailable(`${path} is a database of another program, not a session store. Name another file.`)
  if (version > MIGRATIONS.length)
    throw unavailable(
      `The session store ${path} has schema ${version}, of a newer version of sojourn; this one knows up to ${MIGRATIONS.length}. ` +
        'Update sojourn, or name another file.',
    )
  // Both have an effect only while there is no table.
  if (empty) db.exec(`PRAGMA page_size = ${PAGE_SIZE}; PRAGMA auto_vacuum = INCREMENTAL`)
  const mode = db.prepare('PRAGMA journal_mode = WAL').get()?.['journal_mode']
  if (mode !== 'wal')
    throw unavailable(
      `The session store ${path} is on a file system that SQLite cannot keep a write-ahead log on. Name a place on a local disk.`,
    )
  if (!empty) {
    const [row] = db.prepare('PRAGMA integrity_check(1)').all()
    const [verdict] = Object.values(row ?? {})
    if (verdict !== 'ok') throw damaged(path, String(verdict))
  }
  for (const [index, migration] of MIGRATIONS.entries()) {
    if (index < version) continue
    db.exec(
      `BEGIN IMMEDIATE; ${migration} PRAGMA user_version = ${index + 1}; PRAGMA application_id = ${APPLICATION_ID}; COMMIT`,
    )
  }
}

function pragma(db: SqlDatabase, name: string): number {
  const [value] = Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})
  return Number(value)
}

/** Of the bytes that file and WAL may take together, those of the WAL. */
export function walReserve(maxSize: number): number {
  return Math.min(maxSize / 4, 16 * 1024 ** 2)
}

/** Makes a file that only its owner may read; what SQLite makes beside it has the same mode. */
function createPrivately(path: string): void {
  try {
    // Never opened when it exists: closing it would release the locks that SQLite has on it in this process.
    closeSync(openSync(path, 'wx', 0o600))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    if ((statSync(path).mode & 0o077) === 0) return
    try {
      chmodSync(path, 0o600)
    } catch {
      // Of another user, who has said who may read it.
    }
  }
}

function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino
}

function closeQuietly(db: SqlDatabase | undefined): void {
  try {
    db?.close()
  } catch {
    // Closed already, or it says once more what was said.
  }
}
