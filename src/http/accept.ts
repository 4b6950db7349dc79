/** Content negotiation: what `Accept` takes (RFC 9110 §12.5.1) and whether `Content-Type` is JSON. */

/** Which of the two media types of this transport a client takes. */
export interface Accepted {
  /** `application/json` */
  readonly json: boolean
  /** `text/event-stream` */
  readonly sse: boolean
}

const ANYTHING: Accepted = { json: true, sse: true }

/** Clients send a handful of constant headers; beyond this, or for long ones, parsing again (about 1 µs) is cheaper than memory. */
const CACHE_ENTRIES = 64
const LONGEST_CACHED = 256
const cache = new Map<string, Accepted>()

const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+"
const QUOTED = '"(?:[\\t \\x21\\x23-\\x5b\\x5d-\\x7e\\x80-\\xff]|\\\\[\\t \\x20-\\x7e\\x80-\\xff])*"'
const MEDIA_RANGE = new RegExp(`^${TOKEN}/${TOKEN}$`)
const PARAMETER = new RegExp(`^(${TOKEN})=(${TOKEN}|${QUOTED})$`)
const QVALUE = /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/

/**
 * Which media types an `Accept` header takes. Weights count: `q=0` excludes, the most specific range decides (`application/json` over
 * `application/*` over the full wildcard), and of equally specific ones the highest weight. Other parameters are ignored. A list member that
 * the grammar does not allow is ignored, an absent header takes anything, an empty one nothing.
 */
export function acceptsJsonAndSse(header: string | undefined): Accepted {
  if (header === undefined) return ANYTHING
  const known = cache.get(header)
  if (known !== undefined) return known
  const accepted = parseAccept(header)
  if (header.length <= LONGEST_CACHED) {
    if (cache.size >= CACHE_ENTRIES) {
      for (const oldest of cache.keys()) {
        cache.delete(oldest)
        break
      }
    }
    cache.set(header, accepted)
  }
  return accepted
}

/**
 * Whether a `Content-Type` is `application/json` in UTF-8: without a charset, or with `utf-8` (any case, quoted or not). Other
 * parameters mean nothing for JSON (RFC 8259 §11) and are ignored.
 */
export function isJsonContentType(header: string | undefined): boolean {
  if (header === 'application/json') return true
  if (header === undefined) return false
  // A comma outside quotes is a second header line, joined: not one media type.
  if (splitOutsideQuotes(header, ',').length > 1) return false
  const [type, ...parameters] = splitOutsideQuotes(header, ';')
  if (type?.toLowerCase() !== 'application/json') return false
  return parameters.every((parameter) => {
    if (!/^charset[ \t]*(?:=|$)/i.test(parameter)) return true
    const value = PARAMETER.exec(parameter)?.[2]
    return value !== undefined && unquote(value).toLowerCase() === 'utf-8'
  })
}

function parseAccept(header: string): Accepted {
  // Weights by how specific the range is: exact, type/*, */*; undefined while nothing of that kind was seen.
  let anything: number | undefined
  let anyApplication: number | undefined
  let anyText: number | undefined
  let json: number | undefined
  let sse: number | undefined
  for (const member of splitOutsideQuotes(header, ',')) {
    const [range = '', ...parameters] = splitOutsideQuotes(member, ';')
    if (!MEDIA_RANGE.test(range)) continue
    const weight = weightOf(parameters)
    if (weight === undefined) continue
    switch (range.toLowerCase()) {
      case '*/*':
        anything = Math.max(anything ?? 0, weight)
        break
      case 'application/*':
        anyApplication = Math.max(anyApplication ?? 0, weight)
        break
      case 'text/*':
        anyText = Math.max(anyText ?? 0, weight)
        break
      case 'application/json':
        json = Math.max(json ?? 0, weight)
        break
      case 'text/event-stream':
        sse = Math.max(sse ?? 0, weight)
        break
    }
  }
  return {
    json: (json ?? anyApplication ?? anything ?? 0) > 0,
    sse: (sse ?? anyText ?? anything ?? 0) > 0,
  }
}

/** The weight among a range's parameters, wherever it stands (RFC 9110 §12.5.1); undefined when the parameters are malformed. */
function weightOf(parameters: readonly string[]): number | undefined {
  let weight: number | undefined
  for (const parameter of parameters) {
    if (parameter === '') continue
    const match = PARAMETER.exec(parameter)
    if (match === null) return undefined
    if (match[1]?.toLowerCase() !== 'q') continue
    const value = match[2] ?? ''
    if (weight !== undefined || !QVALUE.test(value)) return undefined
    weight = Number(value)
  }
  return weight ?? 1
}

/** Splits at a separator that is not inside a quoted-string and strips white space; linear in the length of the text. */
function splitOutsideQuotes(text: string, separator: ',' | ';'): string[] {
  if (!text.includes('"')) return text.split(separator).map(trim)
  const parts: string[] = []
  let start = 0
  let quoted = false
  for (let index = 0; index < text.length; index++) {
    const character = text[index]
    if (character === '"') quoted = !quoted
    else if (character === '\\' && quoted) index++
    else if (character === separator && !quoted) {
      parts.push(trim(text.slice(start, index)))
      start = index + 1
    }
  }
  parts.push(trim(text.slice(start)))
  return parts
}

// OWS of RFC 9110 §5.6.3 is space and tab only; String.prototype.trim would take more. A regular expression would be quadratic.
function trim(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isBlank(text.charCodeAt(start))) start++
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--
  return text.slice(start, end)
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

function unquote(value: string): string {
  return value.startsWith('"') ? value.slice(1, -1).replace(/\\(.)/g, '$1') : value
}
