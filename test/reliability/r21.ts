/** R21: what one principal may see reaches no other. Ids that nobody guesses, messages that stay where they belong, thieves that learn nothing. */

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { httpApp } from '../../src/http-app.ts'
import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import { randomSessionId } from '../../src/session/session-record.ts'
import { Random } from '../simulation/random.ts'
import { FakeServer } from '../support/fake-server.ts'
import { del, type Fields, get, initialize, notification, post, rpc } from '../support/mcp-wire.ts'
import { RawConnection, type RawRequest } from '../support/raw-http.ts'
import { SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { as, authenticateByName, bytesOf, call } from '../support/wire-app.ts'
import { type Chaos, count, type Findings, type Progress } from './chaos.ts'

/** How much is done. */
interface R21Size {
  readonly ids: number
  readonly messages: number
  /** Half of them of each principal. */
  readonly sessions: number
  /** Thefts over HTTP, compared byte for byte. */
  readonly httpThefts: number
}

const WHOLE: R21Size = { ids: 1_000_000, messages: 1_000_000, sessions: 1000, httpThefts: 3000 }
export const R21_SHORT: R21Size = { ids: 20_000, messages: 8000, sessions: 60, httpThefts: 30 }

/** What a run found. */
interface R21Findings extends Findings {
  readonly ids: number
  readonly collisions: number
  /** Bits of an id that are random, judged by how often each is set. */
  readonly randomBits: number
  readonly sessions: number
  /** Messages that reached a client, each with the tag of its session. */
  messages: number
  /** Messages that reached a client of another session. */
  crossed: number
  /** Attempts with a stolen id or cursor, each beside the same with one that never was. */
  thefts: number
  httpThefts: number
  /** Thefts that were answered otherwise than the unknown. */
  told: number
  seconds: number
}

const PRINCIPALS = ['alice', 'bob'] as const

/** Calls at once, for one theft of an id and one of a cursor. */
const CALLS = 100

const MOST_VIOLATIONS = 20

/** The whole run. */
export async function r21(
  size: R21Size,
  seed: number,
  onProgress: Progress = () => {},
): Promise<R21Findings> {
  const began = performance.now()
  const violations: string[] = []
  onProgress(`R21: ${size.ids} ids`)
  const found: R21Findings = {
    ...ids(size.ids, violations),
    sessions: size.sessions,
    messages: 0,
    crossed: 0,
    thefts: 0,
    httpThefts: 0,
    told: 0,
    seconds: 0,
    violations,
  }
  await new Crowd(size, new Random(seed), found, violations).run(onProgress)
  onProgress('R21: thefts over HTTP')
  await overHttp(size.httpThefts, new Random(seed), found, violations)
  found.seconds = (performance.now() - began) / 1000
  return found
}

// Ids

/** Bits that are set in half of all ids, give or take what chance allows: six standard deviations. */
function ids(total: number, violations: string[]): { ids: number; collisions: number; randomBits: number } {
  const seen = new Set<string>()
  const set: number[] = []
  for (let n = 0; n < total; n++) {
    const id = randomSessionId()
    seen.add(id)
    const bytes = Buffer.from(id, 'base64url')
    if (bytes.toString('base64url') !== id) violations.push(`an id is not base64url: ${id}`)
    for (let at = 0; at < 8 * bytes.length; at++)
      set[at] = (set[at] ?? 0) + (((bytes[at >> 3] ?? 0) >> (at & 7)) & 1)
  }
  const allowed = 6 * Math.sqrt(total / 4)
  const randomBits = set.filter((times) => Math.abs(times - total / 2) <= allowed).length
  const collisions = total - seen.size
  if (collisions > 0) violations.push(`${collisions} ids came twice`)
  if (randomBits < 128) violations.push(`${randomBits} random bits, not 128`)
  return { ids: total, collisions, randomBits }
}

// Messages

interface Member {
  readonly id: string
  readonly principal: (typeof PRINCIPALS)[number]
  /** What its server puts into everything it says. */
  readonly tag: string
  stream: SimExchange
}

/** Sessions of two principals in one app, on virtual time, each with its stream; and a thief among them. */
class Crowd {
  readonly #size: R21Size
  readonly #random: Random
  readonly #found: R21Findings
  readonly #violations: string[]
  readonly #clock = new VirtualClock({ start: 0 })
  readonly #manager: StreamableHTTPSessionManager
  readonly #members: Member[] = []
  #calls = 0

  constructor(size: R21Size, random: Random, found: R21Findings, violations: string[]) {
    this.#size = size
    this.#random = random
    this.#found = found
    this.#violations = violations
    let servers = 0
    this.#manager = new StreamableHTTPSessionManager(
      () => new FakeServer({ clock: this.#clock, tag: `server-${++servers}` }),
      { clock: this.#clock, authenticate: authenticateByName, maxSessions: Number.POSITIVE_INFINITY },
    )
  }

  async run(onProgress: Progress): Promise<void> {
    const open = async (n: number): Promise<void> =>
      void this.#members.push(await this.#open(PRINCIPALS[n % 2] ?? 'alice'))
    await this.#during(Promise.all(Array.from({ length: this.#size.sessions }, (_, n) => open(n))))
    while (this.#found.messages < this.#size.messages && this.#violations.length < MOST_VIOLATIONS) {
      const before = this.#found.messages
      const calls = Array.from({ length: CALLS }, () => this.#call())
      await this.#during(Promise.all([...calls, this.#steal(), this.#stealCursor()]))
      onProgress(
        `R21: ${this.#found.messages} of ${this.#size.messages} messages, ${this.#found.thefts} thefts`,
      )
      if (this.#found.messages === before) this.#violate('nothing was delivered')
      await new Promise((resolve) => setImmediate(resolve))
    }
    for (const member of this.#members) this.#readStream(member)
    await this.#manager.close()
  }

  async #open(principal: Member['principal']): Promise<Member> {
    const opening = await this.#answered('POST', principal, {}, initialize())
    const id = opening.responseHeaders['mcp-session-id'] ?? ''
    const [answer] = opening.messages() as { result: { serverInfo: { name: string } } }[]
    await this.#answered(
      'POST',
      principal,
      { 'mcp-session-id': id },
      notification('notifications/initialized'),
    )
    const stream = this.#send('GET', principal, { 'mcp-session-id': id })
    await stream.head
    return { id, principal, tag: answer?.result.serverInfo.name ?? '', stream }
  }

  /** A call that is answered by progress, a message to the session at large, and a result. */
  async #call(): Promise<void> {
    const member = this.#anyone()
    const tag = `call-${++this.#calls}`
    const exchange = await this.#answered(
      'POST',
      member.principal,
      { 'mcp-session-id': member.id },
      call({ tag, progress: { count: 2, every: 0 }, broadcasts: 1 }, this.#calls),
    )
    for (const message of exchange.messages()) {
      const said = contentOf(message)
      this.#found.messages += 1
      if (said.tag === member.tag && (said.call === tag || said.call === null)) continue
      this.#crossed(member, message)
    }
    // Now and then a stream is read, and opened anew where it was.
    if (this.#random.next() < 0.05) {
      this.#readStream(member)
      const cursor = member.stream.events.findLast(({ id }) => id !== undefined)?.id
      member.stream.drop()
      await member.stream.ended
      member.stream = this.#send('GET', member.principal, {
        'mcp-session-id': member.id,
        ...(cursor !== undefined && { 'last-event-id': cursor }),
      })
      await member.stream.head
    }
  }

  #readStream(member: Member): void {
    for (const message of member.stream.messages()) {
      if ((message as { method?: string }).method === 'ping') continue
      this.#found.messages += 1
      if (contentOf(message).tag !== member.tag) this.#crossed(member, message)
    }
  }

  /** A session id in the hands of the other principal, beside one that never was. */
  async #steal(): Promise<void> {
    const victim = this.#anyone()
    const thief = PRINCIPALS.find((name) => name !== victim.principal) ?? 'bob'
    const [method = 'POST', message] = this.#oneOf([
      ['POST', call({ tag: 'stolen' })],
      ['POST', rpc('ping')],
      ['POST', notification('notifications/cancelled', { requestId: 1 })],
      ['GET', undefined],
      ['DELETE', undefined],
    ] as const)
    const attempt = (id: string): Promise<SimExchange> =>
      this.#answered(method, thief, { 'mcp-session-id': id }, message)
    await this.#compare(`${method} with a stolen id`, attempt(victim.id), attempt(randomSessionId()), 404)
  }

  /** A cursor of somebody else's stream in one's own session: of the other principal, or of the same. */
  async #stealCursor(): Promise<void> {
    const victim = this.#anyone()
    const cursor = victim.stream.events.findLast(({ id }) => id !== undefined)?.id
    if (cursor === undefined) return
    const attempt = async (stolen: string): Promise<SimExchange> => {
      const own = await this.#fresh(this.#anyone().principal)
      const exchange = await this.#answered('GET', own.principal, {
        'mcp-session-id': own.id,
        'last-event-id': stolen,
      })
      const foreign = exchange.messages().filter((message) => contentOf(message).tag === victim.tag)
      for (const message of foreign) this.#crossed(own, message)
      await this.#answered('DELETE', own.principal, { 'mcp-session-id': own.id })
      return exchange
    }
    await this.#compare('a stolen cursor', attempt(cursor), attempt(this.#madeUp(cursor)), undefined)
  }

  /** A session of one's own without a stream. */
  async #fresh(
    principal: Member['principal'],
  ): Promise<{ id: string; principal: Member['principal']; tag: string }> {
    const member = await this.#open(principal)
    member.stream.drop()
    await member.stream.ended
    return member
  }

  async #compare(
    what: string,
    stolen: Promise<SimExchange>,
    unknown: Promise<SimExchange>,
    status: number | undefined,
  ): Promise<void> {
    const [theirs, none] = await Promise.all([stolen, unknown])
    this.#found.thefts += 1
    const bytes = (exchange: SimExchange): string =>
      JSON.stringify([exchange.answeredStatus, exchange.responseHeaders, exchange.text])
    const right = status === undefined || theirs.answeredStatus === status
    if (bytes(theirs) === bytes(none) && right) return
    this.#found.told += 1
    this.#violate(`${what}: ${bytes(theirs)}, but ${bytes(none)} for one that never was`)
  }

  #crossed(member: { principal: string; tag: string }, message: unknown): void {
    this.#found.crossed += 1
    this.#violate(`${member.principal}'s ${member.tag} was told ${JSON.stringify(message)}`)
  }

  #violate(text: string): void {
    if (this.#violations.length < MOST_VIOLATIONS) this.#violations.push(text)
  }

  #anyone(): Member {
    return this.#oneOf(this.#members)
  }

  #oneOf<T>(values: readonly T[]): T {
    return values[Math.floor(this.#random.next() * values.length)] as T
  }

  /** Of the same letters, and as long. */
  #madeUp(cursor: string): string {
    return cursor.replace(/[0-9A-Za-z]/g, (letter) => {
      const letters = /[0-9]/.test(letter)
        ? '123456789'
        : 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'
      return this.#oneOf([...letters])
    })
  }

  #send(method: string, principal: string, headers: Record<string, string>, message?: object): SimExchange {
    const exchange = new SimExchange(this.#clock, {
      method,
      headers: {
        host: 'localhost',
        accept: method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream',
        authorization: `Bearer ${principal}`,
        ...(message !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(message !== undefined && { body: JSON.stringify(message) }),
    })
    void this.#manager.handle(exchange)
    return exchange
  }

  /** Sends a request and waits for the end of its answer, or for the head of a stream that stays. */
  async #answered(
    method: string,
    principal: string,
    headers: Record<string, string>,
    message?: object,
  ): Promise<SimExchange> {
    const exchange = this.#send(method, principal, headers, message)
    await exchange.head
    const lasting = method === 'GET' && exchange.status === 200
    if (lasting) exchange.drop()
    await exchange.ended
    return exchange
  }

  /** Time goes on a little while something waits for it. */
  async #during(work: Promise<unknown>): Promise<void> {
    let done = false
    void work.finally(() => (done = true)).catch(() => {})
    for (let turn = 0; turn < 1000 && !done; turn++) await this.#clock.advance(1)
    if (done) await work
    else this.#violate('a request was not answered')
  }
}

/** Whose a message is, by what the server put into it. */
function contentOf(message: unknown): { tag?: unknown; call?: unknown } {
  const { params, result } = message as {
    params?: { tag?: unknown; call?: unknown; data?: object }
    result?: object
  }
  return result ?? params?.data ?? params ?? {}
}

// Over HTTP

/** The same thefts where every byte is seen: two principals, and nobody at all. */
async function overHttp(
  total: number,
  random: Random,
  found: R21Findings,
  violations: string[],
): Promise<void> {
  const clock = new VirtualClock()
  const app = httpApp(() => new FakeServer({ clock, tag: 'fake' }), { authenticate: authenticateByName })
  const http = createServer(app.node)
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  const { port } = http.address() as AddressInfo
  const ask = async (request: RawRequest): Promise<{ id: string | undefined; bytes: string }> => {
    const connection = await RawConnection.open(port)
    try {
      const response = await connection.request(request)
      return { id: response.header('mcp-session-id'), bytes: await bytesOf(response) }
    } finally {
      connection.destroy()
    }
  }
  try {
    const victim = (await ask(post(initialize(), as('alice')))).id ?? ''
    const requests: readonly ((headers: Fields) => RawRequest)[] = [
      (headers) => post(rpc('tools/list'), headers),
      (headers) => post(call({ ending: 'never' }), headers),
      (headers) => post(notification('notifications/initialized'), headers),
      (headers) => post({ jsonrpc: '2.0', id: 1, result: {} }, headers),
      get,
      (headers) => get({ ...headers, 'Last-Event-ID': '1-1' }),
      del,
    ]
    for (let n = 0; n < total; n++) {
      const request = requests[Math.floor(random.next() * requests.length)] ?? get
      const attempt = (id: string): Promise<{ bytes: string }> =>
        ask(request({ ...as('bob'), 'Mcp-Session-Id': id }))
      const [theirs, none] = [await attempt(victim), await attempt(randomSessionId())]
      found.httpThefts += 1
      if (theirs.bytes === none.bytes && theirs.bytes.startsWith('HTTP/1.1 404')) continue
      found.told += 1
      if (violations.length < MOST_VIOLATIONS)
        violations.push(`over HTTP: ${theirs.bytes}, but ${none.bytes} for one that never was`)
    }
    // Nor did any of that touch it.
    const alive = await ask(post(rpc('tools/list'), { ...as('alice'), 'Mcp-Session-Id': victim }))
    if (!alive.bytes.startsWith('HTTP/1.1 200'))
      violations.push(`the session whose id was stolen answers ${alive.bytes}`)
  } finally {
    await app.close()
    http.closeAllConnections()
    http.close()
  }
}

/** `npm run chaos -- r21` */
export const chaos: Chaos<R21Findings> = {
  name: 'r21',
  help: [
    [
      '',
      '1,000,000 ids; 1,000,000 messages in 1,000 sessions of two principals; stolen ids and cursors; some minutes',
    ],
    ['--short', '20,000 ids, 8,000 messages in 60 sessions'],
  ],
  run: ({ short, seed }, progress) => r21(short ? R21_SHORT : WHOLE, seed, progress),
  tell: ({
    ids: made,
    collisions,
    randomBits,
    sessions,
    messages,
    crossed,
    thefts,
    httpThefts,
    told,
    seconds,
  }) =>
    `R21: ${made} ids, ${collisions} collisions, ${randomBits} random bits; ${messages} messages in ${sessions} sessions, ${crossed} of them crossed; ` +
    `${thefts} thefts in process and ${httpThefts} over HTTP, ${told} answered otherwise than the unknown; ${seconds.toFixed(1)} s`,
  row: ({ ids: made, collisions, randomBits, sessions, messages, crossed, thefts, httpThefts, told }) => ({
    test: 'R21 · 5',
    done:
      `${count(made)} ids; ${count(messages)} tagged messages in ${count(sessions)} sessions of two principals; ${count(thefts)} stolen ids and cursors, ` +
      `${count(httpThefts)} more over HTTP, each beside one that never was`,
    came:
      `${collisions} collisions, ${randomBits} random bits (to reach: 128); ${crossed} messages reached another session; ` +
      `${told} thefts answered otherwise than the unknown, to the byte`,
  }),
}
