/** Error bodies as they stand on the wire. */

import { expect, test } from 'vitest'
import { errorBody, JsonRpcErrorCode } from '../../src/jsonrpc/errors.ts'

test('an error body has its members in the order that the SDK writes them', () => {
  expect(errorBody(JsonRpcErrorCode.SESSION_NOT_FOUND, 'Session not found')).toBe(
    '{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}',
  )
})

test.each([
  [0, '0'],
  ['', '""'],
  ['a"b', '"a\\"b"'],
  [null, 'null'],
  [undefined, 'null'],
] as const)('the id %j is written as %s', (id, written) => {
  expect(errorBody(-32600, 'm', id)).toBe(
    `{"jsonrpc":"2.0","error":{"code":-32600,"message":"m"},"id":${written}}`,
  )
})

test('data is there when given, null included', () => {
  expect(JSON.parse(errorBody(-32022, 'm', 1, { supported: ['2026-07-28'] }))).toEqual({
    jsonrpc: '2.0',
    error: { code: -32022, message: 'm', data: { supported: ['2026-07-28'] } },
    id: 1,
  })
  expect(errorBody(-1, 'm', 1, null)).toContain('"data":null')
})

test('the codes are the ones that clients know', () => {
  expect(JsonRpcErrorCode).toEqual({
    PARSE_ERROR: -32700,
    INVALID_REQUEST: -32600,
    METHOD_NOT_FOUND: -32601,
    INVALID_PARAMS: -32602,
    INTERNAL_ERROR: -32603,
    SERVER_ERROR: -32000,
    SESSION_NOT_FOUND: -32001,
    REQUEST_CANCELLED: -32800,
    HEADER_MISMATCH: -32020,
    MISSING_CLIENT_CAPABILITY: -32021,
    UNSUPPORTED_PROTOCOL_VERSION: -32022,
  })
})
