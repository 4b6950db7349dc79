/** Revision 2026-07-28 is answered as the official handler answers it, byte by byte. */

import { createServer as createHttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import {
  createMcpHandler,
  fromJsonSchema,
  inputRequired,
  McpServer,
  PROTOCOL_VERSION_META_KEY,
} from '@modelcontextprotocol/server'
import { describe, expect, onTestFinished, test } from 'vitest'
import { z } from 'zod'

import { del, get, ID, initialize, notification, post, rpc } from '../support/mcp-wire.ts'
import { envelope, MODERN, modernNotification, modernPost } from '../support/modern-wire.ts'
import { RawConnection, type RawRequest } from '../support/raw-http.ts'
import { serve } from '../support/serve.ts'

const region: object = { type: 'string', 'x-mcp-header': 'Region' }

function createServer(): McpServer {
  const server = new McpServer(
    { name: 'compared', version: '1' },
    { capabilities: { logging: {}, resources: { subscribe: true } } },
  )
  server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, ({ text }) => ({
    content: [{ type: 'text', text }],
  }))
  server.registerTool('fail', {}, () => {
    throw new Error('it failed')
  })
  server.registerTool('progress', {}, async ({ mcpReq }) => {
    const progressToken = mcpReq._meta?.progressToken ?? 0
    for (const progress of [1, 2])
      await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress } })
    return { content: [{ type: 'text', text: 'größer ☃' }] }
  })
  server.registerTool('sample', {}, () =>
    inputRequired({ inputRequests: { x: inputRequired.createMessage({ messages: [], maxTokens: 1 }) } }),
  )
  server.registerTool(
    'header',
    {
      inputSchema: fromJsonSchema<{ region: string }>({ type: 'object', properties: { region } }),
    },
    (input) => ({ content: [{ type: 'text', text: input.region }] }),
  )
  server.registerResource('item', 'test://item', {}, () => ({
    contents: [{ uri: 'test://item', text: 'item' }],
  }))
  return server
}

/** The official handler behind `node:http`, with nothing in front of it. */
async function serveOfficial(): Promise<number> {
  const handler = createMcpHandler(createServer, { legacy: 'reject' })
  const http = createHttpServer((req, res) => {
    void (async () => {
      const chunks: Buffer[] = []
      for await (const chunk of req) chunks.push(chunk as Buffer)
      const body = chunks.length === 0 ? undefined : Buffer.concat(chunks)
      const headers = new Headers(req.headers as Record<string, string>)
      const request = new Request('http://localhost/mcp', { method: req.method ?? '', headers, body })
      const response = await handler.fetch(request)
      res.writeHead(response.status, Object.fromEntries(response.headers))
      res.end(await response.text())
    })()
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
  onTestFinished(async () => {
    await handler.close()
    http.closeAllConnections()
    await new Promise((resolve) => http.close(resolve))
  })
  return (http.address() as AddressInfo).port
}

const HEADERS = ['content-type', 'allow', 'www-authenticate', 'mcp-session-id', 'cache-control']

async function ask(port: number, request: RawRequest): Promise<object> {
  const connection = await RawConnection.open(port)
  try {
    const response = await connection.request(request)
    const text = await response.text()
    return {
      status: response.status,
      text,
      headers: HEADERS.map((name) => `${name}: ${response.header(name)}`),
    }
  } finally {
    connection.destroy()
  }
}

const future = { [PROTOCOL_VERSION_META_KEY]: '2027-01-01' }

const COMMON: [string, RawRequest][] = [
  ['server/discover', modernPost('server/discover')],
  ['tools/list', modernPost('tools/list')],
  ['a call', modernPost('tools/call', { name: 'echo', arguments: { text: 'größer ☃' } })],
  ['id 0', modernPost('tools/list', {}, {}, 0)],
  ['a tool that fails', modernPost('tools/call', { name: 'fail', arguments: {} })],
  ['progress', modernPost('tools/call', { name: 'progress', arguments: {}, _meta: { progressToken: 'p' } })],
  ['a resource', modernPost('resources/read', { uri: 'test://item' })],
  ['a notification', modernNotification('notifications/whatever')],
  ['stray headers', modernPost('tools/list', {}, { 'Mcp-Session-Id': 'x', 'Last-Event-ID': 'y' })],
  ['-32601: an unknown method', modernPost('no/such')],
  ['-32601: ping, which is gone', modernPost('ping')],
  ['-32601: initialize, with an envelope', modernPost('initialize')],
  ['-32602: an unknown tool', modernPost('tools/call', { name: 'none', arguments: {} })],
  ['-32602: an unknown resource', modernPost('resources/read', { uri: 'test://none' })],
  ['wrong arguments', modernPost('tools/call', { name: 'echo', arguments: { text: 7 } })],
  ['-32602: listen for nothing in particular', modernPost('subscriptions/listen')],
  ['listen for nothing', modernPost('subscriptions/listen', { notifications: {} })],
  ['-32602: no envelope', post(rpc('tools/list'), { 'Mcp-Protocol-Version': MODERN })],
  [
    '-32020: header and body disagree',
    modernPost('tools/list', {}, { 'Mcp-Protocol-Version': '2027-01-01' }),
  ],
  ['-32020: the method header disagrees', modernPost('tools/list', {}, { 'Mcp-Method': 'tools/call' })],
  ['-32020: no method header', modernPost('tools/list', {}, { 'Mcp-Method': undefined })],
  ['-32020: no version header', modernPost('tools/list', {}, { 'Mcp-Protocol-Version': undefined })],
  ['-32020: the name header disagrees', modernPost('tools/call', { name: 'echo' }, { 'Mcp-Name': 'other' })],
  ['-32020: no name header', modernPost('tools/call', { name: 'echo' }, { 'Mcp-Name': undefined })],
  ['-32020: no argument header', modernPost('tools/call', { name: 'header', arguments: { region: 'eu' } })],
  [
    'the argument header',
    modernPost('tools/call', { name: 'header', arguments: { region: 'eu' } }, { 'Mcp-Param-Region': 'eu' }),
  ],
  ['-32021: a capability that the client lacks', modernPost('tools/call', { name: 'sample', arguments: {} })],
  [
    '-32022: a revision of the future',
    post(rpc('tools/list', { _meta: { ...envelope()._meta, ...future } }), {
      'Mcp-Protocol-Version': '2027-01-01',
      'Mcp-Method': 'tools/list',
    }),
  ],
  ['a batch with one of this revision in it', post([rpc('tools/list', envelope())])],
]

describe("as createMcpHandler(…, { legacy: 'reject' }) alone", () => {
  test.each(COMMON)('%s', async (name, request) => {
    const server = await serve(createServer)
    const official = await ask(await serveOfficial(), request)
    expect(await ask(server.port, request)).toEqual(official)
    const code = /^-\d+/.exec(name)?.[0]
    if (code !== undefined) expect(JSON.stringify(official)).toContain(`\\"code\\":${code},`)
  })

  test.each<[string, RawRequest]>([
    ['initialize', post(initialize())],
    ['initialize of a version that nobody knows', post(initialize('1999-01-01'))],
    ['a request without an envelope', post(rpc('tools/list'))],
    ['… with an older version header', post(rpc('tools/list'), { 'Mcp-Protocol-Version': '2025-06-18' })],
    ['a notification', post(notification('notifications/initialized'))],
    ['a response', post({ jsonrpc: '2.0', id: 1, result: {} })],
    ['a batch', post([rpc('tools/list'), rpc('ping', {}, 2)])],
    ['GET', get()],
    ['DELETE', del()],
    ...COMMON,
  ])("protocolEras: 'modern': %s", async (_, request) => {
    const server = await serve(createServer, { protocolEras: 'modern' })
    expect(await ask(server.port, request)).toEqual(await ask(await serveOfficial(), request))
    expect(server.app.sessions.counts.total).toBe(0)
  })

  test('the same id twice at once, and many at once', async () => {
    const server = await serve(createServer)
    const texts = Array.from({ length: 50 }, (_, i) => `text ${i}`)
    const answers = await Promise.all(
      texts.map(async (text) => {
        const response = await server.request(modernPost('tools/call', { name: 'echo', arguments: { text } }))
        return (await response.json()) as { id: unknown; result: { content: { text: string }[] } }
      }),
    )
    expect(answers.map(({ result }) => result.content[0]?.text)).toEqual(texts)
    expect(new Set(answers.map(({ id }) => id))).toEqual(new Set([ID]))
  })
})
