/** R9: a process is killed while it writes into a durable store; whatever was acknowledged has to be there. */

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { loadSqlite, type OpenDatabase } from '../../src/store/sqlite/driver.ts'
import { SqliteEngine } from '../../src/store/sqlite/engine.ts'
import type { Operation, Outcome, SessionPage, StreamPage } from '../../src/store/sqlite/operations.ts'
import { fileOptions } from '../../src/store/sqlite/sqlite-store.ts'
import type { StoredSession } from '../../src/store/session-store.ts'
import type { EventLogPage, RestoredStream } from '../../src/stream/event-log.ts'
import { Random } from '../simulation/random.ts'
import { eventData, recordOf } from './r9-model.ts'
import { type Chaos, count } from './chaos.ts'

const WRITER = fileURLToPath(new URL('fixtures/store-writer.ts', import.meta.url))

/** What a run counted. */
export interface R9Result {
  rounds: number
  /** Acknowledged, over all rounds. */
  sessions: number
  events: number
  deletes: number
  seconds: number
  readonly violations: string[]
}

/** What one session was said to be. */
interface Said {
  version: number
  position: number
  opened: boolean
  deleted: boolean
}

/** `rounds` rounds over one file, alternating between the two durabilities: a crash of the process may lose nothing of either. */
export async function r9(
  rounds: number,
  seed: number,
  onProgress: (text: string) => void = () => {},
): Promise<R9Result> {
  const result: R9Result = { rounds: 0, sessions: 0, events: 0, deletes: 0, seconds: 0, violations: [] }
  const random = new Random(seed)
  const openDatabase = await loadSqlite()
  const directory = mkdtempSync(join(tmpdir(), 'sojourn-r9-'))
  const path = join(directory, 'sessions.db')
  const started = performance.now()
  try {
    let before = new Map<string, Said>()
    let epoch = 0
    for (let round = 0; round < rounds; round++) {
      const { lines, problem } = await killedWriter(
        path,
        round % 2 === 0 ? 'full' : 'relaxed',
        round,
        random.next() * 150,
      )
      if (problem !== undefined) result.violations.push(`round ${round}: ${problem}`)
      const said = told(lines, result)
      const opened = Number(/^o (\d+)/.exec(lines[0] ?? '')?.[1] ?? 0)
      if (opened !== 0 && opened <= epoch)
        result.violations.push(`round ${round}: epoch ${opened} after ${epoch}`)
      // The round before as well: what is killed must not take what was there.
      epoch = check(openDatabase, path, new Map([...before, ...said]), round, result)
      before = said
      result.rounds += 1
      onProgress(
        `R9: ${result.rounds} of ${rounds} rounds, ${result.events} events, ${result.violations.length} violations`,
      )
      if (result.violations.length > 20) break
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
  result.seconds = (performance.now() - started) / 1000
  return result
}

/** Runs a writer, and kills it some milliseconds after its first acknowledged write. */
function killedWriter(
  path: string,
  durability: string,
  round: number,
  after: number,
): Promise<{ lines: string[]; problem: string | undefined }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--import', 'tsx', WRITER, path, durability, String(round)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let said = ''
    let errors = ''
    let armed = false
    const deadline = setTimeout(() => child.kill('SIGKILL'), 30_000)
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (armed || !/^s /m.test(said)) return
      armed = true
      setTimeout(() => child.kill('SIGKILL'), after)
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text))
    child.on('close', (_code, signal) => {
      clearTimeout(deadline)
      // What follows the last newline was cut.
      const lines = said.split('\n').slice(0, -1)
      const failure = lines.find((line) => line.startsWith('f '))
      const problem =
        failure ?? (signal === 'SIGKILL' && armed ? undefined : `the writer ended by itself: ${errors}`)
      resolve({ lines, problem })
    })
  })
}

function told(lines: readonly string[], result: R9Result): Map<string, Said> {
  const sessions = new Map<string, Said>()
  for (const line of lines) {
    const [what, key = '', value = ''] = line.split(' ')
    if (what === 'o' || what === 'f') continue
    let said = sessions.get(key)
    if (said === undefined)
      sessions.set(key, (said = { version: 0, position: 0, opened: false, deleted: false }))
    if (what === 's') {
      said.version = Number(value)
      result.sessions += 1
    } else if (what === 'e') {
      said.position = Number(value)
      result.events += 1
    } else if (what === 'p') said.opened = true
    else if (what === 'd') {
      said.deleted = true
      result.deletes += 1
    }
  }
  return sessions
}

/** Opens the file as the next process does, holds it against what was said, and forgets old rounds. */
function check(
  openDatabase: OpenDatabase,
  path: string,
  said: ReadonlyMap<string, Said>,
  round: number,
  result: R9Result,
): number {
  const violate = (text: string): void => {
    result.violations.push(`round ${round}: ${text}`)
  }
  const engine = new SqliteEngine(openDatabase, {
    ...fileOptions(path),
    now: () => Date.now(),
    warn: (text) => violate(text),
  })
  try {
    if (!engine.tryLock()) {
      violate('the lock of a killed process is still held')
      return 0
    }
    const { epoch } = engine.open()
    const sessions = new Map(loaded(engine).map((session) => [session.key, session]))
    const streams = new Map(restored(engine).map((stream) => [stream.session, stream]))
    for (const [key, { version, position, opened, deleted }] of said) {
      const session = sessions.get(key)
      const page = one(engine, ['read', key, 1, 0]) as EventLogPage
      if (deleted) {
        if (session !== undefined || page.events.length > 0 || streams.has(key))
          violate(`${key} was deleted, and is there`)
        continue
      }
      // After its second record the next thing that is done to it may be its end, of which nothing was heard.
      const ends = Number(key.split('-')[2]) % 3 === 0
      if (session === undefined && ends && version === 2 && page.events.length === 0) continue
      if (session === undefined) violate(`session ${key} is gone`)
      else if (session.record !== recordOf(key, 1) && session.record !== recordOf(key, 2))
        violate(`session ${key} has another record`)
      else if (version === 2 && session.record !== recordOf(key, 2)) violate(`session ${key} is of before`)
      if (opened && !streams.has(key)) violate(`the stream of ${key} is gone`)
      if (position === 5 && streams.get(key)?.answers.length !== 1) violate(`the answer of ${key} is gone`)
      if (page.trimmed > 0) violate(`${key} has a gap`)
      if (page.events.length < position)
        violate(`${key} has ${page.events.length} of ${position} acknowledged events`)
      for (const [index, event] of page.events.entries())
        if (event.position !== index + 1 || event.data !== eventData(key, index + 1))
          violate(`${key} has a wrong event at ${index + 1}`)
    }
    const old = [...sessions.keys()].filter((key) => !key.startsWith(`${round}-`))
    if (old.length > 0) engine.apply(old.map((key): Operation => ['delete', key]))
    return epoch
  } catch (error) {
    violate(String(error))
    return 0
  } finally {
    engine.close()
  }
}

function one(engine: SqliteEngine, operation: Operation): Outcome {
  const [outcome] = engine.apply([operation])
  return outcome
}

/** Every session of a file. */
export function loaded(engine: SqliteEngine): StoredSession[] {
  const sessions: StoredSession[] = []
  for (let after: number | undefined = -1; after !== undefined;) {
    const page = one(engine, ['load', after]) as SessionPage
    sessions.push(...page.sessions)
    after = page.next
  }
  return sessions
}

/** Every stream of a file. */
export function restored(engine: SqliteEngine): RestoredStream[] {
  const streams: RestoredStream[] = []
  let after: StreamPage['next']
  do {
    const page = one(engine, ['restore', after]) as StreamPage
    streams.push(...page.streams)
    after = page.next
  } while (after !== undefined)
  return streams
}

/** `npm run chaos -- r9` */
export const chaos: Chaos<R9Result> = {
  name: 'r9',
  help: [
    ['', 'a process killed 500 times while it writes into a SQLite store; eight minutes'],
    ['--short', '20 times'],
  ],
  run: (args, progress) => r9(args.short ? 20 : 500, args.seed, progress),
  tell: ({ rounds, sessions, events, deletes, seconds }) =>
    `R9: ${rounds} rounds, acknowledged ${sessions} saves, ${events} events, ${deletes} deletes, ${seconds.toFixed(1)} s`,
  row: ({ rounds, sessions, events, deletes, violations }) => ({
    test: 'R9 · 9',
    done: `a process killed ${count(rounds)} times while it writes into a SQLite store`,
    came: `${count(sessions)} saves, ${count(events)} events and ${count(deletes)} ends had been acknowledged${violations.length === 0 ? ': all there' : ''}`,
  }),
}
