/** Sessions as official clients live through them: they end, they are shared, the server goes and comes back. */

import { describe, expect, test } from 'vitest'

import { deferred, within } from '../support/deferred.ts'
import { tcpProxy } from '../support/tcp-proxy.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { connect, rejection, statusOf } from './probe-client.ts'
import type { Call, Tool } from './probe-server.ts'
import { PAIRS, serveProbe, type ServedProbe } from './serve-probe.ts'

const echo: Tool = ({ input }) => input

const MINUTE = 60_000

describe.each(PAIRS)('client $client, server $server', (pair) => {
  test('DELETE ends the session: running calls fail, the GET ends, later calls get 404', async () => {
    const started = deferred()
    const aborted = deferred()
    const wait: Tool = async (call) => {
      call.signal.addEventListener('abort', () => aborted.resolve())
      await call.progress(1)
      started.resolve()
      await aborted.promise
      return 'too late'
    }
    const { url, served, events, getOpened } = await serveProbe(pair.server, { wait, echo })
    const client = await connect(pair.client, url)
    await getOpened()
    const { sessionId } = client
    const other = await connect(pair.client, url, { ...(sessionId && { sessionId }) })
    const call = rejection(client.call('wait', '', { onprogress: () => {} }), 'the running call')
    await within(started.promise, 'the start of the call')
    await client.terminate()
    expect((await call).message).toContain('Session closed: deleted')
    await within(aborted.promise, "the abort of the handler's signal")
    expect(await closed(events)).toMatchObject({ reason: 'deleted' })
    await events.first(
      (event) => event.type === 'stream.closed' && event.kind === 'get',
      'the end of the GET',
    )
    expect(served.app.sessions.size).toBe(0)
    expect(client.sessionId).toBeUndefined()
    expect(statusOf(await rejection(other.call('echo', 'gone'), 'a call without its session'))).toBe(404)
  })

  test('an idle session ends: the next call gets 404, a new client works', async () => {
    const clock = new VirtualClock()
    const { url, served, events } = await serveProbe(
      pair.server,
      { echo },
      { clock, sessionIdleTimeout: 10 * MINUTE },
      { get: 'refused' },
    )
    const client = await connect(pair.client, url)
    expect(await client.call('echo', 'a')).toBe('a')
    await clock.advance(9 * MINUTE)
    expect(await client.call('echo', 'b')).toBe('b')
    await clock.advance(9 * MINUTE)
    expect(served.app.sessions.size).toBe(1)
    await clock.advance(2 * MINUTE)
    expect(await closed(events)).toMatchObject({ reason: 'idle' })
    const failed = await rejection(client.call('echo', 'c'), 'a call after the end')
    expect(statusOf(failed)).toBe(404)
    expect(failed.message).toContain('Session not found')
    const successor = await connect(pair.client, url)
    expect(successor.sessionId).not.toBe(client.sessionId)
    expect(await successor.call('echo', 'd')).toBe('d')
  })

  test('a call longer than the timeout keeps its session', async () => {
    const clock = new VirtualClock()
    const gate = deferred()
    const started = deferred()
    const wait: Tool = async () => {
      started.resolve()
      await gate.promise
      return 'done'
    }
    const { url, served } = await serveProbe(
      pair.server,
      { wait },
      { clock, sessionIdleTimeout: MINUTE, keepAliveInterval: Number.POSITIVE_INFINITY },
      { get: 'refused' },
    )
    const client = await connect(pair.client, url)
    const call = client.call('wait')
    await within(started.promise, 'the start of the call')
    await clock.advance(60 * MINUTE)
    expect(served.app.sessions.size).toBe(1)
    gate.resolve()
    expect(await call).toBe('done')
  })

  test('a GET that answers its pings holds the session for as long as it is open', async () => {
    const clock = new VirtualClock()
    const { url, served, events, answered, getOpened } = await serveProbe(
      pair.server,
      { echo },
      { clock, sessionIdleTimeout: MINUTE, keepAliveInterval: 15_000 },
    )
    const client = await connect(pair.client, url)
    await getOpened()
    // initialize and initialized came before.
    for (let pings = 1; pings <= 10; pings++) {
      await clock.advance(30_000)
      await answered.atLeast(2 + pings, ({ method }) => method === 'POST', `the answer to ping ${pings}`)
    }
    expect(await client.call('echo', 'still here')).toBe('still here')
    await client.close()
    await events.first(
      (event) => event.type === 'stream.closed' && event.kind === 'get',
      'the end of the GET',
    )
    await clock.advance(MINUTE + 250)
    expect(await closed(events)).toMatchObject({ reason: 'idle' })
    expect(served.app.sessions.size).toBe(0)
  })

  test('a session that ends while the client is away: it comes back, gets 404, and gives up', async () => {
    const { url, served, events, answered, getOpened } = await serveProbe(pair.server, { echo })
    const client = await connect(pair.client, url)
    await getOpened()
    served.app.sessions.list()[0]?.close()
    expect(await closed(events)).toMatchObject({ reason: 'admin' })
    await client.errors.first(({ message }) => message.includes('Maximum reconnection attempts'), 'giving up')
    const statuses = answered.all.filter(({ method }) => method === 'GET').map(({ status }) => status)
    expect(statuses[0]).toBe(200)
    expect(statuses.slice(1).every((status) => status === 404)).toBe(true)
    expect(statuses.length).toBeLessThanOrEqual(3)
    expect(statusOf(await rejection(client.call('echo', 'gone'), 'a call after the end'))).toBe(404)
  })

  test('two clients on one session: each gets the answers to its own calls, whose ids are the same', async () => {
    const calls: Call[] = []
    const all = deferred()
    const gate = deferred()
    const wait: Tool = async (call) => {
      calls.push(call)
      if (calls.length === 2) all.resolve()
      await gate.promise
      return call.input
    }
    const { url, events, served } = await serveProbe(pair.server, { echo, wait }, {}, { get: 'refused' })
    const first = await connect(pair.client, url)
    const { sessionId } = first
    if (sessionId === undefined) throw new Error('no session')
    const second = await connect(pair.client, url, { sessionId })
    // A client that goes on with a session has not used an id for initialize.
    expect(await second.call('echo', 'b')).toBe('b')
    const answers = Promise.all([
      first.call('wait', 'from the first'),
      second.call('wait', 'from the second'),
    ])
    await within(all.promise, 'two running calls')
    const started = events.all.filter((event) => event.type === 'request.started' && event.name === 'wait')
    expect(new Set(started.map((event) => event.type === 'request.started' && event.request)).size).toBe(1)
    expect(new Set(calls.map(({ id }) => id)).size).toBe(2)
    gate.resolve()
    expect(await answers).toEqual(['from the first', 'from the second'])
    expect(served.app.sessions.size).toBe(1)
  })

  test('a second client takes the GET over; clients that fight for it stop', async () => {
    const { url, probe, answered, events, getOpened, served } = await serveProbe(pair.server, { echo })
    const first = await connect(pair.client, url)
    await getOpened()
    await probe.servers[0]?.resourceUpdated('probe://1')
    await first.notices.first(
      ({ params }) => params?.['uri'] === 'probe://1',
      'an update to the first client',
    )
    const { sessionId } = first
    if (sessionId === undefined) throw new Error('no session')
    const second = await connect(pair.client, url, { sessionId })
    await second.sendInitialized()
    // Each comes back when the other has taken its stream, until one is refused often enough to give up.
    await answered.first(({ status }) => status === 409, 'a refused newcomer')
    const loser = await Promise.race(
      [first, second].map(async (client) => {
        await client.errors.first(
          ({ message }) => message.includes('Maximum reconnection attempts'),
          'giving up',
        )
        return client
      }),
    )
    const winner = loser === first ? second : first
    await probe.servers[0]?.resourceUpdated('probe://2')
    await winner.notices.first(({ params }) => params?.['uri'] === 'probe://2', 'an update to the winner')
    expect(loser.notices.all.some(({ params }) => params?.['uri'] === 'probe://2')).toBe(false)
    expect(await first.call('echo', 'a')).toBe('a')
    expect(await second.call('echo', 'b')).toBe('b')
    expect(
      events.all.filter((event) => event.type === 'stream.opened' && event.stream === 0).length,
    ).toBeLessThanOrEqual(3)
    expect(served.app.sessions.list()[0]?.streams).toBe(1)
  })

  test('the server is restarted: the old session gets 404, a new client works', async () => {
    const before = await serveProbe(pair.server, { echo })
    const proxy = await tcpProxy(before.served.port)
    const client = await connect(pair.client, proxy.url)
    await before.getOpened()
    expect(await client.call('echo', 'before')).toBe('before')
    await before.served.close()
    const after = await serveProbe(pair.server, { echo })
    proxy.target = after.served.port
    expect(statusOf(await rejection(client.call('echo', 'lost'), 'a call to the restarted server'))).toBe(404)
    const successor = await connect(pair.client, proxy.url)
    expect(await successor.call('echo', 'after')).toBe('after')
    expect(after.served.app.sessions.size).toBe(1)
  })

  test('a shutdown answers what runs', async () => {
    const started = deferred()
    const wait: Tool = async (call) => {
      await call.progress(1)
      started.resolve()
      await new Promise((resolve) => call.signal.addEventListener('abort', resolve))
      return 'too late'
    }
    const { url, served, events } = await serveProbe(pair.server, { wait })
    const client = await connect(pair.client, url)
    const call = rejection(client.call('wait', '', { onprogress: () => {} }), 'the running call')
    await within(started.promise, 'the start of the call')
    await within(served.app.close(), 'close()')
    expect((await call).message).toContain('Session closed: shutdown')
    // A store (R24's) keeps it.
    if (process.env['SUITE_STORE'] === 'sqlite')
      await events.first((event) => event.type === 'session.slept', 'the sleep of the session')
    else expect(await closed(events)).toMatchObject({ reason: 'shutdown' })
  })
})

function closed(events: ServedProbe['events']): Promise<unknown> {
  return events.first((event) => event.type === 'session.closed', 'the end of the session')
}
