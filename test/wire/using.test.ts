/** "Using a session" of docs/wire.md, row by row, over real sockets. */

import { describe, expect, test } from 'vitest'

import { deferred } from '../support/deferred.ts'
import {
  del,
  expectError,
  expectNothing,
  get,
  initialize,
  notification,
  openSession,
  post,
  rpc,
  type WireSession,
} from '../support/mcp-wire.ts'
import type { RawRequest } from '../support/raw-http.ts'
import { serve } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import {
  answerOf,
  as,
  authenticateByName,
  bytesOf,
  call,
  expectPriming,
  expectStream,
  getStream,
  messageOf,
  OFFICIAL,
  open,
  serveFake,
  type FakeApp,
  type OfficialCall,
} from '../support/wire-app.ts'

const NOT_FOUND = { status: 404, code: -32001, message: 'Session not found' }

/** A session with a stream that has an event id to resume from. */
async function sessionWithCursor(
  server: FakeApp,
  headers = {},
): Promise<{ session: WireSession; cursor: string }> {
  const session = await openSession(server, { headers })
  const { response } = await open(server, post(call({ ending: 'never' }), { ...session.headers, ...headers }))
  await server.called()
  await server.clock.advance(25)
  const cursor = await expectPriming(await response)
  return { session, cursor }
}

/** What a client can do with a session's id. */
function uses(id: string, cursor: string, headers = {}): Record<string, RawRequest> {
  const named = { 'Mcp-Session-Id': id, ...headers }
  return {
    'POST request': post(rpc('tools/list'), named),
    'POST notification': post(notification('notifications/initialized'), named),
    GET: get(named),
    resume: get({ ...named, 'Last-Event-ID': cursor }),
    DELETE: del(named),
  }
}

describe('a session id that leads nowhere', () => {
  const ids: Record<string, (server: FakeApp) => Promise<string>> = {
    unknown: async () => 'A'.repeat(32),
    expired: async (server) => {
      const { id } = await openSession(server)
      await server.idle()
      await server.clock.advance(300_000)
      return id
    },
    closed: async (server) => {
      const session = await openSession(server)
      await (await server.request(del(session.headers))).ended()
      return session.id
    },
    malformed: async () => 'not an id; <script>',
    long: async () => 'x'.repeat(8000),
    'not ASCII': async () => 'ÿþ',
    ['__proto__']: async () => '__proto__',
    constructor: async () => 'constructor',
  }
  for (const [name, make] of Object.entries(ids)) {
    test(`${name}: 404 -32001 on POST, GET, DELETE and resume`, async () => {
      const server = await serveFake({ jsonResponseWindow: 0 })
      const id = await make(server)
      for (const request of Object.values(uses(id, 'AAAAAAAA.0.0'))) {
        const response = await server.request(request)
        const isRequest = request.method === 'POST' && JSON.stringify(request.body).includes('"id"')
        await expectError(response, { ...NOT_FOUND, id: isRequest ? 'q1' : null })
      }
      expect(server.app.sessions.counts).toMatchObject({ active: 0, requests: 0 })
    })
  }

  test('two different header values: 400, nothing executed', async () => {
    const server = await serveFake()
    const a = await openSession(server)
    const b = await openSession(server)
    const error = {
      status: 400,
      code: -32000,
      message: 'Bad Request: Mcp-Session-Id has two different values',
    }
    for (const { method, body, headers } of [post(rpc('tools/list')), get(), del()]) {
      const fields = [
        ...Object.entries(headers ?? {}),
        ['Mcp-Session-Id', a.id],
        ['Mcp-Session-Id', b.id],
      ] as [string, string][]
      const response = await server.request({ method, headers: fields, ...(body !== undefined && { body }) })
      await expectError(response, { ...error, id: method === 'POST' ? 'q1' : null })
    }
    expect(server.app.sessions.size).toBe(2)
    expect(server.fakes.flatMap(({ calls }) => calls)).toEqual([])
  })

  test('the same value twice is that value', async () => {
    const server = await serveFake()
    const { id } = await openSession(server)
    const headers = [
      ...Object.entries(post({}).headers ?? {}),
      ['Mcp-Session-Id', id],
      ['Mcp-Session-Id', id],
    ] as [string, string][]
    const response = await server.request({ method: 'POST', headers, body: rpc('tools/list') })
    expect(response.status).toBe(200)
  })
})

describe("another principal's session id", () => {
  test('is byte for byte as an unknown one on POST, GET, DELETE and resume (promise 5)', async () => {
    const server = await serveFake({ authenticate: authenticateByName, jsonResponseWindow: 0 })
    const { session, cursor } = await sessionWithCursor(server, as('alice'))
    const anonymous = {}
    for (const caller of [as('bob'), anonymous]) {
      const foreign = uses(session.id, cursor, caller)
      const unknown = uses('B'.repeat(32), cursor, caller)
      for (const [name, request] of Object.entries(foreign)) {
        const [one, other] = [
          await server.request(request),
          await server.request(unknown[name] as RawRequest),
        ]
        expect(await bytesOf(one), name).toBe(await bytesOf(other))
        expect(one.status).toBe(404)
      }
    }
    // And nothing happened to it: its call still runs, its stream is still attached.
    expect(server.fakes[0]?.calls.map(({ abortedAt }) => abortedAt)).toEqual([undefined])
    expect(server.app.sessions.get(session.id)).toMatchObject({ state: 'active', streams: 1 })
  })

  test('does not touch its clock, not even with a slow upload', async () => {
    const server = await serveFake({ authenticate: authenticateByName, unusedSessionTimeout: '10s' })
    const session = await openSession(server, { headers: as('alice') })
    await server.idle()
    const handle = server.app.sessions.get(session.id)
    await server.clock.advance(4_000)
    for (const request of Object.values(uses(session.id, 'AAAAAAAA.0.0', as('bob')))) {
      await (await server.request(request)).ended()
      expect(handle).toMatchObject({ state: 'idle', expiresIn: 6_000 })
    }
    const connection = await server.connect()
    const request = post(undefined, { ...session.headers, ...as('bob'), 'Content-Length': '100' })
    await connection.send(request)
    await server.clock.advance(5_999)
    expect(handle?.state).toBe('idle')
    await server.clock.advance(1)
    expect(handle?.state).toBe('closed')
  })
})

describe('the version header', () => {
  test("absent, or another one we speak: the session's version decides the framing", async () => {
    const server = await serveFake({ jsonResponseWindow: 0 })
    for (const [version, primes] of [
      ['2025-11-25', true],
      ['2025-06-18', false],
      ['2025-03-26', false],
      ['2024-11-05', false],
    ] as const) {
      const session = await openSession(server, { version })
      for (const named of [undefined, '2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05']) {
        const headers = { ...session.headers, 'Mcp-Protocol-Version': named }
        const response = await server.request(post(call({ progress: { count: 1, every: 0 } }), headers))
        expectStream(response)
        await response.ended()
        const empty = response.blocks.filter(({ data }) => data === '')
        expect(empty.length, `${version} named ${named}`).toBe(primes ? 1 : 0)
        const batch = await server.request(post([rpc('tools/list', undefined, 'x')], headers))
        expect(batch.status, `${version} named ${named}`).toBe(version < '2025-06-18' ? 200 : 400)
        await batch.ended()
      }
    }
  })

  test('legacy and not supported: 400 -32000 on POST, GET, DELETE and resume', async () => {
    const server = await serveFake()
    const { session, cursor } = await sessionWithCursor(server)
    const error = {
      status: 400,
      code: -32000,
      message: /^Bad Request: Unsupported protocol version: 1999-01-01/,
    }
    for (const request of Object.values(uses(session.id, cursor, { 'Mcp-Protocol-Version': '1999-01-01' }))) {
      const isRequest = request.method === 'POST' && JSON.stringify(request.body).includes('"id"')
      await expectError(await server.request(request), { ...error, id: isRequest ? 'q1' : null })
    }
    expect(server.app.sessions.size).toBe(1)
    expect(server.fakes[0]?.calls.length).toBe(1)
  })
})

describe('an array body', () => {
  for (const version of ['2025-03-26', '2024-11-05']) {
    test(`${version}: executed, the answers in one array`, async () => {
      const server = await serveFake()
      const session = await openSession(server, { version })
      const response = await server.request(
        post(
          [
            rpc('tools/list', undefined, 1),
            notification('notifications/x'),
            rpc('ping', undefined, 2),
            rpc('nope', undefined, 'c'),
          ],
          session.headers,
        ),
      )
      expect(response.status).toBe(200)
      expect(response.header('content-type')).toBe('application/json')
      const answers = (await response.json()) as { id: unknown }[]
      expect(answers.map(({ id }) => id).sort()).toEqual([1, 2, 'c'])
      expect(answers.find(({ id }) => id === 'c')).toMatchObject({ error: { code: -32601 } })
      expect(server.fakes[0]?.calls.map(({ method }) => method)).toEqual(['tools/list', 'nope'])
      expect(server.fakes[0]?.notifications.map(({ method }) => method)).toContain('notifications/x')
    })
  }

  test('2025-03-26: of one request, is answered with an array', async () => {
    const server = await serveFake()
    const session = await openSession(server, { version: '2025-03-26' })
    const response = await server.request(post([rpc('tools/list', undefined, 7)], session.headers))
    expect(await response.json()).toMatchObject([{ id: 7, result: {} }])
  })

  test('2025-03-26: streams when one of its answers is late; each answer is its own event', async () => {
    const server = await serveFake()
    const session = await openSession(server, { version: '2025-03-26' })
    const { response } = await open(
      server,
      post([call({ tag: 'slow', duration: 100 }, 1), call({ tag: 'fast' }, 2)], session.headers),
    )
    await server.called(2)
    await server.clock.advance(100)
    const stream = await response
    expectStream(stream)
    expect((await stream.messages()).map((message) => (message as { id: unknown }).id)).toEqual([2, 1])
  })

  test('2025-03-26: of notifications and responses, 202', async () => {
    const server = await serveFake()
    const session = await openSession(server, { version: '2025-03-26' })
    const response = await server.request(
      post([notification('notifications/x'), { jsonrpc: '2.0', id: 99, result: {} }], session.headers),
    )
    expect(response.status).toBe(202)
    expect(await response.text()).toBe('')
  })

  const refused: Record<string, { body: object[]; message: RegExp }> = {
    'more than 100': {
      body: Array.from({ length: 101 }, (_, id) => rpc('tools/list', undefined, id)),
      message: /Batch must not exceed 100 messages/,
    },
    'an id twice': {
      body: [rpc('tools/list', undefined, 1), rpc('ping', undefined, 1)],
      message: /same id twice/,
    },
    'requests mixed with responses': {
      body: [rpc('tools/list'), { jsonrpc: '2.0', id: 1, result: {} }],
      message: /either requests or responses/,
    },
    'initialize inside': {
      body: [rpc('tools/list', undefined, 1), initialize('2025-03-26', {}, 2)],
      message: /initialize must not be part of a batch/,
    },
    empty: { body: [], message: /^Invalid Request/ },
  }
  for (const [name, { body, message }] of Object.entries(refused)) {
    test(`2025-03-26: ${name} is 400 -32600, nothing executed`, async () => {
      const server = await serveFake()
      const session = await openSession(server, { version: '2025-03-26' })
      await expectError(await server.request(post(body, session.headers)), {
        status: 400,
        code: -32600,
        message,
      })
      expect(server.fakes[0]?.calls).toEqual([])
      expect(server.fakes.length).toBe(1)
    })
  }

  test('2025-03-26: exactly 100 are executed', async () => {
    const server = await serveFake()
    const session = await openSession(server, { version: '2025-03-26' })
    const body = Array.from({ length: 100 }, (_, id) => rpc('tools/list', undefined, id))
    const response = await server.request(post(body, session.headers))
    expect(((await response.json()) as object[]).length).toBe(100)
  })

  for (const version of ['2025-06-18', '2025-11-25']) {
    test(`${version}: 400 -32600, nothing executed`, async () => {
      const server = await serveFake()
      const session = await openSession(server, { version })
      for (const body of [[rpc('tools/list', undefined, 1)], [notification('notifications/x')]]) {
        await expectError(await server.request(post(body, session.headers)), {
          status: 400,
          code: -32600,
          message: `Invalid Request: JSON-RPC batches are not part of protocol version ${version}`,
        })
      }
      expect(server.fakes[0]?.calls).toEqual([])
      expect(server.fakes[0]?.notifications.map(({ method }) => method)).toEqual([
        'notifications/initialized',
      ])
    })
  }
})

describe('notifications and responses', () => {
  test('only notifications or responses: 202, empty', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    for (const body of [
      notification('notifications/roots/list_changed'),
      notification('notifications/nobody/knows', { a: 1 }),
      { jsonrpc: '2.0', id: 12345, result: {} },
      { jsonrpc: '2.0', id: 'x', error: { code: 1, message: 'no' } },
    ]) {
      const response = await server.request(post(body, session.headers))
      expect(response.status).toBe(202)
      expect(await response.text()).toBe('')
      expect(response.header('content-type')).toBeUndefined()
    }
  })

  test("a response to an unknown or finished request is dropped, and never resolves another's", async () => {
    const server = await serveFake()
    const sessions = [await openSession(server), await openSession(server)]
    const asked = []
    for (const [index, session] of sessions.entries()) {
      const body = call({ ask: { related: true, timeout: 60_000 } }, 'a')
      const stream = await server.request(post(body, session.headers))
      await expectPriming(stream)
      asked.push({ stream, session, request: messageOf(await stream.nextEvent()), fake: server.fakes[index] })
    }
    const [first, second] = asked as [(typeof asked)[0], (typeof asked)[0]]
    const answer = async (session: WireSession, id: unknown): Promise<void> => {
      const body = { jsonrpc: '2.0', id, result: { action: 'accept', content: {} } }
      expect((await server.request(post(body, session.headers))).status).toBe(202)
    }
    for (const id of [9999, -1, String(first.request['id'])]) await answer(first.session, id)
    expect([first.fake?.calls[0]?.asked, second.fake?.calls[0]?.asked]).toEqual([undefined, undefined])
    // Both sessions number their requests alike: an answer reaches only its own session's.
    await answer(second.session, second.request['id'])
    expect(messageOf(await second.stream.nextEvent())).toMatchObject({ id: 'a', result: { tag: 'fake-2' } })
    expect([first.fake?.calls[0]?.asked, second.fake?.calls[0]?.asked]).toEqual([undefined, 'answered'])
    await answer(second.session, second.request['id'])
    await answer(first.session, first.request['id'])
    expect(messageOf(await first.stream.nextEvent())).toMatchObject({ id: 'a', result: { tag: 'fake-1' } })
    expect(server.fakes.flatMap(({ strayResponses }) => strayResponses)).toEqual([])
  })
})

describe('the same id twice in flight', () => {
  for (const sdk of OFFICIAL) {
    test(`${sdk.name}: both answered, each on its own POST; handlers see distinct ids`, async () => {
      const calls: OfficialCall[] = []
      const gates = [deferred<string>(), deferred<string>()] as const
      const server = await serve(() =>
        sdk.make((started) => {
          calls.push(started)
          return (gates[calls.length - 1] ?? gates[0]).promise
        }),
      )
      const session = await openSession(server)
      const send = () =>
        open(server, post(rpc('tools/call', { name: 'run', arguments: {} }, 1), session.headers))
      const first = await send()
      await server.waitFor(() => calls.length === 1, 'the first call')
      const second = await send()
      await server.waitFor(() => calls.length === 2, 'the second call')
      expect(calls[0]?.id).not.toBe(calls[1]?.id)
      gates[1].resolve('two')
      expect(await answerOf(second.response)).toMatchObject({ id: 1, result: { content: [{ text: 'two' }] } })
      gates[0].resolve('one')
      expect(await answerOf(first.response)).toMatchObject({ id: 1, result: { content: [{ text: 'one' }] } })
      expect(server.app.sessions.counts.requests).toBe(0)
    })
  }

  test('`cancelled` hits the newest', async () => {
    const server = await serveFake({ responseMode: 'json' })
    const session = await openSession(server)
    const first = await open(server, post(call({ tag: 'old', ending: 'never' }, 1), session.headers))
    const old = await server.called(1)
    const second = await open(server, post(call({ tag: 'new', ending: 'never' }, 1), session.headers))
    const newest = await server.called(2)
    const cancel = post(notification('notifications/cancelled', { requestId: 1 }), session.headers)
    expect((await server.request(cancel)).status).toBe(202)
    expect(await (await second.response).json()).toMatchObject({ id: 1, error: { code: -32800 } })
    expect([old.abortedAt, newest.abortedAt]).toEqual([undefined, expect.any(Number)])
    expect((await server.request(cancel)).status).toBe(202)
    expect(await (await first.response).json()).toMatchObject({ id: 1, error: { code: -32800 } })
    expect(old.abortedAt).toEqual(expect.any(Number))
  })
})

test('requests before `initialized` are served', async () => {
  const server = await serveFake()
  const session = await openSession(server, { initialized: false })
  const response = await server.request(post(rpc('tools/list'), session.headers))
  expect(await response.json()).toMatchObject({ id: 'q1', result: { tag: 'fake-1' } })
})

test('`ping` is answered by the session itself', async () => {
  const server = await serveFake()
  const session = await openSession(server)
  for (const id of [0, 'p']) {
    const response = await server.request(post(rpc('ping', undefined, id), session.headers))
    expect(response.header('content-type')).toBe('application/json')
    expect(await response.json()).toStrictEqual({ jsonrpc: '2.0', id, result: {} })
  }
  expect(server.fakes[0]?.calls).toEqual([])
})

for (const sdk of OFFICIAL) {
  test(`unknown method, ${sdk.name}: 200 with -32601`, async () => {
    const server = await serve(() => sdk.make(() => 'done'))
    const session = await openSession(server)
    const response = await server.request(post(rpc('nobody/knows', {}, 0), session.headers))
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({
      jsonrpc: '2.0',
      id: 0,
      error: { code: -32601, message: 'Method not found' },
    })
  })
}

describe('`notifications/cancelled`', () => {
  const cancel = (session: WireSession, requestId: unknown, reason?: string): RawRequest =>
    post(
      notification('notifications/cancelled', { requestId, ...(reason !== undefined && { reason }) }),
      session.headers,
    )

  test('the SSE stream ends without a response, the handler aborts, and a resume gets 204', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { response } = await open(
      server,
      post(call({ ending: 'never', progress: { count: 1, every: 0 } }, 'c'), session.headers),
    )
    const stream = await response
    const primed = await expectPriming(stream)
    const progress = await stream.nextEvent()
    expect(messageOf(progress)).toMatchObject({ method: 'notifications/progress' })
    const handler = await server.called()
    const cancelled = await server.request(cancel(session, 'c', 'changed my mind'))
    expect([cancelled.status, await cancelled.text()]).toEqual([202, ''])
    expect(await stream.nextBlock()).toBeUndefined()
    expect(await stream.ended()).toBe('complete')
    expect(handler.signal).toMatchObject({ aborted: true, reason: 'changed my mind' })
    for (const cursor of [primed, progress?.id]) {
      const resumed = await server.request(getStream(session, cursor))
      expect([resumed.status, resumed.framing]).toEqual([204, 'none'])
    }
    await server.idle()
    expect(await server.until('request.ended')).toMatchObject({ request: 'c', outcome: 'cancelled' })
    expect(server.app.sessions.counts).toMatchObject({ requests: 0, active: 0 })
  })

  test('under responseMode sse a call that sent nothing ends its stream without a response', async () => {
    const server = await serveFake({ responseMode: 'sse' })
    const session = await openSession(server)
    const { response } = await open(server, post(call({ ending: 'never' }, 'c'), session.headers))
    await server.called()
    await (await server.request(cancel(session, 'c'))).ended()
    const stream = await response
    expectStream(stream)
    const cursor = await expectPriming(stream)
    expect(await stream.nextBlock()).toBeUndefined()
    expect((await server.request(getStream(session, cursor))).status).toBe(204)
  })

  for (const mode of ['auto', 'json'] as const) {
    test(`a JSON answer is -32800 (${mode})`, async () => {
      const server = await serveFake({ responseMode: mode })
      const session = await openSession(server)
      const { response } = await open(server, post(call({ ending: 'never' }, 'c'), session.headers))
      await server.called()
      await (await server.request(cancel(session, 'c'))).ended()
      const answer = await response
      expect(answer.status).toBe(200)
      expect(answer.header('content-type')).toBe('application/json')
      expect(await answer.json()).toStrictEqual({
        jsonrpc: '2.0',
        id: 'c',
        error: { code: -32800, message: 'Request cancelled' },
      })
    })
  }

  for (const sdk of OFFICIAL) {
    test(`${sdk.name}: a call with id 0 is cancelled as any other; a late answer is dropped`, async () => {
      const clock = new VirtualClock()
      const started = deferred<OfficialCall>()
      const finish = deferred<string>()
      const server = await serve(
        () =>
          sdk.make((running) => {
            started.resolve(running)
            return finish.promise
          }),
        { clock },
      )
      const session = await openSession(server)
      const { response } = await open(
        server,
        post(rpc('tools/call', { name: 'run', arguments: {} }, 0), session.headers),
      )
      const { signal } = await started.promise
      await clock.advance(25)
      const stream = await response
      const cursor = await expectPriming(stream)
      expect((await server.request(cancel(session, 0, 'enough'))).status).toBe(202)
      expect(await stream.nextBlock()).toBeUndefined()
      expect(signal.aborted).toBe(true)
      finish.resolve('too late')
      await clock.settle()
      expect((await server.request(getStream(session, cursor))).status).toBe(204)
      expect(server.app.sessions.counts.requests).toBe(0)
    })
  }

  test('of a request that is unknown, finished or named by no id at all: 202, and nothing else', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    await (await server.request(post(rpc('tools/list', undefined, 'done'), session.headers))).ended()
    const { response } = await open(server, post(call({ duration: 10 }, 'c'), session.headers))
    await server.called(2)
    for (const id of ['done', 'unknown', 'C', null, undefined, {}, 1.5]) {
      expect((await server.request(cancel(session, id))).status).toBe(202)
    }
    await server.clock.advance(10)
    expect(await (await response).json()).toMatchObject({ id: 'c', result: {} })
  })

  test('`initialize` is not cancellable', async () => {
    const server = await serveFake({}, { initializeAfter: 100 })
    const { response } = await open(server, post(initialize('2025-11-25', {}, 'init')))
    await server.waitFor(() => server.fakes[0]?.transport !== undefined, 'the server being connected')
    // Nobody has the id of a session that is being opened; what names none is refused.
    const early = await server.request(post(notification('notifications/cancelled', { requestId: 'init' })))
    expect(early.status).toBe(400)
    await server.clock.advance(100)
    const opened = await response
    expect(opened.status).toBe(200)
    const headers = { 'Mcp-Session-Id': opened.header('mcp-session-id') }
    const late = await server.request(
      post(notification('notifications/cancelled', { requestId: 'init' }), headers),
    )
    expect(late.status).toBe(202)
    expect(server.app.sessions.size).toBe(1)
  })
})

describe('a dropped POST', () => {
  test('is not cancelled: the call goes on, and its result waits in the event log', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { connection, response } = await open(
      server,
      post(call({ duration: 5_000, progress: { count: 2, every: 1_000 } }, 'c'), session.headers),
    )
    await server.called()
    await server.clock.advance(25)
    const cursor = await expectPriming(await response)
    connection.destroy()
    await server.until('stream.closed')
    await server.clock.advance(10_000)
    const handler = await server.called()
    expect(handler.abortedAt).toBeUndefined()
    expect(handler.endedAt).toEqual(expect.any(Number))
    const resumed = await server.request(getStream(session, cursor))
    expectStream(resumed)
    await expectPriming(resumed)
    expect(await resumed.messages()).toMatchObject([
      { method: 'notifications/progress', params: { progress: 1 } },
      { method: 'notifications/progress', params: { progress: 2 } },
      { id: 'c', result: { call: 'call' } },
    ])
  })

  test('before anything was sent: the call goes on and ends; there is nothing to resume', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { connection } = await open(
      server,
      post(call({ duration: 1_000, progress: { count: 1, every: 0 } }, 'c'), session.headers),
    )
    connection.destroy()
    await server.called()
    await server.clock.advance(1_000)
    expect(await server.until('request.ended')).toMatchObject({ outcome: 'ok' })
    await server.idle()
  })

  for (const deaf of [false, true]) {
    test(`detachedRequestTimeout: aborted, and an error waits${deaf ? ', also when the handler is deaf' : ''}`, async () => {
      const server = await serveFake()
      const session = await openSession(server)
      const { connection, response } = await open(
        server,
        post(call({ ending: 'never', deaf }, 'c'), session.headers),
      )
      const handler = await server.called()
      await server.clock.advance(25)
      const cursor = await expectPriming(await response)
      // Attached, a call has no limit.
      await server.clock.advance(3_600_000)
      expect(handler.abortedAt).toBeUndefined()
      connection.destroy()
      await server.until('stream.closed')
      await server.clock.advance(599_999)
      expect(handler.abortedAt).toBeUndefined()
      await server.clock.advance(1)
      expect(handler.abortedAt).toEqual(expect.any(Number))
      expect(await server.until('request.ended')).toMatchObject({ outcome: 'aborted' })
      const resumed = await server.request(getStream(session, cursor))
      await expectPriming(resumed)
      expect(await resumed.messages()).toStrictEqual([
        {
          jsonrpc: '2.0',
          id: 'c',
          error: { code: -32000, message: 'Request aborted: its connection was gone for too long' },
        },
      ])
    })
  }

  test('resumed, a call is attached again and has no limit', async () => {
    const server = await serveFake({ detachedRequestTimeout: '1m' })
    const session = await openSession(server)
    const { connection, response } = await open(server, post(call({ ending: 'never' }, 'c'), session.headers))
    const handler = await server.called()
    await server.clock.advance(25)
    const cursor = await expectPriming(await response)
    connection.destroy()
    await server.until('stream.closed')
    await server.clock.advance(59_000)
    const resumed = await open(server, getStream(session, cursor))
    await expectPriming(await resumed.response)
    await server.clock.advance(600_000)
    expect(handler.abortedAt).toBeUndefined()
    // And detached anew, it has the whole time again.
    resumed.connection.destroy()
    await server.until('stream.closed', 2)
    await server.clock.advance(59_999)
    expect(handler.abortedAt).toBeUndefined()
    await server.clock.advance(1)
    expect(handler.abortedAt).toEqual(expect.any(Number))
  })
})

describe('DELETE', () => {
  test('200, empty; running calls are aborted and answered with an error, streams end, then 404', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const streaming = await open(server, post(call({ ending: 'never' }, 's'), session.headers))
    await server.called(1)
    await server.clock.advance(25)
    const stream = await streaming.response
    const cursor = await expectPriming(stream)
    const waiting = await open(server, post(call({ ending: 'never' }, 'w'), session.headers))
    await server.called(2)
    const listening = await server.request(getStream(session))
    await expectPriming(listening)

    const deleted = await server.request(del(session.headers))
    expect([deleted.status, await deleted.text()]).toEqual([200, ''])
    expect(deleted.header('content-type')).toBeUndefined()
    const error = { code: -32000, message: 'Session closed: deleted' }
    expect(await stream.messages()).toStrictEqual([{ jsonrpc: '2.0', id: 's', error }])
    expect(await (await waiting.response).json()).toStrictEqual({ jsonrpc: '2.0', id: 'w', error })
    expect(await listening.nextBlock()).toBeUndefined()
    expect(await listening.ended()).toBe('complete')
    expect(server.fakes[0]?.calls.map(({ abortedAt }) => typeof abortedAt)).toEqual(['number', 'number'])
    for (const request of Object.values(uses(session.id, cursor))) {
      expect((await server.request(request)).status).toBe(404)
    }
    expectNothing(server)
    expect(await server.until('session.closed')).toMatchObject({ reason: 'deleted' })
    await server.waitFor(() => server.timers === 0, 'no timer being left')
  })

  test('twice at once: one 200, one 404', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const responses = await Promise.all([
      server.request(del(session.headers)),
      server.request(del(session.headers)),
    ])
    expect(responses.map(({ status }) => status).sort()).toEqual([200, 404])
    expect(server.events.filter(({ type }) => type === 'session.closed').length).toBe(1)
  })
})

describe('a server that misbehaves costs its own session at most (promise 10)', () => {
  test('it answers twice: the second answer is dropped', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    for (const id of ['a', 'a']) {
      const response = await server.request(post(call({ ending: 'twice' }, id), session.headers))
      expect(await response.json()).toMatchObject({ id, result: { call: 'call' } })
    }
  })

  test('it throws: -32603, and the session lives on', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const response = await server.request(post(call({ ending: 'throw' }, 'a'), session.headers))
    expect(await response.json()).toStrictEqual({
      jsonrpc: '2.0',
      id: 'a',
      error: { code: -32603, message: 'Internal error' },
    })
    expect((await server.request(post(rpc('tools/list'), session.headers))).status).toBe(200)
  })

  test('its handler rejects with what is not an Error', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const response = await server.request(post(call({ ending: 'reject' }, 'a'), session.headers))
    expect(await response.json()).toMatchObject({ id: 'a', error: { code: -32603 } })
  })

  test('it closes itself in the middle of a call: the call is answered with an error, then 404', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const other = await openSession(server)
    const response = await server.request(post(call({ ending: 'close' }, 'a'), session.headers))
    expect(await response.json()).toStrictEqual({
      jsonrpc: '2.0',
      id: 'a',
      error: { code: -32000, message: 'Session closed: failed' },
    })
    await expectError(await server.request(post(rpc('tools/list'), session.headers)), {
      ...NOT_FOUND,
      id: 'q1',
    })
    expect((await server.request(post(rpc('tools/list'), other.headers))).status).toBe(200)
    expect(await server.until('session.closed')).toMatchObject({ session: session.id, reason: 'failed' })
  })
})
