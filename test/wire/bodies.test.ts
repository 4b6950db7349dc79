/** Row 6 of "Order of checks" in docs/wire.md: bodies, whole, slow, too large and broken, over real sockets. */

import { expect, test } from 'vitest'

import type { McpServerLike } from '../../src/types.ts'
import { within } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import {
  expectError,
  expectNothing,
  ID,
  initialize,
  openSession,
  post,
  POST_HEADERS,
  rpc,
} from '../support/mcp-wire.ts'
import { encodeChunk, encodeRequest, LAST_CHUNK, type RawConnection } from '../support/raw-http.ts'
import { serve, type Served } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const MIB = 1024 * 1024

const clock = new VirtualClock()

function fake(): McpServerLike {
  return new FakeServer({ clock, tag: 'fake' })
}

/** A server whose factory must not be called. */
function serveNothing(options: Parameters<typeof serve>[1] = {}): Promise<Served> {
  return serve(() => {
    throw new Error('nothing may be built for a refused request')
  }, options)
}

/** Valid JSON of exactly so many bytes. */
function padded(message: object, bytes: number): string {
  const text = JSON.stringify(message)
  return text + ' '.repeat(bytes - text.length)
}

/** Sends only the head of a POST. */
async function sendHead(
  connection: RawConnection,
  server: Served,
  headers: Record<string, string>,
): Promise<void> {
  await connection.write(
    encodeRequest({ method: 'POST', headers: { ...POST_HEADERS, ...headers } }, `127.0.0.1:${server.port}`),
  )
}

const TOO_LARGE = {
  status: 413,
  code: -32000,
  message: 'Payload Too Large: Request body must not exceed 4194304 bytes',
}

test('a connection serves one POST after the other', async () => {
  const server = await serve(fake)
  const connection = await server.connect()
  const first = await connection.request(post(initialize()))
  await first.text()
  expect(first.header('connection')).toBe('keep-alive')
  const headers = { 'Mcp-Session-Id': first.header('mcp-session-id') }
  for (const id of ['a', 'b', 'c']) {
    const response = await connection.request(post(rpc('ping', undefined, id), headers))
    expect(await response.json()).toEqual({ jsonrpc: '2.0', id, result: {} })
    expect(response.header('connection')).toBe('keep-alive')
  }
  expect(connection.gone).toBeUndefined()
})

test('pipelined POSTs are answered in their order', async () => {
  const server = await serve(fake)
  const session = await openSession(server)
  const connection = await server.connect()
  const bytes = ['a', 'b', 'c'].map((id) =>
    encodeRequest(post(rpc('ping', undefined, id), session.headers), `127.0.0.1:${server.port}`),
  )
  await connection.write(Buffer.concat(bytes))
  for (const id of ['a', 'b', 'c']) {
    const response = await connection.response()
    expect(await response.json()).toEqual({ jsonrpc: '2.0', id, result: {} })
  }
})

test('a body in one byte after the other is a body', async () => {
  const server = await serve(fake)
  const connection = await server.connect()
  const body = Buffer.from(JSON.stringify(initialize()))
  await sendHead(connection, server, { 'Content-Length': String(body.length) })
  for (const byte of body) await connection.write(Buffer.of(byte))
  const response = await connection.response()
  expect(response.status).toBe(200)
  expect(response.header('connection')).toBe('keep-alive')
})

test('a chunked body is a body, its chunks cut anywhere, also within a character', async () => {
  const server = await serve(fake)
  const connection = await server.connect()
  await sendHead(connection, server, { 'Transfer-Encoding': 'chunked' })
  const body = Buffer.from(
    JSON.stringify({
      jsonrpc: '2.0',
      id: 'ünï',
      method: 'initialize',
      params: { protocolVersion: '2025-11-25' },
    }),
  )
  for (let at = 0; at < body.length; at += 7) await connection.write(encodeChunk(body.subarray(at, at + 7)))
  await connection.write(LAST_CHUNK)
  const response = await connection.response()
  expect(response.status).toBe(200)
  expect(await response.json()).toMatchObject({ id: 'ünï' })
})

test('Expect: 100-continue is answered before the body comes', async () => {
  const server = await serve(fake)
  const connection = await server.connect()
  const body = JSON.stringify(initialize())
  await sendHead(connection, server, { 'Content-Length': String(body.length), Expect: '100-continue' })
  expect((await connection.response()).status).toBe(100)
  await connection.write(body)
  expect((await connection.response()).status).toBe(200)
})

test('limit 4 MiB: exactly that much is read', async () => {
  const server = await serve(fake)
  const response = await server.request(post(padded(initialize(), 4 * MIB)))
  expect(response.status).toBe(200)
})

test('limit 4 MiB: one byte more is 413', async () => {
  const server = await serveNothing()
  await expectError(await server.request(post(padded(initialize(), 4 * MIB + 1))), TOO_LARGE)
  expectNothing(server)
})

test('limit 4 MiB: a declared length over it is 413 before the body is sent', async () => {
  const server = await serveNothing()
  const connection = await server.connect()
  await sendHead(connection, server, { 'Content-Length': String(4 * MIB + 1) })
  const response = await connection.response()
  await expectError(response, TOO_LARGE)
  expect(server.events).toMatchObject([
    { type: 'request.refused', status: 413, cause: 'body-too-large', option: 'maxBodySize' },
  ])
  expectNothing(server)
})

test('limit 4 MiB: an endless chunked body is 413, and no more of it is kept', async () => {
  const server = await serveNothing({ clock: new VirtualClock() })
  const connection = await server.connect()
  await sendHead(connection, server, { 'Transfer-Encoding': 'chunked' })
  const chunk = encodeChunk(' '.repeat(MIB))
  let sent = 0
  const flood = (async () => {
    while (connection.gone === undefined && !connection.socket.destroyed) {
      await connection.write(chunk)
      sent += 1
    }
  })().catch(() => {})
  const response = await connection.response()
  await expectError(response, TOO_LARGE)
  await server.clock.advance(2000)
  await connection.closed()
  connection.destroy()
  await within(flood, 'the end of the flood')
  expect(sent).toBeGreaterThan(3)
  expectNothing(server)
})

test('limit 4 MiB: a client that sends all before it reads still gets the 413', async () => {
  const server = await serveNothing()
  const connection = await server.connect()
  connection.pause()
  await sendHead(connection, server, { 'Content-Length': String(16 * MIB) })
  for (let written = 0; written < 16; written++) await connection.write(Buffer.alloc(MIB, ' '))
  connection.resume()
  await expectError(await connection.response(), TOO_LARGE)
})

test('limit 4 MiB: a refused connection goes away 2 s later even if the client goes on for ever', async () => {
  const server = await serveNothing({ clock: new VirtualClock() })
  const connection = await server.connect()
  await sendHead(connection, server, { 'Content-Length': String(4 * MIB + 1) })
  await expectError(await connection.response(), TOO_LARGE)
  await connection.write(' '.repeat(MIB))
  await server.clock.advance(1999)
  expect(connection.gone).toBeUndefined()
  await server.clock.advance(1)
  await connection.closed()
})

test('limit 4 MiB: a connection whose refused body came to its end serves the next request', async () => {
  const server = await serve(fake, { clock: new VirtualClock() })
  const connection = await server.connect()
  await sendHead(connection, server, { 'Content-Length': String(4 * MIB + 1) })
  await expectError(await connection.response(), TOO_LARGE)
  await connection.write(' '.repeat(4 * MIB + 1))
  expect((await connection.request(post(initialize()))).status).toBe(200)
  await server.clock.advance(10_000)
  expect(connection.gone).toBeUndefined()
})

test('maxBodySize is an option', async () => {
  const server = await serve(fake, { maxBodySize: '1KiB' })
  await expectError(await server.request(post(padded(initialize(), 1025))), {
    ...TOO_LARGE,
    message: 'Payload Too Large: Request body must not exceed 1024 bytes',
  })
  expectNothing(server)
  expect((await server.request(post(padded(initialize(), 1024)))).status).toBe(200)
})

test('deadline 30 s: a body that has not arrived by then is 408, however it trickles', async () => {
  const server = await serveNothing({ clock: new VirtualClock() })
  const connection = await server.connect()
  await sendHead(connection, server, { 'Content-Length': '1000' })
  await connection.write('{')
  await untilReading(server)
  for (let second = 1; second < 30; second++) {
    await server.clock.advance(1000)
    await connection.write(' ')
  }
  await server.clock.advance(999)
  expect(connection.bytesReceived).toBe(0)
  await server.clock.advance(1)
  await expectError(await connection.response(), {
    status: 408,
    code: -32000,
    message: 'Request Timeout: the body did not arrive within 30000 ms',
  })
  expect(server.events).toMatchObject([
    { type: 'request.refused', status: 408, cause: 'body-timeout', option: 'bodyTimeout' },
  ])
  expectNothing(server)
  await server.clock.advance(2000)
  await connection.closed()
})

test('deadline 30 s: a body that is complete just before it is served', async () => {
  const server = await serve(fake, { clock: new VirtualClock() })
  const connection = await server.connect()
  const body = JSON.stringify(initialize())
  await sendHead(connection, server, { 'Content-Length': String(body.length) })
  await untilReading(server)
  await server.clock.advance(29_999)
  await connection.write(body)
  expect((await connection.response()).status).toBe(200)
})

test('bodyTimeout is an option', async () => {
  const server = await serveNothing({ clock: new VirtualClock(), bodyTimeout: '2s' })
  const connection = await server.connect()
  await sendHead(connection, server, { 'Content-Length': '10' })
  await untilReading(server)
  await server.clock.advance(2000)
  await expectError(await connection.response(), {
    status: 408,
    code: -32000,
    message: 'Request Timeout: the body did not arrive within 2000 ms',
  })
})

test.each([
  ['a reset', (connection: RawConnection) => connection.reset()],
  ['a close', (connection: RawConnection) => connection.destroy()],
])('a client that goes away in the middle of its body leaves nothing: %s', async (_, leave) => {
  const server = await serveNothing({ clock: new VirtualClock() })
  const connection = await server.connect()
  await sendHead(connection, server, { 'Content-Length': '1000' })
  await connection.write('{"jsonrpc"')
  await untilReading(server)
  leave(connection)
  await server.until('request.refused')
  expect(server.events).toMatchObject([{ type: 'request.refused', status: 400, cause: 'body-aborted' }])
  expect(server.timers).toBe(0)
  expectNothing(server)
})

test.each([
  ['a lone continuation byte', [0x22, 0x80, 0x22]],
  ['an overlong slash', [0x22, 0xc0, 0xaf, 0x22]],
  ['a surrogate', [0x22, 0xed, 0xa0, 0x80, 0x22]],
  ['a character cut off', [0x22, 0xe2, 0x82, 0x22]],
  ['Latin-1', [0x22, 0xfc, 0x22]],
  ['UTF-16', [0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00]],
])('not UTF-8 → 400 -32700: %s', async (_, bytes) => {
  const server = await serveNothing()
  await expectError(await server.request(post(Uint8Array.from(bytes))), {
    status: 400,
    code: -32700,
    message: 'Parse error: the body is not UTF-8',
  })
  expectNothing(server)
})

test('a replacement character that was sent as one is UTF-8', async () => {
  const server = await serve(fake)
  const response = await server.request(post(initialize('2025-11-25', {}, 'a\ufffdb')))
  expect(response.status).toBe(200)
  expect(await response.json()).toMatchObject({ id: 'a\ufffdb' })
})

test.each([
  ['nothing', ''],
  ['white space', ' \n'],
  ['text', 'hello'],
  ['a cut object', '{"jsonrpc":"2.0"'],
  ['two documents', '{}{}'],
  ['a trailing comma', '{"jsonrpc":"2.0","id":1,"method":"ping",}'],
  ['a byte order mark', '\ufeff{"jsonrpc":"2.0","id":1,"method":"ping"}'],
  ['NaN', 'NaN'],
  ['a form', 'jsonrpc=2.0&method=ping'],
])('not JSON → 400 -32700: %s', async (_, body) => {
  const server = await serveNothing()
  await expectError(await server.request(post(body)), {
    status: 400,
    code: -32700,
    message: 'Parse error: Invalid JSON',
  })
  expectNothing(server)
})

test('a POST without a body at all is not JSON', async () => {
  const server = await serveNothing()
  await expectError(await server.request(post(undefined)), {
    status: 400,
    code: -32700,
    message: 'Parse error: Invalid JSON',
  })
})

test('JSON nested a million levels deep is refused, and the process lives', async () => {
  const server = await serveNothing()
  const response = await server.request(post('['.repeat(MIB) + ']'.repeat(MIB)))
  expect(response.status).toBe(400)
  expect(await response.json()).toMatchObject({
    jsonrpc: '2.0',
    id: null,
    error: { code: expect.any(Number) },
  })
  expectNothing(server)
})

test.each<[string, string, string | number | null]>([
  ['null', 'null', null],
  ['a number', '1', null],
  ['a string', '"x"', null],
  ['an empty object', '{}', null],
  ['no jsonrpc', '{"id":1,"method":"ping"}', 1],
  ['jsonrpc 1.0', '{"jsonrpc":"1.0","id":1,"method":"ping"}', 1],
  ['jsonrpc as a number', '{"jsonrpc":2.0,"id":1,"method":"ping"}', 1],
  ['id null', '{"jsonrpc":"2.0","id":null,"method":"ping"}', null],
  ['a fractional id', '{"jsonrpc":"2.0","id":1.5,"method":"ping"}', null],
  ['an id beyond 2^53', '{"jsonrpc":"2.0","id":9007199254740993,"method":"ping"}', null],
  ['an id below -2^53', '{"jsonrpc":"2.0","id":-9007199254740993,"method":"ping"}', null],
  ['an id that is an object', '{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}', null],
  ['an id that is an array', '{"jsonrpc":"2.0","id":[1],"method":"ping"}', null],
  ['an id that is a boolean', '{"jsonrpc":"2.0","id":true,"method":"ping"}', null],
  ['a method that is no string', '{"jsonrpc":"2.0","id":"x","method":1}', 'x'],
  ['an empty method', '{"jsonrpc":"2.0","id":"x","method":""}', 'x'],
  ['params that are an array', '{"jsonrpc":"2.0","id":"x","method":"ping","params":[1]}', 'x'],
  ['params that are a string', '{"jsonrpc":"2.0","id":"x","method":"ping","params":"p"}', 'x'],
  ['params that are null', '{"jsonrpc":"2.0","id":"x","method":"ping","params":null}', 'x'],
  [
    'result and error together',
    '{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"m"}}',
    null,
  ],
  ['method and result together', '{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}', 1],
  ['an error without a message', '{"jsonrpc":"2.0","id":1,"error":{"code":1}}', null],
  ['an error whose code is a string', '{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":"m"}}', null],
  ['a result that is no object', '{"jsonrpc":"2.0","id":1,"result":1}', null],
  ['a result without an id', '{"jsonrpc":"2.0","result":{}}', null],
  ['an empty batch', '[]', null],
  [
    'a batch with one bad message',
    '[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2}]',
    null,
  ],
  ['a batch within a batch', '[[{"jsonrpc":"2.0","id":1,"method":"ping"}]]', null],
])('not JSON-RPC → 400 -32600: %s', async (_, body, id) => {
  const server = await serveNothing()
  await expectError(await server.request(post(body)), {
    status: 400,
    code: -32600,
    message: /^Invalid Request: /,
    id,
  })
  expect(server.events).toMatchObject([{ type: 'request.refused', status: 400, cause: 'json-rpc' }])
  expectNothing(server)
})

test.each<[string, string | number]>([
  ['zero', 0],
  ['negative', -1],
  ['the largest integer', Number.MAX_SAFE_INTEGER],
  ['an empty string', ''],
  ['a string that looks like a number', '1'],
  ['a long string', 'x'.repeat(1000)],
  ['__proto__', '__proto__'],
])('ids that JSON-RPC has come back as they were: %s', async (_, id) => {
  const server = await serve(fake)
  const response = await server.request(post(initialize('2025-11-25', {}, id)))
  expect(await response.json()).toMatchObject({ id, result: {} })
})

test('members that JSON-RPC does not know do no harm, __proto__ included', async () => {
  const server = await serve(fake)
  const session = await openSession(server)
  const body = `{"jsonrpc":"2.0","id":"${ID}","method":"ping","extra":1,"__proto__":{"id":7},"constructor":{"prototype":{"polluted":1}}}`
  const response = await server.request(post(body, session.headers))
  expect(await response.json()).toEqual({ jsonrpc: '2.0', id: ID, result: {} })
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
})

/** Waits until the app reads a body, which is when its deadline runs. */
async function untilReading(server: Served): Promise<void> {
  await server.waitFor(() => server.timers > 0, 'reading of the body')
}
