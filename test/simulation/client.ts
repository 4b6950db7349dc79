/** A simulated client: does what its plan says, follows its streams as official clients do, and checks what it is given. */

import type { JsonRpcMessage, RequestId } from '../../src/types.ts'
import type { SimBody, SimEvent, SimOutcome, SimRequest } from '../support/sim-exchange.ts'
import { type Actor, authInfoOf, type ExchangeNote, type Surroundings, type Victim } from './around.ts'
import type { AuthorPlan, ClientPlan, ConnectionPlan, Intrusion, Refusal, ResumePlan, Step } from './plan.ts'
import type { SessionModel } from './session-model.ts'
import { compareCall, responseId, shortOf, type StreamConnection, StreamModel } from './stream-model.ts'

/** One JSON-RPC request of this client. */
interface ClientCall {
  readonly tag: string
  readonly id: RequestId
  readonly session: SessionModel
  /** What came for it, in short, in order. */
  readonly got: string[]
  response: JsonRpcMessage | undefined
  cancelled: boolean
}

/** Everything about a stream that this client follows: of one POST, or of GETs. */
interface Followed {
  readonly session: SessionModel
  readonly model: StreamModel
  /** Empty for a GET. */
  readonly calls: readonly ClientCall[]
  readonly resume: ResumePlan | undefined
  readonly connections: { readonly note: ExchangeNote; readonly at: StreamConnection }[]
  attempts: number
  /** Whether it was told that there is nothing left, or gave up. */
  finished: boolean
  /** For a GET: the least number its first broadcast may have. */
  readonly firstBroadcast: number | undefined
  /** The last broadcast it got. */
  lastBroadcast: number | undefined
}

const WELL_BEHAVED: AuthorPlan = { factory: 'ok', factoryAfter: 0, initialize: 'result', initializeAfter: 0 }

/** A client that was told so often that its session is gone gives up. */
const MOST_RENEWALS = 8

/** How often it comes back that was refused as too fast. */
const MOST_RETURNS = 4

type Params = Record<string, unknown>

const BOTH = 'application/json, text/event-stream'

/** A client. */
export class SimClient implements Actor, Victim {
  readonly index: number
  readonly plan: ClientPlan
  /** The session it uses, which may have ended. */
  session: SessionModel | undefined
  /** The time it was to act at, while it acts; later than that by a blocked event loop only. */
  wokenFor: number | undefined
  readonly #world: Surroundings
  readonly #calls: ClientCall[] = []
  readonly #followed: Followed[] = []
  /** On which stream each thing that a session's server sends once was seen. */
  readonly #seen = new Map<string, Followed>()
  #openings = 0
  #renewals = 0
  /** When its last wait was to end. */
  #due: number | undefined
  #nextId = 100
  #tokens = 0
  #stopped = false

  constructor(world: Surroundings, index: number, plan: ClientPlan) {
    this.#world = world
    this.index = index
    this.plan = plan
  }

  /** Acts out its plan. */
  async run(): Promise<void> {
    for (const step of this.plan.steps) {
      if (this.#stopped) return
      this.wokenFor = this.#due
      await this.#act(step)
      this.wokenFor = undefined
    }
  }

  /** Does nothing more. */
  stop(): void {
    this.#stopped = true
    for (const followed of this.#followed) followed.finished = true
  }

  /** Its call of this tag. */
  callByTag(tag: string): (ClientCall & { detachedAt(before: number): number | undefined }) | undefined {
    const call = this.#calls.find((one) => one.tag === tag)
    if (call === undefined) return undefined
    const followed = this.#followed.find((one) => one.calls.includes(call))
    return Object.assign(call, {
      // When its last connection before that time went away, if none was there then.
      detachedAt: (before: number) => {
        let last: number | undefined
        for (const { note } of followed?.connections ?? []) {
          const { closedAt = Infinity, endedAt = Infinity, startedAt } = note.exchange
          const refused = note.kind === 'resume' && note.exchange.answeredStatus !== 200
          // One that came in the same moment may have come after the call was given up.
          if (refused || startedAt > before || (note.kind === 'resume' && startedAt === before)) continue
          const gone = Math.min(closedAt, endedAt)
          if (gone > before) return undefined
          last = Math.max(last ?? 0, gone)
        }
        return last
      },
    })
  }

  async #act(step: Step): Promise<void> {
    const { session } = this
    const world = this.#world
    switch (step.do) {
      case 'wait':
        return this.#sleep(step.ms)
      case 'until':
        return this.#sleep(Math.max(0, step.at - world.clock.now()))
      case 'deadline':
        return this.#awaitDeadline(step.delta)
      case 'open':
        return this.#open(step)
    }
    if (session === undefined) return
    const asks = step.do === 'call' || step.do === 'get' || step.do === 'list' || step.do === 'ping'
    if (asks && this.plan.reopens && session.first404 !== undefined && this.#renewals < MOST_RENEWALS) {
      this.#renewals += 1
      await this.#open({ do: 'open', author: WELL_BEHAVED, initialized: true, connection: {} })
      if (!this.#stopped && this.session !== session) await this.#act(step)
      return
    }
    switch (step.do) {
      case 'call':
        this.#callTool(session, step)
        break
      case 'get':
        this.#get(session, step.connection, step.resume)
        break
      case 'list':
        this.#post(session, 'list', this.#request('tools/list'), { uses: true })
        break
      case 'ping':
        this.#post(session, 'ping', this.#request('ping'))
        break
      case 'notify':
        this.#post(session, 'notify', { jsonrpc: '2.0', method: 'notifications/roots/list_changed' })
        break
      case 'initialized':
        this.#initialized(session)
        break
      case 'delete':
        this.#delete(session)
        break
      case 'admin-close':
        if (session.end === undefined) {
          world.recorder.note(`- admin closes ${session.name}`)
          session.closedByAdmin = true
          void world.manager.sessions.close(session.id)
        }
        break
      case 'author-close':
        if (session.end === undefined) {
          world.recorder.note(`- the author closes ${session.name}`)
          void world.serverOf(session)?.close()
        }
        break
      case 'broadcast':
        void world.serverOf(session)?.broadcast()
        break
      case 'push':
        void world.manager.sessions.get(session.id)?.notify('notifications/tools/list_changed')
        break
      case 'drop-all':
        for (const { connections } of this.#followed) {
          for (const { note } of connections) if (note.exchange.outcome === undefined) world.drop(note)
        }
        break
      case 'refused':
        this.#refused(session, step.kind, step.length)
        break
      case 'foreign':
        this.#intrude(step.kind, step.victim, step.length)
        break
    }
  }

  async #sleep(ms: number): Promise<void> {
    const { clock } = this.#world
    this.#due = clock.now() + ms
    await clock.sleep(ms)
  }

  async #awaitDeadline(delta: number): Promise<void> {
    const { clock } = this.#world
    this.#due = undefined
    for (let tries = 0; tries < 40; tries++) {
      const { session } = this
      if (session === undefined || session.end !== undefined) return
      const due = session.expectedEnd()
      if (due === Number.POSITIVE_INFINITY) return
      if (due !== undefined) {
        const wait = due + delta - clock.now()
        if (wait > 0) await this.#sleep(wait)
        return
      }
      await clock.sleep(Math.min(1000, Math.max(1, session.timeout.length / 3)))
      if (this.#stopped) return
    }
  }

  // What it sends

  #head(method: string, session: SessionModel | undefined, more: Record<string, string> = {}): SimRequest {
    const authInfo = authInfoOf(this.plan.principal, this.#tokens++)
    const { hook } = this.#world.conditions
    return {
      method,
      headers: {
        host: 'localhost:3000',
        accept: method === 'GET' ? 'text/event-stream' : BOTH,
        ...(method === 'POST' ? { 'content-type': 'application/json' } : {}),
        ...(session === undefined ? {} : { 'mcp-session-id': session.id, ...versionHeader(session.version) }),
        ...(authInfo !== undefined && hook ? { authorization: `Bearer ${authInfo.token}` } : {}),
        ...more,
      },
      remoteAddress: this.plan.address,
      ...(authInfo === undefined || hook ? {} : { authInfo }),
    }
  }

  #request(method: string, params?: Params, id: RequestId = this.#nextId++): JsonRpcMessage {
    return { jsonrpc: '2.0', id, method, ...(params === undefined ? {} : { params }) }
  }

  #post(
    session: SessionModel,
    kind: string,
    message: unknown,
    options: {
      uses?: boolean
      initializes?: boolean
      bearing?: 'ambiguous'
      detail?: string
      connection?: ConnectionPlan
      refusals?: number[]
    } = {},
  ): ExchangeNote {
    const request = { ...this.#head('POST', session), body: JSON.stringify(message) }
    const note = this.#world.send(this, request, {
      kind,
      session,
      ...options,
      // A slow upload may be cut off; a session with few requests allowed refuses more.
      refusals: [...(options.refusals ?? []), 408, 429],
    })
    if (kind !== 'call') void note.exchange.ended.then((outcome) => this.#checkPlain(note, outcome))
    return note
  }

  /** Opens a session; where that was too fast, it may come back when it was told to. */
  async #open(step: Extract<Step, { do: 'open' }>): Promise<void> {
    const { clock, recorder } = this.#world
    const { comesBack } = this.plan
    for (let tries = 0; ; tries++) {
      const again = tries === 0 ? step : { ...step, connection: {} }
      const { exchange } = await this.#openOnce(again)
      if (tries > 0 && exchange.status === 200) recorder.stake('let in when told')
      const after = Number(exchange.responseHeaders['retry-after'])
      if (exchange.status !== 429 || this.#stopped || comesBack === 'never' || tries >= MOST_RETURNS) return
      if (!Number.isFinite(after)) return
      // Who is told to come back in so many seconds and comes a second earlier is refused again.
      await clock.sleep((comesBack === 'early' && tries % 2 === 0 ? after - 1 : after) * 1000)
      if (this.#stopped) return
    }
  }

  async #openOnce(step: Extract<Step, { do: 'open' }>): Promise<ExchangeNote> {
    const world = this.#world
    const name = `c${this.index} open ${++this.#openings}`
    world.expectOpening(name, this, step.author)
    const old = this.session
    const body = this.#request('initialize', {
      protocolVersion: this.plan.version,
      capabilities: this.plan.capabilities,
      clientInfo: { name, version: '1' },
    })
    const owned = old !== undefined && old.end === undefined
    const request = { ...this.#head('POST', undefined), body: JSON.stringify(body) }
    // A client that comes back may still send its dead id; a live one would be refused, so leave it out.
    const withOld =
      old !== undefined && !owned
        ? { ...request, headers: { ...request.headers, 'mcp-session-id': old.id } }
        : request
    if (withOld !== request) world.recorder.stake('initialize with a dead id')
    const note = world.send(this, withOld, {
      kind: 'open',
      connection: step.connection,
      detail: `${step.author.factory} ${step.author.initialize}`,
    })
    world.noteOpening(name, note)
    this.wokenFor = undefined
    this.#due = undefined
    const limit = world.clock.sleep(world.conditions.initializeTimeout + 3000 + (step.connection.upload ?? 0))
    await Promise.race([note.exchange.ended, limit])
    this.#checkOpening(note, step, old)
    const id = note.exchange.responseHeaders['mcp-session-id']
    const model = id === undefined ? undefined : world.models.get(id)
    if (model === undefined) return note
    this.session = model
    if (step.initialized) this.#initialized(model)
    return note
  }

  #checkOpening(
    note: ExchangeNote,
    step: Extract<Step, { do: 'open' }>,
    old: SessionModel | undefined,
  ): void {
    const { recorder, conditions, shutdownAt, models } = this.#world
    const { exchange } = note
    if (exchange.outcome === undefined) {
      // A slow log has its own time.
      if (!note.disturbed && conditions.log.kind !== 'delayed')
        recorder.violate(
          'what was accepted is answered',
          `initialize #${note.number} was not answered within ${conditions.initializeTimeout} ms`,
        )
      return
    }
    if (note.disturbed || exchange.outcome !== 'completed') return
    const { status } = exchange
    const id = exchange.responseHeaders['mcp-session-id']
    const { author } = step
    const reachable = author.factory === 'ok' && author.initialize === 'result'
    const time = author.factoryAfter + author.initializeAfter
    if (id !== undefined && id === old?.id)
      recorder.violate(
        'a dead id is not given out again',
        `initialize #${note.number} was given the dead id again`,
      )
    if (id !== undefined && (!reachable || time > conditions.initializeTimeout + 20)) {
      recorder.violate(
        'what failed to open holds nothing',
        `initialize #${note.number} that failed was given a session id`,
      )
    }
    if (status === 503) {
      recorder.stake(shutdownAt === undefined ? 'refused as full' : 'initialize in the drain')
      if (shutdownAt === undefined) {
        // As it was when the server answered: the client learns of it later.
        const { answeredAt = 0 } = exchange
        const live = [...models.values()].filter(({ end }) => end === undefined || end.at >= answeredAt)
        const mine = live.filter((model) => model.principal === this.plan.principal)
        const opening = this.#world.exchanges.filter(
          (one) =>
            (one.kind === 'open' || one.kind === 'foreign initialize') &&
            (one.exchange.closedAt ?? Infinity) >= exchange.startedAt,
        )
        const full =
          live.length + opening.length > conditions.maxSessions ||
          (this.plan.principal !== undefined &&
            mine.length + opening.length > conditions.maxSessionsPerPrincipal)
        if (!full)
          recorder.violate(
            'refused as full when it is full only',
            `initialize #${note.number} was refused as full with ${live.length} sessions`,
          )
      }
      return
    }
    // Whether it was too fast is looked at in the end.
    if (status === 429) {
      recorder.stake('refused as too fast')
      return
    }
    if (shutdownAt !== undefined) {
      recorder.stake('initialize in the drain')
      if (status === 200 && id !== undefined && exchange.startedAt > shutdownAt)
        recorder.violate('nothing opens in a drain', `initialize #${note.number} succeeded in the drain`)
      return
    }
    // A body that comes too late, or an event loop that was blocked, is nobody's fault here.
    const slow = status === 408 || (status === 504 && conditions.stalls.length > 0)
    if (
      reachable &&
      !slow &&
      time < conditions.initializeTimeout - 20 &&
      (status !== 200 || id === undefined)
    ) {
      recorder.violate(
        'each request is answered as foreseen',
        `initialize #${note.number} got ${status} ${exchange.text}`,
      )
    }
    this.#takeBody(note, undefined)
  }

  #initialized(session: SessionModel): void {
    this.#post(
      session,
      'initialized',
      { jsonrpc: '2.0', method: 'notifications/initialized' },
      { initializes: true },
    )
  }

  #callTool(session: SessionModel, step: Extract<Step, { do: 'call' }>): void {
    const world = this.#world
    const batched = step.batch !== undefined
    const count = step.batch ?? 1
    const calls: ClientCall[] = []
    const messages: JsonRpcMessage[] = []
    for (let index = 0; index < count; index++) {
      const tag = world.nextTag()
      const id = index === 0 ? (step.id ?? this.#nextId++) : this.#nextId++
      calls.push({ tag, id, session, got: [], response: undefined, cancelled: false })
      messages.push(
        this.#request(
          'tools/call',
          { name: 'run', arguments: { ...step.plan, tag }, _meta: { progressToken: tag } },
          id,
        ),
      )
    }
    for (const call of calls) {
      if (
        this.#calls.some((other) => other.session === session && other.id === call.id && this.#runs(other))
      ) {
        world.recorder.stake('the same id twice in flight')
      }
    }
    // Only the oldest eras know array bodies.
    const refusals =
      batched && !(session.version === '2025-03-26' || session.version === '2024-11-05') ? [400] : []
    const note = this.#post(session, 'call', batched ? messages : messages[0], {
      uses: true,
      connection: step.connection,
      refusals,
      detail: `${calls.map((call) => `${call.tag} id ${JSON.stringify(call.id)}`).join(', ')} ${JSON.stringify(step.plan)}`,
    })
    if (refusals.length > 0 && note.exchange.answeredStatus === 200)
      world.recorder.violate(
        'each request is answered as foreseen',
        `#${note.number}: an array body was executed`,
      )
    this.#calls.push(...calls)
    const followed: Followed = {
      session,
      model: new StreamModel(),
      calls,
      resume: step.resume,
      connections: [],
      attempts: 0,
      finished: false,
      firstBroadcast: undefined,
      lastBroadcast: undefined,
    }
    this.#followed.push(followed)
    this.#follow(followed, note, followed.model.open())
    const { cancelAfter } = step
    if (cancelAfter !== undefined) world.clock.after(cancelAfter, () => this.#cancel(session, calls[0]))
  }

  #delete(session: SessionModel): void {
    const world = this.#world
    const note = world.send(this, this.#head('DELETE', session), { kind: 'delete', session })
    void note.exchange.ended.then((outcome) => {
      this.#checkStatus(note, outcome)
      if (note.exchange.status === 200 && session.end === undefined)
        world.recorder.violate(
          'deleted by its owner only, and then at once',
          `#${note.number}: ${session.name} was deleted and goes on`,
        )
    })
  }

  #runs(call: ClientCall): boolean {
    const handled = this.#world.call(call.tag)
    return handled !== undefined && handled.endedAt === undefined && handled.abortedAt === undefined
  }

  #cancel(session: SessionModel, call: ClientCall | undefined): void {
    if (call === undefined || this.#stopped || session.end !== undefined) return
    // The newest running call of that id is meant, whichever the client had in mind; newest is the last that reached the server.
    const tags = session.calls.map((handled) => handled.plan?.tag)
    const target = this.#calls
      .filter((other) => other.session === session && other.id === call.id && this.#runs(other))
      .sort((a, b) => tags.indexOf(a.tag) - tags.indexOf(b.tag))
      .at(-1)
    const note = this.#post(
      session,
      'cancel',
      {
        jsonrpc: '2.0',
        method: 'notifications/cancelled',
        params: { requestId: call.id, reason: 'changed my mind' },
      },
      { detail: `id ${JSON.stringify(call.id)} ${target?.tag ?? 'of nothing running'}` },
    )
    if (target === undefined) return
    target.cancelled = true
    const { clock, recorder } = this.#world
    clock.after(1, () => {
      const handled = this.#world.call(target.tag)
      if (note.exchange.answeredStatus !== 202) return
      recorder.stake('call cancelled')
      if (handled?.abortedAt === undefined && handled?.endedAt === undefined)
        recorder.violate('cancelled is aborted', `${target.tag} was cancelled and its signal did not abort`)
    })
  }

  #get(session: SessionModel, connection: ConnectionPlan, resume: ResumePlan | undefined): void {
    let received = 0
    for (const followed of this.#followed)
      if (followed.session === session) received = Math.max(received, followed.lastBroadcast ?? 0)
    const followed: Followed = {
      session,
      model: new StreamModel(),
      calls: [],
      resume,
      connections: [],
      attempts: 0,
      finished: false,
      firstBroadcast: received + 1,
      lastBroadcast: undefined,
    }
    this.#followed.push(followed)
    const note = this.#world.send(this, this.#head('GET', session), {
      kind: 'get',
      session,
      connection,
      uses: true,
      refusals: [409, 429],
    })
    this.#follow(followed, note, followed.model.open())
  }

  // What it receives

  #follow(followed: Followed, note: ExchangeNote, at: StreamConnection): void {
    followed.connections.push({ note, at })
    // What came at once came before anybody listened.
    for (const event of note.exchange.events) this.#onevent(followed, note, at, event)
    note.exchange.onevent = (event) => this.#onevent(followed, note, at, event)
    void note.exchange.ended.then((outcome) => this.#onended(followed, note, outcome))
  }

  #onevent(followed: Followed, note: ExchangeNote, at: StreamConnection, event: SimEvent): void {
    const { recorder } = this.#world
    const { session } = followed
    const message = event.data === '' ? undefined : (JSON.parse(event.data) as JsonRpcMessage)
    if (message !== undefined && 'method' in message && message.method === 'ping' && 'id' in message) {
      if (this.plan.answersPings) this.#answer(session, message.id as RequestId, true)
      return
    }
    const known = followed.model.known.length
    const wrong = followed.model.take(at, event, this.#trims(followed))
    if (wrong !== undefined)
      recorder.violate('each event once, in order', `#${note.number} ${this.#nameOf(followed)}: ${wrong}`)
    if (message === undefined || followed.model.known.length === known) {
      if (message !== undefined) this.#checkOwner(session, message)
      return
    }
    if (at.cursor !== undefined && at.count === 1) recorder.stake('resumed with a gap')
    this.#take(followed, note, message)
  }

  /** Whether documented bounds of the log may have taken events. */
  #trims(followed: Followed): boolean {
    return followed.connections.length > 1 && this.#bounded()
  }

  #nameOf(followed: Followed): string {
    const tags = followed.calls.map((call) => call.tag).join('+')
    return `${followed.session.name} ${tags === '' ? 'GET' : tags}`
  }

  /** A message that was not seen before. */
  #take(followed: Followed, note: ExchangeNote, message: JsonRpcMessage): void {
    const { recorder } = this.#world
    const { session } = followed
    this.#checkOwner(session, message)
    if ('method' in message) {
      const params = message.params ?? {}
      const data = params['data'] as { n?: number; call?: unknown } | undefined
      if (data?.n !== undefined && data.call === null) {
        this.#takeBroadcast(followed, note, data.n)
        return
      }
      const once =
        message.method === 'elicitation/create' ? `ask ${session.name} ${String(params['ask'])}` : undefined
      if (once !== undefined) {
        const other = this.#seen.get(once)
        if (other !== undefined && other !== followed && followed.calls.length + other.calls.length > 0) {
          recorder.violate('a request to the client comes once', `${once} came on two streams`)
        }
        this.#seen.set(once, followed)
        recorder.stake('asked the client')
        if ('id' in message) this.#answer(session, message.id as RequestId, false)
      }
      const short = shortOf(message)
      const call = followed.calls.find((one) => one.tag === params['call'])
      if (call !== undefined && short !== undefined) call.got.push(short)
      else if (followed.calls.length > 0 && short !== undefined && once === undefined) {
        recorder.violate(
          'all that a call sent, on its own stream',
          `#${note.number} ${this.#nameOf(followed)} brought ${JSON.stringify(message)}`,
        )
      }
      return
    }
    const id = responseId(message)
    const call = followed.calls.find((one) => one.id === id)
    if (call === undefined) {
      recorder.violate(
        'all that a call sent, on its own stream',
        `#${note.number} ${this.#nameOf(followed)} brought a response for id ${JSON.stringify(id)}`,
      )
      return
    }
    const tag = tagOf(message)?.call
    if (tag !== undefined && tag !== null && tag !== call.tag)
      recorder.violate(
        'all that a call sent, on its own stream',
        `#${note.number}: ${call.tag} was given the answer of ${String(tag)}`,
      )
    if (call.response !== undefined)
      recorder.violate('all that a call sent, on its own stream', `${call.tag} was answered twice`)
    call.response = message
    call.got.push('response')
    recorder.stake('result' in message ? 'call answered' : 'call reported as failed')
  }

  #takeBroadcast(followed: Followed, note: ExchangeNote, n: number): void {
    const { recorder } = this.#world
    if (followed.calls.length > 0) {
      recorder.violate(
        'what no call sent, in order',
        `#${note.number} ${this.#nameOf(followed)}: a POST brought broadcast ${n}`,
      )
      return
    }
    const { firstBroadcast, lastBroadcast } = followed
    const low = lastBroadcast === undefined ? (firstBroadcast ?? 1) : lastBroadcast + 1
    const high =
      lastBroadcast === undefined
        ? this.#taken(followed.session, followed.connections[0]?.note ?? note) + 1
        : low
    followed.lastBroadcast = n
    const lossy = this.#world.conditions.log.kind === 'none' || this.#bounded()
    if (n < low || (n > high && !lossy)) {
      recorder.violate(
        'what no call sent, in order',
        `#${note.number} ${this.#nameOf(followed)}: broadcast ${n} came where ${low}${high > low ? ` to ${high}` : ''} was due`,
      )
    }
  }

  /** The last broadcast that any connection took before this one had the stream. */
  #taken(session: SessionModel, before: ExchangeNote): number {
    const until = before.exchange.answeredAt ?? Number.POSITIVE_INFINITY
    let taken = 0
    for (const note of this.#world.exchanges) {
      if (note === before || note.session !== session || note.exchange.method !== 'GET') continue
      for (const { at, text } of note.exchange.written) {
        if (at > until) continue
        for (const match of text.matchAll(/"call":null,"n":(\d+)/g)) taken = Math.max(taken, Number(match[1]))
      }
    }
    return taken
  }

  /** Whether the log may lose events, by its bounds or by failing. */
  #bounded(): boolean {
    const { log } = this.#world.conditions
    return log.kind === 'failing' || log.maxEvents < 1000 || log.maxBytes < 100_000 || log.maxAge < 3600_000
  }

  #checkOwner(session: SessionModel, message: JsonRpcMessage): void {
    const tag = tagOf(message)?.tag
    if (tag === undefined) return
    const { recorder } = this.#world
    recorder.stake('message checked for its owner')
    if (tag !== session.tag)
      recorder.violate(
        'messages of its own server only',
        `${session.name} of c${this.index} was given what belongs to ${String(tag)}: ${JSON.stringify(message)}`,
      )
  }

  #answer(session: SessionModel, id: RequestId, transport: boolean): void {
    const { answerAfter, answersWithError } = this.plan
    if (!transport && answerAfter === undefined) return
    const { clock } = this.#world
    const answer = {
      jsonrpc: '2.0',
      id,
      ...(answersWithError && !transport
        ? { error: { code: -1, message: 'no' } }
        : { result: { action: 'decline' } }),
    }
    const send = (): void => {
      if (!this.#stopped && session.end === undefined)
        this.#post(session, transport ? 'pong' : 'answer', answer, { bearing: 'ambiguous' })
    }
    if (transport) queueMicrotask(send)
    else clock.after(answerAfter ?? 0, send)
  }

  #onended(followed: Followed, note: ExchangeNote, outcome: SimOutcome): void {
    const { recorder, conditions, shutdownAt } = this.#world
    const { exchange } = note
    if (outcome === 'completed' && exchange.responseHeaders['content-type'] === 'application/json')
      this.#takeBody(note, followed)
    const pending = followed.calls.filter((call) => call.response === undefined && !call.cancelled)
    const resumed = note.kind === 'resume'
    if (
      exchange.status === 200 &&
      followed.calls.length > 0 &&
      outcome === 'completed' &&
      pending.length > 0
    ) {
      const rotates = Number.isFinite(conditions.streamMaxAge)
      // A stream that a newer connection of the same client took over ends, too.
      const takenOver = followed.connections.at(-1)?.note !== note
      if (!rotates && !takenOver) {
        recorder.violate(
          'what was accepted is answered',
          `#${note.number} ${this.#nameOf(followed)} ended without an answer for ${pending.map((call) => call.tag).join(', ')}`,
        )
      }
    }
    if (outcome === 'cut' && !note.disturbed && shutdownAt === undefined) {
      recorder.violate(
        'no connection is cut whose client is there',
        `#${note.number} ${note.kind} was cut though its client was there`,
      )
    }
    this.#checkStatus(note, outcome)
    if (outcome === 'dropped' && pending.length > 0 && !resumed) recorder.stake('dropped in a call')
    if (resumed && exchange.status === 204) {
      recorder.stake('nothing left to resume')
      const incomplete = pending.filter(
        (call) => !this.#trims(followed) && this.#world.call(call.tag) !== undefined,
      )
      if (incomplete.length > 0)
        recorder.violate(
          'nothing is left where 204 says so',
          `#${note.number} ${this.#nameOf(followed)}: 204, but the answer never came`,
        )
      followed.finished = true
    }
    if (outcome === 'completed' && exchange.status !== 200) followed.finished = true
    this.#resume(followed)
  }

  #resume(followed: Followed): void {
    const { resume, session } = followed
    if (resume === undefined || followed.finished || this.#stopped || followed.attempts >= resume.times)
      return
    followed.attempts += 1
    const world = this.#world
    world.clock.after(resume.after, () => {
      if (followed.finished || this.#stopped || session.end !== undefined) return
      const { cursors } = followed.model
      const earlier = resume.cursor === 'earlier' && followed.attempts < resume.times
      const cursor = earlier ? cursors[Math.floor(cursors.length / 2)] : cursors.at(-1)
      if (cursor === undefined) return
      const at = followed.model.resume(cursor)
      world.recorder.stake('resumed')
      if (at.next < followed.model.known.length) world.recorder.stake('resumed from an earlier event')
      const connection: ConnectionPlan =
        followed.attempts < resume.times && followed.attempts % 2 === 1 ? { dropAfter: resume.after + 3 } : {}
      const request = this.#head('GET', session, { 'last-event-id': cursor })
      const note = world.send(this, request, {
        kind: 'resume',
        session,
        connection,
        uses: true,
        refusals: followed.calls.length === 0 ? [409, 429] : [429],
        detail: `${this.#nameOf(followed)} after ${at.next} of ${followed.model.known.length}`,
      })
      this.#follow(followed, note, at)
    })
  }

  /** The JSON body of a POST. */
  #takeBody(note: ExchangeNote, followed: Followed | undefined): void {
    const { exchange } = note
    const { recorder } = this.#world
    if (exchange.text === '') return
    let messages: JsonRpcMessage[]
    try {
      messages = exchange.messages() as JsonRpcMessage[]
    } catch {
      recorder.violate(
        'each request is answered as foreseen',
        `#${note.number} got a body that is not JSON: ${exchange.text.slice(0, 200)}`,
      )
      return
    }
    for (const message of messages) {
      if (followed !== undefined && exchange.status === 200) this.#take(followed, note, message)
      else if (note.session !== undefined) this.#checkOwner(note.session, message)
    }
  }

  #checkPlain(note: ExchangeNote, outcome: SimOutcome): void {
    this.#checkStatus(note, outcome)
    if (outcome === 'completed') this.#takeBody(note, undefined)
    const { exchange, session } = note
    if (
      (note.kind === 'list' || note.kind === 'ping') &&
      outcome === 'completed' &&
      exchange.status === 200 &&
      !exchange.text.includes('"result"')
    ) {
      if (session?.end === undefined && !Number.isFinite(this.#world.conditions.streamMaxAge))
        this.#world.recorder.violate(
          'what was accepted is answered',
          `#${note.number} ${note.kind} got ${JSON.stringify(exchange.text)}`,
        )
    }
  }

  /** What a live session answers to what it must accept. */
  #checkStatus(note: ExchangeNote, outcome: SimOutcome): void {
    const { exchange, kind, session } = note
    if (outcome !== 'completed' || exchange.status === undefined) return
    const expected: Record<string, readonly number[]> = {
      call: [200],
      list: [200],
      ping: [200],
      get: [200],
      resume: [200, 204],
      notify: [202],
      initialized: [202],
      cancel: [202],
      answer: [202],
      pong: [202],
      delete: [200],
    }
    const allowed = expected[kind]
    if (allowed === undefined || allowed.includes(exchange.status) || note.refusals.includes(exchange.status))
      return
    if (exchange.status === 404 && session?.end !== undefined) return
    if (exchange.status === 503 && this.#world.shutdownAt !== undefined) return
    this.#world.recorder.violate(
      'each request is answered as foreseen',
      `#${note.number} ${kind} on ${session?.name} got ${exchange.status} ${exchange.text}`,
    )
  }

  // What must be refused

  #refused(session: SessionModel, kind: Refusal, length: number): void {
    const known = session.version
    const post = (body: SimBody, headers: Record<string, string> = {}): SimRequest => {
      const head = this.#head('POST', session, headers)
      return { ...head, body }
    }
    const list = JSON.stringify(this.#request('tools/list'))
    let request: SimRequest
    switch (kind) {
      case 'garbage':
        request = post('{"jsonrpc":')
        break
      case 'not-json-rpc':
        request = post('{"hello":"world"}')
        break
      case 'null-id':
        request = post('{"jsonrpc":"2.0","id":null,"method":"tools/list"}')
        break
      case 'accept':
        request = post(list, { accept: 'text/html' })
        break
      case 'get-accept':
        request = this.#head('GET', session, { accept: 'application/json' })
        break
      case 'content-type':
        request = post(list, { 'content-type': 'text/plain' })
        break
      case 'version':
        request = post(list, { 'mcp-protocol-version': '1999-01-01' })
        break
      case 'method':
        request = { ...post(list), method: 'PUT' }
        break
      case 'too-large':
        request = post(`"${'x'.repeat(this.#world.conditions.maxBodySize)}"`)
        break
      case 'reinitialize':
        request = post(
          JSON.stringify(
            this.#request('initialize', {
              protocolVersion: known,
              capabilities: {},
              clientInfo: { name: `c${this.index} again`, version: '1' },
            }),
          ),
        )
        // On a session that has ended it would open another.
        if (session.end !== undefined) return
        break
      case 'batch':
        request = post(JSON.stringify([JSON.parse(list), { jsonrpc: '2.0', id: 1, result: {} }]))
        break
      case 'cursor':
        request = this.#head('GET', session, { 'last-event-id': 'not an event of anybody' })
        break
      case 'slow-garbage':
        request = post([
          { after: length / 2, bytes: '{"json' },
          { after: length / 2, bytes: 'rpc' },
        ])
        break
      case 'never':
        request = post('never')
        break
    }
    const connection: ConnectionPlan = kind === 'never' && length < 100 ? { dropAfter: length + 50 } : {}
    const note = this.#world.send(this, request, {
      kind: 'refused',
      session,
      connection,
      detail: kind,
      refusals: [400, 405, 406, 408, 413, 415, ...(kind === 'reinitialize' ? [429] : [])],
    })
    void note.exchange.ended.then((outcome) => {
      const { status } = note.exchange
      if (outcome !== 'completed' || status === undefined || (status >= 400 && status < 500)) return
      if (status === 503 && this.#world.shutdownAt !== undefined) return
      // It would have opened a session, had the author known the client.
      if (kind === 'reinitialize' && session.end !== undefined) return
      this.#world.recorder.violate(
        'each request is answered as foreseen',
        `#${note.number} ${kind} got ${status}`,
      )
    })
  }

  // What it has no right to

  #intrude(kind: Intrusion, victimIndex: number, length: number): void {
    const world = this.#world
    const victim = world.clients[victimIndex]
    const target = victim?.session
    if (victim === undefined || target === undefined || victim.plan.principal === this.plan.principal) return
    world.recorder.stake('foreign attempt')
    const cursor = victim.aCursor() ?? 'no cursor'
    if (kind === 'cursor') {
      const own = this.session
      if (own === undefined) return
      const request = (id: string): SimRequest => this.#head('GET', own, { 'last-event-id': id })
      const foreign = world.send(this, request(cursor), {
        kind: 'refused',
        session: own,
        detail: `cursor of ${target.name}`,
        refusals: [400],
      })
      const garbage = world.send(this, request('no cursor at all'), {
        kind: 'refused',
        session: own,
        detail: 'cursor of nobody',
        refusals: [400],
      })
      this.#compare(kind, foreign, garbage)
      return
    }
    const stranger = 'A'.repeat(target.id.length)
    const request = (id: string, more: Record<string, string> = {}): Record<string, string> => ({
      'mcp-session-id': id,
      ...versionHeader(target.version),
      ...more,
    })
    const make = (id: string): SimRequest => {
      const call = JSON.stringify({
        jsonrpc: '2.0',
        id: 7,
        method: 'tools/call',
        params: { name: 'run', arguments: { tag: 'intruder' } },
      })
      switch (kind) {
        case 'post':
          return { ...this.#head('POST', undefined, request(id)), body: call }
        case 'slow':
          return {
            ...this.#head('POST', undefined, request(id)),
            body: [
              { after: length / 2, bytes: call.slice(0, 20) },
              { after: length / 2, bytes: call.slice(20) },
            ],
          }
        case 'notify':
          return {
            ...this.#head('POST', undefined, request(id)),
            body: '{"jsonrpc":"2.0","method":"notifications/initialized"}',
          }
        case 'cancel':
          return {
            ...this.#head('POST', undefined, request(id)),
            body: JSON.stringify({
              jsonrpc: '2.0',
              method: 'notifications/cancelled',
              params: { requestId: victim.aCallId() ?? 1 },
            }),
          }
        case 'get':
          return this.#head('GET', undefined, request(id))
        case 'resume':
          return this.#head('GET', undefined, request(id, { 'last-event-id': cursor }))
        case 'delete':
          return this.#head('DELETE', undefined, request(id))
        case 'initialize': {
          const params = {
            protocolVersion: this.plan.version,
            capabilities: {},
            clientInfo: { name: `c${this.index} nobody`, version: '1' },
          }
          return {
            ...this.#head('POST', undefined, request(id)),
            body: JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'initialize', params }),
          }
        }
      }
    }
    const label = kind === 'initialize' ? 'foreign initialize' : 'foreign'
    const foreign = world.send(this, make(target.id), { kind: label, detail: `${kind} on ${target.name}` })
    const unknown = world.send(this, make(stranger), { kind: label, detail: `${kind} on nobody's` })
    this.#compare(kind, foreign, unknown)
  }

  #compare(kind: Intrusion, foreign: ExchangeNote, unknown: ExchangeNote): void {
    const { recorder, shutdownAt } = this.#world
    void Promise.all([foreign.exchange.ended, unknown.exchange.ended]).then(() => {
      const [one, two] = [foreign.exchange, unknown.exchange]
      if (one.outcome !== 'completed' || two.outcome !== 'completed') return
      const look = (exchange: typeof one): string =>
        JSON.stringify([exchange.status, exchange.responseHeaders, exchange.text])
      // Two that open need two places and two tokens, and there may be but one.
      const places =
        kind === 'initialize' && [one, two].some(({ status }) => status === 503 || status === 429)
      if (look(one) !== look(two) && !places)
        recorder.violate(
          'foreign and unknown get the same bytes',
          `${kind} #${foreign.number}: ${look(one)}, but nobody's is answered ${look(two)}`,
        )
      const expected = kind === 'cursor' ? [400, 404] : kind === 'initialize' ? [429, 500, 503] : [404]
      if (!expected.includes(one.status ?? 0) && !(shutdownAt !== undefined && one.status === 503)) {
        recorder.violate('foreign is refused', `${kind} #${foreign.number} got ${one.status}`)
      }
    })
  }

  /** An event id that this client was given; what a thief might have. */
  aCursor(): string | undefined {
    for (const followed of this.#followed) {
      const cursor = followed.model.cursors.at(-1)
      if (cursor !== undefined && followed.session === this.session) return cursor
    }
    return undefined
  }

  /** The id of one of its calls. */
  aCallId(): RequestId | undefined {
    return this.#calls.findLast((call) => this.#runs(call))?.id
  }

  // In the end

  /** Nothing hangs while everybody is there: what ended at the server has ended at the client. */
  checkHanging(): void {
    const { recorder, call: _call } = this.#world
    for (const followed of this.#followed) {
      const last = followed.connections.at(-1)?.note
      if (
        last === undefined ||
        followed.calls.length === 0 ||
        last.disturbed ||
        last.exchange.outcome !== undefined
      )
        continue
      if (followed.calls.some((call) => this.#runs(call))) continue
      const since = Math.max(
        ...followed.calls.map((call) => this.#world.call(call.tag)?.endedAt ?? 0),
        last.exchange.startedAt,
        last.bodyAt,
      )
      const now = this.#world.clock.now()
      if (now - since - this.#world.stalledBetween(since, now) < 1400) continue
      recorder.violate(
        'what was accepted is answered',
        `#${last.number} ${this.#nameOf(followed)} hangs: no call of it runs any more`,
      )
    }
  }

  /** Compares what came with what was sent. */
  checkEnd(): void {
    const { recorder, conditions } = this.#world
    for (const followed of this.#followed) {
      for (const call of followed.calls) {
        const handled = this.#world.call(call.tag)
        if (handled === undefined) continue
        let sent = handled.sent.map((message) => shortOf(message) ?? '').filter((short) => short !== '')
        const json = conditions.responseMode === 'json'
        if (json) sent = sent.filter((short) => short === 'response')
        const unrelated = new Set(
          handled.plan?.ask?.related === true ? [] : sent.filter((short) => short.startsWith('ask')),
        )
        const got = call.got.filter((short) => !unrelated.has(short))
        const wrong = compareCall(
          got,
          sent,
          this.#trims(followed) || conditions.log.kind === 'none',
          unrelated,
        )
        if (wrong !== undefined)
          recorder.violate(
            'all that a call sent, on its own stream',
            `${this.#nameOf(followed)} ${call.tag}: ${wrong}`,
          )
      }
    }
  }
}

function versionHeader(version: string): Record<string, string> {
  // The eras before 2025-06-18 have no such header.
  return version === '2025-11-25' || version === '2025-06-18' ? { 'mcp-protocol-version': version } : {}
}

/** Whose a message is: the tag of its server and of its call. */
function tagOf(message: JsonRpcMessage): { tag?: unknown; call?: unknown } | undefined {
  if ('method' in message) {
    const data = message.params?.['data']
    return (typeof data === 'object' && data !== null ? data : message.params) as
      | { tag?: unknown }
      | undefined
  }
  if ('result' in message) {
    const { serverInfo } = message.result as { serverInfo?: { name: string } }
    return serverInfo === undefined ? (message.result as { tag?: unknown }) : { tag: serverInfo.name }
  }
  return message.error.data as { tag?: unknown } | undefined
}
