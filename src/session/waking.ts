/** Waking: an instance is built from a session's record. Sleep, restart and the move to another machine all end here. */

import { DeadlineCall } from '../deadlines.ts'
import { messageOf } from '../errors.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import { Instance } from './instance.ts'
import type { TransportHost } from './instance-transport.ts'
import type { Refusal } from './refusal.ts'
import { Replay } from './replay.ts'
import type { FactoryContext } from './server-context.ts'
import type { Session } from './session.ts'

/** A session whose factory failed is not tried again for this long, in milliseconds. */
export const WAKE_PAUSE = 1_000

/** How waking ended. */
export type Woken =
  | { readonly kind: 'awake'; readonly instance: Instance; readonly announces: boolean }
  /** The server speaks another version now than was agreed on. */
  | { readonly kind: 'other-version'; readonly version: string }
  | { readonly kind: 'failed' }

/** The answer while a session cannot be woken. It is not the client's fault, nor the session's end. */
export const NOT_WOKEN: Refusal = {
  status: 503,
  code: JsonRpcErrorCode.INTERNAL_ERROR,
  message: 'Internal error: the session could not be resumed, try again',
  cause: 'internal',
  headers: { 'Retry-After': '1' },
}

/**
 * Builds the instance of a session again, for the request that `context` tells of. Resolves, never rejects; an instance that came too late, or
 * failed on the way, is closed by then. `host` takes what it sends once it is awake; `begun` is told of the instance before it sends anything.
 */
export async function rebuild(
  session: Session,
  host: TransportHost,
  context: FactoryContext,
  begun: (instance: Instance) => void,
): Promise<Woken> {
  const { deadlines, options, log } = session.runtime
  let instance: Instance | undefined
  const transport = (): Instance['transport'] => {
    if (instance === undefined) throw new Error('nothing is replayed before there is an instance')
    return instance.transport
  }
  const replay = new Replay(
    session,
    host,
    transport,
    // The handshake that is repeated came with no request of now; to make one for it costs more than all the rest of replaying.
    context.authInfo === undefined ? undefined : { authInfo: context.authInfo },
  )
  let givenUp = false
  let giveUp = (): void => {}
  const abandoned = new Promise<Woken>((resolve) => {
    giveUp = () => {
      givenUp = true
      resolve({ kind: 'failed' })
    }
  })
  const build = async (): Promise<Woken> => {
    const built = await Instance.create(session.runtime, replay, context, session.publicId)
    instance = built
    if (givenUp) return { kind: 'failed' }
    begun(built)
    await built.connect()
    const { protocolVersion, capabilities } = await replay.handshake()
    const { record } = session
    if (protocolVersion !== record.protocolVersion) return { kind: 'other-version', version: protocolVersion }
    const differs = capabilities !== record.capabilities?.text
    if (differs) session.setCapabilities(capabilities)
    await replay.settings()
    await context.life.runWakeHooks()
    replay.assertConnected()
    return { kind: 'awake', instance: built, announces: differs || record.changed }
  }
  const timeout = new DeadlineCall(() => {
    log.error('waking a session took too long', { session: session.label, limit: options.initializeTimeout })
    giveUp()
  })
  deadlines.arm(timeout, options.initializeTimeout)
  // Nobody waits for the factory of a session that has ended.
  context.life.onEnded = giveUp
  const building = build().catch((thrown: unknown): Woken => {
    if (session.state !== 'closed' && !givenUp) {
      log.error('createServer failed while a session was woken; the session stays asleep', {
        session: session.label,
        error: thrown,
        message: messageOf(thrown),
      })
    }
    return { kind: 'failed' }
  })
  const woken = await Promise.race([building, abandoned])
  deadlines.disarm(timeout)
  context.life.onEnded = undefined
  if (woken.kind === 'awake' && session.state === 'open') {
    woken.instance.transport.host = host
    return woken
  }
  replay.abandon()
  context.life.end('sleep')
  // A factory that takes for ever may still come back with something that must be closed.
  if (instance === undefined) void building.then(() => instance?.close('sleep'))
  else instance.close('sleep')
  return woken.kind === 'awake' ? { kind: 'failed' } : woken
}
