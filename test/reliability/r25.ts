/** R25: floods of `initialize` over real sockets, beside clients that mean well: who is there is served, who comes is let in, and it is over when the flood is. */

import { type HttpAnswer, headerOf } from '../../bench/load/http-answer.ts'
import type { SessionCounts } from '../../src/session/sessions.ts'
import { initialize } from '../support/mcp-wire.ts'
import { type Chaos, count, type Findings, milliseconds, type Progress } from './chaos.ts'
import type { OriginSpec, OriginStats } from './fixtures/origin.ts'
import { atRate, type CallerFields, encode, inParallel, LightStream, Pool } from './load.ts'
import { type GoodTimes, type Origin, startOrigin } from './processes.ts'
import { Healthy, type Identity, pause, type Violate } from './r25-healthy.ts'

/** How much is at stake. */
export interface R25Size {
  /** Attempts of each flood. */
  readonly attempts: number
  /** How many begin a second, whatever becomes of them; as fast as {@link LANES} connections are answered where it is undefined. */
  readonly perSecond?: number
  /** How long those who mean well are alone before, in milliseconds. */
  readonly calm: number
  /** Whether heap and times are judged, after a flood that warms up, and a refusal of a full table is waited out. */
  readonly whole: boolean
}

export const R25_WHOLE: R25Size = { attempts: 60_000, perSecond: 1000, calm: 30_000, whole: true }
export const R25_SHORT: R25Size = { attempts: 4000, calm: 200, whole: false }

/** What became of one flood, and of those beside it. */
interface Flood {
  readonly attempts: number
  /** Answers by status. */
  readonly statuses: Readonly<Record<string, number>>
  /** Calls of those who mean well, and how many of them came during the flood. */
  readonly calls: number
  readonly newcomers: number
  /** Calls of a session in use, before and during the flood. */
  readonly calm: Omit<GoodTimes, 'failures'>
  readonly flooded: Omit<GoodTimes, 'failures'>
  /** Share of the flood's time in which the server was ready to run and had no core: others' load. */
  readonly waited: number
  /** Bytes of heap after garbage collection, before and when all was over. */
  readonly heapBefore: number
  readonly heapAfter: number
}

/** What a run found. */
export interface R25Findings extends Findings {
  readonly size: R25Size
  /** Clients connect directly and say who they are; hostile principals and addresses exceed their rates. */
  readonly direct: Flood
  /** All are anonymous behind a proxy; ever new addresses, each within its rate, displace each other in a full table. */
  readonly proxied: Flood
  /** Newcomers that were refused while strangers used every place. */
  readonly full: number
}

/** How many times slower a session in use may be served, at the 99th percentile, and how much of that is noise, in milliseconds. */
const MOST_SLOWDOWN = 3
const NOISE = 10
/**
 * How much of the heap may be more when all is over, in bytes: buckets that are not full again, and after a cold start what is compiled and
 * cached. Far less than sessions or their records would take.
 */
const MOST_HEAP = 4 * 2 ** 20
const MOST_HEAP_COLD = 8 * 2 ** 20

const LANES = 48
/** How long anything is waited for, in milliseconds. */
const DEADLINE = 30_000
const OPENING = initialize('2025-11-25')
const MOST_VIOLATIONS = 30

/** Sessions that nobody uses go while the test looks on. */
const LIFETIMES = { handshakeTimeout: '2s', unusedSessionTimeout: '2s', sessionIdleTimeout: '3s' }

/** A rate, as the options give it: a burst, then so many a second. */
interface Limit {
  readonly burst: number
  readonly perSecond: number
}

const PER_PRINCIPAL: Limit = { burst: 5, perSecond: 0.5 }
const PER_ADDRESS: Limit = { burst: 40, perSecond: 10 }
const PER_PROXIED_ADDRESS: Limit = { burst: 3, perSecond: 0.2 }
/** Attempts of each address behind the proxy: more than it may, so that most are refused. */
const PER_NEW_ADDRESS = 20
const PLACES = 200
/** What a full table says, in seconds. */
const FULL = '10'

const DIRECT: OriginSpec = {
  kind: 'sdk',
  named: true,
  options: {
    ...LIFETIMES,
    maxSessions: 2000,
    trustedProxies: 0,
    openRatePerPrincipal: PER_PRINCIPAL.perSecond,
    openBurstPerPrincipal: PER_PRINCIPAL.burst,
    openRatePerAddress: PER_ADDRESS.perSecond,
    openBurstPerAddress: PER_ADDRESS.burst,
  },
}

const PROXIED: OriginSpec = {
  kind: 'sdk',
  options: {
    ...LIFETIMES,
    maxSessions: PLACES,
    trustedProxies: 1,
    openRatePerAddress: PER_PROXIED_ADDRESS.perSecond,
    openBurstPerAddress: PER_PROXIED_ADDRESS.burst,
  },
}

const named = (name: string): CallerFields => ({ Authorization: `Bearer ${name}` })
const forwarded = (...addresses: string[]): CallerFields => ({ 'X-Forwarded-For': addresses.join(', ') })
/** `10.0.0.0` and on; the same number, the same address. */
const address = (network: number, n: number): string =>
  `${network}.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`

/** Both floods, one after the other, or beside each other where nothing is measured. */
export async function r25(size: R25Size, onProgress: Progress = () => {}): Promise<R25Findings> {
  const violations: string[] = []
  const violate: Violate = (text) => void (violations.length < MOST_VIOLATIONS && violations.push(text))
  let full = 0
  const direct = (): Promise<Flood> =>
    play(
      { name: 'direct', spec: DIRECT, identity: (n) => named(`good-${n}`), flood: directFlood },
      size,
      violate,
      onProgress,
    )
  const proxied = (): Promise<Flood> =>
    play(
      {
        name: 'proxied',
        spec: PROXIED,
        identity: (n) => forwarded(address(198, n)),
        flood: proxiedFlood,
        async then(origin, told) {
          // In the short form until there is a place, which is sooner.
          const comeAgain = (after: number): Promise<unknown> =>
            size.whole ? pause(after) : until(origin, ({ total }) => total < PLACES, 'a place')
          full = await fillTable(origin, size.attempts / 10, comeAgain, told)
        },
      },
      size,
      violate,
      onProgress,
    )
  const floods = size.whole ? [await direct(), await proxied()] : await Promise.all([direct(), proxied()])
  const [first, second] = floods as [Flood, Flood]
  return { size, direct: first, proxied: second, full, violations }
}

/** One server, and what it goes through. */
interface Scene {
  readonly name: string
  readonly spec: OriginSpec
  readonly identity: Identity
  flood(attack: Attack): Promise<void>
  /** What comes after the flood, before the end. */
  then?(origin: Origin, violate: Violate): Promise<void>
}

/** Those who mean well, a flood, and what is left of it. */
async function play(scene: Scene, size: R25Size, violate: Violate, onProgress: Progress): Promise<Flood> {
  const { name, spec, identity } = scene
  const told: Violate = (text) => violate(`${name}: ${text}`)
  const origin = await startOrigin(spec)
  try {
    if (size.whole) {
      // What is compiled and cached at the first requests is no leak.
      await scene.flood(new Attack(origin, { ...size, attempts: size.attempts / 10 }, told))
      await emptied(origin)
    }
    const before = await origin.collected()
    const healthy = await Healthy.start(origin, identity, told)
    try {
      onProgress(`R25 ${name}: calm`)
      await healthy.times()
      await pause(size.calm)
      const calm = await healthy.times()
      onProgress(`R25 ${name}: ${count(size.attempts)} attempts`)
      healthy.welcome()
      const attack = new Attack(origin, size, told)
      const { waitedForCore } = await origin.stats()
      const began = performance.now()
      await scene.flood(attack)
      const flooded = await healthy.times()
      const waited = ((await origin.stats()).waitedForCore - waitedForCore) / (performance.now() - began)
      await healthy.noMore()
      await scene.then?.(origin, told)
      onProgress(`R25 ${name}: the end`)
      await healthy.end()
      // Nobody ends these: their clients just went.
      const after = await emptied(origin)
      for (const complaint of after.complaints) told(`the server complains: ${complaint}`)
      if (after.timers !== before.timers) told(`${after.timers} timers are left, of ${before.timers}`)
      const grown = after.heapBytes - before.heapBytes
      if (grown > (size.whole ? MOST_HEAP : MOST_HEAP_COLD))
        told(`the heap grew from ${before.heapBytes} to ${after.heapBytes} bytes`)
      if (size.whole && flooded.p99 > calm.p99 * MOST_SLOWDOWN + NOISE)
        told(`p99 of a session in use went from ${calm.p99} to ${flooded.p99} ms`)
      return {
        attempts: attack.attempts,
        statuses: attack.statuses,
        calls: healthy.calls,
        newcomers: healthy.newcomers,
        calm: { count: calm.count, p50: calm.p50, p99: calm.p99 },
        flooded: { count: flooded.count, p50: flooded.p50, p99: flooded.p99 },
        waited,
        heapBefore: before.heapBytes,
        heapAfter: after.heapBytes,
      }
    } finally {
      await healthy.end()
    }
  } finally {
    await origin.stop()
  }
}

/** Waits until the table is as it should be. */
async function until(origin: Origin, holds: (counts: SessionCounts) => boolean, what: string): Promise<void> {
  const due = performance.now() + DEADLINE
  for (;;) {
    const { sessions } = await origin.stats()
    if (sessions !== undefined && holds(sessions)) return
    if (performance.now() > due) throw new Error(`there is not ${what}: ${JSON.stringify(sessions)}`)
    await pause(50)
  }
}

/** Waits until all sessions have gone by themselves, and tells how the server is then. */
async function emptied(origin: Origin): Promise<OriginStats> {
  await until(origin, ({ total, requests }) => total === 0 && requests === 0, 'an empty table')
  return origin.collected()
}

/** What one attempt is. */
interface Attempt {
  readonly pool: Pool
  readonly fields: CallerFields
  /** The bucket that decides, where one is full enough to do so. */
  readonly key: string
}

/** Sends attempts and judges their answers. */
class Attack {
  readonly origin: Origin
  readonly size: R25Size
  readonly statuses: Record<string, number> = {}
  attempts = 0
  readonly #violate: Violate
  readonly #buckets = new Map<string, { asked: number; admitted: number; from: number; to: number }>()

  constructor(origin: Origin, size: R25Size, violate: Violate) {
    this.origin = origin
    this.size = size
    this.#violate = violate
  }

  /** All attempts; then each bucket has let in its burst and what its rate gives, no more and no less. */
  async send(limit: Limit | ((key: string) => Limit), make: (index: number) => Attempt): Promise<void> {
    const { attempts, perSecond } = this.size
    const limitOf = typeof limit === 'function' ? limit : () => limit
    const one = async (index: number): Promise<void> => {
      try {
        await this.#one(make(index), limitOf)
      } catch (error) {
        this.#violate(`a hostile client: ${String(error)}`)
      }
    }
    if (perSecond === undefined) await inParallel(attempts, LANES, one)
    else await atRate(perSecond, (attempts * 1000) / perSecond, (_due, index) => one(index))
    for (const [key, { asked, admitted, from, to }] of this.#buckets) {
      const { burst, perSecond: rate } = limitOf(key)
      const most = burst + (rate * (to - from)) / 1000
      if (admitted > most || admitted < Math.min(asked, burst))
        this.#violate(`${key} opened ${admitted} sessions with ${asked} attempts, where ${most.toFixed(1)} are the most`) // prettier-ignore
    }
  }

  /**
   * One that does as it is told: it comes back when it may, which is not a moment too late and not a second too early. Its principal and its
   * address are its own.
   */
  async follow(pool: Pool, fields: CallerFields, { burst, perSecond }: Limit): Promise<void> {
    const ask = (): Promise<HttpAnswer> => pool.ask(encode('POST', { fields }, OPENING))
    for (let n = 0; n < burst; n++) {
      const { status } = await ask()
      if (status !== 200) this.#violate(`attempt ${n} of a burst of ${burst} is answered with ${status}`)
    }
    for (let round = 0; round < (this.size.whole ? 5 : 1); round++) {
      const asked = performance.now()
      const refused = await ask()
      const told = performance.now()
      // The burst took longer than a token takes to come.
      if (refused.status === 200) continue
      this.#judge(refused, { burst, perSecond })
      const seconds = Number(headerOf(refused, 'retry-after'))
      await pause((seconds - 1) * 1000 - 200)
      const early = await ask()
      if (early.status === 200 && performance.now() - asked < (seconds - 1) * 1000)
        this.#violate(`let in a second before the ${seconds} that Retry-After says`)
      while (performance.now() < told + seconds * 1000) await pause(told + seconds * 1000 - performance.now())
      const { status } = await ask()
      // Whoever came early and was let in has the token.
      if (status !== 200 && early.status !== 200)
        this.#violate(`${status} after the ${seconds} s that Retry-After says`)
    }
  }

  async #one({ pool, fields, key }: Attempt, limitOf: (key: string) => Limit): Promise<void> {
    const request = encode('POST', { fields }, OPENING)
    const bucket = this.#buckets.get(key) ?? { asked: 0, admitted: 0, from: performance.now(), to: 0 }
    this.#buckets.set(key, bucket)
    bucket.asked += 1
    const answer = await pool.ask(request)
    bucket.to = performance.now()
    this.attempts += 1
    this.statuses[answer.status] = (this.statuses[answer.status] ?? 0) + 1
    if (answer.status === 200) bucket.admitted += 1
    else this.#judge(answer, limitOf(key))
  }

  /** A refusal is 429 with a time in which a token comes. */
  #judge(answer: HttpAnswer, { perSecond }: Limit): void {
    const after = headerOf(answer, 'retry-after') ?? ''
    const exact = /^[1-9]\d*$/.test(after) && Number(after) <= Math.ceil(1 / perSecond)
    if (answer.status !== 429 || !exact || !isError(answer, 'Too Many Requests: sessions are opened too fast'))
      this.#violate(`a hostile client is answered with ${answer.status}, Retry-After ${after}: ${answer.body.slice(0, 200)}`) // prettier-ignore
  }
}

function isError({ body }: HttpAnswer, message: string): boolean {
  const { error } = JSON.parse(body) as { error?: { code: number; message: string } }
  return error?.code === -32000 && error.message === message
}

/** Two thirds are few principals from everywhere, one third ever new principals from few addresses. */
async function directFlood(attack: Attack): Promise<void> {
  const { port } = attack.origin
  const pools = (network: number, many: number): Pool[] =>
    Array.from({ length: many }, (_, n) => new Pool(port, 2, `127.0.${network}.${n + 1}`))
  const [everywhere, few] = [pools(2, 120), pools(3, 8)]
  const polite = new Pool(port, 1, '127.0.4.1')
  try {
    const sent = attack.send(
      (key) => (key.startsWith('127') ? PER_ADDRESS : PER_PRINCIPAL),
      (index) => {
        if (index % 3 < 2) {
          const name = `mallory-${index % 24}`
          return { pool: everywhere[index % everywhere.length] as Pool, fields: named(name), key: name }
        }
        const at = Math.floor(index / 3) % few.length
        return { pool: few[at] as Pool, fields: named(`new-${index}`), key: `127.0.3.${at + 1}` }
      },
    )
    await Promise.all([sent, attack.follow(polite, named('polite'), PER_PRINCIPAL)])
  } finally {
    for (const pool of [...everywhere, ...few, polite]) pool.close()
  }
}

/** Ever new addresses, which pretend to be those of who means well: what the proxy did not write counts for nothing. */
async function proxiedFlood(attack: Attack): Promise<void> {
  const pool = new Pool(attack.origin.port, LANES)
  try {
    await attack.send(PER_PROXIED_ADDRESS, (index) => {
      const from = address(10, Math.floor(index / PER_NEW_ADDRESS))
      return { pool, fields: forwarded(address(198, 1 + (index % 50)), from), key: from }
    })
  } finally {
    pool.close()
  }
}

/** Strangers hold every place: newcomers are told when to come again, and it is over when the strangers go. */
async function fillTable(
  { port }: Origin,
  attempts: number,
  comeAgain: (after: number) => Promise<unknown>,
  violate: Violate,
): Promise<number> {
  const pool = new Pool(port, LANES)
  const strangers: LightStream[] = []
  let refused = 0
  /** The id of a new session; undefined where it is refused. */
  const knock = async (fields: CallerFields): Promise<string | undefined> => {
    const answer = await pool.ask(encode('POST', { fields }, OPENING))
    if (answer.status === 200) return headerOf(answer, 'mcp-session-id')
    refused += 1
    const after = headerOf(answer, 'retry-after')
    if (answer.status !== 503 || after !== FULL || !isError(answer, 'Service Unavailable: too many sessions'))
      violate(`a full table answers ${answer.status}, Retry-After ${after}: ${answer.body.slice(0, 200)}`)
    return undefined
  }
  const use = async (session: string, fields: CallerFields): Promise<void> => {
    // One that another displaced before it was used has no stream.
    const stream = await LightStream.open(port, session, { fields }).catch(() => undefined)
    if (stream !== undefined) strangers.push(stream)
  }
  const newcomer = forwarded(address(12, 0))
  try {
    await inParallel(PLACES, 8, async (index) => {
      const fields = forwarded(address(11, index))
      const session = await knock(fields)
      if (session !== undefined) await use(session, fields)
    })
    for (let n = 1; ; n++) {
      const fields = forwarded(address(11, PLACES + n))
      const session = await knock(fields)
      if (session === undefined) break
      await use(session, fields)
    }
    await inParallel(attempts, LANES, async (index) => void (await knock(forwarded(address(12, index)))))
    for (const stream of strangers) stream.cut()
    await comeAgain(Number(FULL) * 1000)
    if ((await knock(newcomer)) === undefined) violate(`no place after the ${FULL} s that Retry-After says`)
    return refused
  } finally {
    for (const stream of strangers) stream.cut()
    pool.close()
  }
}

/** `npm run chaos -- r25` */
export const chaos: Chaos<R25Findings> = {
  name: 'r25',
  help: [
    [
      '',
      'floods of initialize from hostile principals and addresses beside clients that mean well; five minutes',
    ],
    ['--short', '4,000 attempts of each kind, as fast as they are answered'],
  ],
  run: ({ short }, progress) => r25(short ? R25_SHORT : R25_WHOLE, progress),
  tell: ({ direct, proxied, full }) =>
    Object.entries({ direct, proxied })
      .map(
        ([name, { attempts, statuses, calls, newcomers, calm, flooded, waited, heapBefore, heapAfter }]) =>
          `R25 ${name}: ${count(attempts)} attempts: ${statusesOf(statuses)}; beside them ${count(calls)} calls and ${newcomers} newcomers; ` +
          `calls of a session in use: p50 ${milliseconds(calm.p50)}, p99 ${milliseconds(calm.p99)} before, ` +
          `p50 ${milliseconds(flooded.p50)}, p99 ${milliseconds(flooded.p99)} meanwhile, the server without a core ${(100 * waited).toFixed(0)} % of the time; heap ${mebibytes(heapBefore)} before, ${mebibytes(heapAfter)} after`,
      )
      .concat(`R25: ${full} refused while strangers used every place`)
      .join('\n'),
  row: ({ size, direct, proxied, full }) => {
    const of = ({ statuses, newcomers, calm, flooded, heapBefore, heapAfter }: Flood): string =>
      `${statusesOf(statuses)}; ${newcomers} newcomers served; p99 of a session in use ${milliseconds(calm.p99)} before, ${milliseconds(flooded.p99)} meanwhile; ` +
      `heap ${mebibytes(heapBefore)} before, ${mebibytes(heapAfter)} after`
    return {
      test: 'R25 · 1, 3, 7',
      done:
        `twice ${count(size.attempts)} \`initialize\` at ${count(size.perSecond ?? 0)} a second beside official and raw clients: ` +
        'principals and addresses beyond their rates; ever new addresses behind a proxy, in a full table',
      came: `by rates: ${of(direct)}. In a full table: ${of(proxied)}; ${count(full)} told 503 and when to come again (to reach: p99 × ${MOST_SLOWDOWN}, +${NOISE} ms)`,
    }
  },
}

function statusesOf(statuses: Readonly<Record<string, number>>): string {
  return Object.entries(statuses)
    .map(([status, times]) => `${count(times)} × ${status}`)
    .join(', ')
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}
