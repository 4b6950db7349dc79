/** A stream ends when the token that it was opened with expires, and is resumed with a new one (promises 4, 5 and 6). */

import { McpServer } from '@modelcontextprotocol/server'
import { expect, test } from 'vitest'

import type { AppOptions, AuthInfo } from '../../src/types.ts'
import { openSession, post } from '../support/mcp-wire.ts'
import { modernPost } from '../support/modern-wire.ts'
import { serve } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { call, expectPriming, getStream, messageOf, serveFake, type FakeApp } from '../support/wire-app.ts'

/** When virtual time begins, in seconds since the Unix epoch. */
const START = Date.UTC(2026, 0, 1) / 1000

/** `Bearer NAME SECONDS`: who it is, and how many seconds after the start the token expires. */
function authenticate(request: Request): AuthInfo {
  const [, name = '', seconds] = (request.headers.get('authorization') ?? '').split(' ')
  return {
    token: `${name} ${seconds}`,
    clientId: 'client',
    scopes: [],
    extra: { sub: name },
    ...(seconds !== undefined && { expiresAt: START + Number(seconds) }),
  }
}

const token = (name: string, seconds?: number): { Authorization: string } => ({
  Authorization: `Bearer ${name}${seconds === undefined ? '' : ` ${seconds}`}`,
})

function serveTokens(options: AppOptions = {}): Promise<FakeApp> {
  return serveFake({
    authenticate,
    keepAliveInterval: Infinity,
    sessionIdleTimeout: '1d',
    unusedSessionTimeout: '1d',
    ...options,
  })
}

test('a GET ends at the second its token expires, with a hint when to come back; with a new token nothing is lost', async () => {
  const server = await serveTokens()
  const session = await openSession(server, { headers: token('ada', 600) })
  const stream = await server.request(getStream(session, undefined, token('ada', 600)))
  const cursor = await expectPriming(stream)
  await server.clock.advance(599_000)
  expect(server.app.sessions.get(session.id)).toMatchObject({ streams: 1 })
  await server.clock.advance(1000)
  expect(await stream.ended()).toBe('complete')
  expect(stream.blocks.at(-1)).toMatchObject({ retry: 3000 })
  await server.until('stream.closed')
  server.app.sessions.get(session.id)?.notify('notifications/marker', { n: 1 })
  const next = await server.request(getStream(session, cursor, token('ada', 1200)))
  await expectPriming(next)
  expect(messageOf(await next.nextEvent())).toMatchObject({ params: { n: 1 } })
  // The refreshed token has a time of its own.
  await server.clock.advance(599_000)
  expect(server.app.sessions.get(session.id)).toMatchObject({ streams: 1 })
  await server.clock.advance(1000)
  expect(await next.ended()).toBe('complete')
})

test("a running call's stream ends, the call goes on, and its answer waits for whoever comes with a new token", async () => {
  const server = await serveTokens()
  const session = await openSession(server, { headers: token('ada', 60) })
  const posted = server.request(
    post(call({ tag: 'long', duration: 90_000 }, 'c'), { ...session.headers, ...token('ada', 60) }),
  )
  await server.called()
  await server.clock.advance(25)
  const stream = await posted
  const cursor = await expectPriming(stream)
  await server.clock.advance(60_000)
  expect(await stream.ended()).toBe('complete')
  expect(stream.blocks.filter(({ data }) => data !== undefined && data !== '')).toEqual([])
  await server.clock.advance(30_000)
  const foreign = await server.request(getStream(session, cursor, token('bob', 900)))
  expect(foreign.status).toBe(404)
  const resumed = await server.request(getStream(session, cursor, token('ada', 900)))
  expect((await resumed.messages()).at(-1)).toMatchObject({ id: 'c', result: {} })
})

test('the answer of a call that its client could not resume is sent all the same', async () => {
  for (const [version, options] of [
    ['2025-06-18', {}],
    ['2025-11-25', { eventLog: false }],
  ] as const) {
    const server = await serveTokens(options)
    const session = await openSession(server, { version, headers: token('ada', 60) })
    const posted = server.request(
      post(call({ tag: 'long', duration: 90_000 }, 'c'), { ...session.headers, ...token('ada', 60) }),
    )
    await server.called()
    await server.clock.advance(90_000)
    expect((await (await posted).messages()).at(-1)).toMatchObject({ id: 'c', result: {} })
  }
})

test('without an expiry, or with the option off, streams stay', async () => {
  const server = await serveTokens()
  const off = await serveTokens({ endStreamsOnTokenExpiry: false })
  for (const [app, headers] of [
    [server, token('ada')],
    [off, token('ada', 60)],
  ] as const) {
    const session = await openSession(app, { headers })
    await expectPriming(await app.request(getStream(session, undefined, headers)))
    await app.clock.advance(24 * 3_600_000)
    expect(app.app.sessions.get(session.id)).toMatchObject({ streams: 1 })
  }
})

test('tokens expire by the wall clock, which may be set: never early, and at most a minute late', async () => {
  const server = await serveTokens()
  const session = await openSession(server, { headers: token('ada', 600) })
  const stream = await server.request(getStream(session, undefined, token('ada', 600)))
  await expectPriming(stream)
  server.clock.stepWall(-3_600_000)
  await server.clock.advance(3_600_000)
  expect(server.app.sessions.get(session.id)).toMatchObject({ streams: 1 })
  // Ten minutes are left; the clock is set forward by an hour.
  server.clock.stepWall(3_600_000)
  await server.clock.advance(60_000)
  expect(await stream.ended()).toBe('complete')
})

test('a token that is taken though it has just expired does not make its client come back again and again', async () => {
  const server = await serveTokens()
  const session = await openSession(server, { headers: token('ada', 600) })
  await server.clock.advance(602_000)
  const stream = await server.request(getStream(session, undefined, token('ada', 600)))
  await expectPriming(stream)
  await server.clock.advance(9999)
  expect(server.app.sessions.get(session.id)).toMatchObject({ streams: 1 })
  await server.clock.advance(1)
  expect(await stream.ended()).toBe('complete')
})

test('2026-07-28: subscriptions/listen ends and is told why; a call gets its answer', async () => {
  const clock = new VirtualClock()
  const server = await serve(
    () => {
      const mcp = new McpServer({ name: 'modern', version: '1' })
      mcp.registerTool('slow', {}, async () => {
        await clock.sleep(90_000)
        return { content: [{ type: 'text', text: 'done' }] }
      })
      return mcp
    },
    { authenticate, clock, keepAliveInterval: '1s' },
  )
  const listening = await server.request(
    modernPost(
      'subscriptions/listen',
      { notifications: { toolsListChanged: true } },
      token('ada', 60),
      'listen',
    ),
  )
  expect(await listening.nextMessage()).toMatchObject({
    method: 'notifications/subscriptions/acknowledged',
  })
  const calling = server.request(modernPost('tools/call', { name: 'slow' }, token('ada', 60), 'call'))
  await server.until('request.started', 2)
  await clock.advance(60_000)
  expect((await listening.messages()).at(-1)).toMatchObject({
    id: 'listen',
    error: { code: -32000, message: expect.stringMatching(/token has expired/) },
  })
  await clock.advance(30_000)
  expect((await (await calling).messages()).at(-1)).toMatchObject({
    id: 'call',
    result: { content: [{ text: 'done' }] },
  })
})
