/** `runHttp` on real sockets: where it listens, what it answers to what is not for it, and how it stops. */

import { existsSync, linkSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http'
import { type AddressInfo, createServer as createNetServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { describe, expect, it, onTestFinished } from 'vitest'

import { SojournError } from '../src/errors.ts'
import { type HttpServerHandle, runHttp } from '../src/run-http.ts'
import type { RunHttpOptions } from '../src/types.ts'
import { within } from './support/deferred.ts'
import { FakeServer } from './support/fake-server.ts'
import { initialize, notification, post, rpc } from './support/mcp-wire.ts'
import { encodeRequest, RawConnection } from './support/raw-http.ts'

const clock = {
  now: () => performance.now(),
  after: (delay: number, callback: () => void) => {
    const handle = setTimeout(callback, delay)
    return { cancel: () => clearTimeout(handle) }
  },
}

const factory = (): FakeServer => new FakeServer({ clock, tag: 'fake' })

/** A running server, stopped at the end of the test. */
async function run(options: RunHttpOptions = {}): Promise<HttpServerHandle> {
  const handle = await runHttp(factory, { port: 0, handleSignals: false, ...options })
  onTestFinished(() => within(handle.close(), 'close()'))
  return handle
}

async function open(handle: HttpServerHandle): Promise<RawConnection> {
  const connection = await RawConnection.open((handle.server.address() as AddressInfo).port)
  onTestFinished(() => connection.destroy())
  return connection
}

async function openSession(
  handle: HttpServerHandle,
): Promise<{ connection: RawConnection; headers: Record<string, string> }> {
  const connection = await open(handle)
  const response = await connection.request(post(initialize()))
  await response.text()
  expect(response.status).toBe(200)
  const headers = {
    'Mcp-Session-Id': response.header('mcp-session-id') ?? '',
    'Mcp-Protocol-Version': '2025-11-25',
  }
  await (await connection.request(post(notification('notifications/initialized'), headers))).text()
  return { connection, headers }
}

const call = (duration: number): object =>
  rpc('tools/call', { name: 'run', arguments: { tag: 'call', duration } }, 7)

const notFound = { jsonrpc: '2.0', error: { code: -32000, message: 'Not found' }, id: null }

describe('the endpoint', () => {
  it('is at its path, and nowhere else', async () => {
    const handle = await run({ path: '/agents/mcp' })
    expect(handle.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/agents\/mcp$/)
    const connection = await open(handle)
    for (const target of [
      '/mcp',
      '/',
      '/agents/mcp/',
      '/agents/mcp2',
      '/agents%2Fmcp',
      '//agents/mcp',
      'http://localhost/mcp',
    ]) {
      const response = await connection.request({ ...post(initialize()), target })
      expect(response.status, target).toBe(404)
      expect(await response.json()).toEqual(notFound)
    }
    for (const target of ['/agents/mcp', '/agents/mcp?x=1', 'http://localhost/agents/mcp']) {
      const response = await connection.request({ ...post(initialize()), target })
      expect(response.status, target).toBe(200)
      await response.text()
    }
  })

  it('answers OPTIONS * with 404 and goes on', async () => {
    const connection = await open(await run())
    const response = await connection.request({ method: 'OPTIONS', target: '*' })
    expect(response.status).toBe(404)
    expect(await response.json()).toEqual(notFound)
    expect((await connection.request(post(initialize()))).status).toBe(200)
  })

  it('keeps connections for 75 s, and waits 30 s for a head', async () => {
    const { server } = await run()
    expect(server.keepAliveTimeout).toBe(75_000)
    expect(server.headersTimeout).toBe(30_000)
    expect(server.requestTimeout).toBe(0)
    expect(server.maxConnections).toBe(20_000)
  })

  it.each([
    ['20s', 20_000],
    ['10m', 600_000],
    [Number.POSITIVE_INFINITY, 0],
    ['30d', 0],
  ])('takes timeouts of %s', async (timeout, milliseconds) => {
    const { server } = await run({ httpKeepAliveTimeout: timeout, headersTimeout: timeout })
    expect(server.keepAliveTimeout).toBe(milliseconds)
    expect(server.headersTimeout).toBe(milliseconds)
  })

  it('takes twice as many connections as there may be sessions', async () => {
    expect((await run({ maxSessions: 30_000 })).server.maxConnections).toBe(60_000)
    expect((await run({ maxSessions: 30_000, maxConnections: 100 })).server.maxConnections).toBe(100)
  })
})

describe('probes', () => {
  const probe = async (connection: RawConnection, target: string, method = 'GET', host = 'pod.example') => {
    const response = await connection.request({ method, target, headers: { Host: host } })
    const { status } = response
    return { status, body: await response.text(), length: response.header('content-length') }
  }
  const well = { status: 200, body: 'ok\n', length: '3' }
  const unwell = { status: 503, body: 'unavailable\n', length: '12' }

  it('are told that the server lives and is ready, whatever host they name', async () => {
    const connection = await open(await run())
    expect(await probe(connection, '/health')).toEqual(well)
    expect(await probe(connection, '/ready?verbose')).toEqual(well)
    expect(await probe(connection, '/health', 'POST')).toMatchObject({ status: 405 })
    expect(await probe(connection, '/healthy')).toMatchObject({ status: 404 })
    const head = await connection.request({ method: 'HEAD', target: '/ready' })
    expect([head.status, head.header('content-length'), head.header('cache-control')]).toEqual([
      200,
      '3',
      'no-store',
    ])
  })

  it('learn of a drain: /ready turns 503 and /health stays (promise 8)', async () => {
    const handle = await run({ drainTimeout: '5s' })
    const { connection, headers } = await openSession(handle)
    await connection.send(post(call(300), headers))
    await untilRunning(handle)
    const finished = handle.close()
    expect(await probe(await open(handle), '/ready')).toEqual(unwell)
    expect(await probe(await open(handle), '/health')).toEqual(well)
    expect((await connection.response()).status).toBe(200)
    await within(finished, 'the end')
  })

  it('ask elsewhere, or nowhere: a path that is the endpoint’s own is its own', async () => {
    const connection = await open(await run({ healthPath: '/livez', readyPath: '/mcp' }))
    expect(await probe(connection, '/livez')).toEqual(well)
    for (const target of ['/health', '/ready']) {
      expect(await probe(connection, target), target).toMatchObject({ status: 404 })
    }
    const moved = await open(await run({ path: '/ready' }))
    expect((await moved.request({ ...post(initialize()), target: '/ready' })).status).toBe(200)
  })
})

describe('what is not HTTP', () => {
  it.each([
    ['nonsense', 'GARBAGE\r\n\r\n', 400, 'Bad Request: this is not HTTP/1.1'],
    [
      'a body of two lengths',
      'POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
      400,
      'Bad Request: this is not HTTP/1.1',
    ],
    [
      'a head of 20 KB',
      `GET /mcp HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
      431,
      'Request header fields too large',
    ],
    [
      'a broken chunk',
      'POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      400,
      'Bad Request: this is not HTTP/1.1',
    ],
  ])('%s gets JSON, then the end', async (_, bytes, status, message) => {
    const connection = await open(await run())
    await connection.write(bytes)
    const response = await connection.response()
    expect(response.status).toBe(status)
    expect(await response.json()).toEqual({ jsonrpc: '2.0', error: { code: -32000, message }, id: null })
    expect(response.header('content-type')).toBe('application/json')
    expect(response.header('connection')).toBe('close')
    await connection.closed()
  })

  it('behind a request that is being answered cuts the connection, not the call', async () => {
    const handle = await run()
    const { connection, headers } = await openSession(handle)
    await connection.send(post(call(200), headers))
    await connection.write('GARBAGE\r\n\r\n')
    await connection.closed()
    expect(connection.unparsed).toBe('')
    expect(handle.app.sessions.counts.requests).toBe(1)
  })

  it('has no part in what the guard decides: a missing Host, and two of them', async () => {
    const handle = await run()
    const missing = await (await open(handle)).request({ ...post(initialize(), { Host: undefined }) })
    expect(missing.status).toBe(403)
    expect(await missing.json()).toMatchObject({ error: { message: 'Missing Host header' } })
    const doubled = await (
      await open(handle)
    ).request({
      method: 'POST',
      headers: [
        ['Host', 'localhost'],
        ['Host', 'evil.example'],
      ],
    })
    expect(doubled.status).toBe(403)
  })

  it('an expectation nobody knows is ignored', async () => {
    const connection = await open(await run())
    expect((await connection.request(post(initialize(), { Expect: 'miracles' }))).status).toBe(200)
  })
})

describe('listening', () => {
  it('on a port in use says which and what to do', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void other.close())
    const { port } = other.address() as AddressInfo
    const error = await runHttp(factory, { port }).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(SojournError)
    expect(error).toMatchObject({
      code: 'listen',
      message: `Cannot listen on 127.0.0.1:${port}: it is in use. Stop the program that uses it, or choose another port (0 takes a free one).`,
      data: { host: '127.0.0.1', port, code: 'EADDRINUSE' },
    })
  })

  it('on an address of another machine says so', async () => {
    await expect(runHttp(factory, { port: 0, host: '192.0.2.1', allowedHosts: 'any' })).rejects.toThrow(
      'Cannot listen on 192.0.2.1:0: this machine has no address 192.0.2.1. Choose one of its own, or 127.0.0.1.',
    )
  })

  it('for other machines needs allowed hosts, before anything listens', async () => {
    await expect(runHttp(factory, { port: 0, host: '0.0.0.0' })).rejects.toThrow(RangeError)
    const handle = await run({ host: '0.0.0.0', allowedHosts: ['mcp.example.com'] })
    const connection = await open(handle)
    expect((await connection.request(post(initialize(), { Host: 'localhost' }))).status).toBe(403)
    expect((await (await open(handle)).request(post(initialize(), { Host: 'mcp.example.com' }))).status).toBe(
      200,
    )
  })

  it('fails before it listens where an option is wrong', async () => {
    await expect(runHttp(factory, { port: 0, sessionIdleTimeout: -1 })).rejects.toThrow(
      "sessionIdleTimeout must be a positive duration such as '30m' or 1800000 (ms), got -1",
    )
    await expect(runHttp('server' as never, { port: 0 })).rejects.toThrow(TypeError)
  })
})

describe('a Unix socket', () => {
  const inDirectory = (): string => {
    const directory = mkdtempSync(join(tmpdir(), 'sojourn-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    return join(directory, 'mcp.sock')
  }
  const ask = (socketPath: string): Promise<number | undefined> =>
    within(
      new Promise((resolve, reject) => {
        const headers = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' }
        const request = httpRequest(
          { socketPath, path: '/mcp', method: 'POST', headers },
          (response: IncomingMessage) => {
            response.resume()
            resolve(response.statusCode)
          },
        )
        request.once('error', reject)
        request.end(JSON.stringify(initialize()))
      }),
      'an answer over the socket',
    )

  it('serves its owner only, and is gone afterwards', async () => {
    const socket = inDirectory()
    const handle = await run({ socket })
    expect(handle.url).toBe(`http+unix://${encodeURIComponent(socket)}/mcp`)
    expect(statSync(socket).mode & 0o777).toBe(0o600)
    expect(await ask(socket)).toBe(200)
    await handle.close()
    expect(existsSync(socket)).toBe(false)
  })

  it('that a dead process left is replaced, that of a living one not', async () => {
    const socket = inDirectory()
    // A listener whose file outlives it: closing would remove the file.
    const dead = createNetServer().listen(socket)
    await new Promise((resolve) => dead.once('listening', resolve))
    await expect(runHttp(factory, { socket, handleSignals: false })).rejects.toThrow(
      `Cannot listen on ${socket}: another program listens there. Stop it, or choose another name.`,
    )
    linkSync(socket, `${socket}.kept`)
    await new Promise((resolve) => dead.close(resolve))
    const handle = await run({ socket: `${socket}.kept` })
    expect(await ask(`${socket}.kept`)).toBe(200)
    await handle.close()
  })

  it('is not made of a file that is none', async () => {
    const socket = inDirectory()
    writeFileSync(socket, 'precious')
    await expect(runHttp(factory, { socket })).rejects.toThrow(
      `Cannot listen on ${socket}: a file is there that is not a socket. Remove it, or choose another name.`,
    )
    expect(existsSync(socket)).toBe(true)
  })

  it('has a name that fits: Node would cut it, and listen elsewhere', async () => {
    const socket = join(inDirectory(), 'x'.repeat(100))
    await expect(runHttp(factory, { socket })).rejects.toThrow(
      `Cannot listen on ${socket}: the name is too long for a socket.`,
    )
  })

  it('needs its directory', async () => {
    const socket = join(inDirectory(), 'nowhere', 'mcp.sock')
    await expect(runHttp(factory, { socket })).rejects.toThrow(`Cannot listen on ${socket}:`)
  })
})

describe('stopping', () => {
  it('lets a running call finish, takes no session, then lets everything go', async () => {
    const handle = await run({ drainTimeout: '5s' })
    const { connection, headers } = await openSession(handle)
    const idle = await open(handle)
    await (await idle.request(post(rpc('ping'), headers))).text()
    await connection.send(post(call(300), headers))
    await untilRunning(handle)

    const finished = handle.close()
    expect(handle.close()).toBe(handle.finished)
    // Over an open connection and over a new one: a running call may need an answer of its client that comes over either.
    expect((await (await open(handle)).request(post(initialize()))).status).toBe(503)
    const refused = await idle.request(post(initialize()))
    expect(refused.status).toBe(503)
    expect(refused.header('retry-after')).toBe('10')
    expect(refused.header('connection')).toBe('close')
    const answer = await connection.response()
    expect(answer.status).toBe(200)
    expect((await answer.text()).includes('"id":7')).toBe(true)
    await within(finished, 'the end')
    await connection.closed()
    expect(handle.server.listening).toBe(false)
    expect(handle.app.sessions.size).toBe(0)
    await expect(RawConnection.open(Number(new URL(handle.url).port))).rejects.toThrow('ECONNREFUSED')
  })

  it('answers every request of a connection that pipelines, though the first answer says that it closes', async () => {
    const handle = await run({ drainTimeout: '5s' })
    const { connection, headers } = await openSession(handle)
    await connection.send(post(call(400), headers))
    await untilRunning(handle)
    const finished = handle.close()
    const other = await open(handle)
    const requests = [50, 100, 150].map((duration) =>
      encodeRequest(post(call(duration), headers), 'localhost'),
    )
    await other.write(Buffer.concat(requests))
    const closes: (string | undefined)[] = []
    for (const _ of requests) {
      const answer = await other.response()
      expect(await answer.text()).toContain('"result"')
      closes.push(answer.header('connection'))
    }
    expect(closes).toEqual(['keep-alive', 'keep-alive', 'close'])
    await other.closed()
    expect((await connection.response()).status).toBe(200)
    await within(finished, 'the end')
  })

  it('does nothing of what comes behind an answer that closes its connection', async () => {
    const handle = await run({ drainTimeout: '5s' })
    const { connection, headers } = await openSession(handle)
    await connection.send(post(call(600), headers))
    await untilRunning(handle)
    const finished = handle.close()
    const other = await open(handle)
    await other.send(post(call(200), headers))
    const answer = await other.response()
    expect(answer.header('connection')).toBe('close')
    await other.send(post(call(60_000), headers))
    expect(await answer.text()).toContain('"result"')
    await other.closed()
    expect(other.unparsed).toBe('')
    expect(handle.app.sessions.counts.requests).toBe(1)
    expect((await connection.response()).status).toBe(200)
    await within(finished, 'the end', 2000)
  })

  it('ends calls that take longer than drainTimeout', async () => {
    const handle = await run({ drainTimeout: 50 })
    const { connection, headers } = await openSession(handle)
    await connection.send(post(call(60_000), headers))
    await untilRunning(handle)
    await within(handle.close(), 'the end', 2000)
    await connection.closed()
  })

  it('does not wait for connections that never say anything', async () => {
    const handle = await run()
    const silent = await open(handle)
    const started = performance.now()
    await within(handle.close(), 'the end', 2000)
    expect(performance.now() - started).toBeLessThan(1000)
    await silent.closed()
  })

  it('happens at the end of an await using block', async () => {
    const handle = await run()
    await handle[Symbol.asyncDispose]()
    await handle.finished
    expect(handle.server.listening).toBe(false)
  })

  it('removes its signal handlers', async () => {
    const before = process.listenerCount('SIGTERM')
    const handle = await run({ handleSignals: true })
    expect(process.listenerCount('SIGTERM')).toBe(before + 1)
    await handle.close()
    expect(process.listenerCount('SIGTERM')).toBe(before)
  })

  it('takes a signal that comes twice at once as one', async () => {
    const handle = await run({ handleSignals: true })
    // Were it a second one, the process of this test would end here.
    process.emit('SIGTERM', 'SIGTERM')
    process.emit('SIGTERM', 'SIGTERM')
    await within(handle.finished, 'the end')
  })

  it('begins at a signal', async () => {
    const handle = await run({ handleSignals: true })
    process.emit('SIGTERM', 'SIGTERM')
    await within(handle.finished, 'the end')
    expect(handle.server.listening).toBe(false)
  })
})

async function untilRunning(handle: HttpServerHandle): Promise<void> {
  const due = performance.now() + 5000
  while (handle.app.sessions.counts.requests === 0) {
    if (performance.now() > due) throw new Error('no call began')
    await new Promise((resolve) => setImmediate(resolve))
  }
}
