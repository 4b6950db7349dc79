/** Sleep and wake by seeds: clients whose sessions sleep between almost any two things, factories that fail, and what must hold all the same. */

import type { JsonRpcMessage, ServerContext } from '../../src/types.ts'
import type { FakeCall, FakeServer, FakeServerOptions } from '../support/fake-server.ts'
import { rpc } from '../support/mcp-wire.ts'
import { SimApp } from '../support/sim-app.ts'
import type { SimExchange } from '../support/sim-exchange.ts'
import { VirtualClock } from '../support/virtual-clock.ts'
import { Random } from './random.ts'

/** Something that is made wrong on purpose; the result puts it back. */
export type SleepFault = (app: () => SimApp) => () => void

/** What a session must be like. */
interface Model {
  incarnations: number
  /** Factories under way, and instances that are not awake yet. */
  waking: number
  level: string | undefined
  subscriptions: Set<string>
  /** POSTs that need the instance and have no answer yet. */
  readonly needing: Set<SimExchange>
  readonly calls: FakeCall[]
  failedAt: number
  closedAt: number | undefined
}

/** Runs a seed. Gives what broke, in words. */
export async function simulateSleep(seed: number, fault?: SleepFault): Promise<string[]> {
  const random = new Random(seed)
  const clock = new VirtualClock({ start: 0, turns: 1, tieBreak: () => random.next() })
  const wrong: string[] = []
  const models = new Map<string, Model>()
  const hooks = random.chance(0.3)
  const failing = random.pick([0, 0, 0.15, 0.4])
  const sleepAfter = random.pick([1, 20, 200, 1000])

  const author = async (context: ServerContext): Promise<Partial<FakeServerOptions>> => {
    const { session } = context
    const id = session.id ?? ''
    let model = models.get(id)
    if (!session.restored) {
      models.set(id, (model = newModel()))
    } else if (model === undefined) {
      wrong.push('a session was woken that never opened')
      return {}
    }
    model.incarnations += 1
    const known = model
    if (session.restored) {
      if (known.needing.size === 0) wrong.push(`${id} was woken for nothing`)
      if (known.waking > 0) wrong.push(`${id} was woken twice at once`)
      known.waking += 1
      const { kept } = session.data as { kept?: number }
      if (kept !== known.incarnations - 1) wrong.push(`${id} lost its data`)
    }
    session.data = { kept: known.incarnations }
    if (hooks) context.onSleep(() => clock.sleep(random.int(0, 30)))
    if (session.restored) {
      const after = random.weighted([
        [6, 0],
        [3, random.int(1, 80)],
        [failing, 700],
      ])
      if (after > 0) await clock.sleep(after)
      if (random.chance(failing)) {
        known.waking -= 1
        known.failedAt = clock.now()
        throw new Error('the factory fails')
      }
    }
    return {
      oninitialized: (server) => {
        if (session.restored)
          void server.transport?.send({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })
      },
      oncall: (call) => {
        known.calls.push(call)
        const server = app.fakes.find(({ calls }) => calls.includes(call))
        if (session.restored && call.method === 'tools/call' && server !== undefined)
          wrong.push(...replayed(server, known).map((text) => `${id} ${text}`))
      },
    }
  }

  const app = new SimApp(
    clock,
    {
      sleepAfter,
      maxAwake: random.pick([1, 2, 3, Number.POSITIVE_INFINITY]),
      sessionIdleTimeout: random.pick([5000, 60_000]),
      initializeTimeout: 500,
    },
    author,
  )
  const restore = fault?.(() => app)
  app.manager.sessions.subscribe((event) => {
    const model = models.get(event.session ?? '')
    if (model === undefined) return
    if (event.type === 'session.woken') model.waking -= 1
    if (event.type === 'session.closed') model.closedAt = clock.now()
    if (event.type === 'session.slept' && model.calls.some(({ abortedAt }) => abortedAt !== undefined))
      wrong.push(`${event.session} slept under a running call`)
  })
  try {
    const clients = Array.from({ length: random.int(2, 5) }, () => runClient(app, random, models, wrong))
    let running = clients.length
    for (const client of clients) void client.finally(() => (running -= 1))
    for (let turn = 0; turn < 2000 && running > 0; turn++) await clock.advance(100)
    if (running > 0) wrong.push('a client waits for ever')
    else await Promise.all(clients)
    await clock.advance(sleepAfter + 1100)
    if (app.manager.sessions.counts.awake > 0) wrong.push('an instance that nothing needs does not sleep')
    await clock.advance(70_000)
    const closed = app.manager.close()
    for (let turn = 0; turn < 5; turn++) await clock.advance(0)
    await closed
    // What a factory brought too late was never connected.
    const late = app.fakes.filter(({ connectedAt }) => connectedAt === undefined).map(({ tag }) => tag)
    wrong.push(...app.leftovers().filter((text) => !late.some((tag) => text === `${tag} was not closed`)))
    checkMessages(app, wrong)
    return wrong
  } finally {
    restore?.()
  }
}

function newModel(): Model {
  return {
    incarnations: 0,
    waking: 0,
    level: undefined,
    subscriptions: new Set(),
    needing: new Set(),
    calls: [],
    failedAt: Number.NEGATIVE_INFINITY,
    closedAt: undefined,
  }
}

/** What an instance must have been told before its first call. */
function replayed(server: FakeServer, model: Model): string[] {
  const told = server.received as readonly { method?: string; params?: { level?: string; uri?: string } }[]
  const wrong: string[] = []
  if (told[0]?.method !== 'initialize' || told[1]?.method !== 'notifications/initialized')
    wrong.push('was given a call before its handshake')
  const level = told.findLast(({ method }) => method === 'logging/setLevel')?.params?.level
  if (level !== model.level) wrong.push(`has the log level ${level}, not ${model.level}`)
  const uris = told.filter(({ method }) => method === 'resources/subscribe').map(({ params }) => params?.uri)
  for (const uri of model.subscriptions)
    if (!uris.includes(uri)) wrong.push(`does not know of the subscription to ${uri}`)
  return wrong
}

/** One client with one session. */
async function runClient(
  app: SimApp,
  random: Random,
  models: ReadonlyMap<string, Model>,
  wrong: string[],
): Promise<void> {
  const { clock } = app
  await clock.sleep(random.int(0, 100))
  const opened = app.post(undefined, rpc('initialize', PARAMS))
  await opened.ended
  const id = opened.responseHeaders['mcp-session-id'] ?? ''
  const model = models.get(id)
  if (model === undefined) {
    wrong.push(`initialize was answered with ${opened.status}`)
    return
  }
  await app.post(id, { jsonrpc: '2.0', method: 'notifications/initialized' }).ended
  let next = 0
  const answered = new Set<unknown>()
  const answer = (text: string): void => {
    const message = JSON.parse(text) as { id?: unknown; method?: string }
    if (message.method !== 'elicitation/create') return
    const times = random.pick([1, 1, 2])
    if (answered.has(message.id)) return
    answered.add(message.id)
    for (let n = 0; n < times; n++)
      clock.after(random.int(0, 50) + n * 1500, () => {
        app.post(id, { jsonrpc: '2.0', id: message.id, result: {} })
      })
  }
  const watch = (exchange: SimExchange): SimExchange => {
    exchange.onevent = ({ data }) => data !== '' && answer(data)
    return exchange
  }
  /** Sends what needs the instance. Gives the status. */
  const need = async (message: object): Promise<number | undefined> => {
    const began = clock.now()
    const exchange = watch(app.post(id, message))
    if (exchange.answeredAt === undefined) model.needing.add(exchange)
    void exchange.head.then(() => model.needing.delete(exchange))
    const outcome = await exchange.ended
    model.needing.delete(exchange)
    const { status } = exchange
    if (status === 503) {
      if (began - model.failedAt > 1000 && clock.now() - model.failedAt > 1000 && clock.now() - began < 499)
        wrong.push(`${id}: 503, and no factory had failed`)
      else if (clock.now() - began >= 499) [model.failedAt, model.waking] = [clock.now(), 0]
    } else if (status === 404) {
      if (model.closedAt === undefined) wrong.push(`${id}: 404 while it lives`)
    } else if (outcome !== 'completed' || status !== 200) wrong.push(`${id}: ${outcome} ${status}`)
    else {
      const wanted = (message as { id: unknown }).id
      const last = exchange.messages().at(-1) as { id?: unknown; result?: unknown } | undefined
      if (last?.id !== wanted || last?.result === undefined)
        wrong.push(`${id}: no answer to ${String(wanted)}`)
    }
    return status
  }
  const call = (): Promise<unknown> => {
    next += 1
    return need(
      rpc(
        'tools/call',
        {
          name: 'run',
          arguments: {
            tag: `${id} ${next}`,
            duration: random.pick([0, 0, 5, 100, 1500]),
            ...(random.chance(0.2) ? { ask: { related: random.chance(0.7), timeout: 300 } } : {}),
          },
        },
        next,
      ),
    )
  }
  let stream: SimExchange | undefined
  for (let step = random.int(10, 30); step > 0 && model.closedAt === undefined; step--) {
    await clock.sleep(random.pick([0, 1, 19, 20, 21, 200, 201, 1000, 1100]))
    const kind = random.pick(['call', 'call', 'call', 'burst', 'get', 'ping', 'level', 'subscribe', 'notify'])
    if (kind === 'call') await call()
    if (kind === 'burst') await Promise.all(Array.from({ length: random.int(2, 6) }, call))
    if (kind === 'get') {
      stream?.drop()
      stream = watch(app.get(id))
    }
    if (kind === 'ping') await app.post(id, rpc('ping')).ended
    if (kind === 'notify')
      app.manager.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 'x' })
    if (kind === 'level') {
      const level = random.pick(['debug', 'warning', 'error'])
      if ((await need(rpc('logging/setLevel', { level }, (next += 1)))) === 200) model.level = level
    }
    if (kind === 'subscribe') {
      const uri = `a:${random.int(1, 3)}`
      if ((await need(rpc('resources/subscribe', { uri }, (next += 1)))) === 200) model.subscriptions.add(uri)
    }
  }
  await clock.sleep(3000)
  stream?.drop()
  if (random.chance(0.3)) await app.delete(id).ended
}

const PARAMS = {
  protocolVersion: '2025-11-25',
  capabilities: { elicitation: {} },
  clientInfo: { name: 'sleeper', version: '1' },
}

/** What came: no change of a list, no number for two questions, no answer to somebody else's. */
function checkMessages(app: SimApp, wrong: string[]): void {
  const asked = new Map<string, string>()
  for (const exchange of app.exchanges) {
    if (exchange.status !== 200 || exchange.text === '') continue
    for (const message of exchange.messages() as JsonRpcMessage[]) {
      if (!('method' in message)) continue
      if (message.method.endsWith('list_changed')) wrong.push('a change of replay leaked')
      if (message.method !== 'elicitation/create' || !('id' in message)) continue
      const key = `${String(exchange.headers['mcp-session-id'])} ${message.id}`
      const question = JSON.stringify(message.params)
      if ((asked.get(key) ?? question) !== question) wrong.push(`${key} stands for two questions`)
      asked.set(key, question)
    }
  }
  for (const fake of app.fakes) {
    // A question that its server gave up may be answered late, to the same server.
    const strange = fake.strayResponses.filter(({ id }) => typeof id !== 'number')
    if (strange.length > 0) wrong.push(`${fake.tag} was given answers that are not its own`)
  }
}
