/** The Node face of an exchange, where no request over the wire reaches it. */

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { expect, onTestFinished, test } from 'vitest'

import { systemClock } from '../../src/clock.ts'
import { NodeExchange } from '../../src/http/node-exchange.ts'
import { RawConnection } from '../support/raw-http.ts'

async function connectTo(handle: (exchange: NodeExchange) => void): Promise<RawConnection> {
  const server = createServer((req, res) =>
    handle(new NodeExchange(req, res, { clock: systemClock, trustedProxies: 0 })),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const connection = await RawConnection.open((server.address() as AddressInfo).port)
  onTestFinished(() => {
    connection.destroy()
    server.close()
  })
  return connection
}

// A throw there would be an uncaught exception: the answer waits for the next tick while a body is on its way.
test.each([
  ['with a body on its way', { method: 'POST', headers: { 'Content-Length': '2' } }],
  ['without', { method: 'GET' }],
])('a field that HTTP cannot carry is answered with 500, and ends nothing: %s', async (_, request) => {
  const connection = await connectTo((exchange) =>
    exchange.respond(403, { 'WWW-Authenticate': 'a\u0001b' }, 'body'),
  )
  const response = await connection.request(request)
  expect([response.status, await response.text()]).toEqual([500, ''])
})
