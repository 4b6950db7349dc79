/** What is wrong with a store's file, and what its operator can do about it. */

import { accessSync, constants, statSync } from 'node:fs'
import { dirname } from 'node:path'

import { messageOf, SojournError } from '../../errors.ts'
import { SqliteCode, sqliteCode } from './driver.ts'

/** An error with the code `store-unavailable`. */
export function unavailable(message: string, cause?: unknown): SojournError {
  return new SojournError('store-unavailable', message, { cause })
}

/** The error of a damaged file: names the command that sets it aside. */
export function damaged(path: string, detail: string, cause?: unknown): SojournError {
  return unavailable(
    `The session store ${path} is damaged (${detail}). To go on without its sessions, set it aside, and start again: ${setAside(path)}`,
    cause,
  )
}

/** The error of an operation that SQLite refused. */
export function faultOf(thrown: unknown, path: string): SojournError {
  if (thrown instanceof SojournError) return thrown
  const detail = messageOf(thrown)
  switch (sqliteCode(thrown)) {
    case SqliteCode.busy:
    case SqliteCode.locked:
      return unavailable(
        `The session store ${path} is locked by another program, such as a shell or a backup that works on the file. ` +
          'It is used again as soon as that lets go.',
        thrown,
      )
    case SqliteCode.corrupt:
    case SqliteCode.notADatabase:
      return damaged(path, detail, thrown)
    case SqliteCode.full:
      return unavailable(
        `The disk of the session store ${path} is full. Free some space; it is used again then.`,
        thrown,
      )
    case SqliteCode.readOnly:
    case SqliteCode.permission:
    case SqliteCode.cannotOpen:
    case SqliteCode.inputOutput:
      return placeFault(path) ?? unavailable(`The session store ${path} cannot be used: ${detail}.`, thrown)
    default:
      return unavailable(`The session store ${path} cannot be used: ${detail}.`, thrown)
  }
}

/** What is wrong with the place of a file: no directory, a directory itself, no permission, read-only. Undefined when nothing is. */
export function placeFault(path: string): SojournError | undefined {
  const directory = dirname(path)
  try {
    if (!statSync(directory).isDirectory())
      return unavailable(
        `The session store ${path} cannot be kept there: ${directory} is not a directory. Name a path inside one.`,
      )
  } catch (error) {
    if (codeOf(error) === 'ENOENT')
      return unavailable(
        `There is no directory ${directory} for the session store ${path}. Make it: mkdir -p -m 700 ${quoted(directory)}`,
        error,
      )
    return denied(path, directory, 'reached', 'u+rwx', error)
  }
  try {
    const stats = statSync(path)
    if (stats.isDirectory())
      return unavailable(
        `The session store ${path} is a directory. Name a file, such as ${path.replace(/\/+$/, '')}/sessions.db`,
      )
    if (!stats.isFile())
      return unavailable(`The session store ${path} is not a regular file. Name another one.`)
    const fault =
      deniedAccess(path, path, constants.R_OK, 'read', 'u+rw') ??
      deniedAccess(path, path, constants.W_OK, 'written', 'u+rw')
    if (fault !== undefined) return fault
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') return denied(path, directory, 'reached', 'u+rwx', error)
  }
  // Beside the file SQLite keeps the newest writes (-wal) and its index (-shm).
  return deniedAccess(path, directory, constants.W_OK | constants.X_OK, 'written', 'u+rwx')
}

function deniedAccess(
  path: string,
  what: string,
  mode: number,
  done: string,
  wanted: string,
): SojournError | undefined {
  try {
    accessSync(what, mode)
    return undefined
  } catch (error) {
    return denied(path, what, done, wanted, error)
  }
}

function denied(path: string, what: string, done: string, wanted: string, error: unknown): SojournError {
  if (codeOf(error) === 'EROFS')
    return unavailable(
      `The session store ${path} is on a file system that is mounted read-only. Mount it writable, or name another place.`,
      error,
    )
  if (codeOf(error) !== 'EACCES' && codeOf(error) !== 'EPERM')
    return unavailable(`The session store ${path} cannot be used: ${messageOf(error)}.`, error)
  const user = process.getuid?.()
  return unavailable(
    `The session store ${path} cannot be used: ${what} may not be ${done} by ${user === undefined ? 'this user' : `user ${user}`}. ` +
      `Give it to that user, or allow it: chmod ${wanted} ${quoted(what)}`,
    error,
  )
}

function setAside(path: string): string {
  const wal = `${path}-wal`
  return `mv ${quoted(path)} ${quoted(`${path}.corrupt`)}; [ ! -e ${quoted(wal)} ] || mv ${quoted(wal)} ${quoted(`${path}.corrupt-wal`)}`
}

/** A path as a shell takes it. */
function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code
}
