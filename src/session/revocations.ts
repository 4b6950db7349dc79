/** Whose access was ended: what was let in before, and is still on its way, opens nothing any more. */

/** So many are remembered; the oldest go first. Nothing is on its way for longer than it takes to end the access of that many. */
const MOST = 10_000

/** The latest end of access of each principal, by monotonic time. */
export class Revocations {
  readonly #at = new Map<string, number>()

  /** Ends the access of whoever came before `now`. */
  add(principal: string, now: number): void {
    this.#at.delete(principal)
    this.#at.set(principal, now)
    if (this.#at.size <= MOST) return
    for (const oldest of this.#at.keys()) {
      this.#at.delete(oldest)
      break
    }
  }

  /** Whether access was ended after someone came. */
  since(principal: string | undefined, came: number): boolean {
    if (principal === undefined || this.#at.size === 0) return false
    const at = this.#at.get(principal)
    return at !== undefined && at >= came
  }
}
