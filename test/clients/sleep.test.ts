/** The official clients, untouched, over sleep and wake between every two things they do. */

import { McpServer } from '@modelcontextprotocol/server'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'

import { openSession, post, rpc } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { connect } from './probe-client.ts'
import { RESOURCE, type Tool } from './probe-server.ts'
import { PAIRS, serveProbe, type ServedProbe } from './serve-probe.ts'

const tools: Readonly<Record<string, Tool>> = {
  echo: ({ input }) => input,
  steps: async (call) => {
    for (let step = 1; step <= 3; step++) await call.progress(step, 3)
    return 'done'
  },
  ask: (call) => call.elicit('a'),
  askOutside: (call) => call.server.elicit('b'),
  sample: (call) => call.sample('c'),
  tell: async (call) => {
    await call.server.log('warning', 'told', call.sessionId)
    await call.server.log('info', 'not told', call.sessionId)
    return 'told'
  },
}

/** Waits until the session sleeps again. */
async function asleep({ served, probe }: ServedProbe): Promise<void> {
  await served.until('session.slept', probe.servers.length)
  expect(served.app.sessions.counts).toMatchObject({ total: 1, awake: 0, asleep: 1 })
}

describe.each(PAIRS)('client $client, server $server', (pair) => {
  test('everything works with a sleep between every two requests', async () => {
    const running = await serveProbe(pair.server, tools, { sleepAfter: 1 })
    const { served, probe, url, getOpened } = running
    const client = await connect(pair.client, url)
    await getOpened()
    const calls: (readonly [() => Promise<unknown>, unknown])[] = [
      [() => client.call('echo', 'one'), 'one'],
      [() => client.tools().then((all) => all.toSorted()), Object.keys(tools).toSorted()],
      [() => client.call('steps', '', { onprogress: () => {} }), 'done'],
      [() => client.call('ask'), 'accept: re: a'],
      [() => client.call('askOutside'), 'accept: re: b'],
      [() => client.call('sample'), 'parrot: re: c'],
      [() => client.read(RESOURCE), 'item'],
      [() => client.prompts(), ['hello']],
      [() => client.subscribe(RESOURCE), undefined],
      [() => client.setLevel('warning'), undefined],
      [() => client.call('tell'), 'told'],
      [() => client.call('echo', 'two'), 'two'],
    ]
    for (const [index, [act, expected]] of calls.entries()) {
      await asleep(running)
      await client.ping()
      expect(probe.servers).toHaveLength(index + 1)
      const result = await act()
      if (expected !== undefined) expect(result).toEqual(expected)
    }
    await asleep(running)
    // One instance per request, each told what the client had set.
    expect(probe.servers).toHaveLength(calls.length + 1)
    expect(probe.servers.at(-1)?.subscriptions).toEqual(new Set([RESOURCE]))
    await client.notices.first(({ params }) => JSON.stringify(params).includes('told'), 'the log message')
    expect(client.notices.all.filter(({ params }) => JSON.stringify(params).includes('not told'))).toEqual([])
    // What happens elsewhere reaches the sleeper on its stream.
    served.app.notify.resourceUpdated(RESOURCE)
    await client.notices.first(({ method }) => method === 'notifications/resources/updated', 'the update')
    expect(client.errors.all).toEqual([])
    expect(served.events.filter(({ type }) => type === 'session.opened')).toHaveLength(1)
    await client.terminate()
    await served.until('session.closed')
  })

  test('calls at once wake it once', async () => {
    const running = await serveProbe(pair.server, tools, { sleepAfter: 400 })
    const { probe, url } = running
    const client = await connect(pair.client, url)
    await asleep(running)
    const inputs = Array.from({ length: 20 }, (_, n) => `call ${n}`)
    expect(await Promise.all(inputs.map((input) => client.call('echo', input)))).toEqual(inputs)
    expect(probe.servers).toHaveLength(2)
    expect(client.errors.all).toEqual([])
  })

  test('a tool added at run time keeps the server awake', async () => {
    const running = await serveProbe(
      pair.server,
      {
        ...tools,
        add: ({ server }) => {
          server.addTool('more')
          return 'added'
        },
      },
      { sleepAfter: 50 },
    )
    const { served, probe, url } = running
    const client = await connect(pair.client, url)
    await client.call('add')
    // A client that is slow to call finds the first instance asleep: the tool was added to the latest.
    const built = probe.servers.length
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(await client.tools()).toContain('more')
    expect(
      served.logs.filter(({ message }) => message.includes('announced changes of its own')),
    ).toHaveLength(1)
    expect(probe.servers).toHaveLength(built)
  })
})

test('scope checks of SDK v2 hold for a session that was woken', async () => {
  const server = await serve(
    () => {
      const made = new McpServer({ name: 'scopes', version: '1' })
      made.registerTool(
        'drop',
        {
          inputSchema: z.object({}),
          scopeChallenge: ({ authInfo }) =>
            authInfo?.scopes.includes('admin') === true ? undefined : { scopes: ['admin'] },
        },
        () => ({ content: [] }),
      )
      return made
    },
    {
      sleepAfter: 1,
      authenticate: (request) => ({
        token: 't',
        clientId: 'c',
        scopes: (request.headers.get('x-scopes') ?? '').split(' '),
        extra: { iss: 'i', sub: 'ann' },
      }),
    },
  )
  const session = await openSession(server)
  const statuses: number[] = []
  for (const [index, scopes] of ['read', 'admin', 'read'].entries()) {
    await server.until('session.slept', index + 1)
    const answer = await server.request(
      post(rpc('tools/call', { name: 'drop', arguments: {} }), { ...session.headers, 'X-Scopes': scopes }),
    )
    await answer.ended()
    statuses.push(answer.status)
  }
  expect(statuses).toEqual([403, 200, 403])
})
