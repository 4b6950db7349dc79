/** Cross-origin access for browsers (WHATWG Fetch §3.3): what a preflight is answered, and what real responses carry. */

import type { ResponseHeaders } from './exchange.ts'
import { originEntry } from './guard.ts'

const ALLOWED_METHODS = 'GET, POST, DELETE'
const ALLOWED_HEADERS =
  'mcp-session-id, mcp-protocol-version, last-event-id, mcp-method, mcp-name, authorization, content-type'
const EXPOSED_HEADERS = 'Mcp-Session-Id, WWW-Authenticate'
/** How long browsers may remember a preflight, in seconds; they cap it themselves (Chromium at 2 h). */
const MAX_AGE = '86400'
/** `Mcp-Param-*` names are made from tool parameters: there is no list of them, so those asked for are granted, up to a bound. */
const MOST_PARAM_HEADERS = 64
const PARAM_HEADER = /^mcp-param-[!#$%&'*+\-.^_`|~0-9a-z]+$/

/** What a response without CORS permission carries when the permission depends on the origin, so that caches keep them apart. */
const VARY_ONLY: ResponseHeaders = { Vary: 'Origin' }

/**
 * CORS for a list of origins, or `'*'` for all. `Access-Control-Allow-Credentials` is never sent: clients of this protocol send
 * `Authorization` themselves, and cookies of another site's user have no business here.
 */
export class Cors {
  /** Headers of real responses, by origin; undefined when every origin gets `*`. */
  readonly #byOrigin: ReadonlyMap<string, ResponseHeaders> | undefined

  /** @throws RangeError naming the entry that is no origin */
  constructor(corsOrigins: readonly string[] | '*' | undefined) {
    if (corsOrigins === '*') {
      this.#byOrigin = undefined
      return
    }
    const origins = (corsOrigins ?? []).map((entry) => originEntry('corsOrigins', entry))
    this.#byOrigin = new Map(
      origins.map((origin) => [
        origin,
        {
          'Access-Control-Allow-Origin': origin,
          'Access-Control-Expose-Headers': EXPOSED_HEADERS,
          Vary: 'Origin',
        },
      ]),
    )
  }

  /** Whether any origin was configured. */
  get enabled(): boolean {
    return this.#byOrigin === undefined || this.#byOrigin.size > 0
  }

  /**
   * The header fields of the 204 that answers an OPTIONS request; undefined when it is no preflight, or of an origin that gets nothing.
   *
   * @param requestMethod `Access-Control-Request-Method`
   * @param requestHeaders `Access-Control-Request-Headers`; its `Mcp-Param-*` names are granted
   */
  preflight(
    origin: string | undefined,
    requestMethod: string | undefined,
    requestHeaders?: string | undefined,
  ): ResponseHeaders | undefined {
    if (origin === undefined || requestMethod === undefined) return undefined
    if (this.#byOrigin !== undefined && !this.#byOrigin.has(origin)) return undefined
    return {
      'Access-Control-Allow-Origin': this.#byOrigin === undefined ? '*' : origin,
      'Access-Control-Allow-Methods': ALLOWED_METHODS,
      'Access-Control-Allow-Headers': ALLOWED_HEADERS + paramHeaders(requestHeaders),
      'Access-Control-Max-Age': MAX_AGE,
      Vary: 'Origin, Access-Control-Request-Headers',
    }
  }

  /** The header fields to add to a real response, refusals included; undefined when CORS is off. Shared objects: do not change them. */
  headers(origin: string | undefined): ResponseHeaders | undefined {
    if (this.#byOrigin === undefined) return origin === undefined ? undefined : WILDCARD
    if (this.#byOrigin.size === 0) return undefined
    return (origin === undefined ? undefined : this.#byOrigin.get(origin)) ?? VARY_ONLY
  }
}

const WILDCARD: ResponseHeaders = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Expose-Headers': EXPOSED_HEADERS,
}

function paramHeaders(requestHeaders: string | undefined): string {
  if (requestHeaders === undefined) return ''
  let granted = ''
  let count = 0
  for (const part of requestHeaders.split(',')) {
    const name = part.trim().toLowerCase()
    if (!PARAM_HEADER.test(name)) continue
    if (++count > MOST_PARAM_HEADERS) break
    granted += `, ${name}`
  }
  return granted
}
