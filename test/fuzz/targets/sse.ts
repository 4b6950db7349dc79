/** SSE: what is framed here is read by a parser that is not ours. */

import { createParser } from 'eventsource-parser'

import { SSE_KEEPALIVE, sseEvent, ssePriming, sseRetry } from '../../../src/stream/sse.ts'
import { must, utf8, type Target } from '../target.ts'

/**
 * Each line of an input is a frame: the first character tells its kind, the part before the first `|` is its id. In data, `\N` stands for a
 * line feed, since the line ends there. The last character tells how the frames are cut.
 */
export const sse: Target = {
  name: 'sse',
  about: 'SSE frames, read back by eventsource-parser: events, ids, hints',
  seeds: [
    'm1|{"a":1}\np2|3000\nk\nr|500\nn|text',
    'mab.0.1|a\\Nb\rc\np|x\nm|',
    'm\u2028|\ufeff\u2029\u0085\0',
  ],
  words: [
    '\\N',
    '\r',
    '\nm',
    '\np',
    '\nk',
    '\nr',
    '|',
    'data: ',
    'id: ',
    'event: ',
    ':',
    ' ',
    '\u2028',
    '\ufeff',
  ],
  longest: 4096,
  deadline: 1000,
  open: () => ({
    run(input) {
      const lines = utf8(input).split('\n')
      const frames: string[] = []
      const wanted: { id: string | undefined; data: string }[] = []
      let id: string | undefined
      for (const line of lines) {
        const bar = line.indexOf('|')
        const name = line.slice(1, bar < 1 ? 1 : bar)
        const data = (bar < 0 ? line : line.slice(bar + 1)).replaceAll('\\N', '\n')
        const bad = /[\r\n\0]/.test(name)
        switch (line[0]) {
          case 'm':
          case 'p': {
            const frame = framed(() =>
              line[0] === 'm' ? sseEvent(data, name) : ssePriming(name, Number(data) || 0),
            )
            must(
              (frame === undefined) === bad,
              `an id ${bad ? 'that breaks the framing passes' : 'is refused'}`,
            )
            if (frame === undefined) break
            frames.push(frame)
            id = name
            wanted.push({ id, data: line[0] === 'm' ? data.replace(/\r\n?/g, '\n') : '' })
            break
          }
          case 'n':
            frames.push(sseEvent(data))
            wanted.push({ id, data: data.replace(/\r\n?/g, '\n') })
            break
          case 'r':
            frames.push(sseRetry(Number(data) || 0))
            break
          default:
            frames.push(SSE_KEEPALIVE)
        }
      }
      const text = frames.join('')
      for (const step of [text.length + 1, 1 + ((input.at(-1) ?? 0) % 7)]) {
        const got: { id: string | undefined; data: string }[] = []
        let last: string | undefined
        const parser = createParser({
          onEvent(event) {
            last = event.id ?? last
            got.push({ id: last, data: event.data })
            must(event.event === undefined || event.event === 'message', 'an event of another name')
          },
          onError(error) {
            must(false, `the parser says ${error.message}`)
          },
        })
        for (let at = 0; at < text.length; at += step) parser.feed(text.slice(at, at + step))
        must(got.length === wanted.length, `${wanted.length} events were written, ${got.length} read`)
        for (const [index, { id: gotId, data }] of got.entries()) {
          must(data === wanted[index]?.data, () => `${JSON.stringify(wanted[index]?.data)} was read as ${JSON.stringify(data)}`) // prettier-ignore
          // An empty id says nothing: readers keep the one before, or none.
          must((gotId ?? '') === (wanted[index]?.id ?? ''), () => `the id ${JSON.stringify(wanted[index]?.id)} was read as ${JSON.stringify(gotId)}`) // prettier-ignore
        }
      }
    },
  }),
}

function framed(frame: () => string): string | undefined {
  try {
    return frame()
  } catch (thrown) {
    if (thrown instanceof RangeError) return undefined
    throw thrown
  }
}
