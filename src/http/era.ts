/** Which family of protocol revisions a POST belongs to; the official v2 package decides. */

import {
  classifyInboundRequest,
  PROTOCOL_VERSION_META_KEY,
  SUPPORTED_PROTOCOL_VERSIONS,
} from '@modelcontextprotocol/server'

import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { ParsedMessage } from '../jsonrpc/message.ts'
import type { RequestId } from '../types.ts'

/** The first revision without handshake and sessions. */
export const FIRST_MODERN_VERSION = '2026-07-28'

/** The revisions with handshake that the installed SDK speaks, newest first. */
export const HANDSHAKE_VERSIONS: readonly string[] = SUPPORTED_PROTOCOL_VERSIONS.filter(
  (version) => version < FIRST_MODERN_VERSION,
)

/** What a request that is not served as a handshake one is answered. */
export interface EraRefusal {
  readonly status: number
  readonly code: number
  readonly message: string
  readonly data: unknown
  readonly id: RequestId | null
}

/** Whether a version header names a revision without handshake, by the official package's own comparison. */
export function isModernVersion(header: string | undefined): boolean {
  return header !== undefined && header >= FIRST_MODERN_VERSION
}

/**
 * Refuses what does not belong to the revisions with handshake. The classifier is asked only when a header or a `_meta` could make it
 * answer anything else than 'legacy': it parses the message again, with a schema.
 */
export function refuseModern(
  body: unknown,
  messages: readonly ParsedMessage[],
  header: (name: string) => string | undefined,
): EraRefusal | undefined {
  const version = header('mcp-protocol-version')
  if (!isModernVersion(version) && !messages.some(claimsEnvelope)) return undefined
  const method = header('mcp-method')
  const name = header('mcp-name')
  const outcome = classifyInboundRequest({
    httpMethod: 'POST',
    body,
    ...(version !== undefined && { protocolVersionHeader: version }),
    ...(method !== undefined && { mcpMethodHeader: method }),
    ...(name !== undefined && { mcpNameHeader: name }),
  })
  if (outcome.kind === 'legacy') return undefined
  const id = idOf(messages)
  if (outcome.kind === 'reject') {
    return {
      status: outcome.httpStatus,
      code: outcome.code,
      message: outcome.message,
      data: outcome.data,
      id,
    }
  }
  // Clients that try the newest revision first take this answer as the cue for the handshake.
  const requested = outcome.classification.revision ?? version ?? 'unknown'
  return {
    status: 400,
    code: JsonRpcErrorCode.UNSUPPORTED_PROTOCOL_VERSION,
    message: `Unsupported protocol version: ${requested}`,
    data: { supported: [...HANDSHAKE_VERSIONS], requested },
    id,
  }
}

function claimsEnvelope({ message }: ParsedMessage): boolean {
  if (!('params' in message)) return false
  const meta = message.params?.['_meta']
  return typeof meta === 'object' && meta !== null && PROTOCOL_VERSION_META_KEY in meta
}

function idOf(messages: readonly ParsedMessage[]): RequestId | null {
  const [first] = messages
  return messages.length === 1 && first?.kind === 'request' ? first.message.id : null
}
