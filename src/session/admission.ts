/** How fast sessions may be opened: a bucket of tokens for each principal and each address. */

import { clientNetwork } from '../http/headers.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { Refusal } from './refusal.ts'

/** Buckets that are remembered, of principals and of addresses each; one costs about 150 bytes. */
export const MOST_BUCKETS = 65_536

/** Times are sums of fractions: whoever waited as long as told must not fail by their rounding. In milliseconds. */
const ROUNDING = 1e-3

/**
 * Buckets of tokens by key. Each holds `burst` tokens at first and gets `rate` a second until it is full again. A bucket is one number,
 * the time at which it will be full (GCRA, the generic cell rate algorithm of ATM Forum TM 4.0), so taking a token is O(1), needs no
 * timer, and a bucket that is full need not be remembered.
 */
export class TokenBuckets {
  /** How long one token takes to come, in milliseconds. */
  readonly #interval: number
  /** How long an empty bucket takes to be full, but for one token. */
  readonly #tolerance: number
  readonly #most: number
  /** When each bucket is full again, by the clock that callers use; the least recently used first. */
  readonly #fullAt = new Map<string, number>()

  /** `rate` is in tokens a second. */
  constructor(rate: number, burst: number, most: number = MOST_BUCKETS) {
    this.#interval = 1000 / rate
    this.#tolerance = (burst - 1) * this.#interval
    this.#most = most
  }

  /** How many buckets are remembered. */
  get size(): number {
    return this.#fullAt.size
  }

  /** How long until there is a token, in milliseconds; 0 when there is one. Takes none. */
  wait(key: string, now: number): number {
    const fullAt = this.#fullAt.get(key)
    const wait = fullAt === undefined ? 0 : fullAt - this.#tolerance - now
    return wait <= ROUNDING ? 0 : wait
  }

  /** Takes a token, which {@link TokenBuckets.wait} said is there. */
  take(key: string, now: number): void {
    const fullAt = Math.max(this.#fullAt.get(key) ?? now, now) + this.#interval
    // To the end: the order is that of use.
    this.#fullAt.delete(key)
    this.#fullAt.set(key, fullAt)
    this.#forgetFull(now)
  }

  /** Forgets at most two, so that the work is bounded and still goes faster than buckets come. */
  #forgetFull(now: number): void {
    let left = 2
    for (const [key, fullAt] of this.#fullAt) {
      // Where there are too many, whoever was not seen for longest gets a full bucket: an attacker with so many addresses has
      // more than that from new ones, while to refuse all newcomers instead would be what the attacker wants.
      if (fullAt > now && this.#fullAt.size <= this.#most) return
      this.#fullAt.delete(key)
      left -= 1
      if (left === 0) return
    }
  }
}

/** The options that {@link Admission} reads. */
export interface AdmissionOptions {
  /** Sessions a second; `Infinity` for no limit. */
  readonly openRatePerPrincipal: number
  readonly openBurstPerPrincipal: number
  readonly openRatePerAddress: number
  readonly openBurstPerAddress: number
}

/** Decides who may open a session now. */
export class Admission {
  readonly #principals: TokenBuckets | undefined
  readonly #addresses: TokenBuckets | undefined

  constructor(options: AdmissionOptions, most: number = MOST_BUCKETS) {
    const buckets = (rate: number, burst: number): TokenBuckets | undefined =>
      rate === Number.POSITIVE_INFINITY ? undefined : new TokenBuckets(rate, burst, most)
    this.#principals = buckets(options.openRatePerPrincipal, options.openBurstPerPrincipal)
    this.#addresses = buckets(options.openRatePerAddress, options.openBurstPerAddress)
  }

  /** Buckets that are remembered. */
  get size(): number {
    return (this.#principals?.size ?? 0) + (this.#addresses?.size ?? 0)
  }

  /** Whether an address decides anything: a caller without one is then not limited by it. */
  get looksAtAddresses(): boolean {
    return this.#addresses !== undefined
  }

  /**
   * Takes a token of each bucket that counts for this caller, or of none. Anonymous callers have no principal, and those of a face that
   * knows no address have none; `now` is monotonic.
   * @returns undefined when the caller is admitted; else what it is told, with the time until it would be
   */
  admit(principal: string | undefined, address: string | undefined, now: number): Refusal | undefined {
    const network = this.#addresses === undefined ? undefined : clientNetwork(address)
    const forPrincipal = principal === undefined ? 0 : (this.#principals?.wait(principal, now) ?? 0)
    const forAddress = network === undefined ? 0 : (this.#addresses?.wait(network, now) ?? 0)
    const wait = Math.max(forPrincipal, forAddress)
    if (wait > 0)
      return tooFast(wait, forPrincipal >= forAddress ? 'openRatePerPrincipal' : 'openRatePerAddress')
    if (principal !== undefined) this.#principals?.take(principal, now)
    if (network !== undefined) this.#addresses?.take(network, now)
    return undefined
  }
}

/**
 * 429, not the 503 of a full server: it is the caller who has to change something, and balancers that eject servers for their 5xx must not
 * do so because of one client.
 */
function tooFast(wait: number, option: string): Refusal {
  return {
    status: 429,
    code: JsonRpcErrorCode.SERVER_ERROR,
    message: 'Too Many Requests: sessions are opened too fast',
    cause: 'rate',
    option,
    // Whole seconds (RFC 9110 §10.2.3): rounded up, so that who comes back then is admitted.
    headers: { 'Retry-After': String(Math.ceil((wait - ROUNDING) / 1000)) },
  }
}
