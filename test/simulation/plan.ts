/** What happens in one run, as plain data made from a seed: it can be printed, replayed and shrunk. */

import type { CallPlan, InitializeEnding } from '../support/fake-server.ts'
import { Random } from './random.ts'

/** How the author's side behaves for one session. */
export interface AuthorPlan {
  readonly factory: 'ok' | 'throw' | 'reject' | 'hang' | 'nothing'
  /** Milliseconds until the factory is done. */
  readonly factoryAfter: number
  readonly initialize: InitializeEnding
  readonly initializeAfter: number
}

/** What becomes of a connection, in milliseconds after it was made. */
export interface ConnectionPlan {
  /** The client closes it. */
  readonly dropAfter?: number
  /** The client vanishes without a word. */
  readonly vanishAfter?: number
  /** The client stops reading, and reads again so much later (0: never). */
  readonly stall?: { readonly after: number; readonly length: number }
  readonly latency?: number
  /** How long the operating system takes for the last bytes. */
  readonly finishAfter?: number
  /** The request body takes this long to arrive. */
  readonly upload?: number
}

/** What a client does about a stream that ended before its answer. */
export interface ResumePlan {
  /** Milliseconds between two attempts. */
  readonly after: number
  /** At most so many. */
  readonly times: number
  /** From the last event seen, or sometimes from an earlier one. */
  readonly cursor: 'last' | 'earlier'
}

/** Requests that must be refused, whoever sends them. */
export const REFUSALS = [
  'garbage',
  'not-json-rpc',
  'null-id',
  'accept',
  'get-accept',
  'content-type',
  'version',
  'method',
  'too-large',
  'reinitialize',
  'batch',
  'cursor',
  'slow-garbage',
  'never',
] as const

/** One of {@link REFUSALS}. */
export type Refusal = (typeof REFUSALS)[number]

/** What a stranger tries with somebody else's session id or cursor. */
export const INTRUSIONS = [
  'post',
  'notify',
  'get',
  'delete',
  'resume',
  'cancel',
  'slow',
  'cursor',
  'initialize',
] as const

/** One of {@link INTRUSIONS}. */
export type Intrusion = (typeof INTRUSIONS)[number]

/** One thing that a client does. */
export type Step =
  | {
      readonly do: 'open'
      readonly author: AuthorPlan
      readonly initialized: boolean
      readonly connection: ConnectionPlan
    }
  | {
      readonly do: 'call'
      readonly plan: Omit<CallPlan, 'tag'>
      readonly connection: ConnectionPlan
      readonly resume?: ResumePlan
      readonly cancelAfter?: number
      /** The JSON-RPC id, where it is not the next free one. */
      readonly id?: number | string
      /** So many calls in one array body. */
      readonly batch?: number
    }
  | { readonly do: 'get'; readonly connection: ConnectionPlan; readonly resume?: ResumePlan }
  | {
      readonly do:
        | 'list'
        | 'ping'
        | 'notify'
        | 'initialized'
        | 'delete'
        | 'admin-close'
        | 'author-close'
        | 'broadcast'
        | 'push'
        | 'drop-all'
    }
  | { readonly do: 'refused'; readonly kind: Refusal; readonly length: number }
  | { readonly do: 'foreign'; readonly kind: Intrusion; readonly victim: number; readonly length: number }
  | { readonly do: 'until'; readonly at: number }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'deadline'; readonly delta: number }

/** One simulated client. */
export interface ClientPlan {
  /** Undefined for an anonymous one. */
  readonly principal: string | undefined
  readonly version: string
  readonly address: Address
  /** When it tries again to open a session that was refused as too fast: when it was told to, or a second earlier as well. */
  readonly comesBack: 'as told' | 'early' | 'never'
  /** Milliseconds until it answers a server→client request; undefined: never. */
  readonly answerAfter: number | undefined
  /** Whether it answers with an error. */
  readonly answersWithError: boolean
  /** Whether it answers the transport's own pings. */
  readonly answersPings: boolean
  /** Whether it opens a new session once it was told that its own is gone, as official clients do. */
  readonly reopens: boolean
  /** Capabilities it declares. */
  readonly capabilities: Readonly<Record<string, unknown>>
  readonly steps: readonly Step[]
}

/** Tokens for opening sessions. */
export interface RatePlan {
  readonly perSecond: number
  readonly burst: number
}

/** How fast sessions may be opened; undefined: as fast as anybody likes. */
export interface AdmissionPlan {
  readonly principal?: RatePlan
  readonly address?: RatePlan
}

/** When instances sleep; durations in milliseconds. */
export interface SleepTimes {
  readonly after: number
  readonly maxAwake: number
  /** How long the factory takes that wakes a session. */
  readonly waking: number
}

/** Addresses that clients come from, and the network that counts for each. */
export const NETWORKS = {
  '10.0.0.1': '10.0.0.1',
  '10.0.0.2': '10.0.0.2',
  '::ffff:10.0.0.1': '10.0.0.1',
  '2001:db8::1': '2001:db8:0:0::/64',
  '2001:DB8:0:0:5::9': '2001:db8:0:0::/64',
  '2001:db8:0:1::1': '2001:db8:0:1::/64',
} as const

/** One of {@link NETWORKS}. */
export type Address = keyof typeof NETWORKS

/** Bounds of the event log of a run. */
export interface LogPlan {
  readonly kind: 'memory' | 'delayed' | 'failing' | 'none'
  readonly maxEvents: number
  readonly maxBytes: number
  readonly maxAge: number
  /** Milliseconds that each operation of a delayed log takes at most. */
  readonly delay: number
}

/** The conditions of a run; durations in milliseconds. */
export interface Conditions {
  readonly sessionIdleTimeout: number
  readonly unusedSessionTimeout: number
  readonly handshakeTimeout: number
  readonly sessionMaxAge: number
  readonly maxSessions: number
  readonly maxSessionsPerPrincipal: number
  readonly evictableAfter: number
  readonly initializeTimeout: number
  readonly detachedRequestTimeout: number
  readonly undeliveredRequestTimeout: number
  readonly drainTimeout: number
  readonly responseMode: 'auto' | 'sse' | 'json'
  readonly keepAliveInterval: number
  readonly streamMaxAge: number
  readonly standaloneStream: 'takeover' | 'reject'
  readonly unsentTimeout: number
  readonly bodyTimeout: number
  readonly maxBodySize: number
  readonly maxStreamBuffer: number
  readonly maxRequestsPerSession: number
  readonly maxStreamsPerSession: number
  readonly log: LogPlan
  readonly admission: AdmissionPlan
  /** Undefined: nothing sleeps. */
  readonly sleep: SleepTimes | undefined
  /** Whether clients are known by an `authenticate` hook; else a framework did that. */
  readonly hook: boolean
  /** Latest a timer fires, and whether it may be a millisecond early. */
  readonly jitter: { readonly late: number; readonly early: boolean }
  /** The event loop blocks. */
  readonly stalls: readonly { readonly at: number; readonly length: number }[]
  /** The wall clock steps. */
  readonly wallSteps: readonly { readonly at: number; readonly by: number }[]
  /** When the drain begins; undefined: after everything ended by itself. */
  readonly shutdownAt: number | undefined
  /** How long after the first `close()` there is a second one, without drain time; undefined: none. */
  readonly closesAgainAfter: number | undefined
}

/** One run. */
export interface Plan {
  readonly seed: number
  readonly conditions: Conditions
  readonly clients: readonly ClientPlan[]
}

/** Makes the plan of a seed. */
export function makePlan(seed: number): Plan {
  const random = new Random(seed)
  const conditions = makeConditions(random)
  const clients: ClientPlan[] = []
  const count = random.int(3, 9)
  for (let index = 0; index < count; index++) clients.push(makeClient(random, conditions, count))
  return { seed, conditions, clients }
}

function makeAdmission(random: Random): AdmissionPlan {
  const rate = (): RatePlan => ({ perSecond: random.pick([0.1, 0.3, 1, 3]), burst: random.int(1, 3) })
  return {
    ...(random.chance(0.3) ? { principal: rate() } : {}),
    ...(random.chance(0.2) ? { address: rate() } : {}),
  }
}

function makeConditions(random: Random): Conditions {
  const idle = random.pick([1000, 2000, 5000, 10_000, 30_000, 1, 50])
  const drains = random.chance(0.5)
  const quiet = random.chance(0.5)
  return {
    sessionIdleTimeout: random.chance(0.03) ? Number.POSITIVE_INFINITY : idle,
    unusedSessionTimeout: random.pick([500, 5000, 20_000, idle, idle + 1, 300_000]),
    handshakeTimeout: random.pick([300, 3000, 60_000, 60_000]),
    sessionMaxAge: random.chance(0.15) ? random.pick([3000, 15_000, 60_000]) : Number.POSITIVE_INFINITY,
    maxSessions: random.chance(0.35) ? random.int(2, 4) : 100,
    maxSessionsPerPrincipal: random.chance(0.1) ? 2 : Number.POSITIVE_INFINITY,
    evictableAfter: random.pick([500, 3000, 300_000]),
    initializeTimeout: random.pick([1000, 10_000]),
    detachedRequestTimeout: random.pick([500, 5000, 60_000]),
    undeliveredRequestTimeout: random.pick([500, 10_000]),
    drainTimeout: random.pick([1000, 5000, 30_000]),
    responseMode: random.weighted([
      [6, 'auto'],
      [3, 'sse'],
      [1, 'json'],
    ]),
    keepAliveInterval: random.pick([15_000, 1000, 3000, Number.POSITIVE_INFINITY]),
    streamMaxAge: random.chance(0.15) ? random.pick([700, 4000]) : Number.POSITIVE_INFINITY,
    standaloneStream: random.chance(0.2) ? 'reject' : 'takeover',
    unsentTimeout: random.pick([2000, 60_000]),
    bodyTimeout: random.pick([4000, 30_000]),
    maxBodySize: 32 * 1024,
    maxStreamBuffer: random.pick([1024 * 1024, 2048]),
    maxRequestsPerSession: random.chance(0.1) ? 2 : 256,
    maxStreamsPerSession: random.chance(0.1) ? 2 : 64,
    log: {
      kind: random.weighted([
        [6, 'memory'],
        [3, 'delayed'],
        [0.7, 'failing'],
        [1, 'none'],
      ]),
      maxEvents: random.chance(0.15) ? random.int(2, 6) : 10_000,
      maxBytes: random.chance(0.05) ? 2000 : 16 * 1024 * 1024,
      maxAge: random.chance(0.15) ? random.pick([1000, 8000]) : 10 * 3600 * 1000,
      delay: random.pick([1, 20, 120]),
    },
    admission: makeAdmission(random),
    sleep: random.chance(0.5)
      ? {
          after: random.pick([1, 30, 500, 500, 3000]),
          maxAwake: random.pick([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 1, 3]),
          waking: random.pick([0, 0, 5, 80]),
        }
      : undefined,
    hook: random.chance(0.3),
    jitter: quiet ? { late: 0, early: false } : { late: random.pick([0, 3, 15]), early: random.chance(0.5) },
    stalls: random.chance(0.3)
      ? Array.from({ length: random.int(1, 5) }, (_, index) => ({
          at: random.int(500, 6000) + index * 5000,
          length: random.pick([40, 400, 2000]),
        }))
      : [],
    wallSteps: random.chance(0.3)
      ? [{ at: random.int(100, 20_000), by: random.pick([3_600_000, -3_600_000, 86_400_000, -86_400_000]) }]
      : [],
    shutdownAt: drains ? random.int(1000, 40_000) : undefined,
    closesAgainAfter: random.chance(0.7) ? random.pick([0, 1, 50, 700]) : undefined,
  }
}

function makeClient(random: Random, conditions: Conditions, clients: number): ClientPlan {
  const steps: Step[] = []
  const count = random.int(4, 22)
  steps.push({ do: 'wait', ms: random.int(0, 3000) }, makeOpen(random, conditions))
  for (let index = 0; index < count; index++) {
    if (random.chance(0.55)) steps.push(makeWait(random, conditions))
    const step = makeStep(random, conditions, clients)
    steps.push(step)
    // Some clients send every request with the same id.
    if (step.do === 'call' && random.chance(0.15)) {
      steps.push(
        { ...step, id: 1, plan: { ...step.plan, duration: 300, ending: 'result' } },
        { ...step, id: 1 },
      )
    }
  }
  if (conditions.shutdownAt !== undefined && random.chance(0.5))
    steps.push(...makeLastCalls(random, conditions))
  // Half of the clients go on to ask after their session's end, the others vanish as most clients do.
  if (random.chance(0.5)) {
    steps.push({ do: 'deadline', delta: random.pick([-1, 0, 1, 2, 251]) }, { do: 'ping' })
    steps.push(
      { do: 'deadline', delta: 251 },
      { do: 'wait', ms: 1 },
      { do: 'list' },
      { do: 'get', connection: {} },
      { do: 'delete' },
    )
  }
  return {
    principal: random.pick(['ann', 'ann', 'bob', 'cid', undefined, undefined]),
    version: random.weighted([
      [5, '2025-11-25'],
      [3, '2025-06-18'],
      [1, '2025-03-26'],
      [1, '2024-11-05'],
    ]),
    address: random.pick(Object.keys(NETWORKS) as [Address, ...Address[]]),
    comesBack: random.pick(['as told', 'as told', 'early', 'never']),
    answerAfter: random.pick([0, 1, 30, 2000, undefined]),
    answersWithError: random.chance(0.2),
    answersPings: random.chance(0.8),
    reopens: random.chance(0.8),
    capabilities: random.chance(0.5) ? { elicitation: {}, sampling: {} } : {},
    steps,
  }
}

/** Calls that run when the drain begins, and end before, at or after its end. */
function makeLastCalls(random: Random, conditions: Conditions): Step[] {
  const { shutdownAt = 0, drainTimeout } = conditions
  const ahead = random.int(0, 3)
  const duration = random.pick([
    5,
    100,
    Math.floor(drainTimeout / 2),
    drainTimeout - 2,
    drainTimeout + 1,
    drainTimeout * 2,
  ])
  const author: AuthorPlan = { factory: 'ok', factoryAfter: 0, initialize: 'result', initializeAfter: 0 }
  return [
    { do: 'until', at: shutdownAt - ahead },
    ...(random.chance(0.7) ? [{ do: 'open', author, initialized: true, connection: {} } as const] : []),
    { do: 'call', plan: { duration: duration + ahead, ending: 'result' }, connection: {} },
    {
      do: 'call',
      plan: { duration: ahead + random.int(1, drainTimeout - 2), ending: 'result' },
      connection: {},
    },
    { do: 'get', connection: {} },
  ]
}

function makeOpen(random: Random, conditions: Conditions): Step {
  const author: AuthorPlan = random.chance(0.85)
    ? {
        factory: 'ok',
        factoryAfter: random.pick([0, 0, 0, 5, 200]),
        initialize: 'result',
        initializeAfter: random.pick([0, 0, 0, 30, 400]),
      }
    : {
        factory: random.pick(['ok', 'ok', 'throw', 'reject', 'hang', 'nothing']),
        factoryAfter: random.pick([
          0,
          100,
          conditions.initializeTimeout - 1,
          conditions.initializeTimeout,
          conditions.initializeTimeout + 1,
        ]),
        initialize: random.pick(['result', 'error', 'never', 'throw', 'close']),
        initializeAfter: random.pick([
          0,
          50,
          conditions.initializeTimeout - 1,
          conditions.initializeTimeout + 1,
        ]),
      }
  return {
    do: 'open',
    author,
    initialized: random.chance(0.9),
    connection: random.chance(0.9) ? {} : makeConnection(random, conditions),
  }
}

function makeWait(random: Random, conditions: Conditions): Step {
  const { sessionIdleTimeout: idle } = conditions
  if (random.chance(0.45))
    return {
      do: 'deadline',
      delta: random.weighted([
        [3, -1],
        [3, 0],
        [3, 1],
        [1, -2],
        [1, 2],
        [1, 251],
        [1, -0.25],
        [1, 0.25],
      ]),
    }
  if (!Number.isFinite(idle) || random.chance(0.6))
    return { do: 'wait', ms: random.pick([0, 1, 10, 24, 25, 26, 100, 700, 3000]) }
  return {
    do: 'wait',
    ms: random.pick([Math.floor(idle / 2), idle - 1, idle, idle + 1, Math.floor(idle * 1.5)]),
  }
}

function makeConnection(random: Random, conditions: Conditions): ConnectionPlan {
  const moment = (): number => random.pick([0, 1, 10, 24, 25, 26, 60, 300, 1500, 4000])
  const finite = Number.isFinite(conditions.sessionIdleTimeout) ? conditions.sessionIdleTimeout : 5000
  return {
    ...(random.chance(0.4) ? { dropAfter: moment() } : {}),
    ...(random.chance(0.06) ? { vanishAfter: moment() } : {}),
    ...(random.chance(0.08)
      ? { stall: { after: moment(), length: random.pick([0, 100, 1900, 2100, 5000]) } }
      : {}),
    ...(random.chance(0.3) ? { latency: random.pick([1, 7, 40]) } : {}),
    ...(random.chance(0.1) ? { finishAfter: random.pick([0, 2, 50, finite, finite + 1]) } : {}),
    ...(random.chance(0.08)
      ? {
          upload: random.pick([
            1,
            30,
            finite - 1,
            finite,
            finite + 1,
            conditions.bodyTimeout - 1,
            conditions.bodyTimeout + 1,
          ]),
        }
      : {}),
  }
}

function makeResume(random: Random): ResumePlan {
  return {
    after: random.pick([0, 1, 5, 30, 200, 3000]),
    times: random.int(1, 6),
    cursor: random.chance(0.75) ? 'last' : 'earlier',
  }
}

function makeCall(random: Random, conditions: Conditions): Step {
  const { sessionIdleTimeout: idle, detachedRequestTimeout: detached } = conditions
  const finite = Number.isFinite(idle) ? idle : 5000
  const plan: Omit<CallPlan, 'tag'> = {
    duration: random.pick([
      0,
      0,
      0,
      1,
      24,
      25,
      26,
      200,
      1000,
      finite - 1,
      finite,
      finite + 1,
      finite * 2 + 3,
      detached + 50,
    ]),
    ending: random.weighted([
      [20, 'result'],
      [3, 'error'],
      [2, 'never'],
      [1, 'twice'],
      [1, 'throw'],
      [1, 'reject'],
      [0.7, 'close'],
    ]),
    ...(random.chance(0.4)
      ? { progress: { count: random.int(1, 8), every: random.pick([0, 1, 10, 50, 300]) } }
      : {}),
    ...(random.chance(0.15) ? { broadcasts: random.int(1, 3) } : {}),
    ...(random.chance(0.15)
      ? { ask: { related: random.chance(0.5), timeout: random.pick([100, 4000, 60_000]) } }
      : {}),
    ...(random.chance(0.08) ? { deaf: true } : {}),
    ...(random.chance(0.08) ? { padding: random.pick([100, 3000]) } : {}),
  }
  return {
    do: 'call',
    plan,
    connection: random.chance(0.6) ? makeConnection(random, conditions) : {},
    ...(random.chance(0.8) ? { resume: makeResume(random) } : {}),
    ...(random.chance(0.12) ? { cancelAfter: random.pick([0, 1, 10, 100, 1000]) } : {}),
    ...(random.chance(0.35) ? { id: random.pick<number | string>([0, 1, 1, 'one']) } : {}),
    ...(random.chance(0.1) ? { batch: random.int(1, 4) } : {}),
  }
}

function makeStep(random: Random, conditions: Conditions, clients: number): Step {
  const kind = random.weighted([
    [26, 'call'],
    [9, 'get'],
    [4, 'open'],
    [5, 'ping'],
    [4, 'list'],
    [2, 'notify'],
    [2, 'initialized'],
    [1.5, 'delete'],
    [0.7, 'admin-close'],
    [0.7, 'author-close'],
    [4, 'broadcast'],
    [1, 'push'],
    [2, 'drop-all'],
    [10, 'refused'],
    [10, 'foreign'],
  ])
  const length = random.pick([0, 5, 300, 2500])
  switch (kind) {
    case 'call':
      return makeCall(random, conditions)
    case 'get':
      return {
        do: 'get',
        connection: makeConnection(random, conditions),
        ...(random.chance(0.8) ? { resume: makeResume(random) } : {}),
      }
    case 'open':
      return makeOpen(random, conditions)
    case 'refused':
      return { do: 'refused', kind: random.pick(REFUSALS as unknown as [Refusal, ...Refusal[]]), length }
    case 'foreign':
      return {
        do: 'foreign',
        kind: random.pick(INTRUSIONS as unknown as [Intrusion, ...Intrusion[]]),
        victim: random.int(0, clients - 1),
        length,
      }
    default:
      return { do: kind } as Step
  }
}
