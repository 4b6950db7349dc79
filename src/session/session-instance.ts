/** What a session has only while it has an instance, or is about to have one: building, waking and sleeping, and what the instance says. */

import { DeadlineCall } from '../deadlines.ts'
import { SojournError } from '../errors.ts'
import type { Exchange } from '../http/exchange.ts'
import type { AuthInfo, CloseReason, JsonRpcMessage, MessageExtra, RequestId } from '../types.ts'
import type { AwakePlace } from './awake-sessions.ts'
import { Instance } from './instance.ts'
import type { AwakeHold, InstanceLife } from './instance-life.ts'
import type { InstanceTransport, TransportHost } from './instance-transport.ts'
import { Outbound } from './outbound.ts'
import type { Refusal } from './refusal.ts'
import { NOT_FOUND } from './refusals.ts'
import { RunningRequests } from './running-request.ts'
import { FactoryContext } from './server-context.ts'
import { ServerRequests } from './server-requests.ts'
import type { Session } from './session.ts'
import { NOT_WOKEN, rebuild, WAKE_PAUSE } from './waking.ts'

/** What going to sleep came to; `awake`: something needs the instance. */
export type SleepOutcome = 'asleep' | 'awake' | 'falling-asleep'

/** How long an author's `onSleep` may take, in milliseconds. */
const SLEEP_HOOK_TIMEOUT = 5_000

/** The instance of one session, from the moment it is asked for until nothing of it is left. A million that sleep have none of it. */
export class SessionInstance implements TransportHost {
  /** The running requests. */
  readonly requests: RunningRequests
  readonly #session: Session
  #serverRequests: ServerRequests | undefined
  #outbound: Outbound | undefined
  #instance: Instance | undefined
  #place: AwakePlace | undefined
  /** The instance that is being built again. */
  #rebuilding: Instance | undefined
  /** The life that the factory was told of. */
  #building: InstanceLife | undefined
  #waking: Promise<Refusal | undefined> | undefined
  #wakeFailedAt: number | undefined
  #fallingAsleep = false

  constructor(session: Session) {
    this.#session = session
    this.requests = new RunningRequests(session)
  }

  /** Whether all of it can be let go: one made anew would be the same. */
  get blank(): boolean {
    return (
      this.#instance === undefined &&
      this.#waking === undefined &&
      this.#wakeFailedAt === undefined &&
      this.requests.size === 0 &&
      (this.#serverRequests?.empty ?? true)
    )
  }

  /** The instance, once it is built and while it does not sleep. */
  get current(): Instance | undefined {
    return this.#instance
  }

  /** What the client was asked. */
  get serverRequests(): ServerRequests {
    const { record, runtime } = this.#session
    return (this.#serverRequests ??= new ServerRequests(
      runtime.options.maxServerRequestsPerSession,
      () => {
        record.serverRequests += 1
        return record.serverRequests
      },
      () => this.used(),
    ))
  }

  /** The way to the client. */
  get outbound(): Outbound {
    return (this.#outbound ??= new Outbound(this.#session))
  }

  /** Whether something needs the instance: a request, one on its way to the client, whatever the author keeps awake. */
  get needed(): boolean {
    if (this.#instance === undefined) return this.#waking !== undefined
    return this.requests.size > 0 || (this.#serverRequests?.size ?? 0) > 0 || this.#instance.life.held
  }

  /** Builds it. May throw whatever the factory throws; the caller closes the session then. */
  async build(exchange: Exchange, authInfo: AuthInfo | undefined): Promise<void> {
    const session = this.#session
    const context = new FactoryContext(session, exchange, authInfo, false)
    this.#building = context.life
    const instance = await Instance.create(session.runtime, this, context, session.publicId)
    // From here on the end of the session closes the server, even one whose connect() never comes back.
    if (session.state !== 'closed') this.#instance = instance
    await instance.connect()
    // The session was given up while the factory worked. Its late server was connected all the same: only then does the SDK tell the
    // author's onclose of the end.
    if (this.#instance === undefined) instance.close(session.closeReason ?? 'failed')
  }

  /** The session may be found from now on: its instance counts as awake. */
  opened(): void {
    this.#place = this.#session.runtime.awake?.add(this.#session)
  }

  /** Keeps the instance that is awake; undefined where there is none. */
  hold(): AwakeHold | undefined {
    return this.#instance?.life.hold()
  }

  /** Builds the instance again, once for all who ask meanwhile; a refusal when there cannot be one. */
  wake(exchange: Exchange, authInfo: AuthInfo | undefined): Promise<Refusal | undefined> {
    if (this.#waking === undefined) {
      const { clock } = this.#session.runtime
      if (this.#wakeFailedAt !== undefined && clock.now() - this.#wakeFailedAt < WAKE_PAUSE)
        return Promise.resolve(NOT_WOKEN)
      this.#waking = this.#rebuild(exchange, authInfo)
    }
    return this.#waking
  }

  async #rebuild(exchange: Exchange, authInfo: AuthInfo | undefined): Promise<Refusal | undefined> {
    const session = this.#session
    const { clock, hub } = session.runtime
    const began = clock.now()
    const context = new FactoryContext(session, exchange, authInfo, true)
    this.#building = context.life
    const woken = await rebuild(session, this, context, (instance) => {
      this.#rebuilding = instance
    })
    this.#waking = undefined
    this.#rebuilding = undefined
    if (woken.kind === 'other-version' && session.state === 'open')
      session.close('failed', `the server speaks ${woken.version} now, not ${session.record.protocolVersion}`)
    // What an instance asked that was given up is waited for by nobody.
    if (woken.kind !== 'awake') this.#outbound?.abandon()
    if (session.state !== 'open') return NOT_FOUND
    if (woken.kind !== 'awake') {
      this.#wakeFailedAt = clock.now()
      return NOT_WOKEN
    }
    this.#instance = woken.instance
    this.#place = session.runtime.awake?.add(session)
    if (hub.active)
      hub.emit({
        type: 'session.woken',
        time: clock.wallTime(),
        session: session.publicId,
        durationMs: clock.now() - began,
      })
    if (woken.announces) session.listsMayDiffer()
    return undefined
  }

  /** Lets the instance go, where nothing needs it. */
  sleep(): SleepOutcome {
    const instance = this.#instance
    if (instance === undefined) return 'asleep'
    const session = this.#session
    if (session.state !== 'open' || this.needed || this.#fallingAsleep) return 'awake'
    if (!instance.life.hasSleepHooks) {
      if (instance.life.changed) {
        session.runtime.warnOnce(
          'a session stays awake because its server announced changes of its own (tools, prompts or resources registered after it was built), which a rebuilt one would not know of: keep them in session.data with context.onSleep(), or register them in createServer',
          { session: session.label },
        )
        return 'awake'
      }
      this.#fallAsleep(instance)
      return 'asleep'
    }
    const place = this.#place
    const uses = place?.uses
    void this.runSleepHooks().then((done) => {
      if (this.#instance !== instance || session.state !== 'open') return
      // When it was used meanwhile, what the hooks put down may be out of date.
      if (done && !this.needed && place?.uses === uses) this.#fallAsleep(instance)
      else if (place !== undefined) session.runtime.awake?.stays(place)
    })
    return 'falling-asleep'
  }

  /** Runs what the author wants done before the instance is let go. Resolves, never rejects, with whether it was done. */
  async runSleepHooks(): Promise<boolean> {
    const life = this.#instance?.life
    if (life === undefined || !life.hasSleepHooks || this.#fallingAsleep) return true
    const session = this.#session
    const { deadlines, log } = session.runtime
    this.#fallingAsleep = true
    let timedOut = (): void => {}
    const deadline = new DeadlineCall(() => timedOut())
    const timeout = new Promise<never>((_resolve, reject) => {
      timedOut = () =>
        reject(new SojournError('timeout', `onSleep took longer than ${SLEEP_HOOK_TIMEOUT} ms`))
      life.onEnded = () =>
        reject(new SojournError('session-closed', 'The session ended before onSleep was done'))
    })
    deadlines.arm(deadline, SLEEP_HOOK_TIMEOUT)
    try {
      await Promise.race([life.runSleepHooks(), timeout])
      return true
    } catch (thrown) {
      if (session.state !== 'closed')
        log.error('onSleep failed; the session stays awake', { session: session.label, error: thrown })
      return false
    } finally {
      deadlines.disarm(deadline)
      life.onEnded = undefined
      this.#fallingAsleep = false
    }
  }

  #fallAsleep(instance: Instance): void {
    this.#letGo()
    instance.close('sleep')
    this.#building = undefined
    this.#outbound = undefined
    this.#wakeFailedAt = undefined
    this.#session.fellAsleep()
  }

  /** It was used, or is not needed for what it was any more. */
  used(): void {
    if (this.#place !== undefined) this.#session.runtime.awake?.touch(this.#place)
  }

  /** Hands a message to the instance. What it throws is the caller's to answer. */
  deliver(message: JsonRpcMessage, extra: MessageExtra | undefined): void {
    this.used()
    this.#instance?.transport.onmessage?.(message, extra)
  }

  /** It announced that one of its lists changed, which one built again will not know. */
  listChanged(): void {
    const life = this.#instance?.life
    if (life === undefined || life.changed) return
    life.changed = true
    this.#session.record.changed = true
    this.#session.recordChanged()
  }

  /** The session is over, whatever of this was on its way. */
  end(reason: CloseReason): void {
    const instance = this.#instance
    this.#letGo()
    instance?.close(reason)
    this.#rebuilding?.close(reason)
    this.#building?.end(reason)
    this.#serverRequests?.abandonAll()
  }

  #letGo(): void {
    this.#instance = undefined
    if (this.#place !== undefined) this.#session.runtime.awake?.remove(this.#place)
    this.#place = undefined
  }

  sendFromInstance(
    transport: InstanceTransport,
    message: JsonRpcMessage,
    relatedRequestId: RequestId | undefined,
  ): Promise<void> {
    if (transport === this.#instance?.transport || transport === this.#rebuilding?.transport)
      return this.outbound.send(transport, message, relatedRequestId)
    // Only a request has a caller who waits; what else a dying server says is of no use to anyone.
    if (!('method' in message && 'id' in message)) return Promise.resolve()
    const { closeReason } = this.#session
    const why =
      closeReason === undefined ? 'The instance was put to sleep' : `The session has ended (${closeReason})`
    return Promise.reject(new SojournError('session-closed', why))
  }

  closedByInstance(transport: InstanceTransport): void {
    if (transport === this.#instance?.transport)
      this.#session.close('failed', 'the server closed its own connection')
  }
}
