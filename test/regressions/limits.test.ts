/** Limits that hold although something waits between the check and the act. */

import { McpServer } from '@modelcontextprotocol/server'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'

import { Deadlines } from '../../src/deadlines.ts'
import { createLog } from '../../src/logging.ts'
import { EventHub } from '../../src/session/events.ts'
import { shuttingDown } from '../../src/session/refusal.ts'
import { Revocations } from '../../src/session/revocations.ts'
import type { AnswerSink } from '../../src/session/running-request.ts'
import { Load, type Runtime } from '../../src/session/runtime.ts'
import { Session } from '../../src/session/session.ts'
import { newRecord } from '../../src/session/session-record.ts'
import { SharedJsonPool } from '../../src/session/shared-json.ts'
import { resolveOptions } from '../../src/options.ts'
import { deferred } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import { openSession, post, rpc } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { getStream, serveFake } from '../support/wire-app.ts'

/** A server whose one tool needs a scope check that waits for `checked`, and then runs until `finished`. */
function guarded() {
  const checked = deferred()
  const finished = deferred()
  const counts = { checks: 0, running: 0 }
  const build = (): McpServer => {
    const server = new McpServer({ name: 'guarded', version: '1' })
    server.registerTool(
      'run',
      {
        inputSchema: z.object({}),
        scopeChallenge: async () => {
          counts.checks += 1
          await checked.promise
          return undefined
        },
      },
      async () => {
        counts.running += 1
        await finished.promise
        return { content: [] }
      },
    )
    return server
  }
  return { checked, finished, counts, build }
}

const CALL = rpc('tools/call', { name: 'run', arguments: {} })

describe('a scope check that waits', () => {
  test('lets no more calls through than maxRequestsPerSession', async () => {
    const { checked, finished, counts, build } = guarded()
    const server = await serve(build, { maxRequestsPerSession: 2 })
    const session = await openSession(server)
    const responses = Array.from({ length: 5 }, () => server.request(post(CALL, session.headers)))
    await server.waitFor(() => counts.checks === 5, 'the five checks')
    checked.resolve()
    await server.until('request.refused', 3)
    await server.waitFor(() => counts.running === 2, 'the two calls')
    finished.resolve()
    const statuses = (await Promise.all(responses)).map(({ status }) => status)
    expect(statuses.sort((a, b) => a - b)).toEqual([200, 200, 429, 429, 429])
    expect(counts.running).toBe(2)
  })

  test('lets no call through when maxStreamsPerSession was reached meanwhile', async () => {
    const { checked, counts, build } = guarded()
    const server = await serve(build, { maxStreamsPerSession: 1 })
    const session = await openSession(server)
    const response = server.request(post(CALL, session.headers))
    await server.waitFor(() => counts.checks === 1, 'the check')
    expect((await server.request(getStream(session))).status).toBe(200)
    checked.resolve()
    expect((await response).status).toBe(429)
    expect(await server.until('request.refused')).toMatchObject({ option: 'maxStreamsPerSession' })
    expect(counts.running).toBe(0)
  })

  test('lets through no batch that is too large for maxRequestsPerSession under stateless', async () => {
    const { checked, finished, counts, build } = guarded()
    checked.resolve()
    finished.resolve()
    const server = await serve(build, { stateless: true, maxRequestsPerSession: 2 })
    const batch = [1, 2, 3].map((id) => rpc('tools/call', { name: 'run', arguments: {} }, id))
    expect((await server.request(post(batch))).status).toBe(429)
    expect((await server.request(post(batch.slice(1)))).status).toBe(200)
    expect(counts.running).toBe(2)
  })
})

describe('subscriptions', () => {
  const subscribe = (n: number) => rpc('resources/subscribe', { uri: `file:///${n}` }, n)

  test('that arrive before others are granted do not overshoot maxSubscriptions', async () => {
    const server = await serveFake({ maxSubscriptions: 2 })
    const session = await openSession(server, { version: '2025-03-26' })
    const batch = await server.request(post([1, 2, 3, 4].map(subscribe), session.headers))
    const answers = (await batch.json()) as { id: number; error?: { message: string } }[]
    const refused = answers.filter(({ error }) => error !== undefined)
    expect(refused.map(({ id }) => id).sort()).toEqual([3, 4])
    expect(refused[0]?.error?.message).toContain('maxSubscriptions')
    expect(server.app.sessions.get(session.id)?.subscriptions).toEqual(['file:///1', 'file:///2'])
    // A place that is given back can be taken.
    await server.request(post(rpc('resources/unsubscribe', { uri: 'file:///1' }), session.headers))
    const again = await server.request(post([subscribe(5)], session.headers))
    expect(await again.json()).toMatchObject([{ result: {} }])
    expect(server.app.sessions.get(session.id)?.subscriptions).toEqual(['file:///2', 'file:///5'])
  })

  test('to the same resource at once count once', async () => {
    const server = await serveFake({ maxSubscriptions: 1 })
    const session = await openSession(server, { version: '2025-03-26' })
    const twice = [1, 2].map((id) => rpc('resources/subscribe', { uri: 'file:///same' }, id))
    const batch = await server.request(post(twice, session.headers))
    expect(await batch.json()).toMatchObject([{ result: {} }, { result: {} }])
    expect(server.app.sessions.get(session.id)?.subscriptions).toEqual(['file:///same'])
  })
})

describe('the log level that a session remembers', () => {
  /** The session of a client that set this level. */
  function sessionWith(level: unknown): Session {
    const clock = new VirtualClock()
    const shared = new SharedJsonPool()
    const runtime: Runtime = {
      createServer: () => new FakeServer({ clock, tag: 'level' }),
      options: resolveOptions({}),
      clock,
      deadlines: new Deadlines(clock, () => {}),
      eventLog: undefined,
      hub: new EventHub(() => {}),
      log: createLog(undefined),
      load: new Load(),
      shuttingDown: shuttingDown(0),
      revocations: new Revocations(),
      shared,
      awake: undefined,
      memory: undefined,
      keeper: undefined,
      warnOnce() {},
    }
    const record = newRecord('a-session', undefined, 0, shared.hold('{}'))
    const session = new Session(runtime, record, { activityChanged() {}, closed() {} }, false)
    const sink: AnswerSink = { related: () => true, answer() {}, cancelled() {}, closeConnection() {} }
    const request = { jsonrpc: '2.0', id: 1, method: 'logging/setLevel', params: { level } } as const
    const running = session.start(request, sink, undefined)
    session.settle(running, { jsonrpc: '2.0', id: running.privateId, result: {} })
    return session
  }

  test('is one of the specification, not whatever the client sent', () => {
    expect(sessionWith('emergency').record.logLevel).toBe('emergency')
    expect(sessionWith('x'.repeat(1 << 20)).record.logLevel).toBeUndefined()
    expect(sessionWith({}).record.logLevel).toBeUndefined()
  })
})
