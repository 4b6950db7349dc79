/** What is wrong with authentication fails when it is made, in words that help. */

import { describe, expect, test } from 'vitest'

import { bearerAuth } from '../../src/auth/index.ts'
import type { BearerAuthOptions } from '../../src/auth/index.ts'
import { checkTogether } from '../../src/settings-together.ts'
import { findSettings, settings } from '../../src/settings.ts'

const good = { issuer: 'https://auth.test', resource: 'https://mcp.test/mcp' }

const make = (options: object): unknown => bearerAuth(options as BearerAuthOptions)

test.each([
  [{ resource: good.resource }, /issuer must be the URL that tokens name as iss.*got undefined/],
  [{ issuer: good.issuer }, /resource must be a URL such as 'https:\/\/mcp.example.com\/mcp', got undefined/],
  [
    { ...good, issuer: 'http://auth.test' },
    /issuer must begin with https:\/\/ beyond this machine.*allowHttp/,
  ],
  [{ ...good, issuer: 'https://auth.test?a=b' }, /neither query nor fragment/],
  [{ ...good, resource: 'https://mcp.test/mcp#x' }, /resource must have no fragment/],
  [{ ...good, resource: 'https://user:secret@mcp.test' }, /neither a user nor a password/],
  [{ ...good, algorithms: ['none'] }, /algorithms must not have 'none': anybody can make/],
  [
    { ...good, algorithms: ['HS256'] },
    /algorithms must not have 'HS256': whoever can check such a token can make one/,
  ],
  [{ ...good, algorithms: ['RS1'] }, /algorithms takes RS256.*got 'RS1'/],
  [{ ...good, requiredScopes: 'mcp' }, /requiredScopes must be a list of scopes/],
  [{ ...good, requiredScopes: ['a b'] }, /requiredScopes must be a list of scopes/],
  [{ ...good, clockTolerance: '10m' }, /clockTolerance must be at most '5m', got '10m'/],
  [{ ...good, clockTolerance: -1 }, /clockTolerance must be a duration of 0 or more/],
  [{ ...good, audience: [] }, /audience must be what tokens for this server name as aud/],
  [{ ...good, isuer: 'x' }, /bearerAuth has no option isuer. Did you mean issuer\?/],
  [
    { ...good, introspection: { clientId: 'a' } },
    /introspection.clientSecret must be a string that is not empty, got undefined/,
  ],
  [
    { ...good, jwksUri: good.issuer, introspection: { clientId: 'a', clientSecret: 'b' } },
    /jwksUri and introspection exclude each other/,
  ],
] as const)('%o', (options, message) => {
  expect(() => make(options)).toThrow(message)
})

test('plain http is taken on this machine, and elsewhere where that is asked for', () => {
  for (const host of ['localhost', '127.0.0.1', '[::1]'])
    make({ issuer: `http://${host}:9000`, resource: `http://${host}:3000/mcp` })
  make({ ...good, issuer: 'http://keycloak:8080/realms/r', allowHttp: true })
})

test('the resource is named as it was given: clients compare it as text', () => {
  for (const [resource, identifier, paths] of [
    ['https://mcp.test', 'https://mcp.test', ['/.well-known/oauth-protected-resource']],
    ['https://mcp.test/', 'https://mcp.test/', ['/.well-known/oauth-protected-resource']],
    [
      new URL('https://mcp.test/a/mcp'),
      'https://mcp.test/a/mcp',
      ['/.well-known/oauth-protected-resource/a/mcp', '/.well-known/oauth-protected-resource'],
    ],
  ] as const) {
    const { protectedResource } = bearerAuth({ ...good, resource })
    expect(protectedResource.metadata).toEqual({
      resource: identifier,
      authorization_servers: [good.issuer],
      bearer_methods_supported: ['header'],
    })
    expect(protectedResource.paths).toEqual(paths)
  }
})

describe('flags', () => {
  const together = (flags: Record<string, string>): void => checkTogether(findSettings(settings, { flags }))
  const issuer = { 'auth-issuer': good.issuer }
  const both = { ...issuer, 'auth-resource': good.resource }

  test.each([
    [issuer, /--auth-issuer needs --auth-resource: the URL of this endpoint as clients have it/],
    [{ 'auth-scopes': 'mcp' }, /--auth-scopes needs --auth-issuer/],
    [{ 'auth-client-id': 'x' }, /--auth-client-id needs --auth-issuer/],
    [{ ...both, 'auth-tokens': 'file' }, /--auth-issuer and --auth-tokens exclude each other/],
    [{ ...both, 'auth-client-id': 'x' }, /--auth-client-id needs --auth-check 'introspection'/],
    [{ ...both, 'auth-check': 'introspection' }, /--auth-check 'introspection' needs --auth-client-id/],
    [
      { ...both, 'auth-check': 'introspection', 'auth-client-id': 'x', 'auth-jwks-uri': 'https://a.test' },
      /--auth-jwks-uri needs --auth-check 'jwt'/,
    ],
    [{ ...both, 'auth-issuer': 'auth.test' }, /--auth-issuer must be a URL such as/],
  ])('%o', (flags, message) => {
    expect(() => together(flags)).toThrow(message)
  })

  test('that fit', () => {
    together(both)
    together({ ...both, 'auth-scopes': 'mcp files', 'auth-algorithms': 'RS256,ES256' })
    together({
      ...both,
      'auth-check': 'introspection',
      'auth-client-id': 'x',
      'auth-client-secret-file': 'f',
    })
  })

  test('the secret has none', () => {
    expect(settings.map(({ flag }) => flag)).not.toContain('auth-client-secret')
  })
})
