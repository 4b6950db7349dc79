/**
 * Runs what is tested of `app.fetch` on another runtime, in the HTTP server of that runtime: `npm run check:deno`, `npm run check:bun`. The suites
 * of the wire, of official clients and of the per-request leg run inside the runtime, which comes from npm into a temporary folder.
 * Prints a line per test that fails; those that its server explains are named below, and any other makes the run fail.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { check, expectEqual, failures, textOf, within } from './checks.mjs'
import { ensureBuilt } from './ensure.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const SUITES = ['test/wire', 'test/clients', 'test/per-request']

const REFUSED_BODIES = [
  'it reads on after the answer to a body that was refused, and does not cut the connection',
  [
    'limit 4 MiB: an endless chunked body is 413, and no more of it is kept',
    'limit 4 MiB: a refused connection goes away 2 s later even if the client goes on for ever',
    'deadline 30 s: a body that has not arrived by then is 408, however it trickles',
  ],
]
const CONNECTION = [
  'it says nothing of `Connection: keep-alive`, and keeps connections alive all the same',
  [
    'a connection serves one POST after the other',
    'a body in one byte after the other is a body',
    'what frames the answer is not taken from the hook, which may pass on what it fetched',
  ],
]

const RUNTIMES = {
  deno: {
    package: 'deno',
    version: '^2.9.6',
    // Deno runs the install script of no package; its own binary is a dependency of its package.
    arguments: ['run', '--allow-all', '--no-remote'],
    exempt: [
      REFUSED_BODIES,
      CONNECTION,
      [
        'a timer that comes late is not preceded by a look for waiting input: Node’s event loop has that to offer, not the Web',
        ['a timer that comes late first lets waiting sockets be read'],
      ],
      [
        'a target with a scheme other than http is answered 400 by the server itself, not 500',
        ['a target that is neither is refused: ftp://127.0.0.1/mcp'],
      ],
    ],
  },
  bun: {
    package: 'bun',
    version: '^1.4.5',
    arguments: ['--bun'],
    exempt: [
      REFUSED_BODIES,
      CONNECTION,
      [
        'the head of a stream leaves with its first bytes: where revisions before 2025-11-25 have no first event, with the first message or keep-alive',
        [
          'hear what their server declared, and of resources they subscribed to',
          'that unsubscribed hear no more; a session that has ended is no obstacle',
          '2025-06-18: the head goes out at once, in one packet; nothing else',
          '2025-03-26: the head goes out at once, in one packet; nothing else',
          '2024-11-05: the head goes out at once, in one packet; nothing else',
          'without an event log it only gets what is live',
          '2025-06-18: a GET is rotated (retry, then the end) and resumed without loss',
          '2025-03-26: a GET is rotated (retry, then the end) and resumed without loss',
          'one that takes longer than a keep-alive interval becomes a stream that shows that it lives',
        ],
      ],
      [
        'the bytes of a stream are cut into packets as it likes',
        ['always streams: head, priming, the answer and the end in one write'],
      ],
      [
        'its Response.json adds a charset, so that the official handler, which these compare with, differs from itself on Node',
        [
          '-32602: no envelope',
          '-32020: header and body disagree',
          '-32020: the method header disagrees',
          'a batch with one of this revision in it',
          "protocolEras: 'modern': GET",
          "protocolEras: 'modern': DELETE",
          "protocolEras: 'modern': -32602: no envelope",
          "protocolEras: 'modern': -32020: header and body disagree",
          "protocolEras: 'modern': -32020: the method header disagrees",
          "protocolEras: 'modern': a batch with one of this revision in it",
        ],
      ],
    ],
  },
}

const name = process.argv[2]
if (name === undefined || !Object.hasOwn(RUNTIMES, name)) {
  console.error(`usage: node scripts/check-runtime.mjs ${Object.keys(RUNTIMES).join('|')}`)
  process.exit(2)
}
const runtime = RUNTIMES[name]
const folder = mkdtempSync(join(tmpdir(), `sojourn-${name}-`))
try {
  process.exitCode = await run()
} finally {
  rmSync(folder, { recursive: true, force: true })
}

async function run() {
  // The binary is put into its place by an install script, which newer versions of npm want named.
  const manifest = { private: true, allowScripts: { [runtime.package]: true } }
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest))
  execFileSync('npm', ['install', '--no-audit', '--no-fund', `${runtime.package}@${runtime.version}`], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const binary = join(folder, 'node_modules/.bin', name)
  console.log(execFileSync(binary, ['--version'], { encoding: 'utf8' }).split('\n', 1)[0])

  await checkPackage(binary)

  const report = join(folder, 'report.json')
  const vitest = join(root, 'node_modules/vitest/vitest.mjs')
  const reporting = ['--reporter=json', `--outputFile=${report}`]
  const ran = spawnSync(
    binary,
    [...runtime.arguments, vitest, 'run', '--project', 'node', ...reporting, ...SUITES],
    { cwd: root, env: { ...process.env, SOJOURN_FACE: name }, stdio: 'ignore', timeout: 300_000 },
  )
  if (ran.error !== undefined) throw ran.error

  const { testResults } = JSON.parse(readFileSync(report, 'utf8'))
  const broken = testResults.filter((file) => file.assertionResults.length === 0)
  const tests = testResults.flatMap((file) => file.assertionResults)
  const count = (status) => tests.filter((test) => test.status === status).length
  const reasons = new Map(
    runtime.exempt.flatMap(([reason, titles]) => titles.map((title) => [title, reason])),
  )
  let unexpected = 0
  for (const { status, title, fullName, failureMessages } of tests) {
    if (status !== 'failed') continue
    const reason = reasons.get(title)
    if (reason === undefined) unexpected += 1
    const said = String(failureMessages[0]).split('\n', 1)[0]
    console.log(reason === undefined ? `FAIL    ${fullName}: ${said}` : `exempt  ${title}: ${reason}`)
  }
  for (const { name: file, message } of broken) console.log(`FAIL    ${file}: ${message}`)
  console.log(
    `${name}: ${count('passed')} passed, ${unexpected + broken.length} failed, ${count('failed') - unexpected} exempt, ${tests.length} in all`,
  )
  return unexpected + broken.length + failures() === 0 && count('passed') > 900 ? 0 : 1
}

/** The built package in the runtime's server, called by official clients from here. */
async function checkPackage(binary) {
  ensureBuilt()
  const server = spawn(binary, [...runtime.arguments, join(root, 'scripts/runtime-server.mjs')], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const [url] = await within(20_000, 'the start', once(createInterface({ input: server.stdout }), 'line'))
    const identity = { name: 'check-runtime', version: '1.0.0' }
    const modern = { versionNegotiation: { mode: 'auto' } }
    for (const [what, client, transport] of [
      ['v1', new ClientV1(identity), new TransportV1(new URL(url))],
      ['v2', new Client(identity), new StreamableHTTPClientTransport(new URL(url))],
      ['v2, mode auto', new Client(identity, modern), new StreamableHTTPClientTransport(new URL(url))],
    ]) {
      await check(`the built package, the official client ${what}`, async () => {
        await within(5000, 'connecting', client.connect(transport))
        const called = client.callTool({ name: 'echo', arguments: { text: what } })
        expectEqual(textOf(await within(5000, 'the call', called)), what)
        await client.close()
        return transport.sessionId === undefined ? 'without a session' : 'in a session'
      })
    }
    await check('a session that is idle for longer than sessionIdleTimeout is gone', async () => {
      const client = new Client(identity)
      const transport = new StreamableHTTPClientTransport(new URL(url))
      await client.connect(transport)
      const { sessionId } = transport
      await client.close()
      const headers = { accept: 'text/event-stream', 'mcp-session-id': sessionId }
      // A request each time would keep the session: one look, well after its time.
      await delay(2000)
      return expectEqual((await fetch(url, { headers })).status, 404)
    })
  } finally {
    server.kill('SIGKILL')
  }
}
