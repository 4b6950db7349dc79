/** `Accept` and `Content-Type`, by the grammar of RFC 9110. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { acceptsJsonAndSse, isJsonContentType } from '../../src/http/accept.ts'

const BOTH = 'json sse'

/** The answer as words, which read better in a table. */
function accepts(header: string | undefined): string {
  const { json, sse } = acceptsJsonAndSse(header)
  return [json && 'json', sse && 'sse'].filter(Boolean).join(' ')
}

describe('Accept', () => {
  test.each<[string | undefined, string]>([
    [undefined, BOTH],
    ['', ''],
    [' , ,', ''],
    ['application/json, text/event-stream', BOTH],
    ['text/event-stream,application/json', BOTH],
    ['APPLICATION/JSON, Text/Event-Stream', BOTH],
    ['application/json', 'json'],
    ['text/event-stream', 'sse'],
    ['*/*', BOTH],
    ['application/*', 'json'],
    ['text/*', 'sse'],
    ['text/html, */*;q=0.1', BOTH],
    ['text/html', ''],
    // Weights.
    ['application/json;q=0, text/event-stream', 'sse'],
    ['application/json;q=0.0, */*', 'sse'],
    ['application/json;q=0.000, */*', 'sse'],
    ['application/json;q=0.001', 'json'],
    ['application/json; Q=1.000', 'json'],
    ['application/json\t;\tq=0.5', 'json'],
    ['*/*;q=0', ''],
    ['*/*;q=0, application/json', 'json'],
    ['application/*;q=0, application/json', 'json'],
    ['application/json;q=0, application/*, text/*', 'sse'],
    ['text/*;q=0, */*', 'json'],
    ['text/event-stream;q=0.1, text/*;q=0', 'sse'],
    // The same range twice: the higher weight.
    ['application/json;q=0, application/json', 'json'],
    ['application/json;v=1;q=0, application/json;v=2', 'json'],
    // Parameters other than the weight say nothing here.
    ['application/json;charset=utf-8', 'json'],
    ['application/json;charset="utf-8"; q=0', ''],
    ['application/json;q=0;ext=1', ''],
    ['application/json;', 'json'],
    ['application/json;;q=1', 'json'],
    // Quoted commas and semicolons separate nothing.
    ['application/json;a="b,text/event-stream", text/html', 'json'],
    ['application/json;a=";q=0"', 'json'],
    ['application/json;a="\\",text/event-stream,\\""', 'json'],
    ['text/html;a="b, application/json', ''],
    // What the grammar does not allow is ignored, member by member.
    ['application/json;q=2, text/event-stream', 'sse'],
    ['application/json;q=1.001', ''],
    ['application/json;q=0.1234', ''],
    ['application/json;q=-0', ''],
    ['application/json;q=.5', ''],
    ['application/json;q=', ''],
    ['application/json;q="1"', ''],
    ['application/json;q', ''],
    ['application/json;q =1', ''],
    ['application/json;q=1;q=0', ''],
    ['application/json;q=NaN, */*', BOTH],
    ['application', ''],
    ['application/json/x', ''],
    ['application / json', ''],
    ['*', ''],
    ['*/json', ''],
    ['/json', ''],
    ['application/jsonx', ''],
    ['application/json-seq', ''],
    ['application/json text/event-stream', ''],
    ['\u00a0application/json', ''],
  ])('%j takes %j', (header, expected) => {
    expect(accepts(header)).toBe(expected)
    expect(accepts(header), 'from the cache').toBe(expected)
  })

  const weight = fc.constantFrom('0', '0.0', '0.000', '0.001', '0.5', '1', '1.000')
  const range = fc.constantFrom(
    'application/json',
    'text/event-stream',
    'application/*',
    'text/*',
    '*/*',
    'text/html',
    'Application/JSON',
  )
  const member = fc.tuple(range, fc.option(weight, { nil: undefined }))

  test('agrees with the definition: the most specific range that was named decides', () => {
    const highest = (members: [string, string | undefined][], name: string): number | undefined => {
      const weights = members.filter(([r]) => r.toLowerCase() === name).map(([, q]) => Number(q ?? 1))
      return weights.length === 0 ? undefined : Math.max(...weights)
    }
    fc.assert(
      fc.property(
        fc.array(member, { maxLength: 6 }),
        fc.constantFrom(',', ', ', ' ,\t'),
        (members, comma) => {
          const header = members.map(([r, q]) => (q === undefined ? r : `${r};q=${q}`)).join(comma)
          const anything = highest(members, '*/*')
          expect(acceptsJsonAndSse(header)).toEqual({
            json:
              (highest(members, 'application/json') ?? highest(members, 'application/*') ?? anything ?? 0) >
              0,
            sse: (highest(members, 'text/event-stream') ?? highest(members, 'text/*') ?? anything ?? 0) > 0,
          })
        },
      ),
    )
  })

  test('garbage members change nothing about the others', () => {
    const garbage = fc.constantFrom('application/json;q=7', 'x', '*/*;q=', ';;', 'text/*;q=0.0001', '/', '')
    fc.assert(
      fc.property(fc.array(member, { maxLength: 3 }), fc.array(garbage, { maxLength: 3 }), (members, bad) => {
        const good = members.map(([r, q]) => (q === undefined ? r : `${r};q=${q}`))
        expect(accepts([...bad, ...good, ...bad].join(','))).toBe(accepts(good.join(',')))
      }),
    )
  })

  test('any string has an answer, the same one twice', () => {
    const pieces = fc.constantFrom(
      'application/json',
      'text/*',
      '*',
      '/',
      ';',
      ',',
      '"',
      '\\',
      'q=',
      '0',
      '1',
      '.',
      ' ',
      '\t',
      '\0',
      'é',
    )
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.array(pieces).map((all) => all.join('')),
        ),
        (header) => {
          expect(accepts(header)).toBe(accepts(header))
        },
      ),
    )
  })

  test('a long hostile header takes time in proportion to its length', () => {
    const started = performance.now()
    for (const unit of [',', ';', ' ', '"', '\\', 'a/b;q=', '; ', '"\\"', 'a=']) {
      accepts(`application/json${unit.repeat(100_000)}`)
      isJsonContentType(`application/json;${unit.repeat(100_000)}`)
    }
    // About 0.2 s; quadratic would be minutes.
    expect(performance.now() - started).toBeLessThan(5000)
  })

  test('many different headers do not fill the memory', () => {
    for (let index = 0; index < 1000; index++) expect(accepts(`application/json, a/b${index}`)).toBe('json')
    expect(accepts('application/json, a/b0')).toBe('json')
  })
})

describe('Content-Type', () => {
  test.each([
    'application/json',
    'Application/JSON',
    ' application/json\t',
    'application/json;charset=utf-8',
    'application/json; charset=UTF-8',
    'application/json ; charset="utf-8"',
    'application/json; charset="\\utf-8"',
    'application/json;',
    'application/json; profile="a;charset=latin1,b"',
    'application/json; odata.metadata=minimal; charset=utf-8',
    'application/json; broken',
  ])('%j is JSON', (header) => {
    expect(isJsonContentType(header)).toBe(true)
  })

  test.each([
    undefined,
    '',
    'text/plain',
    'application/json-rpc',
    'application/jsonrequest',
    'application/problem+json',
    'application/*',
    'text/json',
    'text/plain; a=application/json',
    'application/json, application/json',
    'application/json; a=b, text/plain',
    'application/json, text/plain',
    'application/json; charset=latin1',
    'application/json; charset=utf-16',
    'application/json; charset=utf8',
    'application/json; charset=',
    'application/json; charset',
    'application/json; charset =utf-8',
    'application/json; charset="utf-8',
    'application/json; charset=utf-8; charset=latin1',
    'application/json;charset=utf-8x',
    'application /json',
  ])('%j is not', (header) => {
    expect(isJsonContentType(header)).toBe(false)
  })
})
