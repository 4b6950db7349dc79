/** A store that is slow, fails, waits, or is lost: what is said to clients, and what is not said before it is true. Promise 3. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { describe, expect, onTestFinished, test } from 'vitest'

import { httpApp } from '../../src/http-app.ts'
import { runHttp } from '../../src/run-http.ts'
import { MemorySessionStore } from '../../src/store/memory-store.ts'
import { within } from '../support/deferred.ts'
import { initialize, notification, rpc } from '../support/mcp-wire.ts'
import { SDKS } from '../support/sdk-servers.ts'
import type { SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { authenticateByName } from '../support/wire-app.ts'
import { call, Incarnations } from './incarnations.ts'

const FAILS = { error: { code: -32603, message: expect.stringContaining('stor') } }

/** A line whose tool counts its calls in session.data. */
function counting(): Incarnations {
  return new Incarnations({}, ({ session }) => ({
    oncall: ({ plan }) => {
      if (plan === undefined || plan.padding !== undefined) return
      session.data = { calls: ((session.data as { calls?: number }).calls ?? 0) + 1 }
    },
  }))
}

/** A call that changes nothing. */
const idleCall = (id?: string): object => call(0, { padding: 1 }, id)

function data(line: Incarnations): unknown {
  return line.contexts.at(-1)?.session.data
}

function expectUnavailable(exchange: SimExchange): void {
  expect([exchange.status, exchange.responseHeaders['mcp-session-id']]).toEqual([503, undefined])
  expect(exchange.json()).toMatchObject({ jsonrpc: '2.0', error: { code: expect.any(Number) } })
}

async function ended(line: Incarnations, exchange: SimExchange): Promise<SimExchange> {
  await line.clock.settle()
  return exchange
}

describe('a slow store', () => {
  test('session.data changed by a call is there before its answer goes out', async () => {
    const line = counting()
    const id = await line.app.open()
    line.app.post(id, idleCall())
    await line.clock.settle()
    const release = line.hold()
    const answer = line.app.post(id, call())
    const quiet = line.app.post(id, rpc('tools/list'))
    await line.clock.advance(20)
    expect(data(line)).toEqual({ calls: 1 })
    expect(answer.answeredAt).toBeUndefined()
    release()
    await line.clock.settle()
    expect([answer.status, quiet.status]).toEqual([200, 200])
  })

  test('on a stream as well: what was reported goes out, the answer waits', async () => {
    const line = counting()
    const id = await line.app.open()
    const answer = line.app.post(id, call(100, { progress: { count: 1, every: 50 } }))
    await line.clock.advance(60)
    const release = line.hold()
    await line.clock.advance(500)
    // The change was written by the tick meanwhile, or not: the result is not out either way.
    expect(answer.messages()).toHaveLength(1)
    release()
    await line.clock.settle()
    expect(answer.messages()).toHaveLength(2)
    expect(answer.outcome).toBe('completed')
  })

  test('a killed process has answered nothing that the next one does not know', async () => {
    const line = counting()
    const id = await line.app.open()
    line.app.post(id, call())
    await line.clock.settle()
    line.store.fail('The disk is gone.')
    const answer = line.app.post(id, call())
    await line.clock.settle()
    expect(answer.status).toBe(503)
    await line.restart('crash')
    line.app.post(id, call())
    await line.clock.settle()
    expect(data(line)).toEqual({ calls: 2 })
  })

  test('notifications/initialized is answered when it is kept', async () => {
    const line = new Incarnations()
    const opening = line.app.post(undefined, initialize())
    await line.clock.settle()
    const id = opening.responseHeaders['mcp-session-id']
    const release = line.hold()
    const accepted = line.app.post(id, notification('notifications/initialized'))
    await line.clock.settle()
    expect(accepted.answeredAt).toBeUndefined()
    release()
    await line.clock.settle()
    expect(accepted.status).toBe(202)
  })

  test('a session is opened when it is kept', async () => {
    const line = new Incarnations()
    await line.clock.settle()
    const release = line.hold()
    const opening = line.app.post(undefined, initialize())
    await line.clock.advance(1000)
    expect([opening.answeredAt, line.app.manager.sessions.size]).toEqual([undefined, 0])
    release()
    await line.clock.settle()
    expect(opening.status).toBe(200)
  })

  test('the client that went away meanwhile leaves no session, here or in the store', async () => {
    const line = new Incarnations()
    await line.clock.settle()
    const release = line.hold()
    const opening = line.app.post(undefined, initialize())
    await line.clock.advance(10)
    opening.drop()
    await line.clock.settle()
    release()
    await line.clock.settle()
    expect([line.app.manager.sessions.size, line.store.size]).toEqual([0, 0])
    expect(line.app.manager.sessions.counts.opening).toBe(0)
  })

  test('a close is durable before anybody is told that the session is unknown', async () => {
    const line = new Incarnations()
    const id = await line.app.open()
    const release = line.hold()
    const deleted = line.app.delete(id)
    await line.clock.settle()
    const late = [line.app.post(id, call()), line.app.get(id), line.app.delete(id)]
    const other = line.app.post('unknown', call())
    await line.clock.advance(100)
    expect([deleted, ...late].map(({ answeredAt }) => answeredAt)).toEqual(Array(4).fill(undefined))
    expect(other.status).toBe(404)
    release()
    await line.clock.settle()
    expect([deleted, ...late].map(({ status }) => status)).toEqual([200, 404, 404, 404])
  })
})

describe('a store that fails', () => {
  test('a call that changed something gets 503 -32603, and the next request commits', async () => {
    const line = counting()
    const id = await line.app.open()
    line.app.post(id, idleCall())
    await line.clock.settle()
    line.store.fail('The disk is full.')
    const failed = line.app.post(id, call(0, {}, 'a'))
    await line.clock.settle()
    expect([failed.status, failed.json()]).toMatchObject([503, { id: 'a', ...FAILS }])
    expect(failed.responseHeaders['retry-after']).toBe('1')
    line.store.recover()
    const next = line.app.post(id, idleCall())
    await line.clock.settle()
    expect(next.status).toBe(200)
    await line.restart('crash')
    line.app.post(id, idleCall())
    await line.clock.settle()
    expect(data(line)).toEqual({ calls: 1 })
  })

  test('on a stream the error comes in place of the answer', async () => {
    const line = counting()
    const id = await line.app.open()
    line.app.post(id, idleCall())
    await line.clock.settle()
    line.store.fail('The disk is full.')
    const answer = line.app.post(id, call(50, { progress: { count: 1, every: 10 } }, 'a'))
    await line.clock.advance(100)
    expect(answer.messages()).toMatchObject([{ params: { progress: 1 } }, { id: 'a', ...FAILS }])
    expect(answer.outcome).toBe('completed')
  })

  test('initialize gets 503, no id and no session', async () => {
    const line = new Incarnations()
    await line.clock.settle()
    line.store.fail('The disk is full.')
    const opening = line.app.post(undefined, initialize())
    await line.clock.settle()
    expectUnavailable(opening)
    expect(opening.json()).toMatchObject(FAILS)
    expect(line.app.manager.sessions.counts).toMatchObject({ total: 0, opening: 0 })
    line.store.recover()
    await line.clock.advance(1000)
    expect(line.store.size).toBe(0)
    await line.app.open()
    expect(line.store.size).toBe(1)
  })

  test('a ping is answered though a change of its session is not stored yet', async () => {
    const line = counting()
    const id = await line.app.open()
    line.store.fail('The disk is full.')
    const changing = line.app.post(id, call())
    await line.clock.settle()
    const ping = line.app.post(id, rpc('ping'))
    await line.clock.settle()
    expect([changing.status, ping.status]).toEqual([503, 200])
  })

  test('calls that change nothing, GETs and pings do not notice', async () => {
    const line = counting()
    const { clock } = line
    const id = await line.app.open()
    line.app.post(id, idleCall())
    await clock.settle()
    line.store.fail('The disk is full.')
    const answers: SimExchange[] = []
    const stream = line.app.get(id)
    for (let second = 0; second < 10; second++) {
      answers.push(line.app.post(id, idleCall()), line.app.post(id, rpc('ping')))
      answers.push(line.app.post(id, call(0, { padding: 1, progress: { count: 1, every: 0 } })))
      await clock.advance(1000)
    }
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200))
    line.app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 1 })
    await clock.settle()
    expect([stream.outcome, stream.messages()]).toMatchObject([undefined, [{ params: { data: 1 } }]])
    expect(line.logs.filter(({ message }) => message.includes('store fails'))).toHaveLength(1)
  })

  test('a close is 503 to everyone until the store has it, then 404', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    line.store.fail('The disk is full.')
    const deleted = line.app.delete(id)
    await clock.settle()
    expectUnavailable(deleted)
    for (const late of [line.app.post(id, call()), line.app.get(id), line.app.delete(id)]) {
      await clock.settle()
      expectUnavailable(late)
    }
    line.store.recover()
    await clock.advance(1000)
    const after = line.app.post(id, call())
    await clock.settle()
    expect([after.status, line.store.size]).toEqual([404, 0])
  })

  test('to a stranger a session whose end the store did not take is an unknown one', async () => {
    const line = new Incarnations({ authenticate: (request) => authenticateByName(request) })
    const [ann, bob] = [{ authorization: 'Bearer ann' }, { authorization: 'Bearer bob' }]
    const id = await line.app.open(ann)
    line.store.fail('The disk is full.')
    line.app.delete(id, ann)
    await line.clock.settle()
    const stranger = [line.app.post(id, call(), bob), line.app.get(id, bob), line.app.delete(id, bob)]
    const owner = line.app.post(id, call(), ann)
    await line.clock.settle()
    expect(stranger.map(({ status }) => status)).toEqual([404, 404, 404])
    expect(owner.status).toBe(503)
  })

  test('a close that the store never heard of is none: the next process has the session', async () => {
    const line = new Incarnations({ sessionIdleTimeout: 60_000 })
    const id = await line.app.open()
    line.app.post(id, call())
    await line.clock.advance(59_000)
    line.store.fail('The disk is full.')
    await line.clock.advance(2_000)
    expect(line.app.closings(id)).toEqual(['idle'])
    const late = line.app.post(id, call())
    await line.clock.settle()
    expectUnavailable(late)
    // Its time is over there as well: it was never told of as unknown, and is so from now on.
    await line.restart('crash')
    await line.clock.advance(6_000)
    const after = line.app.post(id, call())
    await line.clock.settle()
    expect([after.status, line.store.size]).toEqual([404, 0])
  })

  test('a close that the store did not take is told to it again at the stop', async () => {
    const line = new Incarnations()
    const id = await line.app.open()
    line.store.fail('The disk is full.')
    expectUnavailable(await ended(line, line.app.delete(id)))
    line.store.recover()
    await line.restart('stop')
    const after = await ended(line, line.app.post(id, call()))
    expect([after.status, line.store.size]).toEqual([404, 0])
  })

  test('a close that the store did not take leaves the session its events', async () => {
    const line = new Incarnations()
    const id = await line.app.open()
    const stream = line.app.get(id)
    line.app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 1 })
    await line.clock.settle()
    const [primed, event] = stream.events
    line.store.delete = () => Promise.reject(new Error('The disk was full for a moment.'))
    expectUnavailable(await ended(line, line.app.delete(id)))
    await line.restart('crash')
    const after = line.app.get(id, { 'last-event-id': event?.id })
    const again = line.app.get(id, { 'last-event-id': primed?.id })
    await line.clock.settle()
    expect([after.status, again.status]).toEqual([200, 200])
    expect(again.messages()).toMatchObject([{ params: { data: 1 } }])
  })

  test('whose file was deleted, and whose process died then, knows where clients of a GET are', async () => {
    const line = counting()
    const { clock } = line
    const id = await line.app.open()
    const stream = line.app.get(id)
    await clock.settle()
    for (const n of [1, 2])
      line.app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: n })
    await clock.settle()
    const [, first, last] = stream.events
    stream.drop()
    line.store.fail('The file is gone.')
    line.store.recover(true)
    await clock.advance(1000)
    await line.restart('crash')
    const gap = line.app.get(id, { 'last-event-id': first?.id })
    await clock.settle()
    const after = line.app.get(id, { 'last-event-id': last?.id })
    await clock.settle()
    expect([gap.status, after.status, after.messages()]).toEqual([200, 200, []])
    expect(gap.messages()).toContainEqual({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
    line.app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 3 })
    await clock.settle()
    expect(after.messages()).toMatchObject([{ params: { data: 3 } }])
  })

  test('whose file was deleted is filled again, and streams say that something is missing', async () => {
    const line = counting()
    const { clock } = line
    const id = await line.app.open()
    const stream = line.app.get(id)
    line.app.post(id, call())
    await clock.settle()
    line.app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 1 })
    line.app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 2 })
    await clock.settle()
    const cursor = stream.events.find(({ data }) => data !== '')?.id
    stream.drop()
    line.store.fail('The file is gone.')
    line.store.recover(true)
    const resumed = line.app.get(id, { 'last-event-id': cursor })
    await clock.advance(1000)
    expect(resumed.messages()).toMatchObject([
      { method: 'notifications/tools/list_changed' },
      { method: 'notifications/resources/list_changed' },
    ])
    await line.restart('crash')
    line.app.post(id, call())
    await clock.settle()
    expect(data(line)).toEqual({ calls: 2 })
  })
})

describe('a store that another process has', () => {
  test('the second app refuses with 503 and Retry-After, and takes over when the first is closed', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    const { app: second } = line.rival()
    await within(second.manager.opened, 'opened')
    expect([line.app.manager.ready, second.manager.ready]).toEqual([true, false])
    for (const refused of [
      second.post(undefined, initialize()),
      second.post(id, call()),
      second.get(id),
      second.delete(id),
      second.post('unknown', call()),
    ]) {
      await clock.settle()
      expectUnavailable(refused)
      expect(refused.responseHeaders['retry-after']).toBeDefined()
    }
    const here = line.app.post(id, call())
    await clock.settle()
    expect(here.status).toBe(200)
    await line.stop()
    await clock.settle()
    expect(second.manager.ready).toBe(true)
    const there = second.post(id, call())
    await clock.settle()
    expect(there.status).toBe(200)
    expect(line.logs.filter(({ message }) => message.includes('another process owns'))).toHaveLength(1)
  })

  test('a waiting app can be closed', async () => {
    const line = new Incarnations()
    await line.clock.settle()
    const { app: second } = line.rival()
    await line.clock.settle()
    await within(second.manager.close(), 'close()')
    const late = second.post('unknown', call())
    await line.clock.settle()
    expectUnavailable(late)
    expect(line.app.manager.ready).toBe(true)
  })

  test('an app that lost its store stops serving: 503 on everything, streams end, calls are answered', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    const stream = line.app.get(id)
    const running = line.app.post(id, call(60_000, { progress: { count: 1, every: 50 } }))
    await clock.advance(100)
    const { app: second } = line.rival()
    await clock.settle()
    line.store.lose()
    await clock.settle()
    expect(line.app.manager.ready).toBe(false)
    expect([stream.outcome, running.outcome]).toEqual(['completed', 'completed'])
    expect(running.messages().at(-1)).toMatchObject({ id: 'q1', error: {} })
    for (const refused of [
      line.app.post(undefined, initialize()),
      line.app.post(id, call()),
      line.app.get(id),
      line.app.delete(id),
    ]) {
      await clock.settle()
      expectUnavailable(refused)
    }
    expect(line.app.closings(id)).toEqual([])
    const there = second.post(id, call())
    await clock.settle()
    expect(there.status).toBe(200)
    // It has nothing left to write, nor to wait for.
    await within(line.app.manager.close(), 'close()')
  })
})

describe('a session that was idle for long', () => {
  test('has no open GET for its client before the store knows that it is used', async () => {
    const line = new Incarnations()
    const { app, clock } = line
    const id = await app.open()
    await clock.advance(10_000)
    const release = line.hold()
    const stream = app.get(id)
    await clock.settle()
    expect(stream.answeredAt).toBeUndefined()
    release()
    await clock.settle()
    expect(stream.status).toBe(200)
  })

  test('nor the head of a call that takes longer', async () => {
    const line = new Incarnations()
    const { app, clock } = line
    const id = await app.open()
    await clock.advance(10_000)
    const release = line.hold()
    const answer = app.post(id, call(1000))
    await clock.advance(100)
    expect([answer.status, answer.written]).toEqual([undefined, []])
    release()
    await clock.settle()
    // With the priming event in one write.
    expect([answer.status, answer.written.length, answer.events.length]).toEqual([200, 1, 1])
  })

  test('is not called idle again while its GET waits for that', async () => {
    const line = new Incarnations()
    const { app, clock, store } = line
    const id = await app.open()
    await clock.advance(10_000)
    const told: (number | undefined)[] = []
    const touch = store.touch.bind(store)
    store.touch = (at, uses) => {
      told.push(...uses.map(({ idleSince }) => idleSince))
      return touch(at, uses)
    }
    const release = line.hold()
    const stream = app.get(id)
    await clock.advance(1500)
    release()
    await clock.settle()
    expect([stream.status, told]).toEqual([200, [undefined]])
  })

  test('that is ended by its author is ended for good when `ended` resolves', async () => {
    const line = new Incarnations()
    const { app, clock } = line
    const handle = app.manager.sessions.get(await app.open())
    const release = line.hold()
    let ended = false
    void handle?.ended.then(() => (ended = true))
    await clock.settle()
    handle?.close()
    await clock.settle()
    expect(ended).toBe(false)
    release()
    await clock.settle()
    expect([ended, line.store.size]).toEqual([true, 0])
  })
})

describe('at the start', () => {
  test('requests that come while sessions are loaded wait for them', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    await line.stop()
    const release = line.hold()
    const app = await line.start()
    const early = [
      app.post(id, call()),
      app.get(id),
      app.post('unknown', call()),
      app.post(undefined, initialize()),
    ]
    await clock.advance(3000)
    expect(early.map(({ answeredAt }) => answeredAt)).toEqual(Array(4).fill(undefined))
    expect(app.manager.ready).toBe(false)
    release()
    await clock.advance(10)
    expect(early.map(({ status }) => status)).toEqual([200, 200, 404, 200])
    await within(app.manager.opened, 'opened')
    expect(app.manager.ready).toBe(true)
  })

  test('an app that is closed while it loads ends, and answers who waited', async () => {
    const line = new Incarnations()
    const id = await line.app.open()
    await line.stop()
    const release = line.hold()
    const app = await line.start()
    const early = app.post(id, call())
    await line.clock.settle()
    const closed = app.manager.close()
    await line.clock.settle()
    release()
    await within(closed, 'close()')
    await line.clock.settle()
    expectUnavailable(early)
  })

  test('a store that fails while it is read is read again: 503 until then, and every session once', async () => {
    const line = new Incarnations()
    const ids = [await line.app.open(), await line.app.open()]
    await line.stop()
    let failures = 2
    const unreliable = new Incarnations(
      {},
      () => ({}),
      {},
      () => {
        const store = line.store.successor()
        return new Proxy(store, {
          get(target, name) {
            const member: unknown = Reflect.get(target, name)
            if (name !== 'load') return typeof member === 'function' ? member.bind(target) : member
            return async function* load() {
              for await (const batch of store.load()) {
                yield batch.slice(0, 1)
                if (failures-- > 0) throw new Error('the disk did not answer')
                yield batch.slice(1)
              }
            }
          },
        })
      },
    )
    const { app, clock } = unreliable
    await clock.settle()
    await within(app.manager.opened, 'opened')
    expect([app.manager.ready, app.manager.sessions.size]).toEqual([false, 0])
    const early = app.post(ids[0], call())
    await clock.settle()
    expectUnavailable(early)
    await clock.advance(2100)
    expect([app.manager.ready, app.manager.sessions.size]).toEqual([true, 2])
    const answers = ids.map((id) => app.post(id, call()))
    await clock.settle()
    expect(answers.map(({ status }) => status)).toEqual([200, 200])
  })

  test('a record that cannot be read is left out with a line in the log; the others are there', async () => {
    const line = new Incarnations()
    const ids = [await line.app.open(), await line.app.open()]
    await line.stop()
    const store = line.store.successor()
    await store.open({ waiting() {}, lost() {}, failing() {}, recovered() {} }, new AbortController().signal)
    for await (const batch of store.load()) {
      const [first] = batch
      if (first !== undefined) await store.save({ ...first, record: '{"form":99}' })
    }
    await store.close()
    const app = await line.start()
    const answers = ids.map((id) => app.post(id, call()))
    await line.clock.settle()
    expect(answers.map(({ status }) => status)).toEqual([404, 200])
    expect(line.logs.some(({ level, message }) => level === 'error' && /cannot be read/.test(message))).toBe(
      true,
    )
  })
})

describe('a store that cannot be used', () => {
  const factory = (): never => SDKS[0]?.build() as never

  function corrupt(): string {
    const folder = mkdtempSync(join(tmpdir(), 'sojourn-restart-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const file = join(folder, 'sessions.db')
    writeFileSync(file, 'This is not a database. '.repeat(1000))
    return file
  }

  const logger = { debug() {}, info() {}, warn() {}, error() {} }

  test('app.opened rejects and requests get 503', async () => {
    const app = httpApp(factory, { store: `sqlite:${corrupt()}`, logger, allowedHosts: 'any' })
    await expect(within(app.opened, 'opened')).rejects.toMatchObject({ code: 'store-unavailable' })
    expect(app.ready).toBe(false)
    const response = await app.fetch(
      new Request('http://localhost/mcp', {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
        body: JSON.stringify(initialize()),
      }),
    )
    expect([response.status, response.headers.get('mcp-session-id')]).toEqual([503, null])
    await within(app.close(), 'close()')
  })

  test('runHttp rejects with the same error', async () => {
    const running = runHttp(factory, { store: `sqlite:${corrupt()}`, logger, port: 0, handleSignals: false })
    await expect(within(running, 'runHttp()')).rejects.toMatchObject({ code: 'store-unavailable' })
  })

  test('one whose open() is given up by close() does not fail', async () => {
    const clock = new VirtualClock()
    const first = new MemorySessionStore({ clock })
    const owner = httpApp(factory, { store: first, clock, logger })
    const waiting = httpApp(factory, { store: first.successor(), clock, logger })
    await within(Promise.all([owner.opened, waiting.opened]), 'opened')
    await within(waiting.close(), 'close() of the waiting one')
    await within(owner.close(), 'close() of the owner')
    expect(clock.pending).toBe(0)
  })
})
