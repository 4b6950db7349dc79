/** Official clients come back: after a cut of the network, after a stream that was closed on purpose; and they stop coming back. */

import { describe, expect, test } from 'vitest'

import { deferred, within } from '../support/deferred.ts'
import { type Cut, tcpProxy } from '../support/tcp-proxy.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { connect, type ProbeClient, rejection } from './probe-client.ts'
import { RESOURCE, type Tool } from './probe-server.ts'
import { PAIRS, serveProbe, type ServedProbe } from './serve-probe.ts'

/** A call of the tool `work` on its own connection. */
const WORK = /"name":"work"/

const poll: Tool = async (call) => {
  call.closeStream?.()
  return 'polled'
}

describe.each(PAIRS)('client $client, server $server', (pair) => {
  describe.each<Cut>(['fin', 'rst'])('a streaming call cut by %s', (how) => {
    test('the answer is ready before the client is back', async () => {
      const cut = deferred()
      const work: Tool = async (call) => {
        await call.progress(1)
        await cut.promise
        await call.progress(2)
        await call.progress(3)
        return 'done'
      }
      const { served, events, answered } = await serveProbe(pair.server, { work })
      const proxy = await tcpProxy(served.port)
      const client = await connect(pair.client, proxy.url)
      const seen: number[] = []
      const first = deferred()
      const call = client.call('work', '', {
        onprogress({ progress }) {
          seen.push(progress)
          first.resolve()
        },
      })
      await within(first.promise, 'the first progress')
      proxy.find(WORK).cut(how)
      await events.first(
        (event) => event.type === 'stream.closed' && event.kind === 'post',
        'the end of the connection',
      )
      cut.resolve()
      expect(await call).toBe('done')
      expect(seen).toEqual([1, 2, 3])
      const resumes = answered.all.filter(
        ({ method, lastEventId }) => method === 'GET' && lastEventId !== undefined,
      )
      expect(resumes.every(({ status }) => status === 200)).toBe(true)
      expect(served.app.sessions.counts.requests).toBe(0)
    })

    test('the client is back before the answer is ready, twice', async () => {
      const steps = [deferred(), deferred()]
      const work: Tool = async (call) => {
        await call.progress(1)
        await steps[0]?.promise
        await call.progress(2)
        await steps[1]?.promise
        return 'done'
      }
      const { served, events } = await serveProbe(pair.server, { work })
      const proxy = await tcpProxy(served.port)
      const client = await connect(pair.client, proxy.url)
      const progress = [deferred(), deferred()]
      const call = client.call('work', '', {
        onprogress: (report) => progress[report.progress - 1]?.resolve(),
      })
      await within(progress[0]?.promise ?? Promise.reject(), 'the first progress')
      proxy.find(WORK).cut(how)
      await events.first(
        (event) => event.type === 'stream.opened' && event.kind === 'resume',
        'the first resume',
      )
      steps[0]?.resolve()
      await within(progress[1]?.promise ?? Promise.reject(), 'the second progress')
      proxy.find(/^GET [^]*last-event-id: \S+\.1\.\d/i).cut(how)
      await events.atLeast(
        2,
        (event) => event.type === 'stream.opened' && event.kind === 'resume',
        'the second resume',
      )
      steps[1]?.resolve()
      expect(await call).toBe('done')
    })
  })

  test('what was written into a silent network is sent again', async () => {
    const silent = deferred()
    const work: Tool = async (call) => {
      await call.progress(1)
      await silent.promise
      await call.progress(2)
      return 'done'
    }
    const { served, events } = await serveProbe(pair.server, { work })
    const proxy = await tcpProxy(served.port)
    const client = await connect(pair.client, proxy.url)
    const seen: number[] = []
    const first = deferred()
    const call = client.call('work', '', {
      onprogress({ progress }) {
        seen.push(progress)
        first.resolve()
      },
    })
    await within(first.promise, 'the first progress')
    const connection = proxy.find(WORK)
    connection.cut('silence')
    silent.resolve()
    await events.first(
      (event) => event.type === 'request.ended' && event.name === 'work',
      'the end of the call',
    )
    connection.wakeClient()
    expect(await call).toBe('done')
    expect(seen).toEqual([1, 2])
    connection.destroy()
  })

  test.each<Cut>(['fin', 'rst'])(
    'notifications missed while the GET was cut by %s arrive once, in order',
    async (how) => {
      const { served, events, getOpened, probe } = await serveProbe(pair.server, { poll })
      const proxy = await tcpProxy(served.port)
      const client = await connect(pair.client, proxy.url)
      await getOpened()
      const [server] = probe.servers
      await server?.resourceUpdated('probe://1')
      await client.notices.first(({ params }) => params?.['uri'] === 'probe://1', 'the first update')
      proxy.find(/^GET /).cut(how)
      await events.first(
        (event) => event.type === 'stream.closed' && event.kind === 'get',
        'the end of the GET',
      )
      await server?.resourceUpdated('probe://2')
      await server?.resourceUpdated('probe://3')
      await events.first((event) => event.type === 'stream.opened' && event.kind === 'resume', 'the resume')
      await server?.resourceUpdated('probe://4')
      await client.notices.first(({ params }) => params?.['uri'] === 'probe://4', 'the last update')
      expect(client.notices.all.map(({ params }) => params?.['uri'])).toEqual(
        [1, 2, 3, 4].map((n) => `probe://${n}`),
      )
    },
  )

  test('a GET whose peer fell silent is let go, and gives what was lost to the next one', async () => {
    const clock = new VirtualClock()
    const { served, events, answered, getOpened, probe } = await serveProbe(
      pair.server,
      { poll },
      { clock, keepAliveInterval: 15_000 },
    )
    const proxy = await tcpProxy(served.port)
    const client = await connect(pair.client, proxy.url)
    await getOpened()
    await clock.advance(30_000)
    // initialize, initialized, and the answer to the first ping.
    await answered.atLeast(3, ({ method }) => method === 'POST', 'the answer to a ping')
    const connection = proxy.find(/^GET /)
    connection.cut('silence')
    await probe.servers[0]?.resourceUpdated('probe://lost')
    await clock.advance(60_000)
    await events.first(
      (event) => event.type === 'stream.closed' && event.kind === 'get',
      'the end of the dead stream',
    )
    expect(served.app.sessions.list()[0]?.streams).toBe(0)
    connection.wakeClient()
    await client.notices.first(({ params }) => params?.['uri'] === 'probe://lost', 'what was lost')
    expect(client.notices.all).toHaveLength(1)
  })

  test('a stream closed on purpose: the client polls until the answer is there', async () => {
    const turns: (() => Promise<unknown>)[] = []
    const work: Tool = async (call) => {
      for (const turn of turns) {
        call.closeStream?.()
        await turn()
        await call.progress(1)
      }
      return 'done'
    }
    const { url, events } = await serveProbe(pair.server, { work })
    for (let turn = 1; turn <= 3; turn++) {
      turns.push(() =>
        events.atLeast(
          turn,
          (event) => event.type === 'stream.opened' && event.kind === 'resume',
          `resume ${turn}`,
        ),
      )
    }
    const client = await connect(pair.client, url)
    let reports = 0
    expect(await client.call('work', '', { onprogress: () => (reports += 1) })).toBe('done')
    expect(reports).toBe(3)
  })

  test('a GET closed on purpose comes back and has lost nothing', async () => {
    const work: Tool = async (call) => {
      call.closeStandaloneStream?.()
      await call.server.resourceUpdated('probe://1')
      await call.server.resourceUpdated('probe://2')
      return 'done'
    }
    const { url, events, getOpened } = await serveProbe(pair.server, { work })
    const client = await connect(pair.client, url)
    await getOpened()
    expect(await client.call('work')).toBe('done')
    await events.first((event) => event.type === 'stream.opened' && event.kind === 'resume', 'the resume')
    await client.notices.first(({ params }) => params?.['uri'] === 'probe://2', 'the second update')
    expect(client.notices.all.map(({ params }) => params?.['uri'])).toEqual(['probe://1', 'probe://2'])
  })

  test('no endless resuming after an error answer', async () => {
    const read: Tool = async (call) => {
      await call.progress(1)
      throw new Error('unreadable')
    }
    const probe = await serveProbe(pair.server, { poll, read })
    const client = await connect(pair.client, probe.url)
    const failed = await rejection(client.read(RESOURCE, { onprogress: () => {} }), 'the read')
    expect(failed.message).toContain('unreadable')
    // v2 takes an error for an answer, v1 does not.
    expect(await lastResumes(client, probe, 1)).toEqual(pair.client === 'v1' ? [204] : [])
  })

  test('no endless resuming after a cancel', async () => {
    const wait: Tool = async (call) => {
      await call.progress(1)
      await new Promise((resolve) => call.signal.addEventListener('abort', resolve))
      return 'too late'
    }
    const probe = await serveProbe(pair.server, { poll, wait })
    const client = await connect(pair.client, probe.url)
    const controller = new AbortController()
    const progress = deferred()
    const call = rejection(
      client.call('wait', '', { signal: controller.signal, onprogress: () => progress.resolve() }),
      'the cancelled call',
    )
    await within(progress.promise, 'progress')
    controller.abort()
    await call
    await probe.events.first(
      (event) => event.type === 'stream.closed' && event.kind === 'post',
      'the end of its stream',
    )
    expect(await lastResumes(client, probe, 1)).toEqual([204])
  })

  test('no endless resuming after a cancel while the client was away', async () => {
    const wait: Tool = async (call) => {
      await call.progress(1)
      call.closeStream?.()
      await new Promise((resolve) => call.signal.addEventListener('abort', resolve))
      return 'too late'
    }
    const probe = await serveProbe(pair.server, { poll, wait })
    const client = await connect(pair.client, probe.url)
    const controller = new AbortController()
    const call = rejection(
      client.call('wait', '', { signal: controller.signal, onprogress: () => {} }),
      'the cancelled call',
    )
    await probe.events.first(
      (event) => event.type === 'stream.closed' && event.kind === 'post',
      'the closed stream',
    )
    controller.abort()
    await call
    await probe.events.first(
      (event) => event.type === 'request.ended' && event.name === 'wait',
      'the end of the call',
    )
    // It may have been back once, before it cancelled.
    expect((await lastResumes(client, probe, 1)).at(-1)).toBe(204)
  })

  test('no resume at all after a result', async () => {
    const work: Tool = async (call) => {
      await call.progress(1)
      return 'done'
    }
    const probe = await serveProbe(pair.server, { poll, work })
    const client = await connect(pair.client, probe.url)
    expect(await client.call('work', '', { onprogress: () => {} })).toBe('done')
    expect(await lastResumes(client, probe, 1)).toEqual([])
  })
})

/** GETs that came back for one POST stream, by its number in the session, with what they were answered. */
function resumesOf({ answered }: ServedProbe, stream: number): number[] {
  const cursor = new RegExp(String.raw`^[\w-]+\.${stream}\.`)
  return answered.all
    .filter(({ lastEventId }) => lastEventId !== undefined && cursor.test(lastEventId))
    .map(({ status }) => status)
}

/**
 * Proves that the client has stopped coming back for a stream, without waiting for something not to happen: it is made to come back
 * for other streams, after the same interval, twice; a timer it had set for this one would have been first. Gives what it was answered.
 */
async function lastResumes(client: ProbeClient, probe: ServedProbe, stream: number): Promise<number[]> {
  for (let turn = 0; turn < 2; turn++) expect(await client.call('poll')).toBe('polled')
  const resumes = resumesOf(probe, stream)
  for (let turn = 0; turn < 2; turn++) expect(await client.call('poll')).toBe('polled')
  expect(resumesOf(probe, stream), 'what came after 204').toEqual(resumes)
  return resumes
}
