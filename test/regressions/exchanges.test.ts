/** Connections that die where nobody tells the response of it: nothing may go on holding the session. */

import { once } from 'node:events'

import { describe, expect, test } from 'vitest'

import { deferred, within } from '../support/deferred.ts'
import { FakeServer } from '../support/fake-server.ts'
import { openSession, post } from '../support/mcp-wire.ts'
import type { RawRequest } from '../support/raw-http.ts'
import { serve } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { call, getStream, serveFake } from '../support/wire-app.ts'

const IDLE = 60_000

describe('a request pipelined behind an open stream', () => {
  test.each(['answered', 'running'] as const)(
    'whose connection dies before its response has a socket holds nothing (%s)',
    async (how) => {
      const server = await serveFake({ sessionIdleTimeout: IDLE, detachedRequestTimeout: 1000 })
      const session = await openSession(server)
      const connection = await server.connect()
      expect((await connection.request(getStream(session))).status).toBe(200)
      await connection.send(post(call({ ending: how === 'answered' ? 'result' : 'never' }), session.headers))
      const { endedAt } = await server.called()
      expect(endedAt === undefined || how === 'answered').toBe(true)
      connection.destroy()
      await server.waitFor(() => server.app.sessions.get(session.id)?.streams === 0, 'the end of the stream')
      if (how === 'running') await server.clock.advance(1000)
      await server.idle()
      await server.clock.advance(IDLE)
      expect(await server.until('session.closed')).toMatchObject({ reason: 'idle' })
    },
  )
})

describe('a client that left while middleware in front of the app waited', () => {
  test.each<[string, (session: Parameters<typeof getStream>[0]) => RawRequest]>([
    ['GET', (session) => getStream(session, undefined, { 'X-Slow': '1' })],
    ['POST', (session) => post(call(), { ...session.headers, 'X-Slow': '1' })],
  ])('holds nothing (%s)', async (_, request) => {
    const clock = new VirtualClock()
    const arrived = deferred()
    const left = deferred()
    const handled = deferred()
    const server = await serve(
      () => new FakeServer({ clock, tag: 'late' }),
      { clock, sessionIdleTimeout: IDLE },
      {
        listener: (_, handle) => async (req, res) => {
          if (req.headers['x-slow'] !== undefined) {
            arrived.resolve()
            await once(res, 'close')
            left.resolve()
          }
          handle(req, res)
          if (left.settled) handled.resolve()
        },
      },
    )
    const session = await openSession(server)
    const connection = await server.connect()
    await connection.send(request(session))
    await within(arrived.promise, 'the request')
    connection.destroy()
    await within(handled.promise, 'app.node(req, res)')
    await clock.settle()
    expect(server.app.sessions.counts).toMatchObject({ total: 1, active: 0, requests: 0 })
    await clock.advance(IDLE)
    expect(await server.until('session.closed')).toMatchObject({ reason: 'idle' })
  })
})
