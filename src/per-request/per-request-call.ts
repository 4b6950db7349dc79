/** One request or notification without a handshake, from its admission to the end of its exchange. */

import { DeadlineCall } from '../deadlines.ts'
import { messageOf } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import type { ModernPost } from '../http/era.ts'
import type { RequestOutcome } from '../session/events.ts'
import type { Caller } from '../session/http-front.ts'
import { callFactory } from '../session/instance.ts'
import type { Refusal } from '../session/refusal.ts'
import { NOT_CREATED, TOOK_TOO_LONG } from '../session/refusals.ts'
import type { Runtime } from '../session/runtime.ts'
import type { McpServerLike } from '../types.ts'
import type { AnswerStream } from './answer-stream.ts'
import { RequestContext } from './request-context.ts'

/** The method whose answer is a stream of announcements: it runs for as long as the client listens, so nobody waits for its end. */
const LISTEN = 'subscriptions/listen'

/** One call: its server, and what can end it. */
export class PerRequestCall {
  readonly exchange: Exchange
  readonly caller: Caller
  readonly post: ModernPost
  /** Whether it is a `subscriptions/listen`. */
  readonly listens: boolean
  /** What it is to be refused with, once something stands in its way. */
  refusal: Refusal | undefined
  /** Its answer, once that is a stream. */
  stream: AnswerStream | undefined
  readonly #runtime: Runtime
  readonly #context: RequestContext
  #building: Promise<McpServerLike | undefined> | undefined
  #giveUpBuilding: (() => void) | undefined
  #server: McpServerLike | undefined
  #stopped = false
  #started: number | undefined
  #announced = false
  #ended = false

  constructor(runtime: Runtime, exchange: Exchange, caller: Caller, post: ModernPost) {
    this.#runtime = runtime
    this.exchange = exchange
    this.caller = caller
    this.post = post
    this.listens = post.message.method === LISTEN
    this.#context = new RequestContext(exchange, caller, post, runtime.options.maxSessionDataSize)
  }

  /** Whether something ended it before its answer did. */
  get stopped(): boolean {
    return this.#stopped
  }

  /** The author's server, built when first asked for; undefined when there will be none, with the reason in `refusal`. Never rejects. */
  server(): Promise<McpServerLike | undefined> {
    this.#building ??= this.#build()
    return this.#building
  }

  /** The request is handed over; from here on it counts as running. */
  start(): void {
    const { clock, hub, load } = this.#runtime
    this.#started = clock.now()
    if (!this.listens) load.started()
    const { id, message } = this.post
    if (!hub.active || id === null) return
    this.#announced = true
    const name = targetOf(this.post)
    hub.emit({
      type: 'request.started',
      time: clock.wallTime(),
      session: undefined,
      request: id,
      method: message.method,
      name,
    })
  }

  /** The request was answered, or will not be. Only the first outcome counts. */
  end(outcome: RequestOutcome): void {
    if (this.#ended) return
    this.#ended = true
    this.#context.end()
    if (this.#started === undefined) return
    const { clock, hub, load } = this.#runtime
    if (!this.listens) load.ended()
    const { id, message } = this.post
    if (!this.#announced || id === null) return
    hub.emit({
      type: 'request.ended',
      time: clock.wallTime(),
      session: undefined,
      request: id,
      method: message.method,
      name: targetOf(this.post),
      outcome,
      durationMs: clock.now() - this.#started,
    })
  }

  /** The official handler is done with the server, or never took it. */
  letServerGo(): void {
    this.#context.instanceLetGo()
    this.#closeServer()
  }

  /** The client went away: closing the response is cancellation (transports, 2026-07-28). */
  cancel(): void {
    this.stream?.stop()
    this.stop()
  }

  /** Ends the call from our side. An answer that is streaming already ends by itself when its server is closed. */
  stop(refusal?: Refusal): void {
    if (this.#stopped) return
    this.#stopped = true
    this.refusal ??= refusal
    this.#giveUpBuilding?.()
    this.#closeServer()
  }

  #build(): Promise<McpServerLike | undefined> {
    const { deadlines, options, log } = this.#runtime
    return new Promise((resolve) => {
      const timeout = new DeadlineCall(() => {
        const seconds = Math.ceil(options.initializeTimeout / 1000)
        this.stop({ ...TOOK_TOO_LONG, message: `createServer took longer than ${seconds} s` })
      })
      const giveUp = (): void => {
        deadlines.disarm(timeout)
        this.#giveUpBuilding = undefined
        resolve(undefined)
      }
      if (this.#stopped) return giveUp()
      this.#giveUpBuilding = giveUp
      deadlines.arm(timeout, options.initializeTimeout)
      callFactory(this.#runtime, this.#context).then(
        (server) => {
          this.#server = server
          // Whoever asked may have gone while the factory worked.
          if (this.#stopped) return this.#closeServer()
          deadlines.disarm(timeout)
          this.#giveUpBuilding = undefined
          resolve(server)
        },
        (thrown: unknown) => {
          // The client is not told what the author's code says; the log is.
          log.error('createServer failed', { error: thrown, message: messageOf(thrown) })
          this.stop(NOT_CREATED)
        },
      )
    })
  }

  #closeServer(): void {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    const failed = (thrown: unknown): void =>
      this.#runtime.log.warn('the server threw while it was closed', { error: messageOf(thrown) })
    try {
      server.close().catch(failed)
    } catch (thrown) {
      failed(thrown)
    }
  }
}

/** Which tool, prompt or resource a request is about, for people. */
function targetOf({ message }: ModernPost): string | undefined {
  const name = message.params?.['name'] ?? message.params?.['uri']
  return typeof name === 'string' ? name : undefined
}
