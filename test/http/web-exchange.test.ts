/** The Web-standard face of an exchange, against a reader that asks when the test says so. */

import { getEventListeners } from 'node:events'

import { expect, test } from 'vitest'

import type { BodyResult } from '../../src/http/exchange.ts'
import { WebExchange, type WebExchangeOptions } from '../../src/http/web-exchange.ts'
import { within } from '../support/deferred.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

interface Given extends Partial<WebExchangeOptions> {
  init?: RequestInit & { duplex?: 'half' }
  url?: string
}

function exchangeOf({ init, url = 'http://mcp.example.com/mcp?a=b', ...options }: Given = {}) {
  const controller = new AbortController()
  const clock = new VirtualClock()
  const source = new Request(url, { method: 'POST', signal: controller.signal, ...init })
  const exchange = new WebExchange(source, { clock, trustedProxies: 0, ...options })
  const closed: boolean[] = []
  exchange.onclose = (completed) => closed.push(completed)
  const listeners = (): number => getEventListeners(source.signal, 'abort').length
  return { exchange, clock, closed, source, listeners, abort: () => controller.abort() }
}

/** A body in pieces, each sent when the test says so. */
function upload() {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined
  const body = new ReadableStream<Uint8Array>({ start: (given) => void (controller = given) })
  return {
    init: { method: 'POST', body, duplex: 'half' as const },
    send: (text: string) => controller?.enqueue(Buffer.from(text)),
    end: () => controller?.close(),
    fail: () => controller?.error(new Error('reset')),
  }
}

async function readerOf(exchange: WebExchange) {
  const { body } = await within(exchange.response, 'the response')
  if (body === null) throw new Error('no body')
  return body.getReader()
}

const text = (read: { value?: Uint8Array | undefined }): string => Buffer.from(read.value ?? []).toString()

test('the head of the request, lazily', () => {
  const { exchange } = exchangeOf({ init: { headers: { 'Mcp-Session-Id': 'x', Accept: 'a' } } })
  expect(exchange.method).toBe('POST')
  expect(exchange.target).toBe('/mcp?a=b')
  expect(exchange.header('mcp-session-id')).toBe('x')
  expect(exchange.header('last-event-id')).toBeUndefined()
  expect(exchange.header('host')).toBe('mcp.example.com')
  expect(exchange.headers).toMatchObject({ accept: 'a', 'mcp-session-id': 'x' })
  expect(exchange.requestInfo.url.href).toBe('http://mcp.example.com/mcp?a=b')
  expect(exchange.request).toBeInstanceOf(Request)
  expect(exchange.request).toBe(exchange.request)
  expect(exchange.request.body).toBeNull()
  expect([exchange.loopback, exchange.remoteAddress, exchange.presetAuth]).toEqual([
    undefined,
    undefined,
    undefined,
  ])
})

test('`Host` is what the client sent, where it sent one', () => {
  const { exchange } = exchangeOf({ init: { headers: { Host: 'other.example.com' } } })
  expect(exchange.header('host')).toBe('other.example.com')
})

test('a URL that its runtime did not check throws nowhere', () => {
  const { source, clock } = exchangeOf()
  const lightweight = Object.create(source, {
    url: { value: 'http://127.0.0.256/mcp?x' },
    headers: { value: new Headers({ Host: '127.0.0.256' }) },
    signal: { value: source.signal },
    method: { value: 'POST' },
  }) as Request
  const exchange = new WebExchange(lightweight, { clock, trustedProxies: 0 })
  expect(exchange.target).toBe('/mcp?x')
  expect(exchange.header('host')).toBe('127.0.0.256')
  expect(exchange.requestInfo.url.href).toBe('http://localhost/mcp?x')
})

test('a whole response is over at once, with its length', async () => {
  const { exchange, closed, listeners } = exchangeOf()
  exchange.commonHeaders = { 'Mcp-Session-Id': 'id' }
  exchange.respond(200, { 'Content-Type': 'application/json', 'Set-Cookie': ['a=1', 'b=2'] }, '{"é":1}')
  expect(closed).toEqual([true])
  expect(listeners()).toBe(0)
  const response = await exchange.response
  expect(response.status).toBe(200)
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-length': '8',
    'content-type': 'application/json',
    'mcp-session-id': 'id',
  })
  expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
  expect(await response.text()).toBe('{"é":1}')
  exchange.respond(500, {}, 'again')
  exchange.write('more')
  expect(closed).toEqual([true])
})

test.each([
  [202, '0'],
  [204, null],
  [405, '0'],
])('a response without a body has none: %i', async (status, length) => {
  const { exchange } = exchangeOf()
  exchange.respond(status, {}, '')
  const response = await exchange.response
  expect([response.status, response.body, response.headers.get('content-length')]).toEqual([
    status,
    null,
    length,
  ])
  expect(response.headers.get('content-type')).toBeNull()
})

test('a field that HTTP cannot carry is answered with 500', async () => {
  const { exchange, closed } = exchangeOf()
  exchange.respond(403, { 'WWW-Authenticate': 'a\nb' }, 'body')
  expect((await exchange.response).status).toBe(500)
  expect(closed).toEqual([true])
})

test('a stream: what is unsent is what nobody asked for, to the byte', async () => {
  const { exchange, closed, listeners } = exchangeOf()
  exchange.openStream({ 'Content-Type': 'text/event-stream' })
  exchange.write('one')
  exchange.write('é')
  expect(exchange.unsentBytes).toBe(5)
  const reader = await readerOf(exchange)
  expect(exchange.unsentBytes).toBe(5)
  // What waited comes in one piece.
  expect(text(await reader.read())).toBe('oneé')
  expect(exchange.unsentBytes).toBe(0)
  const asked = reader.read()
  exchange.write('two')
  expect(exchange.unsentBytes).toBe(0)
  expect(text(await asked)).toBe('two')
  exchange.end('three')
  expect([exchange.unsentBytes, exchange.closed, closed]).toEqual([5, false, []])
  expect(text(await reader.read())).toBe('three')
  expect([exchange.unsentBytes, exchange.closed, closed]).toEqual([0, true, [true]])
  expect((await reader.read()).done).toBe(true)
  expect(listeners()).toBe(0)
})

test('a stream that ends with nothing left is over at once', async () => {
  const { exchange, closed } = exchangeOf()
  exchange.openStream({})
  exchange.end()
  expect(closed).toEqual([true])
  expect(await (await exchange.response).text()).toBe('')
})

test.each(['a stream', 'a whole response'])(
  '%s leaves in pieces: a peer that stops reading is seen',
  async (kind) => {
    const { exchange, closed } = exchangeOf()
    const body = '語'.repeat(100_000)
    if (kind === 'a stream') {
      exchange.openStream({})
      exchange.end(body)
    } else exchange.respond(200, {}, body)
    const reader = await readerOf(exchange)
    const pieces: Uint8Array[] = []
    for (let left = 300_000; left > 0;) {
      expect([exchange.unsentBytes, closed]).toEqual([left, []])
      const { value } = await reader.read()
      if (value === undefined) throw new Error('the end came early')
      expect(value.length).toBeLessThanOrEqual(64 * 1024)
      pieces.push(value)
      left -= value.length
    }
    expect(closed).toEqual([true])
    expect(Buffer.concat(pieces).toString()).toBe(body)
    expect((await reader.read()).done).toBe(true)
  },
)

test('a reader that cancels is gone', async () => {
  const { exchange, closed, listeners } = exchangeOf()
  exchange.openStream({})
  exchange.write('lost')
  const reader = await readerOf(exchange)
  await reader.cancel()
  expect([closed, exchange.unsentBytes, exchange.closed, listeners()]).toEqual([[false], 0, true, 0])
  exchange.write('more')
  exchange.end()
  expect(closed).toEqual([false])
})

test('a request that is aborted while its stream is open', async () => {
  const { exchange, closed, abort, listeners } = exchangeOf()
  exchange.openStream({})
  const reader = await readerOf(exchange)
  const asked = reader.read()
  abort()
  expect([closed, listeners()]).toEqual([[false], 0])
  expect((await within(asked, 'the end of the body')).done).toBe(true)
})

test('a request that is aborted before it is answered keeps nobody waiting', async () => {
  const { exchange, closed, abort, listeners } = exchangeOf()
  const { signal } = exchange.request
  abort()
  expect([closed, listeners(), signal.aborted]).toEqual([[false], 0, true])
  expect((await within(exchange.response, 'a response')).status).toBe(499)
  exchange.respond(200, {}, 'late')
  expect(closed).toEqual([false])
})

test('a request that was aborted before it came is told of once, later', async () => {
  const { exchange, closed } = exchangeOf({ init: { signal: AbortSignal.abort() } })
  expect(closed).toEqual([])
  await exchange.response
  expect([closed, exchange.closed]).toEqual([[false], true])
})

test('destroy(): the body fails, so that the runtime cuts the connection', async () => {
  const { exchange, closed } = exchangeOf()
  exchange.openStream({})
  exchange.write('waits')
  exchange.destroy()
  exchange.destroy()
  expect([closed, exchange.unsentBytes]).toEqual([[false], 0])
  await expect((await exchange.response).text()).rejects.toThrow('the server cut this connection')
})

test('destroy() before there is a response', async () => {
  const { exchange, closed } = exchangeOf()
  exchange.destroy()
  expect(closed).toEqual([false])
  await expect((await exchange.response).text()).rejects.toThrow('the server cut this connection')
})

function read10(exchange: WebExchange): Promise<BodyResult> {
  return new Promise((resolve) => exchange.readBody(10, 1_000, resolve))
}

test('a body in pieces', async () => {
  const body = upload()
  const { exchange, clock } = exchangeOf({ init: body.init })
  const read = read10(exchange)
  body.send('12345')
  body.send('67890')
  body.end()
  expect(await within(read, 'the body')).toEqual(new Uint8Array(Buffer.from('1234567890')))
  expect(clock.pending).toBe(0)
})

test('no body', async () => {
  const { exchange, clock } = exchangeOf()
  expect(await read10(exchange)).toEqual(new Uint8Array(0))
  expect(clock.pending).toBe(0)
})

test('a body that is announced as too large is not read', async () => {
  const { exchange, source } = exchangeOf({ init: { body: 'x', headers: { 'Content-Length': '11' } } })
  expect(await read10(exchange)).toEqual('too-large')
  expect(source.bodyUsed).toBe(false)
})

test('a body that is too large without saying so', async () => {
  const body = upload()
  const { exchange, clock, source } = exchangeOf({ init: body.init })
  const read = read10(exchange)
  body.send('1234567890')
  body.send('1')
  expect(await within(read, 'the refusal')).toEqual('too-large')
  expect([clock.pending, source.body?.locked]).toEqual([0, false])
})

test('a body that takes too long', async () => {
  const body = upload()
  const { exchange, clock, source } = exchangeOf({ init: body.init })
  const read = read10(exchange)
  body.send('1')
  let over = false
  void read.then(() => (over = true))
  await clock.advance(999)
  expect(over).toBe(false)
  await clock.advance(1)
  expect(await within(read, 'the deadline')).toEqual('timeout')
  expect([clock.pending, source.body?.locked]).toEqual([0, false])
  // The exchange goes on: it has an answer to give.
  exchange.respond(408, {}, 'late')
  expect((await exchange.response).status).toBe(408)
})

test.each(['aborts', 'breaks off'])('a client that %s in the middle of its body', async (how) => {
  const body = upload()
  const { exchange, clock, abort } = exchangeOf({ init: body.init })
  const read = read10(exchange)
  body.send('1')
  if (how === 'aborts') abort()
  else body.fail()
  expect(await within(read, 'the end')).toEqual('aborted')
  expect(clock.pending).toBe(0)
})

test('a body that somebody read is not there to be read: what it held has to be handed over', async () => {
  const read = exchangeOf({ init: { body: '{}' } })
  await read.source.text()
  expect(() => read.exchange.parsedBody).toThrow(/was read before .* app\.fetch\(request, \{ parsedBody \}\)/)
  const handed = exchangeOf({ init: { body: '{}' }, parsedBody: {} })
  await handed.source.text()
  expect(handed.exchange.parsedBody).toEqual({})
})
