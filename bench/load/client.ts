/** MCP over a raw connection: just enough of a client to open a session, call the tool and end the session. */

import type { Connection, Script } from './connection.ts'
import { headerOf, messagesOf, type HttpAnswer } from './http-answer.ts'
import {
  assertEcho,
  echoRequest,
  FIRST_ID,
  INITIALIZED,
  initializeRequest,
  PROTOCOL_VERSION,
} from '../shared/echo.ts'

/** What a session id is replaced by where a server has none: as long as a UUID. */
export const NO_SESSION = '00000000-0000-4000-8000-000000000000'

/** Takes a session through its handshake and returns its id. */
export async function openSession(connection: Connection, port: number): Promise<string> {
  const opened = await connection.ask(post(port, undefined, initializeRequest(0)))
  const id = headerOf(opened, 'mcp-session-id')
  const answer =
    opened.status === 200 ? (messagesOf(opened)[0] as { result?: { protocolVersion?: string } }) : {}
  if (id === undefined || answer.result?.protocolVersion !== PROTOCOL_VERSION)
    throw unexpected('initialize', opened)
  const initialized = await connection.ask(post(port, id, INITIALIZED))
  if (initialized.status !== 202) throw unexpected('notifications/initialized', initialized)
  return id
}

/** Ends a session as a well-behaved client would. */
export async function endSession(connection: Connection, port: number, id: string): Promise<void> {
  const answer = await connection.ask(Buffer.from(`DELETE /mcp HTTP/1.1\r\n${headers(port, id)}\r\n`))
  if (answer.status !== 200 && answer.status !== 204) throw unexpected('DELETE', answer)
}

/** Calls the tool once and checks the answer. */
export async function callOnce(connection: Connection, port: number, id: string): Promise<void> {
  const script = echoScript(port, id)
  script.check(await connection.ask(script.next()))
}

/** The measured call over and over, each with another id; the bytes are patched, not built. */
export function echoScript(port: number, session: string): Script {
  const bytes = post(port, session, echoRequest(FIRST_ID))
  const idAt = bytes.lastIndexOf(`"id":${FIRST_ID}`) + 5
  let id = FIRST_ID
  return {
    next() {
      id += 1
      for (let at = idAt + 6, rest = id; at >= idAt; at -= 1, rest = Math.trunc(rest / 10)) {
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

function post(port: number, session: string | undefined, message: object): Buffer {
  const body = JSON.stringify(message)
  return Buffer.from(
    `POST /mcp HTTP/1.1\r\n${headers(port, session)}Content-Type: application/json\r\n` +
      `Accept: application/json, text/event-stream\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
}

function headers(port: number, session: string | undefined): string {
  const own =
    session === undefined ? '' : `Mcp-Session-Id: ${session}\r\nMcp-Protocol-Version: ${PROTOCOL_VERSION}\r\n`
  return `Host: 127.0.0.1:${port}\r\nUser-Agent: sojourn-bench\r\n${own}`
}

function unexpected(what: string, answer: HttpAnswer): Error {
  return new Error(
    `unexpected answer to ${what}: ${answer.head.split('\r\n', 1)[0]} ${answer.body.slice(0, 300)}`,
  )
}
