/** The child's side of the benchmark's IPC: named commands with one answer each. */

/** A question of the driver. */
export interface Question {
  readonly id: number
  readonly command: string
  readonly argument: unknown
}

/** The answer to the question with the same id: a value, or what went wrong. */
export interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly error?: string
}

/** Answers one command. */
export type Handler = (argument: never) => unknown

/** Serves `handlers` to the driver until it goes away, and sends `ready` first. */
export function serveDriver(handlers: Readonly<Record<string, Handler>>, ready: unknown): void {
  const answer = async (question: Question): Promise<unknown> => {
    const handler = handlers[question.command]
    if (handler === undefined) throw new Error(`unknown command ${question.command}`)
    return await handler(question.argument as never)
  }
  process.on('message', (message) => {
    const question = message as Question
    answer(question).then(
      (value) => process.send?.({ id: question.id, value } satisfies Answer),
      (error: unknown) => process.send?.({ id: question.id, error: String(error) } satisfies Answer),
    )
  })
  // process.exit, not a plain end: it writes the profile of --cpu-prof while sockets are still open.
  process.on('disconnect', () => process.exit(0))
  process.send?.(ready)
}

/** CPU time of this process so far, all threads, in microseconds. */
export function cpuMicros(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}
