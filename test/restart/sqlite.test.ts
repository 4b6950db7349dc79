/** A restart on a SQLite file, over real sockets: one app is closed, the next one opens its file. Promises 4, 5 and 9. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { expect, onTestFinished, test } from 'vitest'

import type { AppOptions, CreateServer } from '../../src/types.ts'
import { within } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import { openSession, post, rpc } from '../support/mcp-wire.ts'
import { serve, type Served } from '../support/serve.ts'
import { answerOf, as, authenticateByName, call, getStream } from '../support/wire-app.ts'

function newFile(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sojourn-restart-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'sessions.db')
}

/** Serves servers that count their calls in session.data, and tells how far they are. */
async function serveFile(file: string, counts: number[], options: AppOptions = {}): Promise<Served> {
  const clock = {
    now: () => performance.now(),
    after(delay: number, callback: () => void) {
      const timer = setTimeout(callback, delay)
      return { cancel: () => clearTimeout(timer) }
    },
  }
  const createServer: CreateServer = ({ session }) =>
    new FakeServer({
      clock,
      tag: 'fake',
      oncall: ({ method }) => {
        if (method !== 'tools/call') return
        const count = ((session.data as { count?: number }).count ?? 0) + 1
        session.data = { count }
        counts.push(count)
      },
    })
  const served = await serve(createServer, { store: `sqlite:${file}`, ...options })
  await within(served.app.opened, 'the store being open')
  return served
}

test('sessions, what they know and what their streams have to say go from one app to the next', async () => {
  const file = newFile()
  const counts: number[] = []
  const options = { authenticate: (request: Request) => authenticateByName(request) }
  let server = await serveFile(file, counts, options)
  const session = await openSession(server, { headers: as('ann') })
  const mine = { ...session.headers, ...as('ann') }
  await answerOf(server.request(post(call(), mine)))
  const stream = await server.request(getStream(session, undefined, as('ann')))
  const handle = (): ReturnType<Served['app']['sessions']['get']> => server.app.sessions.get(session.id)
  for (let n = 1; n <= 3; n++) handle()?.notify('notifications/message', { level: 'info', data: n })
  const cursors: (string | undefined)[] = []
  for (let n = 0; n <= 3; n++) cursors.push((await stream.nextEvent())?.id)
  const events = new Set(cursors)

  for (let round = 0; round < 3; round++) {
    await server.close()
    server = await serveFile(file, counts, options)
    expect(server.app.sessions.counts).toMatchObject({ total: 1, asleep: 1 })
    const foreign = await server.request(post(call(), { ...session.headers, ...as('bob') }))
    expect(foreign.status).toBe(404)
    expect(await answerOf(server.request(post(call(), mine)))).toMatchObject({ result: { call: 'call' } })
    const resumed = await server.request(getStream(session, cursors[1], as('ann')))
    handle()?.notify('notifications/message', { level: 'info', data: 4 + round })
    const got: unknown[] = []
    while (got.length < 3 + round) {
      const event = await resumed.nextEvent()
      if (event?.data === '' && event.id !== undefined) expect(events.has(event.id)).toBe(false)
      if (event?.id !== undefined) events.add(event.id)
      if (event === undefined || event.data === '') continue
      got.push((JSON.parse(event.data ?? '') as { params: { data: unknown } }).params.data)
    }
    expect(got).toEqual([2, 3, 4, 5, 6].slice(0, 3 + round))
  }
  expect(counts).toEqual([1, 2, 3, 4])

  const deleted = await server.request({ method: 'DELETE', headers: mine })
  expect(deleted.status).toBe(200)
  await server.close()
  server = await serveFile(file, counts, options)
  expect(server.app.sessions.size).toBe(0)
  expect((await server.request(post(rpc('ping'), mine))).status).toBe(404)
})

test('a second app on the file waits, refuses with 503, and takes over when the first is closed', async () => {
  const file = newFile()
  const counts: number[] = []
  const first = await serveFile(file, counts)
  const session = await openSession(first)
  await answerOf(first.request(post(call(), session.headers)))
  const second = await serveFile(file, counts)
  expect([first.app.ready, second.app.ready]).toEqual([true, false])
  const refused = await second.request(post(call(), session.headers))
  expect([refused.status, refused.header('retry-after')]).toEqual([503, '1'])
  await first.close()
  await second.waitFor(() => second.app.ready, 'the second app being ready')
  await answerOf(second.request(post(call(), session.headers)))
  expect(counts).toEqual([1, 2])
})
