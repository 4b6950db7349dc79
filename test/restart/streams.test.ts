/** Streams over a restart: what the log took comes exactly once and in order, and then it goes on live. Promises 4, 6 and 9. */

import { describe, expect, test } from 'vitest'

import { rpc } from '../support/mcp-wire.ts'
import type { SimEvent, SimExchange } from '../support/sim-exchange.ts'
import { call, ENDS, Incarnations } from './incarnations.ts'

const SECOND = 1000

function notify(line: Incarnations, id: string, n: number): void {
  line.app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: n })
}

/** The numbers of the notifications that came. */
function numbers(exchange: SimExchange): number[] {
  return (exchange.messages() as { params?: { data?: number } }[]).flatMap(({ params }) =>
    params?.data === undefined ? [] : [params.data],
  )
}

/** Events with data. */
function delivered(exchange: SimExchange): SimEvent[] {
  return exchange.events.filter(({ data }) => data !== '')
}

function resume(line: Incarnations, id: string, cursor: string | undefined): SimExchange {
  return line.app.get(id, { 'last-event-id': cursor })
}

/** Progress that a call reported, and whether it was answered. */
function heard(...exchanges: readonly SimExchange[]): (number | 'result' | 'error')[] {
  const all = exchanges.flatMap((exchange) => exchange.messages()) as {
    params?: { progress?: number }
    result?: object
    error?: object
  }[]
  return all.flatMap<number | 'result' | 'error'>(({ params, result, error }) => {
    if (result !== undefined) return ['result']
    if (error !== undefined) return ['error']
    return params?.progress === undefined ? [] : [params.progress]
  })
}

describe.each(ENDS)('after a %s', (how) => {
  test.each([0, 1, 3, 5])(
    'a GET that saw %i of 5 gets the rest once, in order, then what is new',
    async (seen) => {
      const line = new Incarnations()
      const { clock } = line
      const id = await line.app.open()
      const before = line.app.get(id)
      await clock.settle()
      const primed = before.events[0]?.id
      for (let n = 1; n <= 5; n++) notify(line, id, n)
      await clock.settle()
      expect(numbers(before)).toEqual([1, 2, 3, 4, 5])
      const cursor = seen === 0 ? primed : delivered(before)[seen - 1]?.id
      await line.restart(how, SECOND)
      const after = resume(line, id, cursor)
      notify(line, id, 6)
      await clock.settle()
      notify(line, id, 7)
      await clock.settle()
      expect(numbers(after)).toEqual([1, 2, 3, 4, 5, 6, 7].slice(seen))
      expect(after.outcome).toBeUndefined()
      // A cursor of after the restart is as good, and one of before still is, after another.
      const second = delivered(after).at(-2)?.id
      await line.restart(how, SECOND)
      const third = resume(line, id, second)
      const fourth = resume(line, id, cursor)
      notify(line, id, 8)
      await clock.settle()
      expect([...numbers(third), ...numbers(fourth)]).toEqual(
        // The second took the stream over before anything new was said.
        [...(numbers(third).includes(7) ? [7] : []), ...[1, 2, 3, 4, 5, 6, 7, 8].slice(seen)],
      )
    },
  )

  test('what no GET took comes with the first one, once', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    notify(line, id, 1)
    notify(line, id, 2)
    await clock.settle()
    await line.restart(how, SECOND)
    notify(line, id, 3)
    await clock.settle()
    const first = line.app.get(id)
    await clock.settle()
    notify(line, id, 4)
    await clock.settle()
    expect(numbers(first)).toEqual([1, 2, 3, 4])
    await clock.advance(2 * SECOND)
    await line.restart(how, SECOND)
    const second = line.app.get(id)
    notify(line, id, 5)
    await clock.settle()
    expect(numbers(second)).toEqual([5])
  })

  test('a POST stream whose call ended before is replayed to its end, then 204', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    const post = line.app.post(id, call(40, { progress: { count: 3, every: 10 } }))
    await clock.advance(25)
    post.drop()
    const cursor = delivered(post)[0]?.id
    expect(heard(post)).toEqual([1, 2])
    await clock.advance(100)
    await line.restart(how, SECOND)
    const rest = resume(line, id, cursor)
    await clock.settle()
    expect([heard(rest), rest.outcome]).toEqual([[2, 3, 'result'], 'completed'])
    const nothing = resume(line, id, rest.events.at(-1)?.id)
    await clock.settle()
    expect(nothing.status).toBe(204)
    expect(line.app.fakes).toEqual([])
  })

  test('a call that ran is answered on resume with an error that says so, and so it stays', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    const post = line.app.post(id, call(60 * SECOND, { progress: { count: 2, every: 10 } }, 'long'))
    await clock.advance(50)
    expect(heard(post)).toEqual([1, 2])
    const [first, second] = delivered(post)
    await line.restart(how, SECOND)
    // The restart in order told its client itself: nothing is left to be said to whoever heard it.
    for (let again = 0; again < 2; again++) {
      const rest = resume(line, id, first?.id)
      await clock.settle()
      expect([heard(rest), rest.outcome]).toEqual([[2, 'error'], 'completed'])
      const error = rest.messages().at(-1)
      expect(error).toMatchObject({ id: 'long', error: { code: how === 'crash' ? -32603 : -32000 } })
      expect(JSON.stringify(error)).toMatch(
        how === 'crash' ? /restarted while the request ran/ : /shutdown|closed|ended/i,
      )
      const tail = resume(line, id, second?.id)
      await clock.settle()
      expect(heard(tail)).toEqual(['error'])
      const over = resume(line, id, tail.events.at(-1)?.id)
      await clock.settle()
      expect(over.status).toBe(204)
      await line.restart(how, SECOND)
    }
  })

  test('a call cut before its first message is answered from its priming event', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    const post = line.app.post(id, call(60 * SECOND))
    await clock.advance(100)
    const [primed] = post.events
    expect(primed).toMatchObject({ data: '' })
    await line.restart(how, SECOND)
    const rest = resume(line, id, primed?.id)
    await clock.settle()
    expect([heard(rest), rest.outcome]).toEqual([['error'], 'completed'])
  })

  test('each of several calls of a batch that was not answered gets its error, the answered one its answer', async () => {
    const line = new Incarnations()
    const { clock } = line
    const opening = line.app.post(
      undefined,
      rpc('initialize', {
        protocolVersion: '2025-03-26',
        capabilities: {},
        clientInfo: { name: 'old', version: '1' },
      }),
    )
    await clock.settle()
    const id = opening.responseHeaders['mcp-session-id'] ?? ''
    const post = line.app.post(id, [
      call(10 * SECOND, { progress: { count: 1, every: 50 } }, 'a'),
      call(200, {}, 'b'),
      call(10 * SECOND, {}, 'c'),
    ])
    await clock.advance(500)
    const [first] = delivered(post)
    expect(heard(post)).toEqual([1, 'result'])
    await line.restart(how, SECOND)
    const rest = resume(line, id, first?.id)
    await clock.settle()
    const ended = rest.messages() as { id?: string; error?: object; result?: object }[]
    expect(ended.map((message) => [message.id, 'result' in message])).toEqual([
      ['b', true],
      ['a', false],
      ['c', false],
    ])
    expect(rest.outcome).toBe('completed')
  })

  test('no event id is ever given out twice, over processes and resumes', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    const ids = new Map<string, string>()
    const note = (exchange: SimExchange): void => {
      for (const event of exchange.events) {
        const { id: name = '', data } = event
        // The same event may come again, under its own name; a priming event is new each time.
        expect(ids.has(name) && (data === '' || ids.get(name) !== data), name).toBe(false)
        ids.set(name, data)
      }
    }
    let cursor: string | undefined
    for (let round = 0; round < 4; round++) {
      const exchanges = [resume(line, id, cursor)]
      exchanges.push(line.app.post(id, call(50, { progress: { count: 2, every: 5 } })))
      notify(line, id, round)
      await clock.advance(100)
      cursor ??= exchanges[0]?.events[0]?.id
      exchanges.push(resume(line, id, cursor))
      await clock.settle()
      for (const exchange of exchanges) note(exchange)
      await line.restart(how, SECOND)
    }
    expect(ids.size).toBeGreaterThan(20)
  })

  test('a cursor beyond what there is, or of nobody, is refused as before', async () => {
    const line = new Incarnations()
    const { clock } = line
    const id = await line.app.open()
    const stream = line.app.get(id)
    notify(line, id, 1)
    await clock.settle()
    const [tag] = (delivered(stream)[0]?.id ?? '').split('.')
    await line.restart(how, SECOND)
    for (const cursor of [`${tag}.0.9`, `${tag}.99999999999.1`, `AAAAAAAA.0.1`, 'nonsense']) {
      const refused = resume(line, id, cursor)
      await clock.settle()
      expect([cursor, refused.status]).toEqual([cursor, 400])
    }
  })

  test('what was trimmed is told of on a GET, and a trimmed answer is an error', async () => {
    const line = new Incarnations({}, () => ({}), { eventLog: { maxEvents: 3 } })
    const { clock } = line
    const id = await line.app.open()
    const stream = line.app.get(id)
    const post = line.app.post(id, call(100, { progress: { count: 1, every: 50 } }))
    await clock.advance(60)
    post.drop()
    const [progress] = delivered(post)
    await clock.advance(100)
    notify(line, id, 1)
    await clock.settle()
    const first = delivered(stream)[0]?.id
    for (let n = 2; n <= 6; n++) notify(line, id, n)
    await clock.settle()
    await line.restart(how, SECOND)
    const gap = resume(line, id, first)
    await clock.settle()
    expect(gap.messages()[0]).toMatchObject({ method: 'notifications/tools/list_changed' })
    expect(numbers(gap)).toEqual([4, 5, 6])
    const answer = resume(line, id, progress?.id)
    await clock.settle()
    expect(heard(answer)).toEqual(['error'])
    expect(answer.text).toContain('result no longer available')
  })
})

test('what the log did not take goes out without an id, so that no cursor is unknown after a crash', async () => {
  const line = new Incarnations()
  const { clock } = line
  const id = await line.app.open()
  const stream = line.app.get(id)
  await clock.settle()
  const primed = stream.events[0]?.id
  line.store.fail('The disk is gone.')
  notify(line, id, 1)
  await clock.settle()
  expect(delivered(stream)).toMatchObject([{ id: undefined }])
  line.crash()
  await line.start()
  // Its number is free again: nobody holds it.
  notify(line, id, 2)
  await clock.settle()
  const after = resume(line, id, primed)
  notify(line, id, 3)
  await clock.settle()
  expect([numbers(stream), numbers(after)]).toEqual([[1], [2, 3]])
})
