/** What the official handler gets to see of a request: its fields as they were read already, nothing of the Web's objects. */

import type { PerRequestCall } from './per-request-call.ts'

/** As much of a `Headers` as is read. */
class HandlerHeaders {
  readonly #call: PerRequestCall

  constructor(call: PerRequestCall) {
    this.#call = call
  }

  get(name: string): string | null {
    return this.#call.exchange.header(name.toLowerCase()) ?? null
  }

  has(name: string): boolean {
    return this.get(name) !== null
  }
}

/** As much of a `Request` as the handler reads; to make a real one of every call is a tenth of its cost. Handlers of tools get a whole one. */
export class HandlerRequest {
  readonly call: PerRequestCall
  readonly method = 'POST'
  readonly headers: HandlerHeaders

  private constructor(call: PerRequestCall) {
    this.call = call
    this.headers = new HandlerHeaders(call)
  }

  /** The request of a call. */
  static of(call: PerRequestCall): Request {
    return new HandlerRequest(call) as unknown as Request
  }

  /** The call of a request that {@link HandlerRequest.of} made. */
  static callOf(request: unknown): PerRequestCall | undefined {
    return request instanceof HandlerRequest ? request.call : undefined
  }

  get url(): string {
    return this.call.exchange.request.url
  }

  get signal(): AbortSignal {
    return this.call.exchange.request.signal
  }

  clone(): Request {
    return this.call.exchange.request.clone()
  }
}
