/** `sojourn sessions`: asks a running server through its socket, and reads the file of one that is stopped. */

import { existsSync, lstatSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'

import { describe, expect, it, onTestFinished, vi } from 'vitest'

import type { SessionDetails, SessionInfo } from '../../src/admin/session-info.ts'
import { loadSqlite } from '../../src/store/sqlite/driver.ts'
import { screenAfter } from '../support/screen.ts'
import { directoryWith, hasTerminals, runCli, startCli } from './run-cli.ts'
import type { RunningCli } from './run-cli.ts'

/** A server of one tool that never answers; it keeps what the client is called. */
const SERVER = `
export default ({ session }) => ({
  async connect(transport) {
    transport.onmessage = ({ id, method, params }) => {
      if (method !== 'initialize') return
      session.data = { secret: 'of ' + params.clientInfo.name }
      const { protocolVersion } = params
      transport.send({ jsonrpc: '2.0', id, result: { protocolVersion, capabilities: {}, serverInfo: { name: 's', version: '1' } } })
    }
    await transport.start()
  },
  async close() {},
})
`

const TOKENS = JSON.stringify({
  'alices-token': { issuer: 'https://issuer.example', subject: 'alice', client: 'app' },
})

interface Served {
  readonly cli: RunningCli
  readonly url: string
  readonly cwd: string
}

async function serve(flags: readonly string[], cwd?: string): Promise<Served> {
  const directory = cwd ?? directoryWith({ 'server.mjs': SERVER, 'tokens.json': TOKENS })
  const cli = startCli(['serve', './server.mjs', '--port', '0', ...flags], { cwd: directory })
  const [url] = await cli.until('stdout', /http:\S+/)
  return { cli, url, cwd: directory }
}

/** Opens a session; gives its id. */
async function open(url: string, name: string, headers: Record<string, string> = {}): Promise<string> {
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name, version: '1.0' } }
  const response = await post(url, { id: 0, method: 'initialize', params }, headers)
  await response.text()
  return response.headers.get('mcp-session-id') ?? ''
}

function post(url: string, message: object, headers: Record<string, string>): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Accept: 'application/json, text/event-stream',
      ...headers,
    },
    body: JSON.stringify({ jsonrpc: '2.0', ...message }),
  })
}

const STORE = ['--store', 'sqlite:./sessions.db'] as const

async function list(cwd: string, ...flags: string[]): Promise<SessionInfo[]> {
  const { code, stdout, stderr } = await runCli(['sessions', 'list', '--json', ...flags], { cwd })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout) as SessionInfo[]
}

describe('of a running server', () => {
  it('lists, shows and closes, and shows of an id only its beginning', async () => {
    const { cli, url, cwd } = await serve([...STORE, '--auth-tokens', 'tokens.json'])
    const authorization = { Authorization: 'Bearer alices-token' }
    const busy = await open(url, 'busy\u001b[31m', authorization)
    const idle = await open(url, 'idle', authorization)
    const calling = post(
      url,
      { id: 1, method: 'tools/call', params: { name: 'wait' } },
      {
        ...authorization,
        'Mcp-Session-Id': busy,
      },
    )
    await vi.waitFor(async () => expect((await list(cwd, ...STORE))[0]).toMatchObject({ calls: 1 }), {
      timeout: 10_000,
    })
    const principal = '["https://issuer.example","alice","app"]'
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string
    expect(await list(cwd, ...STORE)).toEqual([
      {
        session: busy.slice(0, 8),
        principal,
        client: { name: 'busy\u001b[31m', version: '1.0' },
        state: 'active',
        createdAt: time,
        idleSince: null,
        endsIn: null,
        calls: 1,
        streams: expect.any(Number) as number,
      },
      expect.objectContaining({
        session: idle.slice(0, 8),
        state: 'idle',
        idleSince: time,
        endsIn: expect.any(Number) as number,
      }),
    ])

    // In a pipe: no head, no color, and a tab between two cells.
    const plain = await runCli(['sessions', 'list', ...STORE], { cwd })
    expect(plain.stdout.split('\n').map((line) => line.split('\t').slice(0, 4))).toEqual([
      [busy.slice(0, 8), principal, 'busy?[31m 1.0', 'active'],
      [idle.slice(0, 8), principal, 'idle 1.0', 'idle'],
      [''],
    ])

    const shown = await runCli(['sessions', 'show', busy.slice(0, 8), ...STORE], { cwd })
    expect(shown).toMatchObject({ code: 0, stderr: '' })
    expect(shown.stdout).toMatch(/^calls running +1$/m)
    expect(shown.stdout).toMatch(/^session.data +\d+B$/m)
    expect(shown.stdout).not.toContain('secret')
    const data = await runCli(['sessions', 'show', idle.slice(0, 8), '--json', '--data', ...STORE], { cwd })
    expect((JSON.parse(data.stdout) as SessionDetails).data).toEqual({ secret: 'of idle' })

    const closed = await runCli(['sessions', 'close', busy.slice(0, 8), ...STORE], { cwd })
    expect(closed).toEqual({ code: 0, stdout: `closed ${busy.slice(0, 8)}\n`, stderr: '' })
    await cli.until('stderr', /"reason":"admin"/)
    expect(await (await calling).text()).toMatch(/"error"/)
    expect(await list(cwd, ...STORE)).toHaveLength(1)
    const again = await runCli(['sessions', 'close', busy, ...STORE], { cwd })
    expect(again).toMatchObject({ code: 1, stdout: '' })
    expect(again.stderr).toMatch(
      new RegExp(`^sojourn: There is no session ${busy.slice(0, 8)}… on the server at `),
    )

    for (const { stdout, stderr } of [plain, shown, data, closed, again]) {
      expect(stdout + stderr).not.toContain(busy)
      expect(stdout + stderr).not.toContain(idle)
      expect(stdout + stderr).not.toContain('alices-token')
    }
  }, 60_000)

  it('is asked through a socket of its user alone, which is gone when it ends', async () => {
    const { cli, url, cwd } = await serve(['--admin-socket', './admin.sock'])
    const id = await open(url, 'visitor')
    const socket = join(cwd, 'admin.sock')
    expect(lstatSync(socket).mode & 0o777).toBe(0o600)
    expect(await list(cwd, '--admin-socket', 'admin.sock')).toMatchObject([{ session: id.slice(0, 8) }])
    cli.child.kill('SIGTERM')
    expect(await cli.exit()).toBe(0)
    expect(existsSync(socket)).toBe(false)
    expect(await runCli(['sessions', 'list', '--admin-socket', 'admin.sock'], { cwd })).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'sojourn: No server listens on admin.sock. One does when it was started with --admin-socket admin.sock; for one that is stopped, ' +
        'name its file: --store sqlite:FILE\n',
    })
  })

  it('has none with a store in memory, nor where none is wanted', async () => {
    const { cwd } = await serve([])
    expect(await runCli(['sessions', 'list'], { cwd })).toMatchObject({ code: 2 })
    const without = await serve([...STORE, '--admin-socket', 'none'])
    expect(existsSync(join(without.cwd, 'sessions.db-admin.sock'))).toBe(false)
    const { code, stderr } = await runCli(['sessions', 'list', ...STORE], { cwd: without.cwd })
    expect(code).toBe(1)
    expect(stderr).toMatch(
      /^sojourn: The session store \.\/sessions\.db is used by a running server that does not listen on .*sessions\.db-admin\.sock\. Name its administrative socket with --admin-socket FILE, or stop it first\.\n$/,
    )
  })

  it('replaces a socket that a killed one left behind, and takes that of the one before it', async () => {
    const first = await serve(STORE)
    const id = await open(first.url, 'visitor')
    const socket = join(first.cwd, 'sessions.db-admin.sock')
    await vi.waitFor(() => expect(existsSync(socket)).toBe(true))
    const second = await serve(STORE, first.cwd)
    await second.cli.until('stderr', /another process owns the session store/)
    first.cli.child.kill('SIGKILL')
    await first.cli.exit()
    await second.cli.until('stderr', /the session store is open/)
    await vi.waitFor(
      async () =>
        expect(await list(first.cwd, '--admin-socket', 'sessions.db-admin.sock')).toMatchObject([
          { session: id.slice(0, 8), state: 'asleep' },
        ]),
      { timeout: 10_000 },
    )
  })

  it('does not start where its socket cannot be', async () => {
    const cwd = directoryWith({ 'server.mjs': SERVER, 'admin.sock': 'a file' })
    const start = ['serve', './server.mjs', '--port', '0', '--admin-socket', './admin.sock']
    const { code, stderr } = await runCli(start, { cwd })
    expect(code).toBe(1)
    expect(stderr).toMatch(/admin\.sock: a file is there that is not a socket/)
  })

  it('serves without it where nobody asked for it', async () => {
    const cwd = directoryWith({ 'server.mjs': SERVER, 'sessions.db-admin.sock': 'a file' })
    const { cli, url } = await serve(STORE, cwd)
    await cli.until('stderr', /there is no administrative socket/)
    expect(await open(url, 'visitor')).not.toBe('')
  })
})

describe('of a stopped server', () => {
  it('reads its file, and ends sessions in it', async () => {
    const { cli, url, cwd } = await serve(STORE)
    const first = await open(url, 'first')
    const second = await open(url, 'second')
    cli.child.kill('SIGKILL')
    await cli.exit()
    expect(await list(cwd, ...STORE)).toMatchObject([
      {
        session: first.slice(0, 8),
        client: { name: 'first', version: '1.0' },
        state: 'asleep',
        endsIn: null,
      },
      { session: second.slice(0, 8), state: 'asleep' },
    ])
    const data = await runCli(['sessions', 'show', first.slice(0, 8), '--json', '--data', ...STORE], { cwd })
    expect(JSON.parse(data.stdout)).toMatchObject({
      protocolVersion: '2025-11-25',
      data: { secret: 'of first' },
      dataBytes: 21,
    })
    // By its whole id, too.
    expect(await runCli(['sessions', 'close', first, ...STORE], { cwd })).toEqual({
      code: 0,
      stdout: `closed ${first.slice(0, 8)}\n`,
      stderr: '',
    })
    const again = await serve(STORE, cwd)
    await again.cli.until('stderr', /the session store is open/)
    const call = { id: 1, method: 'ping' }
    expect((await post(again.url, call, { 'Mcp-Session-Id': first })).status).toBe(404)
    expect((await post(again.url, call, { 'Mcp-Session-Id': second })).status).toBe(200)
  })

  it('reads a backup that was made while the server ran', async () => {
    const { url, cwd } = await serve(STORE)
    const id = await open(url, 'visitor')
    const db = (await loadSqlite())(join(cwd, 'sessions.db'))
    // What `sqlite3 FILE ".backup …"` and VACUUM INTO have in common: a reader's transaction. A path as SQL has it.
    db.exec(`VACUUM INTO '${join(cwd, 'backup.db').replaceAll("'", "''")}'`)
    db.close()
    expect(await list(cwd, '--store', 'sqlite:backup.db')).toMatchObject([{ session: id.slice(0, 8) }])
    expect(await open(url, 'another')).not.toBe('')
  })

  it.skipIf(!hasTerminals)('is a table on a terminal', async () => {
    const { cli, url, cwd } = await serve(STORE)
    const id = await open(url, 'カーソル')
    cli.child.kill('SIGTERM')
    expect(await cli.exit()).toBe(0)
    const shown = startCli(['sessions', 'list', ...STORE], {
      cwd,
      env: { TERM: 'xterm' },
      terminal: { columns: 120, rows: 20 },
    })
    expect(await shown.exit()).toBe(0)
    expect(screenAfter(shown.stdout)).toEqual([
      'session   principal  client        state   idle for  ends in  calls  streams',
      expect.stringMatching(
        new RegExp(`^${id.slice(0, 8)}  —          カーソル 1.0  asleep  [\\d.]+ m?s +—        0      0$`),
      ),
      '1 session, 0 active, 1 asleep in ./sessions.db, which no server uses',
    ])
  })

  it('says what is wrong with the file', async () => {
    const cwd = directoryWith({})
    expect(await runCli(['sessions', 'list', ...STORE], { cwd })).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^sojourn: There is no session store .*sessions\.db\.\n$/) as string,
    })
    // One in 64 labels, and ids, begins with a dash, and is no flag.
    for (const name of ['-abc_123', '-abc_123abcdefghijklmnopqrstuvwx'])
      expect((await runCli(['sessions', 'show', name, ...STORE], { cwd })).stderr).toMatch(/no session store/)
    writeFileSync(join(cwd, 'sessions.db'), 'no database at all, whatever its name says')
    const { code, stderr } = await runCli(['sessions', 'list', ...STORE], { cwd })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^sojourn: The session store .*sessions\.db is damaged .*: mv .*\n$/)
  })

  it('does not wait for another program on the socket for ever', async () => {
    const cwd = directoryWith({})
    const stranger = createServer((socket) => socket.destroy())
    await new Promise<void>((resolve) => stranger.listen(join(cwd, 'other.sock'), resolve))
    onTestFinished(() => void stranger.close())
    const { code, stderr } = await runCli(['sessions', 'list', '--admin-socket', 'other.sock'], { cwd })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^sojourn: Cannot ask the server at other\.sock: /)
  })
})

describe('wrong usage ends with 2', () => {
  it.each<[string[], string]>([
    [[], 'sessions needs to know what to do: list, show, close. `sojourn sessions --help` tells more.'],
    [['lst'], 'there is no command sessions lst. Did you mean list? `sojourn sessions --help` tells more.'],
    [['list', 'abcdefgh', ...STORE], 'sessions list takes only flags, but got abcdefgh.'],
    [
      ['show', ...STORE],
      'sessions show needs a session: the 8 characters that `sojourn sessions list` shows of it.',
    ],
    [
      ['list', '--stor', 'x'],
      'sojourn sessions has no flag --stor. Did you mean --store? `sojourn sessions --help` lists all.',
    ],
    [['list', '--port', '3000'], 'sojourn sessions has no flag --port. `sojourn sessions --help` lists all.'],
    [
      ['list'],
      'sessions needs to know whose: --store sqlite:FILE as the server has it, or the --admin-socket FILE it was started with.',
    ],
    [['list', '--data', ...STORE], 'sessions list has no flag --data: `sojourn sessions show` has it.'],
  ])('%j', async (args, message) => {
    expect(await runCli(['sessions', ...args])).toEqual({
      code: 2,
      stdout: '',
      stderr: `sojourn: ${message}\n`,
    })
  })

  it('but help ends with 0', async () => {
    const { code, stdout } = await runCli(['sessions', '--help'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^Usage\n {2}sojourn sessions list/)
  })
})
