/**
 * Session ids and tokens stay with those they belong to: every byte that a server writes while both official clients use it — logs,
 * answers to others, files and their names, what an administrator is shown — is searched for them. Promise 5.
 */

import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { describe, expect, test } from 'vitest'

import { directoryWith, runCli, type RunningCli, startCli } from '../cli/run-cli.ts'
import { connect, type ProbeClient, probeClient, rejection } from '../clients/probe-client.ts'
import { deferred, within } from '../support/deferred.ts'

const SERVER = fileURLToPath(new URL('fixtures/server.mjs', import.meta.url))

/** Waking, sleeping and dying processes on a busy machine. */
const PATIENT = 60_000

/** The most of a secret that may be seen: its first 8 characters. */
const SHOWN = 8

/** What must not be seen, and everything that could be seen. */
class Search {
  readonly #secrets = new Map<string, string>()
  readonly #seen: [place: string, text: string][] = []

  /** Keeps a credential; gives it back. */
  secret(what: string, value: string): string {
    if (value.length < 2 * SHOWN) throw new Error(`${what} is too short to be told from chance: ${value}`)
    this.#secrets.set(value, what)
    return value
  }

  /** Something that a person or a program other than the owner may read. */
  saw(place: string, text: string | Buffer): void {
    this.#seen.push([place, typeof text === 'string' ? text : text.toString('latin1')])
  }

  /** Files of a folder, each with its name. */
  sawFolder(folder: string, except: readonly string[]): void {
    const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    this.saw('the names of files', names.join('\n'))
    for (const name of names) {
      if (except.includes(name) || name.endsWith('.sock')) continue
      this.saw(`the file ${name}`, readFileSync(join(folder, name)))
    }
  }

  get size(): number {
    return this.#seen.reduce((size, [, text]) => size + text.length, 0)
  }

  /** Where which secret is found: as it is, in other notations, or more of it than its beginning. */
  found(): string[] {
    const forms = [...this.#secrets].flatMap(([value, what]) => {
      const bytes = Buffer.from(value)
      const hash = createHash('sha256').update(value).digest()
      return [
        [value.slice(0, SHOWN + 4), `${what}, its beginning`],
        [value.slice(SHOWN, 2 * SHOWN + 2), `${what}, its middle`],
        [value.slice(-SHOWN - 4), `${what}, its end`],
        [bytes.toString('base64').slice(0, 16), `${what} as Base64`],
        [bytes.toString('hex'), `${what} as hex`],
        [encodeURIComponent(value), `${what} as in a URL`],
        // UTF-16, as some databases write.
        [Buffer.from(value, 'utf16le').toString('latin1'), `${what} as UTF-16`],
        // A look-up by a plain hash would be as good as one by the value, for whoever reads the hash and guesses values.
        ...(what.startsWith('the token') ? [[hash.toString('hex'), `the hash of ${what}`] as const] : []),
      ] as const
    })
    return this.#seen.flatMap(([place, text]) =>
      forms.filter(([form]) => text.includes(form)).map(([, what]) => `${what} is in ${place}`),
    )
  }
}

const TOKENS = {
  ann: randomBytes(24).toString('base64url'),
  bob: randomBytes(24).toString('base64url'),
  broken: randomBytes(24).toString('base64url'),
}

const CREDENTIALS = JSON.stringify({
  [TOKENS.ann]: { issuer: 'https://issuer.example', subject: 'ann', client: 'app' },
  [TOKENS.bob]: { issuer: 'https://issuer.example', subject: 'bob', client: 'app' },
  [TOKENS.broken]: { issuer: 'https://issuer.example', subject: 'broken', client: 'app', scopes: ['broken'] },
})

const bearer = (token: string): Record<string, string> => ({ Authorization: `Bearer ${token}` })

interface Place {
  readonly cwd: string
  readonly format: 'json' | 'pretty'
}

async function serve({ cwd, format }: Place): Promise<{ cli: RunningCli; url: URL }> {
  const cli = startCli(
    [
      ...['serve', SERVER, '--port', '0', '--store', 'sqlite:./sessions.db', '--auth-tokens', 'tokens.json'],
      ...['--log-level', 'debug', '--log-format', format, '--sleep-after', '300ms'],
      ...['--retry-interval', '50ms', '--restart-grace', '100ms', '--drain-timeout', '1s'],
    ],
    { cwd },
  )
  const [url] = await cli.until('stdout', /http:\S+/)
  return { cli, url: new URL(url) }
}

/** One HTTP request of somebody who is not the owner of what it names: head and body of the answer are searched. */
async function stranger(
  search: Search,
  url: URL,
  method: string,
  headers: Record<string, string>,
  body?: string,
): Promise<number> {
  const response = await fetch(url, {
    method,
    headers: {
      Accept: method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream',
      ...(body !== undefined && { 'Content-Type': 'application/json' }),
      ...headers,
    },
    ...(body !== undefined && { body }),
  })
  const head = JSON.stringify([...response.headers])
  search.saw(
    `the answer ${response.status} to a ${method} of a stranger`,
    `${head}\n${await response.text()}`,
  )
  return response.status
}

const LIST = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' })

/** What a client of one's own does, with every error that it is told of. */
async function use(client: ProbeClient, search: Search): Promise<void> {
  await client.call('count')
  await client.call('say', 'a secret of nobody')
  const failure = await rejection(client.call('fail'), 'a tool that throws')
  search.saw('the error of a tool', String(failure))
  const began = deferred()
  const stop = new AbortController()
  const long = client.call('long', undefined, { signal: stop.signal, onprogress: () => began.resolve() })
  await within(began.promise, 'the call to run', PATIENT)
  stop.abort()
  search.saw('the error of a cancelled call', String(await rejection(long, 'a cancelled call')))
}

/** Everything that is refused, each time with credentials in hand that are right somewhere else. */
async function attack(search: Search, url: URL, ann: string, bob: string): Promise<void> {
  const asBob = bearer(TOKENS.bob)
  for (const method of ['POST', 'GET', 'DELETE']) {
    const body = method === 'POST' ? LIST : undefined
    // Ann's session with Bob's token, with nobody's, and with one that does not exist.
    const stolen = { 'Mcp-Session-Id': ann }
    expect(await stranger(search, url, method, { ...stolen, ...asBob }, body)).toBe(404)
    expect(await stranger(search, url, method, stolen, body)).toBe(401)
    const wrong = bearer(search.secret('the token nobody has', randomBytes(24).toString('base64url')))
    expect(await stranger(search, url, method, { ...stolen, ...wrong }, body)).toBe(401)
    const guessed = search.secret('the session id nobody has', randomBytes(24).toString('base64url'))
    expect(await stranger(search, url, method, { 'Mcp-Session-Id': guessed, ...asBob }, body)).toBe(404)
    // Secrets where they do not belong: only a GET reads a cursor.
    const misplaced: Record<string, string> = { 'Last-Event-ID': ann, 'Mcp-Session-Id': bob, ...asBob }
    if (method === 'GET') expect(await stranger(search, url, method, misplaced)).toBe(400)
    const query = new URL(`?access_token=${TOKENS.ann}&session=${ann}`, url)
    expect(await stranger(search, query, method, {}, body)).toBe(401)
    const elsewhere = new URL(`/other/${ann}?token=${TOKENS.ann}`, url)
    expect(await stranger(search, elsewhere, method, asBob, body)).toBe(404)
    const origin = { Origin: 'https://evil.example', ...stolen, ...bearer(TOKENS.ann) }
    expect(await stranger(search, url, method, origin, body)).toBe(403)
  }
  for (const body of ['{', '[]', '{"jsonrpc":"2.0","id":null,"method":"x"}'])
    expect(await stranger(search, url, 'POST', { 'Mcp-Session-Id': bob, ...asBob }, body)).toBe(400)
  for (const path of ['/health', '/ready', '/'])
    await stranger(search, new URL(path, url), 'GET', { 'Mcp-Session-Id': ann, ...bearer(TOKENS.ann) })
}

describe.each(['json', 'pretty'] as const)('with --log-format %s', (format) => {
  test(
    'no credential of both official clients is in anything that was written',
    { timeout: 4 * PATIENT },
    async () => {
      const search = new Search()
      for (const [name, token] of Object.entries(TOKENS)) search.secret(`the token of ${name}`, token)
      const cwd = directoryWith({ 'tokens.json': CREDENTIALS })
      const outputs: RunningCli[] = []

      const first = await serve({ cwd, format })
      outputs.push(first.cli)
      const ann = await connect('v1', first.url, { headers: bearer(TOKENS.ann) })
      const bob = await connect('v2', first.url, { headers: bearer(TOKENS.bob) })
      const annsId = search.secret('the session id of ann', ann.sessionId ?? '')
      const bobsId = search.secret('the session id of bob', bob.sessionId ?? '')
      await use(ann, search)
      await use(bob, search)
      const broken = probeClient('v2', first.url, { headers: bearer(TOKENS.broken) })
      search.saw(
        'the error of a broken factory',
        String(await rejection(broken.connect(), 'a broken factory')),
      )
      await attack(search, first.url, annsId, bobsId)
      // Asleep and awake again.
      await first.cli.until('stderr', format === 'json' ? /"session.slept"/ : /asleep/)
      await ann.call('count')

      const admin = async (...args: string[]): Promise<unknown> => {
        const { code, stdout, stderr } = await runCli(
          ['sessions', ...args, '--store', 'sqlite:./sessions.db'],
          {
            cwd,
          },
        )
        search.saw(`sojourn sessions ${args.join(' ').slice(0, 24)}`, stdout + stderr)
        return code
      }
      await admin('list')
      await admin('list', '--json')
      await admin('show', annsId, '--data')
      await admin('show', randomBytes(24).toString('base64url'))
      // The file and its write-ahead log, in the middle of use.
      search.sawFolder(cwd, ['tokens.json'])

      first.cli.child.kill('SIGKILL')
      await first.cli.exit()
      search.sawFolder(cwd, ['tokens.json'])
      await admin('list')
      await admin('show', bobsId, '--data')

      const second = await serve({ cwd, format })
      outputs.push(second.cli)
      const again = probeClient('v2', second.url, { headers: bearer(TOKENS.bob), sessionId: bobsId })
      await again.connect()
      expect(await again.call('count'), 'the session goes on over a crash').toBe('2')
      await attack(search, second.url, annsId, bobsId)
      expect(await admin('close', bobsId)).toBe(0)
      search.saw(
        'the error of an ended session',
        String(await rejection(again.call('count'), 'a closed session')),
      )
      second.cli.child.kill('SIGTERM')
      await second.cli.exit()
      search.sawFolder(cwd, ['tokens.json'])
      expect(existsSync(join(cwd, 'sessions.db'))).toBe(true)

      for (const { stdout } of outputs) search.saw('stdout', stdout)
      for (const { stderr } of outputs) search.saw('stderr', stderr)
      expect(search.found()).toEqual([])
      // There was something to search in.
      expect(search.size).toBeGreaterThan(100_000)
    },
  )
})
