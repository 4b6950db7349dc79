/** How full V8's heap is, and how to have it tidied; nothing on runtimes that do not say. */

import type v8Module from 'node:v8'

/** The part of the heap that fills up: the old generation. In bytes. */
export interface HeapUse {
  readonly used: number
  /** What stands in the young generation. Most of it is garbage as a rule; what is not moves to the old one, in a flood all of it. */
  readonly young: number
  /** At which V8 ends the process. */
  readonly limit: number
}

const MIB = 1024 * 1024

/** Spaces that V8 empties by itself; how full they are says little. */
const YOUNG: ReadonlySet<string> = new Set(['new_space', 'new_large_object_space'])

/** V8's heap limit is that of both generations: with `--max-old-space-size=128` it says 176 MiB (Node 20), and the process ends at 128. */
const YOUNG_LIMIT = { before: 48 * MIB, since: 192 * MIB, v8: 13 }

/** More than V8 lets memory outside of its heap grow before it starts to collect (64 MiB). */
const HINT = 80 * MIB

type V8 = Pick<typeof v8Module, 'getHeapSpaceStatistics' | 'getHeapStatistics'>

// Not imported: on runtimes without it that would be the end of the whole package.
const v8 = (globalThis as { process?: NodeJS.Process }).process?.getBuiltinModule?.('node:v8') as
  | V8
  | undefined

let limit: number | undefined

/** How full the heap is now; undefined where the runtime does not tell. Takes some 5 µs. */
export function heapUse(): HeapUse | undefined {
  if (v8 === undefined) return undefined
  try {
    limit ??= oldLimit(v8.getHeapStatistics().heap_size_limit)
    let used = 0
    let young = 0
    for (const { space_name, space_used_size } of v8.getHeapSpaceStatistics())
      if (YOUNG.has(space_name)) young += space_used_size
      else used += space_used_size
    return { used, young, limit }
  } catch {
    return undefined
  }
}

/**
 * Has V8 look for garbage soon, mostly beside the running code: what it has yet to collect counts as used, and where requests are
 * refused nothing is allocated that would make it look (measured: 8 s until it did by itself, 0.5 s with this; Node 20 to 24). It begins
 * when memory outside of its heap grows; pages that nobody writes to are not memory yet.
 */
export function hurryCollection(): void {
  try {
    void new ArrayBuffer(HINT)
  } catch {
    // Where even the addresses are short, V8 knows.
  }
}

/** What of the whole limit is the old generation's: as it was asked for, else by what the young one takes at most. */
function oldLimit(whole: number): number {
  const { execArgv, env, versions } = process
  const asked = [...(env['NODE_OPTIONS'] ?? '').split(/\s+/), ...execArgv]
    .map((flag) => /^--max[-_]old[-_]space[-_]size=(\d+)$/.exec(flag)?.[1])
    .findLast((megabytes) => megabytes !== undefined)
  // A worker has a limit of its own, below that of its process.
  if (asked !== undefined && Number(asked) * MIB <= whole) return Number(asked) * MIB
  const young =
    Number.parseInt(versions['v8'] ?? '', 10) >= YOUNG_LIMIT.v8 ? YOUNG_LIMIT.since : YOUNG_LIMIT.before
  // On small machines the young generation is smaller as well.
  return Math.max(whole - young, whole * 0.75)
}
