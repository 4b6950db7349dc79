/** Server-sent events on the wire: how messages, priming events, hints and keep-alives are framed (WHATWG HTML §9.2). */

import type { ResponseHeaders } from '../http/exchange.ts'

/** The header fields of every event stream: not cached, not transformed, not held back by nginx. */
export const SSE_HEADERS: ResponseHeaders = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-cache, no-transform',
  'X-Accel-Buffering': 'no',
}

/** A comment: readers skip it, balancers see traffic. */
export const SSE_KEEPALIVE = ': keepalive\n\n'

/**
 * One event that carries a message. JSON never holds a raw line break; other data is split at each, and read back with `\n` for it.
 *
 * @param id becomes the reader's `Last-Event-ID`; must not contain CR, LF or NUL, which no event id can carry
 * @throws RangeError for an id that would break the framing
 */
export function sseEvent(data: string, id?: string): string {
  if (id === undefined) return `event: message\ndata: ${dataLines(data)}\n\n`
  return `event: message\nid: ${checkedId(id)}\ndata: ${dataLines(data)}\n\n`
}

/** An event without content that gives the reader an id to resume from before anything else was sent (MCP 2025-11-25). */
export function ssePriming(id: string, retryMs: number): string {
  return `id: ${checkedId(id)}\nretry: ${wholeMs(retryMs)}\ndata: \n\n`
}

/** Tells the reader how many milliseconds to wait before it reconnects. */
export function sseRetry(ms: number): string {
  return `retry: ${wholeMs(ms)}\n\n`
}

function dataLines(data: string): string {
  // Two searches by a single character are several times faster than one regular expression over a large message.
  if (!data.includes('\n') && !data.includes('\r')) return data
  return data.replace(/\r\n|\r|\n/g, '\ndata: ')
}

function checkedId(id: string): string {
  if (id.includes('\n') || id.includes('\r') || id.includes('\0')) {
    throw new RangeError(`an event id cannot contain CR, LF or NUL, got ${JSON.stringify(id)}`)
  }
  return id
}

// Readers ignore a `retry` that is not all digits, as JavaScript writes numbers from 10²¹ on.
function wholeMs(ms: number): number {
  return Math.min(Math.max(0, Math.round(ms)), Number.MAX_SAFE_INTEGER)
}
