/** The lower limit: node:http that reads a body, parses it and answers a fixed result. No session, no check. */

import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { listen, type Served } from './served.ts'
import { ECHO_RESULT } from '../shared/echo.ts'

const TOOLS_CHANGED =
  'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n'

/** Answers every POST with the result of the measured call, and keeps every GET open. */
export async function serveBare(): Promise<Served> {
  const streams = new Set<ServerResponse>()
  const listener: RequestListener = (request, response) => {
    if (request.method === 'GET') {
      streams.add(response)
      response.on('close', () => streams.delete(response))
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' })
      response.write(':\n\n')
      return
    }
    readBody(request, (body) => {
      const message = JSON.parse(body) as { id?: unknown }
      const answer = JSON.stringify({ result: ECHO_RESULT, jsonrpc: '2.0', id: message.id })
      response.writeHead(200, {
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(answer),
      })
      response.end(answer)
    })
  }
  const { port } = await listen(listener)
  return {
    port,
    broadcast() {
      for (const stream of streams) stream.write(TOOLS_CHANGED)
    },
  }
}

/** Reads a whole body the cheapest way that Node has. */
export function readBody(request: IncomingMessage, done: (body: string) => void): void {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    const only = chunks[0]
    done(chunks.length === 1 && only !== undefined ? only.toString() : Buffer.concat(chunks).toString())
  })
}
