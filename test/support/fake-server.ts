/** A minimal MCP server, structurally what both SDKs are to a transport, whose tool does what its arguments say; and how to misbehave. */

import type { Timer } from '../../src/clock.ts'
import type {
  JsonRpcMessage,
  JsonRpcNotification,
  JsonRpcRequest,
  JsonRpcResponse,
  MessageExtra,
  RequestId,
  ServerTransport,
} from '../../src/types.ts'

/** How a call of the tool `run` ends. */
export type CallEnding =
  | 'result'
  | 'error'
  /** The handler never returns, except by an abort. */
  | 'never'
  /** Two responses for one request. */
  | 'twice'
  /** `onmessage` throws synchronously instead of calling a handler. */
  | 'throw'
  /** The handler rejects. */
  | 'reject'
  /** The handler closes its own server before it would answer. */
  | 'close'

/** Arguments of the tool `run`: what the handler does. */
export interface CallPlan {
  /** Comes back in everything the call sends. */
  readonly tag: string
  /** Milliseconds until it ends; default 0. */
  readonly duration?: number
  readonly ending?: CallEnding
  /** Related notifications before the end: how many, how far apart in milliseconds. */
  readonly progress?: { readonly count: number; readonly every: number }
  /** Notifications to the session at large at the start. */
  readonly broadcasts?: number
  /** A server→client request at the start, awaited before the call ends; `related` names the call it belongs to. */
  readonly ask?: { readonly related: boolean; readonly timeout: number }
  /** Goes on after an abort, and answers after all, as a handler that ignores its signal. */
  readonly deaf?: boolean
  /** Bytes of padding in every message. */
  readonly padding?: number
}

/** How `initialize` is handled. */
export type InitializeEnding = 'result' | 'error' | 'never' | 'throw' | 'close'

/** What a {@link FakeServer} is made of. */
export interface FakeServerOptions {
  /** Timers of handlers; a `VirtualClock` fits. */
  readonly clock: { now(): number; after(delay: number, callback: () => void): Timer }
  /** Comes back in everything this server sends, so that a checker sees whose it is. */
  readonly tag: string
  /** Default `result`. */
  readonly initialize?: InitializeEnding
  /** Milliseconds until `initialize` is handled; default 0. */
  readonly initializeAfter?: number
  /** Versions it speaks, newest first. */
  readonly versions?: readonly string[]
  /** What it declares; default tools, logging and resources. */
  readonly capabilities?: Readonly<Record<string, unknown>>
  /** The server of the same session before it: numbers go on where its own ended. */
  readonly follows?: FakeServer | undefined
  /** Told of every {@link FakeCall} when it starts. */
  readonly oncall?: (call: FakeCall) => void
  /** Told of `notifications/initialized`. */
  readonly oninitialized?: (server: FakeServer) => void
}

/** One request that reached a handler, and what became of it. */
export interface FakeCall {
  /** The id the handler saw. */
  readonly id: RequestId
  readonly method: string
  readonly plan: CallPlan | undefined
  readonly startedAt: number
  readonly signal: AbortSignal
  /** What it sent that belongs to it, in order: progress, its request to the client, its response. */
  readonly sent: JsonRpcMessage[]
  /** How its server→client request ended. */
  asked: 'answered' | 'error' | 'rejected' | 'timeout' | undefined
  /** When it sent its response, or gave up after an abort. */
  endedAt: number | undefined
  abortedAt: number | undefined
}

/** Everything that {@link FakeServer} asks of its client and gets answered. */
interface Pending {
  resolve(response: JsonRpcResponse): void
  reject(reason: unknown): void
}

const CAPABILITIES = { tools: { listChanged: true }, logging: {}, resources: { subscribe: true } }

const VERSIONS = ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05']

/** Thrown by handlers whose signal aborted. */
class Aborted extends Error {}

/** The server. Handlers run on the clock it is given; it starts no timers of its own. */
export class FakeServer {
  readonly tag: string
  /** Every request that reached a handler, `initialize` apart. */
  readonly calls: FakeCall[] = []
  /** Everything that came, in order. */
  readonly received: JsonRpcMessage[] = []
  /** Notifications from the client. */
  readonly notifications: JsonRpcNotification[] = []
  /** Errors its `onerror` was told of, and failed sends. */
  readonly errors: unknown[] = []
  /** What it sent to the session at large, in order. */
  readonly broadcasts: JsonRpcMessage[] = []
  /** Extras of messages, as given. */
  lastExtra: MessageExtra | undefined
  /** Responses to requests that it did not make. */
  readonly strayResponses: JsonRpcResponse[] = []
  transport: ServerTransport | undefined
  connectedAt: number | undefined
  /** When its transport closed. */
  closedAt: number | undefined
  /** Called when its transport closed. */
  onclose: (() => void) | undefined

  readonly #options: FakeServerOptions
  readonly #running = new Map<RequestId, AbortController>()
  readonly #pending = new Map<RequestId, Pending>()
  #nextId = 0
  #broadcastCount = 0

  constructor(options: FakeServerOptions) {
    this.#options = options
    this.tag = options.tag
    const { follows } = options
    if (follows === undefined) return
    this.#nextId = follows.#nextId
    this.#broadcastCount = follows.#broadcastCount
  }

  /** How many handlers run. */
  get running(): number {
    return this.#running.size
  }

  async connect(transport: ServerTransport): Promise<void> {
    if (this.transport !== undefined) throw new Error('already connected')
    this.transport = transport
    this.connectedAt = this.#options.clock.now()
    const { onclose, onerror, onmessage } = transport
    transport.onclose = () => {
      onclose?.()
      this.#onclose()
    }
    transport.onerror = (error) => {
      onerror?.(error)
      this.errors.push(error)
    }
    transport.onmessage = (message: JsonRpcMessage, extra?: MessageExtra) => {
      onmessage?.(message, extra)
      this.lastExtra = extra
      this.received.push(message)
      if (!('method' in message)) this.#onresponse(message)
      else if ('id' in message) this.#onrequest(message)
      else this.#onnotification(message)
    }
    await transport.start()
  }

  async close(): Promise<void> {
    await this.transport?.close()
  }

  /** Sends a notification to the session at large. */
  broadcast(padding = 0): Promise<void> {
    const message: JsonRpcMessage = {
      jsonrpc: '2.0',
      method: 'notifications/message',
      params: {
        level: 'info',
        data: { tag: this.tag, call: null, n: ++this.#broadcastCount, ...pad(padding) },
      },
    }
    this.broadcasts.push(message)
    return this.#send(message)
  }

  /** Asks the client; rejects when the transport does, when it closes, or after `timeout`. */
  ask(related: RequestId | undefined, timeout: number, call?: FakeCall): Promise<JsonRpcResponse> {
    const id = this.#nextId++
    const message: JsonRpcMessage = {
      jsonrpc: '2.0',
      id,
      method: 'elicitation/create',
      params: { message: 'ask', tag: this.tag, call: call?.plan?.tag ?? null, ask: id },
    }
    if (call !== undefined) this.#remember(call, message)
    return new Promise((resolve, reject) => {
      const timer = this.#options.clock.after(timeout, () => {
        this.#pending.delete(id)
        reject(new Error('timeout'))
      })
      const settle = <T>(then: (value: T) => void) => {
        return (value: T): void => {
          timer.cancel()
          this.#pending.delete(id)
          then(value)
        }
      }
      this.#pending.set(id, { resolve: settle(resolve), reject: settle(reject) })
      const { transport } = this
      if (transport === undefined) this.#pending.get(id)?.reject(new Error('not connected'))
      transport
        ?.send(message, related === undefined ? undefined : { relatedRequestId: related })
        .catch((thrown: unknown) => this.#pending.get(id)?.reject(thrown))
    })
  }

  #onclose(): void {
    if (this.closedAt !== undefined) return
    this.closedAt = this.#options.clock.now()
    this.transport = undefined
    for (const controller of this.#running.values()) controller.abort()
    this.#running.clear()
    for (const pending of [...this.#pending.values()]) pending.reject(new Error('Connection closed'))
    this.onclose?.()
  }

  #onresponse(response: JsonRpcResponse): void {
    const pending =
      response.id === null || response.id === undefined ? undefined : this.#pending.get(response.id)
    if (pending === undefined) this.strayResponses.push(response)
    else pending.resolve(response)
  }

  #onnotification(notification: JsonRpcNotification): void {
    this.notifications.push(notification)
    if (notification.method === 'notifications/initialized') this.#options.oninitialized?.(this)
    if (notification.method !== 'notifications/cancelled') return
    const id = notification.params?.['requestId'] as RequestId | undefined
    if (id !== undefined) this.#running.get(id)?.abort(notification.params?.['reason'])
  }

  #onrequest(request: JsonRpcRequest): void {
    if (request.method === 'initialize') {
      this.#initialize(request)
      return
    }
    const plan =
      request.method === 'tools/call' ? (request.params?.['arguments'] as CallPlan | undefined) : undefined
    if (plan?.ending === 'throw') throw new Error('onmessage throws')
    const controller = new AbortController()
    const call: FakeCall = {
      id: request.id,
      method: request.method,
      plan,
      startedAt: this.#options.clock.now(),
      signal: controller.signal,
      sent: [],
      asked: undefined,
      endedAt: undefined,
      abortedAt: undefined,
    }
    controller.signal.addEventListener('abort', () => (call.abortedAt = this.#options.clock.now()), {
      once: true,
    })
    this.calls.push(call)
    this.#running.set(request.id, controller)
    this.#options.oncall?.(call)
    void this.#handle(request, call).finally(() => {
      if (this.#running.get(request.id) === controller) this.#running.delete(request.id)
      call.endedAt ??= this.#options.clock.now()
    })
  }

  #initialize(request: JsonRpcRequest): void {
    const ending = this.#options.initialize ?? 'result'
    if (ending === 'throw') throw new Error('onmessage throws on initialize')
    if (ending === 'never') return
    const versions = this.#options.versions ?? VERSIONS
    const asked = request.params?.['protocolVersion']
    const act = (): void => {
      if (ending === 'close') {
        void this.close()
        return
      }
      const response: JsonRpcMessage =
        ending === 'error'
          ? {
              jsonrpc: '2.0',
              id: request.id,
              error: { code: -32603, message: 'initialize refused by the author' },
            }
          : {
              jsonrpc: '2.0',
              id: request.id,
              result: {
                protocolVersion: typeof asked === 'string' && versions.includes(asked) ? asked : versions[0],
                capabilities: this.#options.capabilities ?? CAPABILITIES,
                serverInfo: { name: this.tag, version: '1' },
              },
            }
      void this.#send(response)
    }
    const delay = this.#options.initializeAfter ?? 0
    if (delay === 0) void Promise.resolve().then(act)
    else this.#options.clock.after(delay, act)
  }

  async #handle(request: JsonRpcRequest, call: FakeCall): Promise<void> {
    const { plan } = call
    const padding = plan?.padding ?? 0
    const respond = (message: JsonRpcMessage): Promise<void> => {
      this.#remember(call, message)
      call.endedAt ??= this.#options.clock.now()
      return this.#send(message)
    }
    try {
      await Promise.resolve()
      if (plan !== undefined) await this.#run(request, call, plan)
      if (call.signal.aborted && plan?.deaf !== true) return
      const response: JsonRpcMessage = KNOWN.has(request.method)
        ? {
            jsonrpc: '2.0',
            id: request.id,
            result: { tag: this.tag, call: plan?.tag ?? null, content: [], ...pad(padding) },
          }
        : { jsonrpc: '2.0', id: request.id, error: { code: -32601, message: 'Method not found' } }
      await respond(response)
      if (plan?.ending === 'twice')
        await this.#send({ jsonrpc: '2.0', id: request.id, result: { tag: this.tag, second: true } })
    } catch (thrown) {
      if (thrown instanceof Aborted || call.signal.aborted) return
      const message = thrown instanceof Error ? thrown.message : String(thrown)
      await respond({
        jsonrpc: '2.0',
        id: request.id,
        error: { code: -32603, message, data: { tag: this.tag, call: plan?.tag ?? null } },
      })
    }
  }

  async #run(request: JsonRpcRequest, call: FakeCall, plan: CallPlan): Promise<void> {
    const { clock } = this.#options
    const end = clock.now() + (plan.duration ?? 0)
    for (let n = 0; n < (plan.broadcasts ?? 0); n++) void this.broadcast(plan.padding)
    if (plan.ask !== undefined) {
      try {
        const response = await this.ask(plan.ask.related ? request.id : undefined, plan.ask.timeout, call)
        call.asked = 'error' in response ? 'error' : 'answered'
      } catch (thrown) {
        call.asked = thrown instanceof Error && thrown.message === 'timeout' ? 'timeout' : 'rejected'
      }
    }
    const { count, every } = plan.progress ?? { count: 0, every: 0 }
    for (let n = 1; n <= count; n++) {
      if (every > 0) await this.#wait(every, call)
      if (call.signal.aborted) break
      const message: JsonRpcMessage = {
        jsonrpc: '2.0',
        method: 'notifications/progress',
        params: {
          progressToken: plan.tag,
          progress: n,
          tag: this.tag,
          call: plan.tag,
          ...pad(plan.padding ?? 0),
        },
      }
      this.#remember(call, message)
      await this.#send(message, request.id)
    }
    await this.#wait(end - clock.now(), call)
    switch (plan.ending) {
      case 'never':
        await this.#wait(Number.POSITIVE_INFINITY, call)
        break
      case 'error':
        throw new Error('the tool failed')
      case 'reject':
        // Not even an Error.
        throw `rejected by ${this.tag}`
      case 'close':
        await this.close()
        break
    }
  }

  /** Waits, or throws when the call is aborted meanwhile and listens to it. */
  #wait(milliseconds: number, call: FakeCall): Promise<void> {
    const listens = call.plan?.deaf !== true
    if (listens && call.signal.aborted) return Promise.reject(new Aborted())
    if (milliseconds <= 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const onabort = (): void => {
        timer?.cancel()
        reject(new Aborted())
      }
      const timer =
        milliseconds === Number.POSITIVE_INFINITY
          ? undefined
          : this.#options.clock.after(milliseconds, () => {
              call.signal.removeEventListener('abort', onabort)
              resolve()
            })
      // One that never ends gives up at an abort even when it is deaf: nothing else could end it.
      if (listens || timer === undefined) call.signal.addEventListener('abort', onabort, { once: true })
    })
  }

  /** What is sent after an abort, or without a transport, is nothing that a client may expect. */
  #remember(call: FakeCall, message: JsonRpcMessage): void {
    if (!call.signal.aborted && this.transport !== undefined) call.sent.push(message)
  }

  async #send(message: JsonRpcMessage, related?: RequestId): Promise<void> {
    try {
      await this.transport?.send(message, related === undefined ? undefined : { relatedRequestId: related })
    } catch (thrown) {
      this.errors.push(thrown)
    }
  }
}

const KNOWN = new Set([
  'tools/call',
  'tools/list',
  'ping',
  'logging/setLevel',
  'resources/subscribe',
  'resources/unsubscribe',
])

function pad(bytes: number): { padding?: string } {
  return bytes === 0 ? {} : { padding: 'x'.repeat(bytes) }
}
