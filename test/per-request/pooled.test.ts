/** `instances: 'pooled'`: a server serves many requests, and none of them finds anything of somebody else's. */

import { McpServer, type ServerContext as HandlerContext } from '@modelcontextprotocol/server'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'

import { httpApp } from '../../src/http-app.ts'
import type { AppOptions, ServerContext } from '../../src/types.ts'
import { type Deferred, deferred, within } from '../support/deferred.ts'
import { ID, post, rpc } from '../support/mcp-wire.ts'
import { envelope, MODERN, modernNotification, modernPost } from '../support/modern-wire.ts'
import { serve, type Served } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const PROGRESS = { _meta: { progressToken: 'p' } }

/** What a test does with the instances it had built. */
interface Built {
  readonly number: number
  readonly server: McpServer
  readonly context: ServerContext
  closed: number
}

type Run = (context: HandlerContext, built: Built, what: string) => string | Promise<string>

/** Pooled servers whose tool `run` does what the test says. */
async function pooled(
  run: Run = (_, { number }) => `instance ${number}`,
  options: AppOptions = {},
): Promise<Served & { built: Built[] }> {
  const instances: Built[] = []
  const server = await serve(
    (context) => {
      const mcp = new McpServer({ name: 'pooled', version: '1' }, { capabilities: { logging: {} } })
      const built: Built = { number: instances.length + 1, server: mcp, context, closed: 0 }
      instances.push(built)
      mcp.server.onclose = () => {
        built.closed += 1
      }
      mcp.registerTool('run', { inputSchema: z.object({ what: z.string() }) }, async ({ what }, ctx) => ({
        content: [{ type: 'text', text: await run(ctx, built, what) }],
      }))
      mcp.registerResource('broken', 'test://broken', {}, () => {
        throw new Error('it broke')
      })
      return mcp
    },
    {
      instances: 'pooled',
      authenticate: (request) => {
        const user = request.headers.get('x-user')
        return user === null ? undefined : { token: user, clientId: 'c', scopes: [], extra: { sub: user } }
      },
      ...options,
    },
  )
  return Object.assign(server, { built: instances })
}

function call(user?: string, what = '', params: object = {}): ReturnType<typeof modernPost> {
  const headers = user === undefined ? {} : { 'X-User': user }
  return modernPost('tools/call', { name: 'run', arguments: { what }, ...params }, headers)
}

async function text(server: Served, user?: string, what = ''): Promise<string> {
  const answer = (await (await server.request(call(user, what))).json()) as {
    id: unknown
    result: { content: { text: string }[] }
  }
  expect(answer.id).toBe(ID)
  return answer.result.content[0]?.text ?? ''
}

async function progress({ mcpReq }: HandlerContext, message: string): Promise<void> {
  const progressToken = mcpReq._meta?.progressToken ?? 'p'
  await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress: 1, message } })
}

describe('an instance', () => {
  test('serves the requests of one principal one after another; each principal, and who has none, has its own', async () => {
    const server = await pooled()
    const users = ['ann', 'bob', undefined, 'ann', 'bob', undefined, 'ann']
    const served: string[] = []
    for (const user of users) served.push(await text(server, user))
    expect(served).toEqual([1, 2, 3, 1, 2, 3, 1].map((number) => `instance ${number}`))
    // What closes it between two requests is not its end.
    expect(server.built.map(({ closed }) => closed)).toEqual([0, 0, 0])
    expect(server.built[0]?.context.instanceSignal.aborted).toBe(false)
    await server.app.close()
    expect(server.built.map(({ closed }) => closed)).toEqual([1, 1, 1])
    expect(server.built.map(({ context }) => context.instanceSignal.aborted)).toEqual([true, true, true])
  })

  test('is never in two requests at once', async () => {
    const held: Deferred<string>[] = []
    const begun: number[] = []
    const server = await pooled((_, { number }) => {
      begun.push(number)
      const finish = deferred<string>()
      held.push(finish)
      return finish.promise
    })
    const answers = Array.from({ length: 5 }, () => server.request(call('ann')))
    await server.waitFor(() => held.length === 5, 'five calls at once')
    expect(new Set(begun).size).toBe(5)
    for (const finish of held) finish.resolve('ok')
    for (const answer of answers) expect((await answer).status).toBe(200)
    const more = Array.from({ length: 5 }, () => server.request(call('ann')))
    await server.waitFor(() => held.length === 10, 'five more')
    expect(new Set(begun.slice(5)).size).toBe(5)
    expect(server.built.length).toBe(5)
    for (const finish of held) finish.resolve('ok')
    for (const answer of more) expect((await answer).status).toBe(200)
  })

  test.each([
    ['authInfo', (context: ServerContext) => context.authInfo, 'ctx.http.authInfo'],
    ['requestInfo', (context: ServerContext) => context.requestInfo, 'ctx.http.req'],
    ['session.principal', (context: ServerContext) => context.session.principal, 'ctx.http.authInfo'],
    ['session.client', (context: ServerContext) => context.session.client, '_meta'],
  ])('is built without knowing for whom: context.%s throws, and says why', async (what, read, instead) => {
    const server = await serve(
      (context) => {
        read(context)
        return new McpServer({ name: 'never', version: '1' })
      },
      { instances: 'pooled' },
    )
    expect((await server.request(call())).status).toBe(500)
    expect(server.logs).toMatchObject([{ level: 'error', message: 'createServer failed' }])
    const message = String(
      server.logs[0]?.args
        .map((arg) => (arg as { error?: unknown }).error)
        .find((thrown) => thrown !== undefined),
    )
    expect(message).toContain(`createServer read context.${what}, which belongs to one request`)
    expect(message).toContain(instead)
  })

  test('knows its era and the signals, and keeps its own data', async () => {
    const server = await pooled((_, { context }) => {
      const { era, session } = context
      expect([era, session.id, session.restored, session.signal.aborted]).toEqual([
        'modern',
        undefined,
        false,
        false,
      ])
      session.keepAwake().release()
      const { uses = 0 } = session.data as { uses?: number }
      session.data = { uses: uses + 1 }
      return JSON.stringify(session.data)
    })
    expect(await text(server, 'ann')).toBe('{"uses":1}')
    expect(await text(server, 'ann')).toBe('{"uses":2}')
    expect(await text(server, 'bob')).toBe('{"uses":1}')
  })
})

describe("one principal's data", () => {
  test('in closures, in the handler context and in answers never show up in the request of another', async () => {
    const notes = new WeakMap<object, string[]>()
    const server = await pooled(async (context, { server: mcp }, what) => {
      const user = context.http?.authInfo?.token ?? 'nobody'
      const seen = notes.get(mcp) ?? []
      seen.push(`${user}: ${what}`)
      notes.set(mcp, seen)
      if (what.endsWith('0')) await new Promise((resolve) => setImmediate(resolve))
      const header = context.http?.req?.headers.get('x-user') ?? 'nobody'
      return JSON.stringify({ user, header, seen })
    })
    const users = ['ann', 'bob', 'cyd', undefined]
    const connections = await Promise.all(Array.from({ length: 8 }, () => server.connect()))
    await Promise.all(
      connections.map(async (connection, lane) => {
        for (let turn = 0; turn < 25; turn++) {
          const user = users[(lane * 7 + turn * 3) % users.length]
          // All clients number their requests alike.
          const response = await connection.request(call(user, `${lane}-${turn}`))
          const answer = (await response.json()) as { id: unknown; result: { content: { text: string }[] } }
          const found = JSON.parse(answer.result.content[0]?.text ?? '') as {
            user: string
            header: string
            seen: string[]
          }
          const name = user ?? 'nobody'
          expect(answer.id).toBe(ID)
          expect(found).toMatchObject({ user: name, header: name })
          expect(found.seen.every((note) => note.startsWith(`${name}: `))).toBe(true)
          expect(found.seen.at(-1)).toBe(`${name}: ${lane}-${turn}`)
        }
      }),
    )
    expect(server.built.length).toBeLessThanOrEqual(8 * users.length)
    expect(server.built.length).toBeLessThan(200)
  })

  test('never travels on the answer to a later request: progress, log lines, questions and ids of one that is over', async () => {
    let late: HandlerContext | undefined
    const held = deferred<string>()
    const begun = deferred<HandlerContext>()
    const server = await pooled(async (context, _, what) => {
      if (what === 'first') {
        late = context
        return 'done'
      }
      await progress(context, 'mine')
      begun.resolve(context)
      return held.promise
    })
    // Nobody is authenticated: both are strangers to each other, with the same id and the same token.
    const logs = { 'io.modelcontextprotocol/logLevel': 'debug' }
    const meta = { _meta: { ...PROGRESS._meta, ...logs } }
    await (await server.request(call(undefined, 'first', meta))).json()
    const response = await server.request(call(undefined, 'second', meta))
    const now = await within(begun.promise, 'the second call')
    const [instance] = server.built
    expect(server.built.length).toBe(1)
    if (late === undefined || instance === undefined) throw new Error('there was no first call')
    expect(late.mcpReq.id).not.toBe(now.mcpReq.id)
    expect(late.mcpReq.signal.aborted).toBe(true)
    await progress(late, 'SECRET progress')
    await late.mcpReq.log('error', 'SECRET log')
    const { server: protocol } = instance.server
    const notification = {
      method: 'notifications/progress' as const,
      params: { progressToken: 'p', progress: 1, message: 'SECRET, unrelated' },
    }
    await protocol.notification(notification)
    for (const relatedRequestId of [ID, late.mcpReq.id, 0, 1])
      await protocol.notification(notification, { relatedRequestId: relatedRequestId as number })
    const question = {
      message: 'SECRET question',
      requestedSchema: { type: 'object', properties: {} },
    } as const
    await expect(late.mcpReq.elicitInput(question)).rejects.toThrow()
    await expect(protocol.elicitInput(question)).rejects.toThrow()
    held.resolve('second')
    const messages = await response.messages()
    expect(messages).toMatchObject([
      { method: 'notifications/progress', params: { message: 'mine' } },
      { id: ID, result: { content: [{ text: 'second' }] } },
    ])
    expect(JSON.stringify(messages)).not.toContain('SECRET')
    // The id that only the server knows is not told either.
    expect(JSON.stringify(messages)).not.toContain(`"id":${String(now.mcpReq.id)},`)
  })

  test('what a client says of itself is gone for one that says nothing', async () => {
    const server = await pooled((_, { server: mcp }) => mcp.server.getClientVersion()?.name ?? 'unnamed')
    const client = (name: string): object => ({
      _meta: { 'io.modelcontextprotocol/clientInfo': { name, version: '1' } },
    })
    const ask = async (params: object): Promise<string> =>
      await (await server.request(call(undefined, '', params))).text()
    expect(await ask(client('SECRET'))).toContain('"SECRET"')
    const { _meta } = envelope()
    delete _meta['io.modelcontextprotocol/clientInfo']
    const unnamed = post(rpc('tools/call', { name: 'run', arguments: { what: '' }, _meta }), {
      'Mcp-Protocol-Version': MODERN,
      'Mcp-Method': 'tools/call',
      'Mcp-Name': 'run',
    })
    const silent = await (await server.request(unnamed)).text()
    expect(silent).not.toContain('SECRET')
    expect(await ask(client('another'))).toContain('"another"')
  })

  test('a principal rule that names nobody for an authenticated request: nothing is shared', async () => {
    const server = await pooled(undefined, { principal: () => undefined })
    expect(await text(server, 'ann')).toBe('instance 1')
    expect(await text(server, 'bob')).toBe('instance 2')
    expect(await text(server)).toBe('instance 3')
    expect(await text(server)).toBe('instance 3')
    expect(await text(server, 'ann')).toBe('instance 4')
  })
})

describe('an instance is not used again', () => {
  const again = async (server: Served & { built: Built[] }): Promise<void> => {
    await server.waitFor(() => server.built[0]?.closed === 1, 'the end of the instance')
    expect(server.built[0]?.context.instanceSignal.aborted).toBe(true)
    expect(await text(server, 'ann')).toBe('instance 2')
    expect(await text(server, 'ann')).toBe('instance 2')
    expect(server.built[0]?.closed).toBe(1)
  }
  const unless =
    (run: Run): Run =>
    (context, built, what) =>
      built.number === 1 ? run(context, built, what) : `instance ${built.number}`

  test('after an error outside a tool result', async () => {
    const server = await pooled()
    expect(await text(server, 'ann')).toBe('instance 1')
    const broken = modernPost('resources/read', { uri: 'test://broken' }, { 'X-User': 'ann' })
    expect(await (await server.request(broken)).json()).toMatchObject({ id: ID, error: {} })
    await again(server)
  })

  test('after what its protocol object reported as an error', async () => {
    const server = await pooled(
      unless((_, { server: mcp }) => {
        mcp.server.onerror?.(new Error('reported'))
        return 'ok'
      }),
    )
    expect(await text(server, 'ann')).toBe('ok')
    await again(server)
  })

  test('after a cancellation: the client went away', async () => {
    const begun = deferred()
    const aborted = deferred()
    const server = await pooled(
      unless(({ mcpReq }) => {
        mcpReq.signal.addEventListener('abort', () => aborted.resolve())
        begun.resolve()
        return new Promise<never>(() => {})
      }),
    )
    const connection = await server.connect()
    await connection.send(call('ann'))
    await within(begun.promise, 'the call')
    connection.destroy()
    await within(aborted.promise, 'the abort of the handler')
    await again(server)
  })

  test('after it closed its own connection', async () => {
    const server = await pooled(
      unless(async (_, { server: mcp }) => {
        await mcp.close()
        return 'never seen'
      }),
    )
    expect((await server.request(call('ann'))).status).toBe(500)
    await again(server)
  })

  test('after it changed what it offers', async () => {
    const server = await pooled(
      unless((_, { server: mcp }) => {
        mcp.registerTool('more', {}, () => ({ content: [] }))
        return 'ok'
      }),
    )
    expect(await text(server, 'ann')).toBe('ok')
    await again(server)
  })

  test('after a notification, whose handler nobody sees the end of', async () => {
    const server = await pooled()
    expect((await server.request(modernNotification('notifications/x'))).status).toBe(202)
    await server.waitFor(() => server.built[0]?.closed === 1, 'the end of the instance')
    expect(await text(server)).toBe('instance 2')
  })

  test('an unknown tool or method, a refused header and one who listens cost none', async () => {
    const server = await pooled()
    expect(await text(server)).toBe('instance 1')
    expect((await server.request(modernPost('no/such'))).status).toBe(404)
    expect((await server.request(modernPost('tools/list', {}, { 'Mcp-Method': 'tools/call' }))).status).toBe(
      400,
    )
    const listening = await server.request(
      modernPost('subscriptions/listen', { notifications: { toolsListChanged: true } }),
    )
    await listening.nextMessage()
    expect(await text(server)).toBe('instance 1')
    expect(server.built[0]?.closed).toBe(0)
  })

  test('listeners that a handler put in are there until its request is over, and never for another', async () => {
    const heard: string[] = []
    const server = await pooled((_, { server: mcp }, what) => {
      if (what === 'set') {
        mcp.server.onclose = () => heard.push('close')
        mcp.server.oninitialized = () => heard.push('initialized')
        mcp.server.fallbackRequestHandler = () => Promise.resolve({ heard: 'SECRET' })
      }
      return 'ok'
    })
    await text(server, undefined, 'set')
    await server.waitFor(() => heard.length === 1, 'the end of the request')
    await text(server)
    expect((await server.request(modernPost('no/such'))).status).toBe(404)
    await server.app.close()
    expect(heard).toEqual(['close'])
    expect(server.built.map(({ closed }) => closed)).toEqual([1])
  })
})

describe('bounds', () => {
  const together = async (server: Served & { built: Built[] }, users: string[]): Promise<void> => {
    const connections = await Promise.all(users.map(() => server.connect()))
    const answers = await Promise.all(
      connections.map(async (connection, lane) => await connection.request(call(users[lane], 'wait'))),
    )
    for (const answer of answers) expect(answer.status).toBe(200)
  }
  const inUse = (count: number): { run: Run; options: AppOptions } => {
    const all = deferred<string>()
    let waiting = 0
    return {
      run: (_, { number }, what) => {
        if (what !== 'wait') return `instance ${number}`
        waiting += 1
        if (waiting === count) all.resolve('ok')
        return all.promise
      },
      options: { clock: new VirtualClock(), responseMode: 'json' },
    }
  }
  const alive = (server: { built: Built[] }): number =>
    server.built.filter(({ closed }) => closed === 0).length

  test('per principal', async () => {
    const { run, options } = inUse(4)
    const server = await pooled(run, { ...options, maxPooledInstancesPerPrincipal: 2 })
    await together(server, ['ann', 'ann', 'ann', 'ann'])
    await server.waitFor(() => alive(server) === 2, 'the end of those beyond')
  })

  test('in all: the one idle for longest makes room', async () => {
    const server = await pooled(undefined, { maxPooledInstances: 2 })
    for (const user of ['ann', 'bob', 'cyd']) await text(server, user)
    expect(server.built.map(({ closed }) => closed)).toEqual([1, 0, 0])
    expect(await text(server, 'bob')).toBe('instance 2')
    expect(await text(server, 'ann')).toBe('instance 4')
    expect(server.built.map(({ closed }) => closed)).toEqual([1, 0, 1, 0])
  })

  test('in time: each waits as long as it may, and no timer is left', async () => {
    const { run, options } = inUse(1)
    const server = await pooled(run, { ...options, pooledInstanceIdleTimeout: '10s' })
    await text(server, 'ann')
    await server.clock.advance(6000)
    await text(server, 'bob')
    await server.clock.advance(4000)
    expect(server.built.map(({ closed }) => closed)).toEqual([1, 0])
    await server.clock.advance(5999)
    expect(server.built.map(({ closed }) => closed)).toEqual([1, 0])
    await server.clock.advance(1)
    expect(server.built.map(({ closed }) => closed)).toEqual([1, 1])
    await server.waitFor(() => server.timers === 0, 'the end of the timer')
    expect(await text(server, 'ann')).toBe('instance 3')
  })

  test.each<[AppOptions, string]>([
    [
      { instances: 'pooled', protocolEras: 'legacy' },
      "instances 'pooled' and protocolEras 'legacy' exclude each",
    ],
    [{ maxPooledInstances: 5 }, "maxPooledInstances needs instances 'pooled'"],
    [{ maxPooledInstancesPerPrincipal: 5 }, "maxPooledInstancesPerPrincipal needs instances 'pooled'"],
    [
      { instances: 'fresh', pooledInstanceIdleTimeout: '5s' },
      "pooledInstanceIdleTimeout needs instances 'pooled'",
    ],
    [{ instances: 'shared' as 'pooled' }, 'instances must be'],
  ])('%o fails when the app is made', (options, message) => {
    expect(() => httpApp(() => new McpServer({ name: 'x', version: '1' }), options)).toThrow(message)
  })
})
