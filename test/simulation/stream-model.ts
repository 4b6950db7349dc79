/** What the client of a stream may see: each event once, in order, over every connection. Written from wire.md. */

import type { SimEvent } from '../support/sim-exchange.ts'
import type { JsonRpcMessage, RequestId } from '../../src/types.ts'

/** An event that carries a message, as its client first saw it. */
interface Known {
  readonly id: string | undefined
  readonly data: string
}

/** One connection of a stream: where it stands among the events known. */
export interface StreamConnection {
  /** Index of the next event. */
  next: number
  /** The cursor it began with. */
  readonly cursor: string | undefined
  /** Messages it brought. */
  count: number
}

/** What came for one stream over all its connections. */
export class StreamModel {
  /** Every message, in order of position. */
  readonly known: Known[] = []
  /** Every event id the client has, in the order it got them. */
  readonly cursors: string[] = []
  readonly #after = new Map<string, number>()

  /** A connection without a cursor. */
  open(): StreamConnection {
    return { next: this.known.length, cursor: undefined, count: 0 }
  }

  /** A connection that resumes after `cursor`. */
  resume(cursor: string): StreamConnection {
    return { next: this.#after.get(cursor) ?? this.known.length, cursor, count: 0 }
  }

  /** Takes an event. Returns what is wrong with it; `loose` where documented bounds may have trimmed events. */
  take(connection: StreamConnection, event: SimEvent, loose: boolean): string | undefined {
    if (event.data === '') {
      if (event.id !== undefined) this.#remember(event.id, connection.next)
      return undefined
    }
    // Announced in the place of what was trimmed, on this connection only.
    if (event.id === undefined && event.data.includes('/list_changed"')) return undefined
    connection.count += 1
    if (
      loose &&
      event.id !== undefined &&
      this.#after.has(event.id) &&
      event.data.includes('result no longer available')
    ) {
      // It stands where the answer stood that this client had before.
      connection.next = this.#after.get(event.id) ?? connection.next
      return undefined
    }
    const expected = this.known[connection.next]
    if (expected !== undefined) {
      if (expected.data !== event.data || expected.id !== event.id) {
        if (loose) return this.#skip(connection, event)
        const place = this.known.findIndex((known) => known.data === event.data)
        return place < 0
          ? `an event that was not there before stands before known ones (after ${connection.next} of ${this.known.length}): ${event.data}`
          : `event ${place + 1} of ${this.known.length} came where event ${connection.next + 1} was due`
      }
      connection.next += 1
      return undefined
    }
    if (event.id !== undefined && this.#after.has(event.id)) {
      return `the id of an earlier event came again (place ${this.#after.get(event.id)} of ${this.known.length})`
    }
    this.known.push({ id: event.id, data: event.data })
    connection.next = this.known.length
    if (event.id !== undefined) this.#remember(event.id, connection.next)
    return undefined
  }

  /** After a gap: goes on at a later known event, or after all of them. */
  #skip(connection: StreamConnection, event: SimEvent): string | undefined {
    const place = this.known.findIndex((known) => known.id === event.id && known.data === event.data)
    if (place >= 0 && place < connection.next) return 'an earlier event came again'
    connection.next = place >= 0 ? place : this.known.length
    return this.take(connection, event, false)
  }

  #remember(id: string, next: number): void {
    if (this.#after.has(id)) return
    this.#after.set(id, next)
    this.cursors.push(id)
  }
}

/** A message in short, as the truth and the client must agree on it; undefined for what does not belong to a call. */
export function shortOf(message: JsonRpcMessage): string | undefined {
  if ('method' in message) {
    if (message.method === 'notifications/progress') return `progress ${String(message.params?.['progress'])}`
    if (message.method === 'elicitation/create') return `ask ${String(message.params?.['ask'])}`
    return undefined
  }
  return 'response'
}

/**
 * Compares what a client got for one call with what its handler sent.
 * @param got messages for the call, in the order of the stream
 * @param sent what the handler sent, in order
 * @param loose whether events may be missing because a documented bound trimmed them
 * @param unrelatedAsks asks that need not travel on this stream
 */
export function compareCall(
  got: readonly string[],
  sent: readonly string[],
  loose: boolean,
  unrelatedAsks: ReadonlySet<string>,
): string | undefined {
  let place = 0
  for (const item of got) {
    let index = sent.indexOf(item, place)
    // A failure that the transport reports stands in for the response.
    if (index < 0 && item === 'response' && !sent.includes('response')) index = sent.length
    if (index < 0) {
      return sent.includes(item)
        ? `${item} came twice or out of order (${got.join(', ')})`
        : `${item} was never sent (${sent.join(', ')})`
    }
    const skipped = sent.slice(place, index).filter((short) => !unrelatedAsks.has(short))
    if (skipped.length > 0 && !loose)
      return `${skipped.join(', ')} missing before ${item} (got ${got.join(', ')})`
    place = index + 1
  }
  return undefined
}

/** The id of the request that a response answers. */
export function responseId(message: JsonRpcMessage): RequestId | null | undefined {
  return 'method' in message ? undefined : (message.id ?? null)
}
