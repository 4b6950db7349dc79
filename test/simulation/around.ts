/** What a simulated client sees of the world around it. */

import type { AuthInfo } from '../../src/types.ts'
import type { FakeCall, FakeServer } from '../support/fake-server.ts'
import type { SimExchange, SimRequest } from '../support/sim-exchange.ts'
import type { VirtualClock } from '../support/virtual-clock.ts'
import type { AuthorPlan, ClientPlan, Conditions, ConnectionPlan } from './plan.ts'
import type { Recorder } from './record.ts'
import type { Held, SessionModel } from './session-model.ts'

/** A client, as the world sees it. */
export interface Actor {
  readonly index: number
  readonly plan: ClientPlan
  /** The time it was to act at, while it acts; later than that by a blocked event loop only. */
  readonly wokenFor: number | undefined
}

/** What the checker notes of an exchange. */
export interface ExchangeNote {
  readonly number: number
  readonly seq: number
  readonly client: Actor
  readonly kind: string
  readonly exchange: SimExchange
  /** The owner's session that it names. */
  readonly session: SessionModel | undefined
  /** When its client sent it; the server may have read it later. */
  readonly sentAt: number
  /** When its body is complete. */
  readonly bodyAt: number
  /** Statuses with which it may be refused although the session lives. */
  readonly refusals: readonly number[]
  /** Whether its client stopped reading, vanished or dropped it. */
  disturbed: boolean
}

/** What a client says of an exchange it makes. */
export interface SendOptions {
  readonly kind: string
  readonly session?: SessionModel | undefined
  readonly connection?: ConnectionPlan | undefined
  readonly refusals?: readonly number[]
  readonly bearing?: Held['bearing']
  readonly uses?: boolean
  readonly initializes?: boolean
  /** In short, for the history. */
  readonly detail?: string
}

/** The world, as its clients see it. */
export interface Surroundings {
  readonly conditions: Conditions
  readonly clock: VirtualClock
  readonly recorder: Recorder
  readonly manager: {
    readonly sessions: {
      close(id: string): unknown
      get(id: string): { notify(method: string, params?: Record<string, unknown>): unknown } | undefined
    }
  }
  readonly clients: readonly (Actor & Victim)[]
  /** Sessions by id. */
  readonly models: ReadonlyMap<string, SessionModel>
  readonly exchanges: readonly ExchangeNote[]
  /** When the drain began. */
  readonly shutdownAt: number | undefined
  expectOpening(name: string, client: Actor, author: AuthorPlan): void
  noteOpening(name: string, note: ExchangeNote): void
  call(tag: string): FakeCall | undefined
  /** How long the event loop was blocked between two times, or around them. */
  stalledBetween(from: number, to: number): number
  /** The server of a session that is awake. */
  serverOf(session: SessionModel): FakeServer | undefined
  nextTag(): string
  send(client: Actor, request: SimRequest, options: SendOptions): ExchangeNote
  drop(note: ExchangeNote): void
}

/** What a thief may have got hold of. */
export interface Victim {
  readonly session: SessionModel | undefined
  /** An event id that it was given. */
  aCursor(): string | undefined
  /** The id of one of its running calls. */
  aCallId(): string | number | undefined
}

/** The authentication of a principal; its token may be a newer one. */
export function authInfoOf(principal: string | undefined, token: number): AuthInfo | undefined {
  if (principal === undefined) return undefined
  return {
    token: `token-${principal}-${token}`,
    clientId: 'one client for all',
    scopes: [],
    extra: { iss: 'https://issuer.example', sub: principal },
  }
}

/** What the production code is expected to call a principal: a fixed function given as its option, so that the checker need not know the default. */
export function principalOf(principal: string | undefined): string | undefined {
  return principal === undefined ? undefined : `principal ${principal}`
}
