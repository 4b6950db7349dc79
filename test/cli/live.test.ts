/** `sojourn serve` on a terminal: the live view is there, and gone at the end. In a pipe there is none. */

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { describe, expect, it, vi } from 'vitest'

import { screenAfter } from '../support/screen.ts'
import { directoryWith, hasTerminals, startCli } from './run-cli.ts'
import type { RunningCli } from './run-cli.ts'

const SERVER = `
import { McpServer } from '${import.meta.resolve('@modelcontextprotocol/server')}'
export default () => {
  const server = new McpServer({ name: 'noisy', version: '1' })
  server.registerTool('shout', {}, () => {
    console.log('a line of the module')
    return { content: [] }
  })
  server.registerTool('ponder', {}, async () => {
    await new Promise((resolve) => setTimeout(resolve, 4000))
    return { content: [] }
  })
  return server
}
`

const TERMINAL = { columns: 100, rows: 40 }

async function serveOnTerminal(
  ...args: [flags: string[], env?: Record<string, string>, cwd?: string]
): Promise<{ cli: RunningCli; url: URL; cwd: string }> {
  const [flags, env, cwd = directoryWith({ 'server.mjs': SERVER })] = args
  const cli = startCli(['serve', './server.mjs', '--port', '0', ...flags], {
    cwd,
    env: { TERM: 'xterm-256color', ...env },
    terminal: TERMINAL,
  })
  const [url] = await cli.until('stdout', /http:\S+/)
  return { cli, url: new URL(url), cwd }
}

/** One session that makes one call. */
async function callOnce(url: URL): Promise<Client> {
  const client = new Client({ name: 'visitor', version: '1.2.3' })
  await client.connect(new StreamableHTTPClientTransport(url))
  await client.callTool({ name: 'shout' })
  return client
}

/** Ctrl-C, as a user types it, and the end. */
async function interrupt(cli: RunningCli): Promise<number | NodeJS.Signals | null> {
  cli.child.stdin?.write('\u0003')
  return cli.exit()
}

describe.skipIf(!hasTerminals)('on a terminal', () => {
  it('shows the sessions below the log, and leaves a clean screen', async () => {
    const { cli, url } = await serveOnTerminal(['--session-idle-timeout', '9m'])
    await cli.until('stdout', /no sessions · 0\.0 calls\/s · 0 refused · up \d+s · \d+ MiB/)
    const client = await callOnce(url)
    await cli.until('stdout', /visitor 1\.2\.3 {2}[^ ]*active/)
    await client.close()
    const during = await vi.waitFor(
      () => {
        const lines = screenAfter(cli.stdout)
        expect(lines.slice(-4)).toEqual([
          expect.stringMatching(/^─{99}$/),
          expect.stringMatching(/^session +client +state +ends in +calls +streams$/),
          expect.stringMatching(/^[\w-]{8} +visitor 1\.2\.3 +idle +8m 5\ds +1 +0$/),
          expect.stringMatching(/^1 session, 0 active · 0\.\d calls\/s · /),
        ])
        return lines
      },
      { timeout: 10_000 },
    )
    const heads = during.filter((line) => line.startsWith('session '))
    expect(heads, 'the view is there once').toHaveLength(1)

    expect(await interrupt(cli)).toBe(0)
    const after = screenAfter(cli.stdout)
    expect(after[0]).toMatch(/^http:/)
    expect(after).toContain('a line of the module')
    expect(after.at(-1)).toMatch(/^\d\d:\d\d:\d\d stopped after [\d.]+ m?s$/)
    for (const line of after.slice(1)) expect(line).toMatch(/^\d\d:\d\d:\d\d |^a line of the module$/)
    expect(cli.stderr).toBe('')
  })

  it('shows which sessions sleep, and those that a restart brought back', async () => {
    const flags = ['--store', 'sqlite:./sessions.db', '--sleep-after', '1s']
    const { cli, url, cwd } = await serveOnTerminal(flags)
    const client = await callOnce(url)
    await client.close()
    await cli.until('stdout', /visitor 1\.2\.3 {2}[^ ]*asleep/)
    await cli.until('stdout', /1 session, 0 active, 1 asleep/)
    expect(await interrupt(cli)).toBe(0)

    const again = await serveOnTerminal(flags, {}, cwd)
    await again.cli.until('stdout', /the session store is open: 1 session restored/)
    await again.cli.until('stdout', /1 session, 0 active, 1 asleep/)
    expect(await interrupt(again.cli)).toBe(0)
    expect(screenAfter(again.cli.stdout).join('\n')).not.toMatch(/─/)
  }, 40_000)

  it('shows what is left while it drains, and says how long that took', async () => {
    const { cli, url } = await serveOnTerminal([])
    const client = new Client({ name: 'visitor', version: '1.2.3' })
    await client.connect(new StreamableHTTPClientTransport(url))
    const call = client.callTool({ name: 'ponder' })
    await vi.waitFor(() => expect(screenAfter(cli.stdout).join('\n')).toMatch(/0 \+ 1 running +2/), 10_000)
    cli.child.stdin?.write('\u0003')
    // The call's own stream, and the GET that stays for as long as the call runs.
    await cli.until('stdout', /draining: 1 call, 2 streams left · 1 session, 1 active · up/)
    expect(await call).toMatchObject({ content: [] })
    expect(await cli.exit()).toBe(0)
    const after = screenAfter(cli.stdout)
    expect(after.join('\n')).toMatch(/draining, 1 call running, 2 streams open; signal again to stop at once/)
    expect(after.at(-1)).toMatch(/stopped after [\d.]+ m?s$/)
    expect(after.join('\n')).not.toMatch(/ended: shutdown|─/)
    await client.close()
  })

  it.each<[string, string[], Record<string, string>]>([
    ['--no-live', ['--no-live'], {}],
    ['SOJOURN_LIVE=false', [], { SOJOURN_LIVE: 'false' }],
    ['NO_COLOR', [], { NO_COLOR: '1' }],
    ['TERM=dumb', [], { TERM: 'dumb' }],
  ])('%s leaves plain lines', async (_, flags, env) => {
    const { cli, url } = await serveOnTerminal(flags, env)
    const client = await callOnce(url)
    await cli.until('stdout', /tools\/call shout/)
    await client.close()
    expect(await interrupt(cli)).toBe(0)
    // oxlint-disable-next-line no-control-regex -- the escape character is what is looked for
    expect(cli.stdout).not.toMatch(/\u001b\[[^m]*[A-Za-ln-z]|─/)
    expect(cli.stdout).toMatch(/stopped/)
  })

  it('also where the server module throws outside of any call', async () => {
    const cli = startCli(['serve', './server.mjs', '--port', '0'], {
      cwd: directoryWith({
        'server.mjs': `${SERVER}\nsetTimeout(() => { throw new Error('out of the blue') }, 1200)`,
      }),
      env: { TERM: 'xterm' },
      terminal: TERMINAL,
    })
    expect(await cli.exit()).not.toBe(0)
    expect(cli.stdout).toMatch(/no sessions/)
    const after = screenAfter(cli.stdout).join('\n')
    expect(after).not.toMatch(/no sessions|─/)
    expect(after).toMatch(/Error: out of the blue/)
  })
})

it('in a pipe the log is JSON lines', async () => {
  const cli = startCli(['serve', './server.mjs', '--port', '0', '--live'], {
    cwd: directoryWith({ 'server.mjs': SERVER }),
    env: { TERM: 'xterm-256color' },
  })
  const [url] = await cli.until('stdout', /http:\S+/)
  const client = await callOnce(new URL(url))
  await cli.until('stderr', /tools\/call/)
  await client.close()
  cli.child.kill('SIGTERM')
  expect(await cli.exit()).toBe(0)
  for (const line of cli.stderr.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('event')
  expect(cli.stdout).toBe(`${url}\na line of the module\n`)
})
