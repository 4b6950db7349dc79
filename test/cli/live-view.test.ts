/** The live view without a terminal: what its lines say, and how a screen keeps them below the log. */

import { expect, it, vi } from 'vitest'

import { LiveScreen } from '../../src/cli/live-screen.ts'
import { renderLive, textWidth } from '../../src/cli/live-view.ts'
import type { LiveRow, LiveState } from '../../src/cli/live-view.ts'
import { styleFor } from '../../src/cli/style.ts'
import { screenAfter } from '../support/screen.ts'

const plain = styleFor({} as NodeJS.WritableStream, {})
const colored = styleFor({ isTTY: true } as unknown as NodeJS.WritableStream, {})

const ROW: LiveRow = {
  id: '0123456789abcdef',
  client: 'claude 1.0',
  state: 'idle',
  endsIn: 1_788_400,
  running: 0,
  calls: 7,
  streams: 0,
}

const STATE: LiveState = {
  rows: [],
  sessions: 0,
  active: 0,
  asleep: 0,
  callsPerSecond: 0,
  refused: 0,
  uptime: 3_999,
  memory: 84 * 2 ** 20,
  running: 0,
  streams: 0,
  draining: false,
}

const SIZE = { columns: 80, rows: 40 }

const RULE = '─'.repeat(79)

it('without sessions there are only the totals', () => {
  expect(renderLive(STATE, SIZE, plain)).toEqual([
    RULE,
    'no sessions · 0.0 calls/s · 0 refused · up 3s · 84 MiB',
  ])
})

it('those that sleep are counted, and say so', () => {
  const state: LiveState = {
    ...STATE,
    rows: [{ ...ROW, state: 'asleep' }],
    sessions: 1200,
    active: 3,
    asleep: 1100,
  }
  expect(
    renderLive(state, SIZE, plain)
      .slice(1)
      .map((line) => line.trimEnd()),
  ).toEqual([
    'session   client      state   ends in  calls  streams',
    '01234567  claude 1.0  asleep  29m 49s  7      0',
    '… and 1199 more',
    '1200 sessions, 3 active, 1100 asleep · 0.0 calls/s · 0 refused · up 3s · 84 MiB',
  ])
})

it('sessions stand in columns, with what is left of the id', () => {
  const rows: LiveRow[] = [
    { ...ROW, client: 'カーソル 2', state: 'active', endsIn: undefined, running: 2, streams: 3 },
    ROW,
    { ...ROW, client: 'bad\u001b[2J\nname', endsIn: 1, calls: 0 },
  ]
  const state = {
    ...STATE,
    rows,
    sessions: 3,
    active: 1,
    callsPerSecond: 12.4,
    refused: 2,
    uptime: 19_080_000,
    running: 1,
    streams: 1200,
    draining: true,
  }
  expect(renderLive(state, SIZE, plain).map((line) => line.trimEnd())).toEqual([
    RULE,
    'session   client        state   ends in  calls          streams',
    '01234567  カーソル 2    active  —        7 + 2 running  3',
    '01234567  claude 1.0    idle    29m 49s  7              0',
    '01234567  bad?[2J?name  idle    1s       0              0',
    'draining: 1 call, 1200 streams left · 3 sessions, 1 active · up 5h 18m · 84 MiB',
  ])
})

it.each([
  [40, 12],
  [24, 7],
  [14, 2],
  [8, 0],
  [1, 0],
])('on a terminal of %d rows there are %d sessions, and how many more', (rows, shown) => {
  const state = { ...STATE, rows: Array.from({ length: 12 }, () => ROW), sessions: 1000 }
  const lines = renderLive(state, { columns: 80, rows }, plain)
  expect(lines.filter((line) => line.startsWith('01234567'))).toHaveLength(shown)
  if (shown > 0) expect(lines.at(-2)).toBe(`… and ${1000 - shown} more`)
  expect(lines.at(-1)).toMatch(/^1000 sessions, /)
})

it('no line is as wide as the terminal, however narrow', () => {
  const state = { ...STATE, rows: [{ ...ROW, client: 'カーソル'.repeat(10) }, ROW], sessions: 9 }
  for (let columns = 1; columns < 120; columns += 1) {
    for (const line of renderLive(state, { columns, rows: 24 }, plain)) {
      expect(textWidth(line)).toBeLessThanOrEqual(Math.max(1, columns - 1))
    }
    expect(screenAfter(renderLive(state, { columns, rows: 24 }, colored).join('\r\n'))).toEqual(
      renderLive(state, { columns, rows: 24 }, plain).map((line) => line.trimEnd()),
    )
  }
})

it('wide characters take two cells, marks none', () => {
  expect(textWidth('abc')).toBe(3)
  expect(textWidth('日本')).toBe(4)
  expect(textWidth('e\u0301')).toBe(1)
  expect(textWidth('🙂')).toBe(2)
})

/** A screen, and what it has written; a terminal makes each `\n` a `\r\n`. */
function screenWith(columns = 80): { screen: LiveScreen; shown: () => string[]; writes: string[] } {
  const writes: string[] = []
  const screen = new LiveScreen({
    size: () => ({ columns, rows: 24 }),
    write: (text) => writes.push(text.replaceAll('\n', '\r\n')),
  })
  return { screen, writes, shown: () => screenAfter(writes.join('')) }
}

it('the log goes above the view, which is drawn once where nothing changes', () => {
  const { screen, shown, writes } = screenWith()
  screen.show(['view 1', 'totals'])
  screen.show(['view 1', 'totals'])
  expect(writes).toHaveLength(1)
  screen.write('a\n')
  screen.show(['totals'])
  expect(shown()).toEqual(['a', 'totals'])
  screen.close()
  screen.write('b\n')
  expect(shown()).toEqual(['a', 'b'])
})

it('lines that come fast share a painting, and none is lost at the end', () => {
  const { screen, shown, writes } = screenWith()
  screen.show(['view'])
  for (let line = 0; line < 100; line += 1) screen.write(`${line}\n`)
  expect(writes.length).toBeLessThan(5)
  screen.close()
  expect(shown()).toEqual(Array.from({ length: 100 }, (_, line) => String(line)))
})

it('lines that wait are written soon', async () => {
  const { screen, shown } = screenWith()
  screen.show(['view'])
  screen.write('a\n')
  await vi.waitFor(() => expect(shown()).toEqual(['a', 'view']), { interval: 10 })
})

it('half a line keeps the view away until it is whole', () => {
  const { screen, shown } = screenWith()
  screen.show(['view'])
  screen.write('half ')
  screen.show(['view, later'])
  expect(shown()).toEqual(['half'])
  screen.write('a line\n')
  screen.show(['view, last'])
  expect(shown()).toEqual(['half a line', 'view, last'])
})

it('a terminal that became narrower has wrapped what was drawn', () => {
  const { screen, writes } = screenWith(10)
  screen.show(['x'.repeat(25), 'totals'])
  screen.show([])
  expect(writes.at(-1)).toBe('\u001b[4A\r\u001b[J')
})
