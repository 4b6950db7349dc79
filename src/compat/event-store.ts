/** An `EventStore` of the official SDKs as an event log: for those who have one already. */

import { createHash } from 'node:crypto'

import { type Clock, systemClock } from '../clock.ts'
import type { EventLog, EventLogPage, LoggedEvent } from '../stream/event-log.ts'

/**
 * Structurally the `EventStore` of both official SDKs.
 *
 * What it has no words for cannot be done through {@link fromEventStore} either:
 * - **forget**: there is no call that deletes. When a session ends only the ids are let go; the store's own bounds or expiry are all that
 *   frees the events. The options `eventLogMax…` do not apply;
 * - **tell what it has trimmed**: an event that was stored and is not replayed counts as trimmed, and a client that comes for an answer
 *   that is gone gets an error in its place. A store that rejects is taken to be out of order: the connection is cut, and the client may
 *   come again;
 * - **outlive the process**: the ids are kept in memory, as sessions are.
 */
export interface SdkEventStore {
  /** Stores a message of a stream; gives the id it can be replayed from. */
  // oxlint-disable-next-line typescript/no-explicit-any -- v1 and v2 name different message types; stores of either must fit
  storeEvent(streamId: string, message: any): Promise<string>
  /** Sends what was stored after an event, of the same stream; gives the id of that stream. */
  replayEventsAfter(
    lastEventId: string,
    // oxlint-disable-next-line typescript/no-explicit-any -- as above
    receiver: { send: (eventId: string, message: any) => Promise<void> },
  ): Promise<string>
  /** Never asked: which stream an event is of is known here. */
  getStreamIdForEventId?(eventId: string): Promise<string | undefined>
}

/** Options of {@link fromEventStore}. */
export interface EventStoreOptions {
  /** Event ids remembered per session; default 1,000. What was stored before those counts as trimmed. */
  maxEvents?: number
  /** Where time comes from; default the system's. */
  clock?: Clock
}

/** The bytes of the hash in a stream id: nobody finds two sessions with the same. */
const HASH_BYTES = 16

/** How much later than its origin the first event of a stream is stored at least, in milliseconds. */
const ORIGIN_LEAD = 2

/** The id that the store gave to an event. */
interface Entry {
  readonly stream: StreamPositions
  readonly position: number
  readonly id: string
}

interface StreamPositions {
  /** What the store is told as `streamId`. */
  readonly name: string
  /** The id of the empty event that the stream starts with: there is no other way to ask a store for its first event. */
  origin: string | undefined
  /** In the order of positions. */
  readonly entries: Map<string, Entry>
  /** Highest position whose id is not remembered any more. */
  trimmed: number
  /** The id at that position. */
  floor: string | undefined
  /** Resolves when the append before has settled: ids must come in the order of positions. */
  turn: Promise<unknown>
}

interface SessionPositions {
  readonly streams: Map<number, StreamPositions>
  /** Over all streams, oldest first. */
  readonly entries: Set<Entry>
}

/**
 * Lets an `EventStore` written for an official SDK keep the events of sessions: `httpApp(createServer, { eventLog: fromEventStore(store) })`.
 * One store may serve several apps, each with an adapter of its own or all with the same.
 *
 * A store knows streams and not sessions. Therefore each stream has a name made of a hash of its session's id and its number, which
 * consists of hexadecimal digits and one `-`; cursors that clients hold are our own, and are looked up among those of their session; and
 * what a store replays that is not of the stream asked for is left out. So no cursor reaches another session's events, whatever the store
 * does. The same holds for their order.
 *
 * What such a store cannot do, see {@link SdkEventStore}. Every promise of the store must settle. As with the SDKs, each stream starts
 * with an event whose message is `{}`. The first message after it waits 2 ms: the `InMemoryEventStore` of the SDKs' examples orders what
 * was stored in the same millisecond by chance.
 *
 * @throws TypeError when the store lacks a method, RangeError when `maxEvents` is not a positive whole number
 */
export function fromEventStore(store: SdkEventStore, options: EventStoreOptions = {}): EventLog {
  const { maxEvents = 1000, clock = systemClock } = options
  if (typeof store?.storeEvent !== 'function' || typeof store.replayEventsAfter !== 'function') {
    throw new TypeError(
      'fromEventStore takes an EventStore of an official SDK, with the methods storeEvent and replayEventsAfter',
    )
  }
  if (!Number.isSafeInteger(maxEvents) || maxEvents < 1) {
    throw new RangeError(`maxEvents must be a whole number, at least 1, got ${String(maxEvents)}`)
  }
  return new EventStoreLog(store, maxEvents, clock)
}

class EventStoreLog implements EventLog {
  readonly #store: SdkEventStore
  readonly #maxEvents: number
  readonly #clock: Clock
  readonly #sessions = new Map<string, SessionPositions>()

  constructor(store: SdkEventStore, maxEvents: number, clock: Clock) {
    this.#store = store
    this.#maxEvents = maxEvents
    this.#clock = clock
  }

  append(session: string, stream: number, position: number, data: string): Promise<void> {
    const positions = this.#open(session)
    const to = openStream(positions, session, stream)
    const turn = to.turn.then(async () => {
      if (to.origin === undefined) {
        to.origin = await this.#store.storeEvent(to.name, {})
        await this.#wait(ORIGIN_LEAD)
      }
      const id = await this.#store.storeEvent(to.name, JSON.parse(data))
      // Dropped meanwhile: an id kept now would be kept for ever.
      if (positions.streams.get(stream) === to) this.#remember(positions, { stream: to, position, id })
    })
    // One that failed is told to whoever appended; those after it have their own.
    to.turn = turn.catch(() => {})
    return turn
  }

  async read(session: string, stream: number, after: number): Promise<EventLogPage> {
    const from = this.#sessions.get(session)?.streams.get(stream)
    if (from === undefined) return { events: [], trimmed: 0 }
    const { trimmed, origin } = from
    const wanted = new Map<string, number>()
    let start = from.floor ?? origin
    for (const { position, id } of from.entries.values()) {
      if (position > after) wanted.set(id, position)
      else start = id
    }
    const found = new Map<number, string>()
    await this.#replay(start, wanted, found)
    // Stores that order by chance what came in the same millisecond leave some out; from the origin they do not.
    if (found.size < wanted.size && start !== origin) await this.#replay(origin, wanted, found)
    const missing = [...wanted.values()].filter((position) => !found.has(position))
    const events: LoggedEvent[] = [...found].map(([position, data]) => ({ position, data }))
    return { events: events.sort((a, b) => a.position - b.position), trimmed: Math.max(trimmed, ...missing) }
  }

  dropStream(session: string, stream: number): void {
    const positions = this.#sessions.get(session)
    const dropped = positions?.streams.get(stream)
    if (positions === undefined || dropped === undefined) return
    positions.streams.delete(stream)
    for (const entry of dropped.entries.values()) positions.entries.delete(entry)
    if (positions.streams.size === 0) this.#sessions.delete(session)
  }

  dropSession(session: string): void {
    this.#sessions.get(session)?.streams.clear()
    this.#sessions.delete(session)
  }

  close(): void {
    for (const session of [...this.#sessions.keys()]) this.dropSession(session)
  }

  #open(session: string): SessionPositions {
    let positions = this.#sessions.get(session)
    if (positions === undefined) {
      positions = { streams: new Map(), entries: new Set() }
      this.#sessions.set(session, positions)
    }
    return positions
  }

  #remember(positions: SessionPositions, entry: Entry): void {
    entry.stream.entries.set(entry.id, entry)
    positions.entries.add(entry)
    if (positions.entries.size <= this.#maxEvents) return
    for (const oldest of positions.entries) {
      positions.entries.delete(oldest)
      oldest.stream.entries.delete(oldest.id)
      oldest.stream.trimmed = oldest.position
      oldest.stream.floor = oldest.id
      break
    }
  }

  /** Adds what the store has after an event, as far as it is wanted. */
  async #replay(
    start: string | undefined,
    wanted: ReadonlyMap<string, number>,
    found: Map<number, string>,
  ): Promise<void> {
    if (start === undefined || wanted.size === 0) return
    await this.#store.replayEventsAfter(start, {
      send: async (id, message) => {
        const position = wanted.get(id)
        if (position !== undefined) found.set(position, JSON.stringify(message))
      },
    })
  }

  #wait(delay: number): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.setTimer(resolve, delay)
    })
  }
}

function openStream({ streams }: SessionPositions, session: string, number: number): StreamPositions {
  let stream = streams.get(number)
  if (stream === undefined) {
    // No `_`, at which the store of the SDKs' examples cuts its ids apart.
    const hash = createHash('sha256').update(`sojourn-store:${session}`).digest().subarray(0, HASH_BYTES)
    stream = {
      name: `${hash.toString('hex')}-${number}`,
      origin: undefined,
      entries: new Map(),
      trimmed: 0,
      floor: undefined,
      turn: Promise.resolve(),
    }
    streams.set(number, stream)
  }
  return stream
}
