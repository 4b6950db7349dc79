/** JSON that many sessions have in common, kept once: most clients of a server introduce themselves with the same words. */

/** A JSON value as text, shared by all who hold it. Never mutated. */
export class SharedJson {
  readonly text: string
  /** @internal Holders. */ holders = 0
  #value: unknown

  /** @internal */
  constructor(text: string) {
    this.text = text
  }

  /** The value, made anew. */
  parse(): Readonly<Record<string, unknown>> {
    return JSON.parse(this.text) as Readonly<Record<string, unknown>>
  }

  /** The value; parsed at the first reading and kept. */
  get value(): Readonly<Record<string, unknown>> {
    return (this.#value ??= this.parse()) as Readonly<Record<string, unknown>>
  }
}

/** The pool of one manager. A text leaves it with its last holder. */
export class SharedJsonPool {
  readonly #byText = new Map<string, SharedJson>()

  /** How many different texts are held. */
  get size(): number {
    return this.#byText.size
  }

  /** Holds a JSON object's text. Every call needs one {@link SharedJsonPool.release}. */
  hold(text: string): SharedJson {
    let shared = this.#byText.get(text)
    if (shared === undefined) {
      shared = new SharedJson(text)
      this.#byText.set(text, shared)
    }
    shared.holders += 1
    return shared
  }

  /** Lets go of one. */
  release(shared: SharedJson): void {
    shared.holders -= 1
    if (shared.holders === 0) this.#byText.delete(shared.text)
  }
}
