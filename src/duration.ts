/** Durations, byte sizes and rates as people write them: parsing and formatting. */

const DURATION_UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const SIZE_UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const

// An exponent is allowed because String(number) writes one for very large and very small numbers.
const NUMBER = '\\d+(?:\\.\\d+)?(?:e[+-]?\\d+)?'
const DURATION = new RegExp(`^(${NUMBER})\\s*(ms|s|m|h|d)$`)
const SIZE = new RegExp(`^(${NUMBER})\\s*(B|KiB|MiB|GiB)$`)
const RATE = new RegExp(`^(${NUMBER})\\s*/\\s*(s|m|h|d)$`)
const BARE_NUMBER = new RegExp(`^-?${NUMBER}$`)

/**
 * Milliseconds of a duration with a unit (`'500ms'`, `'30s'`, `'1.5h'`) or of `'Infinity'`; undefined for everything else, a number
 * without a unit included. Finer than a microsecond is rounded, except in `ms`.
 */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim()
  if (/^infinity$/i.test(trimmed)) return Number.POSITIVE_INFINITY
  const [, amount, unit] = DURATION.exec(trimmed) ?? []
  if (amount === undefined || unit === undefined) return undefined
  if (unit === 'ms') return Number(amount)
  const milliseconds = Number(amount) * DURATION_UNITS[unit as keyof typeof DURATION_UNITS]
  // 4.35 s is 4350 ms, not 4349.999999999999; beyond 2^43 doubles are coarser than microseconds anyway.
  return milliseconds < 2 ** 43 ? Math.round(milliseconds * 1000) / 1000 : milliseconds
}

/** A duration in its largest unit that shows it whole: `1800000` is `'30m'`, `1500` is `'1500ms'`. {@link parseDuration} reads it back. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds === Number.POSITIVE_INFINITY) return 'Infinity'
  return withLargestUnit(milliseconds, DURATION_UNITS, 'ms')
}

/** Bytes of a size with a unit (`'512B'`, `'16KiB'`, `'1.5MiB'`), rounded to whole bytes; undefined for everything else. */
export function parseByteSize(text: string): number | undefined {
  const [, amount, unit] = SIZE.exec(text.trim()) ?? []
  if (amount === undefined || unit === undefined) return undefined
  return Math.round(Number(amount) * SIZE_UNITS[unit as keyof typeof SIZE_UNITS])
}

/** A size in its largest unit that shows it whole: `4194304` is `'4MiB'`. {@link parseByteSize} reads it back. */
export function formatByteSize(bytes: number): string {
  return withLargestUnit(bytes, SIZE_UNITS, 'B')
}

/** How often a second a rate such as `'10/s'`, `'90/m'` or `'1000/h'` is, or `Infinity`; undefined for everything else, a bare number included. */
export function parseRate(text: string): number | undefined {
  const trimmed = text.trim()
  if (/^infinity$/i.test(trimmed)) return Number.POSITIVE_INFINITY
  const [, amount, unit] = RATE.exec(trimmed) ?? []
  if (amount === undefined || unit === undefined) return undefined
  return (Number(amount) * 1000) / DURATION_UNITS[unit as keyof typeof DURATION_UNITS]
}

/** A rate by the shortest time in which it is a whole number: 10 is `'10/s'`, 0.5 is `'30/m'`. {@link parseRate} reads it back. */
export function formatRate(perSecond: number): string {
  if (perSecond === Number.POSITIVE_INFINITY) return 'Infinity'
  for (const unit of ['s', 'm', 'h', 'd'] as const) {
    const amount = (perSecond * DURATION_UNITS[unit]) / 1000
    const whole = Math.round(amount)
    if (whole > 0 && Math.abs(amount - whole) < 1e-9 * amount) return `${whole}/${unit}`
  }
  return `${perSecond}/s`
}

/** A percentage as a part of 1, or the bytes of a size, or `Infinity`; undefined for everything else, a bare number and more than 100 % included. */
export function parseShare(text: string): number | undefined {
  const trimmed = text.trim()
  if (/^infinity$/i.test(trimmed)) return Number.POSITIVE_INFINITY
  const percentage = /^(\d+(?:\.\d+)?)\s*%$/.exec(trimmed)?.[1]
  if (percentage === undefined) return parseByteSize(trimmed)
  return Number(percentage) <= 100 ? Number(percentage) / 100 : undefined
}

/** What {@link parseShare} reads back: up to 1 a percentage, beyond that a size. */
export function formatShare(share: number): string {
  if (share === Number.POSITIVE_INFINITY) return 'Infinity'
  return share <= 1 ? `${Number((share * 100).toFixed(6))}%` : formatByteSize(share)
}

/** Whether a text is a number and nothing else, so that its unit has to be guessed. */
export function isBareNumber(text: string): boolean {
  return BARE_NUMBER.test(text.trim())
}

function withLargestUnit(value: number, units: Readonly<Record<string, number>>, smallest: string): string {
  const whole = Object.entries(units).filter(([, factor]) => value !== 0 && value % factor === 0)
  const [unit, factor] = whole.at(-1) ?? [smallest, 1]
  return `${value / factor}${unit}`
}
