/** Single-valued headers, request targets, and client addresses behind proxies. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { clientNetwork, forwardedFor, parseTarget, singleValue } from '../../src/http/headers.ts'

describe('singleValue', () => {
  test.each<[string | undefined, string | undefined]>([
    [undefined, undefined],
    ['', ''],
    ['abc', 'abc'],
    ['abc, abc', 'abc'],
    ['abc,abc,abc', 'abc'],
    ['abc ,\tabc', 'abc'],
    ['__proto__', '__proto__'],
  ])('%j is the one value %j', (header, value) => {
    expect(singleValue(header)).toEqual({ value })
  })

  test.each(['abc, abd', 'abc, ', ', abc', 'abc, abc, x', 'abc, ABC'])('%j is a conflict', (header) => {
    expect(singleValue(header)).toBe('conflict')
  })
})

describe('parseTarget', () => {
  test.each<[string, string, string, string | undefined]>([
    ['/', '/', '', undefined],
    ['/mcp', '/mcp', '', undefined],
    ['/mcp?a=b?c', '/mcp', '?a=b?c', undefined],
    ['/mcp?', '/mcp', '?', undefined],
    ['/mcp#x', '/mcp', '', undefined],
    ['/mcp?a#b?c', '/mcp', '?a', undefined],
    ['/mcp#b?c', '/mcp', '', undefined],
    ['//evil.com/mcp', '//evil.com/mcp', '', undefined],
    ['/a/../mcp', '/a/../mcp', '', undefined],
    ['/%6dcp', '/%6dcp', '', undefined],
    ['http://h:1/mcp?x', '/mcp', '?x', 'h:1'],
    ['HTTPS://h/mcp', '/mcp', '', 'h'],
    ['http://h', '/', '', 'h'],
    ['http://h?x', '/', '?x', 'h'],
    ['http://h#x', '/', '', 'h'],
    ['http://u@h/mcp', '/mcp', '', 'u@h'],
    ['http://h/http://i/mcp', '/http://i/mcp', '', 'h'],
  ])('%j', (target, path, search, authority) => {
    expect(parseTarget(target)).toEqual({ path, search, authority })
  })

  test.each([
    '',
    '*',
    'mcp',
    'h:443',
    'http:/mcp',
    'http:///mcp',
    'ftp://h/mcp',
    'javascript:1',
    '?x',
    ' /mcp',
  ])('%j is no target of ours', (target) => {
    expect(parseTarget(target)).toBeUndefined()
  })
})

describe('forwardedFor', () => {
  const SOCKET = '10.0.0.1'
  test.each<[string | undefined, number, string]>([
    [undefined, 1, SOCKET],
    ['', 1, SOCKET],
    ['203.0.113.9', 0, SOCKET],
    ['203.0.113.9', 1, '203.0.113.9'],
    ['6.6.6.6, 203.0.113.9', 1, '203.0.113.9'],
    ['6.6.6.6, 203.0.113.9, 10.0.0.2', 2, '203.0.113.9'],
    ['6.6.6.6,203.0.113.9,10.0.0.3,10.0.0.2', 3, '203.0.113.9'],
    // Fewer entries than proxies: the request came in further inside.
    ['203.0.113.9', 3, '203.0.113.9'],
    ['203.0.113.9:4711', 1, '203.0.113.9'],
    ['2001:DB8::9', 1, '2001:db8::9'],
    ['[2001:db8::9]:4711', 1, '2001:db8::9'],
    ['[2001:db8::9]', 1, '2001:db8::9'],
    ['::ffff:203.0.113.9', 1, '::ffff:203.0.113.9'],
    // What is no address ends the walk at the proxy that reported it.
    ['evil', 1, SOCKET],
    ['203.0.113.9, unknown, 10.0.0.2', 3, '10.0.0.2'],
    ['203.0.113.9, , 10.0.0.2', 3, '10.0.0.2'],
    ['203.0.113.9,', 1, SOCKET],
    ['203.0.113.256', 1, SOCKET],
    ['203.0.113', 1, SOCKET],
    ['203.0.113.9.1', 1, SOCKET],
    ['203.0.113.09', 1, SOCKET],
    ['203.0.113.9\r\nx', 1, SOCKET],
    ['"203.0.113.9"', 1, SOCKET],
    [':::', 1, SOCKET],
    ['[::1]x', 1, SOCKET],
    ['1:2:3', 1, SOCKET],
    ['abcd', 1, SOCKET],
  ])('%j behind %i proxies is %s', (header, hops, expected) => {
    expect(forwardedFor(header, hops, SOCKET)).toBe(expected)
  })

  test('without a socket address and header there is none', () => {
    expect(forwardedFor(undefined, 1, undefined)).toBeUndefined()
  })

  test('what a client prepends never reaches the answer', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.ipV4(), { minLength: 4, maxLength: 4 }),
        (forged, hops, proxies) => {
          const header = [forged, ...proxies].join(', ')
          expect(forwardedFor(header, hops, SOCKET)).toBe(proxies[4 - hops])
        },
      ),
    )
  })

  test('a huge header is read from its end only', () => {
    expect(forwardedFor(`${','.repeat(1_000_000)}203.0.113.9`, 1, SOCKET)).toBe('203.0.113.9')
  })
})

describe('clientNetwork', () => {
  test.each<[string | undefined, string | undefined]>([
    [undefined, undefined],
    ['', undefined],
    ['unknown', undefined],
    ['203.0.113.7', '203.0.113.7'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['::FFFF:203.0.113.7', '203.0.113.7'],
    ['::1', '0:0:0:0::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:0db8:0000:0000:ffff::1', '2001:db8:0:0::/64'],
    ['2001:DB8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::', '2001:db8:1:2::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['64:ff9b::203.0.113.7', '64:ff9b:0:0::/64'],
    ['1:2', undefined],
  ])('%j is counted as %j', (address, network) => {
    expect(clientNetwork(address)).toBe(network)
  })

  test('every address of a network is counted as the same one, however it is written', () => {
    const group = fc.integer({ min: 0, max: 0xffff }).map((value) => value.toString(16))
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), group, (groups, other) => {
        const written = groups.join(':')
        const canonical = new URL(`http://[${written}]`).hostname.slice(1, -1)
        const neighbor = [...groups.slice(0, 7), other].join(':')
        expect(clientNetwork(canonical)).toBe(clientNetwork(written))
        expect(clientNetwork(neighbor)).toBe(clientNetwork(written))
      }),
    )
  })
})
