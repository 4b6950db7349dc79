/** Server→client requests of one session: numbered so that no number repeats, and answered to whoever asked. */

import { SojournError } from '../errors.ts'
import type { JsonRpcResponse, RequestId } from '../types.ts'

/** Who waits for the client's answer. */
export interface Asker {
  /** The client answered. */
  answered(response: JsonRpcResponse): void
  /** Nobody will answer: the session ended. */
  abandoned(): void
}

/** Pending server→client requests. Keep-alive pings are among them but do not count against the limit. */
export class ServerRequests {
  /** Made with the first of them: most sessions never ask their client anything. */
  #pending: Map<number, Asker> | undefined
  readonly #limit: number
  readonly #next: () => number
  readonly #onSettled: () => void
  #pings = 0

  /** `next` gives numbers that no request of the session ever had, across instances; `onSettled` is told when one no longer waits. */
  constructor(limit: number, next: () => number, onSettled: () => void) {
    this.#limit = limit
    this.#next = next
    this.#onSettled = onSettled
  }

  /** How many wait for an answer, pings left out. */
  get size(): number {
    return (this.#pending?.size ?? 0) - this.#pings
  }

  /** Whether nothing at all is pending, pings included. */
  get empty(): boolean {
    return (this.#pending?.size ?? 0) === 0
  }

  /**
   * Registers a request and gives the id it travels with.
   * @throws SojournError `limit-exceeded` when `maxServerRequestsPerSession` are pending.
   */
  add(asker: Asker): number {
    if (this.size >= this.#limit) {
      throw new SojournError(
        'limit-exceeded',
        `Too many pending requests to the client: maxServerRequestsPerSession is ${this.#limit}`,
      )
    }
    return this.#add(asker)
  }

  /** Registers a keep-alive ping and gives its id. */
  addPing(onAnswer: () => void): number {
    this.#pings += 1
    return this.#add(new PingAsker(onAnswer))
  }

  /** Forgets a request that nobody waits for any more. */
  remove(id: number): void {
    this.#take(id)
  }

  /**
   * Hands a client's response to whoever asked. Returns what it answered; `nothing` when no such request is pending, in which case the
   * response is dropped.
   */
  resolve(response: JsonRpcResponse): 'request' | 'ping' | 'nothing' {
    const id: RequestId | null | undefined = response.id
    if (typeof id !== 'number') return 'nothing'
    const asker = this.#take(id)
    if (asker === undefined) return 'nothing'
    asker.answered(response)
    return asker instanceof PingAsker ? 'ping' : 'request'
  }

  /** The session is over. */
  abandonAll(): void {
    const askers = [...(this.#pending?.values() ?? [])]
    this.#pending = undefined
    this.#pings = 0
    for (const asker of askers) asker.abandoned()
  }

  #add(asker: Asker): number {
    const id = this.#next()
    this.#pending ??= new Map()
    this.#pending.set(id, asker)
    return id
  }

  #take(id: number): Asker | undefined {
    const asker = this.#pending?.get(id)
    if (asker === undefined) return undefined
    this.#pending?.delete(id)
    if (asker instanceof PingAsker) this.#pings -= 1
    else this.#onSettled()
    return asker
  }
}

class PingAsker implements Asker {
  readonly #onAnswer: () => void

  constructor(onAnswer: () => void) {
    this.#onAnswer = onAnswer
  }

  answered(): void {
    this.#onAnswer()
  }

  abandoned(): void {}
}
