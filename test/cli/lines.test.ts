/** The log of the command line: what it says, and what strangers cannot make it say. */

import { describe, expect, it } from 'vitest'

import { elapsed } from '../../src/cli/event-log-lines.ts'
import { loggerTo, PrettyOutput } from '../../src/cli/log-output.ts'
import { harmless, styleFor } from '../../src/cli/style.ts'

describe('time spans', () => {
  it.each([
    [0, '0 ms'],
    [0.4, '<1 ms'],
    [3.2, '3 ms'],
    [999, '999 ms'],
    [2100, '2.1 s'],
    [59_949, '59.9 s'],
    [59_999, '1m'],
    [1_799_990, '30m'],
    [1_803_000, '30m 3s'],
    [3_600_000, '1h'],
    [4_320_000, '1h 12m'],
    [90_000_000, '25h'],
  ])('%d ms', (milliseconds, text) => {
    expect(elapsed(milliseconds)).toBe(text)
  })
})

it('text from strangers stays on its line and steers nothing', () => {
  expect(harmless('a\r\nb\u001b[2Jc\u202ed\u2028e')).toBe('a?b?[2Jc?d?e')
  expect(harmless('x'.repeat(100))).toBe(`${'x'.repeat(80)}…`)
})

describe('colors', () => {
  const terminal = { isTTY: true } as unknown as NodeJS.WritableStream
  it.each([
    [terminal, {}, '\u001b[31mx\u001b[39m'],
    [terminal, { NO_COLOR: '1' }, 'x'],
    [terminal, { NO_COLOR: '' }, '\u001b[31mx\u001b[39m'],
    [terminal, { TERM: 'dumb' }, 'x'],
    [{} as NodeJS.WritableStream, {}, 'x'],
  ])('case %#', (stream, env, text) => {
    expect(styleFor(stream, env as NodeJS.ProcessEnv).red('x')).toBe(text)
  })
})

describe('messages of the app', () => {
  const lines = (level: string): { text: string; log: ReturnType<typeof loggerTo> } => {
    const written: string[] = []
    const output = new PrettyOutput(
      level,
      styleFor({} as NodeJS.WritableStream, {}),
      (text) => void written.push(text),
    )
    return {
      log: loggerTo(output),
      get text() {
        return written.join('')
      },
    }
  }

  it('come with their reason and a session cut short, without a stack', () => {
    const log = lines('info')
    log.log.error('createServer failed', {
      error: new Error('no database'),
      message: 'no database',
      session: '0123456789abcdef',
    })
    expect(log.text).toMatch(/^\d\d:\d\d:\d\d 01234567 createServer failed: no database\n$/)
  })

  it('come with a stack when debugging', () => {
    const log = lines('debug')
    log.log.error('createServer failed', { error: new Error('no database') })
    expect(log.text).toMatch(/createServer failed: no database\nError: no database\n {4}at /)
  })

  it('below the level are left out', () => {
    const log = lines('warn')
    log.log.info('unimportant')
    log.log.debug('unimportant')
    expect(log.text).toBe('')
  })
})
