/** What is loaded from an authorization server, used for a while, and loaded again; while that fails, what there is goes on being used. */

import type { Clock } from '../clock.ts'
import { CheckUnavailable } from './refusal.ts'

/** How long what could not be loaded again goes on being used, in milliseconds. */
const LONGEST_STALE = 24 * 3_600_000

/** How long nothing is tried again after a failure while there is nothing to use, in milliseconds. */
const FAILURE_PAUSE = 2000

/** What a {@link Refreshed} is made of; times in milliseconds. */
export interface RefreshedOptions<T> {
  readonly load: () => Promise<T>
  readonly clock: () => Clock
  /** How old it may become before it is loaded again. */
  readonly maxAge: number
  /** Least time between two attempts, those that somebody asks for included. */
  readonly cooldown: number
  /** Told of the first failure after a success, and of the first success after a failure. `usable`: whether there is something to use. */
  readonly onChange: (failure: Error | undefined, usable: boolean) => void
}

/** A value that is kept as new as it has to be. Whoever asks while it is loaded waits for the same attempt. */
export class Refreshed<T> {
  readonly #options: RefreshedOptions<T>
  #value: { readonly value: T } | undefined
  #loadedAt = 0
  #triedAt: number | undefined
  #failure: Error | undefined
  #pending: Promise<void> | undefined

  constructor(options: RefreshedOptions<T>) {
    this.#options = options
  }

  /**
   * The value.
   * @throws CheckUnavailable where there is none, or only one that is too old
   */
  async get(): Promise<T> {
    const now = this.#now()
    const pause = this.#value === undefined ? FAILURE_PAUSE : this.#options.cooldown
    const fresh = this.#value !== undefined && now - this.#loadedAt < this.#options.maxAge
    if (!fresh && !this.#triedWithin(pause)) await this.#load()
    const age = this.#now() - this.#loadedAt
    if (this.#value === undefined || age >= LONGEST_STALE + this.#options.maxAge)
      throw new CheckUnavailable(this.#failure?.message ?? 'nothing was loaded')
    return this.#value.value
  }

  /**
   * Loads it again, unless that was tried a moment ago: whoever sends nonsense must not have the authorization server asked for each. The
   * value as it is then.
   * @throws CheckUnavailable when the last attempt failed: nobody can tell what a newer one would be
   */
  async renewed(): Promise<T> {
    if (!this.#triedWithin(this.#options.cooldown)) await this.#load()
    if (this.#failure !== undefined) throw this.#failure
    return this.get()
  }

  #triedWithin(duration: number): boolean {
    return (
      this.#pending === undefined && this.#triedAt !== undefined && this.#now() - this.#triedAt < duration
    )
  }

  #load(): Promise<void> {
    this.#pending ??= this.#tryLoad().finally(() => {
      this.#pending = undefined
    })
    return this.#pending
  }

  async #tryLoad(): Promise<void> {
    const failedBefore = this.#failure
    try {
      this.#value = { value: await this.#options.load() }
      this.#loadedAt = this.#now()
      this.#failure = undefined
      if (failedBefore !== undefined) this.#options.onChange(undefined, true)
    } catch (thrown) {
      this.#failure = thrown instanceof CheckUnavailable ? thrown : new CheckUnavailable(String(thrown))
      if (failedBefore === undefined) this.#options.onChange(this.#failure, this.#value !== undefined)
    }
    this.#triedAt = this.#now()
  }

  #now(): number {
    return this.#options.clock().now()
  }
}
