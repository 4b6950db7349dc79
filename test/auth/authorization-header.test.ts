/** The `Authorization` header, whatever stands in it. */

import fc from 'fast-check'
import { expect, test } from 'vitest'

import { LONGEST_TOKEN, readBearer } from '../../src/auth/authorization-header.ts'
import { challengeHeader } from '../../src/auth/challenge.ts'

const TOKEN_CHARACTERS = [...'ABCXYZabcxyz0189-._~+/']

const token = fc
  .tuple(
    fc.array(fc.constantFrom(...TOKEN_CHARACTERS), { minLength: 1, maxLength: 200 }),
    fc.integer({ min: 0, max: 2 }),
  )
  .map(([characters, padding]) => characters.join('') + '='.repeat(padding))

const scheme = fc.constantFrom('Bearer', 'bearer', 'BEARER', 'bEaReR')

test('every token that RFC 6750 allows is read as it is, however the scheme is written', () => {
  fc.assert(
    fc.property(scheme, fc.integer({ min: 1, max: 5 }), token, (name, spaces, value) => {
      expect(readBearer(`${name}${' '.repeat(spaces)}${value}`)).toEqual({ kind: 'token', token: value })
    }),
  )
})

test('of anything else nothing is taken for a token: never a throw, never a part of it', () => {
  const anything = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 100 }),
    fc.tuple(scheme, fc.string({ unit: 'binary', maxLength: 100 })).map(([name, rest]) => `${name} ${rest}`),
    fc.tuple(token, token).map(([a, b]) => `Bearer ${a}, Bearer ${b}`),
    fc.tuple(token, token).map(([a, b]) => `Bearer ${a} ${b}`),
  )
  fc.assert(
    fc.property(anything, (header) => {
      const read = readBearer(header)
      if (read.kind !== 'token') return
      expect(read.token).toMatch(/^[\w.~+/-]+=*$/)
      expect(header.trim().replace(/^bearer +/i, '')).toBe(read.token)
    }),
  )
})

test('a token may be so long and no longer', () => {
  const longest = 'x'.repeat(LONGEST_TOKEN - 'Bearer '.length)
  expect(readBearer(`Bearer ${longest}`).kind).toBe('token')
  expect(readBearer(`Bearer ${longest}x`).kind).toBe('malformed')
  // Linear in its length.
  const began = performance.now()
  readBearer(`Bearer ${' '.repeat(1_000_000)}!`)
  readBearer(`Bearer ${'='.repeat(1_000_000)}!`)
  expect(performance.now() - began).toBeLessThan(1000)
})

test('a challenge is read back as what it says', () => {
  const scopeToken = fc
    .array(fc.constantFrom(...'!#$%&()*+,-./:;<=>?@[]^_`{|}~aZ09'), { minLength: 1, maxLength: 20 })
    .map((characters) => characters.join(''))
  fc.assert(
    fc.property(fc.array(scopeToken, { maxLength: 5 }), (scopes) => {
      const header = challengeHeader({
        error: 'insufficient_scope',
        description: 'too few',
        scopes,
        metadataUrl: 'https://mcp.test/.well-known/oauth-protected-resource/mcp',
      })
      const params = Object.fromEntries(
        [...header.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value]),
      )
      expect(params).toEqual({
        error: 'insufficient_scope',
        error_description: 'too few',
        ...(scopes.length > 0 && { scope: scopes.join(' ') }),
        resource_metadata: 'https://mcp.test/.well-known/oauth-protected-resource/mcp',
      })
    }),
  )
})
