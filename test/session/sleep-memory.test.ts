/** Nothing of an instance is left when it sleeps: neither the server, nor its transport, nor what its factory's closures hold. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import { McpServer as McpServerV2 } from '@modelcontextprotocol/server'
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js'
import { expect, test } from 'vitest'
import { z } from 'zod'

import type { McpServerLike } from '../../src/types.ts'
import { openSession, post, rpc } from '../support/mcp-wire.ts'
import { serve } from '../support/serve.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

/** How many of these live on, after the garbage collector had its chances. */
async function survivors(refs: readonly WeakRef<object>[]): Promise<number> {
  let left = refs.length
  for (let round = 0; round < 20 && left > 0; round++) {
    // A reference that was read lives on until the end of the turn.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
    collect()
    left = refs.filter((ref) => ref.deref() !== undefined).length
  }
  return left
}

const text = (state: object): { content: { type: 'text'; text: string }[] } => ({
  content: [{ type: 'text', text: JSON.stringify(state) }],
})

const SERVERS: Readonly<
  Record<string, (state: object) => McpServerLike & { server: { transport?: unknown } }>
> = {
  v1: (state) => {
    const server = new McpServerV1({ name: 'v1', version: '1' })
    server.registerTool('echo', { inputSchema: { text: z.string() } }, () => text(state))
    return server
  },
  v2: (state) => {
    const server = new McpServerV2({ name: 'v2', version: '1' })
    server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, () => text(state))
    return server
  },
}

/** Not in the factory: closures of one function keep what any of them needs. */
function transportOf(server: WeakRef<{ server: { transport?: unknown } }>): () => object {
  return () => server.deref()?.server.transport ?? {}
}

test.each(Object.entries(SERVERS))('%s', async (_name, build) => {
  const clock = new VirtualClock()
  const refs: WeakRef<object>[] = []
  const transports: (() => object)[] = []
  const server = await serve(
    (context) => {
      const state = { large: 'x'.repeat(1000) }
      const kept = context.session.keepAwake()
      kept.release()
      context.onSleep(() => void state)
      context.onWake(() => void state)
      context.instanceSignal.addEventListener('abort', () => void state)
      const made = build(state)
      const ref = new WeakRef(made)
      refs.push(ref, new WeakRef(state), new WeakRef(context))
      transports.push(transportOf(ref))
      return made
    },
    { clock, sleepAfter: 1000 },
  )
  for (let n = 0; n < 10; n++) {
    const session = await openSession(server, { headers: { Connection: 'close' } })
    for (let turn = 0; turn < 2; turn++) {
      const call = rpc('tools/call', { name: 'echo', arguments: { text: 'x' } })
      const answer = await server.request(post(call, { ...session.headers, Connection: 'close' }))
      expect(answer.status).toBe(200)
      await answer.ended()
      refs.push(...transports.splice(0).map((transport) => new WeakRef(transport())))
      await clock.advance(1000)
      await server.until('session.slept', 2 * n + turn + 1)
    }
  }
  expect(refs).toHaveLength(20 * 4)
  expect(server.app.sessions.counts).toMatchObject({ total: 10, asleep: 10 })
  expect(await survivors(refs)).toBe(0)
})
