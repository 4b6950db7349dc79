/** What a result must say about where it was measured. */

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { join } from 'node:path'
import { BENCH_DIR } from './build.ts'
import type { Cores } from './cores.ts'
import { pythonVersions } from './python.ts'

/** Machine, runtime and versions of a run. */
export interface Machine {
  readonly node: string
  readonly platform: string
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  /** Load of the machine before the run began: above a few tenths, others were at work. */
  readonly loadBefore: number
  readonly pinned: Pick<Cores, 'server' | 'load'>
  readonly versions: Readonly<Record<string, string>>
  /** Commit of our own source; ends in `+` when the tree had changes. */
  readonly commit: string
}

/** The packages whose versions stand beside the figures, and whose rows fail where they are missing. */
const PEERS = Object.keys(
  (
    JSON.parse(readFileSync(join(BENCH_DIR, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>
    }
  ).dependencies,
)

/** Describes this machine and what is installed. */
export function describeMachine(cores: Cores): Machine {
  const { server, load } = cores
  return {
    node: spawnSync(cores.node, ['--version'], { encoding: 'utf8' }).stdout.trim(),
    platform: `${process.platform} ${process.arch}`,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    loadBefore: loadavg()[0] ?? Number.NaN,
    pinned: { server, load },
    versions: {
      ...Object.fromEntries(PEERS.map((name) => [name, versionOf(name)])),
      ...pythonVersions(),
    },
    commit: commit(),
  }
}

/** Whether the packages of `bench/package.json` are installed, in `bench/` or above it. */
export function peersInstalled(): boolean {
  return PEERS.every((name) => versionOf(name) !== 'not installed')
}

function versionOf(name: string): string {
  for (const root of [BENCH_DIR, join(BENCH_DIR, '..')]) {
    const file = join(root, 'node_modules', name, 'package.json')
    if (existsSync(file)) return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
  }
  return 'not installed'
}

function commit(): string {
  const git = (...args: string[]): string =>
    spawnSync('git', args, { cwd: BENCH_DIR, encoding: 'utf8' }).stdout?.trim() ?? ''
  const head = git('rev-parse', '--short', 'HEAD')
  if (head === '') return 'unknown'
  return git('status', '--porcelain', '--', '../src') === '' ? head : `${head}+`
}
