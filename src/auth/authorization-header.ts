/** The `Authorization` header of a request, read as RFC 6750 §2.1 has it. */

/** The longest token that is looked at, in characters. Node's HTTP server takes no longer header; others may. */
export const LONGEST_TOKEN = 16_384

/** What a header comes to. `missing`: nothing that could be a bearer token, so that no error is told (RFC 6750 §3.1). */
export type BearerCredentials =
  | { readonly kind: 'missing' }
  | { readonly kind: 'malformed' }
  | { readonly kind: 'token'; readonly token: string }

const SCHEME = /^bearer(?: |$)/i
// token68 of RFC 9110 §11.2, after one or more spaces.
const CREDENTIALS = /^bearer +([\w.~+/-]+=*)$/i

const MISSING: BearerCredentials = { kind: 'missing' }
const MALFORMED: BearerCredentials = { kind: 'malformed' }

/** Takes the token out of a header; repeated headers, which runtimes join with a comma, are malformed. */
export function readBearer(header: string | null): BearerCredentials {
  if (header === null) return MISSING
  const value = header.trim()
  if (!SCHEME.test(value)) return MISSING
  if (value.length > LONGEST_TOKEN) return MALFORMED
  const token = CREDENTIALS.exec(value)?.[1]
  return token === undefined ? MALFORMED : { kind: 'token', token }
}
