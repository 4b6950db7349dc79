/** The HTTP request as handlers of both SDKs see it, made only when somebody looks. */

import type { MessageExtra } from '../types.ts'
import { parseTarget } from './headers.ts'

/** What a request is made of; an {@link Exchange} is one. */
export interface RequestSource {
  /** Upper case. */
  readonly method: string
  /** The request target as sent. */
  readonly target: string
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** Registers what aborts the request's signal; without it the signal never aborts. */
  readonly onAbort?: ((abort: () => void) => void) | undefined
}

/** The request as SDK v1 hands it to handlers. */
export type RequestInfo = NonNullable<MessageExtra['requestInfo']>

/** host [":" port] without anything that a URL would read as user, path or query. */
const PLAIN_HOST = /^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/

/**
 * A `Request` without a body whose parts are made when first read: a call that nobody inspects costs one small object.
 * `instanceof Request` is true, all members work, `clone()` gives a plain `Request`.
 *
 * Runtimes keep a request's state where only their own constructor can put it: `new Request(request)` and `fetch(request)` throw a
 * `TypeError`. Pass them `request.clone()`.
 *
 * @param base scheme and authority before the path; default `http://` and the `Host` header
 */
export function lazyRequest(source: RequestSource, base?: string): Request {
  return new LazyRequest(source, base) as unknown as Request
}

/** The same for SDK v1's `extra.requestInfo`: header fields as Node has them, and a lazy `url`. */
export function lazyRequestInfo(source: RequestSource, base?: string): RequestInfo {
  return new LazyRequestInfo(source, base)
}

/** The URL of a request; whatever the client sent as target or host, there is one, and it has neither user nor password. */
export function requestUrl(source: RequestSource, base?: string): URL {
  const target = parseTarget(source.target)
  const path = target === undefined ? '/' : target.path + target.search
  const host = target?.authority ?? source.headers.host
  const authority = typeof host === 'string' && PLAIN_HOST.test(host) ? host : 'localhost'
  return (
    tryUrl((base ?? `http://${authority}`) + path) ??
    tryUrl(`http://localhost${path}`) ??
    new URL('http://localhost/')
  )
}

class LazyRequestInfo implements RequestInfo {
  readonly #source: RequestSource
  readonly #base: string | undefined
  #url: URL | undefined

  constructor(source: RequestSource, base: string | undefined) {
    this.#source = source
    this.#base = base
  }

  get headers(): RequestInfo['headers'] {
    return this.#source.headers
  }

  get url(): URL {
    return (this.#url ??= requestUrl(this.#source, this.#base))
  }
}

class LazyRequest {
  readonly #source: RequestSource
  readonly #base: string | undefined
  #url: string | undefined
  #headers: Headers | undefined
  #controller: AbortController | undefined
  #real: Request | undefined

  constructor(source: RequestSource, base: string | undefined) {
    this.#source = source
    this.#base = base
  }

  get method(): string {
    return this.#source.method
  }

  get url(): string {
    return (this.#url ??= requestUrl(this.#source, this.#base).href)
  }

  get headers(): Headers {
    return (this.#headers ??= toHeaders(this.#source.headers))
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController()
      this.#controller = controller
      this.#source.onAbort?.(() => controller.abort())
    }
    return this.#controller.signal
  }

  clone(): Request {
    return new Request(LazyRequest.real(this))
  }

  /** A request of the runtime's own, for the members that are not lazy. */
  static real(request: LazyRequest): Request {
    return (request.#real ??= request.#make())
  }

  #make(): Request {
    const init = { headers: this.headers, signal: this.signal }
    try {
      return new Request(this.url, { ...init, method: this.method })
    } catch {
      // `Request` takes neither CONNECT nor TRACE, which never get this far; a property that throws helps nobody.
      return new Request(this.url, init)
    }
  }
}

// The members of Request.prototype check that they are called on a real one: each that is not lazy is passed on to one.
for (const [key, member] of Object.entries(Object.getOwnPropertyDescriptors(Request.prototype))) {
  if (Object.hasOwn(LazyRequest.prototype, key)) continue
  if (member.get !== undefined) {
    Object.defineProperty(LazyRequest.prototype, key, {
      configurable: true,
      get(this: LazyRequest): unknown {
        return Reflect.get(LazyRequest.real(this), key)
      },
    })
  } else if (typeof member.value === 'function') {
    const method: (this: Request, ...args: unknown[]) => unknown = member.value
    Object.defineProperty(LazyRequest.prototype, key, {
      configurable: true,
      writable: true,
      value(this: LazyRequest, ...args: unknown[]): unknown {
        return method.apply(LazyRequest.real(this), args)
      },
    })
  }
}
Object.setPrototypeOf(LazyRequest.prototype, Request.prototype)

function toHeaders(fields: RequestSource['headers']): Headers {
  const headers = new Headers()
  for (const name of Object.keys(fields)) {
    const value = fields[name]
    if (value === undefined) continue
    for (const one of typeof value === 'string' ? [value] : value) {
      try {
        headers.append(name, one)
      } catch {
        // HTTP/2 pseudo-fields (`:path`) and what a lenient parser let through are no fields of a Request.
      }
    }
  }
  return headers
}

function tryUrl(text: string): URL | undefined {
  try {
    return new URL(text)
  } catch {
    return undefined
  }
}
