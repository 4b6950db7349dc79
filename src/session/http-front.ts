/** The checks every HTTP request passes before a session is looked up, in the order of `docs/wire.md`. */

import type { Clock } from '../clock.ts'
import { messageOf } from '../errors.ts'
import { acceptsJsonAndSse, isJsonContentType } from '../http/accept.ts'
import { decodeJson } from '../http/body.ts'
import { Cors } from '../http/cors.ts'
import { type ModernPost, decideEra } from '../http/era.ts'
import type { BodyFailure, BodyResult, Exchange } from '../http/exchange.ts'
import { Guard } from '../http/guard.ts'
import { parseTarget } from '../http/headers.ts'
import { ResourceMetadata } from '../http/resource-metadata.ts'
import { responseHeaders } from '../http/response-headers.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import { type ParsedMessage, parseMessages } from '../jsonrpc/message.ts'
import type { Log } from '../logging.ts'
import type { ResolvedOptions } from '../options.ts'
import type { AuthInfo, ResponseMode } from '../types.ts'
import { Principals } from './principal.ts'
import type { Refusal } from './refusal.ts'

/** Who sent a request. */
export interface Caller {
  readonly authInfo: AuthInfo | undefined
  readonly principal: string | undefined
  /** When it was let in: monotonic, in milliseconds; 0 for an anonymous one, which cannot be put out. */
  readonly since: number
}

/** The outcome of a check that may have answered the request itself. */
export type Checked<T> =
  | { readonly kind: 'pass'; readonly value: T }
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'answered' }

/** A POST's messages. */
export class ParsedPost {
  readonly messages: readonly ParsedMessage[]
  readonly batch: boolean
  /** The body as parsed JSON. */
  readonly body: unknown
  /** What it is in the era without handshake; undefined when it belongs to the handshake. */
  readonly modern: ModernPost | undefined

  constructor(
    messages: readonly ParsedMessage[],
    batch: boolean,
    body: unknown,
    modern: ModernPost | undefined,
  ) {
    this.messages = messages
    this.batch = batch
    this.body = body
    this.modern = modern
  }
}

const ALLOWED = 'GET, POST, DELETE'

const METHOD_NOT_ALLOWED: Refusal = {
  status: 405,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Method not allowed.',
  cause: 'method',
  headers: { Allow: ALLOWED },
}

/** The checks of one app. */
export class HttpFront {
  readonly #options: ResolvedOptions
  readonly #log: Log
  readonly #clock: Clock
  readonly #guard: Guard
  readonly #cors: Cors | undefined
  readonly #principals: Principals
  readonly #metadata: ResourceMetadata | undefined

  /** @throws RangeError for hosts and origins that are none */
  constructor(options: ResolvedOptions, log: Log, clock: Clock) {
    this.#options = options
    this.#log = log
    this.#clock = clock
    this.#guard = new Guard(options)
    this.#cors =
      options.corsOrigins !== undefined && options.corsOrigins.length > 0
        ? new Cors(options.corsOrigins)
        : undefined
    this.#principals = new Principals(options.principal, log)
    const resource = options.authenticate?.protectedResource
    resource?.attach?.({ log, clock })
    this.#metadata = resource === undefined ? undefined : new ResourceMetadata(resource)
  }

  /** Steps 1 to 3: method and target, host and origin, CORS. A preflight is answered here. */
  admit(exchange: Exchange): Checked<undefined> {
    // Public, and for pages of any origin: none of the checks below is about it.
    if (this.#metadata?.answer(exchange) === true) return ANSWERED
    const { method } = exchange
    const origin = exchange.header('origin')
    const cors = this.#cors
    const known = method === 'POST' || method === 'GET' || method === 'DELETE'
    const preflight = method === 'OPTIONS' && cors !== undefined
    if (!known && !preflight) return refused(METHOD_NOT_ALLOWED)
    const target = exchange.target.startsWith('/') ? undefined : parseTarget(exchange.target)
    if (target === undefined && !exchange.target.startsWith('/')) {
      return refused({
        status: 400,
        code: JsonRpcErrorCode.SERVER_ERROR,
        message: 'Bad Request: invalid request target',
        cause: 'method',
      })
    }
    // The authority of an absolute-form target stands in for Host (RFC 9112 §3.2.2).
    const checked = this.#guard.check(target?.authority ?? exchange.header('host'), origin, exchange.loopback)
    if (!checked.ok) {
      this.#log.warn(`403 ${checked.message}: allow it with the option ${checked.option}`)
      const cause = checked.option === 'allowedHosts' ? 'host' : 'origin'
      return refused({
        status: 403,
        code: JsonRpcErrorCode.SERVER_ERROR,
        message: checked.message,
        cause,
        option: checked.option,
      })
    }
    if (preflight) {
      const headers = cors.preflight(
        origin,
        exchange.header('access-control-request-method'),
        exchange.header('access-control-request-headers'),
      )
      if (headers === undefined) return refused(METHOD_NOT_ALLOWED)
      exchange.respond(204, headers, '')
      return ANSWERED
    }
    const headers = cors?.headers(origin)
    if (headers !== undefined) exchange.commonHeaders = { ...exchange.commonHeaders, ...headers }
    return PASSED
  }

  /** Step 4. Returns at once when there is nothing to wait for. */
  authenticate(exchange: Exchange): Checked<Caller> | Promise<Checked<Caller>> {
    const { authenticate } = this.#options
    if (authenticate !== undefined) return this.#callHook(exchange, authenticate)
    const authInfo = exchange.presetAuth
    return authInfo === undefined ? ANONYMOUS : this.#identify(exchange, authInfo)
  }

  /** Step 5 for a POST: how it may be answered, or why not at all. */
  negotiate(exchange: Exchange): ResponseMode | Refusal {
    const { responseMode, stateless } = this.#options
    const accepted = acceptsJsonAndSse(exchange.header('accept'))
    const jsonSuffices = responseMode === 'json' || stateless
    if (!accepted.json || !(accepted.sse || jsonSuffices)) {
      const types = jsonSuffices ? 'application/json' : 'both application/json and text/event-stream'
      return {
        status: 406,
        code: JsonRpcErrorCode.SERVER_ERROR,
        message: `Not Acceptable: Client must accept ${types}`,
        cause: 'accept',
      }
    }
    if (!isJsonContentType(exchange.header('content-type'))) {
      return {
        status: 415,
        code: JsonRpcErrorCode.SERVER_ERROR,
        message: 'Unsupported Media Type: Content-Type must be application/json',
        cause: 'content-type',
      }
    }
    const encoding = exchange.header('content-encoding')
    if (encoding !== undefined && encoding.trim().toLowerCase() !== 'identity') {
      return {
        status: 415,
        code: JsonRpcErrorCode.SERVER_ERROR,
        message: 'Unsupported Media Type: Content-Encoding must be identity',
        cause: 'content-encoding',
        headers: { 'Accept-Encoding': 'identity' },
      }
    }
    return accepted.sse ? responseMode : 'json'
  }

  /** Step 5 for a GET. */
  acceptsStream(exchange: Exchange): Refusal | undefined {
    if (acceptsJsonAndSse(exchange.header('accept')).sse) return undefined
    return {
      status: 406,
      code: JsonRpcErrorCode.SERVER_ERROR,
      message: 'Not Acceptable: Client must accept text/event-stream',
      cause: 'accept',
    }
  }

  /** Step 6: the body; `onBody` gets undefined when a framework has read and parsed it before. */
  readBody(exchange: Exchange, onBody: (body: BodyResult | undefined) => void): void {
    const { maxBodySize, bodyTimeout } = this.#options
    if (exchange.parsedBody === undefined) exchange.readBody(maxBodySize, bodyTimeout, onBody)
    else onBody(undefined)
  }

  /** Steps 6 and 7: the body, where it was read here, as messages, and the era they belong to. */
  parse(exchange: Exchange, body: BodyResult | undefined): ParsedPost | Refusal {
    if (typeof body === 'string') return this.#bodyFailed(body)
    let value: unknown
    if (body === undefined) value = exchange.parsedBody
    else {
      const decoded = decodeJson(body)
      if (!decoded.ok) {
        const what = decoded.reason === 'utf8' ? 'the body is not UTF-8' : 'Invalid JSON'
        return {
          status: 400,
          code: JsonRpcErrorCode.PARSE_ERROR,
          message: `Parse error: ${what}`,
          cause: decoded.reason === 'utf8' ? 'encoding' : 'json',
        }
      }
      value = decoded.value
    }
    const parsed = parseMessages(value)
    if (!parsed.ok) {
      return {
        status: 400,
        code: JsonRpcErrorCode.INVALID_REQUEST,
        message: parsed.message,
        cause: 'json-rpc',
        id: parsed.id,
      }
    }
    const era = decideEra(value, parsed.messages, exchange)
    if (era.kind === 'rejected') return { ...era.refusal, cause: 'era' }
    return new ParsedPost(parsed.messages, parsed.batch, value, era.kind === 'modern' ? era.post : undefined)
  }

  #bodyFailed(failure: BodyFailure): Refusal {
    const { maxBodySize, bodyTimeout } = this.#options
    switch (failure) {
      case 'too-large':
        return {
          status: 413,
          code: JsonRpcErrorCode.SERVER_ERROR,
          message: `Payload Too Large: Request body must not exceed ${maxBodySize} bytes`,
          cause: 'body-too-large',
          option: 'maxBodySize',
        }
      case 'timeout':
        return {
          status: 408,
          code: JsonRpcErrorCode.SERVER_ERROR,
          message: `Request Timeout: the body did not arrive within ${bodyTimeout} ms`,
          cause: 'body-timeout',
          option: 'bodyTimeout',
        }
      case 'aborted':
        // There is nobody left to answer; the event says that it happened.
        return {
          status: 400,
          code: JsonRpcErrorCode.PARSE_ERROR,
          message: 'Parse error: the body ended early',
          cause: 'body-aborted',
        }
    }
  }

  async #callHook(
    exchange: Exchange,
    authenticate: NonNullable<ResolvedOptions['authenticate']>,
  ): Promise<Checked<Caller>> {
    try {
      const result = await authenticate(exchange.request)
      if (isResponse(result)) {
        const headers = responseHeaders(result, 'authenticate')
        exchange.respond(result.status, headers, await result.text())
        return {
          kind: 'refused',
          refusal: {
            status: result.status,
            code: JsonRpcErrorCode.SERVER_ERROR,
            message: 'refused by authenticate',
            cause: 'authentication',
          },
        }
      }
      return result === undefined ? ANONYMOUS : this.#identify(exchange, result)
    } catch (thrown) {
      return this.#authenticationFailed(thrown)
    }
  }

  #identify(exchange: Exchange, authInfo: AuthInfo): Checked<Caller> {
    const { expiresAt } = authInfo
    if (expiresAt !== undefined && this.#options.endStreamsOnTokenExpiry)
      exchange.validUntil = expiresAt * 1000
    try {
      return {
        kind: 'pass',
        value: {
          authInfo,
          principal: this.#principals.of(authInfo, () => exchange.request),
          since: this.#clock.now(),
        },
      }
    } catch (thrown) {
      return this.#authenticationFailed(thrown)
    }
  }

  #authenticationFailed(thrown: unknown): Checked<Caller> {
    this.#log.error('authentication failed unexpectedly: authenticate or principal threw', {
      error: thrown,
      message: messageOf(thrown),
    })
    return refused({
      status: 500,
      code: JsonRpcErrorCode.INTERNAL_ERROR,
      message: 'Internal error',
      cause: 'internal',
    })
  }
}

const PASSED: Checked<undefined> = { kind: 'pass', value: undefined }
const ANSWERED: Checked<undefined> = { kind: 'answered' }
const ANONYMOUS: Checked<Caller> = {
  kind: 'pass',
  value: { authInfo: undefined, principal: undefined, since: 0 },
}

/**
 * Whether a hook returned a response, of whichever class: @hono/node-server replaces the global one, and what `fetch()` gives is then no
 * instance of it. To take a refusal for an authentication would let everybody in.
 */
function isResponse(result: AuthInfo | Response | undefined): result is Response {
  return result instanceof Response || Object.prototype.toString.call(result) === '[object Response]'
}

function refused(refusal: Refusal): { readonly kind: 'refused'; readonly refusal: Refusal } {
  return { kind: 'refused', refusal }
}
