/** "Answers and streams" of docs/wire.md, the GET stream of a session, over real sockets. */

import { describe, expect, test } from 'vitest'

import { expectError, openSession, post, type WireSession } from '../support/mcp-wire.ts'
import type { RawResponse } from '../support/raw-http.ts'
import {
  answerOf,
  call,
  expectPriming,
  expectStream,
  getStream,
  messageOf,
  open,
  serveFake,
  type FakeApp,
} from '../support/wire-app.ts'

const MIB = 1024 * 1024

/** Opens a session's GET and takes its priming event. */
async function listen(
  server: FakeApp,
  session: WireSession,
  lastEventId?: string,
): Promise<Awaited<ReturnType<typeof open>> & { stream: RawResponse; cursor: string }> {
  const opened = await open(server, getStream(session, lastEventId))
  const stream = await opened.response
  expectStream(stream)
  return { ...opened, stream, cursor: await expectPriming(stream) }
}

function notify(server: FakeApp, session: WireSession, n: number, padding = 0): void {
  server.app.sessions.get(session.id)?.notify('notifications/marker', {
    n,
    ...(padding > 0 && { padding: 'x'.repeat(padding) }),
  })
}

async function numbers(stream: RawResponse, count: number): Promise<unknown[]> {
  const found: unknown[] = []
  while (found.length < count) {
    const { params } = messageOf(await stream.nextEvent()) as { params?: { n?: number } }
    found.push(params?.n)
  }
  return found
}

describe('a GET without Last-Event-ID', () => {
  for (const version of ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05']) {
    test(`${version}: the head goes out at once, in one packet; ${version === '2025-11-25' ? 'primed' : 'nothing else'}`, async () => {
      const server = await serveFake()
      const session = await openSession(server, { version })
      const { response, reads } = await open(server, getStream(session))
      const stream = await response
      expectStream(stream)
      if (version === '2025-11-25') await expectPriming(stream)
      else notify(server, session, 1)
      const [first] = version === '2025-11-25' ? stream.blocks : [await stream.nextBlock()]
      if (version === '2025-11-25') expect(first).toMatchObject({ data: '', retry: 3000 })
      else expect(messageOf(first)).toMatchObject({ params: { n: 1 } })
      expect(reads.length).toBe(version === '2025-11-25' ? 1 : 2)
      expect(server.app.sessions.counts).toMatchObject({ active: 1, requests: 0 })
    })
  }

  test('first gets what no connection ever took, once', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    for (const n of [1, 2, 3]) notify(server, session, n)
    const first = await listen(server, session)
    expect(await numbers(first.stream, 3)).toEqual([1, 2, 3])
    first.connection.destroy()
    await server.until('stream.closed')
    notify(server, session, 4)
    const second = await listen(server, session)
    notify(server, session, 5)
    expect(await numbers(second.stream, 2)).toEqual([4, 5])
    expect(second.stream.blocks.length).toBe(3)
  })

  test('B and A: what waited comes with ids, without empty data', async () => {
    const server = await serveFake()
    for (const version of ['2025-06-18', '2025-03-26']) {
      const session = await openSession(server, { version })
      notify(server, session, 1)
      const stream = await server.request(getStream(session))
      const event = await stream.nextEvent()
      expect(event).toMatchObject({ id: expect.any(String), event: 'message' })
      expect(messageOf(event)).toMatchObject({ params: { n: 1 } })
    }
  })

  test('what a cut connection did not take comes with the next GET', async () => {
    const server = await serveFake({ eventLogMaxBytes: '64MiB', keepAliveInterval: Infinity })
    const session = await openSession(server)
    const first = await listen(server, session)
    first.connection.pause()
    notify(server, session, 1, 12 * MIB)
    await server.clock.settle()
    // More than maxStreamBuffer is unsent: this one closes the connection, and what follows finds it closed.
    notify(server, session, 2)
    notify(server, session, 3)
    await server.clock.settle()
    notify(server, session, 4)
    await server.until('stream.closed')
    notify(server, session, 5)
    const second = await listen(server, session)
    expect(await numbers(second.stream, 4)).toEqual([2, 3, 4, 5])
    first.connection.resume()
    expect(await first.stream.ended()).toBe('cut')
    // And a client that knows where it was gets all that it missed.
    const third = await listen(server, session, first.cursor)
    const all = await numbers(third.stream, 1)
    expect(all).toEqual([1])
  })

  test('without an event log it only gets what is live', async () => {
    const server = await serveFake({ eventLog: false })
    const session = await openSession(server)
    notify(server, session, 1)
    const stream = await server.request(getStream(session))
    expectStream(stream)
    notify(server, session, 2)
    expect(await numbers(stream, 1)).toEqual([2])
    expect(stream.blocks).toMatchObject([{ id: undefined }])
  })
})

describe('keep-alive', () => {
  test('every 15 s; every second one is a ping, neither logged nor with an event id', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { stream, cursor } = await listen(server, session)
    const ids: unknown[] = []
    for (let beat = 1; beat <= 6; beat++) {
      await server.clock.advance(14_999)
      expect(stream.blocks.length).toBe(beat)
      await server.clock.advance(1)
      const block = await stream.nextBlock()
      if (beat % 2 === 1) {
        expect(block).toMatchObject({ comment: 'keepalive', id: undefined, data: undefined })
        continue
      }
      expect(block).toMatchObject({ id: undefined, event: 'message' })
      const ping = messageOf(block)
      expect(ping).toStrictEqual({ jsonrpc: '2.0', id: expect.any(Number), method: 'ping' })
      ids.push(ping['id'])
    }
    expect(new Set(ids).size).toBe(3)
    const resumed = await listen(server, session, cursor)
    notify(server, session, 1)
    expect(await numbers(resumed.stream, 1)).toEqual([1])
  })

  test('a client that never answered one keeps its stream', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    await listen(server, session)
    await server.clock.advance(600_000)
    expect(server.app.sessions.get(session.id)?.streams).toBe(1)
  })

  test('no answer in two intervals from a client that ever answered: the stream is cut and lets go', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { stream } = await listen(server, session)
    const answer = async (): Promise<void> => {
      while (true) {
        const event = await stream.nextEvent()
        const message = messageOf(event)
        if (message['method'] !== 'ping') continue
        const pong = post({ jsonrpc: '2.0', id: message['id'], result: {} }, session.headers)
        const accepted = await server.request(pong)
        expect([accepted.status, await accepted.text()]).toEqual([202, ''])
        return
      }
    }
    await server.clock.advance(30_000)
    await answer()
    await server.clock.advance(30_000)
    await answer()
    await server.clock.advance(30_000)
    // This one is not answered any more.
    await server.clock.advance(29_999)
    expect(server.app.sessions.get(session.id)?.streams).toBe(1)
    await server.clock.advance(1)
    await server.until('stream.closed')
    expect(await stream.ended()).toBe('cut')
    await server.idle()
    await server.clock.advance(1_800_000)
    expect(await server.until('session.closed')).toMatchObject({ reason: 'idle' })
  })

  test('an answer, also a late one, proves the peer but is not activity', async () => {
    const server = await serveFake({ sessionIdleTimeout: '10m' })
    const session = await openSession(server)
    const { stream, connection } = await listen(server, session)
    await server.clock.advance(30_000)
    const ping = messageOf(await stream.nextEvent())
    connection.destroy()
    await server.idle()
    const handle = server.app.sessions.get(session.id)
    await server.clock.advance(60_000)
    const before = handle?.expiresIn
    const pong = await server.request(post({ jsonrpc: '2.0', id: ping['id'], result: {} }, session.headers))
    expect(pong.status).toBe(202)
    expect([handle?.state, handle?.expiresIn]).toEqual(['idle', before])
  })

  test('a peer that reads slowly is not asked behind what it has not read, nor cut for not answering', async () => {
    const server = await serveFake({ unsentTimeout: '10m' })
    const session = await openSession(server)
    const { stream, connection } = await listen(server, session)
    const pong = async (block: { data: string | undefined } | undefined): Promise<void> => {
      const { id } = JSON.parse(block?.data ?? '{}') as { id?: number }
      const accepted = await server.request(post({ jsonrpc: '2.0', id, result: {} }, session.headers))
      expect(accepted.status).toBe(202)
    }
    await server.clock.advance(30_000)
    await pong(await stream.nextEvent())
    connection.pause()
    notify(server, session, 1, 12 * MIB)
    await server.clock.advance(150_000)
    expect(server.events.filter(({ type }) => type === 'stream.closed')).toEqual([])
    connection.resume()
    expect(await numbers(stream, 1)).toEqual([1])
    // Nothing was piled up meanwhile, and now it is asked again.
    expect(stream.blocks.length).toBe(4)
    await server.clock.advance(30_000)
    await pong(await stream.nextEvent())
    expect(server.app.sessions.get(session.id)?.streams).toBe(1)
  })

  test('bytes unsent for 60 s: cut', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const { stream, connection } = await listen(server, session)
    await server.clock.advance(50_000)
    connection.pause()
    notify(server, session, 1, 12 * MIB)
    await server.clock.advance(59_999)
    expect(server.app.sessions.get(session.id)?.streams).toBe(1)
    await server.clock.advance(1)
    await server.until('stream.closed')
    expect(server.app.sessions.get(session.id)).toMatchObject({ streams: 0, state: 'idle' })
    connection.resume()
    expect(await stream.ended()).toBe('cut')
  })
})

describe('a second GET', () => {
  test('takes over: the older one ends in good order, nothing is lost or doubled', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    const first = await listen(server, session)
    notify(server, session, 1)
    expect(await numbers(first.stream, 1)).toEqual([1])
    const second = await listen(server, session)
    notify(server, session, 2)
    expect(await numbers(second.stream, 1)).toEqual([2])
    expect(await first.stream.nextBlock()).toBeUndefined()
    expect(await first.stream.ended()).toBe('complete')
    expect(second.stream.blocks.length).toBe(2)
    await server.until('stream.closed')
    expect(server.app.sessions.get(session.id)).toMatchObject({ streams: 1, state: 'active' })
  })

  test('a dead socket of its own never locks a client out', async () => {
    const server = await serveFake({ eventLogMaxBytes: '64MiB' })
    const session = await openSession(server)
    const first = await listen(server, session)
    first.connection.pause()
    notify(server, session, 1, 12 * MIB)
    const second = await listen(server, session, first.cursor)
    expect(await numbers(second.stream, 1)).toEqual([1])
  })

  test('the third takeover in 30 s from a stream that is alive gets 409, the stream lives on', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    await listen(server, session)
    await server.clock.advance(1_000)
    await listen(server, session)
    await server.clock.advance(1_000)
    const third = await listen(server, session)
    await server.clock.advance(1_000)
    const conflict = {
      status: 409,
      code: -32000,
      message: 'Conflict: Only one SSE stream is allowed per session',
    }
    await expectError(await server.request(getStream(session)), conflict)
    await expectError(await server.request(getStream(session, third.cursor)), conflict)
    notify(server, session, 1)
    expect(await numbers(third.stream, 1)).toEqual([1])
    // Not proven alive any more after 5 s: the next newcomer may be the same client after a network change.
    await server.clock.advance(4_001)
    await listen(server, session)
  })

  test('an answered ping proves a stream alive', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    await listen(server, session)
    await listen(server, session)
    const third = await listen(server, session)
    await server.clock.advance(29_000)
    // The first takeovers are almost forgotten; the stream is old, and proven alive by its answer alone.
    await server.clock.advance(1_000)
    const ping = messageOf(await third.stream.nextEvent())
    await (
      await server.request(post({ jsonrpc: '2.0', id: ping['id'], result: {} }, session.headers))
    ).ended()
    await listen(server, session)
    await listen(server, session)
    expect((await server.request(getStream(session))).status).toBe(409)
  })

  test('takeovers further apart are let through, however many', async () => {
    const server = await serveFake()
    const session = await openSession(server)
    for (let takeover = 0; takeover < 6; takeover++) {
      await listen(server, session)
      await server.clock.advance(15_001)
    }
    expect(server.app.sessions.get(session.id)?.streams).toBe(1)
  })

  test("`standaloneStream: 'reject'` gives 409 always; after the first is gone the next one opens", async () => {
    const server = await serveFake({ standaloneStream: 'reject', keepAliveInterval: Infinity })
    const session = await openSession(server)
    const first = await listen(server, session)
    await server.clock.advance(60_000)
    await expectError(await server.request(getStream(session)), {
      status: 409,
      code: -32000,
      message: 'Conflict: Only one SSE stream is allowed per session',
    })
    notify(server, session, 1)
    expect(await numbers(first.stream, 1)).toEqual([1])
    first.connection.destroy()
    await server.until('stream.closed')
    await listen(server, session)
  })

  test('the stream of one session is no matter of another', async () => {
    const server = await serveFake({ standaloneStream: 'reject' })
    const sessions = [await openSession(server), await openSession(server)]
    const streams = []
    for (const session of sessions) streams.push(await listen(server, session))
    for (const [index, session] of sessions.entries()) notify(server, session, index)
    for (const [index, { stream }] of streams.entries()) expect(await numbers(stream, 1)).toEqual([index])
  })
})

describe('streamMaxAge', () => {
  for (const version of ['2025-11-25', '2025-06-18', '2025-03-26']) {
    test(`${version}: a GET is rotated (retry, then the end) and resumed without loss`, async () => {
      const server = await serveFake({ streamMaxAge: '1m', keepAliveInterval: Infinity })
      const session = await openSession(server, { version })
      const stream = await server.request(getStream(session))
      notify(server, session, 1)
      let cursor: string | undefined
      while (cursor === undefined || stream.blocks.at(-1)?.data === '')
        cursor = (await stream.nextEvent())?.id
      await server.clock.advance(60_000)
      expect(await stream.nextBlock()).toMatchObject({ retry: 3000, data: undefined, id: undefined })
      expect(await stream.ended()).toBe('complete')
      notify(server, session, 2)
      const resumed = await server.request(getStream(session, cursor))
      expectStream(resumed)
      notify(server, session, 3)
      const messages = [await resumed.nextMessage(), await resumed.nextMessage()]
      expect(messages).toMatchObject([{ params: { n: 2 } }, { params: { n: 3 } }])
      // The resumed connection grows old as well.
      await server.clock.advance(60_000)
      expect(await resumed.ended()).toBe('complete')
    })
  }
})

test('a request to the client travels on the GET and is answered by a POST', async () => {
  const server = await serveFake()
  const session = await openSession(server)
  const { stream } = await listen(server, session)
  const { response } = await open(
    server,
    post(call({ ask: { related: false, timeout: 60_000 } }, 'c'), session.headers),
  )
  const asked = messageOf(await stream.nextEvent())
  expect(asked).toMatchObject({ method: 'elicitation/create' })
  await server.request(post({ jsonrpc: '2.0', id: asked['id'], result: {} }, session.headers))
  expect(await answerOf(response)).toMatchObject({ id: 'c' })
  expect(server.fakes[0]?.calls[0]?.asked).toBe('answered')
})

test('DELETE and close end the GET; nothing is left of it', async () => {
  const server = await serveFake()
  const session = await openSession(server)
  const { stream } = await listen(server, session)
  server.app.sessions.close(session.id)
  expect(await stream.nextBlock()).toBeUndefined()
  expect(await stream.ended()).toBe('complete')
  await server.until('stream.closed')
  expect(server.app.sessions.size).toBe(0)
  await server.waitFor(() => server.timers === 0, 'no timer being left')
})
