/** The picture for the README: what a call and an idle session cost, ours beside the peers. */

import { cpuOf, heapOf, middle } from './figures.ts'
import type { RawResults } from './raw.ts'

interface Bar {
  readonly label: string
  readonly value: number
  readonly text: string
  readonly kind: 'ours' | 'limit' | 'peer'
}

const WIDTH = 860
const LABEL = 270
const ROW = 22
const COLORS = { ours: '#0f766e', limit: '#9ca3af', peer: '#cbd5e1' } as const

/** Rows of calls in the picture; of those that answer in two ways, the cheaper one. */
const CALLS: readonly (readonly [string, readonly string[]])[] = [
  ['bare node:http (no MCP)', ['bare']],
  ['Sojourn, McpServer v1', ['ours-v1-auto']],
  ['Sojourn, McpServer v2', ['ours-v2-auto']],
  ['Sojourn, v2, Express adapter', ['ours-v2-express']],
  ['Sojourn, v2, Hono adapter', ['ours-v2-hono']],
  ['mcp-lite (a server of its own)', ['mcp-lite']],
  ['tmcp on srvx (a server of its own)', ['tmcp']],
  ['SDK v1 on node:http', ['sdk-v1-json', 'sdk-v1-sse']],
  ['SDK v2 on node:http', ['sdk-v2-json', 'sdk-v2-sse']],
  ['@hono/mcp', ['hono-mcp-json', 'hono-mcp-sse']],
  ['SDK v2 + Fastify', ['sdk-v2-fastify-json', 'sdk-v2-fastify-sse']],
  ['SDK v2 + Hono', ['sdk-v2-hono-json', 'sdk-v2-hono-sse']],
  ['SDK v2 + Express', ['sdk-v2-express-json', 'sdk-v2-express-sse']],
  ['SDK v1 + Express', ['sdk-v1-express-json', 'sdk-v1-express-sse']],
  ['mcp-proxy', ['mcp-proxy-json', 'mcp-proxy-sse']],
  ['fastmcp', ['fastmcp-json', 'fastmcp-sse']],
  ['mcp-use', ['mcp-use']],
]

const MEMORY: readonly (readonly [string, string])[] = [
  ['Sojourn asleep, v1', 'asleep-v1-40'],
  ['Sojourn asleep, v2', 'asleep-v2-40'],
  ['Sojourn awake, v1', 'ours-v1-auto-40'],
  ['Sojourn awake, v2', 'ours-v2-auto-40'],
  ['SDK v1 in a map', 'sdk-v1-sse-40'],
  ['SDK v2 in a map', 'sdk-v2-sse-40'],
]

/** The picture as SVG; undefined where the run did not measure what it shows. */
export function drawPicture(raw: RawResults): string | undefined {
  const { machine, date } = raw.run
  const calls = CALLS.flatMap(([label, ids]): Bar[] => {
    const values = ids.flatMap((id) => middle(cpuOf(raw.calls, id)) ?? [])
    if (values.length === 0) return []
    const value = Math.min(...values)
    const kind = ids[0] === 'bare' ? 'limit' : label.startsWith('Sojourn') ? 'ours' : 'peer'
    return [{ label, value, text: `${value.toFixed(0)} µs`, kind }]
  }).toSorted((a, b) => a.value - b.value)
  const memory = MEMORY.flatMap(([label, id]): Bar[] => {
    const value = heapOf(raw.memory, id)
    if (value === undefined) return []
    const text = value >= 10 ? `${value.toFixed(0)} KB` : `${value.toFixed(1)} KB`
    return [{ label, value, text, kind: label.startsWith('Sojourn') ? 'ours' : 'peer' }]
  })
  if (calls.length < 3) return undefined
  const versions = [
    '@modelcontextprotocol/sdk',
    '@modelcontextprotocol/server',
    'fastmcp',
    'mcp-lite',
    'tmcp',
  ]
    .flatMap((name) => {
      const version = machine.versions[name]
      return version === undefined ? [] : [`${name} ${version}`]
    })
    .join(' · ')
  let y = 34
  const parts = [
    title(y, `CPU of the server process per tools/call, Node ${machine.node} (less is better)`),
    ...bars((y += 14), calls),
  ]
  y += calls.length * ROW + 34
  if (memory.length > 0) {
    parts.push(title(y, 'Heap held by an idle session of a server with 40 tools'), ...bars((y += 14), memory))
    y += memory.length * ROW + 34
  }
  parts.push(
    note(
      y,
      `${date.slice(0, 10)} · ${machine.cpu}, ${machine.cores} cores, ${machine.platform} · commit ${machine.commit} · made by npm run bench`,
    ),
    note(y + 16, versions),
  )
  const height = y + 34
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="What a call and an idle session cost">
<rect width="100%" height="100%" fill="#ffffff"/>
${parts.join('\n')}
</svg>
`
}

function bars(top: number, rows: readonly Bar[]): string[] {
  const largest = Math.max(...rows.map(({ value }) => value))
  const room = WIDTH - LABEL - 100
  return rows.map(({ label, value, text, kind }, index) => {
    const y = top + index * ROW
    const width = Math.max(1, (value / largest) * room)
    const weight = kind === 'ours' ? ' font-weight="600"' : ''
    return [
      `<text x="${LABEL - 10}" y="${y + 14}" text-anchor="end" fill="#111827"${weight}>${escape(label)}</text>`,
      `<rect x="${LABEL}" y="${y + 2}" width="${width.toFixed(1)}" height="${ROW - 6}" rx="2" fill="${COLORS[kind]}"/>`,
      `<text x="${(LABEL + width + 8).toFixed(1)}" y="${y + 14}" fill="#111827"${weight}>${escape(text)}</text>`,
    ].join('\n')
  })
}

function title(y: number, text: string): string {
  return `<text x="20" y="${y}" font-size="15" font-weight="600" fill="#111827">${escape(text)}</text>`
}

function note(y: number, text: string): string {
  return `<text x="20" y="${y}" font-size="11" fill="#6b7280">${escape(text)}</text>`
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
