/** Between one request without a handshake and its server: what the server says about it goes on, everything else has nowhere to go. */

import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type {
  JsonRpcMessage,
  JsonRpcNotification,
  JsonRpcRequest,
  RequestId,
  ServerTransport,
} from '../types.ts'

/** What the specification has as the status of an error that no handler made (transports, 2026-07-28); of all others it is 200. */
const STATUS_OF_ERROR: Readonly<Record<number, number>> = {
  [JsonRpcErrorCode.PARSE_ERROR]: 400,
  [JsonRpcErrorCode.INVALID_REQUEST]: 400,
  [JsonRpcErrorCode.METHOD_NOT_FOUND]: 404,
  [JsonRpcErrorCode.UNSUPPORTED_PROTOCOL_VERSION]: 400,
  [JsonRpcErrorCode.HEADER_MISMATCH]: 400,
  [JsonRpcErrorCode.MISSING_CLIENT_CAPABILITY]: 400,
}

const LIST_CHANGED = /^notifications\/(?:tools|prompts|resources)\/list_changed$/

const DONE: Promise<void> = Promise.resolve()

/** Who takes what the server says. */
export interface TransportSink {
  /** A notification or request that belongs to the request, before its answer. */
  said(message: JsonRpcMessage): void
  /** The answer. `early` is an error from before any handler ran. */
  answered(message: JsonRpcMessage, status: number, early: boolean): void
  /** The server tells that what it offers is not what it was. */
  changed(): void
  /** Closed, by whichever side; the answer is there, or there will be none. */
  disconnected(): void
}

/** The transport of one request. */
export class RequestTransport implements ServerTransport {
  onclose: (() => void) | undefined
  onerror: ((error: Error) => void) | undefined
  onmessage: ServerTransport['onmessage']
  readonly #sink: TransportSink
  readonly #message: JsonRpcRequest | JsonRpcNotification
  readonly #id: RequestId | undefined
  readonly #innerId: RequestId | undefined
  #delivering = false
  #answered = false
  #closed = false

  /**
   * @param innerId the id that the server sees instead of the client's: where servers are used again, one client's ids must not be
   * another's
   */
  constructor(sink: TransportSink, message: JsonRpcRequest | JsonRpcNotification, innerId?: RequestId) {
    this.#sink = sink
    this.#id = 'id' in message ? message.id : undefined
    this.#innerId = this.#id === undefined ? undefined : (innerId ?? this.#id)
    this.#message = this.#innerId === this.#id ? message : { ...message, id: this.#innerId }
  }

  start(): Promise<void> {
    return DONE
  }

  /** Hands the message over to the connected server. */
  deliver(extra: unknown): void {
    // Whatever is answered before this returns was not answered by a handler: those run later.
    this.#delivering = true
    try {
      this.onmessage?.(this.#message, extra)
    } finally {
      this.#delivering = false
    }
  }

  send(message: JsonRpcMessage, options?: { relatedRequestId?: RequestId }): Promise<void> {
    if (this.#closed) return DONE
    if ('method' in message) {
      if (LIST_CHANGED.test(message.method)) this.#sink.changed()
      // Without a session there is no stream for what belongs to no request, nor for what belongs to an earlier one of this server.
      const related = options?.relatedRequestId
      if (related !== undefined && related === this.#innerId && !this.#answered) this.#sink.said(message)
      return DONE
    }
    if (message.id === undefined || message.id !== this.#innerId || this.#answered) return DONE
    this.#answered = true
    const answer = this.#innerId === this.#id ? message : ({ ...message, id: this.#id } as JsonRpcMessage)
    const code = 'error' in message ? message.error.code : undefined
    const early = code !== undefined && this.#delivering
    // A capability that the client has not declared is 400 whoever made the error.
    const fixed = early || code === JsonRpcErrorCode.MISSING_CLIENT_CAPABILITY
    const status = code !== undefined && fixed ? STATUS_OF_ERROR[code] : 200
    this.#sink.answered(answer, status ?? 200, early)
    return DONE
  }

  close(): Promise<void> {
    if (this.#closed) return DONE
    this.#closed = true
    try {
      this.onclose?.()
    } finally {
      this.#sink.disconnected()
    }
    return DONE
  }
}
