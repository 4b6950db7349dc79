/**
 * Starts each example as its README says, against dist/, has official clients call it, and stops it with SIGTERM while they are still
 * connected. One line for each check; exit code 1 if any failed. `node scripts/check-examples.mjs [NAME…]` checks only those.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { check, expectEqual, failures, textOf, within } from './checks.mjs'
import { ensureBuilt, ensureInstalled } from './ensure.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const readyWithin = 20_000
const answersWithin = 10_000
const stopsWithin = 10_000
const watched = mkdtempSync(join(tmpdir(), 'sojourn-check-'))
const processes = new Set()
process.on('exit', () => {
  for (const child of processes) child.kill('SIGKILL')
  rmSync(watched, { recursive: true, force: true })
})

/** Starts a file of `examples/`; `exited` resolves with how it ended. */
function run(file, args = [], env = {}) {
  // As the examples' README says: in the folder of the repository, where 'sojourn' is this package.
  const child = spawn(process.execPath, ['--import', 'tsx', `examples/${file}`, ...args], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  processes.add(child)
  const log = []
  child.stderr.on('data', (chunk) => log.push(String(chunk)))
  const exited = new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      processes.delete(child)
      resolve(code ?? signal)
    })
  })
  return { child, exited, log }
}

/** Starts `examples/NAME/server.ts` on a free port; `url` resolves when it is ready. */
function start(name, args, env = { PORT: '0' }) {
  const { child, exited, log } = run(`${name}/server.ts`, args, env)
  const url = new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (/^http:\/\/127\.0\.0\.1:\d+\/mcp$/.test(line)) resolve(line)
    })
    void exited.then((code) => reject(new Error(`it ended with ${code} before it was ready`)))
  })
  return { child, url, exited, log }
}

/** Clients that are connected until their example has stopped. */
const clients = []

/** A connected official client: v2 unless `v1`, with the handshake unless `modern`. */
async function connect(url, { v1 = false, modern = false, token } = {}) {
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` }
  const identity = { name: 'check-examples', version: '1.0.0' }
  const options = modern ? { versionNegotiation: { mode: 'auto' } } : {}
  const client = v1 ? new ClientV1(identity) : new Client(identity, options)
  const transport = new (v1 ? TransportV1 : StreamableHTTPClientTransport)(new URL(url), {
    requestInit: { headers },
  })
  clients.push(client)
  await within(answersWithin, 'connecting', client.connect(transport))
  return { client, transport }
}

async function call({ client }, name, args = {}) {
  return textOf(await within(answersWithin, name, client.callTool({ name, arguments: args })))
}

/** Resolves with the parameters of the next notification of that method which `matches`. */
function notification({ client }, method, matches = () => true) {
  const next = new Promise((resolve) => {
    client.setNotificationHandler(method, ({ params }) => {
      if (matches(params)) resolve(params)
    })
  })
  return within(answersWithin, method, next)
}

/** For the examples that differ in their framework only: a client of each era is greeted. */
function greets(from) {
  return async (url) => {
    const greeting = `Hello Ada, from ${from}`
    const client = await connect(url)
    await check('a session, and a call in it', async () => {
      if (client.transport.sessionId === undefined) throw new Error('the client has no session id')
      return expectEqual(await call(client, 'greet', { name: 'Ada' }), greeting)
    })
    await check('the same without a handshake (2026-07-28)', async () => {
      const modern = await connect(url, { modern: true })
      expectEqual(modern.client.getProtocolEra(), 'modern')
      return expectEqual(await call(modern, 'greet', { name: 'Ada' }), greeting)
    })
    await check('other paths are not the app', async () =>
      expectEqual((await fetch(new URL('/elsewhere', url))).status, 404),
    )
  }
}

/** The application's own route counts the one session there is. */
function countsSessions(then) {
  return async (url) => {
    await then(url)
    await check('/health counts the sessions', async () => {
      const response = await fetch(new URL('/health', url))
      return expectEqual(JSON.stringify(await response.json()), '{"sessions":1}')
    })
  }
}

/**
 * Does what the user of `client.ts` does in the browser, where it is sent to: says who it is, agrees to what is asked, and goes back. Cookies
 * are kept in `cookies`.
 */
async function logIn(to, name, cookies) {
  let [url, form] = [new URL(to), undefined]
  for (let step = 0; step < 20; step++) {
    const response = await fetch(url, {
      ...(form && { method: 'POST', body: new URLSearchParams(form) }),
      redirect: 'manual',
      headers: { cookie: [...cookies].map((pair) => pair.join('=')).join('; ') },
    })
    for (const line of response.headers.getSetCookie()) {
      const [, key, value] = /^([^=]+)=([^;]*)/.exec(line)
      cookies.set(key, value)
    }
    const page = await response.text()
    const [, action] = /<form[^>]* action="([^"]+)"/.exec(page) ?? []
    const next = response.headers.get('location') ?? action
    if (next === undefined && url.pathname === '/callback') return
    if (next === undefined) throw new Error(`${url} answers ${response.status} ${page.slice(0, 300)}`)
    url = new URL(next, url)
    form = action && { prompt: / name="prompt" value="([^"]+)"/.exec(page)[1], login: name, password: 'any' }
  }
  throw new Error('the login goes in circles')
}

/** Runs `login/client.ts` for a user; resolves with what it printed, once it has ended. */
async function loggedIn(url, name) {
  const client = run('login/client.ts', [url])
  const cookies = new Map()
  const lines = []
  for await (const line of createInterface({ input: client.child.stdout })) {
    const [, to] = /^Open in your browser: (\S+)$/.exec(line) ?? []
    if (to === undefined) lines.push(line)
    else {
      lines.push(`to agree: ${new URL(to).searchParams.get('scope')}`)
      await logIn(to, name, cookies)
    }
  }
  if ((await client.exited) !== 0) throw new Error(client.log.join(''))
  return lines
}

/** A port that is free now, for an example that has to know its own before it listens. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** What is checked of each example, once it is ready. */
const examples = {
  node: greets('node:http'),
  express: countsSessions(greets('Express')),
  fastify: countsSessions(greets('Fastify')),
  hono: countsSessions(greets('Hono')),
  fetch: greets('a fetch handler'),
  'v1-sdk': async (url) => {
    await check('add, called by a v1 client', async () =>
      expectEqual(await call(await connect(url, { v1: true }), 'add', { a: 2, b: 40 }), '42'),
    )
    await check('client, called by a v2 client that would rather have 2026-07-28', async () => {
      const client = await connect(url, { modern: true })
      expectEqual(client.client.getProtocolEra(), 'legacy')
      return expectEqual(await call(client, 'client'), 'check-examples')
    })
  },
  'bearer-tokens': async (url) => {
    await check('no token, no answer', async () => {
      const response = await fetch(url, { method: 'POST', body: '{}' })
      expectEqual(response.status, 401)
      return response.headers.get('www-authenticate')
    })
    const alice = await connect(url, { token: 'fake-token-of-alice' })
    await check('whoami of alice', async () =>
      expectEqual(JSON.parse(await call(alice, 'whoami')).subject, 'alice'),
    )
    await check('whoami of bob', async () => {
      const bob = await connect(url, { token: 'fake-token-of-bob' })
      return expectEqual(JSON.parse(await call(bob, 'whoami')).subject, 'bob')
    })
    await check("to bob, alice's session does not exist", async () => {
      const headers = {
        Authorization: 'Bearer fake-token-of-bob',
        Accept: 'text/event-stream',
        'Mcp-Session-Id': alice.transport.sessionId,
      }
      return expectEqual((await fetch(url, { headers })).status, 404)
    })
  },
  login: async (url) => {
    await check('no token: 401, and where to get one', async () => {
      const response = await fetch(url, { method: 'POST', body: '{}' })
      expectEqual(response.status, 401)
      const challenge = response.headers.get('www-authenticate')
      const metadata = await (await fetch(/resource_metadata="([^"]+)"/.exec(challenge)[1])).json()
      expectEqual(metadata.resource, url)
      return challenge
    })
    const printed = (name) =>
      [
        'to agree: notes:read',
        `[{"type":"text","text":"${name}: no notes yet"}]`,
        'to agree: notes:read notes:write',
        '[{"type":"text","text":"1 notes"}]',
        `[{"type":"text","text":"${name}: buy milk"}]`,
      ].join('\n')
    for (const name of ['ada', 'bob']) {
      await check(`client.ts logs ${name} in, and asks again for the tool that wants more`, async () => {
        const lines = await within(4 * answersWithin, 'the client', loggedIn(url, name))
        return expectEqual(lines.join('\n'), printed(name))
      })
    }
  },
  notify: async (url) => {
    const uri = 'build://latest'
    const updated = 'notifications/resources/updated'
    const starter = await connect(url)
    const other = await connect(url)
    const modern = await connect(url, { modern: true })
    await check(
      'the client that started the build is told when it is done; who subscribed hears too',
      async () => {
        await other.client.subscribeResource({ uri })
        await modern.client.listen({ resourceSubscriptions: [uri] })
        const told = notification(starter, 'notifications/message')
        const heard = [notification(other, updated), notification(modern, updated)]
        const answer = call(starter, 'build')
        const [{ data }, ...updates] = await Promise.all([told, ...heard, answer])
        expectEqual(await answer, 'The build has started')
        for (const params of updates.slice(0, 2)) expectEqual(params.uri, uri)
        return expectEqual(data, 'Build 1 is done')
      },
    )
    await check('the resource has changed', async () => {
      const { contents } = await other.client.readResource({ uri })
      return expectEqual(contents[0].text, '1 builds so far')
    })
  },
  'file-watcher': async (url) => {
    const uri = 'folder:///a.txt'
    const client = await connect(url)
    await check('a file that comes', async () => {
      const changed = notification(client, 'notifications/resources/list_changed')
      writeFileSync(join(watched, 'a.txt'), 'one')
      await changed
      const { resources } = await client.client.listResources()
      return expectEqual(resources.map((resource) => resource.uri).join(' '), uri)
    })
    await check('a file that changes', async () => {
      await client.client.subscribeResource({ uri })
      const updated = notification(client, 'notifications/resources/updated', (params) => params.uri === uri)
      writeFileSync(join(watched, 'a.txt'), 'two')
      await updated
      const { contents } = await client.client.readResource({ uri })
      return expectEqual(contents[0].text, 'two')
    })
    await check('nothing outside of the folder', async () => {
      const outside = client.client.readResource({ uri: 'folder:///..%2F..%2Fetc%2Fpasswd' })
      const refused = await outside.then(
        () => undefined,
        (error) => error.message,
      )
      if (refused === undefined) throw new Error('it was read')
      return refused
    })
  },
}
const args = { 'file-watcher': [watched] }
const env = { login: async () => ({ PORT: String(await freePort()), ISSUER_PORT: '0' }) }

ensureInstalled()
ensureBuilt()

await check('every example is checked here, or by check-example.mjs', () => {
  const servers = readdirSync(join(root, 'examples')).filter((name) =>
    existsSync(join(root, 'examples', name, 'server.ts')),
  )
  return expectEqual(servers.sort().join(' '), [...Object.keys(examples), 'everything'].sort().join(' '))
})

const names = process.argv.slice(2)
for (const name of names.length === 0 ? Object.keys(examples) : names) {
  console.log(`examples/${name}`)
  const failedBefore = failures()
  const server = start(name, args[name], await env[name]?.())
  let url
  await check('it prints its URL', async () => (url = await within(readyWithin, 'getting ready', server.url)))
  if (url !== undefined) {
    await examples[name](url).catch((error) => check('it can be called', () => Promise.reject(error)))
    await check('SIGTERM stops it with exit code 0', async () => {
      server.child.kill('SIGTERM')
      expectEqual(await within(stopsWithin, 'stopping', server.exited), 0)
    })
  }
  server.child.kill('SIGKILL')
  await Promise.all(clients.splice(0).map((client) => client.close().catch(() => {})))
  if (failures() > failedBefore) console.log(`\nits stderr:\n${server.log.join('')}`)
}
process.exit(failures() === 0 ? 0 : 1)
