/** The typed events of a session runtime, and how they reach listeners. */

import type { ClientIdentity, CloseReason, RequestId } from '../types.ts'

/** Members that every event has. */
interface EventBase {
  /** When it happened: wall clock, milliseconds since the Unix epoch. */
  readonly time: number
  /** The session's id, whole; undefined where there is none (a refused request, `stateless`, revision 2026-07-28). It is a credential: log only its beginning. */
  readonly session: string | undefined
}

/** `initialize` succeeded and the session exists. */
export interface SessionOpened extends EventBase {
  readonly type: 'session.opened'
  readonly principal: string | undefined
  readonly client: ClientIdentity | undefined
  /** The negotiated protocol version. */
  readonly protocolVersion: string
  /** The client's address; behind trusted proxies (`trustedProxies`) the one they report. */
  readonly address: string | undefined
}

/** The client sent `notifications/initialized`. */
export interface SessionInitialized extends EventBase {
  readonly type: 'session.initialized'
}

/** The session ended; exactly one per session that opened. */
export interface SessionClosed extends EventBase {
  readonly type: 'session.closed'
  readonly reason: CloseReason
  /** How long the session lived, in milliseconds. */
  readonly durationMs: number
  /** More about a `failed` session. */
  readonly detail: string | undefined
}

/** The session's instance was let go, its record kept: until it is needed, or until the process has been started again. */
export interface SessionSlept extends EventBase {
  readonly type: 'session.slept'
}

/** A request needed the instance, and it was built again. */
export interface SessionWoken extends EventBase {
  readonly type: 'session.woken'
  /** How long that took, in milliseconds. */
  readonly durationMs: number
}

/** A JSON-RPC request was accepted. */
export interface RequestStarted extends EventBase {
  readonly type: 'request.started'
  /** The id the client gave it. */
  readonly request: RequestId
  readonly method: string
  /** `params.name` or `params.uri`: which tool, prompt or resource. */
  readonly name: string | undefined
}

/** An accepted JSON-RPC request was answered or reported. */
export interface RequestEnded extends EventBase {
  readonly type: 'request.ended'
  readonly request: RequestId
  readonly method: string
  readonly name: string | undefined
  /** `ok`: a result; `error`: an error the server answered; `cancelled`: by the client; `aborted`: by the end of the session or a timeout. */
  readonly outcome: RequestOutcome
  readonly durationMs: number
}

/** How a request ended. */
export type RequestOutcome = 'ok' | 'error' | 'cancelled' | 'aborted'

/** An SSE connection was attached to a stream. */
export interface StreamOpened extends EventBase {
  readonly type: 'stream.opened'
  /** The stream's number in its session, where 0 is the GET stream; without a session, in its app. */
  readonly stream: number
  readonly kind: StreamKind
}

/** That connection ended. */
export interface StreamClosed extends EventBase {
  readonly type: 'stream.closed'
  readonly stream: number
  readonly kind: StreamKind
  readonly durationMs: number
}

/** Which request opened an SSE connection; `resume` is a GET with `Last-Event-ID`, `listen` a POST of `subscriptions/listen` (2026-07-28). */
export type StreamKind = 'get' | 'post' | 'resume' | 'listen'

/** An HTTP request was refused. */
export interface RequestRefused extends EventBase {
  readonly type: 'request.refused'
  /** The HTTP status it got. */
  readonly status: number
  /** A short, stable name of the check that refused it, such as `host`, `session-not-found`, `body-too-large`. */
  readonly cause: RefusalCause
  /** The message the client got. */
  readonly message: string
  /** The option that decides this, where there is one. */
  readonly option: string | undefined
  /** The client's address, as in {@link SessionOpened}. */
  readonly address: string | undefined
}

/** Why an HTTP request was refused; each is one check in the order of `wire.md`. */
export type RefusalCause =
  | 'method'
  | 'host'
  | 'origin'
  | 'authentication'
  | 'accept'
  | 'content-type'
  | 'content-encoding'
  | 'body-too-large'
  | 'body-timeout'
  | 'body-aborted'
  | 'encoding'
  | 'json'
  | 'json-rpc'
  | 'era'
  | 'session-required'
  | 'session-not-found'
  | 'session-conflict'
  | 'protocol-version'
  | 'already-initialized'
  | 'initialize'
  | 'full'
  | 'draining'
  | 'batch'
  | 'limit'
  | 'rate'
  | 'memory'
  | 'conflict'
  | 'cursor'
  | 'scope'
  | 'stateless'
  | 'store'
  | 'internal'

/** Events were lost by a slow async iterator; how many. */
export interface EventsLost extends EventBase {
  readonly type: 'events.lost'
  readonly count: number
}

/** Everything that {@link Sessions} tells. */
export type SessionEvent =
  | SessionOpened
  | SessionInitialized
  | SessionSlept
  | SessionWoken
  | SessionClosed
  | RequestStarted
  | RequestEnded
  | StreamOpened
  | StreamClosed
  | RequestRefused

/** What an async iterator yields: the events, and a note where it was too slow to take them all. */
export type IteratedEvent = SessionEvent | EventsLost

/** Called for every event; what it throws is logged and changes nothing. */
export type EventListener = (event: SessionEvent) => void

/** Fans events out. Costs nothing while nobody listens: callers ask {@link EventHub.active} before they make an event. */
export class EventHub {
  readonly #listeners = new Set<EventListener>()
  readonly #onListenerError: (thrown: unknown) => void

  constructor(onListenerError: (thrown: unknown) => void) {
    this.#onListenerError = onListenerError
  }

  /** Whether anyone listens. */
  get active(): boolean {
    return this.#listeners.size > 0
  }

  /** Adds a listener; the result removes it. */
  subscribe(listener: EventListener): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  /** Tells every listener, in the order they came. */
  emit(event: SessionEvent): void {
    // Those there are now: a listener may add listeners.
    for (const listener of [...this.#listeners]) {
      try {
        listener(event)
      } catch (thrown) {
        this.#onListenerError(thrown)
      }
    }
  }
}

/** How many events an async iterator keeps for a consumer that is slower than they come; the oldest are lost first. */
const ITERATOR_BUFFER = 1024

/**
 * The events from now on, as an async iterator; listens at once, whether or not anyone iterates yet. Ends when `onEnd` says so or the
 * consumer returns.
 */
export function iterateEvents(
  hub: EventHub,
  onEnd: (end: () => void) => () => void,
): AsyncIterableIterator<IteratedEvent, void, undefined> {
  const queue = new EventQueue(hub)
  const forget = onEnd(() => queue.end())
  const stop = (): void => {
    queue.stop()
    forget()
  }
  // Not a generator function: its `return()` before the first `next()` would skip the clean-up.
  const iterator: AsyncIterableIterator<IteratedEvent, void, undefined> = {
    async next() {
      const value = await queue.next()
      if (value !== undefined) return { done: false, value }
      stop()
      return { done: true, value: undefined }
    },
    return() {
      stop()
      return Promise.resolve({ done: true, value: undefined })
    },
    [Symbol.asyncIterator]: () => iterator,
  }
  return iterator
}

/** What happened and was not taken yet, bounded. */
class EventQueue {
  readonly #unsubscribe: () => void
  #waiting: SessionEvent[] = []
  #lost = 0
  #ended = false
  #wake: (() => void) | undefined

  constructor(hub: EventHub) {
    this.#unsubscribe = hub.subscribe((event) => {
      if (this.#waiting.length >= ITERATOR_BUFFER) {
        this.#waiting.shift()
        this.#lost += 1
      }
      this.#waiting.push(event)
      this.#wake?.()
    })
  }

  async next(): Promise<IteratedEvent | undefined> {
    while (true) {
      if (this.#lost > 0) {
        const count = this.#lost
        this.#lost = 0
        return { type: 'events.lost', time: this.#waiting[0]?.time ?? 0, session: undefined, count }
      }
      const event = this.#waiting.shift()
      if (event !== undefined || this.#ended) return event
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  end(): void {
    this.#ended = true
    this.#unsubscribe()
    this.#wake?.()
  }

  stop(): void {
    this.end()
    this.#waiting = []
  }
}
