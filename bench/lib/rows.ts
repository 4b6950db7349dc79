/** What is measured: one row per server and way of answering. */

import type { AnswerMode, SdkVersion, ServerKind, ServerSpec } from '../shared/types.ts'
import { DIST_URL } from './build.ts'

/** One row of a table. */
export interface Row {
  readonly id: string
  readonly label: string
  readonly spec: ServerSpec
}

function row(id: string, label: string, kind: ServerKind, sdk: SdkVersion, mode: AnswerMode): Row {
  return { id, label, spec: { kind, sdk, mode, dist: DIST_URL } }
}

/** Rows of calls on live sessions, in the order of a round. */
export const CALL_ROWS: readonly Row[] = [
  row('bare', 'bare node:http', 'bare', 'v2', 'json'),
  row('null-v1', 'McpServer v1, null transport', 'null', 'v1', 'json'),
  row('null-v2', 'McpServer v2, null transport', 'null', 'v2', 'json'),
  row('ours-v1-auto', 'sojourn, v1 server, auto', 'ours', 'v1', 'auto'),
  row('ours-v1-sse', 'sojourn, v1 server, sse', 'ours', 'v1', 'sse'),
  row('ours-v1-json', 'sojourn, v1 server, json', 'ours', 'v1', 'json'),
  row('ours-v2-auto', 'sojourn, v2 server, auto', 'ours', 'v2', 'auto'),
  row('ours-v2-sse', 'sojourn, v2 server, sse', 'ours', 'v2', 'sse'),
  row('ours-v2-json', 'sojourn, v2 server, json', 'ours', 'v2', 'json'),
  row('sdk-v1-json', 'SDK v1 on node:http, json', 'sdk', 'v1', 'json'),
  row('sdk-v1-sse', 'SDK v1 on node:http, sse', 'sdk', 'v1', 'sse'),
  row('sdk-v2-json', 'SDK v2 on node:http, json', 'sdk', 'v2', 'json'),
  row('sdk-v2-sse', 'SDK v2 on node:http, sse', 'sdk', 'v2', 'sse'),
]

/** Rows of memory held by idle sessions; the null transport shows what the McpServer alone holds. */
export const MEMORY_ROWS: readonly Row[] = [
  row('null-v1', 'McpServer v1, null transport', 'null', 'v1', 'json'),
  row('null-v2', 'McpServer v2, null transport', 'null', 'v2', 'json'),
  row('ours-v1-auto', 'sojourn, v1 server', 'ours', 'v1', 'auto'),
  row('ours-v2-auto', 'sojourn, v2 server', 'ours', 'v2', 'auto'),
  row('sdk-v1-sse', 'SDK v1 in a map', 'sdk', 'v1', 'sse'),
  row('sdk-v2-sse', 'SDK v2 in a map', 'sdk', 'v2', 'sse'),
]

/** Rows of sessions being opened. */
export const OPEN_ROWS: readonly Row[] = MEMORY_ROWS.filter(({ spec }) => spec.kind !== 'null')
