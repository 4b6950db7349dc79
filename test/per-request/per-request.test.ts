/** What Sojourn adds to the official handler of revision 2026-07-28: the factory's context, limits, cancellation, the end of an app. */

import { createRequire } from 'node:module'

import { McpServer, type ServerContext as HandlerContext } from '@modelcontextprotocol/server'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'

import type { AppOptions, McpServerLike, ServerContext } from '../../src/types.ts'
import { deferred, type Deferred, within } from '../support/deferred.ts'
import { expectError, ID, openSession, post, rpc } from '../support/mcp-wire.ts'
import { modernNotification, modernPost } from '../support/modern-wire.ts'
import { SDKS } from '../support/sdk-servers.ts'
import { serve, type Served } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const MIB = 1024 * 1024
/** Where the first of several writes has left by the time the watch looks, what followed it has a minute from then. */
const SECOND_LOOK = 60_001
const PROGRESS = { _meta: { progressToken: 'p' } }

/** A server whose tool `run` does what the test says. */
function runs(run: (context: HandlerContext) => string | Promise<string>): McpServer {
  const server = new McpServer({ name: 'runs', version: '1' })
  server.registerTool('run', {}, async (context) => ({
    content: [{ type: 'text', text: await run(context) }],
  }))
  return server
}

async function progress({ mcpReq }: HandlerContext, text: string): Promise<void> {
  const params = { progressToken: mcpReq._meta?.progressToken ?? '', progress: 1, message: text }
  await mcpReq.notify({ method: 'notifications/progress', params })
}

function call(headers: Record<string, string> = {}, params: object = {}): ReturnType<typeof modernPost> {
  return modernPost('tools/call', { name: 'run', arguments: {}, ...params }, headers)
}

/** A call that has begun and waits for the test. */
interface Held {
  readonly begun: Deferred<HandlerContext>
  readonly finish: Deferred<string>
  readonly aborted: Deferred<unknown>
}

function held(): Held & { createServer: () => McpServer } {
  const begun = deferred<HandlerContext>()
  const finish = deferred<string>()
  const aborted = deferred<unknown>()
  return {
    begun,
    finish,
    aborted,
    createServer: () =>
      runs(async (context) => {
        context.mcpReq.signal.addEventListener('abort', () => aborted.resolve(context.mcpReq.signal.reason))
        begun.resolve(context)
        return finish.promise
      }),
  }
}

function serveVirtual(createServer: () => McpServerLike, options: AppOptions = {}): Promise<Served> {
  return serve(createServer, { clock: new VirtualClock(), ...options })
}

const ended = (server: Served): unknown[] => server.events.filter(({ type }) => type === 'request.ended')

describe('the factory', () => {
  test('is told of the request: its era, client, principal and authentication, and nothing of a session', async () => {
    const contexts: ServerContext[] = []
    const server = await serve(
      (context) => {
        contexts.push(context)
        context.session.data = { seen: contexts.length }
        return runs(() => JSON.stringify(context.session.data))
      },
      {
        authenticate: (request) => ({
          token: 't',
          clientId: 'c',
          scopes: [],
          extra: { iss: 'i', sub: request.headers.get('x-user') ?? '' },
        }),
      },
    )
    const texts = await Promise.all(
      ['ann', 'bob'].map(async (user) => (await server.request(call({ 'X-User': user }))).text()),
    )
    expect(texts.map((text) => /seen\\":\d/.exec(text)?.[0])).toEqual(['seen\\":1', 'seen\\":2'])
    expect(
      contexts.map(({ era, session, authInfo, requestInfo }) => ({
        era,
        id: session.id,
        client: session.client,
        restored: session.restored,
        user: authInfo?.extra?.['sub'],
        header: requestInfo?.headers.get('x-user'),
      })),
    ).toEqual(
      ['ann', 'bob'].map((user) => ({
        era: 'modern',
        id: undefined,
        client: { name: 'wire', version: '1' },
        restored: false,
        user,
        header: user,
      })),
    )
    const principals = contexts.map(({ session }) => session.principal)
    expect(new Set(principals).size).toBe(2)
    expect(principals).not.toContain(undefined)
  })

  test('session.data is bounded, and the signals abort with the end of the request', async () => {
    let context: ServerContext | undefined
    const server = await serve((given) => {
      context = given
      return runs(() => {
        expect(given.session.signal.aborted).toBe(false)
        expect(() => {
          given.session.data = 'x'.repeat(70_000)
        }).toThrow('maxSessionDataSize')
        return 'ok'
      })
    })
    expect(await (await server.request(call())).text()).toContain('"ok"')
    expect(context?.session.data).toEqual({})
    await server.waitFor(() => context?.session.signal.aborted === true, 'the abort of session.signal')
    expect(context?.instanceSignal.aborted).toBe(true)
    expect(context?.session.signal.reason).toBe('shutdown')
  })

  test('that throws or returns no server: 500, logged, and the next request is served', async () => {
    let broken = 0
    const server = await serve(() => {
      broken += 1
      if (broken === 1) throw new Error('secret')
      if (broken === 2) return undefined as unknown as McpServerLike
      return runs(() => 'ok')
    })
    for (let i = 0; i < 2; i++) {
      await expectError(await server.request(call()), {
        status: 500,
        code: -32603,
        message: 'Internal error: the server could not be created',
        id: ID,
      })
    }
    expect(server.logs.map(({ level, message }) => `${level} ${message}`)).toEqual([
      'error createServer failed',
      'error createServer failed',
    ])
    expect(await (await server.request(call())).text()).toContain('"ok"')
  })

  test.each([true, false])(
    'that hangs: 504 after initializeTimeout; what comes late is closed (first: %s)',
    async (first) => {
      const late = deferred<McpServer>()
      const server = await serve(() => (hang ? late.promise : runs(() => 'ok')), {
        clock: new VirtualClock(),
        initializeTimeout: '5s',
        maxSessions: 1,
      })
      let hang = first
      if (!first) await (await server.request(call())).text()
      hang = true
      const answer = server.request(call())
      await server.waitFor(() => server.clock.pending > 0, 'the wait for the factory')
      await server.clock.advance(5000)
      await expectError(await answer, {
        status: 504,
        code: -32000,
        message: 'createServer took longer than 5 s',
        id: ID,
      })
      const closed = deferred()
      const lateServer = runs(() => 'late')
      lateServer.close = () => {
        closed.resolve()
        return Promise.resolve()
      }
      late.resolve(lateServer)
      await within(closed.promise, 'the end of the late server')
      hang = false
      expect(await (await server.request(call())).text()).toContain('"ok"')
    },
  )

  test('that builds v1 for some and v2 for others: each gets what its server speaks', async () => {
    let v1 = false
    const server = await serve(() => (v1 ? (SDKS[0]?.build() ?? runs(() => '')) : runs(() => 'ok')))
    expect((await server.request(call())).status).toBe(200)
    v1 = true
    const refused = await server.request(call())
    expect(refused.status).toBe(400)
    expect(await refused.text()).toContain('"supported":["2025-11-25"')
    v1 = false
    expect((await server.request(call())).status).toBe(200)
  })

  test("whose code is CommonJS has the package's other build, and is served", async () => {
    const { McpServer: Required } = createRequire(import.meta.url)('@modelcontextprotocol/server') as {
      McpServer: typeof McpServer
    }
    expect(Required).not.toBe(McpServer)
    const server = await serve(() => {
      const built = new Required({ name: 'cjs', version: '1' })
      built.registerTool('run', { inputSchema: z.object({}) }, () => ({
        content: [{ type: 'text', text: 'required' }],
      }))
      return built
    })
    expect(await (await server.request(call())).text()).toContain('"required"')
  })

  test('whose servers are of a copy that is not ours: the handshake, and one line that says why', async () => {
    const foreign = { getNegotiatedProtocolVersion: () => undefined }
    const server = await serve(() => ({
      server: foreign,
      connect: () => Promise.resolve(),
      close: () => Promise.resolve(),
    }))
    for (let i = 0; i < 2; i++) expect((await server.request(call())).status).toBe(400)
    expect(server.logs.map(({ level, message }) => `${level} ${message}`)).toEqual([
      expect.stringMatching(/^warn createServer builds servers with another copy .* \(npm dedupe\)$/),
    ])
  })
})

describe('sessions are none of its business', () => {
  test("a session's clock is not touched by its id on such a request, which gets a server of its own", async () => {
    let built = 0
    const server = await serve(
      () => {
        built += 1
        return runs(() => 'ok')
      },
      { clock: new VirtualClock() },
    )
    const session = await openSession(server)
    const handle = server.app.sessions.get(session.id)
    await server.waitFor(() => handle?.state === 'idle', 'the end of the exchange')
    const expiresIn = handle?.expiresIn ?? 0
    await server.clock.advance(1000)
    const response = await server.request(call({ 'Mcp-Session-Id': session.id }))
    expect(await response.text()).toContain('"ok"')
    expect(response.header('mcp-session-id')).toBeUndefined()
    expect(handle?.expiresIn).toBe(expiresIn - 1000)
    expect(built).toBe(2)
    // The handshake goes on as if nothing had been.
    expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(200)
  })

  test('under stateless both eras are served', async () => {
    const server = await serve(() => runs(() => 'ok'), { stateless: true })
    expect(await (await server.request(call())).text()).toContain('"ok"')
    expect((await server.request(post(rpc('tools/list')))).status).toBe(200)
  })
})

describe('answers', () => {
  test('progress streams as it is made', async () => {
    const { begun, finish } = held()
    const server = await serve(() =>
      runs(async (context) => {
        await progress(context, 'half')
        begun.resolve(context)
        return finish.promise
      }),
    )
    const response = await server.request(call({}, PROGRESS))
    expect(response.header('content-type')).toBe('text/event-stream')
    expect(response.header('x-accel-buffering')).toBe('no')
    expect(await response.nextMessage()).toMatchObject({ method: 'notifications/progress' })
    expect(response.ending).toBeUndefined()
    finish.resolve('done')
    expect(await response.nextMessage()).toMatchObject({ id: ID, result: { content: [{ text: 'done' }] } })
    expect(await response.ended()).toBe('complete')
    expect(server.events.map(({ type }) => type)).toEqual([
      'request.started',
      'stream.opened',
      'request.ended',
      'stream.closed',
    ])
  })

  test('one that takes longer than a keep-alive interval becomes a stream that shows that it lives', async () => {
    const { createServer, begun, finish } = held()
    const server = await serveVirtual(createServer)
    const answer = server.request(call())
    await within(begun.promise, 'the call')
    await server.clock.advance(15_000)
    const response = await answer
    expect(response.header('content-type')).toBe('text/event-stream')
    await server.clock.advance(15_000)
    expect((await response.nextBlock())?.comment).toBe('keepalive')
    finish.resolve('late')
    expect(await response.nextMessage()).toMatchObject({ id: ID, result: { content: [{ text: 'late' }] } })
    expect(await response.ended()).toBe('complete')
  })

  test("responseMode 'sse' always streams results; 'json' never does", async () => {
    const sse = await serve(() => runs(() => 'ok'), { responseMode: 'sse' })
    const streamed = await sse.request(call())
    expect(streamed.header('content-type')).toBe('text/event-stream')
    expect(await streamed.messages()).toMatchObject([{ id: ID, result: {} }])
    // Errors of the protocol keep their status.
    expect((await sse.request(modernPost('no/such'))).status).toBe(404)
    const json = await serve(
      () =>
        runs(async (context) => {
          await progress(context, 'dropped')
          return 'ok'
        }),
      { responseMode: 'json' },
    )
    const whole = await json.request(call({ Accept: 'application/json' }, PROGRESS))
    expect(whole.header('content-type')).toBe('application/json')
    expect(await whole.json()).toMatchObject({ id: ID, result: { content: [{ text: 'ok' }] } })
  })

  test('one larger than maxMessageSize is replaced by an error, whole or streamed', async () => {
    const large = 'x'.repeat(5000)
    const server = await serve(
      () =>
        runs(async (context) => {
          if (context.mcpReq._meta?.progressToken !== undefined) await progress(context, 'soon')
          return large
        }),
      { maxMessageSize: '4KiB' },
    )
    const error = { code: -32603, message: 'The answer is larger than maxMessageSize (4096 bytes)' }
    expect(await (await server.request(call())).json()).toMatchObject({ id: ID, error })
    const messages = await (await server.request(call({}, PROGRESS))).messages()
    expect(messages.at(-1)).toMatchObject({ id: ID, error })
    expect(ended(server)).toMatchObject([{ outcome: 'error' }, { outcome: 'error' }])
  })

  test('a server that closes its own connection: an error, and the app lives on', async () => {
    const server = await serve(() => {
      const built: McpServer = runs(async (context) => {
        if (context.mcpReq._meta?.progressToken !== undefined) await progress(context, 'soon')
        await built.close()
        return 'never seen'
      })
      return built
    })
    const message = 'Internal error: the server closed its connection'
    await expectError(await server.request(call()), { status: 500, code: -32603, message, id: ID })
    const messages = await (await server.request(call({}, PROGRESS))).messages()
    expect(messages.at(-1)).toMatchObject({ id: ID, error: { code: -32603, message } })
  })
})

describe('closing the response is cancellation', () => {
  test.each(['before anything was sent', 'in the middle of a stream'])('%s', async (when) => {
    const { begun, aborted, finish } = held()
    const streams = when !== 'before anything was sent'
    const server = await serve(() =>
      runs(async (context) => {
        context.mcpReq.signal.addEventListener('abort', () => aborted.resolve(undefined))
        if (streams) await progress(context, 'half')
        begun.resolve(context)
        return finish.promise
      }),
    )
    const connection = await server.connect()
    await connection.send(call({}, PROGRESS))
    const context = await within(begun.promise, 'the call')
    if (streams) await connection.response()
    connection.destroy()
    await within(aborted.promise, 'the abort of the handler')
    expect(context.http?.req?.signal.aborted).toBe(true)
    await server.until('request.ended')
    expect(ended(server)).toMatchObject([
      { outcome: 'cancelled', session: undefined, method: 'tools/call', name: 'run' },
    ])
    expect(server.app.sessions.counts.requests).toBe(0)
    finish.resolve('nobody hears this')
  })

  test('while the factory works: its server is closed as soon as it is there', async () => {
    const building = deferred()
    const closed = deferred()
    const built = deferred<McpServer>()
    const server = await serve(() => {
      building.resolve()
      return built.promise
    })
    const connection = await server.connect()
    await connection.send(call())
    await within(building.promise, 'the factory')
    connection.destroy()
    await connection.closed()
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
    const late = runs(() => 'late')
    late.close = () => {
      closed.resolve()
      return Promise.resolve()
    }
    built.resolve(late)
    await within(closed.promise, 'the end of the server')
  })

  test('a peer that does not read is cut by the bound of its buffer', async () => {
    const frame = 'x'.repeat(100_000)
    const { aborted } = held()
    const server = await serve(
      () =>
        runs(async (context) => {
          context.mcpReq.signal.addEventListener('abort', () => aborted.resolve(undefined))
          for (let i = 0; i < 2000 && !context.mcpReq.signal.aborted; i++) {
            await progress(context, frame)
            await new Promise((resolve) => setImmediate(resolve))
          }
          return 'ok'
        }),
      { maxStreamBuffer: '256KiB' },
    )
    const connection = await server.connect()
    connection.pause()
    await connection.send(call({}, PROGRESS))
    await within(aborted.promise, 'the abort of the handler')
    await server.until('request.ended')
    expect(ended(server)).toMatchObject([{ outcome: 'aborted' }])
  })

  test.each([
    ['whole', 'request.ended'],
    ['streamed', 'stream.closed'],
  ] as const)('bytes of an answer unsent for 60 s: cut (%s)', async (kind, over) => {
    const server = await serveVirtual(() =>
      runs(async (context) => {
        if (kind === 'streamed') await progress(context, 'first')
        return 'x'.repeat(15 * MIB)
      }),
    )
    const connection = await server.connect()
    connection.pause()
    const response = connection.request(call({}, PROGRESS))
    await server.until(over)
    await server.clock.advance(59_999)
    expect(connection.gone).toBeUndefined()
    expect(server.timers).toBe(1)
    await server.clock.advance(SECOND_LOOK)
    await server.waitFor(() => server.timers === 0, 'the end of the watch')
    connection.resume()
    expect(await (await response).ended()).toBe('cut')
  })

  test('bytes of a subscription unsent for 60 s: cut, however much is announced', async () => {
    const uri = `a://${'x'.repeat(2 * MIB)}`
    const server = await serveVirtual(
      () =>
        new McpServer(
          { name: 'announces', version: '1' },
          { capabilities: { resources: { subscribe: true } } },
        ),
      { maxSubscriptionUriSize: 3 * MIB, maxStreamBuffer: 64 * MIB, keepAliveInterval: Infinity },
    )
    const connection = await server.connect()
    const response = await connection.request(
      modernPost('subscriptions/listen', { notifications: { resourceSubscriptions: [uri] } }),
    )
    await response.nextEvent()
    connection.pause()
    for (let n = 0; n < 10; n++) {
      server.app.notify.resourceUpdated(uri)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await server.clock.advance(59_999)
    expect(server.events.filter(({ type }) => type === 'stream.closed')).toEqual([])
    await server.clock.advance(SECOND_LOOK)
    await server.until('stream.closed')
    connection.resume()
    expect(await response.ended()).toBe('cut')
  })
})

describe('limits', () => {
  test('as many calls at once as there may be sessions, counted apart; then 503', async () => {
    const { createServer, begun, finish } = held()
    const server = await serve(createServer, { maxSessions: 1 })
    await openSession(server)
    const first = server.request(call())
    await within(begun.promise, 'the call')
    const refused = await server.request(call())
    await expectError(refused, {
      status: 503,
      code: -32000,
      message: 'Service Unavailable: too many requests',
      id: ID,
      headers: { 'retry-after': '10' },
    })
    finish.resolve('ok')
    expect(await (await first).text()).toContain('"ok"')
    await server.waitFor(() => server.app.sessions.counts.requests === 0, 'the end of the call')
    expect((await server.request(call())).status).toBe(200)
    expect(server.events.filter(({ type }) => type === 'request.refused')).toMatchObject([
      { cause: 'full', option: 'maxSessions' },
    ])
  })

  test('maxSessionsPerPrincipal holds for the calls of one principal', async () => {
    const { createServer, begun, finish } = held()
    const server = await serve(createServer, {
      maxSessionsPerPrincipal: 1,
      authenticate: (request) => ({
        token: 't',
        clientId: 'c',
        scopes: [],
        extra: { sub: request.headers.get('x-user') ?? '' },
      }),
    })
    const first = server.request(call({ 'X-User': 'ann' }))
    await within(begun.promise, 'the call')
    expect((await server.request(call({ 'X-User': 'ann' }))).status).toBe(503)
    const other = server.request(call({ 'X-User': 'bob' }))
    finish.resolve('ok')
    expect((await other).status).toBe(200)
    expect((await first).status).toBe(200)
  })

  test('subscriptions: their number and length', async () => {
    const server = await serve(() => runs(() => ''), { maxSubscriptions: 2, maxSubscriptionUriSize: '10B' })
    const listen = async (resourceSubscriptions: string[]): Promise<unknown> =>
      (
        await server.request(modernPost('subscriptions/listen', { notifications: { resourceSubscriptions } }))
      ).json()
    expect(await listen(['a', 'b', 'c'])).toMatchObject({
      id: ID,
      error: { code: -32602, message: 'There may be at most 2 subscriptions (maxSubscriptions)' },
    })
    expect(await listen(['a'.repeat(11)])).toMatchObject({ id: ID, error: { code: -32602 } })
  })
})

describe('the end of the app', () => {
  test('calls may finish within the drain; new ones get 503', async () => {
    const { createServer, begun, finish } = held()
    const server = await serve(createServer)
    const answer = server.request(call())
    await within(begun.promise, 'the call')
    const closed = server.app.close({ drain: '30s' })
    for (const request of [call(), modernNotification('notifications/x')])
      expect((await server.request(request)).status).toBe(503)
    finish.resolve('in time')
    expect(await (await answer).text()).toContain('in time')
    await within(closed, 'close()')
  })

  test('what still runs after it is aborted and answered with an error, whole or streamed', async () => {
    const { begun, aborted, finish } = held()
    let calls = 0
    const server = await serve(() =>
      runs(async (context) => {
        context.mcpReq.signal.addEventListener('abort', () => aborted.resolve(undefined))
        if (context.mcpReq._meta?.progressToken !== undefined) await progress(context, 'half')
        calls += 1
        if (calls === 2) begun.resolve(context)
        return finish.promise
      }),
    )
    const whole = server.request(call())
    const streamed = await server.request(call({}, PROGRESS))
    await within(begun.promise, 'both calls')
    await server.app.close()
    await within(aborted.promise, 'the abort')
    const message = 'Service Unavailable: the server is shutting down'
    await expectError(await whole, { status: 503, code: -32000, message, id: ID })
    const messages = await streamed.messages()
    expect(messages.at(-1)).toMatchObject({ id: ID, error: { code: -32000, message } })
    expect(ended(server)).toMatchObject([{ outcome: 'aborted' }, { outcome: 'aborted' }])
  })

  test('a factory that still works is not waited for', async () => {
    const building = deferred()
    const server = await serve(() => {
      building.resolve()
      return new Promise<never>(() => {})
    })
    const answer = server.request(call())
    await within(building.promise, 'the factory')
    await within(server.app.close(), 'close()')
    expect((await answer).status).toBe(503)
  })

  test('those who only listen do not hold the drain up, and are told that it is over', async () => {
    const server = await serve(() => runs(() => ''))
    const listening = await server.request(
      modernPost('subscriptions/listen', { notifications: { toolsListChanged: true } }),
    )
    await listening.nextMessage()
    await within(server.app.close({ drain: '1h' }), 'close()')
    expect(await listening.messages()).toMatchObject([{ id: ID, result: { resultType: 'complete' } }])
    expect(await listening.ended()).toBe('complete')
    expect(server.events.filter(({ type }) => type.startsWith('stream'))).toMatchObject([
      { kind: 'listen', session: undefined },
      { kind: 'listen', session: undefined },
    ])
  })
})
