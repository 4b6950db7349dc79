/** SSE frames, read back with a parser that is not ours. */

import { createParser, type EventSourceMessage } from 'eventsource-parser'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SSE_HEADERS, SSE_KEEPALIVE, sseEvent, ssePriming, sseRetry } from '../../src/stream/sse.ts'

interface Read {
  events: EventSourceMessage[]
  retries: number[]
  comments: string[]
  errors: unknown[]
}

/** What a client reads when the text arrives in pieces of the given lengths, over and over. */
function read(frames: string, lengths: number[] = [frames.length + 1]): Read {
  const result: Read = { events: [], retries: [], comments: [], errors: [] }
  const parser = createParser({
    onEvent: (event) => result.events.push(event),
    onRetry: (ms) => result.retries.push(ms),
    onComment: (comment) => result.comments.push(comment),
    onError: (error) => result.errors.push(error),
  })
  for (let start = 0, turn = 0; start < frames.length; turn++) {
    const end = start + Math.max(1, lengths[turn % lengths.length] ?? 1)
    parser.feed(frames.slice(start, end))
    start = end
  }
  return result
}

test('frames stand on the wire like this', () => {
  expect(sseEvent('{}', 'a-1')).toBe('event: message\nid: a-1\ndata: {}\n\n')
  expect(sseEvent('{}')).toBe('event: message\ndata: {}\n\n')
  expect(ssePriming('a-0', 3000)).toBe('id: a-0\nretry: 3000\ndata: \n\n')
  expect(sseRetry(500)).toBe('retry: 500\n\n')
  expect(SSE_KEEPALIVE).toBe(': keepalive\n\n')
  expect(SSE_HEADERS).toEqual({
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-cache, no-transform',
    'X-Accel-Buffering': 'no',
  })
})

describe('read back', () => {
  // What JSON text and ids are made of, with what parsers stumble over.
  const awkward = fc.constantFrom(
    '\u2028',
    '\u2029',
    '\u0085',
    '\0',
    '\ufeff',
    ' ',
    ':',
    'data: ',
    'id: x',
    'event:',
    '\t',
    '😀',
    '\ud800',
    '{"a":1}',
  )
  const chars = fc
    .array(fc.oneof(awkward, fc.string({ unit: 'binary' })), { maxLength: 8 })
    .map((all) => all.join(''))
  const data = chars.map((value) => value.replace(/[\r\n]/g, ''))
  const ids = chars.map((value) => value.replace(/[\r\n\0]/g, ''))
  const pieces = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 })

  test('every event arrives whole and in order, however the bytes are cut', () => {
    const events = fc.array(fc.tuple(data, fc.option(ids, { nil: undefined })), { maxLength: 6 })
    fc.assert(
      fc.property(events, pieces, (all, lengths) => {
        const frames = all.map(([value, id]) => sseEvent(value, id) + SSE_KEEPALIVE).join('')
        const result = read(frames, lengths)
        expect(result.events).toEqual(all.map(([value, id]) => ({ data: value, id, event: 'message' })))
        expect(result.errors).toEqual([])
        expect(result.comments).toEqual(all.map(() => 'keepalive'))
      }),
    )
  })

  test('whatever JSON.stringify makes comes back as the same value', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string({ unit: 'binary' }), (value, key) => {
        const message = { [`k${key}`]: value, text: `${key}\r\n\n\u2028` }
        const [event] = read(sseEvent(JSON.stringify(message), 'i')).events
        expect(JSON.parse(event?.data ?? '')).toEqual(JSON.parse(JSON.stringify(message)))
      }),
    )
  })

  test('raw line breaks become \\n and never a field of their own', () => {
    const broken = fc.array(
      fc.constantFrom('a', '\r', '\n', '\r\n', 'id: evil', 'event: evil', 'retry: 1', ''),
      { maxLength: 8 },
    )
    fc.assert(
      fc.property(broken, (parts) => {
        const value = parts.join('')
        expect(read(sseEvent(value, 'i'))).toEqual({
          events: [{ data: value.replace(/\r\n|\r/g, '\n'), id: 'i', event: 'message' }],
          retries: [],
          comments: [],
          errors: [],
        })
      }),
    )
  })

  test('priming gives an id, a delay and no content', () => {
    expect(read(ssePriming('p', 3000))).toEqual({
      events: [{ data: '', id: 'p', event: undefined }],
      retries: [3000],
      comments: [],
      errors: [],
    })
  })

  test('hints and keep-alives are no events', () => {
    expect(read(sseRetry(0) + SSE_KEEPALIVE)).toEqual({
      events: [],
      retries: [0],
      comments: ['keepalive'],
      errors: [],
    })
  })

  test('a delay is written in digits only', () => {
    expect(read(sseRetry(2.6) + sseRetry(-5)).retries).toEqual([3, 0])
    expect(read(sseRetry(1e21) + ssePriming('a', Number.POSITIVE_INFINITY)).retries).toEqual([
      Number.MAX_SAFE_INTEGER,
      Number.MAX_SAFE_INTEGER,
    ])
  })
})

test.each(['a\nb', 'a\rb', 'a\0b', '\n'])('the id %j is a RangeError, not a broken frame', (id) => {
  expect(() => sseEvent('{}', id)).toThrow(RangeError)
  expect(() => ssePriming(id, 1)).toThrow(RangeError)
})
