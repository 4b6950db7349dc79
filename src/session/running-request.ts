/** JSON-RPC requests that were handed to an instance and are not answered yet. */

import type { JsonRpcRequest, JsonRpcResponse, RequestId } from '../types.ts'
import type { RequestOutcome } from './events.ts'
import type { Hold } from './idle-clock.ts'

/** A request as its answer names it. */
export interface Answerable {
  /** The id the client gave it. */
  readonly id: RequestId
}

/** Where the messages of a running request go: the POST it came with. */
export interface AnswerSink {
  /** A notification or server→client request that belongs to the request. Returns whether it has a way to travel. */
  related(message: string, expectsAnswer: boolean): boolean
  /** The answer; the last message of this request. `status` is what HTTP says of it where nothing was sent yet, default 200. */
  answer(request: Answerable, response: JsonRpcResponse, status?: number): void
  /** The client cancelled: no answer is due. */
  cancelled(request: Answerable): void
  /** Ends the SSE connection so that the client polls; does nothing where the stream could not be resumed. */
  closeConnection(): void
}

/** One request in flight. It is known to the instance by a private id: clients repeat theirs. */
export class RunningRequest {
  /** The id the instance knows it by; never 0, which SDK v1 cannot cancel. */
  readonly privateId: number
  /** The id the client gave it. */
  readonly id: RequestId
  readonly method: string
  readonly params: Readonly<Record<string, unknown>> | undefined
  readonly sink: AnswerSink
  readonly startedAt: number
  /** Whether its start was told as an event: then its end is told as well. */
  announced = false
  /** Whether its answer is there and only waits for what it changed to be kept. */
  answered = false
  readonly #hold: Hold | undefined

  constructor(
    privateId: number,
    request: JsonRpcRequest,
    sink: AnswerSink,
    startedAt: number,
    hold: Hold | undefined,
  ) {
    this.privateId = privateId
    this.id = request.id
    this.method = request.method
    this.params = request.params
    this.sink = sink
    this.startedAt = startedAt
    this.#hold = hold
  }

  /** Which tool, prompt or resource the request is about, for people. */
  get target(): string | undefined {
    const name = this.params?.['name'] ?? this.params?.['uri']
    return typeof name === 'string' ? name : undefined
  }

  /** Lets the session go; called once the answer is on its way. */
  releaseHold(): void {
    this.#hold?.release()
  }
}

/** The running requests of one session. A request leaves by {@link RunningRequests.settle}, once. */
export class RunningRequests {
  readonly #running = new Map<number, RunningRequest>()
  readonly #onSettled: (request: RunningRequest, outcome: RequestOutcome) => void
  #lastPrivateId = 0

  constructor(onSettled: (request: RunningRequest, outcome: RequestOutcome) => void) {
    this.#onSettled = onSettled
  }

  /** How many are in flight. */
  get size(): number {
    return this.#running.size
  }

  /** A private id that no request of this session had. */
  nextPrivateId(): number {
    this.#lastPrivateId += 1
    return this.#lastPrivateId
  }

  /** Registers a request. */
  add(request: RunningRequest): void {
    this.#running.set(request.privateId, request)
  }

  /** The request an instance means by a private id. */
  get(privateId: RequestId): RunningRequest | undefined {
    return typeof privateId === 'number' ? this.#running.get(privateId) : undefined
  }

  /** The newest request that the client gave this id: `notifications/cancelled` means that one. */
  newest(id: RequestId): RunningRequest | undefined {
    let found: RunningRequest | undefined
    for (const request of this.#running.values()) if (request.id === id) found = request
    return found
  }

  /** The only running request, if there is exactly one. */
  only(): RunningRequest | undefined {
    if (this.#running.size !== 1) return undefined
    for (const request of this.#running.values()) return request
    return undefined
  }

  /** All of them, oldest first. */
  all(): RunningRequest[] {
    return [...this.#running.values()]
  }

  /** Takes a request out, whatever became of it. Returns false when it was settled before: answers after that are dropped. */
  settle(request: RunningRequest, outcome: RequestOutcome): boolean {
    if (!this.#running.delete(request.privateId)) return false
    this.#onSettled(request, outcome)
    return true
  }
}
