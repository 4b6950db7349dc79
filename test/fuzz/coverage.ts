/** Which code of src/ has run: block coverage of V8, taken in this process by its own inspector. */

import { Session } from 'node:inspector/promises'
import { fileURLToPath } from 'node:url'

/**
 * Why the inspector: the only kept fuzzer of this kind for Node, Jazzer.js, brings a binary for a newer C library than that of stable systems and
 * fetched it from elsewhere before; and it would see compiled CommonJS. V8 counts blocks of whatever runs, on every Node. A look costs about
 * 2 ms, so inputs are run in batches and one is looked for only where a batch has something new.
 */
export class Coverage {
  readonly #session: Session
  readonly #root: string
  /** Per script: the characters that have run. */
  readonly #covered = new Map<string, Uint8Array>()
  #total = 0

  private constructor(session: Session, root: string) {
    this.#session = session
    this.#root = root
  }

  /** Begins to count. `root`: only scripts under it count. */
  static async begin(root: URL = new URL('../../src/', import.meta.url)): Promise<Coverage> {
    const session = new Session()
    session.connect()
    await session.post('Profiler.enable')
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true })
    return new Coverage(session, fileURLToPath(root))
  }

  /** Characters of the source, as it runs, that have been reached. */
  get total(): number {
    return this.#total
  }

  /** What has run since the last look and never before, in characters; it counts as known from now on if `keep` is set. */
  async take(keep: boolean): Promise<number> {
    const { result } = await this.#session.post('Profiler.takePreciseCoverage')
    let fresh = 0
    for (const { url, functions } of result) {
      const file = url.startsWith('file:') ? fileURLToPath(url) : url
      if (!file.startsWith(this.#root)) continue
      const known = this.#room(
        file,
        Math.max(0, ...functions.flatMap(({ ranges }) => ranges[0]?.endOffset ?? 0)),
      )
      // Ranges are nested, the outer before the inner: the last that has a character tells its count.
      const now = new Uint8Array(known.length)
      for (const { ranges } of functions.toSorted(
        (a, b) => (a.ranges[0]?.startOffset ?? 0) - (b.ranges[0]?.startOffset ?? 0),
      )) {
        for (const { startOffset, endOffset, count } of ranges)
          now.fill(count > 0 ? 1 : 0, startOffset, endOffset)
      }
      for (let at = 0; at < now.length; at++) {
        if (now[at] === 0 || known[at] === 1) continue
        fresh += 1
        if (keep) known[at] = 1
      }
    }
    if (keep) this.#total += fresh
    return fresh
  }

  /** Forgets what has run. */
  async reset(): Promise<void> {
    await this.#session.post('Profiler.takePreciseCoverage')
    this.#covered.clear()
    this.#total = 0
  }

  /** Counts no more. */
  async end(): Promise<void> {
    await this.#session.post('Profiler.stopPreciseCoverage')
    this.#session.disconnect()
  }

  /** The characters of a script known so far, as many as there are at least. */
  #room(file: string, length: number): Uint8Array {
    const known = this.#covered.get(file)
    if (known !== undefined && known.length >= length) return known
    const larger = new Uint8Array(length)
    if (known !== undefined) larger.set(known)
    this.#covered.set(file, larger)
    return larger
  }
}
