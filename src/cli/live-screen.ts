/** Keeps a few lines below everything else that is written to a terminal: clear them, write, draw them again. */

import { textWidth } from './live-view.ts'
import type { TerminalSize } from './live-view.ts'

/** Log lines that come faster than this share one painting, in milliseconds: a terminal is written to synchronously. */
const PAINT_INTERVAL = 50

/** What a screen writes to. */
export interface ScreenTarget {
  readonly size: () => TerminalSize
  readonly write: (text: string) => void
}

/**
 * The bottom of a terminal. It never hides the cursor, changes a mode or reserves a region, so a process that is killed leaves nothing to
 * restore; the cursor waits at the beginning of the line below the view.
 */
export class LiveScreen {
  readonly #target: ScreenTarget
  #lines: readonly string[] = []
  #drawn: readonly string[] = []
  #pending = ''
  /** Someone wrote half a line: the view stays away until it is whole. */
  #midLine = false
  #closed = false
  #lastPaint = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined

  constructor(target: ScreenTarget) {
    this.#target = target
  }

  /** Shows these lines; writes nothing when they are there already. */
  show(lines: readonly string[]): void {
    if (this.#closed) return
    this.#lines = lines
    if (lines.join('\n') !== this.#drawn.join('\n')) this.#paint()
  }

  /** Writes text above the view, within {@link PAINT_INTERVAL}. */
  write(text: string): void {
    if (this.#closed) return this.#target.write(text)
    this.#pending += text
    if (this.#timer !== undefined) return
    const wait = this.#lastPaint + PAINT_INTERVAL - performance.now()
    if (wait <= 0) this.#paint()
    else this.#timer = setTimeout(() => this.#paint(), wait)
    // Whatever ends the process closes the screen, which writes what waits.
    this.#timer?.unref()
  }

  /** What is drawn is no longer where the cursor is: the process was stopped and a shell wrote in between. */
  forget(): void {
    this.#drawn = []
    this.#paint()
  }

  /** Removes the view, and writes straight through from now on. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#lines = []
    this.#paint()
    this.#closed = true
  }

  #paint(): void {
    if (this.#closed) return
    clearTimeout(this.#timer)
    this.#timer = undefined
    const text = this.#pending
    this.#pending = ''
    if (text !== '') this.#midLine = !text.endsWith('\n')
    const before = this.#clearing()
    this.#drawn = this.#midLine ? [] : this.#lines
    this.#lastPaint = performance.now()
    // One write: a terminal that draws between two would flicker.
    const whole = before + text + this.#drawn.map((line) => `${line}\n`).join('')
    if (whole !== '') this.#target.write(whole)
  }

  #clearing(): string {
    if (this.#drawn.length === 0) return ''
    // Where the terminal became narrower, it has wrapped what was drawn.
    const columns = Math.max(1, this.#target.size().columns)
    const height = this.#drawn
      .map((line) => Math.max(1, Math.ceil(textWidth(withoutEscapes(line)) / columns)))
      .reduce((sum, rows) => sum + rows, 0)
    // The cursor up, to the first column, and everything below erased.
    return `\u001b[${height}A\r\u001b[J`
  }
}

function withoutEscapes(line: string): string {
  // oxlint-disable-next-line no-control-regex -- the escape character is what is looked for
  return line.replace(/\u001b\[[\d;]*m/g, '')
}
