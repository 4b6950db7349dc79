/** What docs/guides/sleep.md shows behaves as it says. */

import { expect, test, vi } from 'vitest'

import {
  createCounter,
  createDataCounter,
  createForgetfulCounter,
  createGrowing,
  createTicking,
} from '../../examples/snippets/sleep.ts'
import type { CreateServer } from '../../src/types.ts'
import { openSession, post, rpc } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

/** Calls tools of one session with a sleep after each call; gives what they answered. */
async function callAndSleep(
  createServer: CreateServer,
  calls: readonly (readonly [method: string, params: object])[],
): Promise<unknown[]> {
  const clock = new VirtualClock()
  const server = await serve(createServer, { clock, sleepAfter: 1000 })
  const session = await openSession(server)
  const answers: unknown[] = []
  for (const [index, [method, params]] of calls.entries()) {
    const answer = await server.request(post(rpc(method, params), session.headers))
    const { result } = JSON.parse(await answer.text()) as {
      result?: { content?: { text: string }[]; tools?: { name: string }[] }
    }
    answers.push(result?.content?.[0]?.text ?? result?.tools?.map(({ name }) => name))
    await clock.advance(1000)
    await server.until('session.slept', index + 1)
  }
  return answers
}

const count = ['tools/call', { name: 'count', arguments: {} }] as const

test.each([
  ['a counter in a closure', createForgetfulCounter, ['1', '1', '1']],
  ['one that is put down by onSleep', createCounter, ['1', '2', '3']],
  ['one in session.data', createDataCounter, ['1', '2', '3']],
] as const)('%s', async (_name, createServer, expected) => {
  expect(await callAndSleep(createServer, [count, count, count])).toEqual(expected)
})

test('tools added at run time', async () => {
  const add = ['tools/call', { name: 'add', arguments: { name: 'more' } }] as const
  const answers = await callAndSleep(createGrowing, [
    add,
    ['tools/list', {}],
    ['tools/call', { name: 'more', arguments: {} }],
  ])
  expect(answers).toEqual(['added more', ['add', 'more'], 'more'])
})

test('the timer of a factory', async () => {
  vi.stubGlobal('refresh', () => {})
  const cleared = vi.spyOn(globalThis, 'clearInterval')
  await callAndSleep(createTicking, [['tools/list', {}]])
  expect(cleared).toHaveBeenCalled()
  cleared.mockRestore()
  vi.unstubAllGlobals()
})
