/** One request or notification without a handshake, from its admission to the end of its exchange. */

import { CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY } from '@modelcontextprotocol/server'

import { DeadlineCall } from '../deadlines.ts'
import { messageOf } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import type { ModernPost } from '../http/era.ts'
import { Validity } from '../stream/validity.ts'
import { isObject } from '../json.ts'
import type { RequestOutcome } from '../session/events.ts'
import type { Caller } from '../session/http-front.ts'
import { callFactory } from '../session/instance.ts'
import type { Refusal } from '../session/refusal.ts'
import { NOT_CREATED, TOKEN_EXPIRED, TOOK_TOO_LONG } from '../session/refusals.ts'
import type { Runtime } from '../session/runtime.ts'
import type { Answer } from './answer.ts'
import type { AnswerStream } from './answer-stream.ts'
import { type InstancePool, PooledInstance } from './instance-pool.ts'
import { RequestContext } from './request-context.ts'
import type { RequestTransport } from './request-transport.ts'
import { ServerLease } from './server-lease.ts'

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
  /** What becomes of it, once it is handed over. */
  answer: Answer | undefined
  /** Between it and its server, once they are connected. */
  transport: RequestTransport | undefined
  readonly #runtime: Runtime
  readonly #pool: InstancePool | undefined
  /** Of a server of its own. */
  readonly #context: RequestContext | undefined
  #building: Promise<ServerLease | undefined> | undefined
  #giveUpBuilding: (() => void) | undefined
  #lease: ServerLease | undefined
  /** Whether its server may serve others: it did what it was asked to, and nothing else happened. */
  #reusable = false
  #spoiled = false
  #stopped = false
  #started: number | undefined
  #announced = false
  #ended = false
  #validity: Validity | undefined

  constructor(runtime: Runtime, exchange: Exchange, caller: Caller, post: ModernPost, pool?: InstancePool) {
    this.#runtime = runtime
    this.exchange = exchange
    this.caller = caller
    this.post = post
    this.listens = post.message.method === LISTEN
    this.#pool = pool
    this.#context =
      pool === undefined
        ? new RequestContext(exchange, caller, post, runtime.options.maxSessionDataSize)
        : undefined
  }

  /** Whether something ended it before its answer did. */
  get stopped(): boolean {
    return this.#stopped
  }

  /** The author's server, built when first asked for; undefined when there will be none, with the reason in `refusal`. Never rejects. */
  server(): Promise<ServerLease | undefined> {
    this.#building ??= this.#build()
    return this.#building
  }

  /** The request is handed over; from here on it counts as running. */
  start(): void {
    const { clock, hub, load } = this.#runtime
    this.#started = clock.now()
    if (!this.listens) load.started()
    else this.#watchToken()
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
    this.#validity?.stop()
    if (this.#ended) return
    this.#ended = true
    this.#context?.end()
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

  /** The server did its part; `well` when it may do so for others. */
  answered(well: boolean): void {
    this.#reusable = well
  }

  /** Its server is not what it was: nobody else gets it. */
  spoil(): void {
    this.#spoiled = true
  }

  /** The server is not needed any more, or never was taken. */
  letServerGo(): void {
    this.#context?.instanceLetGo()
    this.#releaseServer()
  }

  /** The client went away: closing the response is cancellation (transports, 2026-07-28). */
  cancel(): void {
    this.stream?.stop()
    this.stop()
  }

  /** Ends the call, and with it a stream of announcements, whose client is told why. */
  dismiss(refusal: Refusal): void {
    this.refusal ??= refusal
    this.stream?.stop()
    this.stop()
  }

  /** Ends the call from our side. */
  stop(refusal?: Refusal): void {
    if (this.#stopped) return
    this.#stopped = true
    this.refusal ??= refusal
    this.#giveUpBuilding?.()
    // Those who listen are told by the official handler, whose stream ends by itself.
    if (this.stream === undefined || !this.listens) this.answer?.disconnected()
    this.#releaseServer()
  }

  /** Who listens hears what happens after the token expired; who only called gets the answer. */
  #watchToken(): void {
    const { clock, deadlines } = this.#runtime
    const { validUntil, closed } = this.exchange
    if (validUntil === undefined || closed) return
    this.#validity = new Validity(deadlines, clock, validUntil, () => this.dismiss(TOKEN_EXPIRED))
  }

  #build(): Promise<ServerLease | undefined> {
    const pool = this.#pool
    if (pool === undefined) return this.#built(() => this.#ownServer())
    const { principal } = this.caller
    const lent = this.#mayShare() ? pool.take(principal) : undefined
    if (lent === undefined) return this.#built(() => pool.build(principal))
    this.#lease = lent
    return Promise.resolve(lent)
  }

  async #ownServer(): Promise<ServerLease> {
    return new ServerLease(await callFactory(this.#runtime, this.#context as RequestContext))
  }

  /**
   * Whether its server may have served others before, and may serve others after it. The SDK keeps what a request says of its client until
   * the next one says something else, so each has to; and nobody tells when the handler of a notification is done.
   */
  #mayShare(): boolean {
    const { authInfo, principal } = this.caller
    if (this.post.id === null || (authInfo !== undefined && principal === undefined)) return false
    const meta = this.post.message.params?.['_meta']
    return (
      isObject(meta) && isObject(meta[CLIENT_INFO_META_KEY]) && isObject(meta[CLIENT_CAPABILITIES_META_KEY])
    )
  }

  #built(build: () => Promise<ServerLease>): Promise<ServerLease | undefined> {
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
      build().then(
        (lease) => {
          this.#lease = lease
          // Whoever asked may have gone while the factory worked.
          if (this.#stopped) return this.#releaseServer()
          deadlines.disarm(timeout)
          this.#giveUpBuilding = undefined
          resolve(lease)
        },
        (thrown: unknown) => {
          // The client is not told what the author's code says; the log is.
          log.error('createServer failed', { error: thrown, message: messageOf(thrown) })
          this.stop(NOT_CREATED)
        },
      )
    })
  }

  /** A server of its own is closed. One of the pool is disconnected, and goes back to it when nothing happened to it. */
  #releaseServer(): void {
    const lease = this.#lease
    this.#lease = undefined
    if (lease === undefined) return
    lease.onConnect = undefined
    if (!(lease instanceof PooledInstance)) {
      lease.close(this.#runtime)
      // A server that forgets its transport must not keep its handlers waiting.
      this.transport?.close()
      return
    }
    disconnect(this.transport)
    const shared = this.#reusable && !this.#spoiled && !this.#stopped && this.#mayShare()
    if (shared && this.#pool !== undefined) this.#pool.give(lease)
    else lease.discard(this.#runtime)
  }
}

/** Ends a connection. The SDK makes an error of each end, for whoever still waits: its stack would be the dearest part of it, and says nothing. */
function disconnect(transport: RequestTransport | undefined): void {
  const { stackTraceLimit } = Error
  if (Object.isFrozen(Error)) return void transport?.close()
  Error.stackTraceLimit = 0
  try {
    transport?.close()
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}

/** Which tool, prompt or resource a request is about, for people. */
function targetOf({ message }: ModernPost): string | undefined {
  const name = message.params?.['name'] ?? message.params?.['uri']
  return typeof name === 'string' ? name : undefined
}
