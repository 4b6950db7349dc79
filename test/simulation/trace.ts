/** The history of simulations over a `SimApp`: what was asked and answered, without anything that is random. */

import type { SimApp } from '../support/sim-app.ts'
import type { Recorder } from './record.ts'

/** The longest text of a line. */
const LONGEST = 240

/** A session id of 192 bits, or the tag that its event ids begin with. */
const RANDOM = /(?<![\w-])[\w-]{32}(?![\w-])|(?<![\w-])[\w-]{8}(?=\.\d+\.\d+)/g

/** Writes what apps do into a history, with names for ids in the order they appear. */
export class Trace {
  readonly #recorder: Recorder
  readonly #names = new Map<string, string>()

  constructor(recorder: Recorder) {
    this.#recorder = recorder
  }

  /** Notes something, ids by their names. */
  note(text: string): void {
    const line = text.replaceAll('\n', '\\n').replaceAll(RANDOM, (id) => this.#nameOf(id))
    this.#recorder.note(line.length > LONGEST ? `${line.slice(0, LONGEST)}…` : line)
  }

  /** Follows an app from now on. */
  follow(app: SimApp): void {
    app.trace = (text) => this.note(text)
  }

  #nameOf(id: string): string {
    let name = this.#names.get(id)
    if (name === undefined) this.#names.set(id, (name = `S${this.#names.size + 1}`))
    return name
  }
}
