/** An app, or a bare server, used in the process that measures it. */

import type { App } from '../../src/http-app.ts'
import type { McpServerLike, ServerTransport } from '../../src/types.ts'
import { INITIALIZED, initializeRequest, PROTOCOL_VERSION } from './echo.ts'

/** Sends one message and reads its answer whole. */
export async function post(app: App, message: object, session?: string): Promise<string> {
  const answer = await app.fetch(
    new Request('http://localhost/mcp', {
      method: 'POST',
      headers: {
        accept: 'application/json, text/event-stream',
        'content-type': 'application/json',
        ...(session !== undefined && { 'mcp-session-id': session, 'mcp-protocol-version': PROTOCOL_VERSION }),
      },
      body: JSON.stringify(message),
    }),
  )
  const body = await answer.text()
  if (!answer.ok) throw new Error(`${answer.status} ${body}`)
  return answer.headers.get('mcp-session-id') ?? session ?? ''
}

/** Factory, connect and the handshake, with nothing of Sojourn around it, in microseconds. */
export async function build(createServer: () => McpServerLike): Promise<number> {
  const began = performance.now()
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    const transport: ServerTransport = {
      start: () => Promise.resolve(),
      send(message) {
        if ('result' in message) {
          transport.onmessage?.(INITIALIZED)
          resolve()
        }
        return Promise.resolve()
      },
      close: () => Promise.resolve(),
    }
    server.connect(transport).then(() => transport.onmessage?.(initializeRequest(1)), reject)
  })
  return (performance.now() - began) * 1000
}
