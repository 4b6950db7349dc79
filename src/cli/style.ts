/** What a terminal shows: colors where they are wanted, and text from strangers without what would steer it. */

import type { WriteStream } from 'node:tty'

/** Wraps text in a style, or leaves it. */
export interface Style {
  bold(text: string): string
  dim(text: string): string
  red(text: string): string
  yellow(text: string): string
  cyan(text: string): string
}

const CODES = { bold: [1, 22], dim: [2, 22], red: [31, 39], yellow: [33, 39], cyan: [36, 39] } as const

/** Colors for a stream: only on a terminal that has them, and not with NO_COLOR (no-color.org). */
export function styleFor(stream: NodeJS.WritableStream, env: NodeJS.ProcessEnv): Style {
  const terminal = stream as WriteStream
  const colorful = terminal.isTTY === true && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
  const paint = (name: keyof typeof CODES) => (text: string) => {
    const [on, off] = CODES[name]
    return colorful ? `\u001b[${on}m${text}\u001b[${off}m` : text
  }
  return {
    bold: paint('bold'),
    dim: paint('dim'),
    red: paint('red'),
    yellow: paint('yellow'),
    cyan: paint('cyan'),
  }
}

/** A short text from outside on one line: a client's name could hold escape sequences that rewrite the terminal. */
export function harmless(text: string, longest = 80): string {
  const shown = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, '?')
  return shown.length > longest ? `${shown.slice(0, longest)}…` : shown
}
