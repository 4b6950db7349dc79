/** Requests of revision 2026-07-28 over raw sockets. */

import {
  CLIENT_CAPABILITIES_META_KEY,
  CLIENT_INFO_META_KEY,
  PROTOCOL_VERSION_META_KEY,
} from '@modelcontextprotocol/server'

import { type Fields, ID, notification, post, rpc } from './mcp-wire.ts'
import type { RawRequest } from './raw-http.ts'

/** The revision without handshake. */
export const MODERN = '2026-07-28'

/** What makes a request one of the revision: who the client is and what it can, in every request. */
export function envelope(capabilities: object = {}, more: object = {}): { _meta: Record<string, unknown> } {
  return {
    _meta: {
      [PROTOCOL_VERSION_META_KEY]: MODERN,
      [CLIENT_INFO_META_KEY]: { name: 'wire', version: '1' },
      [CLIENT_CAPABILITIES_META_KEY]: capabilities,
      ...more,
    },
  }
}

/** A request with its envelope and the headers that repeat it; a header set to undefined is left out. */
export function modernPost(
  method: string,
  params: { name?: string; uri?: string; _meta?: object } & Record<string, unknown> = {},
  headers: Fields = {},
  id: string | number = ID,
): RawRequest {
  const { _meta, ...rest } = params
  const name = params.name ?? params.uri
  return post(rpc(method, { ...rest, ...envelope({}, _meta) }, id), {
    'Mcp-Protocol-Version': MODERN,
    'Mcp-Method': method,
    ...(name !== undefined && { 'Mcp-Name': name }),
    ...headers,
  })
}

/** A notification with its envelope. */
export function modernNotification(method: string): RawRequest {
  return post(notification(method, envelope()), { 'Mcp-Protocol-Version': MODERN, 'Mcp-Method': method })
}
