/** What a session is after a restart: the same one, for its owner and for nobody else. Promises 3, 5 and 9. */

import { describe, expect, test } from 'vitest'

import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import { MemorySessionStore } from '../../src/store/memory-store.ts'
import type { AuthInfo } from '../../src/types.ts'
import { initialize, notification, rpc } from '../support/mcp-wire.ts'
import type { SimExchange } from '../support/sim-exchange.ts'
import { authenticateByName } from '../support/wire-app.ts'
import { call, ENDS, Incarnations } from './incarnations.ts'

const authenticate = (request: Request): AuthInfo | undefined => authenticateByName(request)
const ANN = { authorization: 'Bearer ann' }
const BOB = { authorization: 'Bearer bob' }

/** Everything that a client gets of an answer. */
function bytes(exchange: SimExchange): unknown {
  return { status: exchange.status, headers: exchange.responseHeaders, text: exchange.text }
}

describe.each(ENDS)('after a %s', (how) => {
  test('a session answers under its id, and its server is told what the one before was told', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    line.app.post(id, rpc('logging/setLevel', { level: 'warning' }))
    line.app.post(id, rpc('resources/subscribe', { uri: 'a:1' }))
    line.app.post(id, rpc('resources/subscribe', { uri: 'a:2' }))
    await clock.settle()
    line.app.post(id, rpc('resources/unsubscribe', { uri: 'a:1' }))
    await clock.settle()
    const app = await line.restart(how, 1000)
    expect(app.manager.sessions.counts).toMatchObject({ total: 1, asleep: 1, awake: 0 })
    expect(app.fakes).toEqual([])
    const answer = app.post(id, call(0, {}, 7))
    await clock.settle()
    expect([answer.status, answer.json()]).toMatchObject([200, { id: 7, result: { tag: 'fake-1' } }])
    expect(app.fakes[0]?.received).toMatchObject([
      { method: 'initialize', params: { clientInfo: { name: 'wire', version: '1' } } },
      { method: 'notifications/initialized' },
      { method: 'logging/setLevel', params: { level: 'warning' } },
      { method: 'resources/subscribe', params: { uri: 'a:2' } },
      { method: 'tools/call' },
    ])
    expect(line.contexts.map(({ session }) => session.restored)).toEqual([false, true])
    expect(app.manager.sessions.get(id)?.id).toBe(id)
  })

  test('session.data is what the last answered request made of it', async () => {
    const line = new Incarnations({}, ({ session }) => ({
      oncall: () => {
        session.data = { calls: ((session.data as { calls?: number }).calls ?? 0) + 1 }
      },
    }))
    const id = await line.app.open()
    for (let n = 0; n < 3; n++) {
      const answer = line.app.post(id, call())
      await line.clock.settle()
      expect(answer.status).toBe(200)
    }
    await line.restart(how)
    line.app.post(id, call())
    await line.clock.settle()
    expect(line.contexts.at(-1)?.session.data).toEqual({ calls: 4 })
  })

  test('a session whose client did not finish the handshake still can', async () => {
    const line = new Incarnations()
    const opening = line.app.post(undefined, initialize())
    await line.clock.settle()
    const id = opening.responseHeaders['mcp-session-id'] ?? ''
    await line.restart(how)
    const accepted = line.app.post(id, notification('notifications/initialized'))
    const answer = line.app.post(id, call())
    await line.clock.settle()
    expect([accepted.status, answer.status]).toEqual([202, 200])
    expect(line.app.fakes[0]?.received).toMatchObject([
      { method: 'initialize' },
      { method: 'notifications/initialized' },
      { method: 'tools/call' },
    ])
  })

  test("another principal's id is an unknown one to the byte, on every method; its owner goes on", async () => {
    const line = new Incarnations({ authenticate })
    const { clock } = line
    const id = await line.app.open(ANN)
    const stream = line.app.get(id, ANN)
    await clock.settle()
    await line.app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 1 })
    const cursor = (await stream.event()).id
    const app = await line.restart(how)
    const unknown = 'A'.repeat(id.length)
    for (const [foreign, nobodys] of [
      [app.post(id, call(), BOB), app.post(unknown, call(), BOB)],
      [app.get(id, BOB), app.get(unknown, BOB)],
      [
        app.get(id, { ...BOB, 'last-event-id': cursor }),
        app.get(unknown, { ...BOB, 'last-event-id': cursor }),
      ],
      [app.delete(id, BOB), app.delete(unknown, BOB)],
      [app.post(id, call()), app.post(unknown, call())],
    ] as const) {
      await clock.settle()
      expect(foreign.status).toBe(404)
      expect(bytes(foreign)).toEqual(bytes(nobodys))
    }
    const own = app.post(id, call(), ANN)
    await clock.settle()
    expect(own.status).toBe(200)
    // The cursor of one session is none of another's, whoever owns that.
    const bobs = await app.open(BOB)
    const stolen = app.get(bobs, { ...BOB, 'last-event-id': cursor })
    const garbage = app.get(bobs, { ...BOB, 'last-event-id': 'nonsense' })
    await clock.settle()
    expect(stolen.status).toBe(400)
    expect(bytes(stolen)).toEqual(bytes(garbage))
  })

  test('what ended stays ended', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    const deleted = line.app.delete(id)
    await clock.settle()
    expect([deleted.status, line.store.size]).toEqual([200, 0])
    const app = await line.restart(how)
    const answer = app.post(id, call())
    await clock.settle()
    expect([answer.status, app.manager.sessions.size]).toEqual([404, 0])
  })

  test('a server with other capabilities goes on, and the client is told to look again', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    if (how === 'crash') line.crash()
    else await line.stop()
    const app = await line.start({}, () => ({
      capabilities: { tools: { listChanged: true }, prompts: { listChanged: true } },
    }))
    const stream = app.get(id)
    await clock.settle()
    expect(stream.messages()).toEqual([])
    const answer = app.post(id, call())
    await clock.settle()
    expect(answer.status).toBe(200)
    expect(stream.messages()).toMatchObject([
      { method: 'notifications/tools/list_changed' },
      { method: 'notifications/prompts/list_changed' },
    ])
    // Once is enough: the next restart finds the same server. What a connection took is written within a second.
    await clock.advance(1000)
    await line.restart(how)
    const again = line.app.get(id)
    const second = line.app.post(id, call())
    await clock.settle()
    expect(second.status).toBe(200)
    expect(again.messages()).toEqual([])
  })

  test('a server that speaks another version ends the session with 404, for good', async () => {
    const line = new Incarnations()
    const id = await line.app.open()
    if (how === 'crash') line.crash()
    else await line.stop()
    const app = await line.start({}, () => ({ versions: ['2025-06-18'] }))
    const answer = app.post(id, call())
    await line.clock.settle()
    expect([answer.status, app.closings(id), line.store.size]).toEqual([404, ['failed'], 0])
  })

  test('a factory that fails leaves the session asleep: 503, and 200 once it works', async () => {
    let works = false
    const line = new Incarnations({}, ({ session }) => {
      if (session.restored && !works) throw new Error('no database')
      return {}
    })
    const { clock } = line
    const id = await line.app.open()
    const app = await line.restart(how)
    const failed = app.post(id, call())
    await clock.settle()
    expect([failed.status, failed.json()]).toMatchObject([503, { error: { code: -32603 } }])
    works = true
    await clock.advance(1000)
    const answer = app.post(id, call())
    await clock.settle()
    expect(answer.status).toBe(200)
  })

  test('sessions keep their places and owners keep to their limit; ids never repeat', async () => {
    const line = new Incarnations({ authenticate, maxSessions: 2 })
    const { clock } = line
    const ids = [await line.app.open(ANN), await line.app.open(BOB)]
    line.app.post(ids[0], call(), ANN)
    line.app.post(ids[1], call(), BOB)
    await clock.settle()
    const app = await line.restart(how)
    const third = app.post(undefined, initialize())
    await clock.settle()
    expect(third.status).toBe(503)
    // Ann may give up her own.
    const own = app.post(undefined, initialize(), ANN)
    await clock.settle()
    expect(own.status).toBe(200)
    expect(ids).not.toContain(own.responseHeaders['mcp-session-id'])
    const bobs = app.post(ids[1], call(), BOB)
    const anns = app.post(ids[0], call(), ANN)
    await clock.settle()
    expect([bobs.status, anns.status]).toEqual([200, 404])
  })

  test('numbers of requests to the client never repeat, and an answer to an old one goes nowhere', async () => {
    const line = new Incarnations()
    const { clock } = line
    const asks = new Set<number>()
    let id: string | undefined
    for (let round = 0; round < 4; round++) {
      id ??= await line.app.open()
      const stream = line.app.get(id)
      line.app.post(id, call(0, { ask: { related: false, timeout: 60_000 } }))
      await clock.settle()
      const [asked] = stream.messages().filter((message) => (message as { id?: number }).id !== undefined)
      const number = (asked as { id: number }).id
      expect(asks.has(number)).toBe(false)
      for (const old of asks) line.app.post(id, { jsonrpc: '2.0', id: old, result: {} })
      await clock.settle()
      expect(line.app.fakes[0]?.calls[0]?.asked).toBeUndefined()
      asks.add(number)
      await clock.advance(1000)
      await line.restart(how)
    }
  })
})

test('at a shutdown the sessions of a store sleep: nothing tells of an end, and hooks run', async () => {
  const line = new Incarnations({}, (context) => {
    context.onSleep(() => {
      context.session.data = { saved: 'by the hook' }
    })
    return {}
  })
  const { clock, app } = line
  const id = await app.open()
  await line.stop()
  expect(app.closings(id)).toEqual([])
  expect(app.events.filter(({ type }) => type === 'session.slept')).toHaveLength(1)
  expect(app.fakes[0]?.closedAt).toBeDefined()
  expect(clock.pending).toBe(0)
  for (const late of [
    app.post(id, call()),
    app.get(id),
    app.delete(id),
    app.post('unknown', call()),
    app.post(undefined, initialize()),
  ]) {
    await clock.settle()
    expect([late.status, late.responseHeaders['mcp-session-id']]).toEqual([503, undefined])
  }
  await line.start()
  line.app.post(id, call())
  await clock.settle()
  expect(line.contexts.at(-1)?.session.data).toEqual({ saved: 'by the hook' })
})

test('what a session left in order, three processes later', async () => {
  const line = new Incarnations()
  const id = await line.app.open()
  for (const how of ['stop', 'crash', 'stop', 'crash'] as const) {
    await line.restart(how, 500)
    const answer = line.app.post(id, call())
    await line.clock.settle()
    expect(answer.status).toBe(200)
  }
  // One that nobody asked anything of passes through as well.
  for (const how of ['stop', 'crash', 'stop'] as const) await line.restart(how, 500)
  const answer = line.app.post(id, call())
  await line.clock.settle()
  expect(answer.status).toBe(200)
})

test('a store with stateless is refused when the app is made', () => {
  expect(
    () =>
      new StreamableHTTPSessionManager(() => ({}) as never, {
        stateless: true,
        store: new MemorySessionStore(),
      }),
  ).toThrow(/stateless/)
})
