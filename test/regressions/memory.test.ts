/** What must not be kept alive, asked of the garbage collector itself. */

import { queryObjects, setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import { expect, onTestFinished, test } from 'vitest'

import { SessionStreams } from '../../src/session/session-streams.ts'
import { MemoryEventLog } from '../../src/stream/memory-event-log.ts'
import type { ServerContext } from '../../src/types.ts'
import { openSession } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { SDKS } from '../support/sdk-servers.ts'
import { call, SLEEP, sleepApp } from '../support/sleep-app.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** How many of these live on, after the garbage collector had its chances to leave no more than `expected`. */
async function survivors(refs: readonly WeakRef<object>[], expected: number): Promise<number> {
  let left = refs.length
  for (let round = 0; round < 20 && left > expected; round++) {
    // A reference that was read lives on until the end of the turn.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
    collect()
    left = refs.filter((ref) => ref.deref() !== undefined).length
  }
  return left
}

test('the log in memory lets trimmed events go at once', async () => {
  const log = new MemoryEventLog(new VirtualClock(), {
    maxBytes: 4096,
    maxEvents: 1000,
    maxAge: 600_000,
    maxTotalBytes: 1 << 20,
  })
  onTestFinished(() => log.close())
  const refs: WeakRef<object>[] = []
  for (let position = 1; position <= 20; position++) {
    log.append('one', 0, position, JSON.stringify('x'.repeat(3000)))
    for (const event of log.read('one', 0, position - 1).events) refs.push(new WeakRef(event))
  }
  expect(refs).toHaveLength(20)
  expect(log.totalBytes).toBeLessThanOrEqual(4096)
  // The last one is in the log.
  expect(await survivors(refs, 1)).toBe(1)
})

test.each(SDKS)(
  'a factory of $name servers that keeps its context does not keep the exchange of initialize',
  async ({ build }) => {
    const clock = new VirtualClock()
    const contexts: ServerContext[] = []
    const exchanges: WeakRef<object>[] = []
    const server = await serve(
      (context) => {
        contexts.push(context)
        return build()
      },
      { clock },
      {
        listener: (_, handle) => (req, res) => {
          exchanges.push(new WeakRef(req), new WeakRef(res))
          handle(req, res)
        },
      },
    )
    for (let n = 0; n < 10; n++) {
      const { response } = await openSession(server, {
        initialized: false,
        headers: { Connection: 'close' },
      })
      expect(response.status).toBe(200)
    }
    // The last exchange may live on in Node's own pools.
    expect(await survivors(exchanges, 2)).toBeLessThanOrEqual(2)
    expect(contexts).toHaveLength(10)
    expect(contexts[0]?.requestInfo?.headers.get('accept')).toContain('text/event-stream')
  },
)

test('a session that never had a stream holds none: not after its calls, nor while it sleeps through a drain', async () => {
  const { clock, app } = sleepApp()
  const ids: string[] = []
  for (let n = 0; n < 10; n++) ids.push(await app.open())
  for (const id of ids) expect(app.post(id, call()).method).toBe('POST')
  await clock.settle()
  expect(queryObjects(SessionStreams, { format: 'count' }), 'after calls').toBe(0)
  await clock.advance(SLEEP * 2)
  expect(app.manager.sessions.counts.asleep).toBe(10)
  // It keeps the drain from being over at once, and is answered on a stream.
  app.post(ids[0], call(5000))
  await clock.settle()
  const closed = app.manager.close({ drain: '30s' })
  await clock.advance(1000)
  expect(app.manager.sessions.counts.total).toBe(10)
  expect(queryObjects(SessionStreams, { format: 'count' }), 'in the drain').toBe(1)
  await clock.advance(5000)
  await closed
  expect(app.leftovers()).toEqual([])
})
