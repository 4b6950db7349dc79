/** Which family of protocol revisions a POST belongs to; the official v2 package decides. */

import {
  classifyInboundRequest,
  CLIENT_CAPABILITIES_META_KEY,
  CLIENT_INFO_META_KEY,
  PROTOCOL_VERSION_META_KEY,
  SUPPORTED_PROTOCOL_VERSIONS,
} from '@modelcontextprotocol/server'

import { isObject } from '../json.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { ParsedMessage } from '../jsonrpc/message.ts'
import type { JsonRpcNotification, JsonRpcRequest, RequestId } from '../types.ts'
import type { Exchange } from './exchange.ts'

/** The first revision without handshake and sessions. */
export const FIRST_MODERN_VERSION = '2026-07-28'

/** The revisions with handshake that the installed SDK speaks, newest first. */
export const HANDSHAKE_VERSIONS: readonly string[] = SUPPORTED_PROTOCOL_VERSIONS.filter(
  (version) => version < FIRST_MODERN_VERSION,
)

/** What a POST that is not served is answered. */
export interface EraRefusal {
  readonly status: number
  readonly code: number
  readonly message: string
  readonly data: unknown
  readonly id: RequestId | null
}

/** A POST of a revision without handshake. */
export interface ModernPost {
  /** The body as parsed JSON: one request or notification. */
  readonly body: unknown
  readonly message: JsonRpcRequest | JsonRpcNotification
  /** The id of the request; null for a notification. */
  readonly id: RequestId | null
  /** The revision it names. */
  readonly requested: string
  /** What the classifier found, as the SDK wants it with the message. */
  readonly classification: unknown
}

/** Which era a POST belongs to, or what is wrong with its claim. */
export type EraDecision =
  | { readonly kind: 'legacy' }
  | { readonly kind: 'modern'; readonly post: ModernPost }
  | { readonly kind: 'rejected'; readonly refusal: EraRefusal }

/** Whether a version header names a revision without handshake, by the official package's own comparison. */
function isModernVersion(header: string | undefined): boolean {
  return header !== undefined && header >= FIRST_MODERN_VERSION
}

/**
 * Decides which era a POST belongs to. The classifier is asked only when a header or a `_meta` could make it answer anything else than
 * 'legacy': it parses the message again, with a schema.
 */
export function decideEra(
  body: unknown,
  messages: readonly ParsedMessage[],
  exchange: Pick<Exchange, 'header'>,
): EraDecision {
  const version = exchange.header('mcp-protocol-version')
  if (!isModernVersion(version) && !messages.some(claimsEnvelope)) return LEGACY
  const method = exchange.header('mcp-method')
  const plain = plainlyModern(body, messages, version, method)
  if (plain !== undefined) return { kind: 'modern', post: plain }
  const name = exchange.header('mcp-name')
  const outcome = classifyInboundRequest({
    httpMethod: 'POST',
    body,
    ...(version !== undefined && { protocolVersionHeader: version }),
    ...(method !== undefined && { mcpMethodHeader: method }),
    ...(name !== undefined && { mcpNameHeader: name }),
  })
  const [first] = messages
  if (outcome.kind === 'legacy') return LEGACY
  // A batch has no id of its own.
  const id = !Array.isArray(body) && first?.kind === 'request' ? first.message.id : null
  if (outcome.kind === 'reject' || first === undefined || first.kind === 'response') {
    const { httpStatus: status, code, message, data } = outcome.kind === 'reject' ? outcome : NOT_POSTED
    return { kind: 'rejected', refusal: { status, code, message, data, id } }
  }
  const { classification } = outcome
  const requested = classification.revision ?? version ?? 'unknown'
  return { kind: 'modern', post: { body, message: first.message, id, requested, classification } }
}

/** What tells a client which revisions are served. Clients that try the newest first take it as the cue for the handshake. */
export function unsupportedRevision(
  { id, requested }: ModernPost,
  supported: readonly string[] = HANDSHAKE_VERSIONS,
): EraRefusal {
  return {
    status: 400,
    code: JsonRpcErrorCode.UNSUPPORTED_PROTOCOL_VERSION,
    message: `Unsupported protocol version: ${requested}`,
    data: { supported: [...supported], requested },
    id,
  }
}

/**
 * A request whose headers and `_meta` agree in every point that decides: the classifier, which checks all of it with a schema, is asked once
 * less. The handler that serves the request asks it anyway, and answers what it finds wrong with the rest in the same way.
 */
function plainlyModern(
  body: unknown,
  messages: readonly ParsedMessage[],
  version: string | undefined,
  method: string | undefined,
): ModernPost | undefined {
  const [first] = messages
  if (version !== FIRST_MODERN_VERSION || first?.kind !== 'request' || Array.isArray(body)) return undefined
  const { message } = first
  const meta = message.params?.['_meta']
  if (message.method !== method || !isObject(meta) || meta[PROTOCOL_VERSION_META_KEY] !== version)
    return undefined
  const client = meta[CLIENT_INFO_META_KEY]
  if (!isObject(client) || typeof client['name'] !== 'string' || typeof client['version'] !== 'string')
    return undefined
  if (!isObject(meta[CLIENT_CAPABILITIES_META_KEY])) return undefined
  return {
    body,
    message,
    id: message.id,
    requested: version,
    classification: { era: 'modern', revision: version },
  }
}

const LEGACY: EraDecision = { kind: 'legacy' }

/** The classifier calls no response modern; the compiler cannot know. */
const NOT_POSTED = {
  httpStatus: 400,
  code: JsonRpcErrorCode.INVALID_REQUEST,
  message: 'Invalid Request: a request or notification is expected',
  data: undefined,
} as const

function claimsEnvelope({ message }: ParsedMessage): boolean {
  if (!('params' in message)) return false
  const meta = message.params?.['_meta']
  return typeof meta === 'object' && meta !== null && PROTOCOL_VERSION_META_KEY in meta
}
