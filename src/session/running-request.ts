/** JSON-RPC requests that were handed to an instance and are not answered yet. */

import { type Linked, LinkedList } from '../linked-list.ts'
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
export class RunningRequest implements Linked<RunningRequest> {
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
  /** @internal Whether it is in flight: the list's, as are the links. */
  running = false
  /** @internal */ next: RunningRequest | undefined
  /** @internal */ previous: RunningRequest | undefined
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

/** Who is told what became of requests. */
export interface RequestsOwner {
  requestEnded(request: RunningRequest, outcome: RequestOutcome): void
}

/**
 * The running requests of one session, oldest first. A request leaves by {@link RunningRequests.settle}, once.
 *
 * A list through the requests themselves: a map makes a new table with nearly every call, and V8's young collections keep what an old
 * table leads to. Finding one takes at most `maxRequestsPerSession` steps, and mostly one.
 */
export class RunningRequests extends LinkedList<RunningRequest> {
  readonly #owner: RequestsOwner
  #size = 0
  #lastPrivateId = 0

  constructor(owner: RequestsOwner) {
    super()
    this.#owner = owner
  }

  /** How many are in flight. */
  get size(): number {
    return this.#size
  }

  /** A private id that no request of this session had. */
  nextPrivateId(): number {
    this.#lastPrivateId += 1
    return this.#lastPrivateId
  }

  /** Registers a request. */
  add(request: RunningRequest): void {
    request.running = true
    this.append(request)
    this.#size += 1
  }

  /** The request an instance means by a private id. */
  get(privateId: RequestId): RunningRequest | undefined {
    let request = this.last
    while (request !== undefined && request.privateId !== privateId) request = request.previous
    return request
  }

  /** The newest request that the client gave this id: `notifications/cancelled` means that one. */
  newest(id: RequestId): RunningRequest | undefined {
    let request = this.last
    while (request !== undefined && request.id !== id) request = request.previous
    return request
  }

  /** The only running request, if there is exactly one. */
  only(): RunningRequest | undefined {
    return this.#size === 1 ? this.last : undefined
  }

  /** All of them, oldest first. */
  all(): RunningRequest[] {
    const all: RunningRequest[] = []
    for (let request = this.first; request !== undefined; request = request.next) all.push(request)
    return all
  }

  /** Takes a request out, whatever became of it. Returns false when it was settled before: answers after that are dropped. */
  settle(request: RunningRequest, outcome: RequestOutcome): boolean {
    if (!request.running) return false
    request.running = false
    this.remove(request)
    this.#size -= 1
    this.#owner.requestEnded(request, outcome)
    return true
  }
}
