/** `app.notify`: one announcement, and the clients of both eras that are to hear it do. */

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { McpServer } from '@modelcontextprotocol/server'
import { describe, expect, onTestFinished, test } from 'vitest'

import { Announcements } from '../../src/session/announcements.ts'
import type { Runtime } from '../../src/session/runtime.ts'
import { Inbox } from '../clients/inbox.ts'
import { connect } from '../clients/probe-client.ts'
import { RESOURCE } from '../clients/probe-server.ts'
import { serveProbe } from '../clients/serve-probe.ts'
import { within } from '../support/deferred.ts'
import { get, openSession, post, rpc } from '../support/mcp-wire.ts'
import { modernPost } from '../support/modern-wire.ts'
import type { RawResponse } from '../support/raw-http.ts'
import { serve, type Served } from '../support/serve.ts'

const TOOLS = 'notifications/tools/list_changed'
const RESOURCES = 'notifications/resources/list_changed'
const UPDATED = 'notifications/resources/updated'

function announcing(): McpServer {
  const server = new McpServer(
    { name: 'announcing', version: '1' },
    { capabilities: { resources: { subscribe: true, listChanged: true } } },
  )
  server.registerTool('one', {}, () => ({ content: [] }))
  server.server.setRequestHandler('resources/subscribe', () => ({}))
  server.server.setRequestHandler('resources/unsubscribe', () => ({}))
  return server
}

async function listen(server: Served, notifications: object): Promise<RawResponse> {
  const response = await server.request(modernPost('subscriptions/listen', { notifications }))
  expect(await response.nextMessage()).toMatchObject({ method: 'notifications/subscriptions/acknowledged' })
  return response
}

function announceAll({ app }: Served): void {
  app.notify.toolsChanged()
  app.notify.promptsChanged()
  app.notify.resourcesChanged()
  app.notify.resourceUpdated('a://1')
  app.notify.resourceUpdated('a://2')
}

const methods = (messages: unknown[]): unknown[] =>
  messages.map((message) => {
    const { method, params } = message as { method: string; params?: { uri?: string } }
    return params?.uri === undefined ? method : `${method} ${params.uri}`
  })

describe('sessions', () => {
  test('hear what their server declared, and of resources they subscribed to', async () => {
    const server = await serve(announcing, { eventLog: false })
    const session = await openSession(server)
    const subscribe = rpc('resources/subscribe', { uri: 'a://1' })
    expect((await server.request(post(subscribe, session.headers))).status).toBe(200)
    const stream = await server.request(get(session.headers))
    announceAll(server)
    server.app.sessions.get(session.id)?.notify('notifications/last')
    const heard = [await stream.nextMessage(), await stream.nextMessage(), await stream.nextMessage()]
    // It has no prompts.
    expect(methods(heard)).toEqual([TOOLS, RESOURCES, `${UPDATED} a://1`])
    expect(await stream.nextMessage()).toMatchObject({ method: 'notifications/last' })
  })

  test('without a GET hear of it with their next one', async () => {
    const server = await serve(announcing)
    const session = await openSession(server)
    server.app.notify.toolsChanged()
    const stream = await server.request(get(session.headers))
    expect(await stream.nextMessage()).toMatchObject({ method: TOOLS })
  })

  test('that unsubscribed hear no more; a session that has ended is no obstacle', async () => {
    const server = await serve(announcing, { eventLog: false })
    const gone = await openSession(server)
    const session = await openSession(server)
    for (const method of ['resources/subscribe', 'resources/unsubscribe'])
      await (await server.request(post(rpc(method, { uri: 'a://1' }), session.headers))).text()
    const stream = await server.request(get(session.headers))
    server.app.sessions.close(gone.id)
    server.app.notify.resourceUpdated('a://1')
    server.app.notify.toolsChanged()
    expect(await stream.nextMessage()).toMatchObject({ method: TOOLS })
  })
})

describe('clients of 2026-07-28', () => {
  test('hear what they listen for', async () => {
    const server = await serve(announcing)
    const everything = await listen(server, {
      toolsListChanged: true,
      promptsListChanged: true,
      resourcesListChanged: true,
      resourceSubscriptions: ['a://1'],
    })
    const tools = await listen(server, { toolsListChanged: true })
    announceAll(server)
    await server.app.close()
    const ending = [undefined]
    expect(methods(await everything.messages())).toEqual([TOOLS, RESOURCES, `${UPDATED} a://1`, ...ending])
    expect(methods(await tools.messages())).toEqual([TOOLS, ...ending])
  })

  test('who close the stream are forgotten', async () => {
    const server = await serve(announcing)
    const connection = await server.connect()
    await connection.request(
      modernPost('subscriptions/listen', { notifications: { toolsListChanged: true } }),
    )
    connection.destroy()
    await server.until('stream.closed')
    server.app.notify.toolsChanged()
    expect(server.events.at(-1)).toMatchObject({ type: 'stream.closed', kind: 'listen' })
    expect(server.app.sessions.counts.requests).toBe(0)
  })
})

test('one announcement reaches every official client of both eras', async () => {
  const probe = await serveProbe('v2', { echo: ({ input }) => input })
  const v1 = await connect('v1', probe.url)
  const v2 = await connect('v2', probe.url)
  await probe.events.atLeast(2, (event) => event.type === 'stream.opened' && event.kind === 'get', 'GETs')
  await v1.subscribe(RESOURCE)
  const notices = new Inbox<string>('notification')
  const modern = new Client({ name: 'm', version: '1' }, { versionNegotiation: { mode: 'auto' } })
  onTestFinished(() => modern.close())
  modern.setNotificationHandler(TOOLS, () => notices.add(TOOLS))
  modern.setNotificationHandler(UPDATED, ({ params }) => notices.add(params.uri))
  await modern.connect(new StreamableHTTPClientTransport(probe.url))
  await within(modern.listen({ toolsListChanged: true, resourceSubscriptions: [RESOURCE] }), 'listen()')
  probe.served.app.notify.toolsChanged()
  probe.served.app.notify.resourceUpdated(RESOURCE)
  await notices.atLeast(2, () => true, 'both notifications')
  expect(notices.all).toEqual([TOOLS, RESOURCE])
  await v1.notices.first(({ method }) => method === UPDATED, 'the update')
  await v2.notices.first(({ method }) => method === TOOLS, 'the change')
  expect(v1.notices.all.map(({ method }) => method)).toEqual([TOOLS, UPDATED])
  expect(v2.notices.all.map(({ method }) => method)).toEqual([TOOLS])
})

test('many are told in slices of the event loop; what still waits then is told once', () => {
  const told: string[] = []
  const turns: (() => void)[] = []
  let now = 0
  const runtime = {
    // Each telling takes 5 ms; a slice is 8.
    clock: {
      now: () => (now += 5),
      setTimer: (turn: () => void) => {
        turns.push(turn)
        return { cancel: () => turns.splice(turns.indexOf(turn), 1) }
      },
    },
    log: { error: (_: string, { message }: { message: string }) => told.push(message) },
  } as unknown as Runtime
  const listeners = ['a', 'b', 'c'].map((name) => (event: { kind: string }) => {
    if (name === 'b') throw new Error('b fails')
    told.push(`${name} ${event.kind}`)
  })
  const announcements = new Announcements(runtime, { sessions: () => [], listeners })
  announcements.toolsChanged()
  expect(told).toEqual(['a tools_list_changed', 'b fails'])
  for (let i = 0; i < 1000; i++) announcements.promptsChanged()
  // The change came after some were told of the first: they are told again.
  announcements.toolsChanged()
  while (turns.length > 0) turns.shift()?.()
  expect(told.slice(2)).toEqual([
    'c tools_list_changed',
    'a prompts_list_changed',
    'b fails',
    'c prompts_list_changed',
    'a tools_list_changed',
    'b fails',
    'c tools_list_changed',
  ])
  announcements.promptsChanged()
  announcements.close()
  while (turns.length > 0) turns.shift()?.()
  expect(told.at(-1)).toBe('b fails')
})

test('a wrong uri is refused; after close() nothing is told', async () => {
  const server = await serve(announcing)
  expect(() => server.app.notify.resourceUpdated(7 as unknown as string)).toThrow(TypeError)
  await server.app.close()
  announceAll(server)
})
