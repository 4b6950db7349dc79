/** An event store written for an official SDK as the event log: what comes back, and what never reaches another session. */

import { InMemoryEventStore } from '@modelcontextprotocol/sdk/examples/shared/inMemoryEventStore.js'
import { describe, expect, test } from 'vitest'

import { fromEventStore, type SdkEventStore } from '../../src/compat/event-store.ts'
import { connect } from '../clients/probe-client.ts'
import { PAIRS, serveProbe } from '../clients/serve-probe.ts'
import { deferred, within } from '../support/deferred.ts'
import { tcpProxy } from '../support/tcp-proxy.ts'
import type { Tool } from '../clients/probe-server.ts'

/** A store that counts, and that does as a test says. */
class CountingStore implements SdkEventStore {
  readonly stored: { id: string; streamId: string; message: object }[] = []
  replays = 0

  storeEvent(streamId: string, message: object): Promise<string> {
    const id = `event-${this.stored.length}`
    this.stored.push({ id, streamId, message })
    return Promise.resolve(id)
  }

  async replayEventsAfter(
    lastEventId: string,
    { send }: { send: (eventId: string, message: object) => Promise<void> },
  ): Promise<string> {
    this.replays += 1
    const index = this.stored.findIndex(({ id }) => id === lastEventId)
    const streamId = this.stored[index]?.streamId ?? ''
    for (const event of this.stored.slice(index + 1))
      if (this.sends(event.streamId, streamId)) await send(event.id, event.message)
    return streamId
  }

  sends(eventStream: string, asked: string): boolean {
    return eventStream === asked
  }
}

/** Replays whatever came later, of whomever: what such a store did to others is fastmcp #4402. */
class LeakyStore extends CountingStore {
  override sends(): boolean {
    return true
  }
}

const data = (n: number): string =>
  JSON.stringify({ jsonrpc: '2.0', method: 'notifications/n', params: { n } })
const FIRST = { position: 1, data: data(1) }

describe('fromEventStore', () => {
  test('gives back what comes after a position, in order, from the start as well', async () => {
    const log = fromEventStore(new InMemoryEventStore())
    // Within one millisecond: the store of the examples orders these by chance.
    await Promise.all([1, 2, 3, 4, 5].map((n) => log.append('session', 1, n, data(n))))
    for (const after of [0, 1, 2, 3, 4, 5]) {
      const page = await log.read('session', 1, after)
      const left = [1, 2, 3, 4, 5].filter((n) => n > after)
      expect(page.events).toEqual(left.map((n) => ({ position: n, data: data(n) })))
      expect(page.trimmed).toBe(0)
    }
  })

  test('a single event right after the start of its stream is never missed', async () => {
    const log = fromEventStore(new InMemoryEventStore())
    for (let session = 0; session < 20; session++) {
      await log.append(`session-${session}`, 1, 1, data(1))
      expect((await log.read(`session-${session}`, 1, 0)).events).toEqual([FIRST])
    }
  })

  test('two sessions and two apps share a store, and nothing reaches another session, even where the store mixes them up', async () => {
    const store = new LeakyStore()
    const apps = [fromEventStore(store), fromEventStore(store)]
    for (const [app, log] of apps.entries()) {
      for (const session of ['a', 'b']) await log.append(`${session}${app}`, 1, 1, data(app))
    }
    for (const [app, log] of apps.entries()) {
      const own = { events: [{ position: 1, data: data(app) }], trimmed: 0 }
      for (const session of ['a', 'b']) expect(await log.read(`${session}${app}`, 1, 0)).toEqual(own)
      expect(await log.read(`a${1 - app}`, 1, 0)).toEqual({ events: [], trimmed: 0 })
      expect(await log.read(`a${app}`, 2, 0)).toEqual({ events: [], trimmed: 0 })
    }
    const names = new Set(store.stored.map(({ streamId }) => streamId))
    expect(names.size).toBe(4)
    for (const name of names) expect(name).toMatch(/^[0-9a-f]{32}-1$/)
  })

  test('positions are bounded: the oldest count as trimmed', async () => {
    const log = fromEventStore(new CountingStore(), { maxEvents: 3 })
    for (const n of [1, 2, 3, 4, 5]) await log.append('session', 1, n, data(n))
    const page = await log.read('session', 1, 0)
    expect(page.events.map(({ position }) => position)).toEqual([3, 4, 5])
    expect(page.trimmed).toBe(2)
    // Over all streams of the session.
    await log.append('session', 2, 1, data(1))
    expect(await log.read('session', 1, 2)).toMatchObject({
      events: [{ position: 4 }, { position: 5 }],
      trimmed: 3,
    })
  })

  test('what the store has let go counts as trimmed', async () => {
    const store = new CountingStore()
    const log = fromEventStore(store)
    for (const n of [1, 2, 3]) await log.append('session', 1, n, data(n))
    store.stored.splice(2, 1)
    const page = await log.read('session', 1, 0)
    expect(page.events.map(({ position }) => position)).toEqual([1, 3])
    expect(page.trimmed).toBe(2)
  })

  test('a store is not asked where nothing is left, and dropping lets go of everything but what the store holds', async () => {
    const store = new CountingStore()
    const log = fromEventStore(store)
    await log.append('session', 1, 1, data(1))
    await log.append('session', 2, 1, data(1))
    expect(await log.read('session', 1, 1)).toEqual({ events: [], trimmed: 0 })
    expect(store.replays).toBe(0)
    await log.dropStream('session', 1)
    expect((await log.read('session', 1, 0)).events).toEqual([])
    expect((await log.read('session', 2, 0)).events).toEqual([FIRST])
    await log.dropSession('session')
    expect((await log.read('session', 2, 0)).events).toEqual([])
    expect(store.stored).toHaveLength(4)
    await log.close()
    await log.close()
  })

  test('an append that fails is told, and those after it go on', async () => {
    const store = new CountingStore()
    const storeEvent = store.storeEvent.bind(store)
    let calls = 0
    store.storeEvent = (streamId, message) =>
      ++calls === 3 ? Promise.reject(new Error('disk gone')) : storeEvent(streamId, message)
    const log = fromEventStore(store)
    const appends = [1, 2, 3].map((n) => log.append('session', 1, n, data(n)))
    const settled = await Promise.allSettled(appends)
    expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect((await log.read('session', 1, 0)).events.map(({ position }) => position)).toEqual([1, 3])
  })

  test('what is no store is refused when it is given', () => {
    expect(() => fromEventStore({} as SdkEventStore)).toThrow(/storeEvent and replayEventsAfter/)
    expect(() => fromEventStore(new CountingStore(), { maxEvents: 0 })).toThrow(
      'maxEvents must be a whole number, at least 1, got 0',
    )
  })
})

describe.each(PAIRS)('client $client, server $server', (pair) => {
  test('a call that was cut is answered from the store of the SDK examples', async () => {
    const cut = deferred()
    const work: Tool = async (call) => {
      await call.progress(1)
      await cut.promise
      await call.progress(2)
      await call.progress(3)
      return 'done'
    }
    const { served, events } = await serveProbe(
      pair.server,
      { work },
      { eventLog: fromEventStore(new InMemoryEventStore()) },
    )
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
    proxy.find(/"name":"work"/).cut('rst')
    await events.first(
      (event) => event.type === 'stream.closed' && event.kind === 'post',
      'the end of the connection',
    )
    cut.resolve()
    expect(await call).toBe('done')
    expect(seen).toEqual([1, 2, 3])
  })
})
