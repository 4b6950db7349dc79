/** Medians and spreads. */

/** A median with the least and the greatest sample beside it. */
export interface Summary {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** The middle sample, or the mean of the middle two. NaN for none. */
export function median(samples: readonly number[]): number {
  const sorted = samples.toSorted((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? Number.NaN
  return (lower + upper) / 2
}

/** Median, least and greatest of some samples. */
export function summarize(samples: readonly number[]): Summary {
  return { median: median(samples), min: Math.min(...samples), max: Math.max(...samples) }
}

/** Median of the ratios round by round: what slows one round of all servers cancels out. */
export function ratioOf(samples: readonly number[], to: readonly number[]): number {
  return median(
    samples.flatMap((sample, round) => {
      const other = to[round]
      return other === undefined ? [] : [sample / other]
    }),
  )
}
