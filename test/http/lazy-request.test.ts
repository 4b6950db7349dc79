/** The lazy request looks like a Request in every way but the way it is made. */

import { inspect } from 'node:util'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { lazyRequest, lazyRequestInfo, requestUrl } from '../../src/http/lazy-request.ts'

const source = (more: object = {}): Parameters<typeof lazyRequest>[0] => ({
  method: 'POST',
  target: '/mcp?a=1',
  headers: {
    host: 'mcp.example.com:8080',
    'x-one': '1',
    'x-many': ['a', 'b'],
    'x-none': undefined,
    ':path': '/mcp',
  },
  ...more,
})

describe('lazyRequest', () => {
  test('is a Request with method, url and headers, each made once', () => {
    const request = lazyRequest(source())
    expect(request).toBeInstanceOf(Request)
    expect(request.method).toBe('POST')
    expect(request.url).toBe('http://mcp.example.com:8080/mcp?a=1')
    expect(request.headers).toBeInstanceOf(Headers)
    expect([...request.headers]).toEqual([
      ['host', 'mcp.example.com:8080'],
      ['x-many', 'a, b'],
      ['x-one', '1'],
    ])
    expect(request.headers).toBe(request.headers)
    expect(request.signal).toBe(request.signal)
  })

  test('reads its source only when asked', () => {
    let reads = 0
    const counting = (value: unknown): PropertyDescriptor => ({
      get() {
        reads++
        return value
      },
    })
    const { method, target, headers } = source()
    const watched = Object.defineProperties(
      {},
      {
        method: counting(method),
        target: counting(target),
        headers: counting(headers),
        onAbort: counting(undefined),
      },
    ) as Parameters<typeof lazyRequest>[0]
    const request = lazyRequest(watched)
    const info = lazyRequestInfo(watched)
    expect(reads).toBe(0)
    expect(request.url).toBe(info.url.href)
    expect(reads).toBeGreaterThan(0)
  })

  test('a base replaces scheme and authority', () => {
    expect(lazyRequest(source(), 'https://public.example').url).toBe('https://public.example/mcp?a=1')
  })

  test('every member of Request.prototype works', async () => {
    const request = lazyRequest(source())
    const real = new Request('http://mcp.example.com:8080/mcp?a=1', { method: 'POST' })
    for (const [key, member] of Object.entries(Object.getOwnPropertyDescriptors(Request.prototype))) {
      if (member.get === undefined || key === 'headers' || key === 'signal') continue
      expect([key, Reflect.get(request, key)]).toEqual([key, Reflect.get(real, key)])
    }
    expect(request.body).toBeNull()
    expect(request.bodyUsed).toBe(false)
    expect(await request.text()).toBe('')
    expect((await request.arrayBuffer()).byteLength).toBe(0)
    expect((await request.blob()).size).toBe(0)
    await expect(request.json()).rejects.toThrow(SyntaxError)
    expect(Object.prototype.toString.call(request)).toBe('[object Request]')
    expect(inspect(request)).toContain('http://mcp.example.com:8080/mcp?a=1')
  })

  test('clone gives a plain Request, which can be copied and is aborted with the original', () => {
    let abort = (): void => {}
    const request = lazyRequest(source({ onAbort: (callback: () => void) => (abort = callback) }))
    const clone = request.clone()
    const copy = new Request(clone, { headers: { 'x-new': '1' } })
    expect([copy.url, copy.method, copy.headers.get('x-new')]).toEqual([request.url, 'POST', '1'])
    expect(clone.headers.get('x-one')).toBe('1')
    expect(clone.signal.aborted).toBe(false)
    abort()
    expect([request.signal.aborted, clone.signal.aborted, copy.signal.aborted]).toEqual([true, true, true])
  })

  test('the abort is registered once, when the signal is first read', () => {
    let registered = 0
    const request = lazyRequest(source({ onAbort: () => registered++ }))
    void request.url
    expect(registered).toBe(0)
    void request.signal
    void request.signal
    request.clone()
    expect(registered).toBe(1)
  })

  test('new Request(lazy) is refused by the runtime, as documented', () => {
    expect(() => new Request(lazyRequest(source()))).toThrow(TypeError)
  })

  test.each(['CONNECT', 'TRACE', 'TRACK', 'no method'])(
    'the method %j keeps no member from working',
    (method) => {
      const request = lazyRequest(source({ method }))
      expect(request.method).toBe(method)
      expect(request.clone().url).toBe(request.url)
    },
  )

  test('a GET works', async () => {
    expect(await lazyRequest(source({ method: 'GET' })).text()).toBe('')
  })
})

test('requestInfo has the headers as Node has them, and one URL', () => {
  const info = lazyRequestInfo(source())
  expect(info.headers['x-many']).toEqual(['a', 'b'])
  expect(info.url).toBeInstanceOf(URL)
  expect(info.url).toBe(info.url)
  expect(info.url.searchParams.get('a')).toBe('1')
})

describe('requestUrl', () => {
  test.each<[string, string | string[] | undefined, string]>([
    ['/mcp', 'h', 'http://h/mcp'],
    ['/mcp', undefined, 'http://localhost/mcp'],
    ['/mcp', '', 'http://localhost/mcp'],
    ['/mcp', ['a', 'b'], 'http://localhost/mcp'],
    ['/mcp', '[::1]:3000', 'http://[::1]:3000/mcp'],
    ['/mcp', '[:::1]', 'http://localhost/mcp'],
    ['/mcp', 'h:99999', 'http://localhost/mcp'],
    ['/mcp', 'user:pw@h', 'http://localhost/mcp'],
    ['/mcp', 'h/x?y', 'http://localhost/mcp'],
    ['/mcp', 'h\\x', 'http://localhost/mcp'],
    ['/mcp', 'é', 'http://localhost/mcp'],
    ['//evil.com/x', 'h', 'http://h//evil.com/x'],
    ['/\\evil.com', 'h', 'http://h//evil.com'],
    ['http://other:1/mcp?x', 'h', 'http://other:1/mcp?x'],
    ['http://u:p@other/mcp', 'h', 'http://localhost/mcp'],
    ['*', 'h', 'http://h/'],
    ['h:443', 'h', 'http://h/'],
    ['', 'h', 'http://h/'],
    ['/%', 'h', 'http://h/%'],
    ['/mcp#f', 'h', 'http://h/mcp'],
  ])('target %j, host %j', (target, host, expected) => {
    expect(requestUrl({ method: 'GET', target, headers: { host } }).href).toBe(expected)
  })

  test('never throws, has no user and no password, and a Request can be made of it', () => {
    const piece = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('http://', '@', ':', '//', '\\', '[', ']', '%', '#', '?', '127.1'),
    )
    const anything = fc.array(piece, { maxLength: 5 }).map((all) => all.join(''))
    fc.assert(
      fc.property(anything, fc.option(anything, { nil: undefined }), (target, host) => {
        const url = requestUrl({ method: 'GET', target, headers: { host } })
        expect([url.protocol, url.username, url.password]).toEqual([url.protocol, '', ''])
        const request = lazyRequest({
          method: 'POST',
          target,
          headers: host === undefined ? {} : { host, 'x\n': 'a\nb' },
        })
        expect(request.clone().url).toBe(request.url)
      }),
      { numRuns: 300 },
    )
  })
})
