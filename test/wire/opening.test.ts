/** "Opening" in docs/wire.md, row by row over real sockets, with servers of both official SDKs where it matters. */

import { describe, expect, test } from 'vitest'

import type {
  AppOptions,
  AuthInfo,
  CreateServer,
  JsonRpcMessage,
  McpServerLike,
  ServerContext,
  ServerTransport,
} from '../../src/types.ts'
import { deferred, within } from '../support/deferred.ts'
import { FakeServer, type FakeServerOptions } from '../support/fake-server.ts'
import {
  del,
  expectError,
  expectNothing,
  get,
  ID,
  initialize,
  initializeParams,
  notification,
  openSession,
  post,
  POST_HEADERS,
  rpc,
  VERSIONS,
} from '../support/mcp-wire.ts'
import type { RawResponse } from '../support/raw-http.ts'
import { SDKS, type SdkServer } from '../support/sdk-servers.ts'
import { serve, type Served } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const SESSION_REQUIRED = {
  status: 400,
  code: -32000,
  message: 'Bad Request: Mcp-Session-Id header is required',
}
const NOT_CREATED = {
  status: 500,
  code: -32603,
  message: 'Internal error: the server could not be created',
  id: ID,
}
const TOO_LATE = { status: 504, code: -32000, message: 'initialize took longer than 60 s', id: ID }

function fake(options: Partial<FakeServerOptions> = {}): FakeServer {
  return new FakeServer({ clock: new VirtualClock(), tag: 'fake', ...options })
}

/** Serves a factory that must not be called. */
function serveNothing(options: AppOptions = {}): Promise<Served> {
  return serve(() => {
    throw new Error('nothing may be built for a refused request')
  }, options)
}

/** A server whose messages a test writes by hand. */
class ScriptedServer implements McpServerLike {
  transport: ServerTransport | undefined
  closed = 0
  readonly #onmessage: (message: JsonRpcMessage, transport: ServerTransport) => void

  constructor(onmessage: (message: JsonRpcMessage, transport: ServerTransport) => void) {
    this.#onmessage = onmessage
  }

  async connect(transport: ServerTransport): Promise<void> {
    this.transport = transport
    transport.onmessage = (message: JsonRpcMessage) => this.#onmessage(message, transport)
    await transport.start()
  }

  async close(): Promise<void> {
    this.closed += 1
    await this.transport?.close()
  }
}

/** An answer of the server itself that is an error: it travels as any answer does, but no session is named. */
async function expectServerError(
  response: RawResponse,
  code: number,
  message: string | RegExp,
): Promise<void> {
  expect(response.status).toBe(200)
  expect(response.header('content-type')).toBe('application/json')
  expect(response.header('mcp-session-id')).toBeUndefined()
  expect(await response.json()).toEqual({
    jsonrpc: '2.0',
    id: ID,
    error: { code, message: typeof message === 'string' ? message : expect.stringMatching(message) },
  })
}

/** That a client can open a session after all: nothing of the failed attempt is in its way. */
async function expectUsable(server: Served): Promise<void> {
  const session = await openSession(server)
  expect(server.app.sessions.list().map(({ id }) => id)).toEqual([session.id])
  expect((await server.request(del(session.headers))).status).toBe(200)
  expectNothing(server)
}

describe('`initialize` accepted', () => {
  describe.each(SDKS)('$name', (sdk) => {
    test.each(VERSIONS)('%s: 200, an id, one JSON body', async (version) => {
      const server = await serve(() => sdk.build())
      const response = await server.request(post(initialize(version)))
      expect(response.status).toBe(200)
      expect(response.header('content-type')).toBe('application/json')
      expect(response.header('mcp-session-id')).toMatch(/^[\x21-\x7e]+$/)
      expect(await response.json()).toMatchObject({
        jsonrpc: '2.0',
        id: ID,
        result: { protocolVersion: version, serverInfo: { name: `sdk-${sdk.name}` } },
      })
      const [session] = server.app.sessions.list()
      expect(session?.protocolVersion).toBe(version)
      expect(session?.client).toEqual({ name: 'wire', version: '1' })
      expect(server.events).toMatchObject([
        { type: 'session.opened', session: response.header('mcp-session-id') },
      ])
    })

    test('a call on the session reaches its server', async () => {
      const built: SdkServer[] = []
      const server = await serve(() => {
        const one = sdk.build()
        built.push(one)
        return one
      })
      const session = await openSession(server)
      const response = await server.request(
        post(rpc('tools/call', { name: 'echo', arguments: { text: 'hello' } }), session.headers),
      )
      expect(await response.json()).toMatchObject({
        id: ID,
        result: { content: [{ type: 'text', text: 'hello' }] },
      })
      expect(built.map(({ calls }) => calls)).toEqual([1])
    })
  })

  test('ids have at least 128 bits, are visible ASCII and never the same', async () => {
    const server = await serve(() => fake())
    const connection = await server.connect()
    const ids = new Set<string>()
    for (let count = 0; count < 300; count++) {
      const response = await connection.request(post(initialize()))
      await response.text()
      ids.add(response.header('mcp-session-id') ?? '')
    }
    expect(ids.size).toBe(300)
    const positions: Set<string>[] = []
    for (const id of ids) {
      expect(id).toMatch(/^[\x21-\x7e]+$/)
      for (const [index, character] of [...id].entries()) (positions[index] ??= new Set()).add(character)
    }
    // What varies at a position carries up to log2(values) bits; 300 draws of 64 values see nearly all of them.
    const bits = positions.reduce((sum, values) => sum + Math.log2(values.size), 0)
    expect(bits).toBeGreaterThan(128)
  })

  test('nothing is sent before the server has answered: not even a head, in no mode', async () => {
    for (const responseMode of ['auto', 'sse', 'json'] as const) {
      const factory = deferred<McpServerLike>()
      const server = await serve(() => factory.promise, { clock: new VirtualClock(), responseMode })
      const connection = await server.connect()
      await connection.send(post(initialize()))
      await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
      await server.clock.advance(30_000)
      expect(connection.bytesReceived).toBe(0)
      factory.resolve(fake())
      const response = await connection.response()
      expect(response.status).toBe(200)
      expect(response.header('mcp-session-id')).toBeDefined()
    }
  })

  test('what the server says before its answer does not come before it', async () => {
    const server = await serve(
      () =>
        new ScriptedServer((message, transport) => {
          if (!('method' in message) || !('id' in message)) return
          const { id } = message
          const log = (data: string): JsonRpcMessage => ({
            jsonrpc: '2.0',
            method: 'notifications/message',
            params: { level: 'info', data },
          })
          void transport.send(log('at large'))
          void transport.send(log('related'), { relatedRequestId: id })
          void transport.send({
            jsonrpc: '2.0',
            id,
            result: {
              protocolVersion: '2025-11-25',
              capabilities: { logging: {} },
              serverInfo: { name: 's', version: '1' },
            },
          })
        }),
    )
    const response = await server.request(post(initialize()))
    expect(response.header('content-type')).toBe('application/json')
    expect(await response.json()).toMatchObject({ id: ID, result: { serverInfo: { name: 's' } } })
    const stream = await server.request(get({ 'Mcp-Session-Id': response.header('mcp-session-id') }))
    expect(await stream.nextMessage()).toMatchObject({ params: { data: 'at large' } })
  })

  test("responseMode 'sse' answers on a stream, with the id in its head", async () => {
    const server = await serve(() => fake(), { responseMode: 'sse' })
    const response = await server.request(post(initialize()))
    expect(response.status).toBe(200)
    expect(response.header('content-type')).toBe('text/event-stream')
    expect(response.header('mcp-session-id')).toMatch(/^[\x21-\x7e]{22,}$/)
    expect(await response.messages()).toMatchObject([{ id: ID, result: {} }])
  })

  test('the factory sees the session, the client and the request', async () => {
    const alice: AuthInfo = { token: 'a', clientId: 'c', scopes: ['s'], extra: { sub: 'alice' } }
    let context: ServerContext | undefined
    const server = await serve(
      (given) => {
        context = given
        return fake()
      },
      { authenticate: () => alice },
    )
    const session = await openSession(server, { headers: { 'X-Client': 'yes' } })
    expect(context).toMatchObject({
      era: 'legacy',
      authInfo: alice,
      session: { id: session.id, restored: false, data: {} },
    })
    expect(context?.session.principal).toContain('alice')
    expect(context?.session.client).toEqual({ name: 'wire', version: '1' })
    expect(context?.requestInfo?.headers.get('x-client')).toBe('yes')
    expect(context?.requestInfo?.method).toBe('POST')
    expect(context?.session.signal.aborted).toBe(false)
    await server.request(del(session.headers))
    expect(context?.session.signal.reason).toBe('deleted')
    expect(context?.instanceSignal.aborted).toBe(true)
  })

  test('the headers of a version are not looked at: what counts is in the request', async () => {
    const server = await serve(() => fake())
    const response = await server.request(
      post(initialize('2025-06-18'), { 'Mcp-Protocol-Version': '1999-01-01' }),
    )
    expect(await response.json()).toMatchObject({ result: { protocolVersion: '2025-06-18' } })
  })
})

describe('the server answers with an error, throws, takes too long, or the client goes away', () => {
  describe.each(SDKS)('$name', (sdk) => {
    test('its handler throws → its error, no id, no session, the server closed', async () => {
      const built: SdkServer[] = []
      let fail = true
      const server = await serve(() => {
        const one = sdk.build(
          fail
            ? () => {
                throw new Error('not today')
              }
            : undefined,
        )
        built.push(one)
        return one
      })
      await expectServerError(await server.request(post(initialize())), -32603, 'not today')
      expectNothing(server)
      expect(built[0]?.closed).toBe(true)
      fail = false
      await expectUsable(server)
    })

    test('its handler takes longer than initializeTimeout → 504, the server closed, its late answer dropped', async () => {
      const answer = deferred<object>()
      const built: SdkServer[] = []
      const server = await serve(
        () => {
          const one = sdk.build(() => answer.promise)
          built.push(one)
          return one
        },
        { clock: new VirtualClock() },
      )
      const connection = await server.connect()
      await connection.send(post(initialize()))
      await server.waitFor(() => built.length === 1, 'the factory')
      await server.clock.advance(59_999)
      expect(connection.bytesReceived).toBe(0)
      expect(server.app.sessions.counts.opening).toBe(1)
      await server.clock.advance(1)
      await expectError(await connection.response(), TOO_LATE)
      expectNothing(server)
      expect(built[0]?.closed).toBe(true)
      answer.resolve({
        protocolVersion: '2025-11-25',
        capabilities: {},
        serverInfo: { name: 'late', version: '1' },
      })
      await server.clock.advance(0)
      expectNothing(server)
    })

    test('the client goes away while its handler works → no session, the server closed, its late answer dropped', async () => {
      const called = deferred()
      const answer = deferred<object>()
      const built: SdkServer[] = []
      const server = await serve(
        () => {
          const one = sdk.build(() => {
            called.resolve()
            return answer.promise
          })
          built.push(one)
          return one
        },
        { clock: new VirtualClock() },
      )
      const connection = await server.connect()
      await connection.send(post(initialize()))
      await within(called.promise, 'the call of the handler')
      connection.destroy()
      await server.waitFor(() => built[0]?.closed === true, 'the end of the server')
      expectNothing(server)
      expect(server.timers).toBe(0)
      answer.resolve({
        protocolVersion: '2025-11-25',
        capabilities: {},
        serverInfo: { name: 'late', version: '1' },
      })
      await server.clock.advance(0)
      expectNothing(server)
    })

    test('the client goes away during a slow factory → no session, the late server closed', async () => {
      const called = deferred<ServerContext>()
      const factory = deferred<McpServerLike>()
      const server = await serve(
        (context) => {
          called.resolve(context)
          return factory.promise
        },
        { clock: new VirtualClock() },
      )
      const connection = await server.connect()
      await connection.send(post(initialize()))
      const context = await within(called.promise, 'the call of the factory')
      connection.destroy()
      await server.waitFor(() => context.session.signal.aborted, 'the end of the session')
      expect(context.session.signal.reason).toBe('failed')
      expect(context.instanceSignal.aborted).toBe(true)
      expectNothing(server)
      expect(server.timers).toBe(0)
      const late = sdk.build()
      factory.resolve(late)
      await server.waitFor(() => late.closed, 'the end of the late server')
      expectNothing(server)
    })

    test('a factory that takes longer than initializeTimeout → 504, the late server closed', async () => {
      const factory = deferred<McpServerLike>()
      const server = await serve(() => factory.promise, { clock: new VirtualClock() })
      const connection = await server.connect()
      await connection.send(post(initialize()))
      await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
      await server.clock.advance(60_000)
      await expectError(await connection.response(), TOO_LATE)
      expectNothing(server)
      const late = sdk.build()
      factory.resolve(late)
      await server.waitFor(() => late.closed, 'the end of the late server')
      expectNothing(server)
      // The connection that was told so goes on.
      expect((await connection.request(post(rpc('ping')))).status).toBe(400)
    })

    test('the same server for a second session → 500, and the first session goes on', async () => {
      const one = sdk.build()
      const server = await serve(() => one)
      const session = await openSession(server)
      for (let round = 0; round < 2; round++) {
        await expectError(await server.request(post(initialize())), NOT_CREATED)
        expect(server.app.sessions.counts).toMatchObject({ total: 1, opening: 0 })
      }
      expect(one.closed).toBe(false)
      const response = await server.request(
        post(rpc('tools/call', { name: 'echo', arguments: { text: 'still here' } }), session.headers),
      )
      expect(await response.json()).toMatchObject({ result: { content: [{ text: 'still here' }] } })
      expect(server.logs).toMatchObject([
        {
          level: 'error',
          args: [expect.any(String), { message: expect.stringContaining('already in use') }],
        },
        { level: 'error' },
      ])
    })

    test('the same server after its session ended → 500 as well: it is used up', async () => {
      const one = sdk.build()
      const server = await serve(() => one)
      const session = await openSession(server)
      await server.request(del(session.headers))
      await expectError(await server.request(post(initialize())), NOT_CREATED)
      expectNothing(server)
    })
  })

  test.each<[string, CreateServer]>([
    [
      'throws',
      () => {
        throw new Error('the secret of the author')
      },
    ],
    ['rejects', () => Promise.reject(new Error('the secret of the author'))],
    ['rejects with nothing', () => Promise.reject()],
    [
      'throws a string',
      () => {
        // oxlint-disable-next-line typescript/only-throw-error -- authors do
        throw 'the secret of the author'
      },
    ],
    [
      'throws something that cannot be printed',
      () => {
        // oxlint-disable-next-line typescript/only-throw-error -- authors do
        throw Object.create(null)
      },
    ],
    ['returns nothing', () => undefined as never],
    ['returns null', () => null as never],
    ['returns a number', () => 7 as never],
    ['returns a string', () => 'server' as never],
    ['returns an empty object', () => ({}) as never],
    ['returns an array', () => [] as never],
    ['returns a class', () => FakeServer as never],
    ['returns a server without close', () => ({ connect: () => Promise.resolve() }) as never],
    ['returns a promise of garbage', () => Promise.resolve({ connect: 1, close: 2 }) as never],
    [
      'returns a server whose members throw',
      () =>
        ({
          get connect() {
            throw new Error('no')
          },
          close: () => Promise.resolve(),
        }) as never,
    ],
    [
      'returns a server whose connect throws',
      () => ({
        connect: () => {
          throw new Error('no')
        },
        close: () => Promise.resolve(),
      }),
    ],
    [
      'returns a server whose connect rejects and whose close throws',
      () => ({
        connect: () => Promise.reject(new Error('no')),
        close: () => {
          throw new Error('no')
        },
      }),
    ],
    [
      'returns a server whose close gives no promise',
      () => ({ connect: () => Promise.reject(new Error('no')), close: () => undefined as never }),
    ],
  ])('a factory that %s → 500, told to the log and not to the client', async (_, createServer) => {
    let broken = true
    const server = await serve((context) => (broken ? createServer(context) : fake()))
    await expectError(await server.request(post(initialize())), NOT_CREATED)
    expectNothing(server)
    expect(server.logs.filter(({ level }) => level === 'error')).toHaveLength(1)
    expect(server.events).toMatchObject([{ type: 'request.refused', status: 500, cause: 'initialize' }])
    broken = false
    await expectUsable(server)
  })

  test('a factory that rejects after the client went away: nobody is told but the log', async () => {
    const factory = deferred<McpServerLike>()
    const server = await serve(() => factory.promise)
    const connection = await server.connect()
    await connection.send(post(initialize()))
    await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
    connection.destroy()
    await server.waitFor(() => server.app.sessions.counts.opening === 0, 'the end of the opening')
    factory.reject(new Error('late'))
    await server.waitFor(() => server.logs.length > 0, 'a log line')
    expectNothing(server)
  })

  test('a server that never connects → 504', async () => {
    const server = await serve(
      () => ({
        connect: () => new Promise(() => {}),
        close: () => Promise.resolve(),
      }),
      { clock: new VirtualClock() },
    )
    const connection = await server.connect()
    await connection.send(post(initialize()))
    await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
    await server.clock.advance(60_000)
    await expectError(await connection.response(), TOO_LATE)
    expectNothing(server)
  })

  test('initializeTimeout covers factory and handler together', async () => {
    const clock = new VirtualClock()
    const factory = deferred<McpServerLike>()
    const server = await serve(() => factory.promise, { clock })
    const connection = await server.connect()
    await connection.send(post(initialize()))
    await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
    await clock.advance(59_000)
    factory.resolve(fake({ clock, initializeAfter: 1001 }))
    await clock.advance(1000)
    await expectError(await connection.response(), TOO_LATE)
    expectNothing(server)
    await clock.advance(1)
  })

  test('initializeTimeout: an answer in the last millisecond counts', async () => {
    const clock = new VirtualClock()
    const server = await serve(() => fake({ clock, initializeAfter: 59_999 }), { clock })
    const connection = await server.connect()
    await connection.send(post(initialize()))
    await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
    await clock.advance(59_999)
    expect((await connection.response()).status).toBe(200)
    // The deadline is gone: the session outlives it.
    await clock.advance(1)
    expect(server.app.sessions.size).toBe(1)
  })

  test('initializeTimeout is an option', async () => {
    const server = await serve(() => fake({ initialize: 'never' }), {
      clock: new VirtualClock(),
      initializeTimeout: '2s',
    })
    const connection = await server.connect()
    await connection.send(post(initialize()))
    await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
    await server.clock.advance(2000)
    await expectError(await connection.response(), {
      ...TOO_LATE,
      message: 'initialize took longer than 2 s',
    })
    expectNothing(server)
  })

  test('the server answers with an error → that error', async () => {
    const server = await serve(() => fake({ initialize: 'error' }))
    await expectServerError(
      await server.request(post(initialize())),
      -32603,
      'initialize refused by the author',
    )
    expectNothing(server)
  })

  test("under responseMode 'sse' too, as JSON: a stream without a session could not be resumed", async () => {
    const server = await serve(() => fake({ initialize: 'error' }), { responseMode: 'sse' })
    await expectServerError(
      await server.request(post(initialize())),
      -32603,
      'initialize refused by the author',
    )
    expectNothing(server)
  })

  test('the server throws where it takes messages → an error, not its text', async () => {
    const server = await serve(() => fake({ initialize: 'throw' }))
    await expectServerError(await server.request(post(initialize())), -32603, 'Internal error')
    expectNothing(server)
  })

  test('the server closes itself instead of answering → an error', async () => {
    const server = await serve(() => fake({ initialize: 'close' }))
    await expectServerError(await server.request(post(initialize())), -32000, /^Session closed/)
    expectNothing(server)
  })

  test('the server closes itself while it connects → an error', async () => {
    const server = await serve(() => {
      const one = fake()
      const connect = one.connect.bind(one)
      one.connect = async (transport) => {
        await connect(transport)
        await one.close()
      }
      return one
    })
    await expectServerError(await server.request(post(initialize())), -32603, /./)
    expectNothing(server)
  })

  test.each<[string, unknown]>([
    ['a result of null', { result: null }],
    ['a result that is a string', { result: 'yes' }],
    ['a result that is an array', { result: [] }],
    ['an empty result', { result: {} }],
    ['a version that is no string', { result: { protocolVersion: 1, capabilities: {}, serverInfo: {} } }],
    ['neither result nor error', {}],
    ['an error that is no object', { error: 'no' }],
  ])('the server answers with garbage → an error, no session: %s', async (_, answer) => {
    const server = await serve(
      () =>
        new ScriptedServer((message, transport) => {
          if ('method' in message && 'id' in message) {
            void transport.send({ jsonrpc: '2.0', id: message.id, ...(answer as object) } as never)
          }
        }),
    )
    await expectError(await server.request(post(initialize())), {
      status: 500,
      code: -32603,
      message: 'Internal error: the server did not answer initialize as the protocol asks',
      id: ID,
    })
    expectNothing(server)
  })

  test('the server answers twice → the first answer counts', async () => {
    const server = await serve(
      () =>
        new ScriptedServer((message, transport) => {
          if (!('method' in message) || !('id' in message)) return
          const { id } = message
          const result = {
            protocolVersion: '2025-11-25',
            capabilities: {},
            serverInfo: { name: 's', version: '1' },
          }
          void transport.send({ jsonrpc: '2.0', id, result })
          void transport.send({ jsonrpc: '2.0', id, error: { code: 1, message: 'no' } })
        }),
    )
    await expectUsable(server)
  })

  test('a server that asks the client something before it answers with an error leaves no question behind', async () => {
    const rejected = deferred<unknown>()
    const server = await serve(
      () =>
        new ScriptedServer((message, transport) => {
          if (!('method' in message) || !('id' in message)) return
          transport
            .send({ jsonrpc: '2.0', id: 0, method: 'roots/list' })
            .catch((thrown: unknown) => rejected.resolve(thrown))
          void transport.send({ jsonrpc: '2.0', id: message.id, error: { code: -32603, message: 'no' } })
        }),
      { clock: new VirtualClock() },
    )
    await expectServerError(await server.request(post(initialize())), -32603, 'no')
    expectNothing(server)
    expect(await within(rejected.promise, 'the rejection of the question')).toBeInstanceOf(Error)
    expect(server.timers).toBe(0)
  })

  test('app.close() during a slow factory → 503, the late server closed', async () => {
    const factory = deferred<McpServerLike>()
    const server = await serve(() => factory.promise)
    const connection = await server.connect()
    await connection.send(post(initialize()))
    await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
    await within(server.app.close(), 'app.close()')
    await expectError(await connection.response(), {
      status: 503,
      code: -32000,
      message: 'Service Unavailable: the server is shutting down',
      id: ID,
      headers: { 'retry-after': /^\d+$/ },
    })
    expectNothing(server)
    expect(server.timers).toBe(0)
    const late = fake()
    factory.resolve(late)
    await server.waitFor(() => late.closedAt !== undefined, 'the end of the late server')
    expectNothing(server)
  })

  test('a cancel cannot reach `initialize`: its session is not there yet', async () => {
    const factory = deferred<McpServerLike>()
    const server = await serve(() => factory.promise)
    const connection = await server.connect()
    await connection.send(post(initialize()))
    await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the opening')
    const cancel = await server.request(post(notification('notifications/cancelled', { requestId: ID })))
    await expectError(cancel, SESSION_REQUIRED)
    factory.resolve(fake())
    expect((await connection.response()).status).toBe(200)
  })
})

describe('`initialize` without an id, or params over 16 KiB', () => {
  const NOT_A_REQUEST = {
    status: 400,
    code: -32600,
    message: 'Invalid Request: initialize must be a request with an id',
  }
  const TOO_LARGE = {
    status: 400,
    code: -32600,
    message: 'Invalid Request: the params of initialize must not exceed 16384 bytes',
    id: ID,
  }

  /** Params of exactly so many bytes as JSON. */
  function params(bytes: number, filler = 'x'): object {
    const base = { ...initializeParams(), padding: '' }
    const left = bytes - JSON.stringify(base).length
    return {
      ...base,
      padding:
        filler.repeat(Math.floor(left / Buffer.byteLength(filler))) +
        'x'.repeat(left % Buffer.byteLength(filler)),
    }
  }

  test('a notification → 400 -32600, nothing allocated', async () => {
    const server = await serveNothing()
    await expectError(
      await server.request(post(notification('initialize', initializeParams()))),
      NOT_A_REQUEST,
    )
    expectNothing(server)
  })

  test('id null → 400 -32600', async () => {
    const server = await serveNothing()
    const response = await server.request(
      post({ jsonrpc: '2.0', id: null, method: 'initialize', params: initializeParams() }),
    )
    await expectError(response, { status: 400, code: -32600, message: /^Invalid Request: id must be/ })
    expectNothing(server)
  })

  test.each(['x', 'ü', '😀'])(
    '16 KiB of params are taken, one byte more is not; bytes count: %s',
    async (filler) => {
      const server = await serve(() => fake())
      expect(Buffer.byteLength(JSON.stringify(params(16 * 1024, filler)))).toBe(16 * 1024)
      await expectError(
        await server.request(post(rpc('initialize', params(16 * 1024 + 1, filler)))),
        TOO_LARGE,
      )
      expectNothing(server)
      expect(server.events).toMatchObject([
        { type: 'request.refused', status: 400, cause: 'initialize', option: 'maxInitializeSize' },
      ])
      expect((await server.request(post(rpc('initialize', params(16 * 1024, filler))))).status).toBe(200)
    },
  )

  test('params nested a hundred thousand levels deep → 400, and the process lives', async () => {
    const server = await serveNothing()
    const deep = `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`
    const response = await server.request(
      post(`{"jsonrpc":"2.0","id":"${ID}","method":"initialize","params":${deep}}`),
    )
    expect(response.status).toBe(400)
    expectNothing(server)
  })

  test('maxInitializeSize is an option', async () => {
    const server = await serve(() => fake(), { maxInitializeSize: '1KiB' })
    await expectError(await server.request(post(rpc('initialize', params(1025)))), {
      ...TOO_LARGE,
      message: 'Invalid Request: the params of initialize must not exceed 1024 bytes',
    })
    expectNothing(server)
    expect((await server.request(post(rpc('initialize', params(1024))))).status).toBe(200)
  })

  test('other requests may have larger params', async () => {
    const server = await serve(() => fake())
    const session = await openSession(server)
    const response = await server.request(
      post(rpc('tools/list', { padding: 'x'.repeat(100_000) }), session.headers),
    )
    expect(response.status).toBe(200)
  })

  test('no params at all are the server’s to judge, and its error opens nothing', async () => {
    for (const sdk of SDKS) {
      const server = await serve(() => sdk.build())
      const response = await server.request(post(rpc('initialize')))
      expect(await response.json()).toMatchObject({ id: ID, error: { code: expect.any(Number) } })
      expect(response.header('mcp-session-id')).toBeUndefined()
      expectNothing(server)
    }
  })

  test('`initialize` in a batch → 400 -32600, nothing allocated', async () => {
    const server = await serveNothing()
    for (const batch of [
      [initialize()],
      [initialize(), rpc('ping', undefined, 2)],
      [rpc('ping', undefined, 2), initialize('2025-03-26')],
    ]) {
      await expectError(await server.request(post(batch)), {
        status: 400,
        code: -32600,
        message: 'Invalid Request: initialize must not be part of a batch',
      })
    }
    await expectError(await server.request(post([notification('initialize')])), NOT_A_REQUEST)
    expectNothing(server)
  })
})

describe('without a session id', () => {
  test.each<[string, unknown, string | null]>([
    ['a request', rpc('tools/list'), ID],
    ['ping', rpc('ping'), ID],
    ['an unknown method', rpc('no/such'), ID],
    ['a notification', notification('notifications/initialized'), null],
    ['a response', { jsonrpc: '2.0', id: 1, result: {} }, null],
    ['an error response', { jsonrpc: '2.0', id: 1, error: { code: 1, message: 'm' } }, null],
    ['a batch', [rpc('ping'), rpc('ping', undefined, 2)], null],
    ['a batch of one request', [rpc('ping')], null],
  ])('any other POST → 400 -32000, nothing allocated: %s', async (_, body, id) => {
    const server = await serveNothing()
    for (const version of [undefined, ...VERSIONS]) {
      await expectError(await server.request(post(body as object, { 'Mcp-Protocol-Version': version })), {
        ...SESSION_REQUIRED,
        id,
      })
    }
    expect(server.events[0]).toMatchObject({
      type: 'request.refused',
      status: 400,
      cause: 'session-required',
    })
    expectNothing(server)
  })

  test('DELETE → 400 -32000', async () => {
    const server = await serveNothing()
    for (const version of [undefined, ...VERSIONS]) {
      await expectError(await server.request(del({ 'Mcp-Protocol-Version': version })), SESSION_REQUIRED)
    }
    expectNothing(server)
  })

  test('DELETE with a 2026-07-28 header → 405', async () => {
    const server = await serveNothing()
    await expectError(await server.request(del({ 'Mcp-Protocol-Version': '2026-07-28' })), {
      status: 405,
      code: -32000,
      message: 'Method not allowed.',
      headers: { allow: 'POST' },
    })
  })

  test('GET → 405, which clients read as "no stream here"', async () => {
    const server = await serveNothing()
    for (const version of [undefined, ...VERSIONS, '2026-07-28', '1999-01-01']) {
      await expectError(await server.request(get({ 'Mcp-Protocol-Version': version })), {
        status: 405,
        code: -32000,
        message: 'Method not allowed.',
        headers: { allow: 'POST' },
      })
    }
    await expectError(await server.request(get({ 'Last-Event-ID': 'x' })), {
      status: 405,
      code: -32000,
      message: 'Method not allowed.',
    })
    expectNothing(server)
  })
})

describe('unknown version requested', () => {
  describe.each(SDKS)('$name', (sdk) => {
    test.each(['1999-01-01', '2024-01-01', '2025-11-24', '2027-01-01', 'banana', ''])(
      '→ 200 with the newest we speak: %s',
      async (version) => {
        const server = await serve(() => sdk.build())
        const response = await server.request(post(initialize(version)))
        expect(response.status).toBe(200)
        expect(await response.json()).toMatchObject({ result: { protocolVersion: '2025-11-25' } })
        const id = response.header('mcp-session-id')
        expect(server.app.sessions.get(id ?? '')?.protocolVersion).toBe('2025-11-25')
        const headers = { 'Mcp-Session-Id': id, 'Mcp-Protocol-Version': '2025-11-25' }
        expect((await server.request(post(rpc('tools/list'), headers))).status).toBe(200)
      },
    )

    test('2026-07-28 by handshake → 200 with the newest that has one', async () => {
      const server = await serve(() => sdk.build())
      const response = await server.request(post(initialize('2026-07-28')))
      expect(response.status).toBe(200)
      expect(await response.json()).toMatchObject({ result: { protocolVersion: '2025-11-25' } })
    })
  })
})

describe('`initialize` with an id', () => {
  const people: Record<string, AuthInfo> = {
    'Bearer a': { token: 'a', clientId: 'c', scopes: [], extra: { iss: 'https://i.example', sub: 'alice' } },
    'Bearer b': { token: 'b', clientId: 'c', scopes: [], extra: { iss: 'https://i.example', sub: 'bob' } },
  }
  const authenticate = (request: Request): AuthInfo | undefined =>
    people[request.headers.get('authorization') ?? '']
  const NOT_FOUND = { status: 404, code: -32001, message: 'Session not found', id: ID }

  test.each(['unknown', '__proto__', 'constructor', '0'.repeat(32), 'x'.repeat(4000), ' '])(
    'that is unknown → a fresh session with an id of ours: %s',
    async (id) => {
      const server = await serve(() => fake())
      const response = await server.request(post(initialize(), { 'Mcp-Session-Id': id }))
      expect(response.status).toBe(200)
      const given = response.header('mcp-session-id')
      expect(given).toMatch(/^[\x21-\x7e]{22,}$/)
      expect(given).not.toBe(id)
      expect(server.app.sessions.list().map((session) => session.id)).toEqual([given])
      await expectError(await server.request(post(rpc('ping'), { 'Mcp-Session-Id': id })), NOT_FOUND)
    },
  )

  test('that is expired → a fresh session', async () => {
    const server = await serve(() => fake(), { clock: new VirtualClock(), sessionIdleTimeout: '1m' })
    const session = await openSession(server)
    await server.waitFor(
      () => server.app.sessions.get(session.id)?.state === 'idle',
      'the end of the exchange',
    )
    await server.clock.advance(60_000)
    expectNothing(server)
    const response = await server.request(post(initialize(), { 'Mcp-Session-Id': session.id }))
    expect(response.status).toBe(200)
    expect(response.header('mcp-session-id')).not.toBe(session.id)
    expect(server.app.sessions.size).toBe(1)
  })

  test('that was deleted → a fresh session', async () => {
    const server = await serve(() => fake())
    const session = await openSession(server)
    await server.request(del(session.headers))
    const response = await server.request(post(initialize(), session.headers))
    expect(response.status).toBe(200)
    expect(response.header('mcp-session-id')).not.toBe(session.id)
  })

  test.each([
    ['bob’s, sent by alice', 'Bearer b', 'Bearer a'],
    ['bob’s, sent by nobody', 'Bearer b', undefined],
    ['nobody’s, sent by alice', undefined, 'Bearer a'],
  ])('that is another principal’s → a fresh session, the other untouched: %s', async (_, owner, sender) => {
    const server = await serve(() => fake(), { clock: new VirtualClock(), authenticate })
    const session = await openSession(server, { headers: { Authorization: owner } })
    await server.waitFor(
      () => server.app.sessions.get(session.id)?.state === 'idle',
      'the end of the exchange',
    )
    const expiresIn = server.app.sessions.get(session.id)?.expiresIn ?? 0
    await server.clock.advance(1000)
    const response = await server.request(post(initialize(), { ...session.headers, Authorization: sender }))
    expect(response.status).toBe(200)
    expect(response.header('mcp-session-id')).not.toBe(session.id)
    expect(server.app.sessions.get(session.id)?.expiresIn).toBe(expiresIn - 1000)
    expect(server.app.sessions.size).toBe(2)
  })

  test("one's own live session → 400 -32600, the session untouched", async () => {
    const built: FakeServer[] = []
    const server = await serve(
      () => {
        const one = fake()
        built.push(one)
        return one
      },
      { clock: new VirtualClock(), authenticate },
    )
    for (const authorization of [undefined, 'Bearer a']) {
      const session = await openSession(server, { headers: { Authorization: authorization } })
      await server.waitFor(
        () => server.app.sessions.get(session.id)?.state === 'idle',
        'the end of the exchange',
      )
      const expiresIn = server.app.sessions.get(session.id)?.expiresIn ?? 0
      const builtBefore = built.length
      await server.clock.advance(1000)
      const response = await server.request(
        post(initialize(), { ...session.headers, Authorization: authorization }),
      )
      await expectError(response, {
        status: 400,
        code: -32600,
        message: 'Invalid Request: Server already initialized',
        id: ID,
      })
      // A refused request prolongs nothing.
      expect(server.app.sessions.get(session.id)?.expiresIn).toBe(expiresIn - 1000)
      expect(built.length).toBe(builtBefore)
      const ping = await server.request(
        post(rpc('ping'), { ...session.headers, Authorization: authorization }),
      )
      expect(ping.status).toBe(200)
    }
    expect(server.app.sessions.size).toBe(2)
  })

  test('two different ids → 400', async () => {
    const server = await serveNothing()
    const response = await server.request({
      method: 'POST',
      headers: [...Object.entries(POST_HEADERS), ['Mcp-Session-Id', 'a'], ['Mcp-Session-Id', 'b']],
      body: initialize(),
    })
    await expectError(response, {
      status: 400,
      code: -32000,
      message: 'Bad Request: Mcp-Session-Id has two different values',
      id: ID,
    })
    expectNothing(server)
  })

  test('no answer names an id but that of the session it belongs to', async () => {
    const server = await serve(() => fake(), { authenticate })
    const mine = await openSession(server, { headers: { Authorization: 'Bearer b' } })
    const answers = [
      await server.request(post(rpc('ping'), { ...mine.headers, Authorization: 'Bearer a' })),
      await server.request(get({ ...mine.headers, Authorization: 'Bearer a' })),
      await server.request(del({ ...mine.headers, Authorization: 'Bearer a' })),
      await server.request(post(initialize(), { ...mine.headers, Authorization: 'Bearer a' })),
    ]
    for (const answer of answers) {
      expect(answer.rawHead).not.toContain(mine.id)
      expect(await answer.text()).not.toContain(mine.id)
    }
    expect(JSON.stringify(server.logs)).not.toContain(mine.id)
  })
})

describe('full', () => {
  const FULL = {
    status: 503,
    code: -32000,
    message: 'Service Unavailable: too many sessions',
    id: ID,
    headers: { 'retry-after': /^[1-9]\d*$/ },
  }

  test('503 with Retry-After on `initialize` only: everything else keeps its 4xx', async () => {
    const server = await serve(() => fake(), { maxSessions: 1 })
    const session = await openSession(server)
    const stream = await server.request(get(session.headers))
    expect(stream.status).toBe(200)
    await expectError(await server.request(post(initialize())), FULL)
    expect(server.events.at(-1)).toMatchObject({
      type: 'request.refused',
      status: 503,
      cause: 'full',
      option: 'maxSessions',
    })
    await expectError(await server.request(post(rpc('ping'))), { ...SESSION_REQUIRED, id: ID })
    await expectError(await server.request(get()), {
      status: 405,
      code: -32000,
      message: 'Method not allowed.',
    })
    await expectError(await server.request(del()), SESSION_REQUIRED)
    await expectError(await server.request(post(rpc('ping'), { 'Mcp-Session-Id': 'x' })), {
      status: 404,
      code: -32001,
      message: 'Session not found',
      id: ID,
    })
    await expectError(await server.request(post(notification('initialize'))), {
      status: 400,
      code: -32600,
      message: /with an id/,
    })
    await expectError(await server.request(post(rpc('initialize', { padding: 'x'.repeat(17_000) }))), {
      status: 400,
      code: -32600,
      message: /must not exceed/,
      id: ID,
    })
    await expectError(await server.request(post(initialize(), session.headers)), {
      status: 400,
      code: -32600,
      message: /already initialized/,
      id: ID,
    })
    expect((await server.request(post(rpc('ping'), session.headers))).status).toBe(200)
    expect(server.app.sessions.counts).toMatchObject({ total: 1, opening: 0 })
  })

  test('sessions that are opening count, and a failed one makes room', async () => {
    const factories: ReturnType<typeof deferred<McpServerLike>>[] = []
    const server = await serve(
      () => {
        const factory = deferred<McpServerLike>()
        factories.push(factory)
        return factory.promise
      },
      { maxSessions: 2 },
    )
    const connections = await Promise.all([server.connect(), server.connect()])
    for (const connection of connections) await connection.send(post(initialize()))
    await server.waitFor(() => server.app.sessions.counts.opening === 2, 'two openings')
    await expectError(await server.request(post(initialize())), FULL)
    factories[0]?.reject(new Error('no'))
    await connections[0]?.response()
    const third = await server.connect()
    await third.send(post(initialize()))
    await server.waitFor(() => factories.length === 3, 'the third opening')
    for (const factory of factories.slice(1)) factory.resolve(fake())
    expect((await third.response()).status).toBe(200)
    expect(server.app.sessions.counts).toMatchObject({ total: 2, opening: 0 })
  })
})
