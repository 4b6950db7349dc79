/** Messages from an instance to the client: each travels on exactly one stream. */

import { AsyncLocalStorage } from 'node:async_hooks'

import { SojournError } from '../errors.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type {
  JsonRpcMessage,
  JsonRpcNotification,
  JsonRpcRequest,
  JsonRpcResponse,
  RequestId,
} from '../types.ts'
import type { InstanceTransport } from './instance-transport.ts'
import { isListChanged } from './replay.ts'
import type { RunningRequest } from './running-request.ts'
import { serializeOutgoing } from './serialize.ts'
import type { Asker } from './server-requests.ts'
import type { Session } from './session.ts'

/** The request whose handler is running, for server→client requests that do not name theirs. */
export const handling: AsyncLocalStorage<RunningRequest> = new AsyncLocalStorage<RunningRequest>()

const SENT: Promise<void> = Promise.resolve()

/** An instance that waits for the client's answer. */
class InstanceAsker implements Asker {
  readonly id: RequestId
  readonly #transport: InstanceTransport
  readonly #onAnswer: () => void

  constructor(id: RequestId, transport: InstanceTransport, onAnswer: () => void) {
    this.id = id
    this.#transport = transport
    this.#onAnswer = onAnswer
  }

  answered(response: JsonRpcResponse): void {
    this.#onAnswer()
    this.#transport.onmessage?.({ ...response, id: this.id })
  }

  // The SDK rejects its own pending requests when its connection closes.
  abandoned(): void {}
}

/** Routes what one session's instance sends. */
export class Outbound {
  readonly #session: Session
  /** Ids the instance gave its pending requests, to the numbers they travel with; few sessions ever have one. */
  #travelling: Map<RequestId, number> | undefined

  constructor(session: Session) {
    this.#session = session
  }

  /** Sends what the instance said. Rejects only for a request that cannot travel: its caller waits for an answer. */
  send(
    transport: InstanceTransport,
    message: JsonRpcMessage,
    relatedRequestId: RequestId | undefined,
  ): Promise<void> {
    if (!('method' in message)) {
      this.#respond(message)
      return SENT
    }
    const related = relatedRequestId === undefined ? undefined : this.#session.requests.get(relatedRequestId)
    if (!('id' in message)) {
      this.#notify(message, relatedRequestId !== undefined, related)
      return SENT
    }
    return this.#request(transport, message, relatedRequestId !== undefined, related)
  }

  /** Sends a request of Sojourn's own, under the number it already has. */
  sendUnrelated(data: string): Promise<void> {
    if (this.#session.standaloneOpen) {
      this.#session.streams.standalone.request(data)
      return SENT
    }
    for (const request of [handling.getStore(), this.#session.requests.only()]) {
      // A request of another session can be in the async context of whoever calls.
      if (request === undefined || this.#session.requests.get(request.privateId) !== request) continue
      if (request.sink.related(data, true)) return SENT
    }
    // Under `stateless` no GET will ever come.
    if (this.#session.ephemeral)
      return Promise.reject(
        new SojournError('undeliverable', 'Under stateless the client cannot be asked anything'),
      )
    return this.#session.streams.standalone.park(data)
  }

  /** Forgets what the instance asked the client: the instance is gone. */
  abandon(): void {
    for (const id of this.#travelling?.values() ?? []) this.#session.serverRequests.remove(id)
    this.#travelling = undefined
  }

  #respond(response: JsonRpcResponse): void {
    const request =
      response.id === undefined || response.id === null ? undefined : this.#session.requests.get(response.id)
    if (request === undefined) {
      this.#session.runtime.log.debug('an answer to a request that is already settled was dropped')
      return
    }
    this.#session.settle(request, response)
  }

  #notify(notification: JsonRpcNotification, isRelated: boolean, related: RunningRequest | undefined): void {
    if (isListChanged(notification.method)) this.#session.listChanged()
    const message =
      notification.method === 'notifications/cancelled' ? this.#withTravelId(notification) : notification
    if (message === undefined) return
    const data = serializeOutgoing(this.#session, message)
    if (data === undefined) return
    if (!isRelated) this.#session.streams.standalone.notify(data)
    // After its answer a request has no stream any more; and on no other stream would the client expect it.
    else related?.sink.related(data, false)
  }

  #request(
    transport: InstanceTransport,
    request: JsonRpcRequest,
    isRelated: boolean,
    related: RunningRequest | undefined,
  ): Promise<void> {
    let id: number
    try {
      id = this.#session.serverRequests.add(
        new InstanceAsker(request.id, transport, () => this.#travelling?.delete(request.id)),
      )
    } catch (thrown) {
      return Promise.reject(SojournError.from(thrown, 'limit-exceeded'))
    }
    this.#travelling ??= new Map()
    this.#travelling.set(request.id, id)
    const failed = (error: SojournError): Promise<void> => {
      this.#travelling?.delete(request.id)
      this.#session.serverRequests.remove(id)
      return Promise.reject(error)
    }
    const data = serializeOutgoing(this.#session, { ...request, id })
    if (data === undefined)
      return failed(
        new SojournError(
          'limit-exceeded',
          'The request is larger than maxMessageSize or cannot be serialized',
        ),
      )
    if (!isRelated)
      return this.sendUnrelated(data).catch((thrown: unknown) =>
        failed(SojournError.from(thrown, 'undeliverable')),
      )
    if (related?.sink.related(data, true) === true) return SENT
    return failed(
      new SojournError(
        'undeliverable',
        "A request to the client needs the stream of the call it belongs to: there is none under responseMode 'json', nor after the call has ended",
      ),
    )
  }

  /** A server that gives up waiting names its request by its own id; the client knows it by another. */
  #withTravelId(notification: JsonRpcNotification): JsonRpcNotification | undefined {
    const requestId = notification.params?.['requestId']
    if (typeof requestId !== 'string' && typeof requestId !== 'number') return notification
    const id = this.#travelling?.get(requestId)
    if (id === undefined) return undefined
    this.#travelling?.delete(requestId)
    this.#session.serverRequests.remove(id)
    return { ...notification, params: { ...notification.params, requestId: id } }
  }
}

/** The answer a request gets when something else than its handler ends it. */
export function errorResponse(id: RequestId, code: number, message: string): JsonRpcResponse {
  return { jsonrpc: '2.0', id, error: { code, message } }
}

/** The error of a call whose session ended under it. */
export function sessionClosed(id: RequestId, reason: string): JsonRpcResponse {
  return errorResponse(id, JsonRpcErrorCode.SERVER_ERROR, `Session closed: ${reason}`)
}
