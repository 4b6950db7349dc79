/** MCP over a raw connection: just enough of a client to open a session, call the tool and end the session. */

import type { Connection, Script } from './connection.ts'
import { headerOf, messagesOf, type HttpAnswer } from './http-answer.ts'
import {
  assertEcho,
  echoRequest,
  FIRST_ID,
  INITIALIZED,
  initializeRequest,
  MODERN_VERSION,
  modernEchoRequest,
  PROTOCOL_VERSION,
} from '../shared/echo.ts'
import type { LoadTarget, Spread } from '../shared/types.ts'

/** A session as its client knows it. */
export interface ClientSession {
  /** Undefined where the server gave none: such servers keep no session. */
  readonly id: string | undefined
  readonly version: string
}

/** What stands for a session where a server has none: an id as long as a UUID. */
const NO_SESSION: ClientSession = {
  id: '00000000-0000-4000-8000-000000000000',
  version: PROTOCOL_VERSION,
}

/** Digits of a request id. */
const DIGITS = String(FIRST_ID).length

/** Takes a session through its handshake, where the server has one. */
export async function openSession(connection: Connection, to: LoadTarget): Promise<ClientSession> {
  if (to.protocol !== 'session') return NO_SESSION
  const opened = await connection.ask(post(to, undefined, initializeRequest(0)))
  const answer =
    opened.status === 200 ? (messagesOf(opened).at(-1) as { result?: { protocolVersion?: string } }) : {}
  const version = answer.result?.protocolVersion
  if (version === undefined) throw unexpected('initialize', opened)
  const session = { id: headerOf(opened, 'mcp-session-id'), version }
  const initialized = await connection.ask(post(to, session, INITIALIZED))
  if (initialized.status !== 202) throw unexpected('notifications/initialized', initialized)
  return session
}

/** Ends a session as a well-behaved client would; where it cannot be ended, that is the server's choice. */
export async function endSession(
  connection: Connection,
  to: LoadTarget,
  session: ClientSession,
): Promise<void> {
  if (to.protocol !== 'session' || session.id === undefined) return
  const answer = await connection.ask(
    Buffer.from(`DELETE /mcp HTTP/1.1\r\n${headers(to, session, '*/*')}\r\n`),
  )
  if (answer.status >= 400 && answer.status !== 405) throw unexpected('DELETE', answer)
}

/** Calls the tool once and checks the answer. */
export async function callOnce(
  connection: Connection,
  to: LoadTarget,
  session: ClientSession,
): Promise<void> {
  const script = echoScript(to, [session], 'uniform')
  script.check(await connection.ask(script.next()))
}

/** The head of a GET that opens a stream, or goes on with one after an event. */
export function streamRequest(to: LoadTarget, session: ClientSession, lastEventId?: string): Buffer {
  const cursor = lastEventId === undefined ? '' : `Last-Event-ID: ${lastEventId}\r\n`
  return Buffer.from(`GET /mcp HTTP/1.1\r\n${headers(to, session, 'text/event-stream')}${cursor}\r\n`)
}

/** The measured call over and over, each with another id; the bytes are patched, not built. */
export function echoScript(to: LoadTarget, sessions: readonly ClientSession[], spread: Spread): Script {
  const requests = sessions.map((session) => {
    const message = to.protocol === 'modern' ? modernEchoRequest(FIRST_ID) : echoRequest(FIRST_ID)
    const bytes = post(to, session, message)
    return { bytes, idAt: bytes.lastIndexOf(`"id":${FIRST_ID}`) + '"id":'.length }
  })
  const hot = Math.max(1, Math.floor(requests.length / 10))
  let id = FIRST_ID
  let turn = 0
  let random = 0x9e3779b9
  /** Which session is next: each in turn, or nine of ten calls on the first tenth of them. */
  const choose = (): number => {
    turn = (turn + 1) % requests.length
    if (spread === 'uniform') return turn
    random ^= random << 13
    random ^= random >>> 17
    random ^= random << 5
    const unsigned = random >>> 0
    return unsigned % 10 === 0 ? Math.floor(unsigned / 10) % requests.length : Math.floor(unsigned / 10) % hot
  }
  return {
    next() {
      id += 1
      const request = requests.length === 1 ? requests[0] : requests[choose()]
      if (request === undefined) throw new Error('there is no session to call')
      const { bytes, idAt } = request
      for (let at = idAt + DIGITS - 1, rest = id; at >= idAt; at -= 1, rest = Math.trunc(rest / 10)) {
        bytes[at] = 0x30 + (rest % 10)
      }
      return bytes
    },
    check(answer) {
      if (answer.status !== 200) throw unexpected('tools/call', answer)
      assertEcho(messagesOf(answer).at(-1), id)
    },
  }
}

function post(to: LoadTarget, session: ClientSession | undefined, message: object): Buffer {
  const body = JSON.stringify(message)
  return Buffer.from(
    `POST /mcp HTTP/1.1\r\n${headers(to, session, 'application/json, text/event-stream')}` +
      `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
}

function headers(to: LoadTarget, session: ClientSession | undefined, accept: string): string {
  const common = `Host: 127.0.0.1:${to.port}\r\nUser-Agent: sojourn-bench\r\nAccept: ${accept}\r\n`
  if (to.protocol === 'modern')
    return `${common}Mcp-Protocol-Version: ${MODERN_VERSION}\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n`
  if (session === undefined) return common
  const id = session.id === undefined ? '' : `Mcp-Session-Id: ${session.id}\r\n`
  return `${common}${id}Mcp-Protocol-Version: ${session.version}\r\n`
}

function unexpected(what: string, answer: HttpAnswer): Error {
  return new Error(
    `unexpected answer to ${what}: ${answer.head.split('\r\n', 1)[0]} ${answer.body.slice(0, 300)}`,
  )
}
