/** What a call on a live session must not do, asked of the runtime it runs on: everything else about speed is measured in `bench/`. */

import type { Socket } from 'node:net'
import { queryObjects } from 'node:v8'

import { describe, expect, onTestFinished, test, vi } from 'vitest'

import { NodeExchange } from '../../src/http/node-exchange.ts'
import { PostAnswer } from '../../src/session/post-answer.ts'
import { RunningRequest } from '../../src/session/running-request.ts'
import { openSession, post, rpc, type WireSession } from '../support/mcp-wire.ts'
import type { RawConnection } from '../support/raw-http.ts'
import { type Sdk, SDKS } from '../support/sdk-servers.ts'
import { serve, type Served } from '../support/serve.ts'

/** The server's end of a connection, as the tests look into it. */
interface ServerSocket extends Socket {
  _write: Socket['_write']
  _writev: NonNullable<Socket['_writev']>
}

interface Running {
  readonly server: Served
  readonly session: WireSession
  readonly connection: RawConnection
  /** The server's end of `connection`. */
  readonly socket: ServerSocket
}

/** A server of one SDK, a session, and one kept-alive connection that was used. */
async function setUp(sdk: Sdk): Promise<Running> {
  // A slow machine must not turn the answer into a stream.
  const server = await serve(() => sdk.build(), { jsonResponseWindow: '20s' })
  const sockets: ServerSocket[] = []
  server.http.on('connection', (socket: ServerSocket) => sockets.push(socket))
  const session = await openSession(server)
  sockets.length = 0
  const connection = await server.connect()
  await echo(connection, session, 'first')
  const [socket] = sockets
  if (socket === undefined) throw new Error('no connection has come')
  return { server, session, connection, socket }
}

async function echo(connection: RawConnection, session: WireSession, text: string): Promise<string> {
  const body = rpc('tools/call', { name: 'echo', arguments: { text } })
  const answer = await (await connection.request(post(body, session.headers))).text()
  expect(answer).toContain(text)
  return answer
}

describe.each(SDKS)('a call of a $name server', (sdk) => {
  test('parses its request once and serializes its answer once', async () => {
    const { connection, session } = await setUp(sdk)
    const parse = vi.spyOn(JSON, 'parse')
    const stringify = vi.spyOn(JSON, 'stringify')
    onTestFinished(() => void vi.restoreAllMocks())
    await echo(connection, session, 'marked')
    const parsed = parse.mock.calls.filter(([text]) => text.includes('marked'))
    const written = stringify.mock.results.filter(({ value }) => String(value).includes('"content"'))
    expect([parsed.length, written.length]).toEqual([1, 1])
  })

  test('writes its answer once', async () => {
    const { connection, session, socket } = await setUp(sdk)
    const write = vi.spyOn(socket, '_write')
    const writev = vi.spyOn(socket, '_writev')
    await echo(connection, session, 'written')
    expect(write.mock.calls.length + writev.mock.calls.length).toBe(1)
  })

  test('makes no Web object on the Node face', async () => {
    const { connection, session } = await setUp(sdk)
    const made: string[] = []
    for (const name of ['Request', 'Response', 'Headers', 'ReadableStream', 'URL', 'TextEncoder'] as const) {
      const Real = globalThis[name] as new (...args: unknown[]) => object
      const counted = new Proxy(Real, {
        construct(target, args, newTarget) {
          made.push(name)
          return Reflect.construct(target, args, newTarget) as object
        },
      })
      vi.stubGlobal(name, counted)
    }
    onTestFinished(() => void vi.unstubAllGlobals())
    await echo(connection, session, 'plain')
    expect(made).toEqual([])
  })

  test('leaves no timer, no listener and no object behind', async () => {
    const { server, connection, session, socket } = await setUp(sdk)
    const timers = (): number =>
      process.getActiveResourcesInfo().filter((name) => name === 'Timeout' || name === 'Immediate').length
    const left = (): object => ({
      appTimers: server.timers,
      listeners: socket.eventNames().map((name) => [name, socket.listenerCount(name)]),
      process: process.eventNames().map((name) => [name, process.listenerCount(name)]),
    })
    await server.waitFor(() => server.app.sessions.counts.active === 0, 'the end of the call')
    const before = left()
    const timersBefore = timers()
    for (let count = 0; count < 20; count++) await echo(connection, session, `call ${count}`)
    await server.waitFor(() => server.app.sessions.counts.active === 0, 'the end of the calls')
    // Turns, in which what is due at once happens.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(left()).toEqual(before)
    // The test runner has timers of its own that come and go; one of each call would be twenty.
    expect(timers() - timersBefore).toBeLessThan(20)
    // Node keeps the last request of a connection until the next; nothing keeps more.
    const alive = [NodeExchange, PostAnswer, RunningRequest].map((made) =>
      queryObjects(made, { format: 'count' }),
    )
    for (const count of alive) expect(count).toBeLessThanOrEqual(2)
  })

  test('takes the same steps whether there are 3 sessions or 300', async () => {
    const { server, connection, session } = await setUp(sdk)
    const steps = async (): Promise<number> => {
      let count = 0
      const spies = (['get', 'set', 'has', 'delete'] as const).map((name) => {
        const real = Map.prototype[name] as (...args: unknown[]) => unknown
        return vi.spyOn(Map.prototype, name as 'get').mockImplementation(function (this: unknown, ...args) {
          count += 1
          return Reflect.apply(real, this, args)
        })
      })
      const iterator = Object.getPrototypeOf(new Map().values()) as { next(): IteratorResult<unknown> }
      const { next } = iterator
      iterator.next = function (this: unknown) {
        count += 1
        return Reflect.apply(next, this, []) as IteratorResult<unknown>
      }
      try {
        await echo(connection, session, 'counted')
      } finally {
        iterator.next = next
        for (const spy of spies) spy.mockRestore()
      }
      return count
    }
    for (let count = 0; count < 3; count++) await openSession(server)
    await steps()
    const few = await steps()
    for (let count = 0; count < 300; count++) await openSession(server)
    const many = await steps()
    expect(few).toBeGreaterThan(0)
    expect(many).toBe(few)
  })
})
