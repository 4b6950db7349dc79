/** The metadata of the endpoint in each framework: before its path, whatever the endpoint's own route is. */

import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

import { getRequestListener } from '@hono/node-server'
import express from 'express'
import { fastify } from 'fastify'
import { Hono } from 'hono'
import { expect, onTestFinished, test } from 'vitest'

import { mcpExpress } from '../../src/adapters/express.ts'
import { mcpFastify } from '../../src/adapters/fastify.ts'
import { mcpHono } from '../../src/adapters/hono.ts'
import { bearerAuth } from '../../src/auth/index.ts'
import { httpApp } from '../../src/http-app.ts'
import { FakeServer } from '../support/fake-server.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const clock = new VirtualClock()
const options = {
  authenticate: bearerAuth({ issuer: 'https://auth.test', resource: 'https://mcp.test/mcp' }),
  allowedHosts: ['127.0.0.1'],
}
const create = (): FakeServer => new FakeServer({ clock, tag: 'fake' })

const faces: Readonly<Record<string, () => Promise<RequestListener>>> = {
  async node() {
    return httpApp(create, options).node
  },
  async fetch() {
    const { fetch } = httpApp(create, options)
    return getRequestListener((request) => fetch(request))
  },
  async express() {
    const mcp = mcpExpress(create, options)
    const server = express()
    server.use(mcp.wellKnown)
    server.use('/mcp', mcp)
    server.get('/other', (_request, response) => void response.send('other'))
    return server
  },
  async fastify() {
    const plugin = mcpFastify(create, options)
    const server = fastify()
    server.register(plugin.wellKnown)
    server.register(plugin, { prefix: '/mcp' })
    server.get('/other', () => 'other')
    await server.ready()
    return (request, response) => server.routing(request, response)
  },
  async hono() {
    const mcp = mcpHono(create, options)
    const hono = new Hono()
    hono.use(mcp.wellKnown)
    hono.all('/mcp', mcp)
    hono.get('/other', (c) => c.text('other'))
    return getRequestListener(hono.fetch)
  },
}

test.each(Object.entries(faces))('%s', async (name, make) => {
  const server = createServer(await make())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(() => resolve()))
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  for (const path of ['/mcp', '']) {
    const response = await fetch(`${url}/.well-known/oauth-protected-resource${path}`, {
      headers: { Origin: 'https://anywhere.test' },
    })
    expect(response.status).toBe(200)
    expect(response.headers.get('access-control-allow-origin')).toBe('*')
    expect(await response.json()).toMatchObject({ resource: 'https://mcp.test/mcp' })
    const preflight = await fetch(`${url}/.well-known/oauth-protected-resource${path}`, {
      method: 'OPTIONS',
      headers: { Origin: 'https://anywhere.test', 'Access-Control-Request-Method': 'GET' },
    })
    expect(preflight.status).toBe(204)
  }
  const refused = await fetch(`${url}/mcp`, { headers: { Accept: 'text/event-stream' } })
  expect(refused.headers.get('www-authenticate')).toBe(
    'Bearer resource_metadata="https://mcp.test/.well-known/oauth-protected-resource/mcp"',
  )
  if (name === 'node' || name === 'fetch') return
  expect(await (await fetch(`${url}/other`)).text()).toBe('other')
})
