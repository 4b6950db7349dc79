/**
 * Runs sojourn behind a real Caddy and a real HAProxy on loopback and prints a line per check: `npm run check:proxies`. What
 * docs/guides/behind-a-proxy.md says of them is what this shows. HAProxy's timeouts are 2 s here, and keep-alives four times as often.
 *
 * Both are installed by apt-get where they are missing and this runs as root.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { check, failures, within } from './checks.mjs'
import { callWait, closeAll, expect, freePort, listening, open, seconds, send, serve } from './proxies.mjs'

const TIMEOUT = 2000
const quiet = TIMEOUT * 1.5
const keepAliveInterval = TIMEOUT / 4
/** What may pass between sending an event and its arrival where nothing holds it back. */
const prompt = 500

function ensure(name, args) {
  const found = spawnSync(name, args, { encoding: 'utf8' })
  if (found.error === undefined) return found.stdout.trim().split('\n', 1)[0]
  if (process.getuid?.() !== 0) {
    console.error(`${name} is not installed, and only root can install it`)
    process.exit(2)
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  execFileSync('apt-get', ['update', '-qq'], { stdio: 'ignore', env })
  execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', name], { stdio: 'ignore', env })
  return ensure(name, args)
}

const folder = mkdtempSync(join(tmpdir(), 'sojourn-proxies-'))
const running = []

async function start(name, port, config, args) {
  const file = join(folder, `${name}.conf`)
  writeFileSync(file, config)
  const env = { ...process.env, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder }
  const child = spawn(name, args(file), { stdio: ['ignore', 'ignore', 'pipe'], env })
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (chunk) => (log += chunk))
  running.push({ child, exited: once(child, 'exit') })
  await listening(port, child).catch((error) => {
    throw new Error(`${name}: ${error.message}\n${log}`)
  })
}

/** What has to hold behind any proxy. */
async function behind(name, port, { app }) {
  await check(
    `${name}: a quiet GET stream lives, and what is pushed after ${seconds(quiet)} is there at once`,
    async () => {
      const id = await open(port, 'mcp')
      const stream = await send(port, 'mcp', { method: 'GET', session: id })
      expect(stream.status === 200, `the GET was answered ${stream.status}`)
      await Promise.race([delay(quiet), stream.ended])
      const sent = performance.now()
      app.sessions.get(id)?.notify('notifications/message', { level: 'info', data: 'after the quiet' })
      const event = await stream.event('after the quiet', prompt)
      stream.close()
      expect(event !== undefined, 'the event did not come')
      return `${Math.round(event.at - sent)} ms`
    },
  )
  await check(`${name}: a call longer than that is answered on its own connection`, async () => {
    const started = performance.now()
    const answer = await callWait(port, 'mcp', await open(port, 'mcp'), quiet)
    const event = await answer.event('waited', quiet + 5000)
    answer.close()
    expect(event !== undefined, 'the connection ended without an answer')
    return `after ${seconds(event.at - started)}`
  })
  await check(`${name}: the address is the one the proxy saw, not one the client made up`, async () => {
    const addresses = []
    const stop = app.sessions.subscribe((event) => {
      if (event.type === 'session.opened') addresses.push(event.address)
    })
    await open(port, 'mcp', { localAddress: '127.0.0.7', headers: { 'x-forwarded-for': '203.0.113.9' } })
    stop()
    expect(addresses.join() === '127.0.0.7', `got ${addresses.join()}`)
    return '127.0.0.7'
  })
  for (const mode of ['legacy', 'auto']) {
    await check(`${name}: the official client, mode ${mode}`, async () => {
      const client = new Client({ name: 'check', version: '1' }, { versionNegotiation: { mode } })
      const transport = new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${port}/mcp`))
      await within(5000, 'connecting', client.connect(transport))
      const { content } = await within(
        5000,
        'the call',
        client.callTool({ name: 'wait', arguments: { ms: 100 } }),
      )
      const era = client.getProtocolEra()
      await client.close()
      expect(content[0].text === 'waited 100 ms', JSON.stringify(content))
      return era
    })
  }
}

try {
  const options = { keepAliveInterval, trustedProxies: 1, allowedHosts: ['mcp.example.com', '127.0.0.1'] }
  const first = await serve(options)
  const second = await serve(options)
  const silent = await serve({ ...options, keepAliveInterval: Infinity })

  console.log(`Caddy ${ensure('caddy', ['version'])}`)
  const caddy = await freePort()
  const site = `{
  admin off
  auto_https off
}
http://:${caddy} {
  bind 127.0.0.1
  encode gzip
  reverse_proxy /mcp 127.0.0.1:${first.port}
}
`
  await start('caddy', caddy, site, (file) => ['run', '--config', file, '--adapter', 'caddyfile'])
  await behind('Caddy', caddy, first)
  await check(
    'Caddy: `encode gzip` leaves event streams alone, also for clients that take gzip',
    async () => {
      const headers = { 'accept-encoding': 'gzip' }
      const stream = await send(caddy, 'mcp', { method: 'GET', session: await open(caddy, 'mcp'), headers })
      const encoding = stream.headers['content-encoding']
      stream.close()
      expect(encoding === undefined, `it was encoded: ${encoding}`)
      return 'not encoded'
    },
  )

  console.log(ensure('haproxy', ['-v']))
  const [haproxy, cutting] = [await freePort(), await freePort()]
  await start(
    'haproxy',
    haproxy,
    `
defaults
  mode http
  timeout connect 1s
  timeout client ${TIMEOUT}ms
  timeout server ${TIMEOUT}ms

frontend public
  bind 127.0.0.1:${haproxy}
  http-request del-header X-Forwarded-For
  option forwardfor
  default_backend mcp

backend mcp
  balance roundrobin
  stick-table type string len 64 size 100k expire 1h
  stick store-response res.hdr(Mcp-Session-Id)
  stick match req.hdr(Mcp-Session-Id)
  server one 127.0.0.1:${first.port}
  server two 127.0.0.1:${second.port}

frontend silent
  bind 127.0.0.1:${cutting}
  default_backend silent

backend silent
  server one 127.0.0.1:${silent.port}
`,
    (file) => ['-db', '-f', file],
  )
  await check('HAProxy: without keep-alives it cuts a GET stream', async () => {
    const started = performance.now()
    const stream = await send(cutting, 'mcp', { method: 'GET', session: await open(cutting, 'mcp') })
    const ended = await Promise.race([stream.ended, delay(TIMEOUT + 3000)])
    stream.close()
    expect(ended !== undefined, 'it was not cut')
    return `after ${seconds(ended - started)}`
  })
  const both = { app: joined(first.app, second.app) }
  await behind('HAProxy, two processes', haproxy, both)
  await check('HAProxy: 20 sessions over two servers, each request where its session lives', async () => {
    const before = [first.app.sessions.size, second.app.sessions.size]
    for (let n = 0; n < 20; n += 1) {
      const session = await open(haproxy, 'mcp')
      for (let again = 0; again < 3; again += 1) {
        const answer = await callWait(haproxy, 'mcp', session, 1)
        await answer.ended
        expect(answer.status === 200, `call ${again} of session ${n} was answered ${answer.status}`)
      }
    }
    const opened = [first.app.sessions.size - before[0], second.app.sessions.size - before[1]]
    expect(opened[0] > 0 && opened[1] > 0, `all were opened on one: ${opened}`)
    return `${opened.join(' and ')} sessions, 60 calls`
  })
} catch (error) {
  await check('the run', () => Promise.reject(error))
} finally {
  for (const { child, exited } of running) {
    child.kill('SIGTERM')
    await exited
  }
  await closeAll()
  rmSync(folder, { recursive: true, force: true })
}
process.exit(failures() === 0 ? 0 : 1)

/** The sessions of two apps that one proxy stands before. */
function joined(...apps) {
  return {
    sessions: {
      get: (id) => apps.map((app) => app.sessions.get(id)).find((session) => session !== undefined),
      subscribe(listener) {
        const stops = apps.map((app) => app.sessions.subscribe(listener))
        return () => stops.forEach((stop) => stop())
      },
    },
  }
}
