/** CORS headers: exact origins, no credentials, and preflights of every `Mcp-Param-*` header. */

import { describe, expect, test } from 'vitest'
import { Cors } from '../../src/http/cors.ts'

const APP = 'https://app.example.com'
const ALLOWED =
  'mcp-session-id, mcp-protocol-version, last-event-id, mcp-method, mcp-name, authorization, content-type'

describe('listed origins', () => {
  const cors = new Cors([`${APP}/`, 'http://localhost:5173'])

  test('a preflight is granted to the exact origin', () => {
    expect(cors.enabled).toBe(true)
    expect(cors.preflight(APP, 'POST', 'content-type, mcp-session-id')).toEqual({
      'Access-Control-Allow-Origin': APP,
      'Access-Control-Allow-Methods': 'GET, POST, DELETE',
      'Access-Control-Allow-Headers': ALLOWED,
      'Access-Control-Max-Age': '86400',
      Vary: 'Origin, Access-Control-Request-Headers',
    })
  })

  test('real responses name the exact origin and expose the session id', () => {
    expect(cors.headers('http://localhost:5173')).toEqual({
      'Access-Control-Allow-Origin': 'http://localhost:5173',
      'Access-Control-Expose-Headers': 'Mcp-Session-Id, WWW-Authenticate',
      Vary: 'Origin',
    })
  })

  test.each(['https://evil.com', `${APP}.evil.com`, 'null', '', undefined])(
    'origin %j gets nothing but Vary',
    (origin) => {
      expect(cors.preflight(origin, 'POST')).toBeUndefined()
      expect(cors.headers(origin)).toEqual({ Vary: 'Origin' })
    },
  )

  test('OPTIONS without a requested method is no preflight', () => {
    expect(cors.preflight(APP, undefined)).toBeUndefined()
  })
})

describe("'*'", () => {
  const cors = new Cors('*')

  test('is sent as such, without credentials', () => {
    expect(cors.enabled).toBe(true)
    expect(cors.headers('https://any.example')).toEqual({
      'Access-Control-Allow-Origin': '*',
      'Access-Control-Expose-Headers': 'Mcp-Session-Id, WWW-Authenticate',
    })
    expect(cors.preflight('null', 'DELETE')).toMatchObject({ 'Access-Control-Allow-Origin': '*' })
    expect(cors.headers(undefined)).toBeUndefined()
  })
})

test.each([undefined, []])('off (%j): no headers at all', (option) => {
  const cors = new Cors(option)
  expect(cors.enabled).toBe(false)
  expect(cors.preflight(APP, 'POST')).toBeUndefined()
  expect(cors.headers(APP)).toBeUndefined()
})

test('no response ever allows credentials', () => {
  for (const cors of [new Cors('*'), new Cors([APP])]) {
    for (const headers of [cors.headers(APP), cors.preflight(APP, 'POST')]) {
      expect(Object.keys(headers ?? {}).map((name) => name.toLowerCase())).not.toContain(
        'access-control-allow-credentials',
      )
    }
  }
})

describe('Mcp-Param-* names', () => {
  const granted = (requested: string): string =>
    String(new Cors([APP]).preflight(APP, 'POST', requested)?.['Access-Control-Allow-Headers'])

  test('are granted as requested, others are not', () => {
    expect(granted('content-type,mcp-param-region, Mcp-Param-Tenant ,x-evil,mcp-paramx,mcp-param-')).toBe(
      `${ALLOWED}, mcp-param-region, mcp-param-tenant`,
    )
  })

  test('cannot inject header text', () => {
    expect(granted('mcp-param-a\r\nX-Evil: 1')).toBe(ALLOWED)
    expect(granted('mcp-param-a b, mcp-param-"')).toBe(ALLOWED)
  })

  test('are bounded in number', () => {
    const many = Array.from({ length: 1000 }, (_, index) => `mcp-param-${index}`).join(',')
    expect(granted(many).split(', ')).toHaveLength(7 + 64)
  })
})

test('a wrong entry is a RangeError when it is made', () => {
  expect(() => new Cors(['example.com'])).toThrow(RangeError)
})
