/** `app.sessions`: its events, its iterator, and what a handle asks the client. */

import { expect, test } from 'vitest'

import { EventHub, iterateEvents, type SessionEvent } from '../../src/session/events.ts'
import { openSession } from '../support/mcp-wire.ts'
import { getStream, serveFake } from '../support/wire-app.ts'

test('a listener that unsubscribes and subscribes again is told of each event once', () => {
  const hub = new EventHub((thrown) => {
    throw thrown
  })
  let told = 0
  const listener = (): void => {
    told += 1
    if (told > 10) throw new Error('told again and again')
    stop()
    stop = hub.subscribe(listener)
  }
  let stop = hub.subscribe(listener)
  const event = { type: 'session.initialized', time: 0, session: 'one' } satisfies SessionEvent
  hub.emit(event)
  expect(told).toBe(1)
  hub.emit(event)
  expect(told).toBe(2)
})

test('an iterator that is left before its first event lets its subscription go', async () => {
  const hub = new EventHub(() => {})
  let forgotten = 0
  const events = iterateEvents(hub, () => () => (forgotten += 1))
  expect(hub.active).toBe(true)
  expect(await events.return?.()).toEqual({ done: true, value: undefined })
  expect(hub.active).toBe(false)
  expect(forgotten).toBe(1)
  expect(await events.next()).toEqual({ done: true, value: undefined })
})

test('a request to the client that takes too long is cancelled there, by the id it traveled with', async () => {
  const server = await serveFake()
  const session = await openSession(server)
  const stream = await server.request(getStream(session))
  const asked = server.app.sessions.get(session.id)?.request('roots/list', {}, { timeout: 1000 })
  const failure = asked?.catch((thrown: unknown) => thrown)
  const request = (await stream.nextMessage()) as { id: number }
  expect(request).toMatchObject({ method: 'roots/list', id: expect.any(Number) })
  await server.clock.advance(1000)
  expect(await failure).toMatchObject({ code: 'timeout' })
  expect(await stream.nextMessage()).toMatchObject({
    method: 'notifications/cancelled',
    params: { requestId: request.id },
  })
})
