/** Peers that are slow on purpose, on the raw sockets of `runHttp`: each is cut when its time is over, and nobody else notices (promise 7). */

import { type AddressInfo, connect, type Socket } from 'node:net'

import { expect, onTestFinished, test } from 'vitest'

import { type HttpServerHandle, runHttp } from '../../src/run-http.ts'
import type { RunHttpOptions } from '../../src/types.ts'
import { within } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import { initialize, post, POST_HEADERS } from '../support/mcp-wire.ts'
import { encodeRequest, RawConnection } from '../support/raw-http.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const LONG = 15_000

async function run(options: RunHttpOptions = {}): Promise<HttpServerHandle> {
  const clock = new VirtualClock()
  const handle = await runHttp(() => new FakeServer({ clock, tag: 'fake' }), {
    port: 0,
    handleSignals: false,
    ...options,
  })
  onTestFinished(() => within(handle.close(), 'close()'))
  return handle
}

const portOf = ({ server }: HttpServerHandle): number => (server.address() as AddressInfo).port

async function open(handle: HttpServerHandle): Promise<RawConnection> {
  const connection = await RawConnection.open(portOf(handle))
  onTestFinished(() => connection.destroy())
  return connection
}

/** A peer that says what it is told and looks at nothing. */
class Peer {
  readonly socket: Socket
  readonly closed: Promise<void>
  text = ''

  constructor(handle: HttpServerHandle, reads = true) {
    this.socket = connect(portOf(handle), '127.0.0.1')
    this.socket.on('error', () => {})
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve()))
    if (reads) this.socket.on('data', (bytes: Buffer) => (this.text += bytes.toString('latin1')))
    onTestFinished(() => void this.socket.destroy())
  }
}

async function opens(handle: HttpServerHandle): Promise<number> {
  const connection = await open(handle)
  const { status } = await connection.request(post(initialize()), LONG)
  connection.destroy()
  return status
}

function allClosed(peers: readonly Peer[], deadline: number = 2 * LONG): Promise<void> {
  const closed = Promise.all(peers.map((peer) => peer.closed)).then(() => {})
  return within(closed, 'the end of them', deadline)
}

/** Writes something again and again until the peer is cut. */
function drip({ socket }: Peer, text: string): void {
  const timer = setInterval(() => socket.writable && socket.write(text), 20)
  socket.once('close', () => clearInterval(timer))
}

test('heads that come byte by byte are answered with 408 and cut; who is quick is served meanwhile', async () => {
  const handle = await run({ headersTimeout: '300ms' })
  const peers = Array.from({ length: 50 }, () => new Peer(handle))
  for (const peer of peers) {
    peer.socket.write('POST /mcp HTTP/1.1\r\nHost: localhost\r\n')
    drip(peer, 'X')
  }
  expect(await opens(handle)).toBe(200)
  await allClosed(peers)
  for (const { text } of peers) expect(text).toMatch(/^HTTP\/1\.1 408 /)
}, 30_000)

test('a thousand connections that never say anything are cut, and nothing is left of them', async () => {
  const handle = await run({ headersTimeout: '500ms' })
  const peers = Array.from({ length: 1000 }, () => new Peer(handle))
  expect(await opens(handle)).toBe(200)
  await allClosed(peers)
  const connections = (): Promise<number> =>
    new Promise((resolve) => handle.server.getConnections((_error, count) => resolve(count)))
  await expect.poll(connections, { timeout: LONG }).toBe(0)
  expect(await opens(handle)).toBe(200)
}, 60_000)

test('a connection that rests between two requests is not one of them', async () => {
  const handle = await run({ headersTimeout: '200ms' })
  const connection = await open(handle)
  expect(await (await connection.request({ target: '/health' }, LONG)).text()).toBe('ok\n')
  // Longer than a head may take, and than Node needs to look for such heads.
  await new Promise((resolve) => setTimeout(resolve, 700))
  expect(await (await connection.request({ target: '/health' }, LONG)).text()).toBe('ok\n')
})

test('bodies that come byte by byte get 408, two hundred at once, and nothing of them is left', async () => {
  const handle = await run({ bodyTimeout: '300ms' })
  const head = encodeRequest(
    { method: 'POST', headers: { ...POST_HEADERS, 'Content-Length': '100000' } },
    'localhost',
  )
  const peers = Array.from({ length: 200 }, () => new Peer(handle))
  for (const peer of peers) {
    peer.socket.write(head)
    drip(peer, ' ')
  }
  expect(await opens(handle)).toBe(200)
  await allClosed(peers)
  for (const { text } of peers) expect(text).toMatch(/^HTTP\/1\.1 408 /)
  expect(handle.app.sessions.counts).toMatchObject({ total: 1, opening: 0 })
}, 60_000)

test('answers that nobody reads, to requests without end: the peer is cut after unsentTimeout, and little waits for it', async () => {
  const handle = await run({ unsentTimeout: '400ms' })
  let most = 0
  handle.server.on('connection', (socket: Socket) => {
    const timer = setInterval(() => (most = Math.max(most, socket.writableLength)), 20)
    socket.once('close', () => clearInterval(timer))
  })
  const peers = [new Peer(handle, false)]
  const request = encodeRequest({ target: '/nowhere' }, 'localhost').toString().repeat(500)
  for (const { socket } of peers) {
    const more = (): void => {
      while (socket.writable && socket.write(request));
    }
    socket.on('drain', more)
    more()
  }
  // The operating system's own buffers, some megabytes of small answers, have to be full first.
  await allClosed(peers, 4 * LONG)
  expect(most).toBeGreaterThan(0)
  expect(most).toBeLessThan(1024 * 1024)
  expect(await opens(handle)).toBe(200)
}, 90_000)

test('beyond maxConnections newcomers are closed, the log says so once, and one that leaves makes room', async () => {
  const warnings: unknown[] = []
  const logger = {
    debug() {},
    info() {},
    error() {},
    warn: (...args: unknown[]) => void warnings.push(args[0]),
  }
  const handle = await run({ maxConnections: 3, logger })
  const inside = [await open(handle), await open(handle), await open(handle)]
  for (const connection of inside)
    expect(await (await connection.request({ target: '/health' }, LONG)).text()).toBe('ok\n')
  for (let count = 0; count < 5; count++) await within(new Peer(handle).closed, 'the end of a newcomer', LONG)
  expect(warnings).toEqual(['connections are turned away: 3 are open, and maxConnections allows no more'])
  for (const connection of inside)
    expect(await (await connection.request({ target: '/health' }, LONG)).text()).toBe('ok\n')
  inside[0]?.destroy()
  const retried = async (): Promise<number> => {
    try {
      return await opens(handle)
    } catch {
      return 0
    }
  }
  await expect.poll(retried, { timeout: LONG }).toBe(200)
})
