/** Changes that the author announces from outside any handler: one call reaches the clients of both eras. */

import type { ServerEvent } from '@modelcontextprotocol/server'

import type { Timer } from '../clock.ts'
import { messageOf } from '../errors.ts'
import { isObject } from '../json.ts'
import type { Runtime } from './runtime.ts'
import type { Session } from './session.ts'
import { capabilityOf } from './session-record.ts'

/** How long announcing may go on before the event loop gets a turn, in milliseconds. */
const SLICE = 8

/** What is announced, and how sessions are told. */
interface Announcement {
  readonly event: ServerEvent
  readonly message: string
  /** Whether a session is to hear it. */
  concerns(session: Session): boolean
}

/** Whoever is to hear announcements. */
export interface Audience {
  /** The sessions there are. */
  sessions(): Iterable<Session>
  /** The listeners of the era without sessions. */
  readonly listeners: Iterable<(event: ServerEvent) => void>
}

/**
 * Tells clients that something changed: sessions on their GET stream, or with their next one, and clients of revision 2026-07-28 that
 * listen for it (`subscriptions/listen`). A session hears of what its server declared in its capabilities (`listChanged`), of a resource
 * only when it subscribed. With very many clients the telling is spread over turns of the event loop; an announcement that still waits
 * then is not made twice. After `close()` nothing is told.
 */
export class Announcements {
  readonly #runtime: Runtime
  readonly #audience: Audience
  /** By what they announce, in the order they came; the first may be under way. */
  readonly #waiting = new Map<string, Announcement>()
  #current: Iterator<void> | undefined
  /** Until the next slice. */
  #pause: Timer | undefined
  #closed = false

  /** @internal */
  constructor(runtime: Runtime, audience: Audience) {
    this.#runtime = runtime
    this.#audience = audience
  }

  /** The list of tools changed. */
  toolsChanged(): void {
    this.#announce({ kind: 'tools_list_changed' }, 'notifications/tools/list_changed', lists('tools'))
  }

  /** The list of prompts changed. */
  promptsChanged(): void {
    this.#announce({ kind: 'prompts_list_changed' }, 'notifications/prompts/list_changed', lists('prompts'))
  }

  /** The list of resources changed. */
  resourcesChanged(): void {
    this.#announce(
      { kind: 'resources_list_changed' },
      'notifications/resources/list_changed',
      lists('resources'),
    )
  }

  /**
   * A resource changed; who subscribed to exactly this URI is told.
   * @throws TypeError when `uri` is not a string
   */
  resourceUpdated(uri: string): void {
    if (typeof uri !== 'string') throw new TypeError(`uri must be a string, got ${typeof uri}`)
    this.#announce(
      { kind: 'resource_updated', uri },
      'notifications/resources/updated',
      ({ record }) => record.subscriptions?.has(uri) === true,
      { uri },
    )
  }

  /** @internal The app is closed. */
  close(): void {
    this.#closed = true
    this.#pause?.cancel()
    this.#waiting.clear()
    this.#current = undefined
  }

  #announce(
    event: ServerEvent,
    method: string,
    concerns: Announcement['concerns'],
    params?: Readonly<Record<string, unknown>>,
  ): void {
    if (this.#closed) return
    const message = JSON.stringify({ jsonrpc: '2.0', method, ...(params && { params }) })
    this.#waiting.set(message, { event, message, concerns })
    if (this.#pause === undefined && this.#current === undefined) this.#run()
  }

  #run(): void {
    const { clock } = this.#runtime
    const started = clock.now()
    while (!this.#closed) {
      this.#current ??= this.#takeNext()
      if (this.#current === undefined) return
      if (this.#current.next().done === true) this.#current = undefined
      else if (clock.now() - started > SLICE) {
        this.#pause = clock.setTimer(() => {
          this.#pause = undefined
          this.#run()
        }, 0)
        return
      }
    }
  }

  #takeNext(): Iterator<void> | undefined {
    for (const [key, announcement] of this.#waiting) {
      this.#waiting.delete(key)
      return this.#tell(announcement)
    }
    return undefined
  }

  *#tell({ event, message, concerns }: Announcement): Generator<void> {
    for (const session of this.#audience.sessions()) {
      if (session.state !== 'open' || !concerns(session)) continue
      this.#try(() => session.streams.standalone.notify(message))
      yield
    }
    for (const listener of this.#audience.listeners) {
      this.#try(() => listener(event))
      yield
    }
  }

  #try(tell: () => void): void {
    try {
      tell()
    } catch (thrown) {
      this.#runtime.log.error('an announcement failed', { error: thrown, message: messageOf(thrown) })
    }
  }
}

/** Whether a session's server declared that it announces changes of a list. */
function lists(name: 'tools' | 'prompts' | 'resources'): Announcement['concerns'] {
  return ({ record }) => {
    const capability = capabilityOf(record, name)
    return isObject(capability) && capability['listChanged'] === true
  }
}
