/** Waking that fails, that is overtaken by the end of its session, or that brings back another server. On virtual time. */

import { expect, test } from 'vitest'

import { deferred } from '../support/deferred.ts'
import { notification } from '../support/mcp-wire.ts'
import { awake, call, over, SLEEP, type SleepApp, sleepApp, turns } from '../support/sleep-app.ts'

/** Opens a session and lets it fall asleep. */
async function asleep({ app, clock }: SleepApp): Promise<string> {
  const id = await app.open()
  await clock.advance(SLEEP)
  expect(awake(app, id)).toBe(false)
  return id
}

const NOT_WOKEN = {
  jsonrpc: '2.0',
  id: 'q1',
  error: { code: -32603, message: 'Internal error: the session could not be resumed, try again' },
}

const failures = {
  throws: (): never => {
    throw new Error('the database is away')
  },
  rejects: () => Promise.reject(new Error('the database is away')),
  'refuses the handshake': () => ({ initialize: 'error' }) as const,
  'throws on the handshake': () => ({ initialize: 'throw' }) as const,
  'closes itself instead of answering': () => ({ initialize: 'close' }) as const,
}

test.each(Object.entries(failures))(
  'a server that %s: 503, the session stays asleep',
  async (_name, fail) => {
    let broken = true
    const made = sleepApp({}, ({ session }) => (session.restored && broken ? fail() : {}))
    const { clock, app, contexts } = made
    const id = await asleep(made)
    const expiresIn = app.manager.sessions.get(id)?.expiresIn ?? 0
    const answer = app.post(id, call())
    await clock.settle()
    expect(answer.status).toBe(503)
    expect(answer.responseHeaders['retry-after']).toBe('1')
    expect(answer.json()).toEqual(NOT_WOKEN)
    expect([awake(app, id), turns(app)]).toEqual([false, { slept: 1, woken: 0 }])
    // Refused requests are no activity.
    expect(app.manager.sessions.get(id)?.expiresIn).toBe(expiresIn)
    expect(contexts[1]?.instanceSignal.reason).toBe('sleep')
    expect(made.logs.filter((line) => line.startsWith('error'))).toHaveLength(1)

    // One attempt per second, however many ask.
    await clock.advance(999)
    const soon = [app.post(id, call()), app.post(id, notification('notifications/roots/list_changed'))]
    await clock.settle()
    expect(soon.map(({ status }) => status)).toEqual([503, 503])
    expect(contexts).toHaveLength(2)
    await clock.advance(1)
    broken = false
    const served = app.post(id, call())
    await clock.settle()
    expect(served.json()).toMatchObject({ result: {} })
    expect(contexts).toHaveLength(3)
    await over(made)
  },
)

test('GETs and pings are served while a session cannot be woken', async () => {
  const made = sleepApp({}, ({ session }) => (session.restored ? failures.throws() : {}))
  const { clock, app } = made
  const id = await asleep(made)
  app.post(id, call())
  await clock.settle()
  const stream = app.get(id)
  const ping = app.post(id, { jsonrpc: '2.0', id: 1, method: 'ping' })
  await clock.settle()
  expect([stream.status, ping.json()]).toEqual([200, { jsonrpc: '2.0', id: 1, result: {} }])
  await over(made)
})

test('many requests that wait for a waking that fails are refused together', async () => {
  const made = sleepApp({}, async ({ session }) => {
    if (!session.restored) return {}
    await made.clock.sleep(50)
    return failures.throws()
  })
  const { clock, app } = made
  const id = await asleep(made)
  const answers = Array.from({ length: 10 }, (_, n) => app.post(id, call(0, {}, n)))
  await clock.advance(60)
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([503]))
  expect(made.contexts).toHaveLength(2)
  await over(made)
})

const slow = {
  'a factory': { factory: true },
  'a handshake': { factory: false },
}

test.each(Object.entries(slow))(
  '%s that takes longer than initializeTimeout: 503 then, and what comes too late is closed',
  async (_name, { factory }) => {
    const made = sleepApp({ initializeTimeout: 3000 }, async ({ session }) => {
      if (!session.restored) return {}
      if (factory) await made.clock.sleep(5000)
      return factory ? {} : { initialize: 'never' }
    })
    const { clock, app, contexts } = made
    const id = await asleep(made)
    const answer = app.post(id, call())
    await clock.advance(2999)
    expect(answer.status).toBeUndefined()
    await clock.advance(1)
    expect(answer.json()).toEqual(NOT_WOKEN)
    expect(contexts[1]?.instanceSignal.aborted).toBe(true)
    await clock.advance(3000)
    // What came late is never connected, or closed at once.
    const late = app.fakes[1]
    expect(late?.transport).toBeUndefined()
    expect([awake(app, id), app.closings(id)]).toEqual([false, []])
    app.fakes.splice(1, factory ? 1 : 0)
    await over(made)
  },
)

test('another negotiated version: the session ends, 404', async () => {
  const made = sleepApp({}, ({ session }) => (session.restored ? { versions: ['2025-06-18'] } : {}))
  const { clock, app } = made
  const id = await asleep(made)
  const [one, two] = [app.post(id, call(0, {}, 1)), app.post(id, call(0, {}, 2))]
  await clock.settle()
  expect([one.status, two.status]).toEqual([404, 404])
  expect(app.closings(id)).toEqual(['failed'])
  const closed = app.events.find(({ type }) => type === 'session.closed')
  expect(closed).toMatchObject({ detail: 'the server speaks 2025-06-18 now, not 2025-11-25' })
  await over(made)
})

test('other capabilities: it goes on, and the client is told to look again', async () => {
  const made = sleepApp({}, ({ session }) =>
    session.restored ? { capabilities: { tools: { listChanged: true }, prompts: {} } } : {},
  )
  const { clock, app } = made
  const id = await asleep(made)
  const stream = app.get(id)
  const answer = app.post(id, call())
  await clock.settle()
  expect(answer.status).toBe(200)
  expect((stream.messages() as { method: string }[]).map(({ method }) => method)).toEqual([
    'notifications/tools/list_changed',
    'notifications/prompts/list_changed',
  ])
  // Once: the third instance declares what the second did.
  await clock.advance(SLEEP)
  app.post(id, call(0, {}, 2))
  await clock.settle()
  expect(stream.messages()).toHaveLength(2)
  await over(made)
})

test('list_changed during replay is dropped, and does not keep the instance', async () => {
  const made = sleepApp({}, ({ session }) => ({
    oninitialized: (server) => {
      if (session.restored)
        void server.transport?.send({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
    },
  }))
  const { clock, app } = made
  const id = await asleep(made)
  const stream = app.get(id)
  app.post(id, call())
  await clock.advance(SLEEP)
  expect(stream.messages()).toEqual([])
  expect(turns(app)).toEqual({ slept: 2, woken: 1 })
  await over(made)
})

test('an instance that announced changes of its own is not put to sleep; the log says so once', async () => {
  const made = sleepApp()
  const { clock, app, logs } = made
  const ids = [await app.open(), await app.open()]
  const stream = app.get(ids[0] ?? '')
  for (const fake of app.fakes)
    void fake.transport?.send({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
  await clock.advance(10 * SLEEP)
  expect(ids.map((id) => awake(app, id))).toEqual([true, true])
  expect(stream.messages()).toHaveLength(1)
  expect(logs.filter((line) => line.includes('announced changes of its own'))).toHaveLength(1)
  await over(made)
})

test('... unless it has the hooks; then its client is told to look again when the next one is there', async () => {
  const made = sleepApp({}, (context) => {
    context.onSleep(() => {
      context.session.data = { tools: ['added'] }
    })
    return {}
  })
  const { clock, app, logs } = made
  const id = await app.open()
  const stream = app.get(id)
  void app.fakes[0]?.transport?.send({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
  await clock.advance(SLEEP)
  expect(awake(app, id)).toBe(false)
  const before = stream.messages().length
  app.post(id, call())
  await clock.settle()
  const after = stream.messages() as { method: string }[]
  expect(after.slice(before).map(({ method }) => method)).toContain('notifications/tools/list_changed')
  // The one after that changed nothing of its own.
  const told = after.length
  await clock.advance(SLEEP)
  app.post(id, call(0, {}, 2))
  await clock.settle()
  expect(stream.messages()).toHaveLength(told)
  expect(logs).toEqual([])
  await over(made)
})

test('the server may ask its client in oninitialized, at each incarnation; the wake does not wait for the answer', async () => {
  const made = sleepApp({}, () => ({
    oninitialized: (server) => void server.ask(undefined, 1e6).catch(() => {}),
  }))
  const { clock, app } = made
  const id = await app.open()
  const stream = app.get(id)
  await clock.settle()
  const answerAll = async (): Promise<number[]> => {
    const ids = (stream.messages() as { id: number }[]).map((message) => message.id)
    for (const asked of ids) app.post(id, { jsonrpc: '2.0', id: asked, result: {} })
    await clock.settle()
    return ids
  }
  expect(await answerAll()).toEqual([1])
  await clock.advance(SLEEP)
  const answer = app.post(id, call())
  await clock.settle()
  expect(answer.json()).toMatchObject({ result: {} })
  expect(await answerAll()).toEqual([1, 2])
  expect(app.fakes[1]?.strayResponses).toEqual([])
  await clock.advance(SLEEP)
  expect(awake(app, id)).toBe(false)
  await over(made)
})

test('what a server asked before its waking failed keeps nothing awake later', async () => {
  let broken = true
  const made = sleepApp({}, (context) => {
    if (context.session.restored && broken) context.onWake(() => failures.throws())
    return context.session.restored && broken
      ? { oninitialized: (server) => void server.ask(undefined, 1e6).catch(() => {}) }
      : {}
  })
  const { clock, app } = made
  const id = await asleep(made)
  app.get(id)
  app.post(id, call())
  await clock.advance(1000)
  broken = false
  app.post(id, call())
  await clock.settle()
  expect(awake(app, id)).toBe(true)
  await clock.advance(SLEEP)
  expect(awake(app, id)).toBe(false)
  await over(made)
})

test('onWake runs after the handshake was repeated and before the first request; never for the first instance', async () => {
  const seen: string[] = []
  const made = sleepApp({}, (context) => {
    context.onWake(async () => {
      const fake = app.fakes.at(-1)
      seen.push(
        `woken after ${fake?.received.map((message) => 'method' in message && message.method).join()}`,
      )
      await made.clock.sleep(20)
      seen.push('woken')
    })
    return { oncall: ({ method }) => void seen.push(method) }
  })
  const { clock, app } = made
  const id = await asleep(made)
  expect(seen).toEqual([])
  app.post(id, call())
  await clock.advance(30)
  expect(seen).toEqual(['woken after initialize,notifications/initialized', 'woken', 'tools/call'])
  await over(made)
})

test('onWake that throws: 503, the instance is closed, the session stays asleep', async () => {
  const made = sleepApp({}, (context) => {
    context.onWake(() => failures.throws())
    return {}
  })
  const { clock, app } = made
  const id = await asleep(made)
  const answer = app.post(id, call())
  await clock.settle()
  expect(answer.json()).toEqual(NOT_WOKEN)
  expect(app.fakes[1]?.closedAt).toBeDefined()
  expect(awake(app, id)).toBe(false)
  await over(made)
})

test('a server that closes itself while it is woken is none: 503, and the next attempt may succeed', async () => {
  let broken = true
  const made = sleepApp({}, (context) => {
    if (context.session.restored && broken) context.onWake(() => void made.app.fakes.at(-1)?.close())
    return {}
  })
  const { clock, app } = made
  const id = await asleep(made)
  const answer = app.post(id, call())
  await clock.settle()
  expect(answer.status).toBe(503)
  broken = false
  await clock.advance(1000)
  const again = app.post(id, call())
  await clock.settle()
  expect(again.json()).toMatchObject({ result: {} })
  await over(made)
})

test('onSleep saves what the next instance is to know', async () => {
  let count = 0
  const made = sleepApp({}, (context) => {
    count = (context.session.data as { count?: number }).count ?? 0
    context.onSleep(async () => {
      await made.clock.sleep(100)
      context.session.data = { count }
    })
    return { oncall: () => (count += 1) }
  })
  const { clock, app } = made
  const id = await app.open()
  for (let n = 1; n <= 5; n++) {
    app.post(id, call(0, {}, n))
    await clock.advance(SLEEP)
    expect(awake(app, id)).toBe(true)
    await clock.advance(100)
    expect(awake(app, id)).toBe(false)
  }
  expect(app.manager.sessions.get(id)?.data).toEqual({ count: 5 })
  await over(made)
})

test.each(['throws', 'takes longer than 5 s', 'sets data that is too large'])(
  'onSleep that %s: the instance stays, the log says so, and it is tried again after sleepAfter',
  async (how) => {
    let broken = true
    const made = sleepApp({ sleepAfter: 10_000, maxSessionDataSize: 100 }, (context) => {
      context.onSleep(() => {
        if (!broken) return undefined
        if (how === 'throws') throw new Error('disk full')
        if (how.startsWith('sets')) context.session.data = 'x'.repeat(200)
        return new Promise(() => {})
      })
      return {}
    })
    const { clock, app, logs } = made
    const id = await app.open()
    await clock.advance(15_001)
    expect(awake(app, id)).toBe(true)
    expect(logs).toEqual(['error onSleep failed; the session stays awake'])
    const answer = app.post(id, call())
    await clock.settle()
    expect(answer.json()).toMatchObject({ result: { tag: 'fake-1' } })
    broken = false
    await clock.advance(10_000)
    expect(awake(app, id)).toBe(false)
    await over(made)
  },
)

test('a request during onSleep is answered by the instance that is there, which then stays', async () => {
  const gates = [deferred(), deferred()]
  let runs = 0
  const made = sleepApp({}, (context) => {
    context.onSleep(() => gates[runs++]?.promise)
    return {}
  })
  const { clock, app } = made
  const id = await app.open()
  await clock.advance(SLEEP)
  const answer = app.post(id, call())
  await clock.settle()
  expect(answer.json()).toMatchObject({ result: { tag: 'fake-1' } })
  gates[0]?.resolve()
  await clock.settle()
  expect(awake(app, id)).toBe(true)
  await clock.advance(SLEEP)
  expect(runs).toBe(2)
  gates[1]?.resolve()
  await clock.settle()
  expect([awake(app, id), app.fakes.length]).toEqual([false, 1])
  await over(made)
})

test.each(['delete', 'expiry', 'shutdown', 'admin'] as const)('%s during onSleep', async (how) => {
  const made = sleepApp({ sessionIdleTimeout: 2 * SLEEP }, (context) => {
    context.onSleep(() => new Promise(() => {}))
    return {}
  })
  const { clock, app } = made
  const id = await app.open()
  await clock.advance(SLEEP + 10)
  if (how === 'delete') app.delete(id)
  if (how === 'admin') app.manager.sessions.close(id)
  if (how === 'expiry') await clock.advance(2 * SLEEP)
  await clock.settle()
  await over(made)
  expect(app.closings(id)).toHaveLength(1)
  expect(turns(app)).toEqual({ slept: 0, woken: 0 })
})

test.each(['delete', 'admin', 'shutdown', 'max-age'] as const)(
  '%s while a session is woken: whoever waits is answered at once, and the late server is closed',
  async (how) => {
    const gate = deferred()
    const made = sleepApp(
      { ...(how === 'max-age' && { sessionMaxAge: SLEEP + 500, drainTimeout: 2000 }) },
      async ({ session }) => {
        if (session.restored) await gate.promise
        return {}
      },
    )
    const { clock, app, contexts } = made
    const id = await asleep(made)
    const answer = app.post(id, call())
    await clock.advance(100)
    expect(answer.status).toBeUndefined()
    let closed: Promise<void> | undefined
    if (how === 'delete') app.delete(id)
    if (how === 'admin') app.manager.sessions.close(id)
    if (how === 'shutdown') closed = app.manager.close()
    // Work in flight may finish, for as long as a shutdown would wait for it.
    if (how === 'max-age') await clock.advance(2500)
    await clock.settle()
    await closed
    expect(answer.status).toBe(404)
    expect(contexts[1]?.instanceSignal.aborted).toBe(true)
    expect(app.closings(id)).toHaveLength(1)
    gate.resolve()
    await clock.settle()
    expect(app.fakes[1]?.transport).toBeUndefined()
    app.fakes.splice(1, 1)
    await over(made)
  },
)

test('the request that wakes holds its session: it does not expire meanwhile', async () => {
  const made = sleepApp({ sessionIdleTimeout: 2 * SLEEP }, async ({ session }) => {
    if (session.restored) await made.clock.sleep(5 * SLEEP)
    return {}
  })
  const { clock, app } = made
  const id = await asleep(made)
  const answer = app.post(id, call())
  await clock.advance(5 * SLEEP)
  expect(answer.json()).toMatchObject({ result: {} })
  await clock.advance(2 * SLEEP)
  expect(app.closings(id)).toHaveLength(1)
  await over(made)
})

test('a client that is gone before its session is awake: the call runs, and the session goes on', async () => {
  const made = sleepApp({}, async ({ session }) => {
    if (session.restored) await made.clock.sleep(50)
    return {}
  })
  const { clock, app } = made
  const id = await asleep(made)
  app.post(id, call()).drop()
  await clock.advance(100)
  const answer = app.post(id, call(0, {}, 2))
  await clock.settle()
  expect(answer.status).toBe(200)
  await clock.advance(SLEEP)
  expect(awake(app, id)).toBe(false)
  await over(made)
})
