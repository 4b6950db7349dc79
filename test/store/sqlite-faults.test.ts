/** What a SQLite store does when its file does not: each fault on a real file. */

import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Worker } from 'node:worker_threads'

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

import type { SessionStore, StoredSession } from '../../src/store/session-store.ts'
import { loadSqlite, type SqlDatabase } from '../../src/store/sqlite/driver.ts'
import { sqliteStore, type SqliteStoreOptions } from '../../src/store/sqlite/sqlite-store.ts'
import { logOf, openStore, temporary } from './subjects.ts'

const openDatabase = await loadSqlite()
const root = process.getuid?.() === 0
const opened: SessionStore[] = []
let directory: ReturnType<typeof temporary>
let path: string

beforeEach(() => {
  directory = temporary()
  path = join(directory.path, 'sessions.db')
})

afterEach(async () => {
  await Promise.all(opened.splice(0).map((store) => store.close()))
  directory.remove()
})

describe('at start', () => {
  test('a file that is no database is refused by name, and the command in the message sets it aside', async () => {
    writeFileSync(path, 'not a database '.repeat(1000))
    writeFileSync(`${path}-wal`, 'nor is this')
    const message = await refusal(sqliteStore(path))
    expect(message).toContain(`The session store ${path} is damaged`)
    const command = message.slice(message.indexOf('mv '))
    execFileSync('sh', ['-c', command])
    expect(readFileSync(`${path}.corrupt`, 'utf8')).toContain('not a database')
    const store = await open()
    expect(await keysOf(store)).toEqual([])
  })

  test('a damaged page is found, and refused', async () => {
    const store = await open()
    await Promise.all(Array.from({ length: 200 }, (_, n) => store.save(session(`s${n}`))))
    await store.close()
    const bytes = readFileSync(path)
    bytes.fill(0xff, 4096 * 6, 4096 * 9)
    writeFileSync(path, bytes)
    expect(await refusal(sqliteStore(path))).toContain(`mv ${path} ${path}.corrupt`)
  })

  test('a newer schema is refused by name', async () => {
    await (await open()).close()
    withDatabase((db) => db.exec('PRAGMA user_version = 99'))
    expect(await refusal(sqliteStore(path))).toMatch(/has schema 99, of a newer version of sojourn.* up to 1/)
  })

  test("another program's database is refused, and left as it is", async () => {
    withDatabase((db) => db.exec('CREATE TABLE mine (a); INSERT INTO mine VALUES (1)'))
    const before = readFileSync(path)
    expect(await refusal(sqliteStore(path))).toContain('is a database of another program')
    expect(readFileSync(path)).toEqual(before)
  })

  test('a directory is not made in silence, and a directory is no file', async () => {
    const missing = join(directory.path, 'not there', 'sessions.db')
    const message = await refusal(sqliteStore(missing))
    expect(message).toContain(`mkdir -p -m 700 '${dirname(missing)}'`)
    expect(await refusal(sqliteStore(directory.path))).toContain('is a directory. Name a file')
    writeFileSync(path, '')
    expect(await refusal(sqliteStore(join(path, 'x.db')))).toMatch(/is not a directory|ENOTDIR/)
  })

  test.skipIf(root)('a file or directory that may not be written is refused by name', async () => {
    await (await open()).close()
    chmodSync(path, 0o400)
    expect(await refusal(sqliteStore(path))).toContain(`chmod u+rw ${path}`)
    chmodSync(path, 0o600)
    chmodSync(directory.path, 0o500)
    expect(await refusal(sqliteStore(path))).toContain(`chmod u+rwx ${directory.path}`)
    chmodSync(directory.path, 0o700)
    await open()
  })

  test('the file and all beside it are for their owner alone', async () => {
    const store = await open()
    await store.save(session('a'))
    for (const end of ['', '-wal', '-shm', '-lock'])
      expect(statSync(path + end).mode & 0o777, end).toBe(0o600)
  })

  test('wrong options say what they take', () => {
    expect(() => sqliteStore('')).toThrow(/takes the path of a file/)
    expect(() => sqliteStore(path, { maxSize: '1KiB' })).toThrow(/maxSize must be a size from '4MiB' on/)
    expect(() => sqliteStore(path, { durability: 'never' as 'full' })).toThrow(
      /durability must be 'full' or 'relaxed'/,
    )
    expect(() => sqliteStore(path, { eventLog: { maxAge: -1 } })).toThrow(/eventLog.maxAge/)
  })
})

describe('while it is used', () => {
  test('locked by another program: refused, and used again when that lets go', async () => {
    const heard = listen()
    const store = await open({}, heard)
    await store.save(session('a'))
    const other = openDatabase(path)
    other.exec('BEGIN IMMEDIATE')
    expect(await message(store.save(session('b')))).toContain('is locked by another program')
    expect(heard.failing).toHaveLength(1)
    expect(await message(store.save(session('c')))).toContain('is locked by another program')
    other.exec('COMMIT')
    other.close()
    expect(await heard.recovered()).toBe(false)
    await store.save(session('d'))
    expect(await keysOf(store)).toEqual(['a', 'd'])
  })

  test('an event that could not be kept is told as a gap when it works again', async () => {
    const heard = listen()
    const store = await open({}, heard)
    const log = logOf(store)
    await log.append('s', 0, 1, '"1"')
    const other = openDatabase(path)
    other.exec('BEGIN IMMEDIATE')
    await message(Promise.resolve(log.append('s', 0, 2, '"2"')))
    other.exec('COMMIT')
    other.close()
    await heard.recovered()
    await log.append('s', 0, 3, '"3"')
    const { trimmed } = await log.read('s', 0, 1)
    expect(trimmed).toBe(2)
  })

  test('deleted: refused, then made anew; what streams had is told as trimmed', async () => {
    const heard = listen()
    const store = await open({}, heard)
    const log = logOf(store)
    await store.save(session('a'))
    await log.append('s', 0, 7, '"7"')
    for (const end of ['', '-wal', '-shm', '-lock']) rmSync(path + end)
    expect(await message(store.save(session('b')))).toContain('was deleted or replaced')
    expect(await heard.recovered()).toBe(true)
    await store.save(session('c'))
    const { events, trimmed } = await log.read('s', 0, 0)
    expect([events.length, trimmed]).toEqual([0, 7])
    await store.close()
    expect(await keysOf(await open())).toEqual(['c'])
  })

  test('deleted while nobody uses it: found within seconds', async () => {
    const heard = listen()
    await open({}, heard)
    rmSync(path)
    expect(await heard.recovered()).toBe(true)
  })

  test('only the newest part deleted: nothing is lost', async () => {
    const heard = listen()
    const store = await open({}, heard)
    await store.save(session('a'))
    rmSync(`${path}-wal`)
    expect(await message(store.save(session('b')))).toContain('-wal, was deleted')
    expect(await heard.recovered()).toBe(false)
    await store.save(session('c'))
    await store.close()
    expect(await keysOf(await open())).toEqual(expect.arrayContaining(['a', 'c']))
  })

  test('replaced by another file: refused, until that is moved away', async () => {
    const heard = listen()
    const store = await open({}, heard)
    await store.save(session('a'))
    renameSync(path, `${path}.old`)
    writeFileSync(path, 'something else '.repeat(1000))
    expect(await message(store.save(session('b')))).toContain('replaced')
    await heard.failingTwice()
    expect(heard.failing.at(-1)).toContain('was replaced by another file')
    expect(readFileSync(path, 'utf8')).toBe('something else '.repeat(1000))
    rmSync(path)
    expect(await heard.recovered()).toBe(true)
    await store.save(session('c'))
  })

  test('a newer epoch: the store is lost, and nothing more is written', async () => {
    const heard = listen()
    const store = await open({}, heard)
    await store.save(session('a'))
    // What another process does that took the lock, after somebody deleted its file.
    rmSync(`${path}-lock`)
    const second = await open()
    expect(await keysOf(second)).toEqual(['a'])
    expect(await message(store.save(session('b')))).toContain('was taken over by another process (epoch 2')
    expect(heard.lost).toHaveLength(1)
    expect(await message(store.delete('a'))).toContain('taken over')
    await store.close()
    await second.save(session('c'))
    expect(await keysOf(second)).toEqual(['a', 'c'])
  })

  test('its thread dies: another one begins, and nothing acknowledged is lost', async () => {
    const posts = vi.spyOn(Worker.prototype, 'postMessage')
    const heard = listen()
    const store = await open({}, heard)
    await store.save(session('a'))
    const worker = posts.mock.contexts.at(-1)
    posts.mockRestore()
    const written = message(store.save(session('b')))
    await (worker as Worker).terminate()
    expect(await written).toContain('died')
    expect(heard.failing).toHaveLength(1)
    expect(await heard.recovered()).toBe(false)
    await store.save(session('c'))
    expect(await keysOf(store)).toEqual(expect.arrayContaining(['a', 'c']))
  })

  test('its largest size: events go first, then sessions are refused, and a deleted one makes room', async () => {
    const heard = listen()
    const store = await open({ maxSize: '4MiB' }, heard)
    const log = logOf(store)
    const size = (): number => statSync(path).size + statSync(`${path}-wal`).size
    const data = JSON.stringify('x'.repeat(2000))
    for (let n = 0; n < 2000; n++) {
      await log.append(`s${n % 20}`, 0, n + 1, data)
      if (n % 100 === 0) expect(size()).toBeLessThan(4 * 2 ** 20)
    }
    const record = JSON.stringify('y'.repeat(50_000))
    let kept = 0
    for (; kept < 100; kept++) {
      const refused = await message(store.save({ ...session(`k${kept}`), record }))
      if (refused === undefined) continue
      expect(refused).toContain('has reached its maxSize of 4MiB')
      break
    }
    expect(kept).toBeGreaterThan(20)
    expect(kept).toBeLessThan(70)
    expect(size()).toBeLessThan(4.3 * 2 ** 20)
    expect(heard.failing).toEqual([])
    await store.delete('k0')
    await store.delete('k1')
    await store.save({ ...session('again'), record })
    const keys = await keysOf(store)
    expect(keys).toHaveLength(kept - 1)
    expect(keys.at(-1)).toBe('again')
  })

  test('space is given back when sessions end', async () => {
    const store = await open()
    const record = JSON.stringify('y'.repeat(10_000))
    await Promise.all(Array.from({ length: 1000 }, (_, n) => store.save({ ...session(`k${n}`), record })))
    await Promise.all(Array.from({ length: 1000 }, (_, n) => store.delete(`k${n}`)))
    await expect.poll(() => statSync(path).size, { timeout: 15_000 }).toBeLessThan(2 * 2 ** 20)
  })

  test.skipIf(!root || !mounts())(
    'the disk is full: refused, and used again when there is room',
    async () => {
      const mount = join(directory.path, 'small')
      mkdirSync(mount)
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', mount])
      try {
        const heard = listen()
        path = join(mount, 'sessions.db')
        const store = await open({}, heard)
        await store.save(session('a'))
        const filler = join(mount, 'filler')
        execFileSync('sh', ['-c', `cat /dev/zero > ${filler} 2>/dev/null || true`])
        const record = JSON.stringify('y'.repeat(500_000))
        const refused = (await message(store.save({ ...session('b'), record }))) ?? ''
        expect(refused).toMatch(/The disk of the session store .* is full|disk I\/O error/)
        rmSync(filler)
        expect(await heard.recovered()).toBe(false)
        await store.save({ ...session('c'), record })
        expect(await keysOf(store)).toEqual(['a', 'c'])
        // The same file system read-only, under the store.
        await store.close()
        execFileSync('mount', ['-o', 'remount,ro', mount])
        expect(await refusal(sqliteStore(path))).toContain('is mounted read-only')
      } finally {
        await Promise.all(opened.map((store) => store.close()))
        execFileSync('umount', [mount])
      }
    },
  )
})

describe('a row that fails its check', () => {
  test('an event: never delivered, its stream has a gap, and the log says so', async () => {
    const log = logOf(await opening(open()))
    for (const position of [1, 2, 3]) await log.append('s', 0, position, `"${position}"`)
    await log.append('t', 0, 1, '"foreign"')
    await opened.at(-1)?.close()
    withDatabase((db) => db.exec(`UPDATE events SET data = '"forged"' WHERE session = 's' AND position = 2`))
    const heard = listen()
    const again = logOf(await open({}, heard))
    expect(await again.read('s', 0, 0)).toEqual({
      events: [
        { position: 1, data: '"1"' },
        { position: 3, data: '"3"' },
      ],
      trimmed: 2,
    })
    expect(heard.warnings.join()).toContain('1 stored events were damaged')
    expect((await again.read('t', 0, 0)).trimmed).toBe(0)
  })

  test('an event that was moved to another session: never delivered there, and every stream has a gap', async () => {
    const log = logOf(await opening(open()))
    for (const position of [1, 2, 3]) await log.append('s', 0, position, `"${position}"`)
    await log.append('t', 0, 1, '"1"')
    await opened.at(-1)?.close()
    withDatabase((db) => db.exec(`UPDATE events SET session = 't' WHERE session = 's' AND position = 3`))
    const again = logOf(await open())
    for (const key of ['s', 't']) {
      const { events, trimmed } = await again.read(key, 0, 0)
      expect(events.map(({ data }) => data)).not.toContain('"3"')
      expect(trimmed).toBeGreaterThan(3)
    }
  })

  test('an event that is missing: its stream has a gap', async () => {
    const log = logOf(await opening(open()))
    for (const position of [1, 2, 3]) await log.append('s', 0, position, `"${position}"`)
    await opened.at(-1)?.close()
    withDatabase((db) => db.exec("DELETE FROM events WHERE session = 's' AND position = 2"))
    expect((await logOf(await open()).read('s', 0, 0)).trimmed).toBe(2)
  })

  test("a session: it does not come back, nor as another's, and the others do", async () => {
    const store = await open()
    for (const key of ['a', 'b', 'c', 'd']) await store.save(session(key))
    await store.close()
    withDatabase((db) => {
      db.exec(`UPDATE sessions SET record = '{"principal":"other"}' WHERE key = 'a'`)
      db.exec(`UPDATE sessions SET key = 'stolen' WHERE key = 'b'`)
      db.exec(`UPDATE sessions SET idle_since = 12 WHERE key = 'c'`)
    })
    const heard = listen()
    const again = await open({}, heard)
    const left = await sessionsOf(again)
    // An idle time that cannot be believed counts as none: the session ends late, never early.
    expect(left).toEqual([session('c'), session('d')])
    expect(heard.warnings).toHaveLength(3)
    await again.close()
    expect(await keysOf(await open())).toEqual(['c', 'd'])
  })

  test('what a stream was opened for: dropped, with a line in the log', async () => {
    const log = logOf(await opening(open()))
    await log.openStream?.('s', 1, ['mine'])
    await opened.at(-1)?.close()
    withDatabase((db) => db.exec(`UPDATE streams SET requests = '["forged"]'`))
    const heard = listen()
    const again = logOf(await open({}, heard))
    const streams: unknown[] = []
    for await (const batch of again.restore?.() ?? []) streams.push(...batch)
    expect(streams).toEqual([])
    expect(heard.warnings).toHaveLength(1)
  })
})

test('an idle store keeps no process alive, and what was awaited is there', async () => {
  const source = new URL('../../src/store/sqlite/sqlite-store.ts', import.meta.url).href
  const code = `import { sqliteStore } from ${JSON.stringify(source)}
    const store = sqliteStore(${JSON.stringify(path)})
    await store.open({ waiting() {}, lost() {}, failing() {}, recovered() {} }, new AbortController().signal)
    await store.save({ key: 'a', label: 'a', record: '{}', idleSince: undefined })
    console.log('saved')`
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '-e', code],
    { encoding: 'utf8', timeout: 15_000 },
  )
  expect([stdout.trim(), stderr, status]).toEqual(['saved', '', 0])
  expect(await keysOf(await open())).toEqual(['a'])
})

interface Heard {
  readonly failing: string[]
  readonly lost: string[]
  readonly warnings: string[]
  recovered(): Promise<boolean>
  failingTwice(): Promise<void>
}

const recoveries = new WeakMap<Heard, boolean[]>()

function listen(): Heard {
  const recovered: boolean[] = []
  const heard: Heard = {
    failing: [],
    lost: [],
    warnings: [],
    async recovered() {
      await expect.poll(() => recovered.length, { timeout: 10_000 }).toBeGreaterThan(0)
      return recovered.shift() === true
    },
    async failingTwice() {
      await expect.poll(() => heard.failing.length, { timeout: 10_000 }).toBeGreaterThan(1)
    },
  }
  recoveries.set(heard, recovered)
  return heard
}

async function open(options: SqliteStoreOptions = {}, heard?: Heard): Promise<SessionStore> {
  const store = sqliteStore(path, options)
  opened.push(store)
  await openStore(store, {
    failing: (error) => heard?.failing.push(error.message),
    lost: (error) => heard?.lost.push(error.message),
    warning: (text) => heard?.warnings.push(text),
    recovered: (emptied) => {
      if (heard !== undefined) recoveries.get(heard)?.push(emptied)
    },
  })
  return store
}

async function opening(store: Promise<SessionStore>): Promise<SessionStore> {
  return store
}

async function refusal(store: SessionStore): Promise<string> {
  return (await message(openStore(store))) ?? ''
}

/** The message of a rejection with `store-unavailable`; undefined where there was none. */
async function message(promise: Promise<unknown>): Promise<string | undefined> {
  try {
    await promise
    return undefined
  } catch (error) {
    expect(error).toMatchObject({ name: 'SojournError', code: 'store-unavailable' })
    return (error as Error).message
  }
}

function session(key: string): StoredSession {
  return { key, label: `label-${key}`, record: `{"key":"${key}"}`, idleSince: undefined }
}

async function sessionsOf(store: SessionStore): Promise<StoredSession[]> {
  const sessions: StoredSession[] = []
  for await (const batch of store.load()) sessions.push(...batch)
  return sessions
}

async function keysOf(store: SessionStore): Promise<string[]> {
  return (await sessionsOf(store)).map(({ key }) => key)
}

function withDatabase(work: (db: SqlDatabase) => void): void {
  const db = openDatabase(path)
  work(db)
  db.close()
}

function mounts(): boolean {
  return spawnSync('sh', ['-c', 'command -v mount && command -v umount']).status === 0
}
