/** "Answers and streams" of docs/wire.md, what a POST is answered with, over real sockets. */

import { describe, expect, test } from 'vitest'

import type { EventLog, EventLogPage } from '../../src/stream/event-log.ts'
import type { JsonRpcMessage } from '../../src/types.ts'
import { deferred } from '../support/deferred.ts'
import { FACE } from '../support/face.ts'
import { notification, openSession, post, rpc } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import {
  answerOf,
  call,
  expectPriming,
  expectStream,
  getStream,
  messageOf,
  OFFICIAL,
  open,
  serveFake,
  type OfficialCall,
} from '../support/wire-app.ts'

const MIB = 1024 * 1024

/** Keeps nothing, and remembers what it was asked to keep. */
class SpyLog implements EventLog {
  readonly appended: JsonRpcMessage[] = []

  append(_session: string, _stream: number, _position: number, data: string): void {
    this.appended.push(JSON.parse(data) as JsonRpcMessage)
  }

  read(): EventLogPage {
    return { events: [], trimmed: 0 }
  }

  dropStream(): void {}

  dropSession(): void {}

  close(): void {}
}

describe("responseMode 'auto'", () => {
  test('a response within 25 ms is one JSON body in one write: no stream, no priming, no log', async () => {
    const eventLog = new SpyLog()
    const server = await serveFake({ eventLog })
    const session = await openSession(server)
    for (const duration of [0, 24]) {
      const { response, reads } = await open(server, post(call({ duration }, duration), session.headers))
      await server.called(duration === 0 ? 1 : 2)
      await server.clock.advance(24)
      const answer = await response
      expect(answer.status).toBe(200)
      expect(answer.header('content-type')).toBe('application/json')
      expect(answer.framing).toBe('length')
      expect(answer.header('mcp-session-id')).toBeUndefined()
      expect(await answer.json()).toMatchObject({ jsonrpc: '2.0', id: duration, result: { call: 'call' } })
      expect(reads.length).toBe(1)
    }
    expect(eventLog.appended).toEqual([])
    expect(server.events.filter(({ type }) => type === 'stream.opened')).toEqual([])
  })

  test('an error of the server is one JSON body, too', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const answer = await server.request(post(call({ ending: 'error' }, 'e'), session.headers))
    expect(answer.status).toBe(200)
    expect(await answer.json()).toMatchObject({
      id: 'e',
      error: { code: -32603, message: 'the tool failed' },
    })
  })

  test('a later response streams: head and priming in one write after 25 ms, then the response and the end in one', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { response, reads } = await open(server, post(call({ duration: 100 }, 'c'), session.headers))
    await server.called()
    await server.clock.advance(24)
    expect(reads).toEqual([])
    await server.clock.advance(1)
    const stream = await response
    expectStream(stream)
    await expectPriming(stream)
    if (FACE.node) expect([reads.length, stream.chunks]).toEqual([1, 1])
    await server.clock.advance(75)
    const event = await stream.nextEvent()
    expect(event).toMatchObject({ event: 'message', id: expect.any(String) })
    expect(messageOf(event)).toMatchObject({ id: 'c', result: {} })
    expect(await stream.ended()).toBe('complete')
    expect([reads.length, stream.chunks]).toEqual([2, 2])
  })

  test('when something else comes first: head, priming and that message in one write', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { response, reads } = await open(
      server,
      post(call({ progress: { count: 1, every: 0 }, duration: 100 }, 'c'), session.headers),
    )
    const stream = await response
    expectStream(stream)
    const primed = await expectPriming(stream)
    const progress = await stream.nextEvent()
    expect(messageOf(progress)).toMatchObject({ method: 'notifications/progress' })
    expect([reads.length, stream.chunks]).toEqual([1, 1])
    expect(progress?.id).not.toBe(primed)
    // No window any more: the stream was opened before it was over.
    await server.clock.advance(100)
    expect(await stream.messages()).toMatchObject([{ id: 'c' }])
    expect(stream.blocks.filter(({ data }) => data === '').length).toBe(1)
  })

  test('with messages and the answer all at once, one packet carries everything', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { response, reads } = await open(
      server,
      post(call({ progress: { count: 3, every: 0 } }, 'c'), session.headers),
    )
    const stream = await response
    await expectPriming(stream)
    expect((await stream.messages()).length).toBe(4)
    expect(reads.length).toBe(1)
  })

  for (const sdk of OFFICIAL) {
    test(`${sdk.name}: JSON within the window, a stream after it`, async () => {
      const clock = new VirtualClock()
      const gate = deferred<string>()
      const answers: (string | Promise<string>)[] = ['fast', gate.promise]
      let started = 0
      const server = await serve(() => sdk.make(() => answers[started++] ?? 'more'), { clock })
      const session = await openSession(server)
      const tool = (id: number) =>
        post(rpc('tools/call', { name: 'run', arguments: {} }, id), session.headers)
      const fast = await server.request(tool(1))
      expect(await fast.json()).toMatchObject({
        id: 1,
        result: { content: [{ type: 'text', text: 'fast' }] },
      })
      const { response } = await open(server, tool(2))
      await server.waitFor(() => started === 2, 'the second call')
      await clock.advance(25)
      const stream = await response
      await expectPriming(stream)
      gate.resolve('slow')
      expect(await stream.messages()).toMatchObject([
        { id: 2, result: { content: [{ type: 'text', text: 'slow' }] } },
      ])
    })
  }
})

describe("responseMode 'sse'", () => {
  test('always streams: head, priming, the answer and the end in one write', async () => {
    const server = await serveFake({ responseMode: 'sse' })
    const session = await openSession(server)
    const { response, reads } = await open(server, post(call({}, 'c'), session.headers))
    const stream = await response
    expectStream(stream)
    await expectPriming(stream)
    expect(await stream.messages()).toMatchObject([{ id: 'c', result: {} }])
    expect([reads.length, stream.chunks]).toEqual([1, 1])
  })

  test('also `ping` and `initialize`', async () => {
    const server = await serveFake({ responseMode: 'sse' })
    const session = await openSession(server)
    expect(session.response.header('content-type')).toBe('text/event-stream')
    const stream = await server.request(post(rpc('ping', undefined, 'p'), session.headers))
    expectStream(stream)
    await expectPriming(stream)
    expect(await stream.messages()).toStrictEqual([{ jsonrpc: '2.0', id: 'p', result: {} }])
  })
})

describe("responseMode 'json'", () => {
  test('never streams: related notifications are dropped, the answer is one body whenever it comes', async () => {
    const server = await serveFake({ responseMode: 'json' })
    const session = await openSession(server)
    const { response, reads } = await open(
      server,
      post(call({ progress: { count: 3, every: 1_000 }, duration: 60_000 }, 'c'), session.headers),
    )
    await server.called()
    await server.clock.advance(59_999)
    expect(reads).toEqual([])
    await server.clock.advance(1)
    const answer = await response
    expect(answer.header('content-type')).toBe('application/json')
    expect(await answer.json()).toMatchObject({ id: 'c', result: { call: 'call' } })
    const listening = await server.request(getStream(session))
    await expectPriming(listening)
    expect(listening.blocks.length).toBe(1)
    await listening.nextBlock(20).catch(() => {})
    expect(listening.blocks.length).toBe(1)
  })

  test('related requests are rejected, so that no handler hangs', async () => {
    const server = await serveFake({ responseMode: 'json' })
    const session = await openSession(server)
    const answer = await server.request(
      post(call({ ask: { related: true, timeout: 60_000 } }, 'c'), session.headers),
    )
    expect(await answer.json()).toMatchObject({ id: 'c' })
    expect(server.fakes[0]?.calls[0]?.asked).toBe('rejected')
    expect(server.timers).toBeGreaterThanOrEqual(0)
  })

  test('`jsonResponse: true` is the same', async () => {
    const server = await serveFake({ jsonResponse: true })
    const session = await openSession(server)
    const { response } = await open(
      server,
      post(call({ progress: { count: 1, every: 0 }, duration: 100 }, 'c'), session.headers),
    )
    await server.called()
    await server.clock.advance(100)
    expect(await (await response).json()).toMatchObject({ id: 'c' })
  })

  test('a client that takes JSON alone gets JSON', async () => {
    const server = await serveFake({ responseMode: 'json' })
    const session = await openSession(server, { headers: { Accept: 'application/json' } })
    const answer = await server.request(
      post(call({}, 'c'), { ...session.headers, Accept: 'application/json' }),
    )
    expect(await answer.json()).toMatchObject({ id: 'c' })
  })
})

describe('each message travels on exactly one stream', () => {
  test("a call's related messages and its response on its POST, all else on the GET", async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const listening = await server.request(getStream(session))
    await expectPriming(listening)
    const calls = await Promise.all(
      ['a', 'b'].map((tag) =>
        open(
          server,
          post(
            call({ tag, progress: { count: 2, every: 50 }, broadcasts: 2, duration: 200 }, tag),
            session.headers,
          ),
        ),
      ),
    )
    await server.called(2)
    await server.clock.advance(200)
    for (const [index, tag] of ['a', 'b'].entries()) {
      const stream = await calls[index]?.response
      if (stream === undefined) throw new Error('no stream')
      await expectPriming(stream)
      expect(await stream.messages()).toMatchObject([
        { method: 'notifications/progress', params: { call: tag, progress: 1 } },
        { method: 'notifications/progress', params: { call: tag, progress: 2 } },
        { id: tag, result: { call: tag } },
      ])
    }
    for (const n of [1, 2, 3, 4]) {
      expect(messageOf(await listening.nextEvent())).toMatchObject({
        method: 'notifications/message',
        params: { data: { n } },
      })
    }
    expect(listening.blocks.length).toBe(5)
  })

  test('what a handler sends after its answer goes nowhere', async () => {
    for (const sdk of OFFICIAL) {
      const late = deferred()
      const calls: OfficialCall[] = []
      const server = await serve(() =>
        sdk.make((running) => {
          calls.push(running)
          return 'done'
        }),
      )
      const session = await openSession(server)
      const listening = await server.request(getStream(session))
      await expectPriming(listening)
      await server.request(post(rpc('tools/call', { name: 'run', arguments: {} }, 1), session.headers))
      await server.waitFor(() => server.app.sessions.counts.requests === 0, 'the answer')
      await calls[0]
        ?.notify({ method: 'notifications/message', params: { level: 'info', data: 'late' } })
        .catch(() => {})
      late.resolve()
      server.app.sessions.get(session.id)?.notify('notifications/marker')
      expect(messageOf(await listening.nextEvent())).toMatchObject({ method: 'notifications/marker' })
    }
  })
})

describe('priming', () => {
  test('C: every POST stream, each with a fresh id; B and A: no event of empty data', async () => {
    const server = await serveFake({ responseMode: 'sse' })
    for (const version of ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05']) {
      const session = await openSession(server, { version })
      const ids = new Set<string | undefined>()
      for (let n = 1; n <= 3; n++) {
        const stream = await server.request(post(rpc('tools/list', undefined, n), session.headers))
        await stream.ended()
        const [first, ...rest] = stream.blocks
        if (version === '2025-11-25') {
          expect(first).toMatchObject({ data: '', retry: 3000, id: expect.any(String) })
          expect(rest.length).toBe(1)
          ids.add(first?.id)
          ids.add(rest[0]?.id)
        } else {
          expect(first).toMatchObject({ event: 'message', data: expect.stringMatching(/^\{/) })
          expect(rest).toEqual([])
        }
      }
      expect(ids.size).toBe(version === '2025-11-25' ? 6 : 0)
    }
  })

  test('without an event log there is no priming, and events have no id', async () => {
    const server = await serveFake({ responseMode: 'sse', eventLog: false })
    const session = await openSession(server)
    const stream = await server.request(post(rpc('tools/list'), session.headers))
    await stream.ended()
    expect(stream.blocks).toMatchObject([{ id: undefined, event: 'message', retry: undefined }])
  })

  test('`retryInterval` is its hint', async () => {
    const server = await serveFake({ responseMode: 'sse', retryInterval: '1500ms' })
    const session = await openSession(server)
    const stream = await server.request(post(rpc('tools/list'), session.headers))
    await expectPriming(stream, 1500)
  })
})

describe('requests to the client that belong to a call', () => {
  test('travel on its POST; the answer reaches the handler', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const listening = await server.request(getStream(session))
    await expectPriming(listening)
    const { response } = await open(
      server,
      post(call({ ask: { related: true, timeout: 60_000 } }, 'c'), session.headers),
    )
    const stream = await response
    await expectPriming(stream)
    const asked = messageOf(await stream.nextEvent())
    expect(asked).toMatchObject({ jsonrpc: '2.0', method: 'elicitation/create', id: expect.any(Number) })
    const answer = { jsonrpc: '2.0', id: asked['id'], result: { action: 'decline' } }
    expect((await server.request(post(answer, session.headers))).status).toBe(202)
    expect(await stream.messages()).toMatchObject([{ id: 'c', result: {} }])
    expect(server.fakes[0]?.calls[0]?.asked).toBe('answered')
    expect(listening.blocks.length).toBe(1)
  })

  test('a server that gives up waiting: its `cancelled` names the request as the client knows it', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const listening = await server.request(getStream(session))
    await expectPriming(listening)
    // Numbers are the session's own, so the first request travels under another id than the server gave it.
    const fake = server.fakes[0]
    const asking = fake?.ask(undefined, 60_000)
    asking?.catch(() => {})
    const asked = messageOf(await listening.nextEvent())
    await fake?.transport?.send({
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: 0, reason: 'x' },
    })
    expect(messageOf(await listening.nextEvent())).toStrictEqual({
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: asked['id'], reason: 'x' },
    })
    // A late answer is dropped.
    const late = post({ jsonrpc: '2.0', id: asked['id'], result: {} }, session.headers)
    expect((await server.request(late)).status).toBe(202)
    expect(fake?.strayResponses).toEqual([])
  })
})

describe('requests to the client that name no call', () => {
  const capabilities = { elicitation: {} }

  for (const sdk of OFFICIAL) {
    for (const withGet of [true, false]) {
      test(`${sdk.name}, elicitInput ${withGet ? 'with a GET open: on the GET' : 'without: on the POST being handled'}`, async () => {
        const asked: { tag: string; result: Promise<unknown> }[] = []
        const both = deferred()
        const server = await serve(() =>
          sdk.make(async ({ server: low }) => {
            const tag = String(asked.length + 1)
            const params = { mode: 'form', message: tag, requestedSchema: { type: 'object', properties: {} } }
            // Through other async work first: the context is kept.
            const result = both.promise.then(() => low.elicitInput(params))
            asked.push({ tag, result })
            if (asked.length === 2) both.resolve()
            return JSON.stringify(await result)
          }),
        )
        const session = await openSession(server, { capabilities })
        const listening = withGet ? await server.request(getStream(session)) : undefined
        if (listening !== undefined) await expectPriming(listening)
        const tool = (id: string) =>
          post(rpc('tools/call', { name: 'run', arguments: {} }, id), session.headers)
        const first = await open(server, tool('first'))
        await server.waitFor(() => asked.length === 1, 'the first call')
        const second = await open(server, tool('second'))
        for (const [index, { response }] of [first, second].entries()) {
          const stream = listening ?? (await response)
          if (listening === undefined) await expectPriming(stream)
          const request = messageOf(await stream.nextEvent())
          expect(request).toMatchObject({
            method: 'elicitation/create',
            params: { message: asked[index]?.tag },
          })
          const answer = { jsonrpc: '2.0', id: request['id'], result: { action: 'decline' } }
          expect((await server.request(post(answer, session.headers))).status).toBe(202)
          expect(await answerOf(response)).toMatchObject({
            id: index === 0 ? 'first' : 'second',
            result: { content: [{ text: '{"action":"decline"}' }] },
          })
        }
      })
    }
  }

  test('without async context: to the only running call', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { response } = await open(server, post(call({ ending: 'never' }, 'c'), session.headers))
    await server.called()
    const asking = server.fakes[0]?.ask(undefined, 60_000)
    const stream = await response
    await expectPriming(stream)
    const asked = messageOf(await stream.nextEvent())
    await server.request(post({ jsonrpc: '2.0', id: asked['id'], result: { ok: true } }, session.headers))
    expect(await asking).toMatchObject({ result: { ok: true } })
  })

  test('with two calls running and no context it waits for a GET', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    for (const id of ['a', 'b']) await open(server, post(call({ ending: 'never' }, id), session.headers))
    await server.called(2)
    const asking = server.fakes[0]?.ask(undefined, 60_000)
    await server.clock.advance(9_999)
    const listening = await server.request(getStream(session))
    await expectPriming(listening)
    const asked = messageOf(await listening.nextEvent())
    expect(asked).toMatchObject({ method: 'elicitation/create' })
    // It is on its way: the ten seconds are over, the answer may take its time.
    await server.clock.advance(5_000)
    await server.request(post({ jsonrpc: '2.0', id: asked['id'], result: { ok: true } }, session.headers))
    expect(await asking).toMatchObject({ result: { ok: true } })
  })

  test('outside any call it waits for a GET and is rejected after 10 s', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const asking = server.fakes[0]?.ask(undefined, 60_000)
    let failed: unknown
    asking?.catch((thrown: unknown) => (failed = thrown))
    await server.clock.advance(9_999)
    expect(failed).toBeUndefined()
    await server.clock.advance(1)
    expect(failed).toMatchObject({ code: 'undeliverable' })
    // It went nowhere, not even late.
    const listening = await server.request(getStream(session))
    await expectPriming(listening)
    server.app.sessions.get(session.id)?.notify('notifications/marker')
    expect(messageOf(await listening.nextEvent())).toMatchObject({ method: 'notifications/marker' })
  })

  test("under responseMode 'json' it waits for a GET as well, so that no handler hangs", async () => {
    const server = await serveFake({ responseMode: 'json' })
    const session = await openSession(server, { capabilities })
    const ask = { related: false, timeout: 60_000 }
    const rejected = await open(server, post(call({ ask }, 'r'), session.headers))
    await server.called(1)
    await server.clock.advance(10_000)
    expect(await (await rejected.response).json()).toMatchObject({ id: 'r' })
    expect(server.fakes[0]?.calls[0]?.asked).toBe('rejected')
    const answered = await open(server, post(call({ ask }, 'a'), session.headers))
    await server.called(2)
    const listening = await server.request(getStream(session))
    await expectPriming(listening)
    const asked = messageOf(await listening.nextEvent())
    await server.request(post({ jsonrpc: '2.0', id: asked['id'], result: {} }, session.headers))
    expect(await (await answered.response).json()).toMatchObject({ id: 'a' })
    expect(server.fakes[0]?.calls[1]?.asked).toBe('answered')
  })

  test('one that waits is rejected when its session ends', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const asking = server.fakes[0]?.ask(undefined, 60_000)
    let failed: unknown
    asking?.catch((thrown: unknown) => (failed = thrown))
    server.app.sessions.close(session.id)
    await server.waitFor(() => failed instanceof Error, 'the rejection')
  })
})

describe('bounds', () => {
  test('maxMessageSize: a larger answer is -32603 in its place, a larger notification is dropped', async () => {
    const server = await serveFake({ maxMessageSize: '64KiB' })
    const session = await openSession(server)
    const answer = await server.request(post(call({ padding: 65 * 1024 }, 'c'), session.headers))
    expect(await answer.json()).toStrictEqual({
      jsonrpc: '2.0',
      id: 'c',
      error: { code: -32603, message: 'The answer is larger than maxMessageSize (65536 bytes)' },
    })
    const { response } = await open(
      server,
      post(
        call({ progress: { count: 1, every: 0 }, padding: 65 * 1024, duration: 100 }, 'd'),
        session.headers,
      ),
    )
    await server.called(2)
    await server.clock.advance(100)
    const stream = await response
    await expectPriming(stream)
    expect(await stream.messages()).toMatchObject([{ id: 'd', error: { code: -32603 } }])
  })

  test('a single message is always written, up to 16 MiB', async () => {
    const server = await serveFake({ responseMode: 'sse' })
    const session = await openSession(server)
    const fits = await server.request(post(call({ padding: 16 * MIB - 1000 }, 'fits'), session.headers))
    expect((await fits.messages())[0]).toMatchObject({ id: 'fits', result: { call: 'call' } })
    const large = await server.request(post(call({ padding: 16 * MIB }, 'large'), session.headers))
    expect((await large.messages())[0]).toMatchObject({ id: 'large', error: { code: -32603 } })
  })

  test('maxStreamBuffer: a further message while more is unsent closes the connection, which can be resumed', async () => {
    const server = await serveFake({ eventLogMaxBytes: '64MiB' })
    const session = await openSession(server)
    const { connection, response } = await open(
      server,
      post(
        call({ progress: { count: 2, every: 1_000 }, duration: 3_000, padding: 12 * MIB }, 'c'),
        session.headers,
      ),
    )
    await server.called()
    await server.clock.advance(25)
    let cursor = await expectPriming(await response)
    connection.pause()
    // 12 MiB is more than the kernel takes: what is left counts.
    await server.clock.advance(1_000)
    expect(server.app.sessions.get(session.id)?.streams).toBe(1)
    await server.clock.advance(1_000)
    await server.until('stream.closed')
    await server.clock.advance(1_000)
    connection.resume()
    expect(await (await response).ended()).toBe('cut')
    // What waits is bounded in the same way: each resume gets a part, in good order, and goes on where it ended.
    const messages: unknown[] = []
    for (let resume = 1; resume <= 3; resume++) {
      const stream = await server.request(getStream(session, cursor))
      await expectPriming(stream)
      messages.push(...(await stream.messages()))
      expect(await stream.ended()).toBe('complete')
      cursor = stream.blocks.findLast(({ id }) => id !== undefined)?.id ?? ''
    }
    expect(messages).toMatchObject([
      { method: 'notifications/progress', params: { progress: 1 } },
      { method: 'notifications/progress', params: { progress: 2 } },
      { id: 'c', result: {} },
    ])
    expect((await server.request(getStream(session, cursor))).status).toBe(204)
  })

  for (const mode of ['json', 'sse'] as const) {
    test(`bytes of a POST unsent for 60 s: cut (${mode})`, async () => {
      const server = await serveFake({ responseMode: mode })
      const session = await openSession(server)
      const connection = await server.connect()
      connection.pause()
      const response = connection.request(post(call({ padding: 15 * MIB }, 'c'), session.headers))
      await server.until('request.ended')
      await server.clock.advance(59_999)
      expect(connection.gone).toBeUndefined()
      expect(server.app.sessions.counts.active).toBe(1)
      await server.clock.advance(1)
      await server.idle()
      connection.resume()
      expect(await (await response).ended()).toBe('cut')
    })
  }

  test('bytes that leave, however slowly, cost nothing', async () => {
    const server = await serveFake({ keepAliveInterval: Infinity })
    const session = await openSession(server)
    // Three bytes a character in UTF-8: what counts is bytes.
    const text = '語'.repeat(4 * MIB)
    const { connection, response } = await open(server, getStream(session))
    const stream = await response
    await expectPriming(stream)
    const handle = server.app.sessions.get(session.id)
    await server.clock.advance(90_000)
    connection.pause()
    handle?.notify('notifications/message', { text })
    await server.clock.advance(59_000)
    connection.resume()
    await stream.nextEvent()
    connection.pause()
    handle?.notify('notifications/message', { text })
    // What was unsent a minute ago has left; what is unsent now is a second old.
    await server.clock.advance(59_999)
    expect(server.events.filter(({ type }) => type === 'stream.closed')).toEqual([])
    await server.clock.advance(1)
    await server.until('stream.closed')
    connection.resume()
    expect(await stream.ended()).toBe('cut')
  })
})

describe('keep-alive on a POST', () => {
  test('a comment every 15 s, never a ping', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { response } = await open(server, post(call({ ending: 'never' }, 'c'), session.headers))
    await server.called()
    await server.clock.advance(25)
    const stream = await response
    await expectPriming(stream)
    for (let beat = 1; beat <= 4; beat++) {
      await server.clock.advance(14_999)
      expect(stream.blocks.length).toBe(beat)
      await server.clock.advance(1)
      expect(await stream.nextBlock()).toMatchObject({ comment: 'keepalive', id: undefined, data: undefined })
    }
  })

  test('`keepAliveInterval: Infinity` turns it off', async () => {
    const server = await serveFake({ keepAliveInterval: Infinity })
    const session = await openSession(server)
    const { response } = await open(server, post(call({ duration: 600_000 }, 'c'), session.headers))
    await server.called()
    await server.clock.advance(600_000)
    const stream = await response
    await stream.ended()
    expect(stream.blocks.filter(({ comment }) => comment !== undefined)).toEqual([])
  })
})

describe('streamMaxAge', () => {
  test('C with a log: a POST stream is rotated (retry, then the end) and resumed without loss', async () => {
    const server = await serveFake({ streamMaxAge: '1m' })
    const session = await openSession(server)
    const { response } = await open(
      server,
      post(call({ progress: { count: 6, every: 20_000 }, duration: 150_000 }, 'c'), session.headers),
    )
    await server.called()
    await server.clock.advance(25)
    let stream = await response
    let cursor = await expectPriming(stream)
    const messages: unknown[] = []
    for (let connection = 1; connection <= 3; connection++) {
      await server.clock.advance(60_000)
      while (true) {
        const event = await stream.nextBlock()
        if (event === undefined) break
        cursor = event.id ?? cursor
        if (event.data !== undefined && event.data !== '') messages.push(JSON.parse(event.data))
      }
      expect(await stream.ended()).toBe('complete')
      if (connection < 3) {
        expect(stream.blocks.at(-1)).toMatchObject({ retry: 3000, data: undefined, id: undefined })
        stream = await server.request(getStream(session, cursor))
        expectStream(stream)
      }
    }
    expect(messages.length).toBe(7)
    expect(messages.at(-1)).toMatchObject({ id: 'c', result: {} })
    expect((await server.request(getStream(session, cursor))).status).toBe(204)
  })

  for (const [name, version, eventLog] of [
    ['B', '2025-06-18', undefined],
    ['C without a log', '2025-11-25', false],
  ] as const) {
    test(`${name}: a POST stream is not rotated`, async () => {
      const server = await serveFake({ streamMaxAge: '1m', eventLog })
      const session = await openSession(server, { version })
      const { response } = await open(server, post(call({ duration: 600_000 }, 'c'), session.headers))
      await server.called()
      await server.clock.advance(600_000)
      expect((await (await response).messages()).length).toBe(1)
    })
  }
})

test('a notification to the server is answered before its handler is done', async () => {
  const server = await serveFake()
  const session = await openSession(server)
  const accepted = await server.request(post(notification('notifications/x'), session.headers))
  expect([accepted.status, await accepted.text()]).toEqual([202, ''])
})
