/** One line that says what is going on, on a terminal only. */

/** Shows `text` in place of what was shown before; an empty one clears the line. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${text}`)
}
