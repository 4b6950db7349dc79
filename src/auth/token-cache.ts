/** Tokens that were checked a moment ago, by their hash: bounded in number, and never believed after they expired. */

import { createHash } from 'node:crypto'

interface Entry<T> {
  readonly value: T
  /** Monotonic, in milliseconds. */
  readonly until: number
}

/** The latest outcomes. */
export class TokenCache<T> {
  readonly #entries = new Map<string, Entry<T>>()
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  /** What is known of a token at the monotonic time `now`. */
  get(key: string, now: number): T | undefined {
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    if (now < entry.until) return entry.value
    this.#entries.delete(key)
    return undefined
  }

  /** Keeps it until then; the one that was kept first makes room. */
  set(key: string, value: T, until: number): void {
    this.#entries.delete(key)
    this.#entries.set(key, { value, until })
    if (this.#entries.size <= this.#most) return
    for (const oldest of this.#entries.keys()) {
      this.#entries.delete(oldest)
      break
    }
  }

  /** Forgets one. */
  delete(key: string): void {
    this.#entries.delete(key)
  }
}

/** What a token is known by: how long a look-up takes tells nothing about the tokens there are. */
export function tokenKey(token: string): string {
  return createHash('sha256').update(token).digest('base64')
}
