/** Bodies: decoded strictly, collected within bounds, nothing left behind; over real sockets where it matters. */

import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { PassThrough, type Readable } from 'node:stream'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { collectBody, decodeJson } from '../../src/http/body.ts'
import type { BodyResult } from '../../src/http/exchange.ts'
import { deferred, within } from '../support/deferred.ts'
import type { Clock } from '../../src/clock.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values)
const text = (result: BodyResult): string =>
  typeof result === 'string' ? result : Buffer.from(result).toString()

/** As a promise. */
function collected(stream: Readable, limit: number, timeout: number, clock: Clock): Promise<BodyResult> {
  return new Promise((resolve) => collectBody(stream, limit, timeout, clock, resolve))
}

describe('decodeJson', () => {
  test.each([
    '{}',
    '[1]',
    'null',
    '"é"',
    '"😀"',
    '"\ufffd"',
    '"\\ud800"',
    ' {"a" : 1}\r\n',
    '{"__proto__":1}',
  ])('%s', (json) => {
    expect(decodeJson(Buffer.from(json))).toEqual({ ok: true, value: JSON.parse(json) })
  })

  test.each(['', ' ', '{', '{}x', 'undefined', "{'a':1}", 'NaN', '\ufeff{}'])('%j is not JSON', (json) => {
    expect(decodeJson(Buffer.from(json))).toEqual({ ok: false, reason: 'json' })
  })

  test.each<[string, Uint8Array]>([
    ['a lone continuation byte', bytes(0x22, 0x80, 0x22)],
    ['a cut sequence', bytes(0x22, 0xe2, 0x82, 0x22)],
    ['an overlong slash', bytes(0x22, 0xc0, 0xaf, 0x22)],
    ['an encoded surrogate', bytes(0x22, 0xed, 0xa0, 0x80, 0x22)],
    ['beyond U+10FFFF', bytes(0x22, 0xf4, 0x90, 0x80, 0x80, 0x22)],
    ['latin-1', Buffer.from('"é"', 'latin1')],
    ['UTF-16', Buffer.from('\ufeff{}', 'utf16le')],
    ['a bad byte beside a genuine U+FFFD', Buffer.concat([Buffer.from('"\ufffd'), bytes(0xff, 0x22)])],
  ])('%s is not UTF-8', (_, body) => {
    expect(decodeJson(body)).toEqual({ ok: false, reason: 'utf8' })
  })

  test('a view into a larger buffer is read from where it begins', () => {
    const large = Buffer.from('xx{"a":1}yy')
    expect(decodeJson(large.subarray(2, 9))).toEqual({ ok: true, value: { a: 1 } })
    expect(decodeJson(new Uint8Array(large).subarray(2, 9))).toEqual({ ok: true, value: { a: 1 } })
  })

  test('10,000 levels of nesting are parsed', () => {
    expect(decodeJson(Buffer.from('['.repeat(10_000) + ']'.repeat(10_000))).ok).toBe(true)
  })

  test('agrees with the strict decoder on any bytes', () => {
    const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20 }), (body) => {
        let valid = true
        try {
          strict.decode(body)
        } catch {
          valid = false
        }
        const decoded = decodeJson(body)
        expect(!decoded.ok && decoded.reason === 'utf8').toBe(!valid)
      }),
      { numRuns: 1000 },
    )
  })
})

/** How many listeners of ours could remain. */
function listeners(stream: Readable): number {
  return ['data', 'end', 'error', 'close', 'readable', 'aborted'].reduce(
    (sum, name) => sum + stream.listenerCount(name),
    0,
  )
}

describe('collectBody of a stream', () => {
  /** A stream, its listeners before we came, and a clock. */
  function setUp(): { stream: PassThrough; before: number; clock: VirtualClock } {
    const stream = new PassThrough()
    return { stream, before: listeners(stream), clock: new VirtualClock() }
  }

  test('one chunk is handed on, not copied', async () => {
    const { stream, before, clock } = setUp()
    const chunk = Buffer.from('hello')
    const result = collected(stream, 100, 1000, clock)
    stream.end(chunk)
    const body = await within(result, 'the body')
    expect(body).toBe(chunk)
    expect([listeners(stream), clock.pending]).toEqual([before, 0])
  })

  test('any division into chunks gives the same body, or too-large', async () => {
    const divided = fc.array(fc.uint8Array({ maxLength: 3000 }), { maxLength: 30 })
    await fc.assert(
      fc.asyncProperty(divided, fc.integer({ min: 0, max: 40_000 }), async (chunks, limit) => {
        const { stream, before, clock } = setUp()
        const result = collected(stream, limit, 1000, clock)
        for (const chunk of chunks) stream.write(chunk)
        stream.end()
        const body = await within(result, 'the body')
        const whole = Buffer.concat(chunks)
        expect(body).toEqual(whole.length <= limit ? expect.any(Uint8Array) : 'too-large')
        if (typeof body !== 'string') expect(Buffer.compare(body, whole)).toBe(0)
        expect([listeners(stream), clock.pending]).toEqual([before, 0])
      }),
      { numRuns: 50 },
    )
  })

  test('a million chunks of one byte cost about their bytes', async () => {
    const { stream, clock } = setUp()
    const result = collected(stream, 2_000_000, 1000, clock)
    const one = bytes(0x20)
    await new Promise(setImmediate)
    const before = process.memoryUsage()
    for (let index = 0; index < 1_000_000; index++) stream.emit('data', one)
    const after = process.memoryUsage()
    stream.end()
    const body = await within(result, 'the body')
    expect(body.length).toBe(1_000_000)
    // Both buffers of each doubling at most; as a list of views it would be over 70 MB.
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(8_000_000)
  })

  test('the deadline counts from the call, is never early, and ends the reading', async () => {
    const { stream, before } = setUp()
    // Timers of this clock fire 1 ms early, as setTimeout may.
    const clock = new VirtualClock({ start: 0, skew: () => -1 })
    let settled: BodyResult | undefined
    const result = collected(stream, 100, 1000, clock).then((body) => (settled = body))
    stream.write('a')
    await clock.advance(600)
    stream.write('b')
    await clock.advance(399.5)
    expect(settled).toBeUndefined()
    await clock.advance(3)
    expect(await within(result, 'the timeout')).toEqual('timeout')
    expect([listeners(stream), clock.pending, stream.isPaused()]).toEqual([before, 0, true])
  })

  test('Infinity is no deadline', async () => {
    const { stream, clock } = setUp()
    const result = collected(stream, 100, Infinity, clock)
    await clock.advance(10_000_000)
    expect(clock.pending).toBe(0)
    stream.end('x')
    expect(text(await within(result, 'the body'))).toBe('x')
  })

  test.each<[string, (stream: PassThrough) => void]>([
    ['destroyed before the call', (stream) => stream.destroy()],
    ['destroyed later', (stream) => void setImmediate(() => stream.destroy())],
    ['failing later', (stream) => void setImmediate(() => stream.destroy(new Error('reset')))],
  ])('a stream %s is aborted', async (_, act) => {
    const { stream, before, clock } = setUp()
    act(stream)
    expect(await within(collected(stream, 100, 1000, clock), 'the abort')).toEqual('aborted')
    expect([listeners(stream), clock.pending]).toEqual([before, 0])
  })

  test('a body that somebody else has read is empty, not waited for', async () => {
    const { stream, clock } = setUp()
    stream.resume().end('gone')
    await once(stream, 'end')
    expect(text(await within(collected(stream, 100, 1000, clock), 'the body'))).toBe('')
  })

  test('a stream that middleware has paused or given an encoding is read', async () => {
    const { stream, clock } = setUp()
    stream.setEncoding('utf8').pause()
    stream.write('é')
    const result = collected(stream, 3, 1000, clock)
    stream.end('x')
    expect(text(await within(result, 'the body'))).toBe('éx')
  })
})

describe('collectBody of HTTP requests', () => {
  const closers: (() => Promise<void> | void)[] = []
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close()
  })

  interface Arrived {
    req: IncomingMessage
    res: ServerResponse
    result: Promise<BodyResult>
    before: number
  }

  /** A server whose requests are collected at once, and a raw connection to it. */
  async function open(
    limit: number,
    clock = new VirtualClock(),
  ): Promise<{ socket: Socket; next: () => Promise<Arrived> }> {
    const arrivals: Arrived[] = []
    let wake = deferred()
    const server = createServer((req, res) => {
      const before = listeners(req)
      arrivals.push({ req, res, before, result: collected(req, limit, 1000, clock) })
      wake.resolve()
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    closers.push(() => new Promise((done) => void server.close(() => done())))
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
    socket.on('error', () => {})
    closers.push(() => {
      socket.destroy()
      server.closeAllConnections()
    })
    await once(socket, 'connect')
    const next = async (): Promise<Arrived> => {
      while (arrivals.length === 0) {
        await within(wake.promise, 'a request')
        wake = deferred()
      }
      return arrivals.shift() as Arrived
    }
    return { socket, next }
  }

  const head = (more: string): string => `POST / HTTP/1.1\r\nHost: x\r\n${more}\r\n\r\n`

  test('a body in one segment with its head needs neither timer nor listener, on each request of a connection', async () => {
    const clock = new VirtualClock()
    const { socket, next } = await open(100, clock)
    for (const body of ['{"a":1}', '', 'x']) {
      let armed = 0
      const setTimer = clock.setTimer.bind(clock)
      clock.setTimer = (...args) => {
        armed++
        return setTimer(...args)
      }
      socket.write(head(`Content-Length: ${body.length}`) + body)
      const { req, res, result, before } = await next()
      expect(text(await within(result, 'the body'))).toBe(body)
      expect([armed, listeners(req)]).toEqual([0, before])
      res.end('ok')
      await once(socket, 'data')
      expect(req.readableEnded).toBe(true)
    }
  })

  test('a body in many segments, by length and chunked', async () => {
    const { socket, next } = await open(200_000)
    const part = 'é'.repeat(25_000)
    socket.write(head('Content-Length: 100000'))
    const first = await next()
    socket.write(part)
    await new Promise(setImmediate)
    socket.write(part)
    expect(text(await within(first.result, 'the body'))).toBe(part + part)
    expect(listeners(first.req)).toBe(first.before)
    first.res.end('ok')
    await once(socket, 'data')

    socket.write(head('Transfer-Encoding: chunked'))
    const second = await next()
    for (const piece of ['a', 'bc', 'def']) {
      await new Promise(setImmediate)
      socket.write(`${piece.length}\r\n${piece}\r\n`)
    }
    socket.write('0\r\n\r\n')
    expect(text(await within(second.result, 'the body'))).toBe('abcdef')
    second.res.end('ok')
  })

  test('pipelined requests do not mix', async () => {
    const { socket, next } = await open(100)
    socket.write(`${head('Content-Length: 1')}a${head('Content-Length: 2')}bb${head('Content-Length: 3')}ccc`)
    const bodies: string[] = []
    for (let count = 0; count < 3; count++) {
      const { res, result } = await next()
      bodies.push(text(await within(result, 'the body')))
      res.end('ok')
    }
    expect(bodies).toEqual(['a', 'bb', 'ccc'])
  })

  test('a Content-Length above the limit is refused before anything is read', async () => {
    const { socket, next } = await open(100)
    socket.write(`${head('Content-Length: 101')}x`)
    const { req, res, result, before } = await next()
    expect(await within(result, 'the refusal')).toEqual('too-large')
    expect([listeners(req), req.readableFlowing]).toEqual([before, null])
    res.writeHead(413, { Connection: 'close' }).end()
    const [answer] = (await within(once(socket, 'data'), 'the answer')) as [Buffer]
    expect(answer.toString()).toContain('413')
  })

  test('a chunked body is read no further than the limit, and the refusal arrives', async () => {
    const { socket, next } = await open(1000)
    socket.write(head('Transfer-Encoding: chunked'))
    const { req, res, result, before } = await next()
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`
    let sent = 0
    const flood = (): void => {
      while (sent < 400 && socket.write(chunk)) sent++
    }
    socket.on('drain', flood)
    flood()
    expect(await within(result, 'the refusal')).toEqual('too-large')
    expect([listeners(req), req.isPaused()]).toEqual([before, true])
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
    expect(req.readableLength).toBeLessThan(200_000)
    const answered = once(socket, 'data') as Promise<[Buffer]>
    res.writeHead(413, { Connection: 'close' }).end()
    expect((await within(answered, 'the answer'))[0].toString()).toContain('413')
  })

  test('the limit itself is allowed', async () => {
    const { socket, next } = await open(5)
    socket.write(`${head('Content-Length: 5')}12345`)
    expect(text(await within((await next()).result, 'the body'))).toBe('12345')
  })

  test('a silent client runs into the deadline and can still be answered', async () => {
    const clock = new VirtualClock()
    const { socket, next } = await open(100, clock)
    socket.write(`${head('Content-Length: 10')}half`)
    const { req, res, result, before } = await next()
    await clock.advance(1000)
    expect(await within(result, 'the timeout')).toEqual('timeout')
    expect([listeners(req), clock.pending]).toEqual([before, 0])
    res.writeHead(408, { Connection: 'close' }).end()
    expect(((await within(once(socket, 'data'), 'the answer')) as [Buffer])[0].toString()).toContain('408')
  })

  test.each<[string, (socket: Socket) => void]>([
    ['ends', (socket) => socket.end()],
    ['is reset', (socket) => socket.resetAndDestroy()],
  ])('a connection that %s in the middle of a body is aborted', async (_, cut) => {
    const clock = new VirtualClock()
    const { socket, next } = await open(100, clock)
    socket.write(`${head('Content-Length: 10')}half`)
    const { req, result, before } = await next()
    cut(socket)
    expect(await within(result, 'the abort')).toEqual('aborted')
    expect([listeners(req), clock.pending]).toEqual([before, 0])
  })
})
