/** R10: damaged files of a durable store. Each opens or is refused with a named error, and gives nothing wrong or foreign. */

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { SojournError } from '../../src/errors.ts'
import { loadSqlite, type OpenDatabase } from '../../src/store/sqlite/driver.ts'
import { SqliteEngine } from '../../src/store/sqlite/engine.ts'
import type { Operation } from '../../src/store/sqlite/operations.ts'
import { fileOptions } from '../../src/store/sqlite/sqlite-store.ts'
import type { EventLogPage } from '../../src/stream/event-log.ts'
import { Random } from '../simulation/random.ts'
import { loaded, restored } from './r9.ts'
import { eventData, recordOf } from './r9-model.ts'
import { type Chaos, count } from './chaos.ts'

const SESSIONS = 60
const EVENTS = 12
const TAIL = 4096

/** How much is tried. */
export interface R10Size {
  /** Every so many bytes of the last 4 KiB of file and of WAL one truncation. */
  readonly everyBytes: number
  readonly flips: number
  readonly seed: number
}

/** What a run counted. */
export interface R10Result {
  truncations: number
  flips: number
  opened: number
  /** Refused with an error that names the file. */
  refused: number
  /** Rows that were dropped for their check, told in the log. */
  warned: number
  /** Files that opened and had lost an event or session without a word: what was cut off the end of the WAL, as it was never written. */
  shorter: number
  /** Undefined where no small file system can be mounted. */
  diskFull: 'refused, then recovered' | undefined
  seconds: number
  readonly violations: string[]
}

export async function r10(
  { everyBytes, flips, seed }: R10Size,
  onProgress: (text: string) => void = () => {},
): Promise<R10Result> {
  const result: R10Result = {
    truncations: 0,
    flips: 0,
    opened: 0,
    refused: 0,
    warned: 0,
    shorter: 0,
    diskFull: undefined,
    seconds: 0,
    violations: [],
  }
  const started = performance.now()
  const random = new Random(seed)
  const openDatabase = await loadSqlite()
  const directory = mkdtempSync(join(tmpdir(), 'sojourn-r10-'))
  const path = join(directory, 'sessions.db')
  try {
    // One where everything is in the file, one where much is in the WAL still.
    const whole = sample(openDatabase, path, true)
    const killed = sample(openDatabase, path, false)
    const attempt = async (what: string, { file, wal }: Sample): Promise<void> => {
      for (const end of ['', '-wal', '-shm']) rmSync(path + end, { force: true })
      writeFileSync(path, file)
      if (wal.length > 0) writeFileSync(`${path}-wal`, wal)
      open(openDatabase, path, what, result)
      // What collecting frees is closed by the loop.
      await new Promise((resolve) => setImmediate(resolve))
      onProgress(
        `R10: ${result.truncations} truncations, ${result.flips} flips, ${result.refused} refused, ${result.violations.length} violations`,
      )
    }
    for (let cut = 1; cut <= TAIL; cut += everyBytes) {
      await attempt(`file without its last ${cut} bytes`, { ...whole, file: whole.file.subarray(0, -cut) })
      await attempt(`file of a killed process without its last ${cut} bytes`, {
        ...killed,
        file: killed.file.subarray(0, -cut),
      })
      await attempt(`WAL without its last ${cut} bytes`, { ...killed, wal: killed.wal.subarray(0, -cut) })
      result.truncations += 3
    }
    for (let n = 0; n < flips; n++) {
      const from = n % 2 === 0 ? whole : killed
      const part = n % 4 === 3 ? 'wal' : 'file'
      const bytes = Buffer.from(from[part])
      const at = Math.floor(random.next() * bytes.length)
      bytes[at] = (bytes[at] ?? 0) ^ (1 << Math.floor(random.next() * 8))
      await attempt(`bit flipped in byte ${at} of the ${part}`, { ...from, [part]: bytes })
      result.flips += 1
    }
    result.diskFull = diskFull(openDatabase, directory, result)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
  result.seconds = (performance.now() - started) / 1000
  return result
}

interface Sample {
  readonly file: Buffer
  readonly wal: Buffer
}

/** The bytes of a store: closed properly, or as a killed process leaves them. */
function sample(openDatabase: OpenDatabase, path: string, closed: boolean): Sample {
  for (const end of ['', '-wal', '-shm']) rmSync(path + end, { force: true })
  const engine = engineOf(openDatabase, path, () => {})
  engine.tryLock()
  engine.open()
  for (let n = 0; n < SESSIONS; n++) {
    const key = `session-${n}`
    const operations: Operation[] = [
      ['save', { key, label: key.slice(0, 8), record: recordOf(key, 1), idleSince: n }],
      ['openStream', key, 1, [n]],
    ]
    for (let position = 1; position <= EVENTS; position++)
      operations.push([
        'append',
        key,
        1,
        position,
        eventData(key, position),
        position === EVENTS ? n : undefined,
      ])
    engine.apply(operations)
  }
  if (closed) engine.close()
  const file = readFileSync(path)
  const wal = closed ? Buffer.alloc(0) : readFileSync(`${path}-wal`)
  engine.close()
  return { file, wal }
}

function engineOf(openDatabase: OpenDatabase, path: string, warn: (text: string) => void): SqliteEngine {
  return new SqliteEngine(openDatabase, { ...fileOptions(path), now: () => Date.now(), warn })
}

/** Opens a damaged file, and reads everything it gives. */
function open(openDatabase: OpenDatabase, path: string, what: string, result: R10Result): void {
  const violate = (text: string): void => {
    if (result.violations.length < 20) result.violations.push(`${what}: ${text}`)
  }
  const warnings: string[] = []
  const engine = engineOf(openDatabase, path, (text) => warnings.push(text))
  let silent = false
  try {
    if (!engine.tryLock()) throw new Error('the lock is held')
    engine.open()
    const sessions = loaded(engine)
    if (sessions.length < SESSIONS) silent = true
    for (const { key, label, record, idleSince } of sessions) {
      const n = Number(key.slice('session-'.length))
      if (!(n >= 0 && n < SESSIONS) || key !== `session-${n}`) violate(`there is a session ${key}`)
      if (record !== recordOf(key, 1) || label !== key.slice(0, 8)) violate(`${key} has another record`)
      if (idleSince !== n && idleSince !== undefined) violate(`${key} is idle since ${idleSince}`)
    }
    for (const { session, stream, requests, answers } of restored(engine)) {
      const n = Number(session.slice('session-'.length))
      if (stream !== 1) violate(`${session} has a stream ${stream}`)
      if (requests.length > 0 && requests[0] !== n) violate(`${session} has the requests ${requests.join()}`)
      for (const { id, position } of answers)
        if (id !== n || position !== EVENTS) violate(`${session} has an answer to ${id} at ${position}`)
    }
    for (let n = 0; n < SESSIONS; n++) {
      const key = `session-${n}`
      const [page] = engine.apply([['read', key, 1, 0]])
      const { events, trimmed } = page as EventLogPage
      let last = 0
      for (const { position, data } of events) {
        if (data !== eventData(key, position)) violate(`${key} has a wrong event at ${position}`)
        if (position <= last) violate(`${key} has its events in another order`)
        if (position > last + 1 && trimmed < position - 1)
          violate(`${key} has a gap before ${position}, untold`)
        last = position
      }
      if (last < EVENTS && trimmed < EVENTS) silent = true
    }
    result.opened += 1
    if (silent && warnings.length === 0) result.shorter += 1
  } catch (error) {
    // For what is wrong with the file, not with this process.
    const named = error instanceof SojournError && error.code === 'store-unavailable'
    if (named && error.message.includes(path) && !error.message.includes('unable to open'))
      result.refused += 1
    else violate(`is refused with ${String(error)}`)
  } finally {
    result.warned += warnings.length
    engine.close()
  }
}

/** Fills a small file system under a store; what was acknowledged has to be there when it has room again. */
function diskFull(openDatabase: OpenDatabase, directory: string, result: R10Result): R10Result['diskFull'] {
  const mount = join(directory, 'small')
  mkdirSync(mount)
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', mount]).status !== 0) return undefined
  try {
    const path = join(mount, 'sessions.db')
    const engine = engineOf(openDatabase, path, () => {})
    try {
      engine.tryLock()
      engine.open()
      const filler = join(mount, 'filler')
      writeFileSync(filler, Buffer.alloc(1024 ** 2))
      const acknowledged: string[] = []
      let refusal: unknown
      for (let n = 0; n < 20_000 && refusal === undefined; n++) {
        const key = `session-${n}`
        try {
          engine.apply([['save', { key, label: key, record: recordOf(key, 1), idleSince: undefined }]])
          acknowledged.push(key)
        } catch (error) {
          refusal = error
        }
      }
      if (!(refusal instanceof SojournError) || !refusal.message.includes(path))
        result.violations.push(`a full disk is told as ${String(refusal)}`)
      rmSync(filler)
      engine.recover()
      const there = new Set(loaded(engine).map(({ key }) => key))
      const lost = acknowledged.filter((key) => !there.has(key))
      if (lost.length > 0)
        result.violations.push(`${lost.length} acknowledged sessions were lost on a full disk`)
      return 'refused, then recovered'
    } finally {
      engine.close()
    }
  } finally {
    // Lazily: on Node 20 a closed connection keeps its files open until its statements are collected.
    execFileSync('umount', ['-l', mount])
  }
}

/** `npm run chaos -- r10` */
export const chaos: Chaos<R10Result> = {
  name: 'r10',
  help: [
    ['', 'a SQLite store cut at every byte of its last 4 KiB, 1,000 flipped bits, a full disk; two minutes'],
    ['--short', 'at every 64th byte, 200 bits'],
  ],
  run({ short, seed }, progress) {
    const size = short ? { everyBytes: 64, flips: 200 } : { everyBytes: 1, flips: 1000 }
    return r10({ ...size, seed }, progress)
  },
  tell({ truncations, flips, opened, refused, warned, shorter, diskFull: full, seconds }) {
    return (
      `R10: ${truncations} truncations, ${flips} flipped bits: ${opened} opened (${shorter} without the end of their WAL), ` +
      `${refused} refused by name, ${warned} rows dropped with a line in the log; disk full: ${full ?? 'not tried, nothing can be mounted'}; ` +
      `${seconds.toFixed(1)} s`
    )
  },
  row({ truncations, flips, opened, refused, diskFull: full, violations }) {
    return {
      test: 'R10 · 9',
      done: `a SQLite store cut at ${count(truncations)} places, ${count(flips)} bits flipped, a full disk`,
      came:
        `${count(opened)} opened, ${count(refused)} refused by name${violations.length === 0 ? ', never a wrong or foreign event' : ''}; ` +
        `full disk: ${full ?? 'not tried'}`,
    }
  },
}
