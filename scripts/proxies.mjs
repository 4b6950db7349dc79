/** What the checks behind a proxy share: what it stands in front of, and a client that sees what travels. */
import { once } from 'node:events'
import http from 'node:http'
import { connect, createServer as createTcpServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { McpServer } from '@modelcontextprotocol/server'
import { createParser } from 'eventsource-parser'
import { z } from 'zod'
import { httpApp } from '../src/index.ts'

/** Fails unless the condition holds. */
export function expect(condition, otherwise) {
  if (!condition) throw new Error(otherwise)
}

/** A port that nobody listens on. */
export async function freePort() {
  const server = createTcpServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** Waits until a proxy takes connections. */
export async function listening(port, child) {
  const until = Date.now() + 10_000
  while (Date.now() < until && child.exitCode === null) {
    const socket = connect(port, '127.0.0.1')
    const up = await once(socket, 'connect').then(
      () => true,
      () => false,
    )
    socket.destroy()
    if (up) return
    await delay(50)
  }
  throw new Error('the proxy does not listen')
}

// ── What it stands in front of ──

const waitInput = z.object({ ms: z.number() })
const closers = []
/** The name that clients call the endpoint by. */
export const PUBLIC_NAME = 'mcp.example.com'

/** An app behind a port of its own. */
export async function serve(options) {
  const app = httpApp(
    () => {
      const server = new McpServer(
        { name: 'behind-a-proxy', version: '1.0.0' },
        { capabilities: { tools: { listChanged: true }, logging: {} } },
      )
      server.registerTool('wait', { inputSchema: waitInput }, async ({ ms }, { mcpReq }) => {
        await delay(ms, undefined, { signal: mcpReq.signal })
        return { content: [{ type: 'text', text: `waited ${ms} ms` }] }
      })
      return server
    },
    { allowedHosts: [PUBLIC_NAME], ...options },
  )
  const server = http.createServer(app.node).listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(async () => {
    await app.close()
    server.closeAllConnections()
    server.close()
  })
  return { app, port: server.address().port }
}

/** Closes all that was served. */
export async function closeAll() {
  await Promise.all(closers.map((close) => close()))
}

// ── A client that sees what travels ──

/** Sends one request through the proxy and resolves with its head; `events` fills up as they arrive. */
export async function send(
  port,
  path,
  { method = 'POST', session, body, lastEventId, headers = {}, ...socket } = {},
) {
  const request = http.request({
    host: '127.0.0.1',
    port,
    path: `/${path}`,
    method,
    agent: false,
    ...socket,
    headers: {
      host: PUBLIC_NAME,
      accept: method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream',
      'mcp-protocol-version': '2025-11-25',
      ...(body && { 'content-type': 'application/json' }),
      ...(session && { 'mcp-session-id': session }),
      ...(lastEventId && { 'last-event-id': lastEventId }),
      ...headers,
    },
  })
  request.end(body && JSON.stringify(body))
  const [response] = await once(request, 'response')
  const events = []
  let text = ''
  let wake = () => {}
  const parser = createParser({
    onEvent: (event) => {
      events.push({ ...event, at: performance.now() })
      wake()
    },
  })
  response.on('error', () => {})
  const ended = new Promise((resolve) => response.once('close', () => resolve(performance.now())))
  response.setEncoding('utf8').on('data', (chunk) => {
    text += chunk
    parser.feed(chunk)
  })
  return {
    status: response.statusCode,
    headers: response.headers,
    events,
    ended,
    text: async () => (await ended, text),
    close: () => request.destroy(),
    /** The first event whose data holds `part`, or undefined when none came in time. */
    async event(part, ms) {
      const until = performance.now() + ms
      for (;;) {
        const found = events.find(({ data }) => data.includes(part))
        const left = until - performance.now()
        if (found !== undefined || left <= 0 || response.closed) return found
        const timer = new AbortController()
        await Promise.race([
          new Promise((resolve) => (wake = resolve)),
          ended,
          delay(left, undefined, { signal: timer.signal }).catch(() => {}),
        ])
        timer.abort()
      }
    },
  }
}

/** Opens a session; gives its id. */
export async function open(port, path, options) {
  const params = {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'check', version: '1' },
  }
  const answer = await send(port, path, {
    ...options,
    body: { jsonrpc: '2.0', id: 1, method: 'initialize', params },
  })
  await answer.text()
  expect(answer.status === 200, `initialize was answered ${answer.status}`)
  const session = answer.headers['mcp-session-id']
  const initialized = { jsonrpc: '2.0', method: 'notifications/initialized' }
  await (await send(port, path, { session, body: initialized })).text()
  return session
}

/** Calls the tool that waits. */
export function callWait(port, path, session, ms) {
  const body = { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'wait', arguments: { ms } } }
  return send(port, path, { session, body })
}

/** For people. */
export const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`
