/** Parity with the framework threading of FastMCP (#3443, #4446): the timeout reaches the manager from everywhere, shown by what happens. */

import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

import { describe, expect, onTestFinished, test, vi } from 'vitest'

import { httpApp } from '../../src/http-app.ts'
import { runHttp } from '../../src/run-http.ts'
import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import type { Sessions } from '../../src/session/sessions.ts'
import { resolveOptions } from '../../src/options.ts'
import { settings } from '../../src/settings.ts'
import { directoryWith, startCli } from '../cli/run-cli.ts'
import { FakeServer } from '../support/fake-server.ts'
import { initialize, notification, post, rpc } from '../support/mcp-wire.ts'
import { RawConnection } from '../support/raw-http.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

const clock = {
  now: () => performance.now(),
  after(delay: number, callback: () => void) {
    const handle = setTimeout(callback, delay)
    return { cancel: () => clearTimeout(handle) }
  },
}

const build = (): FakeServer => new FakeServer({ clock, tag: 'fake' })

/** Uses a session of the server at this port; gives how long it then says it will be idle. */
async function expiryOf(port: number, sessions: Sessions): Promise<number> {
  const connection = await RawConnection.open(port)
  onTestFinished(() => connection.destroy())
  const opened = await connection.request(post(initialize()))
  await opened.text()
  const headers = { 'Mcp-Session-Id': opened.header('mcp-session-id') ?? '' }
  await (await connection.request(post(notification('notifications/initialized'), headers))).ended()
  await (await connection.request(post(rpc('tools/list'), headers))).text()
  const session = sessions.get(headers['Mcp-Session-Id'])
  while (session?.state === 'active') await new Promise((resolve) => setImmediate(resolve))
  return session?.expiresIn ?? Number.NaN
}

/** About so many milliseconds: some have passed since. */
function expectAbout(actual: number, expected: number): void {
  expect(actual).toBeLessThanOrEqual(expected)
  expect(actual).toBeGreaterThan(expected - 5000)
}

async function listen(listener: RequestListener): Promise<number> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

function withEnvironment(value: string): void {
  vi.stubEnv('SOJOURN_SESSION_IDLE_TIMEOUT', value)
  onTestFinished(() => void vi.unstubAllEnvs())
}

/** A `sojourn serve` whose session is used; resolves with the time it was idle when it ended. */
async function idleOfCli(flags: readonly string[], env: Record<string, string> = {}): Promise<number> {
  const server = `
    import { FakeServer } from ${JSON.stringify(new URL('../support/fake-server.ts', import.meta.url).pathname)}
    const clock = { now: () => performance.now(), after: (delay, call) => { const timer = setTimeout(call, delay); return { cancel: () => clearTimeout(timer) } } }
    export default () => new FakeServer({ clock, tag: 'fake' })
  `
  const cwd = directoryWith({ 'server.ts': server })
  const cli = startCli(['serve', 'server.ts', '--port', '0', '--log-format', 'json', ...flags], { cwd, env })
  const [, port] = await cli.until('stdout', /http:\/\/127\.0\.0\.1:(\d+)\/mcp/)
  const connection = await RawConnection.open(Number(port))
  onTestFinished(() => connection.destroy())
  const opened = await connection.request(post(initialize()))
  await opened.text()
  const headers = { 'Mcp-Session-Id': opened.header('mcp-session-id') ?? '' }
  const since = performance.now()
  await (await connection.request(post(rpc('tools/list'), headers))).text()
  const [line] = await cli.until('stderr', /\{[^\n]*"reason":"idle"[^\n]*\}/)
  const idle = performance.now() - since
  expect(JSON.parse(line)).toMatchObject({ session: headers['Mcp-Session-Id'].slice(0, 8), reason: 'idle' })
  expect((await connection.request(post(rpc('tools/list'), headers))).status).toBe(404)
  return idle
}

describe('a setting with an environment variable: SOJOURN_SESSION_IDLE_TIMEOUT, default 30 min', () => {
  test('through resolveOptions', () => {
    expect(resolveOptions({}, { SOJOURN_SESSION_IDLE_TIMEOUT: '7s' }).sessionIdleTimeout).toBe(7000)
    expect(resolveOptions({}, {}).sessionIdleTimeout).toBe(30 * 60_000)
    expect(resolveOptions({}, { SOJOURN_SESSION_IDLE_TIMEOUT: '' }).sessionIdleTimeout).toBe(30 * 60_000)
    expect(() => resolveOptions({}, { SOJOURN_SESSION_IDLE_TIMEOUT: '5' })).toThrow(
      "SOJOURN_SESSION_IDLE_TIMEOUT=5: is that 5 ms or 5 s? write '5ms' or '5s'",
    )
  })

  test('through the command line', async () => {
    const idle = await idleOfCli([], { SOJOURN_SESSION_IDLE_TIMEOUT: '300ms' })
    expect(idle).toBeGreaterThanOrEqual(300)
    expect(idle).toBeLessThan(10_000)
  })
})

describe('http_app(session_idle_timeout=…) falls back to the setting, and overrides it: httpApp', () => {
  test('falls back to the setting', async () => {
    withEnvironment('40m')
    const app = httpApp(build)
    expectAbout(await expiryOf(await listen(app.node), app.sessions), 40 * 60_000)
    await app.close()
  })

  test('overrides it', async () => {
    withEnvironment('40m')
    const app = httpApp(build, { sessionIdleTimeout: '50m' })
    expectAbout(await expiryOf(await listen(app.node), app.sessions), 50 * 60_000)
    await app.close()
  })
})

test('create_streamable_http_app passes it on: StreamableHTTPSessionManager takes the same options object', async () => {
  withEnvironment('40m')
  const options = { sessionIdleTimeout: '45m', jsonResponse: true, maxSessions: 1 }
  const manager = new StreamableHTTPSessionManager(build, options)
  const port = await listen((req, res) => manager.handleRequest(req, res))
  expectAbout(await expiryOf(port, manager.sessions), 45 * 60_000)
  // The rest of the object arrived as well.
  const connection = await RawConnection.open(port)
  onTestFinished(() => connection.destroy())
  expect((await connection.request(post(initialize()))).status).toBe(503)
  await manager.close()
  const plain = new StreamableHTTPSessionManager(build)
  expectAbout(
    await expiryOf(await listen((req, res) => plain.handleRequest(req, res)), plain.sessions),
    40 * 60_000,
  )
  await plain.close()
})

describe('run_http_async and the CLI: runHttp and every CLI flag', () => {
  test('runHttp', async () => {
    withEnvironment('40m')
    const handle = await runHttp(build, { port: 0, handleSignals: false, sessionIdleTimeout: '55m' })
    onTestFinished(() => handle.close())
    expectAbout(await expiryOf(Number(new URL(handle.url).port), handle.app.sessions), 55 * 60_000)
  })

  test('the flag, which overrides the environment', async () => {
    const idle = await idleOfCli(['--session-idle-timeout', '300ms'], { SOJOURN_SESSION_IDLE_TIMEOUT: '10m' })
    expect(idle).toBeGreaterThanOrEqual(300)
    expect(idle).toBeLessThan(10_000)
  })

  test('every setting of the app has a flag and a variable', () => {
    for (const { key, flag, env } of settings) {
      expect(flag, key).toMatch(/^[a-z]+(-[a-z]+)*$/)
      expect(env[0], key).toBe(`SOJOURN_${flag.toUpperCase().replaceAll('-', '_')}`)
    }
    expect(settings.map(({ flag }) => flag)).toContain('session-idle-timeout')
  })
})

describe('a bad value fails when the app is made', () => {
  const makers: Record<string, (options: object) => unknown> = {
    httpApp: (options) => httpApp(() => new FakeServer({ clock: new VirtualClock(), tag: 'fake' }), options),
    StreamableHTTPSessionManager: (options) => new StreamableHTTPSessionManager(build, options),
    resolveOptions: (options) => resolveOptions(options, {}),
  }
  test.each(Object.keys(makers))('%s', (name) => {
    const make = (): unknown => makers[name]?.({ sessionIdleTimeout: -5 })
    expect(make).toThrow(RangeError)
    expect(make).toThrow(
      "sessionIdleTimeout must be a positive duration such as '30m' or 1800000 (ms), got -5",
    )
  })

  test('runHttp: before it listens', async () => {
    await expect(runHttp(build, { port: 0, sessionIdleTimeout: -5 })).rejects.toThrow(RangeError)
  })

  test('the command line: exit code 2, one paragraph', async () => {
    const cwd = directoryWith({ 'server.ts': 'export default () => ({})' })
    const cli = startCli(['serve', 'server.ts', '--session-idle-timeout', '5'], { cwd })
    expect(await cli.exit()).toBe(2)
    expect(cli.stderr).toContain("--session-idle-timeout=5: is that 5 ms or 5 s? write '5ms' or '5s'")
    expect(cli.stdout).toBe('')
  })
})
