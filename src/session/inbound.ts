/** What a client posts to its session: checked as a whole first, executed after. */

import type { Exchange } from '../http/exchange.ts'
import { JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { ParsedMessage } from '../jsonrpc/message.ts'
import type {
  AuthInfo,
  JsonRpcNotification,
  JsonRpcRequest,
  JsonRpcResponse,
  MessageExtra,
  RequestId,
  ResponseMode,
} from '../types.ts'
import type { Hold } from './idle-clock.ts'
import { MessageContext } from './message-context.ts'
import { errorResponse, handling } from './outbound.ts'
import { PostAnswer } from './post-answer.ts'
import { type Refusal, sendRefusal } from './refusal.ts'
import { STORE_FAILS } from './refusals.ts'
import type { RunningRequest } from './running-request.ts'
import type { Session } from './session.ts'

/** One POST to a session, parsed. */
export interface Post {
  readonly exchange: Exchange
  readonly authInfo: AuthInfo | undefined
  readonly messages: readonly ParsedMessage[]
  readonly batch: boolean
  /** How requests are answered: the option, or `json` where the client takes nothing else. */
  readonly mode: ResponseMode
  /** The exchange's hold, provisional so far; released when the exchange is over. Every POST to a session has one. */
  readonly hold: Hold | undefined
}

/** The first revision without batches. */
const FIRST_WITHOUT_BATCHES = '2025-06-18'

const BUSY: Refusal = {
  status: 429,
  code: JsonRpcErrorCode.SERVER_ERROR,
  message: 'Too Many Requests: the session has too many running requests',
  cause: 'limit',
  option: 'maxRequestsPerSession',
  headers: { 'Retry-After': '1' },
}

/** Why a POST is not executed at all; undefined when it is. */
export function checkPost(session: Session, post: Post): Refusal | undefined {
  const { messages, batch } = post
  const { options } = session.runtime
  if (batch) {
    const refusal = checkBatch(session, messages)
    if (refusal !== undefined) return refusal
  }
  const requests = batch
    ? messages.filter(({ kind }) => kind === 'request').length
    : messages[0]?.kind === 'request'
      ? 1
      : 0
  if (requests === 0) return undefined
  if (session.running + requests > options.maxRequestsPerSession) return { ...BUSY, id: firstId(messages) }
  const refusal = post.mode === 'json' ? undefined : session.admitStream()
  return refusal === undefined ? undefined : { ...refusal, id: firstId(messages) }
}

/** Notifications that Sojourn itself answers to, or that mean nothing to an instance which did not ask. */
const NOT_FOR_SLEEPERS: ReadonlySet<string> = new Set([
  'notifications/initialized',
  'notifications/cancelled',
  'notifications/progress',
])

/** Whether a POST is for the instance: pings, answers to nobody and the like do not wake a session. */
export function needsInstance(messages: readonly ParsedMessage[]): boolean {
  return messages.some(
    ({ kind, message }) =>
      (kind === 'request' && message.method !== 'ping') ||
      (kind === 'notification' && !NOT_FOR_SLEEPERS.has(message.method)),
  )
}

/** Executes a POST that passed {@link checkPost}, and answers it. */
export function executePost(session: Session, post: Post): void {
  const { exchange, messages, batch, hold } = post
  if (!messages.some(({ kind }) => kind === 'request')) {
    executeOneWay(session, post)
    return
  }
  hold?.confirm()
  const answer = new PostAnswer(session, exchange, hold, messages, batch, post.mode)
  const context = new MessageContext(session, exchange, post.authInfo, answer)
  for (const parsed of messages) {
    // An earlier message of the batch may have ended the session; its requests are answered all the same.
    if (parsed.kind === 'request') executeRequest(session, parsed.message, answer, context)
    else if (session.state === 'closed') continue
    else if (parsed.kind === 'notification') executeNotification(session, parsed.message, context)
    else executeResponse(session, parsed.message)
  }
}

/** A POST of notifications and responses only: 202 whatever they were. */
function executeOneWay(session: Session, post: Post): void {
  const { exchange, messages, hold } = post
  exchange.onclose = () => hold?.release()
  const context = new MessageContext(session, exchange, post.authInfo, undefined)
  for (const parsed of messages) {
    if (session.state === 'closed') break
    if (parsed.kind === 'notification') {
      hold?.confirm()
      executeNotification(session, parsed.message, context)
    } else if (parsed.kind === 'response' && executeResponse(session, parsed.message) === 'request') {
      // The answer to a keep-alive ping proves the peer; it is not activity.
      hold?.confirm()
    }
  }
  const answer = (refusal?: Refusal): void => {
    if (exchange.closed) hold?.release()
    else if (refusal === undefined) exchange.respond(202, {}, '')
    else sendRefusal(exchange, refusal)
  }
  // What it changed about the session is kept before the client may rely on it.
  const kept = session.runtime.keeper?.commit(session)
  if (kept === undefined) answer()
  else
    kept.then(
      () => answer(),
      () => answer(STORE_FAILS),
    )
}

function executeRequest(
  session: Session,
  request: JsonRpcRequest,
  answer: PostAnswer,
  context: MessageExtra,
): void {
  if (request.method !== 'ping') session.markUsed()
  const running = session.start(request, answer, session.clock.hold('request'))
  if (session.state === 'closed') {
    session.abort(running, errorResponse(running.id, JsonRpcErrorCode.SERVER_ERROR, 'Session closed'))
    return
  }
  if (request.method === 'ping') {
    session.settle(running, { jsonrpc: '2.0', id: running.privateId, result: {} }, false)
    return
  }
  const refused = request.method === 'resources/subscribe' ? checkSubscription(session, request) : undefined
  if (refused !== undefined) {
    session.abort(running, errorResponse(running.id, JsonRpcErrorCode.INVALID_PARAMS, refused))
    return
  }
  handOver(session, running, request, context)
}

/** Gives a request to the instance under its private id. A server that throws answers with an error, and the session lives on. */
function handOver(
  session: Session,
  running: RunningRequest,
  request: JsonRpcRequest,
  context: MessageExtra,
): void {
  const message = { ...request, id: running.privateId }
  try {
    // The async context costs 2-3 µs a call: it is kept only for clients that can be asked something.
    if (session.asksClient) handling.run(running, () => session.deliver(message, context))
    else session.deliver(message, context)
  } catch (thrown) {
    session.instanceError(thrown)
    session.abort(running, errorResponse(running.id, JsonRpcErrorCode.INTERNAL_ERROR, 'Internal error'))
  }
}

function executeNotification(
  session: Session,
  notification: JsonRpcNotification,
  context: MessageExtra,
): void {
  if (notification.method === 'notifications/cancelled') {
    executeCancel(session, notification)
    return
  }
  if (notification.method === 'notifications/initialized') session.initialized()
  try {
    session.deliver(notification, context)
  } catch (thrown) {
    session.instanceError(thrown)
  }
}

function executeCancel(session: Session, notification: JsonRpcNotification): void {
  const requestId = notification.params?.['requestId']
  if (typeof requestId !== 'string' && typeof requestId !== 'number') return
  const running = session.requests.newest(requestId)
  // `initialize` is not cancellable (lifecycle, all revisions).
  if (running === undefined || running.method === 'initialize') return
  const reason = notification.params?.['reason']
  session.tellCancelled(running, typeof reason === 'string' ? reason : 'cancelled by the client')
  session.cancel(running)
}

function executeResponse(session: Session, response: JsonRpcResponse): 'request' | 'ping' | 'nothing' {
  try {
    return session.serverRequests.resolve(response)
  } catch (thrown) {
    session.instanceError(thrown)
    return 'request'
  }
}

function checkBatch(session: Session, messages: readonly ParsedMessage[]): Refusal | undefined {
  if (session.record.protocolVersion >= FIRST_WITHOUT_BATCHES) {
    return batchRefusal(`JSON-RPC batches are not part of protocol version ${session.record.protocolVersion}`)
  }
  const limit = session.runtime.options.maxBatchSize
  if (messages.length > limit) return batchRefusal(`Batch must not exceed ${limit} messages`, 'maxBatchSize')
  const ids = new Set<RequestId>()
  let responses = false
  for (const { kind, message } of messages) {
    if (kind === 'response') responses = true
    if (kind !== 'request') continue
    if (message.method === 'initialize') return batchRefusal('initialize must not be part of a batch')
    if (ids.has(message.id)) return batchRefusal('a batch must not use the same id twice')
    ids.add(message.id)
  }
  if (responses && ids.size > 0) return batchRefusal('a batch has either requests or responses')
  return undefined
}

function batchRefusal(why: string, option?: string): Refusal {
  const refusal = {
    status: 400,
    code: JsonRpcErrorCode.INVALID_REQUEST,
    message: `Invalid Request: ${why}`,
    cause: 'batch',
  } as const
  return option === undefined ? refusal : { ...refusal, option }
}

function checkSubscription(session: Session, request: JsonRpcRequest): string | undefined {
  const { maxSubscriptions, maxSubscriptionUriSize } = session.runtime.options
  const uri = request.params?.['uri']
  if (typeof uri !== 'string') return undefined
  if (Buffer.byteLength(uri) > maxSubscriptionUriSize) {
    return `The URI of a subscription must be at most ${maxSubscriptionUriSize} bytes (maxSubscriptionUriSize)`
  }
  const granted = session.record.subscriptions
  if (granted?.has(uri) === true) return undefined
  // Those that the server has yet to grant count as well, this one among them.
  const pending = new Set<string>()
  for (const running of session.requests.all()) {
    const wanted = running.method === 'resources/subscribe' ? running.params?.['uri'] : undefined
    if (typeof wanted === 'string' && granted?.has(wanted) !== true) pending.add(wanted)
  }
  if ((granted?.size ?? 0) + pending.size > maxSubscriptions) {
    return `A session may have at most ${maxSubscriptions} subscriptions (maxSubscriptions)`
  }
  return undefined
}

function firstId(messages: readonly ParsedMessage[]): RequestId | null {
  // A batch has no id of its own.
  if (messages.length !== 1) return null
  const [first] = messages
  return first?.kind === 'request' ? first.message.id : null
}
