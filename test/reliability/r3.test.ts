/** R3: the event loop is blocked for 2 s just before deadlines, with requests already in the sockets: all are served, nothing expires. */

import { fork } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

import { expect, onTestFinished, test } from 'vitest'

import { within } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import { initialize, post, rpc } from '../support/mcp-wire.ts'
import { encodeRequest, type RawConnection } from '../support/raw-http.ts'
import { serve, type Served } from '../support/serve.ts'

const IDLE = 2500
const BLOCKED = 2000

const clock = {
  now: () => performance.now(),
  after(delay: number, callback: () => void) {
    const handle = setTimeout(callback, delay)
    return { cancel: () => clearTimeout(handle) }
  },
}

interface Client {
  readonly connection: RawConnection
  readonly id: string
}

/** Nothing runs for so long: no timer, no socket. */
function block(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

async function serveIdle(count: number): Promise<{ server: Served; clients: Client[] }> {
  const server = await serve(() => new FakeServer({ clock, tag: 'fake' }), {
    sessionIdleTimeout: IDLE,
    unusedSessionTimeout: Number.POSITIVE_INFINITY,
    handshakeTimeout: Number.POSITIVE_INFINITY,
  })
  const clients = await Promise.all(
    Array.from({ length: count }, async () => {
      const connection = await server.connect()
      const response = await connection.request(post(initialize()))
      await response.text()
      return { connection, id: response.header('mcp-session-id') ?? '' }
    }),
  )
  await server.waitFor(() => server.app.sessions.counts.idle === count, 'every session being idle')
  return { server, clients }
}

/** Waits until the first deadline is close. */
async function untilJustBefore(server: Served): Promise<void> {
  const first = Math.min(...server.app.sessions.list().map(({ expiresIn }) => expiresIn ?? 0))
  expect(first, 'opening took longer than the timeout').toBeGreaterThan(200)
  await new Promise((resolve) => setTimeout(resolve, first - 200))
}

test('1,000 requests on connections that are open', async () => {
  const { server, clients } = await serveIdle(1000)
  await untilJustBefore(server)
  // Every deadline passes meanwhile: on a slow machine the sessions were not opened within 2 s.
  const last = Math.max(...server.app.sessions.list().map(({ expiresIn }) => expiresIn ?? 0))
  // A write to an idle socket is a write to the kernel, at once.
  for (const { connection, id } of clients)
    void connection.send(post(rpc('tools/list'), { 'Mcp-Session-Id': id }))
  block(Math.max(BLOCKED, last + 200))
  const responses = await Promise.all(clients.map(({ connection }) => connection.response(15_000)))
  expect(responses.filter(({ status }) => status !== 200)).toEqual([])
  expect(server.events.filter(({ type }) => type === 'session.closed')).toEqual([])
  expect(server.app.sessions.size).toBe(1000)
})

// libuv accepts one connection per turn of the loop, so that this takes as many turns as there are connections.
test('50 requests that come on new connections while it is blocked', async () => {
  const { server, clients } = await serveIdle(50)
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const knocker = fork(fileURLToPath(new URL('fixtures/knocker.ts', import.meta.url)), {
    execArgv: ['--import', tsx],
  })
  onTestFinished(() => void knocker.kill('SIGKILL'))
  const told = (): Promise<unknown> =>
    within(new Promise((resolve) => knocker.once('message', resolve)), 'a message', 15_000)
  await told()
  // The start of that process took its time: every clock starts anew.
  await Promise.all(
    clients.map(async ({ connection, id }) => {
      await (await connection.request(post(rpc('tools/list'), { 'Mcp-Session-Id': id }))).text()
    }),
  )
  await untilJustBefore(server)
  const requests = clients.map(({ id }) =>
    encodeRequest(post(rpc('tools/list'), { 'Mcp-Session-Id': id }), 'localhost').toString('latin1'),
  )
  const answered = told()
  await new Promise<void>((resolve, reject) =>
    knocker.send({ port: server.port, requests }, (error) => (error === null ? resolve() : reject(error))),
  )
  block(BLOCKED)
  const lines = (await answered) as string[]
  expect(lines.filter((line) => line !== 'HTTP/1.1 200 OK')).toEqual([])
  expect(server.events.filter(({ type }) => type === 'session.closed')).toEqual([])
})
