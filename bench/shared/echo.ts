/** The one call that every row answers, and what a right answer to it is. */

/** Protocol version that clients and servers of both SDKs have in common, with a handshake. */
export const PROTOCOL_VERSION = '2025-11-25'

/** The revision without a handshake. */
export const MODERN_VERSION = '2026-07-28'

/** The text that is echoed. */
export const ECHO_TEXT = 'the quick brown fox'

/** A request id of constant width, so that an answer has a length that does not change. */
export const FIRST_ID = 1_000_000

const CLIENT = { name: 'sojourn-bench', version: '1.0.0' }

/** `initialize` as a small client sends it. */
export function initializeRequest(id: number): {
  jsonrpc: '2.0'
  id: number
  method: string
  params: { [key: string]: unknown }
} {
  return {
    jsonrpc: '2.0',
    id,
    method: 'initialize',
    params: { protocolVersion: PROTOCOL_VERSION, capabilities: {}, clientInfo: CLIENT },
  }
}

/** What a client sends after `initialize`. */
export const INITIALIZED: { jsonrpc: '2.0'; method: string } = {
  jsonrpc: '2.0',
  method: 'notifications/initialized',
}

/** The measured call. */
export function echoRequest(id: number): {
  jsonrpc: '2.0'
  id: number
  method: string
  params: { [key: string]: unknown }
} {
  return {
    jsonrpc: '2.0',
    id,
    method: 'tools/call',
    params: { name: 'echo', arguments: { text: ECHO_TEXT } },
  }
}

/** The same as revision 2026-07-28 has it; the id comes last, where the generator finds it. */
export function modernEchoRequest(id: number): object {
  const { jsonrpc, method, params } = echoRequest(id)
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': MODERN_VERSION,
    'io.modelcontextprotocol/clientInfo': CLIENT,
    'io.modelcontextprotocol/clientCapabilities': {},
  }
  return { jsonrpc, method, params: { ...params, _meta }, id }
}

/** The result that the call must have. */
export const ECHO_RESULT: { content: { type: 'text'; text: string }[] } = {
  content: [{ type: 'text', text: ECHO_TEXT }],
}

/** @throws Error when `message` is not the right answer to the measured call with this id. */
export function assertEcho(message: unknown, id: number): void {
  const answer = message as {
    id?: unknown
    result?: { content?: { text?: unknown }[]; isError?: unknown }
  } | null
  const right =
    answer?.id === id && answer.result?.content?.[0]?.text === ECHO_TEXT && answer.result.isError !== true
  if (!right) throw new Error(`wrong answer to call ${id}: ${JSON.stringify(message)}`)
}
