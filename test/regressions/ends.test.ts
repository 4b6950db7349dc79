/** Ends of sessions with somebody else's code in the middle of them: an author's onclose, a listener, a server that is not ours. */

import { describe, expect, test } from 'vitest'

import type { McpServerLike } from '../../src/types.ts'
import { ID, initialize, openSession, post } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { answerOf, call, getStream, OFFICIAL, open, serveFake } from '../support/wire-app.ts'

describe.each(OFFICIAL)(
  "an author's onclose that throws while the $name server closes itself",
  ({ make }) => {
    test('costs no answer: the call ends, and the session with it', async () => {
      const server = await serve(() => {
        const built: McpServerLike = make(async () => {
          await built.close().catch(() => {})
          return 'closed'
        })
        const { server: low } = built as unknown as { server: { onclose?: () => void } }
        low.onclose = () => {
          throw new Error("the author's onclose")
        }
        return built
      })
      const session = await openSession(server)
      const response = server.request(post(call(), session.headers))
      expect(await answerOf(response)).toMatchObject({ id: ID, error: { message: 'Session closed: failed' } })
      expect(await server.until('session.closed')).toMatchObject({ reason: 'failed' })
      expect((await server.request(post(call(), session.headers))).status).toBe(404)
    })
  },
)

describe.each([
  ['the default log', undefined],
  ['no log', false],
] as const)('a listener of stream.opened that ends the session (%s)', (_, eventLog) => {
  test.each(['GET', 'POST'])('leaves no stream hanging (%s)', async (method) => {
    const server = await serveFake({ responseMode: 'sse', ...(eventLog === false && { eventLog }) })
    const session = await openSession(server)
    server.app.sessions.subscribe((event) => {
      if (event.type === 'stream.opened') server.app.sessions.close(session.id)
    })
    const { response } = await open(
      server,
      method === 'GET' ? getStream(session) : post(call({ ending: 'never' }), session.headers),
    )
    if (method === 'POST') {
      await server.called()
      // The stream is opened when no answer came in the window for one.
      await server.clock.advance(25)
    }
    expect(await (await response).ended()).toBe('complete')
    expect(await server.until('session.closed')).toMatchObject({ reason: 'admin' })
    const opened = server.events.filter(({ type }) => type === 'stream.opened').length
    expect(server.events.filter(({ type }) => type === 'stream.closed')).toHaveLength(opened)
  })
})

test.each(OFFICIAL)(
  'a factory that returns a $name server connected elsewhere fails, and that connection is not cut',
  async ({ make }) => {
    const shared = make(() => 'done')
    let closed = false
    await shared.connect({
      start: () => Promise.resolve(),
      send: () => Promise.resolve(),
      close: () => {
        closed = true
        return Promise.resolve()
      },
    })
    const server = await serve(() => shared)
    expect((await server.request(post(initialize()))).status).toBe(500)
    await server.close()
    expect(closed).toBe(false)
  },
)
