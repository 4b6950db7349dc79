/** What is fuzzed: where inputs go, what they are made of, and what must hold whatever they are. */

/** Takes inputs, one after the other. */
export interface Subject {
  /** Takes one input. Throws what is wrong; a promise must settle soon. */
  run(input: Uint8Array): void | Promise<void>
  close?(): Promise<void> | void
}

/** One thing that is fuzzed. */
export interface Target {
  readonly name: string
  /** For `--help`. */
  readonly about: string
  /** What inputs are made from first. */
  readonly seeds: readonly string[]
  /** What mutations put in. */
  readonly words: readonly string[]
  /** Most bytes of an input. */
  readonly longest: number
  /** How long one input may take on a loaded machine, in milliseconds. */
  readonly deadline: number
  open(): Subject | Promise<Subject>
}

/** An invariant is broken. */
export class Broken extends Error {
  override readonly name = 'Broken'
}

/** @throws Broken unless it holds */
export function must(holds: boolean, what: string | (() => string)): asserts holds {
  if (!holds) throw new Broken(typeof what === 'string' ? what : what())
}

/** Of any bytes a text with as many characters, as HTTP header fields are read. */
export function latin1(input: Uint8Array): string {
  return Buffer.from(input.buffer, input.byteOffset, input.byteLength).toString('latin1')
}

/** As {@link latin1}, of UTF-8: what is none is replaced. */
export function utf8(input: Uint8Array): string {
  return Buffer.from(input.buffer, input.byteOffset, input.byteLength).toString('utf8')
}
