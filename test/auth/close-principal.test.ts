/** `app.sessions.closePrincipal()`: everything that a principal has ends, and nothing of anybody else (promises 3, 5 and 6). */

import { McpServer } from '@modelcontextprotocol/server'
import { expect, test } from 'vitest'

import { deferred } from '../support/deferred.ts'
import { initialize, openSession, post } from '../support/mcp-wire.ts'
import { modernPost } from '../support/modern-wire.ts'
import { serve } from '../support/serve.ts'
import {
  as,
  authenticateByName,
  bytesOf,
  call,
  expectPriming,
  getStream,
  serveFake,
} from '../support/wire-app.ts'

const principalOf = (name: string): string => JSON.stringify(['https://issuer.example', name, 'client'])

test('its sessions end, awake and asleep, with their streams and calls; those of others go on', async () => {
  const server = await serveFake({
    authenticate: authenticateByName,
    sleepAfter: '1s',
    detachedRequestTimeout: 0,
  })
  const ada = await openSession(server, { headers: as('ada') })
  const asleep = await openSession(server, { headers: as('ada') })
  const bob = await openSession(server, { headers: as('bob') })
  const anonymous = await openSession(server)
  const streams = await Promise.all(
    [ada, bob].map((session, n) =>
      server.request(getStream(session, undefined, as(n === 0 ? 'ada' : 'bob'))),
    ),
  )
  for (const stream of streams) await expectPriming(stream)
  const running = server.request(post(call({ ending: 'never' }, 'c'), { ...ada.headers, ...as('ada') }))
  await server.called(1, server.fakes[0])
  await server.clock.advance(1000)
  await server.until('session.slept')
  const unknown = await bytesOf(
    await server.request(post(call(), { ...ada.headers, 'Mcp-Session-Id': 'no-such-id', ...as('ada') })),
  )

  const ended = server.app.sessions.closePrincipal(principalOf('ada'))
  expect(ended.map(({ id, state }) => [id, state]).sort()).toEqual(
    [ada, asleep].map(({ id }) => [id, 'closed']).sort(),
  )
  expect(await streams[0]?.ended()).toBe('complete')
  expect((await (await running).messages()).at(-1)).toMatchObject({ id: 'c', error: {} })
  for (const session of [ada, asleep])
    expect(await bytesOf(await server.request(post(call(), { ...session.headers, ...as('ada') })))).toBe(
      unknown,
    )
  const closed = server.events.filter((event) => event.type === 'session.closed')
  expect(closed.map(({ reason }) => reason)).toEqual(['admin', 'admin'])
  for (const [session, headers] of [
    [bob, as('bob')],
    [anonymous, {}],
  ] as const) {
    const answer = await server.request(post(call(), { ...session.headers, ...headers }))
    expect(answer.status).toBe(200)
  }
  expect(server.app.sessions.closePrincipal(principalOf('ada'))).toEqual([])
  expect(server.app.sessions.closePrincipal(principalOf('nobody'))).toEqual([])
})

test('what it had begun to open is not opened; what it opens afterwards is: its tokens are not ours to take', async () => {
  const built = deferred<void>()
  const began = deferred<void>()
  const server = await serve(
    async () => {
      began.resolve()
      await built.promise
      return new McpServer({ name: 'slow', version: '1' })
    },
    { authenticate: authenticateByName },
  )
  const opening = server.request(post(initialize(), as('ada')))
  await began.promise
  server.app.sessions.closePrincipal(principalOf('ada'))
  built.resolve()
  const refused = await opening
  expect(refused.status).toBe(401)
  expect(refused.header('mcp-session-id')).toBeUndefined()
  expect(server.app.sessions.counts).toMatchObject({ total: 0, opening: 0 })
  await openSession(server, { headers: as('ada') })
})

test('an initialize whose body was still coming is refused as well', async () => {
  const server = await serveFake({ authenticate: authenticateByName })
  const body = JSON.stringify(initialize())
  const connection = await server.connect()
  connection.socket.write(
    `POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nAuthorization: Bearer ada\r\nContent-Length: ${body.length}\r\n\r\n${body.slice(0, 10)}`,
  )
  const probe = await server.request(post(initialize(), as('bob')))
  expect(probe.status).toBe(200)
  await server.clock.settle()
  server.app.sessions.closePrincipal(principalOf('ada'))
  const answered = new Promise<string>((resolve) =>
    connection.socket.once('data', (data) => resolve(String(data))),
  )
  connection.socket.write(body.slice(10))
  expect(await answered).toMatch(/^HTTP\/1\.1 401 /)
  expect(server.app.sessions.counts).toMatchObject({ total: 1, opening: 0 })
})

test('2026-07-28: its calls are answered with an error, who listens is told, and pooled servers are let go', async () => {
  const never = deferred<void>()
  const running = deferred<void>()
  const closed: string[] = []
  let built = 0
  const server = await serve(
    () => {
      const name = `server ${(built += 1)}`
      const mcp = new McpServer({ name, version: '1' })
      mcp.server.onclose = () => closed.push(name)
      mcp.registerTool('wait', {}, async () => {
        running.resolve()
        await never.promise
        return { content: [] }
      })
      mcp.registerTool('name', {}, () => ({ content: [{ type: 'text', text: name }] }))
      return mcp
    },
    { authenticate: authenticateByName, instances: 'pooled' },
  )
  const name = async (who: string): Promise<unknown> =>
    (await server.request(modernPost('tools/call', { name: 'name' }, as(who)))).json()
  expect(await name('ada')).toMatchObject({ result: { content: [{ text: 'server 1' }] } })
  expect(await name('bob')).toMatchObject({ result: { content: [{ text: 'server 2' }] } })
  const listening = await server.request(
    modernPost('subscriptions/listen', { notifications: { toolsListChanged: true } }, as('ada'), 'listen'),
  )
  await listening.nextMessage()
  const calling = server.request(modernPost('tools/call', { name: 'wait' }, as('ada'), 'call'))
  await running.promise

  expect(server.app.sessions.closePrincipal(principalOf('ada'))).toEqual([])
  expect((await listening.messages()).at(-1)).toMatchObject({ id: 'listen', error: {} })
  expect((await (await calling).json()) as object).toMatchObject({ id: 'call', error: {} })
  await server.waitFor(() => closed.includes('server 1'), 'the end of the pooled server')
  expect(closed).not.toContain('server 2')
  expect(await name('bob')).toMatchObject({ result: { content: [{ text: 'server 2' }] } })
  expect(await name('ada')).toMatchObject({
    result: { content: [{ text: expect.not.stringMatching(/ 1$/) }] },
  })
  never.resolve()
})

test('it takes a name', async () => {
  const server = await serveFake()
  for (const wrong of [undefined, '', 7, null]) {
    expect(() => server.app.sessions.closePrincipal(wrong as string)).toThrow(
      /closePrincipal takes the principal of a session.*anonymous sessions are closed one by one/,
    )
  }
})
