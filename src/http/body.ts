/** Request bodies: collected within a bound and a deadline, decoded as strict UTF-8 and JSON. */

import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import type { Clock, Timer } from '../clock.ts'
import type { BodyResult } from './exchange.ts'

/** What {@link decodeJson} makes of a body. */
export type DecodedJson =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly reason: 'utf8' | 'json' }

const strictDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Decodes a body as JSON. Bytes that are not UTF-8 are refused, not replaced; a byte order mark is not JSON (RFC 8259 §8.1). */
export function decodeJson(bytes: Uint8Array): DecodedJson {
  const text = decodeUtf8(bytes)
  if (text === undefined) return { ok: false, reason: 'utf8' }
  try {
    return { ok: true, value: JSON.parse(text) }
  } catch {
    return { ok: false, reason: 'json' }
  }
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  // Node's lenient decoder is faster than the strict one, and leaves a mark (U+FFFD) where it replaced something. Only a text that has
  // the mark, rarely sent on purpose, needs the strict look.
  if (typeof Buffer !== 'undefined') {
    const buffer =
      bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const text = buffer.toString('utf8')
    if (!text.includes('\ufffd')) return text
  }
  try {
    return strictDecoder.decode(bytes)
  } catch {
    return undefined
  }
}

const EMPTY = new Uint8Array(0)
/** Where the growing buffer for a body of several chunks begins, in bytes. */
const FIRST_CAPACITY = 16 * 1024

/**
 * Reads the whole body of a Node request. After a failure the stream is paused where it stands and nothing more is read: the caller
 * answers (413, 408) and closes the connection. No listener or timer of it remains.
 *
 * @param limit most bytes; a larger `Content-Length` is refused before anything is read
 * @param timeout milliseconds from now; `Infinity` for no deadline
 * @param onBody called once, later than this returns
 */
export function collectBody(
  stream: Readable | IncomingMessage,
  limit: number,
  timeout: number,
  clock: Clock,
  onBody: (body: BodyResult) => void,
): void {
  const declared = declaredLength(stream)
  // A small body is in the same read from the socket as its head. By the next tick Node has parsed the body in that read (though not
  // yet marked the message complete): then there is nothing to wait for, and neither listeners nor a timer are needed.
  process.nextTick(takeOrCollect, stream, limit, declared, clock.now() + timeout, clock, onBody)
}

function takeOrCollect(
  stream: Readable | IncomingMessage,
  limit: number,
  declared: number | undefined,
  due: number,
  clock: Clock,
  onBody: (body: BodyResult) => void,
): void {
  const here =
    declared !== undefined && declared > limit ? 'too-large' : takeComplete(stream, limit, declared)
  if (here === undefined) new BodyCollector(stream, limit, declared, due, clock, onBody).begin()
  else onBody(here)
}

/** The body when it is already here; undefined when it is not. */
function takeComplete(
  stream: Readable | IncomingMessage,
  limit: number,
  declared: number | undefined,
): BodyResult | undefined {
  if (stream.readableEnded) return EMPTY
  if (stream.destroyed) return 'aborted'
  if (stream.readableFlowing || stream.readableEncoding !== null) return undefined
  const length = stream.readableLength
  if (length !== declared && !('complete' in stream && stream.complete)) return undefined
  if (length > limit) return 'too-large'
  const bytes = stream.read() as Uint8Array | null
  // Lets the stream reach its end: Node's server keeps a request that has not ended until the next one on the connection.
  stream.resume()
  return bytes ?? EMPTY
}

/**
 * A body that arrives in pieces: the only piece itself, or a buffer that grows. A list of pieces would let a million of one byte cost
 * us a hundred each.
 */
export class GrowingBytes {
  readonly #limit: number
  readonly #most: number
  #bytes: Uint8Array = EMPTY
  #length = 0

  /** At most `limit` bytes; `declared` is how many the peer announced, where it did. */
  constructor(limit: number, declared: number | undefined) {
    this.#limit = limit
    this.#most = declared ?? limit
  }

  /** Adds a piece; false, and nothing added, when it would be more than the limit. */
  add(piece: Uint8Array): boolean {
    const length = this.#length + piece.length
    if (length > this.#limit) return false
    if (this.#length === 0) {
      this.#bytes = piece
    } else {
      if (length > this.#bytes.length) this.#grow(length)
      this.#bytes.set(piece, this.#length)
    }
    this.#length = length
    return true
  }

  /** What was added; nothing is kept. */
  take(): Uint8Array {
    const bytes = this.#bytes.length === this.#length ? this.#bytes : this.#bytes.subarray(0, this.#length)
    this.#bytes = EMPTY
    this.#length = 0
    return bytes
  }

  /** Doubles the capacity, so that the copying stays proportional to the body. */
  #grow(needed: number): void {
    const capacity = Math.max(needed, Math.min(Math.max(FIRST_CAPACITY, needed * 2), this.#most))
    const grown = new Uint8Array(capacity)
    grown.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = grown
  }
}

/** Collects what arrives over time. */
class BodyCollector {
  readonly #stream: Readable
  readonly #bytes: GrowingBytes
  readonly #due: number
  readonly #clock: Clock
  readonly #onBody: (body: BodyResult) => void
  #timer: Timer | undefined

  constructor(
    stream: Readable,
    limit: number,
    declared: number | undefined,
    due: number,
    clock: Clock,
    onBody: (body: BodyResult) => void,
  ) {
    this.#stream = stream
    this.#bytes = new GrowingBytes(limit, declared)
    this.#due = due
    this.#clock = clock
    this.#onBody = onBody
  }

  begin(): void {
    const stream = this.#stream
    stream.on('end', this.#onEnd).on('error', this.#onGone).on('close', this.#onGone)
    stream.on('data', this.#onData)
    // Listening for data starts the flow, except of a stream that middleware has paused.
    stream.resume()
    this.#arm()
  }

  readonly #onData = (chunk: Uint8Array | string): void => {
    const bytes = typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk
    if (!this.#bytes.add(bytes)) this.#settle('too-large')
  }

  readonly #onEnd = (): void => {
    this.#settle(this.#bytes.take())
  }

  readonly #onGone = (): void => {
    this.#settle('aborted')
  }

  #arm(): void {
    if (this.#due === Infinity) return
    // A timer may come early (see Clock.setTimer): compare and arm again.
    const left = this.#due - this.#clock.now()
    this.#timer = this.#clock.setTimer(() => {
      this.#timer = undefined
      if (this.#clock.now() < this.#due) this.#arm()
      else this.#settle('timeout')
    }, left)
  }

  #settle(body: BodyResult): void {
    const stream = this.#stream
    stream
      .off('data', this.#onData)
      .off('end', this.#onEnd)
      .off('error', this.#onGone)
      .off('close', this.#onGone)
    this.#timer?.cancel()
    this.#timer = undefined
    if (typeof body === 'string') {
      stream.pause()
      this.#bytes.take()
    }
    this.#onBody(body)
  }
}

function declaredLength(stream: Readable | IncomingMessage): number | undefined {
  const header = 'headers' in stream ? stream.headers['content-length'] : undefined
  if (header === undefined) return undefined
  const length = Number(header)
  return Number.isSafeInteger(length) && length >= 0 ? length : undefined
}
