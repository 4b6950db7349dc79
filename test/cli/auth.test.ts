/** `sojourn serve` behind an authorization server, and putting somebody out from outside. */

import { describe, expect, it } from 'vitest'

import { RESOURCE, startIssuer } from '../auth/issuer.ts'
import { directoryWith, runCli, type RunningCli, startCli } from './run-cli.ts'

const SERVER = `
export default () => ({
  async connect(transport) {
    transport.onmessage = ({ id, method, params }) => {
      if (method !== 'initialize') return
      transport.send({ jsonrpc: '2.0', id, result: { protocolVersion: params.protocolVersion, capabilities: {}, serverInfo: { name: 's', version: '1' } } })
    }
    await transport.start()
  },
  async close() {},
})
`

async function serve(
  cwd: string,
  flags: readonly string[],
  env: Record<string, string> = {},
): Promise<{ cli: RunningCli; url: string }> {
  const cli = startCli(['serve', './server.mjs', '--port', '0', ...flags], { cwd, env })
  const [url] = await cli.until('stdout', /http:\S+/)
  return { cli, url }
}

const directory = (files: Record<string, string> = {}): string =>
  directoryWith({ 'server.mjs': SERVER, ...files })

async function open(url: string, token: string): Promise<string> {
  const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } }
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Accept: 'application/json, text/event-stream',
      Authorization: `Bearer ${token}`,
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }),
  })
  const text = await response.text()
  expect(response.status, text).toBe(200)
  return response.headers.get('mcp-session-id') ?? ''
}

describe('serve', () => {
  it('is protected without code: challenge, metadata, scopes, and sessions of a principal that can be ended', async () => {
    const issuer = await startIssuer()
    const cwd = directory()
    const where = ['--store', 'sqlite:./sessions.db']
    const flags = ['--auth-issuer', issuer.url, '--auth-resource', RESOURCE, '--auth-scopes', 'mcp']
    const { cli, url } = await serve(cwd, [...flags, ...where])
    const refused = await fetch(url, { headers: { Accept: 'text/event-stream' } })
    expect(refused.status).toBe(401)
    expect(refused.headers.get('www-authenticate')).toBe(
      'Bearer scope="mcp", resource_metadata="https://mcp.test/.well-known/oauth-protected-resource/mcp"',
    )
    const metadata = await fetch(new URL('/.well-known/oauth-protected-resource/mcp', url))
    expect(await metadata.json()).toMatchObject({ resource: RESOURCE, authorization_servers: [issuer.url] })
    const poor = await fetch(url, {
      headers: { Authorization: `Bearer ${await issuer.token({ scope: 'other' })}` },
    })
    expect(poor.status).toBe(403)
    const token = await issuer.token()
    const ids = [await open(url, token), await open(url, await issuer.token())]
    const other = await open(url, await issuer.token({ sub: 'bob' }))

    const principal = JSON.stringify([issuer.url, 'ada', 'client'])
    const closed = await runCli(['sessions', 'close', '--principal', principal, ...where], { cwd })
    expect({ code: closed.code, stderr: closed.stderr }).toEqual({ code: 0, stderr: '' })
    expect(closed.stdout.trim().split('\n').sort()).toEqual(
      ids.map((id) => `closed ${id.slice(0, 8)}`).sort(),
    )
    const again = await runCli(['sessions', 'close', '--principal', principal, ...where], { cwd })
    expect(again.code).toBe(0)
    expect(again.stderr).toMatch(/the principal .*ada.* has no session on the server at/)
    cli.child.kill('SIGTERM')
    await cli.exit()
    for (const secret of [token, ...token.split('.'), ...ids, other])
      expect(`${cli.stdout}${cli.stderr}`).not.toContain(secret)

    // The store of a server that is stopped has the others still.
    const bobs = JSON.stringify([issuer.url, 'bob', 'client'])
    const stopped = await runCli(['sessions', 'close', '--json', '--principal', bobs, ...where], { cwd })
    expect(JSON.parse(stopped.stdout)).toMatchObject([{ session: other.slice(0, 8), principal: bobs }])
  })

  it('introspects with a secret from the environment or a file, and never shows it', async () => {
    const issuer = await startIssuer()
    const secrets: (string | undefined)[] = []
    issuer.answers.set('/introspect', (request) => {
      secrets.push(request.headers.authorization)
      return { active: true, sub: 'ada', client_id: 'c', aud: RESOURCE }
    })
    const flags = ['--auth-issuer', issuer.url, '--auth-resource', RESOURCE]
    const asks = [...flags, '--auth-check', 'introspection', '--auth-client-id', 'rs']
    const cwd = directory({ 'secret.txt': 'from-a-file\n' })
    for (const [more, env] of [
      [[], { SOJOURN_AUTH_CLIENT_SECRET: 'from-the-environment' }],
      [['--auth-client-secret-file', 'secret.txt'], {}],
    ] as const) {
      const { cli, url } = await serve(cwd, [...asks, ...more], env)
      await open(url, 'opaque')
      cli.child.kill('SIGTERM')
      await cli.exit()
      expect(`${cli.stdout}${cli.stderr}`).not.toMatch(/from-a-file|from-the-environment|is no setting/)
    }
    expect(secrets.map((each) => Buffer.from(each?.split(' ')[1] ?? '', 'base64').toString())).toEqual([
      'rs:from-the-environment',
      'rs:from-a-file',
    ])
    const without = await runCli(['serve', './server.mjs', ...asks], { cwd })
    expect(without.code).toBe(2)
    expect(without.stderr).toMatch(
      /SOJOURN_AUTH_CLIENT_SECRET, or in a file that --auth-client-secret-file names/,
    )
    const asFlag = await runCli(['serve', './server.mjs', ...asks, '--auth-client-secret', 'x'], { cwd })
    expect(asFlag).toMatchObject({ code: 2, stderr: expect.stringMatching(/--auth-client-secret-file/) })
    const alone = await runCli(['serve', './server.mjs', '--auth-issuer', issuer.url], { cwd })
    expect(alone).toMatchObject({ code: 2, stderr: expect.stringMatching(/needs --auth-resource/) })
  })

  it('names flags and variables that are wrong as they were given, not the options of the code, and exits with 2', async () => {
    const cwd = directory()
    const resource = ['--auth-resource', RESOURCE]
    const plain = ['--auth-issuer', 'http://auth.example.com', ...resource]
    expect(await runCli(['serve', './server.mjs', ...plain], { cwd })).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /^sojourn: --auth-issuer must begin with https.* --auth-allow-http takes it/,
      ),
    })
    const env = { SOJOURN_AUTH_ISSUER: 'https://auth.example.com/?tenant=1' }
    expect(await runCli(['serve', './server.mjs', ...resource], { cwd, env })).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^sojourn: SOJOURN_AUTH_ISSUER must have neither query nor fragment/),
    })
    const shared = ['--auth-issuer', 'https://auth.example.com', ...resource, '--auth-algorithms', 'HS256']
    expect(await runCli(['serve', './server.mjs', ...shared], { cwd })).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^sojourn: --auth-algorithms must not have 'HS256'/),
    })
  })
})
