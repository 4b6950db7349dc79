/** A promise with its handles outside: what tests await, and what scripted handlers wait on. */

/** A promise that is settled from outside. */
export interface Deferred<T> {
  readonly promise: Promise<T>
  /** Whether it was resolved or rejected. */
  readonly settled: boolean
  resolve(value: T): void
  reject(reason: unknown): void
}

/** Makes a {@link Deferred}; `Promise.withResolvers` is missing in Node 20. A rejection that nobody awaits is not reported. */
export function deferred<T = void>(): Deferred<T> {
  let settled = false
  let resolvePromise: (value: T) => void = () => {}
  let rejectPromise: (reason: unknown) => void = () => {}
  const promise = new Promise<T>((resolve, reject) => {
    resolvePromise = resolve
    rejectPromise = reject
  })
  promise.catch(() => {})
  return {
    promise,
    get settled() {
      return settled
    },
    resolve(value) {
      settled = true
      resolvePromise(value)
    },
    reject(reason) {
      settled = true
      rejectPromise(reason)
    },
  }
}

/** Awaits `promise` under a deadline in real milliseconds, so that a test that hangs says what it hung on. */
export async function within<T>(promise: PromiseLike<T>, what: string, milliseconds = 5000): Promise<T> {
  let handle: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        handle = setTimeout(
          () => reject(new Error(`${what} did not happen within ${milliseconds} ms`)),
          milliseconds,
        )
      }),
    ])
  } finally {
    clearTimeout(handle)
  }
}
