/** What belongs to no call and travels on the GET: list changes, subscriptions, log messages, requests from outside a handler. */

import { describe, expect, test } from 'vitest'

import { within } from '../support/deferred.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { connect, rejection } from './probe-client.ts'
import { RESOURCE, type ProbeServer, type Tool } from './probe-server.ts'
import { PAIRS, serveProbe, type ServedProbe } from './serve-probe.ts'

const echo: Tool = ({ input }) => input

describe.each(PAIRS)('client $client, server $server', (pair) => {
  test('list changes: tools, resources, prompts', async () => {
    const grow: Tool = ({ server }) => {
      server.addTool('grown')
      server.addResource('probe://grown')
      server.addPrompt('grown')
      return 'grown'
    }
    const { url, getOpened } = await serveProbe(pair.server, { grow })
    const client = await connect(pair.client, url)
    await getOpened()
    expect(await client.call('grow')).toBe('grown')
    for (const list of ['tools', 'resources', 'prompts']) {
      await client.notices.first(
        ({ method }) => method === `notifications/${list}/list_changed`,
        `a change of ${list}`,
      )
    }
    expect(await client.tools()).toEqual(['grow', 'grown'])
    expect(await client.resources()).toEqual([RESOURCE, 'probe://grown'])
    expect(await client.prompts()).toEqual(['hello', 'grown'])
    expect(await client.call('grown')).toBe('grown')
  })

  test('resources: subscribed, updated, read, unsubscribed', async () => {
    let version = 1
    const probe = await serveProbe(pair.server, { read: () => `version ${version}` })
    const client = await connect(pair.client, probe.url)
    await probe.getOpened()
    const server = onlyServer(probe)
    await client.subscribe(RESOURCE)
    expect([...server.subscriptions]).toEqual([RESOURCE])
    expect(probe.served.app.sessions.list()[0]?.subscriptions).toEqual([RESOURCE])
    version = 2
    await server.resourceUpdated(RESOURCE)
    const update = await client.notices.first(
      ({ method }) => method === 'notifications/resources/updated',
      'an update',
    )
    expect(update.params).toMatchObject({ uri: RESOURCE })
    expect(await client.read(RESOURCE)).toBe('version 2')
    await client.unsubscribe(RESOURCE)
    expect(server.subscriptions.size).toBe(0)
    expect(probe.served.app.sessions.list()[0]?.subscriptions).toEqual([])
  })

  test('log messages between calls, from the level on that was set', async () => {
    const probe = await serveProbe(pair.server, { echo })
    const client = await connect(pair.client, probe.url)
    await probe.getOpened()
    await client.setLevel('warning')
    const server = onlyServer(probe)
    await server.log('info', 'too quiet', client.sessionId)
    await server.log('error', 'heard', client.sessionId)
    await client.notices.first(({ params }) => params?.['data'] === 'heard', 'the log message')
    expect(client.notices.all).toHaveLength(1)
  })

  test('what was said before there was a GET waits for it', async () => {
    const probe = await serveProbe(pair.server, { echo }, {}, { get: 'refused' })
    const first = await connect(pair.client, probe.url)
    const server = onlyServer(probe)
    await server.resourceUpdated('probe://1')
    await server.resourceUpdated('probe://2')
    const { sessionId } = first
    if (sessionId === undefined) throw new Error('no session')
    await probe.answered.first(({ status }) => status === 405, 'the refused GET')
    probe.get = 'open'
    const second = await connect(pair.client, probe.url, { sessionId })
    await second.sendInitialized()
    await second.notices.first(({ params }) => params?.['uri'] === 'probe://2', 'the second update')
    expect(second.notices.all.map(({ params }) => params?.['uri'])).toEqual(['probe://1', 'probe://2'])
  })

  test('a request between calls waits for a GET, and is given up when none comes', async () => {
    const clock = new VirtualClock()
    const probe = await serveProbe(pair.server, { echo }, { clock }, { get: 'refused' })
    const client = await connect(pair.client, probe.url)
    const failed = rejection(onlyServer(probe).elicit('anyone?'), 'the request')
    await clock.advance(10_000)
    expect((await failed).message).toContain('No stream is open')
    expect(await client.call('echo', 'still here')).toBe('still here')
  })

  test('pushing from outside: notify and request of a session handle', async () => {
    const probe = await serveProbe(pair.server, { echo })
    const client = await connect(pair.client, probe.url)
    await probe.getOpened()
    const handle = probe.served.app.sessions.get(client.sessionId ?? '')
    if (handle === undefined) throw new Error('the session is not listed')
    handle.notify('notifications/resources/updated', { uri: 'probe://pushed' })
    await client.notices.first(
      ({ params }) => params?.['uri'] === 'probe://pushed',
      'the pushed notification',
    )
    const answer = handle.request('elicitation/create', {
      message: 'from outside',
      requestedSchema: { type: 'object', properties: { value: { type: 'string' } } },
    })
    expect(await within(answer, 'the answer')).toEqual({
      action: 'accept',
      content: { value: 're: from outside' },
    })
  })
})

function onlyServer({ probe }: ServedProbe): ProbeServer {
  const [server] = probe.servers
  if (server === undefined || probe.servers.length > 1)
    throw new Error(`${probe.servers.length} servers were built`)
  return server
}
