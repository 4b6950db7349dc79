/** Which cores the processes are pinned to: the server has one for itself, the generator another. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** A command line that runs a program on one core, or anywhere where that cannot be had. */
export interface Cores {
  /** Core of the measured server; undefined when it is not pinned. */
  readonly server: number | undefined
  /** Core of the load generator; undefined when it is not pinned. */
  readonly load: number | undefined
  /** The Node that measured processes run on. */
  readonly node: string
}

/** The first two cores that this process may use, where `taskset` works and there are two. */
export function findCores(node: string = process.execPath): Cores {
  const [server, load] = allowedCores()
  const works =
    server !== undefined &&
    spawnSync('taskset', ['-c', String(server), process.execPath, '-e', '0']).status === 0
  return works && load !== undefined ? { server, load, node } : { server: undefined, load: undefined, node }
}

/** What to run so that `program` with `args` runs on `core`. */
export function onCore(
  core: number | undefined,
  args: readonly string[],
  program: string = process.execPath,
): { file: string; args: string[] } {
  return core === undefined
    ? { file: program, args: [...args] }
    : { file: 'taskset', args: ['-c', String(core), program, ...args] }
}

/** `Cpus_allowed_list` is written as `0-3,8`. */
function allowedCores(): number[] {
  let list: string | undefined
  try {
    list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  } catch {
    // Not Linux: then there is no taskset either.
  }
  return (list ?? '').split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number)
    if (first === undefined || last === undefined || range === '') return []
    return Array.from({ length: last - first + 1 }, (_, index) => first + index)
  })
}
