/** The command line as a process: what it prints where, and its exit codes. */

import { createServer as createHttpServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import { describe, expect, it, onTestFinished } from 'vitest'

import { settings } from '../../src/settings.ts'
import { directoryWith, runCli, type RunningCli, startCli } from './run-cli.ts'

/** A server of one tool, which takes as many milliseconds as it is told to. */
const SERVER = `
export default () => ({
  async connect(transport) {
    transport.onmessage = ({ id, method, params }) => {
      if (id === undefined) return
      const answer = (result) => transport.send({ jsonrpc: '2.0', id, result })
      if (method !== 'initialize') return setTimeout(answer, params?.arguments?.ms ?? 0, { content: [] })
      const { protocolVersion } = params
      return answer({ protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'slow', version: '1' } })
    }
    await transport.start()
  },
  async close() {},
})
`

interface Answer {
  status: number
  session: string
  body: { result?: unknown; error?: { message: string } }
}

async function send(url: string, message: object, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Accept: 'application/json, text/event-stream',
      ...headers,
    },
    body: JSON.stringify({ jsonrpc: '2.0', ...message }),
  })
  const text = await response.text()
  const json = text.startsWith('{') ? text : (/^data: (\{.*)$/m.exec(text)?.[1] ?? '{}')
  return {
    status: response.status,
    session: response.headers.get('mcp-session-id') ?? '',
    body: JSON.parse(json) as Answer['body'],
  }
}

const INITIALIZE = {
  id: 0,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'cli\u001b[31mtest', version: '1.0' },
  },
}

const slowCall = (ms: number): object => ({
  id: 1,
  method: 'tools/call',
  params: { name: 'slow', arguments: { ms } },
})

/** Serves {@link SERVER} on a free port. */
async function startServing(...flags: string[]): Promise<{ cli: RunningCli; url: string }> {
  const cli = startCli(['serve', './server.mjs', '--port', '0', ...flags], {
    cwd: directoryWith({ 'server.mjs': SERVER }),
  })
  const [url] = await cli.until('stdout', /http:\S+/)
  return { cli, url }
}

describe('a store that cannot be used', () => {
  it.each([['json'], ['pretty'], ['silent']])('is told once: %s', async (how) => {
    const cwd = directoryWith({
      'server.mjs': SERVER,
      'bad.db': 'no database at all, and long enough to be none',
    })
    const flags = how === 'silent' ? ['--log-level', 'silent'] : ['--log-format', how]
    const { code, stdout, stderr } = await runCli(
      ['serve', './server.mjs', '--port', '0', '--store', 'sqlite:./bad.db', ...flags],
      { cwd },
    )
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr.trim().split('\n')).toHaveLength(1)
    expect(stderr).toMatch(/The session store \S+bad\.db is damaged/)
  })
})

/** The line of debugging that says that a call runs. */
const STARTED = /request\.started[^\n]*tools\/call/

const events = (cli: RunningCli): Record<string, unknown>[] =>
  cli.stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)

describe('help', () => {
  it('of serve has every setting, with its default and variables, and no color in a pipe', async () => {
    const { code, stdout, stderr } = await runCli(['serve', '--help'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).not.toContain('\u001b')
    for (const { flag, env, description } of settings) {
      expect(stdout).toContain(`--${flag}`)
      expect(stdout).toContain(env.join(' or '))
      expect(stdout).toContain(description)
    }
    expect(stdout).toContain('default 30m, SOJOURN_SESSION_IDLE_TIMEOUT')
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(130)
  })

  it.each([
    [['--help'], /Usage\n {2}sojourn serve <module>/],
    [['settings', '--help'], /Usage\n {2}sojourn settings/],
    [['--version'], /^\d+\.\d+\.\d+\S*\n$/],
  ])('%j', async (args, pattern) => {
    const { code, stdout, stderr } = await runCli(args)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(pattern)
  })
})

describe('wrong usage ends with 2 and one paragraph', () => {
  it.each<[string[], Record<string, string>, string]>([
    [['srve'], {}, 'there is no command srve. Did you mean serve? `sojourn --help` tells more.'],
    [['./server.ts'], {}, './server.ts is no command. Did you mean: sojourn serve ./server.ts?'],
    [
      ['serve', 'a.ts', '--prot', '0'],
      {},
      'sojourn serve has no flag --prot. Did you mean --port? `sojourn serve --help` lists all.',
    ],
    [
      ['serve', 'a.ts', '--session-idle-timeout', '1800'],
      {},
      "--session-idle-timeout=1800: is that 1800 ms or 1800 s? write '1800ms' or '1800s' (30m)",
    ],
    [
      ['settings'],
      { SOJOURN_SESSION_IDLE_TIMEOUT: '1800' },
      "SOJOURN_SESSION_IDLE_TIMEOUT=1800: is that 1800 ms or 1800 s? write '1800ms' or '1800s' (30m)",
    ],
    [
      ['serve', 'a.ts', '--stateless', '--session-idle-timeout', '5m'],
      {},
      '--stateless and --session-idle-timeout exclude each other: a stateless server keeps no session that could be idle. Leave one out',
    ],
    [
      ['serve', 'a.ts'],
      { HOST: '0.0.0.0' },
      "HOST '0.0.0.0' is reachable from other machines: name the hosts this server answers to with --allowed-hosts, " +
        "such as 'mcp.example.com', or 'any' if a proxy in front checks the Host header",
    ],
  ])('%j %j', async (args, env, message) => {
    expect(await runCli(args, { env })).toEqual({ code: 2, stdout: '', stderr: `sojourn: ${message}\n` })
  })

  it('also without any command, with the overview', async () => {
    const { code, stdout, stderr } = await runCli([])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/^sojourn: a command is missing\.\n\nsojourn: serves MCP/)
  })
})

describe('a failure at run time ends with 1 and one paragraph', () => {
  const cwd = (): string =>
    directoryWith({ 'throws.ts': 'throw new Error("no database")', 'server.mjs': SERVER })

  it('a module that cannot be loaded', async () => {
    expect(await runCli(['serve', 'throws.ts'], { cwd: cwd() })).toEqual({
      code: 1,
      stdout: '',
      stderr: 'sojourn: Cannot load throws.ts: no database.\n',
    })
  })

  it('a module that never finishes loading', async () => {
    const directory = directoryWith({
      'stuck.mjs': 'await new Promise(() => {})',
      'stuck.ts': 'await new Promise(() => {})',
    })
    for (const name of ['stuck.mjs', 'stuck.ts']) {
      const message = `sojourn: Cannot load ${name}: its top-level await never ends.\n`
      expect(await runCli(['serve', name], { cwd: directory })).toEqual({
        code: 1,
        stdout: '',
        stderr: message,
      })
    }
  })

  it('with the stack when debugging', async () => {
    const { code, stderr } = await runCli(['serve', 'throws.ts', '--log-level', 'debug'], { cwd: cwd() })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^sojourn: Cannot load throws\.ts: no database\.\n[^]*\n {4}at [^]*throws\.ts:1/)
  })

  it('a port in use', async () => {
    const other = createHttpServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void other.close())
    const { port } = other.address() as AddressInfo
    expect(await runCli(['serve', 'server.mjs'], { cwd: cwd(), env: { PORT: String(port) } })).toEqual({
      code: 1,
      stdout: '',
      stderr: `sojourn: Cannot listen on 127.0.0.1:${port}: it is in use. Stop the program that uses it, or choose another port (0 takes a free one).\n`,
    })
  })

  it('a token file that is wrong, without showing a token', async () => {
    const directory = directoryWith({ 'server.mjs': SERVER, 'tokens.json': '{"sesame": {"client": }}' })
    const { code, stderr } = await runCli(['serve', 'server.mjs', '--auth-tokens', 'tokens.json'], {
      cwd: directory,
    })
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'sojourn: the token file tokens.json is not JSON\n' })
  })
})

describe('settings', () => {
  it('are shown with where they came from', async () => {
    const { code, stdout } = await runCli(['settings', '--port', '8080'], {
      env: { SOJOURN_SESSION_IDLE_TIMEOUT: '90s' },
    })
    expect(code).toBe(0)
    const lines = stdout.split('\n').map((line) => line.split(/ {2,}/))
    expect(lines).toContainEqual(['port', '8080', 'flag --port'])
    expect(lines).toContainEqual(['session-idle-timeout', '90s', 'environment SOJOURN_SESSION_IDLE_TIMEOUT'])
    expect(lines).toContainEqual(['session-max-age', 'Infinity', 'default'])
    expect(lines).toContainEqual(['auth-tokens', 'none', 'default'])
  })

  it('are JSON for programs', async () => {
    const { stdout } = await runCli(['settings', '--json', '--allowed-hosts', 'a.example,b.example'], {
      env: { PORT: '8080' },
    })
    const shown = JSON.parse(stdout) as Record<string, unknown>
    expect(Object.keys(shown)).toEqual(settings.map(({ key }) => key))
    expect(shown).toMatchObject({
      port: {
        value: 8080,
        origin: 'environment',
        name: 'PORT',
        flag: '--port',
        env: ['SOJOURN_PORT', 'PORT'],
      },
      allowedHosts: { value: ['a.example', 'b.example'], origin: 'flag', name: '--allowed-hosts' },
      sessionIdleTimeout: { value: '30m', origin: 'default' },
      sessionMaxAge: { value: 'Infinity' },
      maxBodySize: { value: '4MiB' },
      stateless: { value: false },
      socket: { value: null },
    })
  })
})

describe('serving', () => {
  it('prints the URL alone on stdout, logs JSON lines, drains at SIGTERM and ends with 0', async () => {
    // The call that runs at SIGTERM is answered as one JSON body, however long a busy machine takes to get there: no stream is counted.
    const { cli, url } = await startServing('--log-level', 'debug', '--json-response-window', '10s')
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/mcp$/)
    const opened = await send(url, INITIALIZE)
    expect(opened.status).toBe(200)
    const headers = { 'Mcp-Session-Id': opened.session }
    expect((await send(url, { id: 5, method: 'tools/list' }, headers)).status).toBe(200)

    const call = send(url, slowCall(700), headers)
    await cli.until('stderr', STARTED)
    cli.child.kill('SIGTERM')
    await cli.until('stderr', /"draining"/)
    expect(await call).toMatchObject({ status: 200, body: { result: { content: [] } } })
    expect(await cli.exit()).toBe(0)

    expect(cli.stdout).toBe(`${url}\n`)
    expect(cli.stderr).not.toContain(opened.session)
    const session = opened.session.slice(0, 8)
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string
    expect(events(cli).filter(({ level }) => level === 'info')).toMatchObject([
      {
        event: 'session.opened',
        level: 'info',
        session,
        time,
        client: { name: 'cli?[31mtest', version: '1.0' },
      },
      {
        event: 'request.ended',
        session,
        time,
        method: 'tools/list',
        outcome: 'ok',
        durationMs: expect.any(Number) as number,
      },
      {
        event: 'draining',
        running: 1,
        streams: 0,
        sessions: 1,
        msg: 'draining, 1 call running, 0 streams open; signal again to stop at once',
      },
      { event: 'request.ended', method: 'tools/call', name: 'slow', outcome: 'ok' },
      { event: 'stopped', time, aborted: 0, durationMs: expect.any(Number) as number },
    ])
  })

  it.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)('ends at once at a second %s, with %d', async (signal, code) => {
    const { cli, url } = await startServing('--log-level', 'debug')
    const { session } = await send(url, INITIALIZE)
    const call = send(url, slowCall(60_000), { 'Mcp-Session-Id': session }).catch(() => 'cut')
    await cli.until('stderr', STARTED)
    cli.child.kill(signal)
    await cli.until('stderr', /"draining"/)
    // A signal that comes again at once is the same one, so the second is a real moment later: time itself is under test.
    await new Promise((resolve) => setTimeout(resolve, 300))
    cli.child.kill(signal)
    expect(await cli.exit()).toBe(code)
    expect(await call).toBe('cut')
  })

  it('tells people in lines, when they are wanted', async () => {
    const { cli, url } = await startServing('--log-format', 'pretty', '--session-idle-timeout', '1s')
    const { session } = await send(url, INITIALIZE)
    const headers = { 'Mcp-Session-Id': session }
    await send(url, { method: 'notifications/initialized' }, headers)
    await send(url, slowCall(10), headers)
    await cli.until('stderr', /ended: idle/)
    cli.child.kill('SIGINT')
    expect(await cli.exit()).toBe(0)
    const id = session.slice(0, 8)
    const lines = cli.stderr.split('\n').map((line) => line.slice('00:00:00 '.length))
    expect(lines).toEqual([
      `${id} opened by cli?[31mtest 1.0 (2025-11-25)`,
      expect.stringMatching(`^${id} tools/call slow \\d+ ms$`),
      expect.stringMatching(`^${id} idle, ends in \\d+ ms$`),
      expect.stringMatching(`^${id} ended: idle, after 1\\.\\d s and 1 call$`),
      'draining, 0 calls running, 0 streams open; signal again to stop at once',
      expect.stringMatching(/^stopped after [\d.]+ m?s$/),
      '',
    ])
  })

  it('lives on when the factory throws, and says so without a stack', async () => {
    const cwd = directoryWith({
      'server.ts': 'let calls = 0\nexport default () => { throw new Error(`no database ${++calls}`) }',
    })
    const cli = startCli(['serve', 'server.ts', '--port=0'], { cwd })
    const [url] = await cli.until('stdout', /http:\S+/)
    expect((await send(url, INITIALIZE)).status).toBe(500)
    expect((await send(url, INITIALIZE)).status).toBe(500)
    await cli.until('stderr', /no database 2/)
    cli.child.kill('SIGTERM')
    expect(await cli.exit()).toBe(0)
    expect(cli.stderr).not.toMatch(/\bat .*server\.ts/)
  })

  it('lives on when the module forgets a promise, and when nobody reads its log', async () => {
    const server = `setTimeout(() => Promise.reject(new Error('forgotten')), 50)\n${SERVER}`
    const cli = startCli(['serve', 'server.mjs', '--port=0'], {
      cwd: directoryWith({ 'server.mjs': server }),
    })
    const [url] = await cli.until('stdout', /http:\S+/)
    await cli.until('stderr', /nobody handled it: forgotten/)
    cli.child.stderr?.destroy()
    for (let session = 0; session < 3; session++) expect((await send(url, INITIALIZE)).status).toBe(200)
    cli.child.kill('SIGTERM')
    expect(await cli.exit()).toBe(0)
  })

  it('lets in who brings a token of the file', async () => {
    const tokens = JSON.stringify({
      sesame: { issuer: 'https://issuer.example', subject: 'alice', client: 'inspector' },
    })
    const cwd = directoryWith({ 'server.mjs': SERVER, 'tokens.json': tokens })
    const cli = startCli(['serve', 'server.mjs', '--port=0', '--auth-tokens=tokens.json'], { cwd })
    const [url] = await cli.until('stdout', /http:\S+/)
    expect((await send(url, INITIALIZE)).status).toBe(401)
    expect((await send(url, INITIALIZE, { Authorization: 'Bearer wrong' })).status).toBe(401)
    expect((await send(url, INITIALIZE, { Authorization: 'Bearer sesame' })).status).toBe(200)
    cli.child.kill('SIGTERM')
    expect(await cli.exit()).toBe(0)
    expect(cli.stderr).not.toContain('sesame')
    expect(cli.stderr).toContain('alice')
  })

  it('warns of variables that are no settings', async () => {
    const cwd = directoryWith({ 'server.mjs': SERVER })
    const cli = startCli(['serve', 'server.mjs', '--port=0'], {
      cwd,
      env: { SOJOURN_SESION_IDLE_TIMEOUT: '5m' },
    })
    await cli.until(
      'stderr',
      /SOJOURN_SESION_IDLE_TIMEOUT is no setting\. Did you mean SOJOURN_SESSION_IDLE_TIMEOUT\?/,
    )
  })
})
