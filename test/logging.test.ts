/** The author's logger, whatever its shape, never gets in the way. */

import { pino } from 'pino'
import { expect, it } from 'vitest'

import { createLog } from '../src/logging.ts'
import type { Logger } from '../src/types.ts'

it('is silent without a logger', () => {
  expect(createLog(undefined).error('nobody hears')).toBeUndefined()
})

it('gives a console the message first, and fields only where there are some', () => {
  const calls: unknown[][] = []
  const record = (...args: unknown[]): void => void calls.push(args)
  const log = createLog({ debug: record, info: record, warn: record, error: record })
  log.info('plain')
  log.warn('with fields', { session: 'abc' })
  expect(calls).toEqual([['plain'], ['with fields', { session: 'abc' }]])
})

it('gives pino the fields first', () => {
  const lines: string[] = []
  createLog(pino({ base: null, timestamp: false }, { write: (line) => void lines.push(line) })).warn(
    'with fields',
    { session: 'abc' },
  )
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
    { level: 40, session: 'abc', msg: 'with fields' },
  ])
})

it('survives a logger that throws, rejects, or lost a method', async () => {
  const broken = {
    debug: () => Promise.reject(new Error('later')),
    info() {
      throw new Error('now')
    },
    warn: undefined,
    error() {},
  } as unknown as Logger
  const log = createLog(broken)
  log.debug('rejects')
  log.info('throws')
  log.warn('is not there')
  // An unhandled rejection would fail this run a turn later.
  await new Promise((resolve) => setImmediate(resolve))
})
