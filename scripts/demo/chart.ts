/** Draws two series over time with letters and dots. */

/** A series: a mark, and one value per sample. */
export interface Series {
  readonly mark: string
  readonly values: readonly number[]
}

/** How a chart is drawn. */
export interface ChartOptions {
  /** How many samples it has room for. */
  readonly samples: number
  readonly height: number
  /** Seconds from its left to its right edge. */
  readonly seconds: number
}

/** The lines of a chart of megabytes; where two series meet, the later one is seen. */
export function drawChart(series: readonly Series[], { samples, height, seconds }: ChartOptions): string[] {
  const highest = Math.max(1, ...series.flatMap(({ values }) => values))
  const rows = Array.from({ length: height }, () => Array.from({ length: samples }, () => ' '))
  for (const { mark, values } of series) {
    for (const [column, value] of values.entries()) {
      const row = rows[height - 1 - Math.round((Math.max(0, value) / highest) * (height - 1))]
      if (row !== undefined && column < samples) row[column] = mark
    }
  }
  const label = (row: number): string =>
    row % 3 === 0 || row === height - 1
      ? ((highest * (height - 1 - row)) / (height - 1)).toFixed(1).padStart(6)
      : ' '.repeat(6)
  const end = `${seconds} s`
  return [
    ...rows.map((row, index) => `${label(index)} |${row.join('')}`.trimEnd()),
    `${' '.repeat(7)}+${'-'.repeat(samples)}`,
    `${' '.repeat(8)}0${end.padStart(samples - 1)}`,
  ]
}
