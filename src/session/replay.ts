/** Brings a rebuilt instance to where the one before it was: the handshake again, log level, subscriptions; under ids of its own. */

import { SojournError } from '../errors.ts'
import { isObject } from '../json.ts'
import type { JsonRpcMessage, JsonRpcResponse, MessageExtra, RequestId } from '../types.ts'
import type { InstanceTransport, TransportHost } from './instance-transport.ts'
import type { Session } from './session.ts'

const SENT: Promise<void> = Promise.resolve()

/** What replaying showed. */
export interface Replayed {
  /** The version the rebuilt server answered with. */
  readonly protocolVersion: string
  /** Its capabilities, as JSON. */
  readonly capabilities: string
}

/** Takes what an instance sends while it catches up. Nothing of it is for the client but what its own hooks ask for. */
export class Replay implements TransportHost {
  readonly #session: Session
  readonly #host: TransportHost
  readonly #transport: () => InstanceTransport
  readonly #extra: MessageExtra | undefined
  readonly #waiting = new Map<RequestId, (response: JsonRpcResponse | SojournError) => void>()
  #nextId = 0
  #closed = false

  /** `host` takes what is for the client; `transport` gives the instance's, which does not exist yet. */
  constructor(
    session: Session,
    host: TransportHost,
    transport: () => InstanceTransport,
    extra: MessageExtra | undefined,
  ) {
    this.#session = session
    this.#host = host
    this.#transport = transport
    this.#extra = extra
  }

  /** Repeats the handshake. Rejects when the server does not answer as the protocol asks. */
  async handshake(): Promise<Replayed> {
    const { record } = this.#session
    const response = await this.#ask('initialize', record.initialize.parse())
    const result = 'result' in response ? response.result : undefined
    if (result === undefined || typeof result['protocolVersion'] !== 'string')
      throw new SojournError('request-failed', 'The rebuilt server refused the handshake', { data: response })
    const { protocolVersion, capabilities } = result
    return { protocolVersion, capabilities: JSON.stringify(isObject(capabilities) ? capabilities : {}) }
  }

  /** Repeats what the client had set. A server that refuses any of it now is as good as the session will get: it goes on. */
  async settings(): Promise<void> {
    const { record, runtime } = this.#session
    if (record.initialized) this.#deliver({ jsonrpc: '2.0', method: 'notifications/initialized' })
    const asked: Promise<JsonRpcResponse>[] = []
    if (record.logLevel !== undefined) asked.push(this.#ask('logging/setLevel', { level: record.logLevel }))
    for (const uri of record.subscriptions ?? []) asked.push(this.#ask('resources/subscribe', { uri }))
    for (const response of await Promise.all(asked)) {
      if ('error' in response)
        runtime.log.warn('a rebuilt server refused what its client had set', { error: response.error })
    }
  }

  /** Nothing more is waited for. */
  abandon(): void {
    const error = new SojournError('session-closed', 'The instance was given up while it was rebuilt')
    for (const settle of this.#waiting.values()) settle(error)
    this.#waiting.clear()
  }

  sendFromInstance(
    transport: InstanceTransport,
    message: JsonRpcMessage,
    relatedRequestId: RequestId | undefined,
  ): Promise<void> {
    if (!('method' in message)) {
      const { id } = message
      if (id !== undefined && id !== null) this.#waiting.get(id)?.(message)
      return SENT
    }
    // What the client knows already is no change; where it is one, Sojourn tells the client itself.
    if (!('id' in message) && isListChanged(message.method)) return SENT
    return this.#host.sendFromInstance(transport, message, relatedRequestId)
  }

  closedByInstance(): void {
    this.#closed = true
    this.abandon()
  }

  /** @throws SojournError `session-closed` when the server closed its own connection meanwhile: it would answer nothing. */
  assertConnected(): void {
    if (this.#closed) throw new SojournError('session-closed', 'The rebuilt server closed its own connection')
  }

  #ask(method: string, params: Readonly<Record<string, unknown>>): Promise<JsonRpcResponse> {
    return new Promise((resolve, reject) => {
      // Numbers would meet those of requests that follow; v1 aborts handlers by id.
      const id = `sojourn-replay-${(this.#nextId += 1)}`
      this.#waiting.set(id, (outcome) => {
        this.#waiting.delete(id)
        if (outcome instanceof SojournError) reject(outcome)
        else resolve(outcome)
      })
      this.#deliver({ jsonrpc: '2.0', id, method, params })
    })
  }

  #deliver(message: JsonRpcMessage): void {
    this.#transport().onmessage?.(message, this.#extra)
  }
}

/** Whether a notification says that a list of the server's changed. */
export function isListChanged(method: string): boolean {
  return method.startsWith('notifications/') && method.endsWith('/list_changed')
}
