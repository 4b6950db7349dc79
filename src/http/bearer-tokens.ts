/** Bearer tokens from a file: authentication for servers that have no authorization server. */

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

import { isObject } from '../json.ts'
import { errorBody, JsonRpcErrorCode } from '../jsonrpc/errors.ts'
import type { AuthInfo, Authenticate } from '../types.ts'

/** Tokens by their SHA-256: how long a look-up takes tells nothing about tokens that exist. */
export type BearerTokens = ReadonlyMap<string, AuthInfo>

// RFC 6750 §2.1, "b64token".
const TOKEN = /^[\w.~+/-]+=*$/
const CREDENTIALS = /^Bearer +([\w.~+/-]+=*)$/i

/**
 * Reads a JSON file: an object of bearer token → `{"issuer": …, "subject": …, "client": …, "scopes": […]}`, of which only `client` is
 * required.
 *
 * @throws RangeError saying what is wrong and where; never showing a token
 */
export function readBearerTokens(file: string): BearerTokens {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const reason =
      code === 'ENOENT' ? 'there is no such file' : code === 'EACCES' ? 'permission denied' : `${code}`
    throw new RangeError(`cannot read the token file ${file}: ${reason}`)
  }
  return parseBearerTokens(text, file)
}

/**
 * As {@link readBearerTokens}, of the text of such a file.
 *
 * @param name how the file is called in errors
 */
export function parseBearerTokens(text: string, name: string): BearerTokens {
  const wrong = (what: string): RangeError => new RangeError(`the token file ${name} ${what}`)
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    // The parser's own message quotes the text, and with it tokens.
    throw wrong('is not JSON')
  }
  if (!isObject(parsed))
    throw wrong('must hold a JSON object of bearer token → {"subject": "…", "client": "…"}')
  const tokens = new Map<string, AuthInfo>()
  for (const [index, [token, entry]] of Object.entries(parsed).entries()) {
    const which = `entry ${index + 1}`
    if (!TOKEN.test(token))
      throw wrong(
        `has a token in ${which} that cannot be sent: only letters, digits and -._~+/ with = at the end`,
      )
    tokens.set(
      digest(token),
      authInfo(token, entry, (what) => wrong(`${what} in ${which}`)),
    )
  }
  if (tokens.size === 0) throw wrong('holds no token, so nobody could connect')
  return tokens
}

/**
 * Makes the `authenticate` option of such tokens: anyone who brings none of them gets 401 with a `WWW-Authenticate` challenge
 * (RFC 6750 §3).
 */
export function authenticateBearer(tokens: BearerTokens): Authenticate {
  return (request) => {
    const header = request.headers.get('authorization')
    if (header === null) return unauthorized('Unauthorized: a bearer token is required', 'Bearer')
    const token = CREDENTIALS.exec(header)?.[1]
    const known = token === undefined ? undefined : tokens.get(digest(token))
    return (
      known ?? unauthorized('Unauthorized: the bearer token is not known', 'Bearer error="invalid_token"')
    )
  }
}

function authInfo(token: string, entry: unknown, wrong: (what: string) => RangeError): AuthInfo {
  if (!isObject(entry)) throw wrong('must have an object such as {"subject": "…", "client": "…"}')
  // Not by name: whoever wraps the whole in another object has a token there.
  const unknown = Object.keys(entry).findIndex((key) => !KEYS.includes(key))
  if (unknown >= 0) throw wrong(`has, as member ${unknown + 1}, something else than ${KEYS.join(', ')}`)
  const { issuer, subject, client, scopes = [] } = entry
  if (typeof client !== 'string' || client === '') throw wrong('must have "client", a string,')
  if (issuer !== undefined && typeof issuer !== 'string') throw wrong('must have a string as "issuer"')
  if (subject !== undefined && (typeof subject !== 'string' || subject === ''))
    throw wrong('must have a string as "subject"')
  if (!Array.isArray(scopes) || !scopes.every((scope) => typeof scope === 'string')) {
    throw wrong('must have a list of strings as "scopes"')
  }
  return { token, clientId: client, scopes, extra: { iss: issuer, sub: subject } }
}

const KEYS: readonly string[] = ['issuer', 'subject', 'client', 'scopes']

function digest(token: string): string {
  return createHash('sha256').update(token).digest('base64')
}

function unauthorized(message: string, challenge: string): Response {
  return new Response(errorBody(JsonRpcErrorCode.SERVER_ERROR, message), {
    status: 401,
    headers: { 'Content-Type': 'application/json', 'WWW-Authenticate': challenge },
  })
}
