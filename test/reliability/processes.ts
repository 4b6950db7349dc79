/** Servers in processes of their own, where memory, CPU time and stalls are measured: plain JavaScript under plain Node, on a core of its own where there is one. */

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
