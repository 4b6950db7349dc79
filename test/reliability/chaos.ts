/** What a reliability test is to `npm run chaos` and to the table of figures: each rN.ts exports one {@link Chaos}, tests.ts lists them. */

import type { ParseArgsConfig } from 'node:util'

/** What a run found. It held when nothing was violated; whatever else it says is kept. */
export interface Findings {
  readonly violations: readonly string[]
}

/** What the results keep of every run beside its findings. */
export interface Entry {
  readonly machine: {
    readonly node: string
    readonly cpu: string
    readonly cores: number
    /** The load of the last minute when the run began (older entries: none) and when it was over. */
    readonly loadBefore?: number
    readonly loadAfter: number
    /** `YYYY-MM-DD` */
    readonly date: string
  }
}

/** A row of the table in docs/guarantees.md. */
export interface Row {
  /** The test and the promises it is about: `R8 · 4`. */
  readonly test: string
  readonly done: string
  readonly came: string
}

/** Options of a command line, as `parseArgs` takes them. */
export type Options = NonNullable<ParseArgsConfig['options']>

/** A test, as `npm run chaos -- <name>` runs it. */
export interface Chaos<F extends Findings = Findings> {
  /** `r8` */
  readonly name: string
  /** For the help: what stands behind the name, and what that does. */
  readonly help: readonly (readonly [args: string, text: string])[]
  /** Options beside `--short` and `--seed`, which every test may ask for. */
  readonly options?: Options
  /** `progress` shows a line on a terminal and is quiet elsewhere. */
  run(args: Args, progress: Progress): Promise<F>
  /** What a person is told, violations aside. */
  tell(found: F): string
  /** Where the findings are kept when that depends on how it ran: the name, a hyphen and a word; undefined: nowhere. */
  key?(found: F): string | undefined
  row(found: F & Entry): Row
}

/** Shows that a run goes on. */
export type Progress = (text: string) => void

/** The options of one run. */
export class Args {
  readonly #values: Readonly<Record<string, unknown>>

  constructor(values: Readonly<Record<string, unknown>>) {
    this.#values = values
  }

  /** Whether the gate's form was asked for: its figures are not kept. */
  get short(): boolean {
    return this.on('short')
  }

  /** The same seed, the same run. */
  get seed(): number {
    return this.count('seed')
  }

  on(name: string): boolean {
    return this.#values[name] === true
  }

  /** `undefined` where the option was not given and has no default. */
  text(name: string): string | undefined {
    const value = this.#values[name]
    return typeof value === 'string' ? value : undefined
  }

  /** A whole number from 1. */
  count(name: string): number {
    const text = this.text(name)
    const value = Number(text)
    if (!Number.isSafeInteger(value) || value < 1)
      throw new RangeError(`--${name} takes a whole number from 1, got '${text}'`)
    return value
  }
}

/** `1,000,000` */
export function count(value: number): string {
  return value.toLocaleString('en-US')
}

/** `7.2 ms`, `31 ms` */
export function milliseconds(value: number): string {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`
}

/** `5.3 s`, of milliseconds. */
export function seconds(value: number): string {
  return `${(value / 1000).toFixed(1)} s`
}
