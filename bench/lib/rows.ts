/** What is measured: one row per server and way of answering. */

import type { AnswerMode, Protocol, SdkVersion, ServerKind, ServerSpec } from '../shared/types.ts'
import { DIST_URL } from './build.ts'

/** One row of a table. */
export interface Row {
  readonly id: string
  readonly label: string
  readonly spec: ServerSpec
  readonly protocol: Protocol
  /** Whether a quick run has it too. */
  readonly quick: boolean
  /** The package whose own rows these are, where it is not always installed. */
  readonly needs?: { readonly node?: number; readonly python?: boolean }
  /** Fewer sessions than others where a peer is very slow to open one. */
  readonly sessions?: number
}

type Extra = Partial<Pick<Row, 'quick' | 'needs' | 'protocol' | 'sessions'>> &
  Partial<Omit<ServerSpec, 'kind' | 'sdk' | 'mode' | 'dist'>>

function row(
  id: string,
  label: string,
  kind: ServerKind,
  sdk: SdkVersion,
  mode: AnswerMode,
  { quick = false, needs, protocol = 'session', sessions, tools = 1, ...spec }: Extra = {},
): Row {
  return {
    id,
    label,
    spec: { kind, sdk, mode, tools, dist: DIST_URL, ...spec },
    protocol,
    quick,
    ...(needs !== undefined && { needs }),
    ...(sessions !== undefined && { sessions }),
  }
}

const QUICK = { quick: true } as const
const MODERN = { protocol: 'modern' } as const
const MCP_USE_NODE = 22

const bare = row('bare', 'bare node:http', 'bare', 'v2', 'json', { ...QUICK, protocol: 'none' })
const nullV1 = row('null-v1', 'McpServer v1, null transport', 'null', 'v1', 'json', QUICK)
const nullV2 = row('null-v2', 'McpServer v2, null transport', 'null', 'v2', 'json', QUICK)
const oursV1 = row('ours-v1-auto', 'sojourn, v1 server, auto', 'ours', 'v1', 'auto', QUICK)
const oursV2 = row('ours-v2-auto', 'sojourn, v2 server, auto', 'ours', 'v2', 'auto', QUICK)
const sdkV1 = row('sdk-v1-sse', 'SDK v1 on node:http, sse', 'sdk', 'v1', 'sse', QUICK)
const sdkV2 = row('sdk-v2-sse', 'SDK v2 on node:http, sse', 'sdk', 'v2', 'sse', QUICK)
const honoMcp = row('hono-mcp-sse', '@hono/mcp, sse', 'hono-mcp', 'v1', 'sse')
const fastmcp = row('fastmcp-sse', 'fastmcp, sse', 'fastmcp', 'v1', 'sse', { sessions: 64 })
const mcpProxy = row('mcp-proxy-sse', 'mcp-proxy, sse', 'mcp-proxy', 'v2', 'sse')
const tmcp = row('tmcp', 'tmcp on srvx', 'tmcp', 'v2', 'sse')
const mcpLite = row('mcp-lite', 'mcp-lite on Hono', 'mcp-lite', 'v2', 'json', QUICK)

/** Rows of calls on live sessions, in the order of a round. */
export const CALL_ROWS: readonly Row[] = [
  bare,
  nullV1,
  nullV2,
  oursV1,
  row('ours-v1-sse', 'sojourn, v1 server, sse', 'ours', 'v1', 'sse'),
  row('ours-v1-json', 'sojourn, v1 server, json', 'ours', 'v1', 'json'),
  oursV2,
  row('ours-v2-sse', 'sojourn, v2 server, sse: streamed, memory log', 'ours', 'v2', 'sse', QUICK),
  row('ours-v2-json', 'sojourn, v2 server, json', 'ours', 'v2', 'json'),
  row('ours-v2-nolog', 'sojourn, v2 server, auto, no event log', 'ours', 'v2', 'auto', {
    ...QUICK,
    options: { eventLog: false },
  }),
  row('ours-v2-sqlite', 'sojourn, v2 server, auto, SQLite store', 'ours', 'v2', 'auto', { sqlite: true }),
  row('ours-v2-sqlite-sse', 'sojourn, v2 server, sse: streamed, SQLite store', 'ours', 'v2', 'sse', {
    sqlite: true,
  }),
  row('ours-v2-fetch', 'sojourn, fetch face on @hono/node-server', 'ours', 'v2', 'auto', { face: 'fetch' }),
  row('ours-v2-express', 'sojourn, Express adapter', 'ours', 'v2', 'auto', { face: 'express' }),
  row('ours-v2-fastify', 'sojourn, Fastify adapter', 'ours', 'v2', 'auto', { face: 'fastify' }),
  row('ours-v2-hono', 'sojourn, Hono adapter', 'ours', 'v2', 'auto', { face: 'hono' }),
  row('sdk-v1-json', 'SDK v1 on node:http, json', 'sdk', 'v1', 'json', QUICK),
  sdkV1,
  row('sdk-v2-json', 'SDK v2 on node:http, json', 'sdk', 'v2', 'json', QUICK),
  sdkV2,
  row('sdk-v1-express-json', 'SDK v1 + Express, json', 'sdk-express', 'v1', 'json'),
  row('sdk-v1-express-sse', 'SDK v1 + Express, sse', 'sdk-express', 'v1', 'sse', QUICK),
  row('sdk-v2-express-json', 'SDK v2 + Express, json', 'sdk-express', 'v2', 'json'),
  row('sdk-v2-express-sse', 'SDK v2 + Express, sse', 'sdk-express', 'v2', 'sse'),
  row('sdk-v2-fastify-json', 'SDK v2 + Fastify, json', 'sdk-fastify', 'v2', 'json'),
  row('sdk-v2-fastify-sse', 'SDK v2 + Fastify, sse', 'sdk-fastify', 'v2', 'sse'),
  row('sdk-v2-hono-json', 'SDK v2 + Hono, json', 'sdk-hono', 'v2', 'json'),
  row('sdk-v2-hono-sse', 'SDK v2 + Hono, sse', 'sdk-hono', 'v2', 'sse'),
  row('hono-mcp-json', '@hono/mcp, json', 'hono-mcp', 'v1', 'json'),
  honoMcp,
  row('fastmcp-json', 'fastmcp, json', 'fastmcp', 'v1', 'json'),
  fastmcp,
  row('mcp-proxy-json', 'mcp-proxy, json', 'mcp-proxy', 'v2', 'json'),
  mcpProxy,
  tmcp,
  mcpLite,
  row('mcp-use', 'mcp-use, no session', 'mcp-use', 'v2', 'json', { needs: { node: MCP_USE_NODE } }),
  row('python-sdk', 'Python SDK on uvicorn', 'python-sdk', 'v2', 'sse', { needs: { python: true } }),
  row('python-fastmcp', 'FastMCP (Python) on uvicorn', 'python-fastmcp', 'v2', 'sse', {
    needs: { python: true },
  }),
]

/** Rows of revision 2026-07-28, where each call is a session of its own; measured in turn with {@link CALL_ROWS}. */
export const MODERN_ROWS: readonly Row[] = [1, 40].flatMap((tools) => {
  const named = tools === 1 ? '1 tool' : `${tools} tools`
  return [
    row(`ours-modern-${tools}`, `sojourn, 2026-07-28, ${named}`, 'ours', 'v2', 'auto', {
      ...QUICK,
      ...MODERN,
      tools,
    }),
    row(
      `ours-pooled-${tools}`,
      `sojourn, 2026-07-28, ${named}, instances pooled (opt-in)`,
      'ours',
      'v2',
      'auto',
      {
        ...QUICK,
        ...MODERN,
        tools,
        options: { instances: 'pooled' },
      },
    ),
    row(`handler-${tools}`, `createMcpHandler on node:http, ${named}`, 'create-mcp-handler', 'v2', 'json', {
      ...QUICK,
      ...MODERN,
      tools,
    }),
  ]
})

/** Sleeps whatever is idle for a moment. */
const ASLEEP = { sleepAfter: 50 }

/** Rows of memory held by idle sessions; the null transport shows what the McpServer alone holds. */
export const MEMORY_ROWS: readonly Row[] = [1, 40].flatMap((tools) => {
  const quick = tools === 1
  const suffix = `-${tools}`
  const named = tools === 1 ? '1 tool' : `${tools} tools`
  const of = (source: Row, label: string, extra: Extra = {}): Row => ({
    ...source,
    id: `${source.id}${suffix}`,
    label: `${label}, ${named}`,
    quick: extra.quick ?? quick,
    spec: { ...source.spec, tools, ...(extra.options !== undefined && { options: extra.options }) },
  })
  return [
    of(nullV1, 'McpServer v1, null transport'),
    of(nullV2, 'McpServer v2, null transport'),
    of(oursV1, 'sojourn, v1 server, awake'),
    of(oursV2, 'sojourn, v2 server, awake'),
    of({ ...oursV1, id: 'asleep-v1' }, 'sojourn, v1 server, asleep', { options: ASLEEP, quick: true }),
    of({ ...oursV2, id: 'asleep-v2' }, 'sojourn, v2 server, asleep', { options: ASLEEP, quick: true }),
    of(sdkV1, 'SDK v1 in a map', { quick: false }),
    of(sdkV2, 'SDK v2 in a map', { quick: false }),
    of(tmcp, 'tmcp on srvx', { quick: false }),
    of(mcpLite, 'mcp-lite on Hono', { quick: false }),
  ]
})

/** Rows of sessions being opened. */
export const OPEN_ROWS: readonly Row[] = [
  { ...oursV1, label: 'sojourn, v1 server' },
  { ...oursV2, label: 'sojourn, v2 server' },
  { ...sdkV1, label: 'SDK v1 on node:http' },
  { ...sdkV2, label: 'SDK v2 on node:http' },
  row('sdk-v1-express-sse', 'SDK v1 + Express', 'sdk-express', 'v1', 'sse'),
  honoMcp,
  mcpProxy,
  fastmcp,
  tmcp,
  mcpLite,
]

/** Rows of open GET streams. */
export const STREAM_ROWS: readonly Row[] = [
  bare,
  { ...oursV2, label: 'sojourn, v2 server' },
  { ...oursV1, label: 'sojourn, v1 server', quick: false },
  { ...sdkV1, label: 'SDK v1 on node:http', quick: false },
  { ...sdkV2, label: 'SDK v2 on node:http', quick: false },
  { ...honoMcp, label: '@hono/mcp' },
]

/** Rows of one notification to every open stream. */
export const BROADCAST_ROWS: readonly Row[] = STREAM_ROWS.filter(
  ({ id }) => !['ours-v1-auto', 'hono-mcp-sse'].includes(id),
)

/** Rows of streams that missed events and come back for them. */
export const RESUME_ROWS: readonly Row[] = [
  { ...oursV2, label: 'sojourn, memory log' },
  row('ours-v2-sqlite', 'sojourn, SQLite store', 'ours', 'v2', 'auto', { sqlite: true }),
  row('sdk-v1-events', 'SDK v1 with the event store of mcp-proxy', 'sdk', 'v1', 'sse', { eventStore: true }),
]

/** Rows of calls over many sessions: each is measured over few, over many in turn, and where it sleeps over many unevenly. */
export const SPREAD_ROWS: readonly Row[] = [
  { ...bare, quick: false },
  oursV2,
  oursV1,
  { ...sdkV1, quick: false },
]
