/** Whole HTTP requests over a socket into the app: never a 5xx, never another's data, and a refusal changes nothing. */

import { connect, type AddressInfo, type Socket } from 'node:net'

import { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'

import { httpApp, type App } from '../../../src/http-app.ts'
import { authenticateBearer, parseBearerTokens } from '../../../src/http/bearer-tokens.ts'
import { EndpointServer } from '../../../src/http/node-server.ts'
import { createLog } from '../../../src/logging.ts'
import { initialize, notification, rpc } from '../../support/mcp-wire.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { Broken, latin1, must, type Subject, type Target } from '../target.ts'

const TOKENS = JSON.stringify({
  alice: { client: 'app', issuer: 'i', subject: 'alice' },
  bob: { client: 'app', issuer: 'i', subject: 'bob' },
  // Nobody who is fuzzed has it.
  'v1ct1m-t0ken': { client: 'app', issuer: 'i', subject: 'victim' },
})

/** What only the victim's session ever says. */
const CANARY = 'what-only-the-victim-may-see'

const HEAD = 'Host: localhost\r\nAuthorization: Bearer alice\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n' // prettier-ignore
const MINE = 'Mcp-Session-Id: {SESSION}\r\nMcp-Protocol-Version: 2025-11-25\r\n'

function posted(body: string | object, more = MINE): string {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  return `POST /mcp HTTP/1.1\r\n${HEAD}${more}Content-Length: {LENGTH}\r\n\r\n${text}`
}

const META = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'c', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}

/**
 * Inputs are the bytes of a connection. What only a running server knows stands in them by name: `{SESSION}` and `{CURSOR}` of alice,
 * `{VICTIM}` and `{FOREIGN}` of somebody else; `{LENGTH}` is how many bytes follow the head.
 */
export const request: Target = {
  name: 'request',
  about: 'whole HTTP requests over a socket: heads, bodies, sessions, tokens, cursors',
  seeds: [
    posted(rpc('tools/call', { name: 'echo', arguments: { text: 'a' } })),
    posted(rpc('tools/call', { name: 'stream', arguments: { text: 'a' }, _meta: { progressToken: 1 } })),
    posted(rpc('ping'), 'Mcp-Session-Id: {SESSION}\r\n'),
    posted(notification('notifications/cancelled', { requestId: 'q1' })),
    posted({ jsonrpc: '2.0', id: 7, result: {} }),
    posted([rpc('ping', {}, 1), rpc('ping', {}, 2)]),
    posted(initialize(), ''),
    posted(initialize('2025-03-26'), ''),
    posted(
      rpc('tools/list', { _meta: META }),
      'Mcp-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\n',
    ),
    posted(rpc('tools/call', { name: 'echo', arguments: { text: 'a' }, _meta: META }), 'Mcp-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n'), // prettier-ignore
    posted(
      rpc('server/discover', { _meta: META }),
      'Mcp-Protocol-Version: 2026-07-28\r\nMcp-Method: server/discover\r\n',
    ),
    posted(rpc('logging/setLevel', { level: 'debug' })),
    posted('{', 'Mcp-Session-Id: {VICTIM}\r\n'),
    posted(rpc('tools/list'), 'Mcp-Session-Id: {VICTIM}\r\n'),
    `GET /mcp HTTP/1.1\r\n${HEAD}${MINE}\r\n`,
    `GET /mcp HTTP/1.1\r\n${HEAD}${MINE}Last-Event-ID: {CURSOR}\r\n\r\n`,
    `GET /mcp HTTP/1.1\r\n${HEAD}${MINE}Last-Event-ID: {FOREIGN}\r\n\r\n`,
    `GET /mcp HTTP/1.1\r\n${HEAD}Mcp-Session-Id: {VICTIM}\r\nLast-Event-ID: {FOREIGN}\r\n\r\n`,
    `DELETE /mcp HTTP/1.1\r\n${HEAD}${MINE}\r\n`,
    `DELETE /mcp HTTP/1.1\r\n${HEAD}Mcp-Session-Id: {VICTIM}\r\n\r\n`,
    'OPTIONS /mcp HTTP/1.1\r\nHost: localhost\r\nOrigin: https://app.example.com\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n', // prettier-ignore
    `POST http://localhost/mcp HTTP/1.1\r\n${HEAD}${MINE}Transfer-Encoding: chunked\r\n\r\n24\r\n{"jsonrpc":"2.0","id":1,"method":"pi\r\n4\r\nng"}\r\n0\r\n\r\n`,
    `GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /mcp HTTP/1.0\r\n\r\n`,
    'PUT /mcp HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc',
  ],
  words: ['{SESSION}', '{VICTIM}', '{CURSOR}', '{FOREIGN}', '{LENGTH}', HEAD, MINE, 'Bearer alice', 'Bearer bob', 'Host: ', 'Origin: ', 'http://localhost', 'Authorization: ', 'Accept: ', 'Content-Type: ', 'Content-Encoding: gzip\r\n', 'Content-Length: ', 'Transfer-Encoding: chunked\r\n', 'Expect: 100-continue\r\n', 'Connection: close\r\n', 'Upgrade: websocket\r\n', 'Last-Event-ID: ', 'Mcp-Session-Id: ', 'Mcp-Protocol-Version: ', '2025-03-26', '2025-11-25', '2026-07-28', 'Mcp-Method: ', 'Mcp-Name: ', 'HTTP/1.1', 'HTTP/1.0', 'GET /mcp ', 'POST /mcp ', 'DELETE /mcp ', 'HEAD ', 'CONNECT ', '\r\n\r\n', '"tools/call"', '"initialize"', '"ping"', '"notifications/initialized"', '"resources/subscribe"', '"server/discover"', '"subscriptions/listen"', '"_meta":', '"progressToken":'], // prettier-ignore
  longest: 24 * 1024,
  deadline: 5000,
  open: () => Endpoint.open(),
}

/** Turns of the event loop in which nothing happens before a peer says that it is done. */
const QUIET_TURNS = 12
/** What a refused body may be, in bytes: small, so that inputs reach it. */
const MAX_BODY = 16 * 1024

class Endpoint implements Subject {
  readonly #clock = new VirtualClock({ turns: 1 })
  readonly #complaints: string[] = []
  readonly #app: App
  readonly #http: EndpointServer
  #requests = 0
  #pending = 0
  #mine = { id: '', cursor: '' }
  #victim = { id: '', cursor: '' }
  #victimIdleSince: number | undefined

  private constructor() {
    const clock = this.#clock
    this.#app = httpApp(build, {
      clock,
      authenticate: authenticateBearer(parseBearerTokens(TOKENS, 'tokens.json')),
      corsOrigins: ['https://app.example.com'],
      maxBodySize: MAX_BODY,
      maxSessions: 100_000,
      keepAliveInterval: Number.POSITIVE_INFINITY,
      eventLogMaxAge: Number.MAX_SAFE_INTEGER,
      sessionIdleTimeout: Number.POSITIVE_INFINITY,
      unusedSessionTimeout: Number.POSITIVE_INFINITY,
      handshakeTimeout: Number.POSITIVE_INFINITY,
      logger: {
        debug() {},
        info() {},
        warn() {},
        error: (...args) => void this.#complaints.push(args.map((arg) => (typeof arg === 'string' ? arg : JSON.stringify(arg))).join(' ')), // prettier-ignore
      },
    })
    this.#http = new EndpointServer({
      handler: this.#app.node,
      path: '/mcp',
      healthPath: '/health',
      readyPath: '/ready',
      ready: () => this.#app.ready,
      wellKnownPaths: [],
      keepAliveTimeout: 5000,
      headersTimeout: 30_000,
      maxConnections: Number.POSITIVE_INFINITY,
      unsentTimeout: 60_000,
      log: createLog(undefined),
      clock,
    })
    for (const event of ['request', 'checkExpectation'])
      this.#http.server.prependListener(
        event,
        (_req, res: { once(event: string, listener: () => void): void }) => {
          this.#requests += 1
          this.#pending += 1
          res.once('close', () => (this.#pending -= 1))
        },
      )
  }

  static async open(): Promise<Endpoint> {
    const made = new Endpoint()
    const { server } = made.#http
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    made.#mine = await made.#session('alice')
    made.#victim = await made.#session('v1ct1m-t0ken')
    made.#victimIdleSince = made.#app.sessions.get(made.#victim.id)?.idleSince
    return made
  }

  async run(input: Uint8Array): Promise<void> {
    const { sessions } = this.#app
    await this.#clock.advance(5)
    const before = sessions.get(this.#mine.id)?.idleSince
    const known = new Set(sessions.list().map(({ id }) => id))
    const sent = this.#filled(latin1(input))
    const answers = readAnswers(await this.#exchange(sent), /HEAD/i.test(sent))
    this.#judge(sent, answers)

    const { counts } = sessions
    must(counts.active + counts.opening + counts.requests === 0, `left over: ${JSON.stringify(counts)}`)
    const opened = sessions.list().filter(({ id }) => !known.has(id))
    const granted = answers.filter(({ head }) => /^mcp-session-id:/im.test(head)).length
    must(opened.length >= granted, `${granted} sessions were granted, ${opened.length} opened`)
    // Without an answer that said so, the answer itself was lost with its connection.
    const lost = answers.length < this.#requestsOf
    must(opened.length === granted || lost, `${opened.length} sessions were opened, ${granted} granted`)
    for (const session of opened) session.close()

    const victim = sessions.get(this.#victim.id)
    must(victim?.state === 'idle', 'the session of somebody else ended')
    must(victim.idleSince === this.#victimIdleSince, 'the session of somebody else was touched')
    const after = sessions.get(this.#mine.id)
    if (answers.every(({ status }) => status >= 400) && !lost)
      must(after !== undefined && after.idleSince === before, 'a refusal touched the session')
    if (after === undefined) this.#mine = await this.#session('alice')
    const [complaint] = this.#complaints.splice(0)
    must(complaint === undefined, `the log says: ${complaint}`)
  }

  async close(): Promise<void> {
    await this.#app.close()
    this.#http.server.closeAllConnections()
    await new Promise((resolve) => this.#http.server.close(resolve))
  }

  #requestsOf = 0

  #judge(sent: string, answers: readonly Answer[]): void {
    // What a client sent itself it may be shown, as the host that is not allowed.
    const secrets = Object.entries({
      'a session id': this.#victim.id,
      'an event id': this.#victim.cursor.slice(0, 8),
      'an event': CANARY,
      'a token': 'v1ct1m',
    }).filter(([, secret]) => !sent.includes(secret))
    for (const { status, head, body, whole } of answers) {
      must(status < 500, () => `answered with ${status}: ${body}`)
      for (const [what, secret] of secrets)
        must(
          !body.includes(secret) && !head.includes(secret),
          `an answer with ${status} shows ${what} of somebody else`,
        )
      if (status < 400 || !whole || body === '') continue
      if (/^content-type: text\/plain/im.test(head)) continue
      must(/^content-type: application\/json\r?$/im.test(head), `a refusal with ${status} is no JSON`)
      const refusal = JSON.parse(body) as {
        jsonrpc?: unknown
        error?: { code?: unknown; message?: unknown }
        id?: unknown
      }
      const { code, message } = refusal.error ?? {}
      must(
        refusal.jsonrpc === '2.0' && typeof message === 'string',
        `a refusal with ${status} is no JSON-RPC error`,
      )
      const codes = CODES[status]
      must(codes?.includes(Number(code)) === true, `a refusal with ${status} has the code ${String(code)}`)
      must(refusal.id === null || typeof refusal.id === 'string' || Number.isSafeInteger(refusal.id), 'a refusal with an id that is none') // prettier-ignore
    }
  }

  /** Sends the bytes and reads until nothing more comes; then says that it is done, and waits for the end. */
  async #exchange(bytes: string): Promise<string> {
    const { port } = this.#http.server.address() as AddressInfo
    const began = this.#requests
    const socket = await opened(port)
    const received: Buffer[] = []
    let ended = false
    socket.on('data', (piece: Buffer) => received.push(piece))
    socket.on('error', () => {})
    socket.on('close', () => (ended = true))
    socket.write(bytes, 'latin1')
    let seen = ''
    for (let quiet = 0; quiet < QUIET_TURNS && !ended; quiet++) {
      await turn()
      const now = `${received.length} ${this.#requests} ${this.#pending}`
      if (now !== seen) quiet = 0
      seen = now
    }
    this.#requestsOf = this.#requests - began
    socket.end()
    const due = performance.now() + request.deadline / 2
    while (!ended || this.#pending > 0) {
      if (performance.now() > due) {
        socket.destroy()
        throw new Broken('the connection does not end')
      }
      await turn()
    }
    for (let n = 0; n < 3; n++) await turn()
    return Buffer.concat(received).toString('latin1')
  }

  #filled(text: string): string {
    const filled = text
      .replaceAll('{SESSION}', this.#mine.id)
      .replaceAll('{VICTIM}', this.#victim.id)
      .replaceAll('{CURSOR}', this.#mine.cursor)
      .replaceAll('{FOREIGN}', this.#victim.cursor)
    const head = filled.indexOf('\r\n\r\n')
    return filled.replaceAll('{LENGTH}', String(head < 0 ? 0 : filled.length - head - 4))
  }

  /** A session with events on its GET stream. */
  async #session(token: string): Promise<{ id: string; cursor: string }> {
    const { sessions } = this.#app
    const known = new Set(sessions.list().map(({ id }) => id))
    const head = `Host: localhost\r\nAuthorization: Bearer ${token}\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\n` // prettier-ignore
    const post = (body: object, more: string): Promise<string> => {
      const text = JSON.stringify(body)
      return this.#exchange(
        `POST /mcp HTTP/1.1\r\n${head}${more}Content-Length: ${text.length}\r\n\r\n${text}`,
      )
    }
    await post(initialize(), '')
    const session = sessions.list().find(({ id }) => !known.has(id))
    if (session === undefined) throw new Error('no session was opened')
    const { id } = session
    const named = `Mcp-Session-Id: ${id}\r\n`
    await post(notification('notifications/initialized'), named)
    const data = token === 'alice' ? 'mine' : CANARY
    for (let n = 0; n < 3; n++) await session.notify('notifications/message', { level: 'info', data })
    const events = await this.#exchange(`GET /mcp HTTP/1.1\r\n${head}${named}\r\n`)
    const cursor = [...events.matchAll(/^id: (\S+)/gm)].at(-1)?.[1] ?? ''
    if (cursor === '') throw new Error(`no event came: ${events}`)
    await this.#clock.advance(5)
    return { id, cursor: cursor.replace(/\.\d+$/, '.1') }
  }
}

/** A server with a tool that answers at once, and one that streams. */
function build(): McpServer {
  const server = new McpServer({ name: 'fuzzed', version: '1' }, { capabilities: { logging: {} } })
  const inputSchema = z.object({ text: z.string() })
  server.registerTool('echo', { inputSchema }, ({ text }) => ({ content: [{ type: 'text', text }] }))
  server.registerTool('stream', { inputSchema }, async ({ text }, { mcpReq }) => {
    await mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data: text } })
    return { content: [{ type: 'text', text }] }
  })
  return server
}

/** JSON-RPC codes that may stand beside a status. */
const CODES: Readonly<Record<number, readonly number[]>> = {
  400: [-32700, -32600, -32602, -32000, -32020, -32021, -32022],
  401: [-32000],
  403: [-32000],
  404: [-32001, -32000, -32601],
  405: [-32000],
  406: [-32000],
  408: [-32000],
  409: [-32000],
  413: [-32000],
  415: [-32000],
  417: [-32000],
  429: [-32000],
  431: [-32000],
}

/** An answer as it came. */
interface Answer {
  readonly status: number
  readonly head: string
  readonly body: string
  readonly whole: boolean
}

/** Takes apart what came over a connection. An answer to HEAD has a length and no body. */
function readAnswers(text: string, mayBeHead: boolean): Answer[] {
  const answers: Answer[] = []
  let rest = text
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n')
    const match = /^HTTP\/1\.1 (\d{3}) [^\r\n]*\r\n/.exec(rest)
    must(match !== null && end > 0, () => `what came is no HTTP: ${JSON.stringify(rest.slice(0, 80))}`)
    const head = rest.slice(0, end)
    const status = Number(match[1])
    rest = rest.slice(end + 4)
    const length = /^content-length: (\d+)$/im.exec(head)?.[1]
    if (status < 200 || status === 204) {
      if (status >= 200) answers.push({ status, head, body: '', whole: true })
      continue
    }
    if (length !== undefined && !(mayBeHead && (rest === '' || rest.startsWith('HTTP/1.1')))) {
      const body = rest.slice(0, Number(length))
      answers.push({ status, head, body, whole: body.length === Number(length) })
      rest = rest.slice(Number(length))
    } else if (/^transfer-encoding: chunked$/im.test(head)) {
      const { body, whole, after } = readChunks(rest)
      answers.push({ status, head, body, whole })
      rest = after
    } else {
      answers.push({ status, head, body: length === undefined ? rest : '', whole: true })
      if (length === undefined) rest = ''
    }
  }
  return answers
}

function readChunks(text: string): { body: string; whole: boolean; after: string } {
  let body = ''
  let rest = text
  while (true) {
    const match = /^([0-9a-f]+)\r\n/i.exec(rest)
    if (match === null) {
      must(rest.length < 10, () => `what came is no chunk: ${JSON.stringify(rest.slice(0, 80))}`)
      return { body, whole: false, after: '' }
    }
    const size = Number.parseInt(match[1] ?? '0', 16)
    rest = rest.slice(match[0].length)
    if (size === 0) return { body, whole: true, after: rest.slice(2) }
    body += rest.slice(0, size)
    rest = rest.slice(size + 2)
  }
}

function opened(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    socket.once('error', reject)
    socket.once('connect', () => resolve(socket))
  })
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
