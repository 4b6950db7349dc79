/** What the demos ask their server processes, and when something is drawn. */

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'

import { LiveScreen } from '../../src/cli/live-screen.ts'

/**
 * The next message of a process.
 * @param name how the error calls it when it ends first
 */
export async function answerOf<T>(child: ChildProcess, name: string): Promise<T> {
  const asked = new AbortController()
  const { signal } = asked
  try {
    const [message] = await Promise.race([
      once(child, 'message', { signal }),
      once(child, 'exit', { signal }).then(([code]) => {
        throw new Error(`the server of ${name} ended with ${code}`)
      }),
    ])
    return message as T
  } finally {
    asked.abort()
  }
}

/** The terminal to draw on; undefined in a pipe, and where a picture is higher than the terminal and could not be drawn over. */
export function screenFor(height: number): LiveScreen | undefined {
  const { stdout } = process
  if (stdout.isTTY !== true || process.env['TERM'] === 'dumb' || (stdout.rows || 24) <= height)
    return undefined
  return new LiveScreen({
    size: () => ({ columns: stdout.columns || 80, rows: stdout.rows || 24 }),
    write: (text) => void stdout.write(text),
  })
}
