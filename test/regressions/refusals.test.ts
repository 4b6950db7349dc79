/** What cannot work says so at once, instead of hanging or half working. */

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { describe, expect, onTestFinished, test } from 'vitest'

import { SessionTransport } from '../../src/session/session-transport.ts'
import { MemoryEventLog } from '../../src/stream/memory-event-log.ts'
import type { EventLog } from '../../src/stream/event-log.ts'
import { within } from '../support/deferred.ts'
import { initialize, post } from '../support/mcp-wire.ts'
import { RawConnection } from '../support/raw-http.ts'
import { serve } from '../support/serve.ts'
import { SDKS } from '../support/sdk-servers.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { answerOf, as, authenticateByName, call, OFFICIAL, serveFake } from '../support/wire-app.ts'

describe('under stateless, asking the client', () => {
  test.each([
    ['on the stream of the call', true, 'auto'],
    ['on the stream of the call', true, 'sse'],
    ['outside the call', false, 'auto'],
    ['outside the call', false, 'sse'],
    ['outside the call', false, 'json'],
  ] as const)('%s fails at once (related: %s, responseMode: %s)', async (_, related, responseMode) => {
    const server = await serveFake({ stateless: true, responseMode })
    const response = server.request(post(call({ ask: { related, timeout: 3_600_000 } })))
    expect(await answerOf(response)).toMatchObject({ result: { call: 'call' } })
    expect((await server.called()).asked).toBe('rejected')
  })

  test.each(OFFICIAL)('fails at once in a $name server as well', async ({ make }) => {
    const server = await serve(
      () =>
        make(async ({ server: low }) =>
          low.elicitInput({ message: 'ask', requestedSchema: { type: 'object', properties: {} } }).then(
            () => 'answered',
            () => 'failed',
          ),
        ),
      { stateless: true },
    )
    expect(await answerOf(server.request(post(call())))).toMatchObject({
      result: { content: [{ text: 'failed' }] },
    })
  })
})

test('an async principal is an internal error that the log explains, not an owner of its own', async () => {
  const server = await serveFake({
    authenticate: authenticateByName,
    principal: (async () => 'alice') as unknown as () => string,
  })
  expect((await server.request(post(initialize(), as('alice')))).status).toBe(500)
  expect(server.app.sessions.size).toBe(0)
  const errors = server.logs.filter(({ level }) => level === 'error')
  expect(JSON.stringify(errors, (_, value) => (value instanceof Error ? value.message : value))).toContain(
    'principal must return a string or undefined, got a Promise: it cannot be async',
  )
})

describe('a SessionTransport', () => {
  /** Posts to a transport behind a socket; gives the status. */
  async function posting(transport: SessionTransport): Promise<(body: object) => Promise<number>> {
    const http = createServer((req, res) => transport.handleRequest(req, res))
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
    const connection = await RawConnection.open((http.address() as AddressInfo).port)
    onTestFinished(async () => {
      await transport.close()
      connection.destroy()
      http.closeAllConnections()
      await within(new Promise((resolve) => http.close(resolve)), 'the end of the HTTP server')
    })
    return async (body) => {
      const response = await connection.request(post(body))
      await response.text()
      return response.status
    }
  }

  test('cannot be stateless', () => {
    expect(() => new SessionTransport({ stateless: true })).toThrow(RangeError)
  })

  test.each(SDKS)(
    'serves a $name server that is connected after a first attempt failed',
    async ({ build }) => {
      const transport = new SessionTransport({ clock: new VirtualClock() })
      const send = await posting(transport)
      expect(await send(initialize())).toBe(500)
      await build().connect(transport)
      expect(await send(initialize())).toBe(200)
      expect(await send(initialize())).toBe(400)
    },
  )

  test('shares a log with others: its end takes nothing of theirs, nor closes it', async () => {
    const clock = new VirtualClock()
    const log = new MemoryEventLog(clock, {
      maxBytes: 1 << 20,
      maxEvents: 1000,
      maxAge: 600_000,
      maxTotalBytes: 1 << 24,
    })
    onTestFinished(() => log.close())
    log.append('another session', 0, 1, '{"x":1}')
    const transport = new SessionTransport({ clock, eventLog: log })
    const send = await posting(transport)
    await (SDKS[0] as (typeof SDKS)[number]).build().connect(transport)
    expect(await send(initialize())).toBe(200)
    await transport.close()
    expect(log.read('another session', 0, 0).events).toHaveLength(1)
  })

  test('that ends by itself is not bothered by a log that cannot be closed', async () => {
    const clock = new VirtualClock()
    const closed: string[] = []
    const eventLog: EventLog = {
      append() {},
      read: () => ({ events: [], trimmed: 0 }),
      dropStream() {},
      dropSession() {},
      close: () => {
        closed.push('closed')
        return Promise.reject(new Error('cannot be closed'))
      },
    }
    const transport = new SessionTransport({ clock, eventLog, unusedSessionTimeout: 1000 })
    const ends: string[] = []
    transport.sessions.subscribe((event) => event.type === 'session.closed' && ends.push(event.reason))
    const send = await posting(transport)
    await (SDKS[0] as (typeof SDKS)[number]).build().connect(transport)
    expect(await send(initialize())).toBe(200)
    while (transport.sessions.counts.active > 0) await clock.settle()
    await clock.advance(1000)
    expect(ends).toEqual(['unused'])
    expect(closed).toEqual([])
  })
})
