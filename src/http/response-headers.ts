/** The header fields of a Web `Response`, as an exchange sends them. */

import type { ResponseHeaders } from './exchange.ts'

/** What frames a message (RFC 9110 §6.6, RFC 9112 §6) is ours to say: the body is sent decoded and whole. */
const FRAMING = new Set([
  'connection',
  'content-encoding',
  'content-length',
  'keep-alive',
  'transfer-encoding',
])

/** What a field value may hold (RFC 9110 §5.5); `Headers` takes more than HTTP carries. */
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

/**
 * The header fields of a response that somebody else made, without those that frame it.
 *
 * @param maker who made it, for the error
 * @throws TypeError when HTTP cannot carry it
 */
export function responseHeaders(response: Response, maker: string): ResponseHeaders {
  if (response.status < 200)
    throw new TypeError(`${maker} returned a Response with the status ${response.status}`)
  const headers: Record<string, string | string[]> = {}
  response.headers.forEach((value, name) => {
    if (FRAMING.has(name)) return
    if (!FIELD_VALUE.test(value))
      throw new TypeError(`${maker} returned a Response whose ${name} HTTP cannot carry`)
    headers[name] = value
  })
  const cookies = response.headers.getSetCookie()
  if (cookies.length > 0) headers['set-cookie'] = cookies
  return headers
}
