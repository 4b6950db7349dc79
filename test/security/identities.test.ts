/**
 * Who a request is, and what its handler is given: one client's users are not each other, a session belongs to no token, each call has the
 * authentication of its own request; and what an app logs, tells and refuses shows neither ids nor tokens. Promise 5.
 */

import { randomBytes } from 'node:crypto'
import { inspect } from 'node:util'

import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { describe, expect, onTestFinished, test, vi } from 'vitest'

import type { AppOptions, AuthInfo, McpServerLike } from '../../src/types.ts'
import { FakeServer } from '../support/fake-server.ts'
import { del, get, initialize, openSession, post, rpc } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { answerOf, bytesOf, call, getStream } from '../support/wire-app.ts'

/** `Bearer <client>/<user>/<anything>`: an authorization server that issues such tokens for one resource. */
function authenticate(request: Request): AuthInfo | Response {
  const [, token, clientId = '', sub = ''] =
    /^Bearer (([^/]+)\/([^/]+)\/.*)$/.exec(request.headers.get('authorization') ?? '') ?? []
  if (token === undefined)
    return new Response(null, { status: 401, headers: { 'WWW-Authenticate': 'Bearer' } })
  return { token, clientId, scopes: [], extra: { iss: 'https://issuer.example', sub } }
}

const as = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}` })

const options: AppOptions = { authenticate }
const clock = {
  now: () => performance.now(),
  after(delay: number, callback: () => void) {
    const handle = setTimeout(callback, delay)
    return { cancel: () => clearTimeout(handle) }
  },
}
const fake = (): FakeServer => new FakeServer({ clock, tag: 'fake' })

describe('a session belongs to a user of a client', () => {
  test('not to the client: another user of the same one finds nothing, on every method', async () => {
    const server = await serve(fake, options)
    const session = await openSession(server, { headers: as('app/ann/1') })
    const unknown = { 'Mcp-Session-Id': randomBytes(24).toString('base64url') }
    for (const stranger of [as('app/bob/1'), as('other/ann/1'), as('app/ann2/1')]) {
      for (const request of [
        (headers: object) => post(rpc('tools/list'), { ...headers, ...stranger }),
        (headers: object) => get({ ...headers, ...stranger }),
        (headers: object) => get({ ...headers, ...stranger, 'Last-Event-ID': '0-1' }),
        (headers: object) => del({ ...headers, ...stranger }),
      ]) {
        const answer = await server.request(request(session.headers))
        expect(answer.status).toBe(404)
        expect(await bytesOf(answer)).toBe(await bytesOf(await server.request(request(unknown))))
      }
    }
    // It is there all the same, for her, with whatever token she has by now.
    expect(
      (await server.request(post(rpc('tools/list'), { ...session.headers, ...as('app/ann/2') }))).status,
    ).toBe(200)
  })

  test('and cannot be taken up without authentication, nor an anonymous one with it', async () => {
    const optional = (request: Request): AuthInfo | undefined => {
      const auth = authenticate(request)
      return auth instanceof Response ? undefined : auth
    }
    const server = await serve(fake, { authenticate: optional })
    const hers = await openSession(server, { headers: as('app/ann/1') })
    const nobodys = await openSession(server)
    expect((await server.request(post(rpc('tools/list'), hers.headers))).status).toBe(404)
    const taken = post(rpc('tools/list'), { ...nobodys.headers, ...as('app/ann/1') })
    expect((await server.request(taken)).status).toBe(404)
  })
})

interface Seen {
  readonly authInfo: AuthInfo | undefined
  readonly authorization: string | null | undefined
}

const SDKS: readonly (readonly [string, (seen: Seen[]) => McpServerLike])[] = [
  [
    'v1',
    (seen) => {
      const server = new McpServerV1({ name: 'v1', version: '1' })
      server.registerTool('who', {}, ({ authInfo, requestInfo }) => {
        const { authorization } = requestInfo?.headers ?? {}
        seen.push({ authInfo: authInfo as AuthInfo, authorization: authorization as string })
        return { content: [] }
      })
      return server
    },
  ],
  [
    'v2',
    (seen) => {
      const server = new McpServerV2({ name: 'v2', version: '1' })
      server.registerTool('who', {}, ({ http }) => {
        seen.push({
          authInfo: http?.authInfo as AuthInfo,
          authorization: http?.req?.headers.get('authorization'),
        })
        return { content: [] }
      })
      return server
    },
  ],
]

describe.each(SDKS)('a handler of SDK %s', (_, make) => {
  test('gets the authentication of its own request, after a refresh the new one, asleep or awake', async () => {
    const seen: Seen[] = []
    const server = await serve(() => make(seen), { ...options, sleepAfter: 50 })
    const session = await openSession(server, { headers: as('app/ann/1') })
    const who = (token: string): Promise<unknown> =>
      answerOf(
        server.request(
          post(rpc('tools/call', { name: 'who', arguments: {} }), { ...session.headers, ...as(token) }),
        ),
      )
    await who('app/ann/1')
    await server.until('session.slept')
    await who('app/ann/2')
    expect(seen.map(({ authInfo }) => authInfo?.token)).toEqual(['app/ann/1', 'app/ann/2'])
    // As in both SDKs the fields of the request are there as they came, so that handlers must not pass them on.
    expect(seen.map(({ authorization }) => authorization)).toEqual(['Bearer app/ann/1', 'Bearer app/ann/2'])
  })
})

test('an app without authentication of its own asks no other machine for anything', async () => {
  const asked = vi.spyOn(globalThis, 'fetch')
  onTestFinished(() => asked.mockRestore())
  const server = await serve(fake, options)
  const evil = {
    ...as('app/ann/1'),
    Referer: 'http://169.254.169.254/latest/meta-data',
    'X-Forwarded-Host': '169.254.169.254',
    'X-Forwarded-For': '169.254.169.254',
    Forwarded: 'host=169.254.169.254',
  }
  const session = await openSession(server, { headers: evil })
  await answerOf(server.request(post(call(), { ...session.headers, ...evil })))
  expect(asked).not.toHaveBeenCalled()
})

test('what an app logs and tells shows of ids and tokens nothing, whatever is refused and whatever fails', async () => {
  const written: unknown[][] = []
  const write = (...args: unknown[]): void => void written.push(args)
  const logger = { debug: write, info: write, warn: write, error: write }
  let failing = false
  const server = await serve(
    () => {
      if (failing) throw new Error('the factory is broken')
      return fake()
    },
    {
      logger,
      maxSessions: 3,
      sleepAfter: 50,
      authenticate: (request) => {
        if (request.headers.has('x-throw')) throw new Error('the directory of users is down')
        return authenticate(request)
      },
    },
  )
  const token = `app/ann/${randomBytes(24).toString('base64url')}`
  const hers = await openSession(server, { headers: as(token) })
  const bobs = await openSession(server, { headers: as('app/bob/1') })
  const mine = { ...hers.headers, ...as(token) }
  const bodies: string[] = []
  const ask = async (request: ReturnType<typeof post>, status: number): Promise<void> => {
    const answer = await server.request(request)
    expect(answer.status).toBe(status)
    if (status >= 400) bodies.push(await answer.text())
  }
  await ask(post('{', mine), 400)
  await ask(post(rpc('tools/list'), { ...mine, Origin: 'https://evil.example' }), 403)
  await ask(post(rpc('tools/list'), { ...hers.headers, ...as('app/bob/1') }), 404)
  await ask(post(rpc('tools/list'), { ...hers.headers, Authorization: `Basic ${token}` }), 401)
  await ask(post(rpc('tools/list'), { ...mine, 'X-Throw': '1' }), 500)
  await ask(post(initialize(), mine), 400)
  await ask(getStream(bobs, hers.id, as('app/bob/1')), 400)
  await ask({ method: 'PUT', headers: mine }, 405)
  const query = { ...post(rpc('tools/list'), { ...as('app/bob/1'), ...bobs.headers }) }
  await ask({ ...query, target: `/mcp?access_token=${token}&session=${hers.id}` }, 200)
  await server.until('session.slept', 2)
  failing = true
  await ask(post(rpc('tools/list'), mine), 503)
  await ask(post(initialize(), as(token)), 500)
  failing = false
  await ask(del(mine), 200)
  await ask(post(rpc('tools/list'), mine), 404)

  const texts = {
    log: inspect(written, {
      depth: Infinity,
      showHidden: true,
      maxStringLength: Infinity,
      maxArrayLength: Infinity,
    }),
    errors: bodies.join('\n'),
    // An event names its session whole, for who counts them in code; nothing else in it does.
    events: inspect(
      server.events.map((event) => ({ ...event, session: undefined })),
      { depth: Infinity },
    ),
  }
  expect(written.length).toBeGreaterThan(3)
  for (const [where, text] of Object.entries(texts))
    for (const secret of [hers.id, bobs.id, token, token.slice('app/ann/'.length)])
      for (const part of [secret.slice(0, 12), secret.slice(-12)])
        if (!part.startsWith('app/ann/')) expect(text.includes(part), `${part} in ${where}`).toBe(false)
})
