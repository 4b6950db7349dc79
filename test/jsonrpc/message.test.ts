/** What is a JSON-RPC message here, and that both official SDKs agree. */

import * as v1 from '@modelcontextprotocol/sdk/types.js'
import * as v2 from '@modelcontextprotocol/server'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseMessages, type ParsedMessage } from '../../src/jsonrpc/message.ts'

const RELATED_TASK = 'io.modelcontextprotocol/related-task'

/** Whether an SDK's server would act on a message; both test in this order and drop what none of the guards takes. */
function sdkKind(sdk: typeof v1 | typeof v2, message: unknown): ParsedMessage['kind'] | undefined {
  if (sdk.isJSONRPCResultResponse(message) || sdk.isJSONRPCErrorResponse(message)) return 'response'
  if (sdk.isJSONRPCRequest(message)) return 'request'
  return sdk.isJSONRPCNotification(message) ? 'notification' : undefined
}

function only(value: unknown): ParsedMessage {
  const parsed = parseMessages(value)
  if (!parsed.ok || parsed.messages.length !== 1)
    throw new Error(`not one message: ${JSON.stringify(parsed)}`)
  return parsed.messages[0] as ParsedMessage
}

describe('accepted', () => {
  test.each<[ParsedMessage['kind'], object]>([
    ['request', { jsonrpc: '2.0', id: 0, method: 'ping' }],
    ['request', { jsonrpc: '2.0', id: '', method: 'ping', params: {} }],
    [
      'request',
      {
        jsonrpc: '2.0',
        id: -(2 ** 53 - 1),
        method: 'x',
        params: { _meta: { progressToken: 0, other: [1] } },
      },
    ],
    [
      'request',
      { jsonrpc: '2.0', id: 1, method: 'x', params: { _meta: { [RELATED_TASK]: { taskId: '' } } } },
    ],
    ['notification', { jsonrpc: '2.0', method: 'notifications/initialized' }],
    ['notification', { jsonrpc: '2.0', method: 'x', params: { a: null } }],
    ['response', { jsonrpc: '2.0', id: 1, result: {} }],
    ['response', { jsonrpc: '2.0', id: 'a', result: { _meta: {}, roots: [] } }],
    ['response', { jsonrpc: '2.0', id: 1, error: { code: -1, message: '' } }],
    ['response', { jsonrpc: '2.0', id: 1, error: { code: 1, message: 'm', data: null } }],
    ['response', { jsonrpc: '2.0', error: { code: -32700, message: 'm' } }],
  ])('%s %j', (kind, message) => {
    expect(parseMessages(message)).toEqual({ ok: true, batch: false, messages: [{ kind, message }] })
    expect(sdkKind(v1, message)).toBe(kind)
    expect(sdkKind(v2, message)).toBe(kind)
  })

  test('unknown members are left out at the top and in an error, and stay in params and result', () => {
    expect(only({ jsonrpc: '2.0', id: 1, method: 'x', params: { y: 1 }, trace: 'z' }).message).toEqual({
      jsonrpc: '2.0',
      id: 1,
      method: 'x',
      params: { y: 1 },
    })
    expect(only({ id: 1, result: { y: 1 }, jsonrpc: '2.0', params: {} }).message).toEqual({
      jsonrpc: '2.0',
      id: 1,
      result: { y: 1 },
    })
    expect(only({ jsonrpc: '2.0', id: 1, error: { code: 1, message: 'm', stack: 's' } }).message).toEqual({
      jsonrpc: '2.0',
      id: 1,
      error: { code: 1, message: 'm' },
    })
  })

  test('__proto__ members are data, and change nothing', () => {
    const text =
      '{"__proto__":{"id":7,"polluted":1},"jsonrpc":"2.0","method":"x","params":{"__proto__":{"_meta":4}}}'
    const { kind, message } = only(JSON.parse(text))
    expect(kind).toBe('notification')
    expect(Object.getPrototypeOf(message)).toBe(Object.prototype)
    expect(JSON.stringify(message)).toBe('{"jsonrpc":"2.0","method":"x","params":{"__proto__":{"_meta":4}}}')
    expect(({} as Record<string, unknown>).polluted).toBeUndefined()
    expect(sdkKind(v1, message)).toBe('notification')
    expect(sdkKind(v2, message)).toBe('notification')
  })

  test('a batch, in order', () => {
    const request = { jsonrpc: '2.0', id: 1, method: 'a' }
    const notification = { jsonrpc: '2.0', method: 'b' }
    expect(parseMessages([request, notification])).toEqual({
      ok: true,
      batch: true,
      messages: [
        { kind: 'request', message: request },
        { kind: 'notification', message: notification },
      ],
    })
  })
})

describe('refused', () => {
  const request = { jsonrpc: '2.0', id: 1, method: 'x' }
  test.each<[string, unknown, number | string | null]>([
    ['null', null, null],
    ['a string', 'x', null],
    ['a number', 1, null],
    ['an empty object', {}, null],
    ['an empty batch', [], null],
    ['a batch within a batch', [[request]], null],
    ['a batch with one bad message', [request, { jsonrpc: '2.0' }], null],
    ['no version', { id: 1, method: 'x' }, 1],
    ['version 1.0', { ...request, jsonrpc: '1.0' }, 1],
    ['a numeric version', { ...request, jsonrpc: 2 }, 1],
    ['id null', { ...request, id: null }, null],
    ['a fractional id', { ...request, id: 1.5 }, null],
    ['id 2^53', { ...request, id: 2 ** 53 }, null],
    ['id 1e400', JSON.parse('{"jsonrpc":"2.0","id":1e400,"method":"x"}'), null],
    ['an object id', { ...request, id: {} }, null],
    ['an array id', { ...request, id: [1] }, null],
    ['a boolean id', { ...request, id: true }, null],
    ['no member that tells the kind', { jsonrpc: '2.0', id: 3 }, 3],
    ['an empty method', { ...request, method: '' }, 1],
    ['a numeric method', { ...request, method: 5 }, 1],
    ['a null method', { ...request, method: null }, 1],
    ['array params', { ...request, params: [] }, 1],
    ['null params', { ...request, params: null }, 1],
    ['string params', { ...request, params: 'x' }, 1],
    ['_meta null', { ...request, params: { _meta: null } }, 1],
    ['_meta an array', { ...request, params: { _meta: [] } }, 1],
    ['a null progress token', { ...request, params: { _meta: { progressToken: null } } }, 1],
    ['a fractional progress token', { ...request, params: { _meta: { progressToken: 0.5 } } }, 1],
    ['a huge progress token', { ...request, params: { _meta: { progressToken: 2 ** 53 } } }, 1],
    ['a related task without id', { ...request, params: { _meta: { [RELATED_TASK]: {} } } }, 1],
    ['a related task that is a string', { ...request, params: { _meta: { [RELATED_TASK]: 't' } } }, 1],
    ['bad _meta in a notification', { jsonrpc: '2.0', method: 'x', params: { _meta: 1 } }, null],
    ['method and result', { ...request, result: {} }, 1],
    ['method and error', { ...request, error: { code: 1, message: 'm' } }, 1],
    ['result and error', { jsonrpc: '2.0', id: 1, result: {}, error: { code: 1, message: 'm' } }, null],
    ['result and error null', { jsonrpc: '2.0', id: 1, result: {}, error: null }, null],
    ['a result without id', { jsonrpc: '2.0', result: {} }, null],
    ['a result with id null', { jsonrpc: '2.0', id: null, result: {} }, null],
    ['a null result', { jsonrpc: '2.0', id: 1, result: null }, null],
    ['an array result', { jsonrpc: '2.0', id: 1, result: [] }, null],
    ['a result with bad _meta', { jsonrpc: '2.0', id: 1, result: { _meta: 'x' } }, null],
    [
      'a result with a bad progress token',
      { jsonrpc: '2.0', id: 1, result: { _meta: { progressToken: {} } } },
      null,
    ],
    ['an error that is a string', { jsonrpc: '2.0', id: 1, error: 'x' }, null],
    ['an error without code', { jsonrpc: '2.0', id: 1, error: { message: 'm' } }, null],
    ['an error with a fractional code', { jsonrpc: '2.0', id: 1, error: { code: 0.5, message: 'm' } }, null],
    ['an error without message', { jsonrpc: '2.0', id: 1, error: { code: 1 } }, null],
    ['an error with id null', { jsonrpc: '2.0', id: null, error: { code: 1, message: 'm' } }, null],
  ])('%s', (_, value, id) => {
    expect(parseMessages(value)).toEqual({
      ok: false,
      message: expect.stringMatching(/^Invalid Request: ./),
      id,
    })
  })

  test('a refusal in a batch says which message', () => {
    expect(parseMessages([{ jsonrpc: '2.0', method: 'x' }, 5])).toMatchObject({
      message: 'Invalid Request: message 2 of the batch: a message must be an object',
    })
  })
})

// Values near what is valid: the shape of each kind of message, with any member now and then missing, wrong, or one too many.
const mostly = <T>(usual: fc.Arbitrary<T>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 9, arbitrary: usual }, { weight: 1, arbitrary: fc.jsonValue() })
const rarely = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc
    .option(value, { freq: 1, nil: undefined })
    .chain((one) => fc.constantFrom(one, undefined, undefined, undefined))
const id = mostly(fc.oneof(fc.string(), fc.integer(), fc.maxSafeInteger(), fc.double()))
const meta = fc.record(
  {
    progressToken: id,
    [RELATED_TASK]: mostly(fc.record({ taskId: mostly(fc.string()) })),
    other: fc.jsonValue(),
  },
  { requiredKeys: [] },
)
const body = mostly(
  fc.oneof(
    fc.record({ _meta: mostly(meta), name: fc.jsonValue() }, { requiredKeys: [] }),
    fc.dictionary(fc.string(), fc.jsonValue()),
  ),
)
const method = mostly(fc.string())
const error = mostly(
  fc.record(
    {
      code: mostly(fc.integer()),
      message: mostly(fc.string()),
      data: rarely(fc.jsonValue()),
      extra: rarely(fc.jsonValue()),
    },
    { requiredKeys: ['code', 'message', 'data', 'extra'] },
  ),
)
const jsonrpc = mostly(fc.constant('2.0'))
const shape = fc.oneof(
  fc.record({ jsonrpc, id, method }),
  fc.record({ jsonrpc, id, method, params: body }),
  fc.record({ jsonrpc, method, params: body }),
  fc.record({ jsonrpc, id, result: body }),
  fc.record({ jsonrpc, id, error }),
  fc.record({ jsonrpc, error }),
)
const surplus = fc.record({
  id: rarely(id),
  method: rarely(method),
  params: rarely(body),
  result: rarely(body),
  error: rarely(error),
  extra: rarely(fc.jsonValue()),
})
/** Through JSON, as on the wire: own `__proto__` members, nothing undefined, no -0. */
const message: fc.Arbitrary<unknown> = fc
  .tuple(shape, fc.option(surplus, { freq: 2, nil: {} }), rarely(fc.jsonValue()))
  .map(([base, more, proto]) => {
    const text = JSON.stringify({ ...base, ...JSON.parse(JSON.stringify(more)) })
    return JSON.parse(
      proto === undefined ? text : text.replace(/\}$/, `,"__proto__":${JSON.stringify(proto)}}`),
    )
  })

test('whatever is accepted, both SDKs recognize as the same kind of message', () => {
  const seen = { request: 0, notification: 0, response: 0, refused: 0 }
  const value = fc.oneof(
    { weight: 9, arbitrary: message },
    { weight: 1, arbitrary: fc.array(message, { maxLength: 2 }) },
  )
  fc.assert(
    fc.property(value, (raw) => {
      const parsed = parseMessages(raw)
      if (!parsed.ok) {
        seen.refused++
        return
      }
      for (const { kind, message: clean } of parsed.messages) {
        expect(sdkKind(v1, clean)).toBe(kind)
        expect(sdkKind(v2, clean)).toBe(kind)
        seen[kind]++
      }
    }),
    { numRuns: 3000 },
  )
  // The generator would prove nothing if it made only good messages, or none.
  expect(Math.min(...Object.values(seen)), JSON.stringify(seen)).toBeGreaterThan(100)
})

test('what both SDKs recognize is accepted, but for the empty method', () => {
  let recognized = 0
  fc.assert(
    fc.property(message, (value) => {
      if (sdkKind(v1, value) === undefined || sdkKind(v2, value) === undefined) return
      recognized++
      if (!parseMessages(value).ok) expect(value).toHaveProperty('method', '')
    }),
    { numRuns: 2000 },
  )
  expect(recognized).toBeGreaterThan(200)
})
