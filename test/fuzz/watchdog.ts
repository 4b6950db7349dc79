/** Watches for inputs that never give the event loop back: nothing in this thread could tell of them. */

import { Worker } from 'node:worker_threads'

/** Who is told which input runs. */
export class Watchdog {
  readonly #state = new Int32Array(new SharedArrayBuffer(12))
  readonly #bytes = new Uint8Array(new SharedArrayBuffer(64 * 1024))
  readonly #worker: Worker

  /** `folder`: where an input of the target is kept that blocks everything. */
  constructor(target: string, folder: string) {
    const workerData = { state: this.#state, bytes: this.#bytes, target, folder }
    this.#worker = new Worker(new URL('watchdog.mjs', import.meta.url), { workerData })
    this.#worker.unref()
  }

  /** An input begins to run. */
  begin(input: Uint8Array): void {
    const kept = input.subarray(0, this.#bytes.length)
    this.#bytes.set(kept)
    Atomics.store(this.#state, 2, kept.length)
    Atomics.add(this.#state, 0, 1)
    Atomics.store(this.#state, 1, 1)
  }

  /** It gave the event loop back. */
  end(): void {
    Atomics.store(this.#state, 1, 0)
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }
}
