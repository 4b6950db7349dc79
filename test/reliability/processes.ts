/** Servers in processes of their own, where memory, CPU time and stalls are measured: plain JavaScript under plain Node, on a core of its own where there is one. */

import { type ChildProcess, fork } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { Child } from '../../bench/lib/child.ts'
import { findCores } from '../../bench/lib/cores.ts'
import type { OriginSpec, OriginStats } from './fixtures/origin.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const FOLDERS = ['src', 'test/reliability/fixtures', 'test/support', 'bench/shared']

/** A running server. */
export interface Origin {
  readonly port: number
  stats(): Promise<OriginStats>
  /** The same after its garbage was collected, so many times; 4, where nothing else goes on. */
  collected(passes?: number): Promise<OriginStats>
  /** Forgets the longest stall so far. */
  forgetStalls(): Promise<void>
  /** One event to every open stream; resolves when the server has written it. */
  broadcast(): Promise<void>
  stop(): Promise<void>
}

/** Starts `fixtures/origin.ts`. */
export async function startOrigin(spec: OriginSpec): Promise<Origin> {
  const { server: core, node } = findCores()
  const entry = join(await build(), 'test/reliability/fixtures/origin.js')
  const argument = JSON.stringify(spec)
  const child = await Child.start({ core, node, entry, nodeFlags: ['--expose-gc'], argument })
  return {
    port: child.port,
    stats: () => child.ask('stats'),
    collected: (passes = 4) => child.ask('collected', passes),
    forgetStalls: () => child.ask('forgetStalls'),
    broadcast: () => child.ask('broadcast'),
    stop: () => child.stop(),
  }
}

/** How long answers took, in milliseconds, and what went wrong meanwhile. */
export interface GoodTimes {
  readonly count: number
  readonly p50: number
  readonly p99: number
  readonly failures: readonly string[]
}

/** Clients in a process of their own, whose times are not those of whoever loads the server. */
export interface GoodClients {
  /** What came of it since it was last asked. */
  times(): Promise<GoodTimes>
  stop(): void
}

/** Starts `fixtures/good-clients.mjs`: four clients that send a message every few milliseconds. */
export async function startGoodClients(what: {
  readonly url: string
  readonly session: string
  /** Header fields of each request. */
  readonly fields: Readonly<Record<string, string>>
  readonly message: object
}): Promise<GoodClients> {
  const entry = fileURLToPath(new URL('fixtures/good-clients.mjs', import.meta.url))
  const child = fork(entry, [JSON.stringify(what)], { execArgv: [] })
  await nextMessage(child)
  return { times: () => askChild(child), stop: () => void child.kill('SIGKILL') }
}

/** The next message of a process; its end is an error. */
export function nextMessage<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const onMessage = (value: unknown): void => {
      child.off('exit', onExit)
      resolve(value as T)
    }
    const onExit = (code: number | null): void => {
      child.off('message', onMessage)
      reject(new Error(`the process ended with ${String(code)}`))
    }
    child.once('message', onMessage)
    child.once('exit', onExit)
  })
}

/** One question at a time is on its way to a process. */
const asked = new WeakMap<ChildProcess, Promise<unknown>>()

/** Asks a process that answers every message with one. */
export async function askChild<T>(child: ChildProcess): Promise<T> {
  const before = asked.get(child) ?? Promise.resolve()
  const answer = before.then(() => {
    child.send('')
    return nextMessage<T>(child)
  })
  asked.set(
    child,
    answer.catch(() => {}),
  )
  return answer
}

/** Makes JavaScript of what the servers run, once for each state of the sources, and gives its folder. */
async function build(): Promise<string> {
  const hash = createHash('sha256')
  for (const folder of FOLDERS)
    for (const name of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).sort())
      if (name.endsWith('.ts')) hash.update(name).update(readFileSync(join(ROOT, folder, name)))
  const cache = join(ROOT, 'node_modules/.cache/sojourn-chaos')
  const out = join(cache, hash.digest('hex').slice(0, 16))
  if (existsSync(out)) return out
  const mine = `${out}.${process.pid}`
  // The compiler takes a second to load: only where it is needed.
  const { transpile } = await import('../../bench/lib/build.ts')
  transpile(FOLDERS, mine)
  mkdirSync(mine, { recursive: true })
  // Below node_modules no package.json further up says that it is ESM.
  writeFileSync(join(mine, 'package.json'), '{ "type": "module" }')
  try {
    renameSync(mine, out)
  } catch {
    // Another process was faster.
    rmSync(mine, { recursive: true, force: true })
  }
  return out
}
