/** A session as it must be, computed from what its client sees on the wire and what the author's handlers do; nothing of the production code. */

import type { FakeCall } from '../support/fake-server.ts'
import type { SimExchange } from '../support/sim-exchange.ts'
import type { Conditions } from './plan.ts'

/** How an exchange bears on the session's clock. */
export type Bearing =
  /** An ordinary request of the owner: a hold when it is accepted, nothing when it is refused. */
  | 'request'
  /** Nothing that wire.md decides: never early counts without it, never late with it. */
  | 'ambiguous'

/** An exchange of the owner with the session's id. */
export interface Held {
  readonly exchange: SimExchange
  bearing: Bearing
  /** Whether it carries a JSON-RPC request other than `ping`, or opens a GET stream: the session is used when it is accepted. */
  readonly uses: boolean
  /** Whether it is `notifications/initialized`. */
  readonly initializes: boolean
  readonly seq: number
}

/** A request that reached a handler. */
export type ModelCall = Pick<FakeCall, 'method' | 'plan' | 'asked' | 'startedAt' | 'endedAt' | 'abortedAt'>

/** The end of a session, as its event told it. */
export interface SessionEnd {
  readonly at: number
  readonly seq: number
  readonly reason: string
}

/** The slack a promise allows: 250 ms. */
export const LATEST = 250

const accepted = (held: Held): boolean => {
  const status = held.exchange.answeredStatus
  return status === 200 || status === 202
}

/** What decides when a session may end. */
export type SessionTimes = Pick<
  Conditions,
  'sessionIdleTimeout' | 'unusedSessionTimeout' | 'handshakeTimeout'
>

/** The model of one session. */
export class SessionModel {
  /** Stands for its id in the history. */
  readonly name: string
  readonly id: string
  /** The tag of its server. */
  readonly tag: string
  readonly client: number
  readonly principal: string | undefined
  readonly version: string
  /** When `initialize` was accepted: its age counts from here, over restarts as well. */
  readonly bornAt: number
  readonly openedAt: number
  readonly held: Held[] = []
  /** Requests that reached a handler. */
  readonly calls: ModelCall[] = []
  end: SessionEnd | undefined
  /** Whether an administrator was told to close it. */
  closedByAdmin = false
  /** Where its first 404 to the owner stands in the history. */
  first404: number | undefined
  readonly #conditions: SessionTimes

  constructor(
    fields: {
      name: string
      id: string
      tag: string
      client: number
      principal: string | undefined
      version: string
      bornAt: number
      openedAt: number
    },
    conditions: SessionTimes,
  ) {
    this.name = fields.name
    this.id = fields.id
    this.tag = fields.tag
    this.client = fields.client
    this.principal = fields.principal
    this.version = fields.version
    this.bornAt = fields.bornAt
    this.openedAt = fields.openedAt
    this.#conditions = conditions
  }

  /** Whether a request other than `ping` or a GET was accepted. */
  get used(): boolean {
    return this.held.some(
      (held) =>
        held.uses && (accepted(held) || (held.exchange.answeredAt === undefined && this.#reached(held))),
    )
  }

  /** Whether `notifications/initialized` was accepted. */
  get initialized(): boolean {
    return this.held.some((held) => held.initializes && accepted(held))
  }

  /** How long it may be idle now, and the reasons it may then end for. */
  get timeout(): { readonly length: number; readonly reasons: readonly string[] } {
    const {
      sessionIdleTimeout: idle,
      unusedSessionTimeout: unused,
      handshakeTimeout: handshake,
    } = this.#conditions
    if (this.used) return { length: idle, reasons: ['idle'] }
    const shorter = this.initialized ? unused : Math.min(unused, handshake)
    if (shorter < idle) return { length: shorter, reasons: ['unused'] }
    if (shorter > idle) return { length: idle, reasons: ['idle'] }
    return { length: idle, reasons: ['idle', 'unused'] }
  }

  /** What holds it now for certain; undefined when nothing does. What is aborted `now` may be so by the session's own end. */
  holder(now: number = Number.POSITIVE_INFINITY): string | undefined {
    for (const held of this.held) {
      if (held.bearing === 'ambiguous' || held.exchange.closedAt !== undefined) continue
      if (held.exchange.answeredAt === undefined) {
        // The end of the connection is told a moment later; a call that was accepted is found among those that run.
        if (held.exchange.outcome === 'dropped') continue
        return `an unanswered ${held.exchange.method}`
      }
      if (accepted(held)) return `an open ${held.exchange.method}`
    }
    const running = this.running(now)
    return running === undefined ? undefined : `a running ${running.method} ${running.plan?.tag ?? ''}`
  }

  /** A call that runs, or did until `now`. */
  running(now: number = Number.POSITIVE_INFINITY): ModelCall | undefined {
    return this.calls.find((call) => call.endedAt === undefined && (call.abortedAt ?? now) >= now)
  }

  /** Whether anything may hold it now. */
  maybeHeld(): boolean {
    return this.holder() !== undefined || this.held.some((held) => held.exchange.closedAt === undefined)
  }

  /** When its last hold ended: `certain` is the earliest it can be, `latest` counts what is ambiguous too. */
  lastHoldEnd(): { readonly certain: number; readonly latest: number } {
    let certain = this.openedAt
    let latest = this.openedAt
    for (const held of this.held) {
      const { closedAt, answeredAt } = held.exchange
      if (closedAt === undefined) continue
      const unsure = held.bearing === 'ambiguous' || answeredAt === undefined
      if (unsure || accepted(held)) latest = Math.max(latest, closedAt)
      if (!unsure && accepted(held)) certain = Math.max(certain, closedAt)
    }
    for (const call of this.calls) {
      const end = Math.min(
        call.endedAt ?? Number.POSITIVE_INFINITY,
        call.abortedAt ?? Number.POSITIVE_INFINITY,
      )
      if (end === Number.POSITIVE_INFINITY) continue
      certain = Math.max(certain, end)
      latest = Math.max(latest, end)
    }
    return { certain, latest }
  }

  /** When it must have ended if nothing more happens, but for the 250 ms; undefined while it is held or when it never has to. */
  due(): number | undefined {
    if (this.maybeHeld()) return undefined
    const { length } = this.timeout
    if (length === Number.POSITIVE_INFINITY) return undefined
    let due = this.lastHoldEnd().latest + length
    // A request that is refused in the end delays expiry while it is looked at, and only then.
    const looks = this.held
      .filter((held) => !accepted(held))
      .sort((a, b) => a.exchange.startedAt - b.exchange.startedAt)
    for (const { exchange } of looks) {
      if (exchange.startedAt <= due && (exchange.closedAt ?? 0) > due) due = exchange.closedAt ?? due
    }
    return due
  }

  /** When it ends by its timeout, as far as its client can tell; for planning requests around that moment. */
  expectedEnd(): number | undefined {
    if (this.end !== undefined || this.holder() !== undefined) return undefined
    return this.lastHoldEnd().certain + this.timeout.length
  }

  #reached(held: Held): boolean {
    return this.calls.some((call) => call.startedAt >= held.exchange.startedAt)
  }
}
