/** What a run leaves behind: its history, what it had at stake, and the promises it broke. */

/** The promises of R0, numbered as the checker knows them. */
export const PROMISES = {
  P1: 'never early',
  P2: 'at most 250 ms late',
  P3: 'nothing but 404 after the end',
  P4: 'each logged event once, in order',
  P5: 'nothing crosses between principals',
  P6: 'every accepted call is answered or reported',
  P7: 'nothing is left behind',
  P8: 'drain',
} as const

/** One of {@link PROMISES}. */
export type Promised = keyof typeof PROMISES

/** A promise that was broken. */
export interface Violation {
  readonly promise: Promised
  readonly at: number
  readonly text: string
}

/** What a promise can be put to the test by; each is counted. */
export const STAKES = {
  'expired idle': 'P1',
  'expired unused': 'P1',
  'outlived the timeout under a call': 'P1',
  'outlived the timeout under a stream': 'P1',
  'outlived the timeout under an upload': 'P1',
  'request within 1 ms of expiry': 'P1',
  'refused while the clock ran': 'P2',
  'deadline met': 'P2',
  'asked after the end': 'P3',
  'initialize with a dead id': 'P3',
  'dropped in a call': 'P4',
  resumed: 'P4',
  'resumed with a gap': 'P4',
  'resumed from an earlier event': 'P4',
  'nothing left to resume': 'P4',
  'foreign attempt': 'P5',
  'message checked for its owner': 'P5',
  'call answered': 'P6',
  'call cancelled': 'P6',
  'call reported as failed': 'P6',
  'call detached too long': 'P6',
  'the same id twice in flight': 'P6',
  'asked the client': 'P6',
  evicted: 'P7',
  'refused as full': 'P7',
  'run ended clean': 'P7',
  drained: 'P8',
  'call finished in the drain': 'P8',
  'initialize in the drain': 'P8',
} as const satisfies Record<string, Promised>

/** One of {@link STAKES}. */
export type Stake = keyof typeof STAKES

/** The record of one run. */
export class Recorder {
  readonly lines: string[] = []
  readonly violations: Violation[] = []
  readonly stakes = new Map<Stake, number>()
  readonly #now: () => number
  readonly #keep: boolean
  #hash = 0x811c9dc5
  #seq = 0

  /** @param keep whether lines are kept, or only their hash. */
  constructor(now: () => number, keep: boolean) {
    this.#now = now
    this.#keep = keep
  }

  /** The position in the history, for what happens at the same time. */
  get seq(): number {
    return this.#seq
  }

  /** A hash of the history so far: two runs of a seed must agree. */
  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0')
  }

  /** Adds a line. Returns its position. */
  note(text: string): number {
    const line = `${this.#now().toFixed(2).padStart(10)}  ${text}`
    for (let index = 0; index < line.length; index++)
      this.#hash = Math.imul(this.#hash ^ line.charCodeAt(index), 0x01000193)
    if (this.#keep) this.lines.push(line)
    return ++this.#seq
  }

  /** Counts something that was at stake. */
  stake(what: Stake, count = 1): void {
    this.stakes.set(what, (this.stakes.get(what) ?? 0) + count)
  }

  /** Notes a broken promise. */
  violate(promise: Promised, text: string): void {
    this.violations.push({ promise, at: this.#now(), text })
    this.note(`!! ${promise} ${PROMISES[promise]}: ${text}`)
  }
}
