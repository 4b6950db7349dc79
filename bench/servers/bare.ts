/** The lower limit: node:http that reads a body, parses it and answers a fixed result. No session, no check. */

import type { IncomingMessage, RequestListener } from 'node:http'
import { ECHO_RESULT } from '../shared/echo.ts'

/** Answers every POST with the result of the measured call. */
export function bareListener(): RequestListener {
  return (request, response) => {
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
