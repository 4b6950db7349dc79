/** What happens within a call: the official clients of both generations against servers of both. */

import { describe, expect, test } from 'vitest'

import { type Deferred, deferred, within } from '../support/deferred.ts'
import { connect, rejection } from './probe-client.ts'
import { RESOURCE, type Tool } from './probe-server.ts'
import { PAIRS, serveProbe } from './serve-probe.ts'

const echo: Tool = ({ input }) => input

describe.each(PAIRS)('client $client, server $server', (pair) => {
  test('tools are listed and called, resources read, prompts listed', async () => {
    const { url, served } = await serveProbe(pair.server, { echo })
    const client = await connect(pair.client, url)
    expect(client.protocolVersion).toBe('2025-11-25')
    expect(client.sessionId).toMatch(/^[\x21-\x7e]{22,}$/)
    expect(await client.tools()).toEqual(['echo'])
    expect(await client.call('echo', 'hello')).toBe('hello')
    expect(await client.read(RESOURCE)).toBe('item')
    expect(await client.prompts()).toEqual(['hello'])
    await client.ping()
    expect(served.app.sessions.size).toBe(1)
    expect(client.errors.all).toEqual([])
  })

  test('progress arrives in order, before the result', async () => {
    const tool: Tool = async (call) => {
      for (let step = 1; step <= 5; step++) await call.progress(step, 5)
      return 'done'
    }
    const { url } = await serveProbe(pair.server, { tool })
    const client = await connect(pair.client, url)
    const seen: number[] = []
    expect(await client.call('tool', '', { onprogress: ({ progress }) => seen.push(progress) })).toBe('done')
    expect(seen).toEqual([1, 2, 3, 4, 5])
  })

  test.each(['open', 'refused'] as const)(
    'elicitation and sampling that name their call, GET %s',
    async (get) => {
      const { url, getOpened } = await serveProbe(
        pair.server,
        {
          ask: (call) => call.elicit(call.input),
          sample: (call) => call.sample(call.input),
          both: async (call) => `${await call.elicit('a')}, ${await call.sample('b')}`,
        },
        {},
        { get },
      )
      const client = await connect(pair.client, url)
      if (get === 'open') await getOpened()
      expect(await client.call('ask', 'name?')).toBe('accept: re: name?')
      expect(await client.call('sample', 'think')).toBe('parrot: re: think')
      expect(await client.call('both')).toBe('accept: re: a, parrot: re: b')
    },
  )

  test.each(['open', 'refused'] as const)(
    'elicitation and sampling that name no call, GET %s',
    async (get) => {
      const { url, getOpened } = await serveProbe(
        pair.server,
        {
          ask: (call) => call.server.elicit(call.input),
          sample: (call) => call.server.sample(call.input),
          later: async (call) => {
            await new Promise((resolve) => setImmediate(resolve))
            return `${await call.server.elicit('a')}, ${await call.server.sample('b')}`
          },
        },
        {},
        { get },
      )
      const client = await connect(pair.client, url)
      if (get === 'open') await getOpened()
      expect(await client.call('ask', 'name?')).toBe('accept: re: name?')
      expect(await client.call('sample', 'think')).toBe('parrot: re: think')
      expect(await client.call('later')).toBe('accept: re: a, parrot: re: b')
    },
  )

  test('requests that name no call, from many calls at once without a GET, each come back to their own', async () => {
    const all = deferred()
    let waiting = 0
    const ask: Tool = async (call) => {
      waiting += 1
      if (waiting === 10) all.resolve()
      await all.promise
      return call.server.elicit(call.input)
    }
    const { url } = await serveProbe(pair.server, { ask }, {}, { get: 'refused' })
    const client = await connect(pair.client, url)
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) => client.call('ask', `${index}`)),
    )
    expect(answers).toEqual(Array.from({ length: 10 }, (_, index) => `accept: re: ${index}`))
  })

  test('a server asks between calls, on the GET', async () => {
    const { url, probe, getOpened } = await serveProbe(pair.server, { echo })
    await connect(pair.client, url)
    await getOpened()
    const [server] = probe.servers
    if (server === undefined) throw new Error('no server was built')
    expect(await within(server.elicit('are you there?'), 'elicitation')).toBe('accept: re: are you there?')
    expect(await within(server.sample('think'), 'sampling')).toBe('parrot: re: think')
  })

  test('log messages of a call arrive before its result, from the level on that was set', async () => {
    const tool: Tool = async (call) => {
      await call.server.log('debug', 'too quiet', call.sessionId)
      await call.server.log('warning', 'heard', call.sessionId)
      await call.log('error', 'on the call')
      return 'done'
    }
    const { url, getOpened } = await serveProbe(pair.server, { tool })
    const client = await connect(pair.client, url)
    await getOpened()
    await client.setLevel('warning')
    expect(await client.call('tool')).toBe('done')
    const messages = await client.notices.atLeast(
      2,
      ({ method }) => method === 'notifications/message',
      'two log messages',
    )
    expect(messages.map(({ params }) => params?.['data']).sort()).toEqual(['heard', 'on the call'])
  })

  test('a cancelled call: the handler is told, the client goes on, the session too', async () => {
    const started = deferred()
    const aborted = deferred()
    const wait: Tool = async (call) => {
      call.signal.addEventListener('abort', () => aborted.resolve())
      started.resolve()
      await aborted.promise
      return 'too late'
    }
    const { url, served, events } = await serveProbe(pair.server, { wait, echo })
    const client = await connect(pair.client, url)
    const controller = new AbortController()
    const call = rejection(client.call('wait', '', { signal: controller.signal }), 'the cancelled call')
    await within(started.promise, 'the start of the call')
    controller.abort('changed my mind')
    await call
    await within(aborted.promise, "the abort of the handler's signal")
    const ended = await events.first(
      (event) => event.type === 'request.ended' && event.name === 'wait',
      'its end',
    )
    expect(ended).toMatchObject({ outcome: 'cancelled' })
    expect(await client.call('echo', 'still here')).toBe('still here')
    expect(served.app.sessions.counts.requests).toBe(0)
  })

  test('a cancelled call that has streamed already', async () => {
    const aborted = deferred()
    const wait: Tool = async (call) => {
      call.signal.addEventListener('abort', () => aborted.resolve())
      await call.progress(1)
      await aborted.promise
      return 'too late'
    }
    const { url } = await serveProbe(pair.server, { wait, echo })
    const client = await connect(pair.client, url)
    const controller = new AbortController()
    const progress = deferred()
    const call = rejection(
      client.call('wait', '', { signal: controller.signal, onprogress: () => progress.resolve() }),
      'the cancelled call',
    )
    await within(progress.promise, 'progress')
    controller.abort()
    await call
    await within(aborted.promise, "the abort of the handler's signal")
    expect(await client.call('echo', 'still here')).toBe('still here')
  })

  test('a server that gives up an elicitation tells the client, under the id the client knows', async () => {
    const given = deferred()
    const asked = deferred()
    const told = deferred()
    const { url, probe, getOpened } = await serveProbe(pair.server, { echo })
    const client = await connect(pair.client, url, {
      onElicit: async (message, signal) => {
        if (message !== 'wait') return message
        signal.addEventListener('abort', () => told.resolve())
        asked.resolve()
        await given.promise
        return 'late'
      },
    })
    await getOpened()
    const [server] = probe.servers
    if (server === undefined) throw new Error('no server was built')
    // The SDKs count their own requests from 0: the first answered one moves the numbers apart.
    expect(await within(server.elicit('first'), 'an elicitation')).toBe('accept: first')
    const controller = new AbortController()
    const failed = rejection(server.elicit('wait', { signal: controller.signal }), 'the elicitation given up')
    await within(asked.promise, 'the elicitation')
    controller.abort('enough')
    await failed
    await within(told.promise, "the abort of the client's handler")
    given.resolve()
    expect(await client.call('echo', 'still here')).toBe('still here')
  })

  test('errors: of the tool, of the protocol, of an unknown method', async () => {
    const { url } = await serveProbe(pair.server, {
      fails: () => {
        throw new Error('broken')
      },
      read: () => {
        throw new Error('unreadable')
      },
      echo,
    })
    const client = await connect(pair.client, url)
    expect((await rejection(client.call('fails'), 'the call')).message).toContain('broken')
    expect((await rejection(client.read(RESOURCE), 'the read')).message).toContain('unreadable')
    expect((await rejection(client.read('probe://other'), 'the read')).message).toContain('probe://other')
    expect(await client.call('echo', 'still here')).toBe('still here')
  })

  test('100 calls at once, each with its own answer', async () => {
    const { url } = await serveProbe(pair.server, { echo })
    const client = await connect(pair.client, url)
    const inputs = Array.from({ length: 100 }, (_, index) => `call ${index}`)
    expect(await Promise.all(inputs.map((input) => client.call('echo', input)))).toEqual(inputs)
  })

  test('100 streaming calls at once, answered in the reverse order', async () => {
    const gates = new Map<string, Deferred<void>>()
    const all = deferred()
    const wait: Tool = async (call) => {
      const gate = deferred()
      gates.set(call.input, gate)
      await call.progress(1)
      if (gates.size === 100) all.resolve()
      await gate.promise
      return call.input
    }
    const { url } = await serveProbe(pair.server, { wait }, { maxStreamsPerSession: 128 })
    const client = await connect(pair.client, url)
    const inputs = Array.from({ length: 100 }, (_, index) => `call ${index}`)
    const calls = inputs.map((input) => client.call('wait', input, { onprogress: () => {} }))
    await within(all.promise, '100 running calls')
    for (const input of [...inputs].reverse()) gates.get(input)?.resolve()
    expect(await Promise.all(calls)).toEqual(inputs)
  })

  test.each(['auto', 'sse', 'json'] as const)(
    'a result of 2 MiB, and text in any script, under %s',
    async (responseMode) => {
      const large = 'é𝄞x'.repeat(2 ** 18)
      const { url } = await serveProbe(pair.server, { echo, large: () => large }, { responseMode })
      const client = await connect(pair.client, url)
      const received = await client.call('large')
      expect(received.length).toBe(large.length)
      expect(received === large).toBe(true)
      const text = 'Grüße, 世界, مرحبا, 👩‍👩‍👧, \u0000 \u2028 \u2029 "\\ \r\n\t data: x\n\nid: 7\n\n'
      expect(await client.call('echo', text)).toBe(text)
    },
  )

  test('an argument of 2 MiB', async () => {
    const { url } = await serveProbe(pair.server, { length: ({ input }) => String(input.length) })
    const client = await connect(pair.client, url)
    expect(await client.call('length', 'x'.repeat(2 ** 21))).toBe(String(2 ** 21))
  })
})
