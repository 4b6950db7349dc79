/** The example server does what its README says, seen by the official clients of both generations over memory. */

import { Client, InMemoryTransport } from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ResourceUpdatedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import createServerByDefault, { createServer } from '../../examples/everything/server.ts'
import type { JsonValue, ServerContext } from '../../src/types.ts'
import { deferred, within } from '../support/deferred.ts'

const closers: (() => Promise<void>)[] = []

afterEach(async () => {
  vi.useRealTimers()
  for (const close of closers.splice(0)) await close()
})

interface FakeContext extends ServerContext {
  /** Lets the instance go. */
  sleep(): void
}

function fakeContext(data: JsonValue = {}, era: ServerContext['era'] = 'legacy'): FakeContext {
  const instance = new AbortController()
  return {
    session: {
      id: '0123456789abcdef0123456789abcdef',
      principal: 'https://issuer.example user-7 app',
      client: { name: 'test', version: '1' },
      data,
      signal: new AbortController().signal,
      restored: false,
      keepAwake: () => ({ release() {}, [Symbol.dispose]() {} }),
    },
    instanceSignal: instance.signal,
    onSleep() {},
    onWake() {},
    era,
    authInfo: undefined,
    requestInfo: undefined,
    sleep: () => instance.abort(),
  }
}

async function connectV2(
  context?: ServerContext,
  client = new Client({ name: 'v2', version: '1' }),
): Promise<Client> {
  const [clientSide, serverSide] = InMemoryTransport.createLinkedPair()
  await createServer(context).connect(serverSide)
  await client.connect(clientSide)
  closers.push(() => client.close())
  return client
}

async function connectV1(context: ServerContext, client: ClientV1): Promise<ClientV1> {
  const [clientSide, serverSide] = InMemoryTransport.createLinkedPair()
  await createServer(context).connect(serverSide)
  await client.connect(clientSide as Parameters<ClientV1['connect']>[0])
  closers.push(() => client.close())
  return client
}

/** Timers that keep this process alive. */
function timersAlive(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
}

/** What a tool said. */
async function call(
  client: Client | ClientV1,
  name: string,
  args: Record<string, unknown> = {},
): Promise<string> {
  const { content } = await client.callTool({ name, arguments: args })
  const [block] = content as { type: string; text?: string }[]
  return block?.text ?? ''
}

test('the default export and the named one are the same factory', () => {
  expect(createServerByDefault).toBe(createServer)
})

test('offers what the README lists', async () => {
  const client = await connectV2(fakeContext())
  const { tools } = await client.listTools()
  expect(tools.map(({ name }) => name)).toEqual(['echo', 'add', 'sleep', 'count', 'whoami', 'ask', 'sample'])
  for (const tool of tools) expect(tool.description).toBeTruthy()
  const { resources } = await client.listResources()
  expect(resources.map(({ uri }) => uri)).toEqual(['clock://now', 'about://everything'])
  const { prompts } = await client.listPrompts()
  expect(prompts.map(({ name }) => name)).toEqual(['greeting'])
  expect(client.getServerCapabilities()?.resources).toMatchObject({ subscribe: true })
})

test('echo says back, add adds', async () => {
  const client = await connectV2(fakeContext())
  expect(await call(client, 'echo', { text: 'hello' })).toBe('hello')
  const sum = await client.callTool({ name: 'add', arguments: { a: 2, b: 40 } })
  expect(sum).toMatchObject({ content: [{ type: 'text', text: '42' }], structuredContent: { sum: 42 } })
  expect(await client.callTool({ name: 'add', arguments: { a: 2 } })).toMatchObject({ isError: true })
})

test('sleep reports progress every 100 ms to those who ask, and only to them', async () => {
  const client = await connectV2(fakeContext())
  const progress: number[] = []
  const slept = await client.callTool(
    { name: 'sleep', arguments: { ms: 250 } },
    { onprogress: (report) => progress.push(report.progress) },
  )
  expect(slept).toMatchObject({ content: [{ text: 'Slept 250 ms' }] })
  expect(progress).toEqual([100, 200, 250])
  expect(await call(client, 'sleep', { ms: 0 })).toBe('Slept 0 ms')
  expect(await call(client, 'sleep', { ms: 20 })).toBe('Slept 20 ms')
})

test('sleep stops when it is cancelled', async () => {
  const client = await connectV2(fakeContext())
  const timersAtRest = timersAlive()
  const begun = deferred()
  const cancel = new AbortController()
  const sleeping = client.callTool(
    { name: 'sleep', arguments: { ms: 60_000 } },
    { signal: cancel.signal, onprogress: () => begun.resolve() },
  )
  await within(begun.promise, 'progress')
  expect(timersAlive()).toBeGreaterThan(timersAtRest)
  cancel.abort()
  await expect(sleeping).rejects.toThrow()
  await vi.waitFor(() => expect(timersAlive()).toBeLessThanOrEqual(timersAtRest))
})

test('count counts per session, and goes on where session.data says', async () => {
  const context = fakeContext()
  const client = await connectV2(context)
  expect(await call(client, 'count')).toBe('1')
  expect(await call(client, 'count')).toBe('2')
  expect(context.session.data).toEqual({ count: 2 })
  // Another instance of the same session: what happens after a sleep.
  const awake = await connectV2(fakeContext(context.session.data))
  expect(await call(awake, 'count')).toBe('3')
  const other = await connectV2(fakeContext())
  expect(await call(other, 'count')).toBe('1')
})

test('whoami says the start of the session id, principal and era', async () => {
  const client = await connectV2(fakeContext())
  const said = await call(client, 'whoami')
  expect(JSON.parse(said)).toEqual({
    session: '01234567',
    principal: 'https://issuer.example user-7 app',
    era: 'legacy',
  })
  expect(said).not.toContain('012345678')
})

test('without a context it works as well', async () => {
  const client = await connectV2()
  expect(await call(client, 'count')).toBe('1')
  expect(await call(client, 'count')).toBe('2')
  expect(JSON.parse(await call(client, 'whoami'))).toEqual({ session: null, principal: null, era: null })
})

test('ask asks by elicitation and says what came of it', async () => {
  const client = new Client({ name: 'v2', version: '1' }, { capabilities: { elicitation: { form: {} } } })
  const asked: unknown[] = []
  let answer: { action: 'accept' | 'decline' | 'cancel'; content?: Record<string, string> } = {
    action: 'decline',
  }
  client.setRequestHandler('elicitation/create', (request) => {
    asked.push(request.params)
    return answer
  })
  await connectV2(fakeContext(), client)
  expect(await call(client, 'ask', { question: 'Hm?' })).toBe('The user declined')
  answer = { action: 'cancel' }
  expect(await call(client, 'ask')).toBe('The user cancelled')
  answer = { action: 'accept', content: { name: 'Ada', color: 'green' } }
  expect(await call(client, 'ask')).toBe('The user accepted: Ada likes green')
  expect(asked).toHaveLength(3)
  expect(asked[0]).toMatchObject({
    message: 'Hm?',
    requestedSchema: {
      type: 'object',
      properties: { name: { type: 'string' }, color: { enum: ['red', 'green', 'blue'] } },
    },
  })
})

test('sample asks the model of the client', async () => {
  const client = new Client({ name: 'v2', version: '1' }, { capabilities: { sampling: {} } })
  client.setRequestHandler('sampling/createMessage', ({ params }) => ({
    role: 'assistant',
    model: 'parrot',
    content: { type: 'text', text: `${JSON.stringify(params.messages[0]?.content)} in ${params.maxTokens}` },
  }))
  await connectV2(fakeContext(), client)
  expect(await call(client, 'sample', { prompt: 'Hi' })).toBe(
    'parrot answered: {"type":"text","text":"Hi"} in 100',
  )
})

test('a client that can neither be asked nor sampled gets an error that says so', async () => {
  const client = await connectV2(fakeContext())
  for (const [name, args] of [
    ['ask', {}],
    ['sample', { prompt: 'Hi' }],
  ] as const) {
    const answer = await client.callTool({ name, arguments: args })
    expect(answer).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining('capability') }],
    })
  }
})

test('the v1 client asks, samples and subscribes too', async () => {
  const client = new ClientV1(
    { name: 'v1', version: '1' },
    { capabilities: { elicitation: {}, sampling: {} } },
  )
  client.setRequestHandler(ElicitRequestSchema, () => ({
    action: 'accept' as const,
    content: { name: 'Grace', color: 'red' },
  }))
  client.setRequestHandler(CreateMessageRequestSchema, () => ({
    role: 'assistant' as const,
    model: 'parrot',
    content: { type: 'text' as const, text: 'Hello' },
  }))
  const updated = deferred<string>()
  client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) =>
    updated.resolve(params.uri),
  )
  await connectV1(fakeContext(), client)
  expect(await call(client, 'ask')).toBe('The user accepted: Grace likes red')
  expect(await call(client, 'sample', { prompt: 'Hi' })).toBe('parrot answered: Hello')
  expect(await call(client, 'count')).toBe('1')
  await client.subscribeResource({ uri: 'clock://now' })
  expect(await within(updated.promise, 'an update')).toBe('clock://now')
})

test('the prompt completes its language', async () => {
  const client = await connectV2(fakeContext())
  const { completion } = await client.complete({
    ref: { type: 'ref/prompt', name: 'greeting' },
    argument: { name: 'language', value: 'd' },
  })
  expect(completion.values).toEqual(['Danish', 'Dutch'])
  const prompt = await client.getPrompt({ name: 'greeting', arguments: { name: 'Ada', language: 'Dutch' } })
  expect(prompt.messages).toMatchObject([{ content: { text: 'Greet Ada in Dutch, in one sentence.' } }])
})

test('resources can be read', async () => {
  const client = await connectV2(fakeContext())
  const about = await client.readResource({ uri: 'about://everything' })
  expect(about.contents).toMatchObject([{ text: expect.stringContaining('# Everything') }])
  const clock = await client.readResource({ uri: 'clock://now' })
  expect(clock.contents).toMatchObject([{ text: expect.stringMatching(/^\d{4}-\d\d-\d\dT/) }])
})

test('a modern server offers no resources/subscribe', async () => {
  const client = await connectV2(fakeContext({}, 'modern'))
  expect(client.getServerCapabilities()?.resources?.subscribe).toBeUndefined()
})

test('subscribing to what is not there is an error', async () => {
  const client = await connectV2(fakeContext())
  await expect(client.subscribeResource({ uri: 'nothing://here' })).rejects.toMatchObject({ code: -32602 })
})

interface Updates {
  readonly uris: string[]
  /** Lets `seconds` pass on the faked timers, and the messages through. */
  pass(seconds: number): Promise<void>
}

/** Time for the clock is faked: only its interval, the client keeps its own timers. */
async function watch(client: Client): Promise<Updates> {
  const uris: string[] = []
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => void uris.push(params.uri))
  return { uris, pass: async (seconds) => void (await vi.advanceTimersByTimeAsync(seconds * 1000)) }
}

beforeEach((context) => {
  if (context.task.name.startsWith('the clock'))
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
})

test('the clock ticks once somebody subscribes, until they unsubscribe', async () => {
  const client = await connectV2(fakeContext())
  const { uris, pass } = await watch(client)
  expect(vi.getTimerCount()).toBe(0)
  await client.subscribeResource({ uri: 'clock://now' })
  await client.subscribeResource({ uri: 'clock://now' })
  await client.subscribeResource({ uri: 'about://everything' })
  expect(vi.getTimerCount()).toBe(1)
  await pass(3)
  expect(uris).toEqual(['clock://now', 'clock://now', 'clock://now'])
  await client.unsubscribeResource({ uri: 'clock://now' })
  expect(vi.getTimerCount()).toBe(0)
  await pass(3)
  expect(uris).toHaveLength(3)
})

test('the clock stops when the instance is let go', async () => {
  const context = fakeContext()
  const client = await connectV2(context)
  const { uris, pass } = await watch(client)
  await client.subscribeResource({ uri: 'clock://now' })
  await pass(1)
  context.sleep()
  expect(vi.getTimerCount()).toBe(0)
  await pass(5)
  expect(uris).toHaveLength(1)
})

test('the clock stops when nobody can be told any more', async () => {
  const client = await connectV2()
  const { pass } = await watch(client)
  await client.subscribeResource({ uri: 'clock://now' })
  await client.close()
  await pass(2)
  expect(vi.getTimerCount()).toBe(0)
})

test('the clock keeps no process alive', async () => {
  vi.useRealTimers()
  const client = await connectV2(fakeContext())
  const before = timersAlive()
  await client.subscribeResource({ uri: 'clock://now' })
  expect(timersAlive()).toBeLessThanOrEqual(before)
})
