/** When a session sleeps, what keeps it awake, what never wakes it, and what it keeps. On virtual time. */

import { expect, test } from 'vitest'

import type { KeepAwake } from '../../src/types.ts'
import { type Deferred, deferred } from '../support/deferred.ts'
import { notification, rpc } from '../support/mcp-wire.ts'
import type { SimApp } from '../support/sim-app.ts'
import type { SimExchange } from '../support/sim-exchange.ts'
import { awake, call, over, SLEEP, type SleepApp, sleepApp, turns } from '../support/sleep-app.ts'

test('an unused instance is let go after sleepAfter, not a millisecond before; the session stays', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  const [fake] = app.fakes
  await clock.advance(SLEEP - 1)
  expect([awake(app, id), fake?.closedAt]).toEqual([true, undefined])
  await clock.advance(1)
  expect([awake(app, id), fake?.closedAt]).toEqual([false, SLEEP])
  expect(app.manager.sessions.counts).toMatchObject({ total: 1, awake: 0, asleep: 1, idle: 1 })
  expect(turns(app)).toEqual({ slept: 1, woken: 0 })
  await over(made)
})

test('off by default on memory', async () => {
  const made = sleepApp({
    sleepAfter: undefined,
    sessionIdleTimeout: Infinity,
    unusedSessionTimeout: Infinity,
  })
  const id = await made.app.open()
  await made.clock.advance(10 * 24 * 3600 * 1000)
  expect(awake(made.app, id)).toBe(true)
  await over(made)
})

test('a request builds it anew: factory, connect, handshake, log level, subscriptions, then the request', async () => {
  const made = sleepApp()
  const { clock, app, contexts } = made
  const id = await app.open()
  app.post(id, rpc('logging/setLevel', { level: 'warning' }))
  app.post(id, rpc('resources/subscribe', { uri: 'a:1' }))
  app.post(id, rpc('resources/subscribe', { uri: 'a:2' }))
  await clock.settle()
  app.post(id, rpc('resources/unsubscribe', { uri: 'a:1' }))
  await clock.advance(SLEEP)
  expect(awake(app, id)).toBe(false)
  const answer = app.post(id, call(0, {}, 1))
  await clock.settle()
  expect(answer.json()).toMatchObject({ id: 1, result: { tag: 'fake-2' } })
  expect(app.fakes[1]?.received).toMatchObject([
    { method: 'initialize', params: { clientInfo: { name: 'wire', version: '1' } } },
    { method: 'notifications/initialized' },
    { method: 'logging/setLevel', params: { level: 'warning' } },
    { method: 'resources/subscribe', params: { uri: 'a:2' } },
    { method: 'tools/call' },
  ])
  const ids = app.fakes[1]?.received.flatMap((message) => ('id' in message ? [message.id] : [])) ?? []
  expect(new Set(ids).size).toBe(ids.length)
  expect(contexts.map(({ session }) => session.restored)).toEqual([false, true])
  expect(turns(app)).toEqual({ slept: 1, woken: 1 })
  await over(made)
})

test('what was refused or failed the first time is not set again', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  app.post(id, rpc('logging/setLevel', { level: 'no such level' }))
  app.post(id, rpc('resources/subscribe', { uri: 7 }))
  await clock.advance(SLEEP)
  app.post(id, call())
  await clock.settle()
  expect(app.fakes[1]?.received.map((message) => 'method' in message && message.method)).toEqual([
    'initialize',
    'notifications/initialized',
    'tools/call',
  ])
  await over(made)
})

test('many requests at once wake it once, and each is answered', async () => {
  const made = sleepApp({}, ({ session }) => (session.restored ? made.clock.sleep(50).then(() => ({})) : {}))
  const { clock, app } = made
  const id = await app.open()
  await clock.advance(SLEEP)
  const answers = Array.from({ length: 20 }, (_, n) => app.post(id, call(0, {}, n)))
  await clock.advance(60)
  for (const [n, answer] of answers.entries()) expect(answer.json()).toMatchObject({ id: n, result: {} })
  expect(app.fakes).toHaveLength(2)
  expect(turns(app)).toEqual({ slept: 1, woken: 1 })
  await over(made)
})

test('requests beyond maxRequestsPerSession that waited for the same waking are refused, the others answered', async () => {
  const made = sleepApp({ maxRequestsPerSession: 3 }, ({ session }) =>
    session.restored ? made.clock.sleep(50).then(() => ({})) : {},
  )
  const { clock, app } = made
  const id = await app.open()
  await clock.advance(SLEEP)
  const answers = Array.from({ length: 5 }, (_, n) => app.post(id, call(10, {}, n)))
  await clock.advance(100)
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 429, 429])
  await over(made)
})

const keepers: Record<string, (made: SleepApp, id: string) => Promise<() => Promise<unknown>>> = {
  async 'a running request'({ app, clock }, id) {
    const answer = app.post(id, call(5 * SLEEP))
    await clock.settle()
    return async () => clock.advance(5 * SLEEP - (clock.now() - answer.startedAt))
  },
  async 'a running request whose connection is gone'({ app, clock }, id) {
    const answer = app.post(id, call(5 * SLEEP))
    await clock.settle()
    answer.drop()
    return async () => clock.advance(5 * SLEEP - (clock.now() - answer.startedAt))
  },
  async 'a pending request to the client'({ app, clock }, id) {
    const stream = app.get(id)
    await clock.settle()
    const asked = app.fakes[0]?.ask(undefined, 100 * SLEEP)
    const event = await stream.event()
    return async () => {
      const { id: request } = JSON.parse(event.data) as { id: number }
      app.post(id, { jsonrpc: '2.0', id: request, result: {} })
      await asked
    }
  },
  async 'handle.request() that waits'({ app, clock }, id) {
    const stream = app.get(id)
    await clock.settle()
    const asked = app.manager.sessions.get(id)?.request('roots/list')
    const event = await stream.event()
    return async () => {
      const { id: request } = JSON.parse(event.data) as { id: number }
      app.post(id, { jsonrpc: '2.0', id: request, result: {} })
      await asked
    }
  },
  async 'keepAwake()'({ contexts }) {
    const kept = contexts[0]?.session.keepAwake()
    return async () => kept?.release()
  },
  async 'using keepAwake()'({ contexts }) {
    const kept = contexts[0]?.session.keepAwake()
    return async () => kept?.[Symbol.dispose]()
  },
  async 'the last of two keepAwake()'({ contexts }) {
    const one = contexts[0]?.session.keepAwake()
    const two = contexts[0]?.session.keepAwake()
    one?.release()
    one?.release()
    return async () => two?.release()
  },
}

test.each(Object.keys(keepers))('%s keeps it awake, and sleepAfter counts from its end', async (name) => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  await clock.advance(10)
  const finish = await keepers[name]?.(made, id)
  await clock.advance(3 * SLEEP + 17)
  expect(awake(app, id)).toBe(true)
  await finish?.()
  await clock.advance(0)
  const ended = clock.now()
  await clock.advance(SLEEP - 1)
  expect(awake(app, id), `${clock.now() - ended} ms after its end`).toBe(true)
  await clock.advance(1)
  expect(awake(app, id)).toBe(false)
  await over(made)
})

test('an open GET does not keep the instance', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  const stream = app.get(id)
  await clock.advance(SLEEP)
  expect(awake(app, id)).toBe(false)
  expect(stream.outcome).toBeUndefined()
  expect(app.manager.sessions.counts).toMatchObject({ active: 1, asleep: 1 })
  await over(made)
})

test('a hold of an instance that was let go, or of none, does nothing', async () => {
  const made = sleepApp()
  const { clock, app, contexts } = made
  const id = await app.open()
  await clock.advance(SLEEP)
  const kept: KeepAwake | undefined = contexts[0]?.session.keepAwake()
  kept?.release()
  app.post(id, call())
  await clock.settle()
  contexts[0]?.session.keepAwake()
  await clock.advance(SLEEP)
  expect(awake(app, id)).toBe(false)
  await over(made)
})

const quiet: Record<string, (app: SimApp, id: string) => SimExchange> = {
  GET: (app, id) => app.get(id),
  'GET with a cursor': (app, id) => app.get(id, { 'last-event-id': 'nonsense' }),
  ping: (app, id) => app.post(id, rpc('ping')),
  'notifications/initialized': (app, id) => app.post(id, notification('notifications/initialized')),
  'notifications/cancelled': (app, id) =>
    app.post(id, notification('notifications/cancelled', { requestId: 1 })),
  'notifications/progress': (app, id) =>
    app.post(id, notification('notifications/progress', { progressToken: 1, progress: 1 })),
  'a response': (app, id) => app.post(id, { jsonrpc: '2.0', id: 99, result: {} }),
  DELETE: (app, id) => app.delete(id),
  garbage: (app, id) => app.post(id, { no: 'JSON-RPC' }),
  'initialize with its id': (app, id) => app.post(id, rpc('initialize', {})),
}

test.each(Object.keys(quiet))('%s does not wake', async (name) => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  await clock.advance(SLEEP)
  const exchange = quiet[name]?.(app, id)
  await clock.settle()
  expect(exchange?.answeredStatus).toBeDefined()
  expect(app.fakes).toHaveLength(1)
  expect(turns(app)).toEqual({ slept: 1, woken: 0 })
  await over(made)
})

test('a notification that only the server can understand wakes it', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  await clock.advance(SLEEP)
  const accepted = app.post(id, notification('notifications/roots/list_changed'))
  await clock.settle()
  expect(accepted.status).toBe(202)
  expect(app.fakes[1]?.received.at(-1)).toMatchObject({ method: 'notifications/roots/list_changed' })
  await over(made)
})

test('a notification counts as use of the instance', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  await clock.advance(SLEEP - 1)
  app.post(id, notification('notifications/roots/list_changed'))
  await clock.advance(SLEEP - 1)
  expect(awake(app, id)).toBe(true)
  await clock.advance(1)
  expect(awake(app, id)).toBe(false)
  await over(made)
})

test('notifications/initialized that comes while it sleeps is told to the next instance', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const opened = app.post(undefined, rpc('initialize', { protocolVersion: '2025-11-25', capabilities: {} }))
  await clock.advance(SLEEP)
  const id = opened.responseHeaders['mcp-session-id'] ?? ''
  app.post(id, notification('notifications/initialized'))
  await clock.settle()
  expect(awake(app, id)).toBe(false)
  app.post(id, call())
  await clock.settle()
  expect(app.fakes[1]?.notifications.map(({ method }) => method)).toEqual(['notifications/initialized'])
  expect(app.fakes[0]?.notifications).toEqual([])
  await over(made)
})

test('a client that never sent notifications/initialized: the next instance is not told of it either', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const opened = app.post(undefined, rpc('initialize', { protocolVersion: '2025-11-25', capabilities: {} }))
  await clock.advance(SLEEP)
  app.post(opened.responseHeaders['mcp-session-id'], call())
  await clock.settle()
  expect(app.fakes[1]?.notifications).toEqual([])
  await over(made)
})

test('app.notify and handle.notify to a sleeper wait for its next GET, and go to an open one, without waking', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  await clock.advance(SLEEP)
  app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 'one' })
  app.manager.notify.toolsChanged()
  const stream = app.get(id)
  await clock.settle()
  app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 'two' })
  app.manager.notify.resourceUpdated('a:1')
  await clock.settle()
  const seen = stream.messages() as { method: string; params?: { data?: string } }[]
  expect(seen.map(({ method, params }) => params?.data ?? method)).toEqual([
    'one',
    'notifications/tools/list_changed',
    'two',
  ])
  expect(app.fakes).toHaveLength(1)
  await over(made)
})

test('resourceUpdated reaches a sleeper that subscribed', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  app.post(id, rpc('resources/subscribe', { uri: 'a:1' }))
  const stream = app.get(id)
  await clock.advance(SLEEP)
  app.manager.notify.resourceUpdated('a:1')
  await clock.settle()
  expect(stream.messages()).toMatchObject([{ method: 'notifications/resources/updated' }])
  expect(awake(app, id)).toBe(false)
  await over(made)
})

test('handle.request() asks a sleeping client without waking it', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  const stream = app.get(id)
  await clock.advance(SLEEP)
  const asked = app.manager.sessions.get(id)?.request('roots/list')
  const { id: request } = JSON.parse((await stream.event()).data) as { id: number }
  app.post(id, { jsonrpc: '2.0', id: request, result: { roots: [] } })
  expect(await asked).toEqual({ roots: [] })
  expect(app.fakes).toHaveLength(1)
  await over(made)
})

test('session.data, principal and client are as before; a change from outside is seen', async () => {
  const made = sleepApp({}, ({ session }) => {
    const { count = 0 } = session.data as { count?: number }
    session.data = { count: count + 1 }
    return {}
  })
  const { clock, app, contexts } = made
  const id = await app.open()
  await clock.advance(SLEEP)
  const handle = app.manager.sessions.get(id)
  expect(handle?.data).toEqual({ count: 1 })
  if (handle !== undefined) handle.data = { count: 10 }
  app.post(id, call())
  await clock.settle()
  expect(handle?.data).toEqual({ count: 11 })
  expect(contexts[1]?.session.client).toEqual({ name: 'wire', version: '1' })
  expect(contexts[1]?.session.id).toBe(id)
  await over(made)
})

test('instanceSignal aborts at sleep with the reason sleep, session.signal only at the end', async () => {
  const made = sleepApp()
  const { clock, app, contexts } = made
  const id = await app.open()
  const first = contexts[0]
  const signals = [first?.instanceSignal, first?.session.signal]
  await clock.advance(SLEEP)
  expect(signals.map((signal) => signal?.aborted)).toEqual([true, false])
  expect(signals[0]?.reason).toBe('sleep')
  app.post(id, call())
  await clock.settle()
  const second = contexts[1]
  expect(second?.instanceSignal.aborted).toBe(false)
  app.manager.sessions.close(id)
  expect([second?.instanceSignal.reason, second?.session.signal.reason, signals[1]?.reason]).toEqual([
    'admin',
    'admin',
    'admin',
  ])
  await over(made)
})

test('a signal first looked at after the sleep is aborted already', async () => {
  const made = sleepApp()
  await made.app.open()
  await made.clock.advance(SLEEP)
  expect(made.contexts[0]?.instanceSignal.reason).toBe('sleep')
  await over(made)
})

test('maxAwake: the idlest sleep first, those at work stay, and are asked again when they are done', async () => {
  const made = sleepApp({ sleepAfter: Infinity, maxAwake: 2 })
  const { clock, app } = made
  const first = await app.open()
  await clock.advance(10)
  const second = await app.open()
  await clock.advance(10)
  app.post(first, call(500))
  await clock.advance(10)
  const third = await app.open()
  await clock.advance(0)
  expect([first, second, third].map((id) => awake(app, id))).toEqual([true, false, true])
  app.post(third, call(500))
  const fourth = await app.open()
  app.post(fourth, call(500))
  await clock.advance(0)
  // All three work: more than maxAwake for as long as that lasts.
  expect(app.manager.sessions.counts).toMatchObject({ awake: 3, asleep: 1 })
  await clock.advance(600)
  expect([first, second, third, fourth].map((id) => awake(app, id))).toEqual([false, false, true, true])
  await over(made)
})

test('maxAwake: whatever kept one awake may be the client, or its author', async () => {
  const made = sleepApp({ sleepAfter: Infinity, maxAwake: 1 })
  const { clock, app, contexts } = made
  const first = await app.open()
  const stream = app.get(first)
  await clock.settle()
  const asked = app.fakes[0]?.ask(undefined, 1e6)
  const { id: request } = JSON.parse((await stream.event()).data) as { id: number }
  const second = await app.open()
  const kept = contexts[1]?.session.keepAwake()
  await clock.advance(0)
  expect(app.manager.sessions.counts).toMatchObject({ awake: 2 })
  app.post(first, { jsonrpc: '2.0', id: request, result: {} })
  await asked
  await clock.advance(0)
  expect([awake(app, first), awake(app, second)]).toEqual([false, true])
  const third = await app.open()
  await clock.advance(0)
  kept?.release()
  await clock.advance(0)
  expect(app.manager.sessions.counts).toMatchObject({ awake: 1 })
  expect(awake(app, third)).toBe(false)
  await over(made)
})

test('maxAwake: sessions with hooks that take their time sleep no further than needed', async () => {
  const hooks: Deferred<void>[] = []
  const made = sleepApp({ sleepAfter: Infinity, maxAwake: 3 }, (context) => {
    const gate = deferred()
    hooks.push(gate)
    context.onSleep(() => gate.promise)
    return {}
  })
  const { clock, app } = made
  const ids: string[] = []
  for (let n = 0; n < 4; n++) {
    ids.push(await app.open())
    await clock.advance(1)
  }
  await clock.advance(10)
  for (const gate of hooks) gate.resolve()
  await clock.advance(10)
  expect(ids.map((id) => awake(app, id))).toEqual([false, true, true, true])
  await over(made)
})

test('a sleeping session expires on time, with the reason idle, once', async () => {
  const made = sleepApp({ sessionIdleTimeout: 10 * SLEEP })
  const { clock, app } = made
  const id = await app.open()
  app.post(id, call())
  await clock.settle()
  const idleFrom = clock.now()
  await clock.advanceTo(idleFrom + 10 * SLEEP - 1)
  expect([app.manager.sessions.size, awake(app, id)]).toEqual([1, false])
  await clock.advance(1)
  expect(app.closings(id)).toEqual(['idle'])
  const gone = app.post(id, call())
  await clock.settle()
  expect(gone.status).toBe(404)
  expect(app.fakes).toHaveLength(1)
  await over(made)
})

test('sessionMaxAge ends a sleeper', async () => {
  const made = sleepApp({ sessionMaxAge: 5 * SLEEP })
  const id = await made.app.open()
  await made.clock.advance(5 * SLEEP)
  expect(made.app.closings(id)).toEqual(['max-age'])
  await over(made)
})

test('streams outlive the instance: what was sent before, during and after a sleep is resumed once and in order', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  const stream = app.get(id)
  await clock.settle()
  void app.fakes[0]?.broadcast()
  await clock.settle()
  const cursor = (await stream.event()).id ?? ''
  stream.drop()
  await clock.settle()
  void app.fakes[0]?.broadcast()
  await clock.advance(SLEEP)
  app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 'asleep' })
  app.post(id, call(0, { broadcasts: 1 }))
  await clock.settle()
  const again = app.get(id, { 'last-event-id': cursor })
  await clock.settle()
  void app.fakes[1]?.broadcast()
  await clock.settle()
  const data = (again.messages() as { params: { data: string | { tag: string; n: number } } }[]).map(
    ({ params }) => (typeof params.data === 'string' ? params.data : `${params.data.tag} ${params.data.n}`),
  )
  expect(data).toEqual(['fake-1 2', 'asleep', 'fake-2 1', 'fake-2 2'])
  await over(made)
})

test('the end of a POST stream can be fetched after the instance that wrote it is gone', async () => {
  const made = sleepApp({ responseMode: 'sse' })
  const { clock, app } = made
  const id = await app.open()
  const answer = app.post(id, call(100, { progress: { count: 1, every: 20 } }))
  await clock.advance(30)
  const progress = await answer.event()
  answer.drop()
  await clock.advance(200 + SLEEP)
  expect(awake(app, id)).toBe(false)
  const resumed = app.get(id, { 'last-event-id': progress.id })
  await clock.settle()
  expect(resumed.messages()).toMatchObject([{ id: 'q1', result: { tag: 'fake-1' } }])
  expect(app.fakes).toHaveLength(1)
  // Streams that follow have numbers of their own.
  const next = app.post(id, call(0, {}, 'q2'))
  await clock.settle()
  const streamOf = (cursor: string | undefined): string | undefined => cursor?.split('.')[1]
  expect(next.events.map((event) => streamOf(event.id))).not.toContain(streamOf(progress.id))
  await over(made)
})

test('ids of requests to the client never repeat, and an answer to the instance before is dropped', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  const stream = app.get(id)
  await clock.settle()
  const ids: number[] = []
  for (let n = 0; n < 3; n++) {
    // Two of each instance: one is given up with its instance's own cancellation, one is answered.
    const fake = app.fakes.at(-1)
    const seen = stream.events.length
    void fake?.ask(undefined, 1e6).catch(() => {})
    await clock.settle()
    const asked = JSON.parse(stream.events.at(-1)?.data ?? '') as { id: number }
    expect(stream.events.length).toBe(seen + 1)
    ids.push(asked.id)
    app.post(id, { jsonrpc: '2.0', id: asked.id, result: {} })
    await clock.advance(SLEEP)
    expect(awake(app, id)).toBe(false)
    app.post(id, { jsonrpc: '2.0', id: asked.id, result: {} })
    app.post(id, call(0, {}, `next ${n}`))
    await clock.settle()
    for (const old of ids) app.post(id, { jsonrpc: '2.0', id: old, result: { late: true } })
    await clock.settle()
    expect(app.fakes.at(-1)?.strayResponses).toEqual([])
    expect(app.fakes.at(-1)?.received.filter((message) => 'result' in message)).toEqual([])
  }
  expect(new Set(ids).size).toBe(3)
  await over(made)
})

test('what an instance says after it was let go reaches nobody: notifications vanish, requests are refused', async () => {
  const made = sleepApp()
  const { clock, app } = made
  const id = await app.open()
  const stream = app.get(id)
  await clock.settle()
  const transport = app.fakes[0]?.transport
  await clock.advance(SLEEP)
  const say = async (): Promise<void> => {
    await transport?.send({ jsonrpc: '2.0', method: 'notifications/message', params: { data: 'late' } })
    await transport?.send({ jsonrpc: '2.0', id: 'q1', result: { late: true } })
    await expect(
      transport?.send({ jsonrpc: '2.0', id: 0, method: 'elicitation/create' }),
    ).rejects.toMatchObject({ code: 'session-closed' })
    await transport?.close()
  }
  await say()
  const answer = app.post(id, call(100))
  await clock.settle()
  await say()
  await clock.advance(200)
  expect(answer.messages()).toMatchObject([{ id: 'q1', result: { tag: 'fake-2' } }])
  expect(stream.messages()).toEqual([])
  expect([awake(app, id), app.closings(id)]).toEqual([true, []])
  await over(made)
})

test('authInfo of the request that wakes reaches the factory', async () => {
  const made = sleepApp()
  const { clock, app, contexts } = made
  const auth = (token: string): object => ({
    token,
    clientId: 'c',
    scopes: [],
    extra: { iss: 'i', sub: 'ann' },
  })
  const send = async (message: object, token: string, session?: string): Promise<SimExchange> => {
    const exchange = app.send({
      headers: {
        host: 'localhost',
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-session-id': session,
      },
      body: JSON.stringify(message),
      authInfo: auth(token) as never,
    })
    await clock.settle()
    return exchange
  }
  const opened = await send(
    rpc('initialize', {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'a', version: '1' },
    }),
    'one',
  )
  const id = opened.responseHeaders['mcp-session-id']
  await clock.advance(SLEEP)
  const answer = await send(call(), 'two', id)
  expect(answer.status).toBe(200)
  expect(contexts.map(({ authInfo }) => authInfo?.token)).toEqual(['one', 'two'])
  expect(contexts[1]?.session.principal).toBe(contexts[0]?.session.principal)
  expect(contexts[1]?.requestInfo?.headers.get('mcp-session-id')).toBe(id)
  // Somebody else wakes nothing.
  await clock.advance(SLEEP)
  const foreign = app.post(id, call())
  await clock.settle()
  expect([foreign.status, app.fakes.length]).toEqual([404, 2])
  await over(made)
})

test('closing an app with sleeping sessions, and one with sessions that are all awake', async () => {
  const made = sleepApp()
  for (let n = 0; n < 50; n++) await made.app.open()
  await made.clock.advance(SLEEP)
  const awakeOnes = [await made.app.open(), await made.app.open()]
  expect(made.app.manager.sessions.counts).toMatchObject({ total: 52, awake: 2, asleep: 50 })
  await over(made)
  expect(awakeOnes.flatMap((id) => made.app.closings(id))).toEqual(['shutdown', 'shutdown'])
})

test('a drain lets a call finish that had to wake its session', async () => {
  const made = sleepApp({}, ({ session }) => (session.restored ? made.clock.sleep(50).then(() => ({})) : {}))
  const { clock, app } = made
  const id = await app.open()
  const other = await app.open()
  await clock.advance(SLEEP)
  app.post(other, call(300))
  await clock.advance(60)
  const closed = app.manager.close({ drain: '10s' })
  const answer = app.post(id, call(100))
  await clock.advance(400)
  await clock.advance(10_000)
  await closed
  expect(answer.messages()).toMatchObject([{ result: { tag: 'fake-4' } }])
  expect(app.leftovers()).toEqual([])
})
