/** Clients that are not official: every request has the same id, and all of them are on their way at once. */

import { describe, expect, test } from 'vitest'

import { type Deferred, deferred, within } from '../support/deferred.ts'
import type { Generation, Tool } from './probe-server.ts'
import { serveProbe } from './serve-probe.ts'

interface Session {
  /** POSTs one message and gives the JSON-RPC messages of its answer, however they travelled. */
  post(message: object): Promise<Record<string, unknown>[]>
}

describe.each<Generation>(['v1', 'v2'])('server %s', (generation) => {
  test.each([0, 1, '', 'id'])('every request has id %j: each POST gets its own answer', async (id) => {
    const gates = new Map<string, Deferred<void>>()
    const all = deferred()
    const wait: Tool = async (call) => {
      const gate = deferred()
      gates.set(call.input, gate)
      if (gates.size === 10) all.resolve()
      await gate.promise
      return call.input
    }
    const { url } = await serveProbe(generation, { wait })
    const session = await open(url, id)
    const inputs = Array.from({ length: 10 }, (_, index) => `call ${index}`)
    const answers = inputs.map((input) => session.post(call(id, 'wait', input)))
    await within(all.promise, '10 running calls')
    for (const input of [...inputs].reverse()) gates.get(input)?.resolve()
    expect((await within(Promise.all(answers), 'the answers')).map(([answer]) => answer)).toMatchObject(
      inputs.map((text) => ({ id, result: { content: [{ type: 'text', text }] } })),
    )
  })

  test.each([0, 1])('a cancel of id %j, which two calls have, hits the newer one', async (id) => {
    const gate = deferred()
    const started = new Map<string, Deferred<void>>([
      ['older', deferred()],
      ['newer', deferred()],
    ])
    const aborted = deferred<string>()
    const wait: Tool = async (call) => {
      call.signal.addEventListener('abort', () => aborted.resolve(call.input))
      started.get(call.input)?.resolve()
      await gate.promise
      return call.input
    }
    const { url } = await serveProbe(generation, { wait })
    const session = await open(url, id)
    const older = session.post(call(id, 'wait', 'older'))
    await within(started.get('older')?.promise ?? Promise.reject(), 'the older call')
    const newer = session.post(call(id, 'wait', 'newer'))
    await within(started.get('newer')?.promise ?? Promise.reject(), 'the newer call')
    await session.post({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } })
    expect(await within(aborted.promise, 'an abort')).toBe('newer')
    gate.resolve()
    // A stream that was open ends without an answer; one that was not yet says that it was cancelled.
    for (const message of await within(newer, 'the end of the newer call'))
      expect(message).toMatchObject({ error: { code: -32800 } })
    expect(await within(older, 'the older answer')).toMatchObject([
      { id, result: { content: [{ text: 'older' }] } },
    ])
  })

  test('progress goes to the call whose token it has, on the POST of that call', async () => {
    const all = deferred()
    let running = 0
    const work: Tool = async (call) => {
      running += 1
      if (running === 3) all.resolve()
      await all.promise
      await call.progress(Number(call.input))
      return call.input
    }
    const { url } = await serveProbe(generation, { work })
    const session = await open(url, 1)
    const answers = await within(
      Promise.all(['1', '2', '3'].map((input) => session.post(call(1, 'work', input, `token ${input}`)))),
      'the answers',
    )
    expect(answers).toMatchObject(
      ['1', '2', '3'].map((input) => [
        {
          method: 'notifications/progress',
          params: { progressToken: `token ${input}`, progress: Number(input) },
        },
        { id: 1, result: { content: [{ text: input }] } },
      ]),
    )
  })
})

function call(id: string | number, name: string, input: string, progressToken?: string): object {
  return {
    jsonrpc: '2.0',
    id,
    method: 'tools/call',
    params: { name, arguments: { input }, ...(progressToken && { _meta: { progressToken } }) },
  }
}

async function open(url: URL, id: string | number): Promise<Session> {
  const send = async (message: object, headers: Record<string, string>): Promise<Response> => {
    const response = await within(
      fetch(url, {
        method: 'POST',
        headers: {
          'Content-Type': 'application/json',
          Accept: 'application/json, text/event-stream',
          ...headers,
        },
        body: JSON.stringify(message),
      }),
      'the head of an answer',
    )
    expect(response.ok, `status ${response.status}`).toBe(true)
    return response
  }
  const opened = await send(
    {
      jsonrpc: '2.0',
      id,
      method: 'initialize',
      params: {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'same-id', version: '1' },
      },
    },
    {},
  )
  expect(await messagesOf(opened)).toMatchObject([{ id, result: { protocolVersion: '2025-11-25' } }])
  const headers = {
    'Mcp-Session-Id': opened.headers.get('mcp-session-id') ?? '',
    'Mcp-Protocol-Version': '2025-11-25',
  }
  const post = async (message: object): Promise<Record<string, unknown>[]> =>
    messagesOf(await send(message, headers))
  await post({ jsonrpc: '2.0', method: 'notifications/initialized' })
  return { post }
}

async function messagesOf(response: Response): Promise<Record<string, unknown>[]> {
  const body = await within(response.text(), 'the end of an answer')
  if (body === '') return []
  if (response.headers.get('content-type') === 'application/json')
    return [JSON.parse(body) as Record<string, unknown>]
  return body
    .split('\n')
    .filter((line) => line.startsWith('data:') && line.trim() !== 'data:')
    .map((line) => JSON.parse(line.slice('data:'.length)) as Record<string, unknown>)
}
