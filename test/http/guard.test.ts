/** Host and Origin: who passes, who does not, and what is said. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Guard, printable } from '../../src/http/guard.ts'

const OK = 'localhost:3000'

describe('bound to loopback, nothing configured', () => {
  const guard = new Guard({})
  test.each([
    'localhost',
    'localhost:3000',
    'LocalHost:1',
    'localhost.',
    'localhost.:80',
    '127.0.0.1',
    '127.0.0.1:65535',
    '127.255.0.3',
    '[::1]',
    '[::1]:3000',
    '[0:0:0:0:0:0:0:1]',
    '[0000::0001]:80',
  ])('Host %j passes', (host) => {
    expect(guard.check(host, undefined, true)).toEqual({ ok: true })
  })

  test.each([
    '',
    ' ',
    'evil.com',
    'localhost.evil.com',
    '127.0.0.1.evil.com',
    '127.0.0.1.nip.io',
    'xlocalhost',
    'app.localhost',
    'localhost..',
    '.localhost',
    'localhost:',
    'localhost:99999',
    'localhost:80:80',
    'localhost:80@evil.com',
    'localhost@evil.com',
    'user@localhost',
    'user:pw@localhost',
    'evil.com#localhost',
    'evil.com/localhost',
    'evil.com\\localhost',
    'evil.com?localhost',
    'localhost, evil.com',
    'localhost evil.com',
    'localhost\0',
    'localhost\r\nX: y',
    '127.1',
    '2130706433',
    '0x7f.0.0.1',
    '0177.0.0.1',
    '127.0.0.01',
    '127.0.0.256',
    '127.0.0.1.2',
    '128.0.0.1',
    '0.0.0.0',
    '::1',
    '[::]',
    '[::2]',
    '[::1',
    '[::1]x',
    '[::1%25lo]',
    '[::ffff:127.0.0.1]',
    '[:::1]',
    '%6cocalhost',
    'ｌocalhost',
    'lοcalhost',
    'xn--lcalhost-hog',
  ])('Host %j is refused', (host) => {
    expect(guard.check(host, undefined, true)).toMatchObject({ ok: false, option: 'allowedHosts' })
  })

  test('an absent Host is refused', () => {
    expect(guard.check(undefined, undefined, true)).toEqual({
      ok: false,
      message: 'Missing Host header',
      option: 'allowedHosts',
    })
  })

  test.each([
    'http://localhost',
    'http://localhost:5173',
    'https://localhost:5173',
    'HTTP://LOCALHOST:1',
    'http://127.0.0.1:8080',
    'http://127.9.9.9',
    'http://[::1]:6274',
  ])('Origin %j passes', (origin) => {
    expect(guard.check(OK, origin, true)).toEqual({ ok: true })
  })

  test.each([
    '',
    'null',
    'NULL',
    'localhost',
    'http://evil.com',
    'http://localhost.evil.com',
    'http://127.0.0.1.evil.com',
    'http://evil.com:80/localhost',
    'http://localhost@evil.com',
    'http://evil.com#@localhost',
    'http://evil.com?localhost',
    'http://localhost/',
    'http://localhost/x',
    'http://localhost:80:80',
    'http://user@localhost',
    'http://localhost http://evil.com',
    'http://localhost, http://localhost',
    'http://app.localhost',
    'file://localhost',
    'ws://localhost',
    'javascript://localhost',
    'httpx://localhost',
    'xhttp://localhost',
    '//localhost',
    'http:/localhost',
    'http://2130706433',
    'http://lοcalhost',
    'chrome-extension://abcdefghijklmnop',
  ])('Origin %j is refused', (origin) => {
    expect(guard.check(OK, origin, true)).toMatchObject({ ok: false, option: 'allowedOrigins' })
  })

  test('the host is judged before the origin', () => {
    expect(guard.check('evil.com', 'http://evil.com', true)).toMatchObject({ option: 'allowedHosts' })
  })
})

describe('not bound to loopback', () => {
  test.each([false, undefined])('loopback names do not pass by themselves (loopback %s)', (loopback) => {
    const guard = new Guard({})
    expect(guard.check('localhost', undefined, true).ok, 'remembered as good').toBe(true)
    expect(guard.check('localhost', undefined, loopback).ok).toBe(false)
    const listed = new Guard({ allowedHosts: ['mcp.example.com'] })
    expect(listed.check('127.0.0.1', undefined, loopback).ok).toBe(false)
    expect(listed.check('mcp.example.com', 'http://localhost:3000', loopback).ok).toBe(false)
  })

  test('the lists and loopback names add up', () => {
    const guard = new Guard({
      allowedHosts: ['mcp.example.com'],
      allowedOrigins: ['https://app.example.com'],
    })
    for (const host of ['mcp.example.com', 'localhost:1']) {
      for (const origin of ['https://app.example.com', 'http://localhost:9', undefined]) {
        expect(guard.check(host, origin, true)).toEqual({ ok: true })
      }
    }
  })
})

describe('allowedHosts', () => {
  const hosts = (entry: string, host: string): boolean =>
    new Guard({ allowedHosts: [entry] }).check(host, undefined, false).ok

  test.each([
    ['mcp.example.com', 'mcp.example.com'],
    ['mcp.example.com', 'mcp.example.com:8443'],
    ['mcp.example.com', 'MCP.Example.COM'],
    ['mcp.example.com', 'mcp.example.com.'],
    ['MCP.example.com.', 'mcp.example.com'],
    [' mcp.example.com ', 'mcp.example.com'],
    ['mcp.example.com:8443', 'mcp.example.com:8443'],
    ['mcp.example.com:443', 'mcp.example.com'],
    ['mcp.example.com:80', 'mcp.example.com'],
    ['mcp.example.com:80', 'mcp.example.com:80'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['my_service', 'my_service:3000'],
    ['10.0.0.7', '10.0.0.7:3000'],
    ['[2001:db8::1]', '[2001:DB8:0::1]:80'],
    ['2001:db8::1', '[2001:db8::1]'],
    ['[2001:db8::1]:3000', '[2001:db8::1]:3000'],
  ])('%j takes Host %j', (entry, host) => {
    expect(hosts(entry, host)).toBe(true)
  })

  test.each([
    ['mcp.example.com', 'example.com'],
    ['example.com', 'mcp.example.com'],
    ['example.com', 'example.com.evil.com'],
    ['example.com', 'notexample.com'],
    ['example.com:8443', 'example.com'],
    ['example.com:8443', 'example.com:8444'],
    ['example.com:80', 'example.com:443'],
    ['bücher.example', 'bücher.example'],
    ['[2001:db8::1]:3000', '[2001:db8::1]'],
  ])('%j does not take Host %j', (entry, host) => {
    expect(hosts(entry, host)).toBe(false)
  })

  test.each([
    '',
    'https://example.com',
    'example.com/mcp',
    '*.example.com',
    '*',
    'user@example.com',
    'a b',
    'example.com:99999',
    '[::1',
  ])('the entry %j is a RangeError that names option and value', (entry) => {
    expect(() => new Guard({ allowedHosts: [entry] })).toThrow(RangeError)
    expect(() => new Guard({ allowedHosts: [entry] })).toThrow(`allowedHosts takes host names`)
    expect(() => new Guard({ allowedHosts: [entry] })).toThrow(`got ${JSON.stringify(entry)}`)
  })

  test("'any' turns the check of hosts off, and only that", () => {
    const guard = new Guard({ allowedHosts: 'any' })
    expect(guard.check('evil.com', undefined, false).ok).toBe(true)
    expect(guard.check(undefined, undefined, undefined).ok).toBe(true)
    expect(guard.check('evil.com', 'https://evil.com', false)).toMatchObject({ option: 'allowedOrigins' })
  })
})

describe('allowedOrigins and corsOrigins', () => {
  const origins = (entry: string, origin: string): boolean =>
    new Guard({ allowedHosts: 'any', allowedOrigins: [entry] }).check('h', origin, false).ok

  test.each([
    ['https://app.example.com', 'https://app.example.com'],
    ['https://App.Example.com/', 'https://app.example.com'],
    ['https://app.example.com:443', 'https://app.example.com'],
    ['http://app.example.com:8080', 'http://app.example.com:8080'],
    ['https://bücher.example', 'https://xn--bcher-kva.example'],
    ['chrome-extension://abcdef', 'chrome-extension://abcdef'],
    ['vscode-webview://0abc', 'vscode-webview://0abc'],
  ])('%j takes Origin %j', (entry, origin) => {
    expect(origins(entry, origin)).toBe(true)
  })

  test.each([
    ['https://example.com', 'http://example.com'],
    ['https://example.com', 'https://example.com:8443'],
    ['https://example.com', 'https://example.com.evil.com'],
    ['https://example.com', 'https://app.example.com'],
    ['https://example.com', 'https://evilexample.com'],
    ['https://example.com', 'https://example.com@evil.com'],
    ['https://example.com', 'https://example.com, https://evil.com'],
    ['https://example.com', 'null'],
    ['chrome-extension://abcdef', 'chrome-extension://abcdeg'],
  ])('%j does not take Origin %j', (entry, origin) => {
    expect(origins(entry, origin)).toBe(false)
  })

  test.each([
    '',
    'null',
    'example.com',
    'https://',
    'https://*.example.com',
    'https://example.com/app',
    'https://u@example.com',
    '*',
  ])('the entry %j is a RangeError that names its option', (entry) => {
    expect(() => new Guard({ allowedOrigins: [entry] })).toThrow(RangeError)
    expect(() => new Guard({ allowedOrigins: [entry] })).toThrow('allowedOrigins takes origins')
    expect(() => new Guard({ corsOrigins: [entry] })).toThrow('corsOrigins takes origins')
  })

  test('CORS origins are allowed ones', () => {
    const guard = new Guard({ allowedOrigins: ['https://a.example'], corsOrigins: ['https://b.example'] })
    expect(guard.check(OK, 'https://a.example', true).ok).toBe(true)
    expect(guard.check(OK, 'https://b.example', true).ok).toBe(true)
    expect(guard.check(OK, 'https://c.example', true).ok).toBe(false)
  })

  test.each([{ allowedOrigins: 'any' } as const, { corsOrigins: '*' } as const])(
    '%j turns the check of origins off, and only that',
    (options) => {
      const guard = new Guard(options)
      expect(guard.check(OK, 'https://evil.com', true).ok).toBe(true)
      expect(guard.check(OK, 'null', true).ok).toBe(true)
      expect(guard.check('evil.com', undefined, true).ok).toBe(false)
    },
  )
})

test('messages are the SDK’s, with the value made harmless', () => {
  const guard = new Guard({})
  expect(guard.check('evil.com', undefined, true)).toEqual({
    ok: false,
    message: 'Invalid Host header: evil.com',
    option: 'allowedHosts',
  })
  expect(guard.check(OK, 'https://evil.com', true)).toEqual({
    ok: false,
    message: 'Invalid Origin header: https://evil.com',
    option: 'allowedOrigins',
  })
  expect(guard.check('a\u001b[31m\u2028é', undefined, true)).toMatchObject({
    message: 'Invalid Host header: a?[31m??',
  })
  const long = guard.check('x'.repeat(5000), undefined, true)
  expect(long.ok ? '' : long.message).toBe(`Invalid Host header: ${'x'.repeat(100)}`)
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (value) => /^[\x20-\x7e]{0,100}$/.test(printable(value))),
  )
})

test('a host that merely contains an allowed name never passes', () => {
  const guard = new Guard({ allowedHosts: ['mcp.example.com'] })
  const affix = fc.string({ unit: fc.constantFrom(...'abc.-_:@/#?%\\ 0[]') })
  fc.assert(
    fc.property(
      affix,
      fc.constantFrom('mcp.example.com', 'localhost', '127.0.0.1', '[::1]'),
      affix,
      (before, name, after) => {
        const host = before + name + after
        const exact = new RegExp(`^${name.replace(/[.[\]]/g, '\\$&')}\\.?(:\\d+)?$`)
        // A digit more makes another loopback address of one: all of 127.0.0.0/8 is.
        if (/^127(\.\d{1,3}){3}\.?(:\d+)?$/.test(host)) return
        if (before !== '' || !exact.test(host)) expect(guard.check(host, undefined, true).ok).toBe(false)
      },
    ),
  )
})
