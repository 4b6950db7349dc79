/** The simulated exchange keeps the contract of Exchange, and loses what a connection would lose. */

import { expect, test } from 'vitest'
import type { BodyResult } from '../../src/http/exchange.ts'
import { SimExchange } from './sim-exchange.ts'
import { VirtualClock } from './virtual-clock.ts'

const SSE = { 'content-type': 'text/event-stream' }

function read(exchange: SimExchange, limit: number, timeout: number): Promise<BodyResult> {
  return new Promise((resolve) => exchange.readBody(limit, timeout, resolve))
}

test('a whole response reaches the peer, and onclose comes once', async () => {
  const clock = new VirtualClock()
  const exchange = new SimExchange(clock, { headers: { Accept: 'a', 'X-Two': ['1', '2'] }, body: '{"a":1}' })
  const closes: boolean[] = []
  exchange.onclose = (completed) => closes.push(completed)
  expect(exchange.header('accept')).toBe('a')
  expect(exchange.header('x-two')).toBe('1, 2')
  expect(exchange.header('__proto__')).toBeUndefined()
  const body = await read(exchange, 100, 1000)
  expect(Buffer.from(body).toString()).toBe('{"a":1}')
  exchange.respond(200, { 'Content-Type': 'application/json' }, '{"b":2}')
  exchange.respond(500, {}, 'no')
  expect(await exchange.ended).toBe('completed')
  exchange.drop()
  await clock.settle()
  expect(closes).toEqual([true])
  expect(exchange.status).toBe(200)
  expect(exchange.json()).toEqual({ b: 2 })
})

test('bodies: slow, never, too large, dropped', async () => {
  const clock = new VirtualClock()
  const parts = [
    { after: 10, bytes: 'ab' },
    { after: 10, bytes: 'c' },
  ]
  const slow = read(new SimExchange(clock, { body: parts }), 10, 50)
  const never = read(new SimExchange(clock, { body: 'never' }), 10, 50)
  const large = read(new SimExchange(clock, { body: 'abcdef' }), 5, 50)
  const dropped = new SimExchange(clock, { body: 'never' })
  const aborted = read(dropped, 10, 50)
  clock.after(30, () => dropped.drop())
  await clock.advance(60)
  expect(Buffer.from(await slow).toString()).toBe('abc')
  expect(await never).toEqual('timeout')
  expect(await large).toEqual('too-large')
  expect(await aborted).toEqual('aborted')
  expect(clock.pending).toBe(0)
})

test('a stream parses as it arrives; a drop loses what is on the way', async () => {
  const clock = new VirtualClock()
  const exchange = new SimExchange(clock, {}, { latency: 5 })
  const closes: boolean[] = []
  exchange.onclose = (completed) => closes.push(completed)
  exchange.openStream(SSE)
  exchange.write('id: a\nretry: 3000\ndata: \n\n')
  exchange.write(': comment\n\ndata: {"x":1}\nid: b\n\n')
  expect(exchange.status).toBeUndefined()
  await clock.advance(5)
  expect(exchange.events.map((event) => event.id)).toEqual(['a', 'b'])
  expect(exchange.messages()).toEqual([{ x: 1 }])
  expect(exchange.retry).toBe(3000)
  exchange.write('data: lost\n\n')
  await clock.advance(4)
  exchange.drop()
  await clock.advance(10)
  expect(exchange.events).toHaveLength(2)
  expect(closes).toEqual([false])
})

test('a peer that stops reading makes unsent bytes; reading again takes them', async () => {
  const clock = new VirtualClock()
  const exchange = new SimExchange(clock)
  const closes: boolean[] = []
  exchange.onclose = (completed) => closes.push(completed)
  exchange.openStream(SSE)
  exchange.flush()
  exchange.stopReading()
  exchange.write('data: one\n\n')
  expect(exchange.unsentBytes).toBe(11)
  exchange.end('data: two\n\n')
  await clock.settle()
  expect(closes).toEqual([])
  exchange.resumeReading()
  await clock.settle()
  expect(closes).toEqual([true])
  expect(exchange.events.map((event) => event.data)).toEqual(['one', 'two'])
})
