/**
 * Runs sojourn behind a real nginx on loopback and prints a line per check: `npm run check:nginx`. What docs/guides/behind-a-proxy.md says is
 * what this shows. nginx's read timeout is 2 s here instead of its 60, and the interval of keep-alives a quarter of it, as 15 s are of
 * 60; `npm run check:nginx -- --read-timeout 60` takes a minute and a half and runs with the defaults of both.
 *
 * nginx is installed by apt-get where it is missing and this runs as root; it runs without privileges in either case.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { callWait, closeAll, expect, freePort, listening, open, seconds, send, serve } from './proxies.mjs'

const { values } = parseArgs({ options: { 'read-timeout': { type: 'string', default: '2' } } })
const readTimeout = Number(values['read-timeout']) * 1000
if (!(readTimeout >= 1000)) {
  console.error('--read-timeout takes whole seconds, at least 1')
  process.exit(2)
}
const keepAliveInterval = readTimeout / 4
/** Longer than nginx lets a silent upstream live. */
const quiet = readTimeout * 1.5
/** What may pass between sending an event and its arrival where nothing holds it back. */
const prompt = 500
const NOBODY = 65_534

let failures = 0
async function check(name, body) {
  try {
    console.log(`ok    ${name}: ${await body()}`)
  } catch (error) {
    failures += 1
    console.log(`FAIL  ${name}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

// ── nginx ──

function ensureNginx() {
  const found = spawnSync('nginx', ['-v'], { encoding: 'utf8' })
  if (found.error === undefined) return found.stderr.trim().replace('nginx version: ', '')
  if (process.getuid?.() !== 0) {
    console.error('nginx is not installed, and only root can install it')
    process.exit(2)
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  execFileSync('apt-get', ['update', '-qq'], { stdio: 'ignore', env })
  execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'nginx'], {
    stdio: 'ignore',
    env,
  })
  return ensureNginx()
}

function configuration(folder, port, upstreams) {
  const http11 = 'proxy_http_version 1.1; proxy_set_header Connection "";'
  const location = ([name, { upstream, version = http11, extra = '' }]) => `
    location = /${name} {
      proxy_pass http://127.0.0.1:${upstream}/mcp;
      ${version}
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_read_timeout ${readTimeout}ms;
      client_max_body_size 4m;
      ${extra}
    }`
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log;
events { worker_connections 256; }
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join('\n  ')}
  server {
    listen 127.0.0.1:${port};
    ${Object.entries(upstreams).map(location).join('')}
  }
}
`
}

// ── The checks ──

const version = ensureNginx()
console.log(
  `${version}, proxy_read_timeout ${seconds(readTimeout)}, keep-alives every ${seconds(keepAliveInterval)}`,
)

const folder = mkdtempSync(join(tmpdir(), 'sojourn-nginx-'))
chmodSync(folder, 0o777) // for nobody, who runs nginx where we are root
const steady = await serve({ keepAliveInterval, trustedProxies: 1 })
const silent = await serve({ keepAliveInterval: Infinity })
const rotating = await serve({ keepAliveInterval, streamMaxAge: 700, retryInterval: 50 })
const stranger = await serve({ keepAliveInterval, allowedHosts: [] })
const port = await freePort()
const file = join(folder, 'nginx.conf')
writeFileSync(
  file,
  configuration(folder, port, {
    mcp: { upstream: steady.port },
    // Older versions of nginx speak HTTP/1.0 to what is behind them unless told otherwise.
    defaults: { upstream: steady.port, version: 'proxy_http_version 1.0;' },
    buffered: {
      upstream: steady.port,
      version: 'proxy_http_version 1.0;',
      extra: 'proxy_ignore_headers X-Accel-Buffering;',
    },
    unbuffered: {
      upstream: steady.port,
      version: 'proxy_http_version 1.0;',
      extra: 'proxy_ignore_headers X-Accel-Buffering; proxy_buffering off;',
    },
    silent: { upstream: silent.port },
    rotating: { upstream: rotating.port },
    stranger: { upstream: stranger.port },
  }),
)
mkdirSync(join(folder, 'logs'))
const asNobody = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {}
const nginx = spawn('nginx', ['-p', folder, '-c', file, '-e', join(folder, 'error.log')], {
  ...asNobody,
  stdio: 'ignore',
})
const exited = once(nginx, 'exit')

async function openGet(path, { app }, lastEventId, session) {
  const id = session ?? (await open(port, path))
  const stream = await send(port, path, { method: 'GET', session: id, lastEventId })
  expect(stream.status === 200, `the GET was answered ${stream.status}`)
  return {
    id,
    stream,
    push: (text) => app.sessions.get(id)?.notify('notifications/message', { level: 'info', data: text }),
  }
}

try {
  await listening(port, nginx)

  await Promise.all([
    check(
      'a quiet GET stream outlives the read timeout, and what is pushed then is there at once',
      async () => {
        const { stream, push } = await openGet('mcp', steady)
        await Promise.race([delay(quiet), stream.ended])
        const sent = performance.now()
        push('after the quiet')
        const event = await stream.event('after the quiet', prompt)
        stream.close()
        expect(event !== undefined, 'the event did not come')
        return `${seconds(quiet)} of quiet, then ${Math.round(event.at - sent)} ms`
      },
    ),

    check('a call longer than the read timeout is answered on its own connection', async () => {
      const started = performance.now()
      const answer = await callWait(port, 'mcp', await open(port, 'mcp'), quiet)
      const event = await answer.event('waited', quiet + 5000)
      answer.close()
      expect(event !== undefined, 'the connection ended without an answer')
      return `after ${seconds(event.at - started)}`
    }),

    check('without keep-alives nginx cuts the GET stream', async () => {
      const started = performance.now()
      const { stream } = await openGet('silent', silent)
      const ended = await Promise.race([stream.ended, delay(readTimeout + 5000)])
      stream.close()
      expect(ended !== undefined, 'it was not cut')
      return `after ${seconds(ended - started)}`
    }),

    check('without keep-alives it cuts the call; the answer waits, and a resume fetches it', async () => {
      const session = await open(port, 'silent')
      const answer = await callWait(port, 'silent', session, quiet)
      const event = await answer.event('waited', quiet + 5000)
      expect(event === undefined, 'it was answered')
      const lastEventId = answer.events[0]?.id
      const resumed = await send(port, 'silent', { method: 'GET', session, lastEventId })
      const late = await resumed.event('waited', quiet)
      resumed.close()
      expect(late !== undefined, 'the resume brought no answer')
      return 'cut, resumed, answered'
    }),

    check(
      'over HTTP/1.0 as well, nginx passes events on at once, since X-Accel-Buffering says so',
      async () => {
        const { stream, push } = await openGet('defaults', steady)
        const sent = performance.now()
        push('passed on')
        const event = await stream.event('passed on', prompt)
        stream.close()
        expect(event !== undefined, 'the event did not come')
        return `${Math.round(event.at - sent)} ms`
      },
    ),

    check('told to ignore X-Accel-Buffering, it holds back even the head', async () => {
      const id = await open(port, 'mcp')
      const head = openGet('buffered', steady, undefined, id).catch(() => {})
      const came = await Promise.race([head, delay(readTimeout)])
      expect(came === undefined, 'the head came')
      return `not there after ${seconds(readTimeout)}`
    }),

    check('… unless proxy_buffering is off', async () => {
      const { stream, push } = await openGet('unbuffered', steady)
      const sent = performance.now()
      push('not held back')
      const event = await stream.event('not held back', prompt)
      stream.close()
      expect(event !== undefined, 'the event did not come')
      return `${Math.round(event.at - sent)} ms`
    }),

    check('streams rotate without loss: streamMaxAge', async () => {
      const { id, stream: first, push } = await openGet('rotating', rotating)
      let stream = first
      let connections = 1
      const got = []
      let cursor
      const total = 30
      const pushing = (async () => {
        for (let n = 0; n < total; n += 1) {
          push(`event ${n}.`)
          await delay(70)
        }
      })()
      const last = `event ${total - 1}.`
      while (connections < 20) {
        const found = await stream.event(last, 10_000)
        for (const event of stream.events) {
          cursor = event.id ?? cursor
          const number = /event (\d+)\./.exec(event.data)?.[1]
          if (number !== undefined) got.push(Number(number))
        }
        stream.close()
        if (found !== undefined) break
        stream = (await openGet('rotating', rotating, cursor, id)).stream
        connections += 1
      }
      await pushing
      expect(got.join() === Array.from({ length: total }, (_, n) => n).join(), `got ${got.join()}`)
      expect(connections > 2, 'the stream did not rotate')
      return `${total} events, each once and in order, over ${connections} connections`
    }),

    check('trustedProxies: the address is the one nginx saw, not one the client made up', async () => {
      const addresses = []
      const stop = steady.app.sessions.subscribe((event) => {
        if (event.type === 'session.opened') addresses.push(event.address)
      })
      await open(port, 'mcp', { localAddress: '127.0.0.7', headers: { 'x-forwarded-for': '203.0.113.9' } })
      stop()
      expect(addresses.includes('127.0.0.7'), `got ${addresses.join()}`)
      expect(!addresses.includes('203.0.113.9'), 'a made-up address was believed')
      return '127.0.0.7'
    }),

    check('a public Host that allowedHosts does not name is refused', async () => {
      const answer = await send(port, 'stranger', { body: { jsonrpc: '2.0', id: 1, method: 'ping' } })
      expect(answer.status === 403, `it was answered ${answer.status}`)
      return (await answer.text()).slice(0, 120)
    }),
  ])
} catch (error) {
  failures += 1
  console.log(`FAIL  ${error instanceof Error ? error.message : String(error)}`)
} finally {
  nginx.kill('SIGTERM')
  await exited
  await closeAll()
  if (failures > 0) console.log(`\nnginx's error log:\n${readFileSync(join(folder, 'error.log'), 'utf8')}`)
  rmSync(folder, { recursive: true })
}
process.exit(failures === 0 ? 0 : 1)
