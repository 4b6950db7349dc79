/** The metadata of the endpoint as a protected resource (RFC 9728 §3): where clients learn who gives out tokens for it. */

import type { ProtectedResource } from '../types.ts'
import type { Exchange, ResponseHeaders } from './exchange.ts'
import { parseTarget } from './headers.ts'

/** What every such path begins with; looked at first, since every request is. */
const WELL_KNOWN = '/.well-known/'

const METHODS = 'GET, HEAD, OPTIONS'

/** Browsers ask from pages of any origin, with headers of their own (`Mcp-Protocol-Version`); there is nothing to protect. */
const PUBLIC: ResponseHeaders = { 'Access-Control-Allow-Origin': '*' }

const PREFLIGHT: ResponseHeaders = {
  ...PUBLIC,
  'Access-Control-Allow-Methods': METHODS,
  'Access-Control-Allow-Headers': '*',
  'Access-Control-Max-Age': '86400',
}

const DOCUMENT: ResponseHeaders = {
  ...PUBLIC,
  'Content-Type': 'application/json',
  'Cache-Control': 'public, max-age=300',
}

/** Answers requests for the document. */
export class ResourceMetadata {
  readonly #paths: ReadonlySet<string>
  readonly #body: string

  constructor({ paths, metadata }: ProtectedResource) {
    this.#paths = new Set(paths)
    this.#body = JSON.stringify(metadata)
  }

  /** Whether the request was for it; then it is answered. */
  answer(exchange: Exchange): boolean {
    const { method, target } = exchange
    if (!target.startsWith(WELL_KNOWN) && target.startsWith('/')) return false
    const path = parseTarget(target)?.path
    if (path === undefined || !this.#paths.has(path)) return false
    if (method === 'GET' || method === 'HEAD') exchange.respond(200, DOCUMENT, this.#body)
    else if (method === 'OPTIONS') exchange.respond(204, PREFLIGHT, '')
    else exchange.respond(405, { ...PUBLIC, Allow: METHODS }, '')
    return true
  }
}
