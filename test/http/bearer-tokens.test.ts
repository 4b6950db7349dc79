/** Tokens from a file: who is let in, who is not, and that no error shows a token. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { describe, expect, it, onTestFinished } from 'vitest'

import { authenticateBearer, parseBearerTokens, readBearerTokens } from '../../src/http/bearer-tokens.ts'

const TOKEN = 'sesame-0123456789'

function messageFor(text: string): string {
  try {
    parseBearerTokens(text, 'tokens.json')
  } catch (error) {
    expect(error).toBeInstanceOf(RangeError)
    return (error as Error).message
  }
  throw new Error('nothing was thrown')
}

const entry = (value: unknown): string => messageFor(JSON.stringify({ [TOKEN]: value }))

describe('the hook', () => {
  const alice = { issuer: 'https://issuer.example', subject: 'alice', client: 'inspector', scopes: ['read'] }
  const authenticate = authenticateBearer(
    parseBearerTokens(JSON.stringify({ [TOKEN]: alice, other: { client: 'cli' } }), 'x'),
  )
  const ask = async (authorization?: string) =>
    authenticate(
      new Request('http://localhost/mcp', { headers: authorization === undefined ? {} : { authorization } }),
    )

  it('knows a token, whatever the case of its scheme', async () => {
    const known = {
      token: TOKEN,
      clientId: 'inspector',
      scopes: ['read'],
      extra: { iss: 'https://issuer.example', sub: 'alice' },
    }
    expect(await ask(`Bearer ${TOKEN}`)).toEqual(known)
    expect(await ask(`bearer  ${TOKEN}`)).toEqual(known)
    expect(await ask('Bearer other')).toMatchObject({ clientId: 'cli', scopes: [] })
  })

  it.each([
    undefined,
    '',
    'Bearer',
    'Bearer wrong',
    `Basic ${TOKEN}`,
    TOKEN,
    `Bearer ${TOKEN}, Bearer other`,
    'Bearer __proto__',
  ])('answers %j with 401 and a challenge', async (authorization) => {
    const response = await ask(authorization)
    expect(response).toBeInstanceOf(Response)
    if (!(response instanceof Response)) return
    expect(response.status).toBe(401)
    const challenge = authorization === undefined ? 'Bearer' : 'Bearer error="invalid_token"'
    expect(response.headers.get('www-authenticate')).toBe(challenge)
    expect(await response.json()).toMatchObject({ jsonrpc: '2.0', error: { code: -32000 }, id: null })
  })
})

describe('a wrong file', () => {
  it.each([
    ['{', 'the token file tokens.json is not JSON'],
    [
      '[]',
      'the token file tokens.json must hold a JSON object of bearer token → {"subject": "…", "client": "…"}',
    ],
    ['{}', 'the token file tokens.json holds no token, so nobody could connect'],
    [
      '{"two words": {"client": "x"}}',
      'the token file tokens.json has a token in entry 1 that cannot be sent: only letters, digits and -._~+/ with = at the end',
    ],
  ])('%j', (text, message) => {
    expect(messageFor(text)).toBe(message)
  })

  it.each<[unknown, string]>([
    ['alice', 'must have an object such as {"subject": "…", "client": "…"} in entry 1'],
    [{ subject: 'alice' }, 'must have "client", a string, in entry 1'],
    [{ client: 'x', subject: 5 }, 'must have a string as "subject" in entry 1'],
    [{ client: 'x', issuer: 5 }, 'must have a string as "issuer" in entry 1'],
    [{ client: 'x', scopes: 'read' }, 'must have a list of strings as "scopes" in entry 1'],
    [
      { client: 'x', sub: 'alice' },
      'has, as member 2, something else than issuer, subject, client, scopes in entry 1',
    ],
  ])('with the entry %j', (value, message) => {
    expect(entry(value)).toBe(`the token file tokens.json ${message}`)
  })

  it('in an object of its own shows no token either', () => {
    const nested = { tokens: { 's3cr3t-t0ken': { client: 'x' } } }
    expect(() => parseBearerTokens(JSON.stringify(nested), 'tokens.json')).toThrow(
      'the token file tokens.json has, as member 1, something else than issuer, subject, client, scopes in entry 1',
    )
  })

  it('never shows a token', () => {
    for (const text of [
      `{"${TOKEN}": }`,
      `{"${TOKEN}": 1}`,
      `{"${TOKEN} ": {"client": "x"}}`,
      TOKEN,
      `"${TOKEN}"`,
    ]) {
      expect(messageFor(text)).not.toContain('sesame')
    }
  })

  it('that cannot be read says so', () => {
    const directory = mkdtempSync(join(tmpdir(), 'sojourn-'))
    onTestFinished(() => rmSync(directory, { recursive: true }))
    const file = join(directory, 'tokens.json')
    expect(() => readBearerTokens(file)).toThrow(`cannot read the token file ${file}: there is no such file`)
    expect(() => readBearerTokens(directory)).toThrow(`cannot read the token file ${directory}: EISDIR`)
    writeFileSync(file, JSON.stringify({ [TOKEN]: { client: 'x' } }))
    expect(readBearerTokens(file).size).toBe(1)
  })
})
