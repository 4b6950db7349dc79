/** A terminal, as far as `sojourn serve` steers one: what is on it after some output. */

/**
 * Every line that was ever on the screen and not erased, without trailing blank ones. Lines never wrap, and whatever steers the terminal in
 * a way that is not known here is an error: a mode that is set would have to be restored.
 */
export function screenAfter(output: string): string[] {
  const lines: string[] = ['']
  let row = 0
  let column = 0
  // oxlint-disable-next-line no-control-regex -- the escape character is what is looked for
  for (const token of output.match(/\u001b\[[\d;?]*[A-Za-z]|[^]/gu) ?? []) {
    const line = lines[row] ?? ''
    const [, count = '', command] = /^.\[([\d;?]*)([A-Za-z])$/u.exec(token) ?? []
    if (command === 'A') row = Math.max(0, row - Number(count))
    else if (command === 'J' && count === '') {
      lines.splice(row + 1)
      lines[row] = line.slice(0, column)
    } else if (command === 'm') continue
    else if (token.startsWith('\u001b')) throw new Error(`${JSON.stringify(token)} steers the terminal`)
    else if (token === '\r') column = 0
    else if (token === '\n') {
      row += 1
      lines[row] ??= ''
    } else {
      lines[row] = line.padEnd(column).slice(0, column) + token + line.slice(column + token.length)
      column += token.length
    }
  }
  while (lines.at(-1)?.trim() === '') lines.pop()
  return lines.map((line) => line.trimEnd())
}
