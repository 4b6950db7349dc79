/** What an author's code may do wrong: it costs the request or the session it happens in, and nothing else (promise 10). */

import { McpServer, type ScopeChallengeHandler } from '@modelcontextprotocol/server'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'

import { messageOf } from '../../src/errors.ts'
import type { McpServerLike } from '../../src/types.ts'
import { deferred } from '../support/deferred.ts'
import { initialize, openSession, post, rpc } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

function guarded(scopeChallenge: ScopeChallengeHandler): McpServerLike {
  const server = new McpServer({ name: 'guarded', version: '1' })
  server.registerTool('secret', { inputSchema: z.object({}), scopeChallenge }, () => ({
    content: [{ type: 'text', text: 'told' }],
  }))
  return server
}

const CALL = rpc('tools/call', { name: 'secret', arguments: {} })

describe('a scope check that waits', () => {
  test('and rejects is an internal error of its own request; nothing is left unhandled', async () => {
    const server = await serve(() => guarded(() => Promise.reject(new Error('no'))))
    const session = await openSession(server)
    expect((await server.request(post(CALL, session.headers))).status).toBe(500)
    expect((await server.request(post(rpc('ping'), session.headers))).status).toBe(200)
  })

  test('runs once per call', async () => {
    let checks = 0
    const server = await serve(() =>
      guarded(() => {
        checks += 1
        return Promise.resolve(undefined)
      }),
    )
    const session = await openSession(server)
    expect((await server.request(post(CALL, session.headers))).status).toBe(200)
    expect(checks).toBe(1)
  })

  test('and names a scope is 403', async () => {
    const server = await serve(() => guarded(() => Promise.resolve({ scopes: ['secret:read'] })))
    const session = await openSession(server)
    const refused = await server.request(post(CALL, session.headers))
    expect(refused.status).toBe(403)
    expect(refused.header('www-authenticate')).toContain('scope="secret:read"')
  })
})

test('a server whose connect() never comes back is closed when initialize has taken too long', async () => {
  const clock = new VirtualClock()
  const closed = deferred()
  const server = await serve(
    () => ({
      connect: () => new Promise<void>(() => {}),
      close: () => {
        closed.resolve()
        return Promise.resolve()
      },
    }),
    { clock },
  )
  const connection = await server.connect()
  await connection.send(post(initialize()))
  await server.waitFor(() => server.app.sessions.counts.opening === 1, 'the attempt')
  await clock.advance(60_000)
  expect((await connection.response()).status).toBe(504)
  await closed.promise
})

test('whatever is thrown has a message', () => {
  expect(messageOf(Object.create(null))).toBe('[object Object]')
  expect(messageOf(undefined)).toBe('undefined')
  expect(messageOf('text')).toBe('text')
  expect(messageOf(new TypeError('wrong'))).toBe('wrong')
})
