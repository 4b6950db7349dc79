/** Durations and sizes: what people write is what is meant, and what is shown can be written. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import {
  formatByteSize,
  formatDuration,
  isBareNumber,
  parseByteSize,
  parseDuration,
} from '../src/duration.ts'

describe('durations', () => {
  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['5m', 300_000],
    ['2h', 7_200_000],
    ['1d', 86_400_000],
    ['24.9d', 2_151_360_000],
    ['1.5h', 5_400_000],
    ['4.35s', 4350],
    ['0.1s', 100],
    ['0s', 0],
    [' 30 s ', 30_000],
    ['Infinity', Number.POSITIVE_INFINITY],
    ['infinity', Number.POSITIVE_INFINITY],
  ])('%s is %d ms', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds)
  })

  it.each([
    '',
    '5',
    '-5m',
    '5M',
    '5min',
    '5 minutes',
    'm',
    '1h30m',
    'NaN',
    '-Infinity',
    '.5s',
    '5.s',
    '٥m',
    '5m\0',
  ])('%j is none', (text) => {
    expect(parseDuration(text)).toBeUndefined()
  })

  it.each([
    [1_800_000, '30m'],
    [60_000, '1m'],
    [90_000, '90s'],
    [1500, '1500ms'],
    [0, '0ms'],
    [0.5, '0.5ms'],
    [86_400_000, '1d'],
    [Number.POSITIVE_INFINITY, 'Infinity'],
  ])('%d ms is shown as %s', (milliseconds, text) => {
    expect(formatDuration(milliseconds)).toBe(text)
  })

  it('reads back every duration it shows', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, noNaN: true }), (milliseconds) => {
        expect(parseDuration(formatDuration(milliseconds))).toBe(milliseconds)
      }),
    )
    fc.assert(
      fc.property(fc.maxSafeNat(), (milliseconds) => {
        expect(parseDuration(formatDuration(milliseconds))).toBe(milliseconds)
      }),
    )
  })

  it('takes no text for a duration that is negative or not a number', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const parsed = parseDuration(text)
        expect(parsed === undefined || parsed >= 0).toBe(true)
      }),
    )
  })
})

describe('byte sizes', () => {
  it.each([
    ['512B', 512],
    ['16KiB', 16_384],
    ['4MiB', 4_194_304],
    ['1GiB', 1_073_741_824],
    ['1.5KiB', 1536],
  ])('%s is %d bytes', (text, bytes) => {
    expect(parseByteSize(text)).toBe(bytes)
  })

  it.each(['', '5', '4MB', '4mib', '-4MiB', 'Infinity'])('%j is none', (text) => {
    expect(parseByteSize(text)).toBeUndefined()
  })

  it('reads back every size it shows', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (bytes) => {
        expect(parseByteSize(formatByteSize(bytes))).toBe(bytes)
      }),
    )
  })
})

it('knows a number without a unit', () => {
  expect(['5', ' 5 ', '1.5', '-1', '1e3'].filter(isBareNumber)).toEqual(['5', ' 5 ', '1.5', '-1', '1e3'])
  expect(['', '5m', 'x', '5 5'].filter(isBareNumber)).toEqual([])
})
