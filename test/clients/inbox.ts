/** What happened, to be awaited: tests ask for the next thing of a kind, whether it has come already or comes later. */

import { within } from '../support/deferred.ts'

/** Keeps everything in order, and wakes whoever waits for it. */
export class Inbox<T> {
  readonly all: T[] = []
  readonly #what: string
  readonly #waiting = new Set<() => void>()

  /** `what` names one item in the message of a deadline that passed. */
  constructor(what: string) {
    this.#what = what
  }

  add(item: T): void {
    this.all.push(item)
    for (const look of this.#waiting) look()
  }

  /** The first item that fits, of those from position `from` on. */
  async first(fits: (item: T) => boolean, what: string, from = 0): Promise<T> {
    return this.#when(() => this.all.slice(from).find(fits), what)
  }

  /** Resolves once `count` items fit; gives them. */
  async atLeast(count: number, fits: (item: T) => boolean, what: string): Promise<T[]> {
    return this.#when(() => {
      const found = this.all.filter(fits)
      return found.length >= count ? found : undefined
    }, what)
  }

  async #when<R>(look: () => R | undefined, what: string): Promise<R> {
    const found = look()
    if (found !== undefined) return found
    let check = (): void => {}
    const came = new Promise<R>((resolve) => {
      check = () => {
        const result = look()
        if (result !== undefined) resolve(result)
      }
    })
    this.#waiting.add(check)
    try {
      return await within(came, `${this.#what}: ${what}`)
    } finally {
      this.#waiting.delete(check)
    }
  }
}
