/** Shares work out among processes: each gets a chunk after the other. */

import { fork } from 'node:child_process'

/** Work that is made of chunks of plain data. */
export interface Shared<C extends object, R> {
  readonly chunks: Iterable<C>
  /** How many processes; 1 is this one. */
  readonly jobs: number
  /** Does a chunk in this process. */
  run(chunk: C): Promise<R>
  /** The module whose process does a chunk elsewhere: it calls {@link serveChunks} with the same `run`. */
  readonly worker: URL
  /** Told what came of each chunk, in the order in which they are done. */
  take(chunk: C, result: R): void
}

/** Resolves when all is done; rejects when a process fails. */
export async function share<C extends object, R>(shared: Shared<C, R>): Promise<void> {
  const chunks = shared.chunks[Symbol.iterator]()
  if (shared.jobs > 1) {
    await Promise.all(Array.from({ length: shared.jobs }, () => employ(shared, chunks)))
    return
  }
  for (let next = chunks.next(); next.done !== true; next = chunks.next())
    shared.take(next.value, await shared.run(next.value))
}

/** What a worker's module does. */
export function serveChunks<C extends object, R>(run: (chunk: C) => Promise<R>): void {
  process.on('message', (chunk: C) => {
    void run(chunk).then((result) => process.send?.(result))
  })
}

/** One more process, which does chunk after chunk. */
function employ<C extends object, R>({ worker, take }: Shared<C, R>, chunks: Iterator<C>): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(worker, {
      execArgv: [
        '--import',
        'tsx',
        ...process.execArgv.filter((arg) => arg.startsWith('--max-semi-space-size')),
      ],
    })
    let chunk: C | undefined
    const next = (): void => {
      const { value, done } = chunks.next()
      if (done === true) {
        chunk = undefined
        child.disconnect()
        return
      }
      chunk = value
      child.send(value)
    }
    child.on('message', (result: R) => {
      if (chunk !== undefined) take(chunk, result)
      next()
    })
    child.on('exit', (code, signal) => {
      if (chunk === undefined && code === 0) resolve()
      else reject(new Error(`a worker ended with ${signal ?? code} in ${JSON.stringify(chunk)}`))
    })
    next()
  })
}
