/** The heap over time as an SVG that reads on light and on dark pages. */

const WIDTH = 720
const HEIGHT = 260
const LEFT = 56
const RIGHT = 16
const TOP = 28
const BOTTOM = 36

/** Draws what R23 saw. */
export function heapPicture({
  looks,
  warmUpMinutes,
  slope,
  slopeError,
}: {
  readonly looks: readonly { readonly minutes: number; readonly heapMB: number }[]
  readonly warmUpMinutes: number
  readonly slope: number
  readonly slopeError: number
}): string {
  const longest = Math.max(...looks.map(({ minutes }) => minutes))
  const step = niceStep(Math.max(...looks.map(({ heapMB }) => heapMB)) / 4)
  const top = step * Math.ceil(Math.max(...looks.map(({ heapMB }) => heapMB)) / step)
  const x = (minutes: number): number => LEFT + (minutes / longest) * (WIDTH - LEFT - RIGHT)
  const y = (heap: number): number => HEIGHT - BOTTOM - (heap / top) * (HEIGHT - TOP - BOTTOM)
  const line = looks
    .map(({ minutes, heapMB }) => `${x(minutes).toFixed(1)},${y(heapMB).toFixed(1)}`)
    .join(' ')
  const across: string[] = []
  for (let heap = 0; heap <= top; heap += step)
    across.push(
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(heap)}" y2="${y(heap)}" stroke="#888" stroke-opacity=".3"/>`,
      `<text x="${LEFT - 8}" y="${y(heap) + 4}" text-anchor="end">${heap}</text>`,
    )
  const every = niceStep(longest / 6)
  for (let minutes = 0; minutes <= longest; minutes += every)
    across.push(`<text x="${x(minutes)}" y="${HEIGHT - 16}" text-anchor="middle">${minutes}</text>`)
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" font-family="sans-serif" font-size="12" fill="#888">
<title>Heap after a collection, in MB, over minutes</title>
<text x="${LEFT}" y="16">Heap after a collection, MB, over minutes; after warming up ${slope.toFixed(1)} ± ${slopeError.toFixed(1)} MB an hour</text>
<rect x="${LEFT}" y="${TOP}" width="${(x(warmUpMinutes) - LEFT).toFixed(1)}" height="${HEIGHT - TOP - BOTTOM}" fill-opacity=".12"/>
${across.join('\n')}
<polyline points="${line}" fill="none" stroke="#2f81f7" stroke-width="1.5"/>
</svg>
`
}

/** 1, 2 or 5 times a power of ten, at least as much. */
function niceStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least))
  return ([1, 2, 5].find((factor) => factor * power >= least) ?? 10) * power
}
