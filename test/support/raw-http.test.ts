/** The raw client reads what Node's server writes, however it is framed and cut. */

import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

import { expect, onTestFinished, test } from 'vitest'

import { encodeChunk, LAST_CHUNK, RawConnection } from './raw-http.ts'

async function connectTo(listener: RequestListener): Promise<RawConnection> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const connection = await RawConnection.open((server.address() as AddressInfo).port)
  onTestFinished(() => connection.destroy())
  return connection
}

test('two pipelined responses, one of a length and one chunked', async () => {
  const connection = await connectTo((req, res) => {
    if (req.url === '/a')
      res
        .setHeader('X-Twice', ['1', '2'])
        .writeHead(201, { 'Content-Length': 2 })
        .end('aß'.slice(0, 2).replace('ß', 'b'))
    else {
      res.write('one')
      res.end('two')
    }
  })
  await connection.send({ target: '/a' })
  await connection.send({ target: '/b' })
  const a = await connection.response()
  expect([a.status, a.framing, await a.text(), a.header('x-twice')]).toEqual([201, 'length', 'ab', '1, 2'])
  const b = await connection.response()
  expect([b.status, b.framing, await b.text(), b.chunks]).toEqual([200, 'chunked', 'onetwo', 2])
})

test('SSE blocks come one by one, comments and empty data told apart', async () => {
  let go = (): void => {}
  const connection = await connectTo((_req, res) => {
    res.writeHead(200, { 'Content-Type': 'text/event-stream' })
    res.write(': hello\n\nid: 1\ndata:\nretry: 3000\n\nid: 2\nda')
    go = () => res.end('ta: {"a":1}\n\n')
  })
  const response = await connection.request({})
  expect(await response.nextBlock()).toMatchObject({ comment: 'hello', data: undefined })
  expect(await response.nextEvent()).toMatchObject({ id: '1', data: '', retry: 3000 })
  go()
  expect(await response.nextMessage()).toEqual({ a: 1 })
  expect(await response.nextMessage()).toBeUndefined()
  expect(await response.ended()).toBe('complete')
})

test('a response that is cut says so, and so does a connection', async () => {
  const connection = await connectTo((req, res) => {
    res.write('x')
    setImmediate(() => req.socket.destroy())
  })
  const response = await connection.request({})
  expect(await response.ended()).toBe('cut')
  expect(await connection.closed()).toMatch(/ended|reset/)
})

test('bytes go out as they are: a chunked body, by hand, and a response without a body', async () => {
  const connection = await connectTo((req, res) => {
    const chunks: Buffer[] = []
    req.on('data', (chunk: Buffer) => chunks.push(chunk))
    req.on('end', () => res.writeHead(204, { 'X-Body': Buffer.concat(chunks).toString() }).end())
  })
  await connection.send({ method: 'POST', headers: { 'Transfer-Encoding': 'chunked' } })
  await connection.write(encodeChunk('ab'))
  await connection.write(encodeChunk('c'))
  await connection.write(LAST_CHUNK)
  const response = await connection.response()
  expect([response.status, response.framing, response.header('x-body')]).toEqual([204, 'none', 'abc'])
  expect(await response.ended()).toBe('complete')
})
