/** Header fields and request targets, read with the care that values from strangers need. */

/** A header field that may stand only once; shared, so that the usual case of an absent field allocates nothing. */
const ABSENT = { value: undefined } as const

/**
 * The value of a field that must not be repeated with different values. Runtimes join repeated fields with a comma (RFC 9110 §5.3):
 * the same value twice is that value, two different ones are a conflict.
 */
export function singleValue(header: string | undefined): { readonly value: string | undefined } | 'conflict' {
  if (header === undefined) return ABSENT
  if (!header.includes(',')) return { value: header }
  const [first = '', ...others] = header.split(',')
  const value = first.trim()
  return others.every((other) => other.trim() === value) ? { value } : 'conflict'
}

/** The parts of a request target; see {@link parseTarget}. */
export interface ParsedTarget {
  /** The path as sent, neither decoded nor normalized; begins with `/`. */
  readonly path: string
  /** The query with its `?`, or the empty string. */
  readonly search: string
  /** `host[:port]` of an absolute-form target, which overrides the `Host` header (RFC 9112 §3.2.2); undefined in origin-form. */
  readonly authority: string | undefined
}

/**
 * Takes apart a request target in origin-form (`/mcp?x`) or absolute-form (`http://host/mcp?x`, RFC 9112 §3.2); undefined for
 * anything else. A fragment, which no target may have, is left out.
 */
export function parseTarget(target: string): ParsedTarget | undefined {
  let authority: string | undefined
  let rest = target
  if (!target.startsWith('/')) {
    const match = /^https?:\/\/([^/?#]+)/i.exec(target)
    if (match === null) return undefined
    authority = match[1]
    rest = target.slice(match[0].length)
  }
  const hash = rest.indexOf('#')
  if (hash >= 0) rest = rest.slice(0, hash)
  const query = rest.indexOf('?')
  const path = query < 0 ? rest : rest.slice(0, query)
  return { path: path === '' ? '/' : path, search: query < 0 ? '' : rest.slice(query), authority }
}

/**
 * The address of the client behind `hops` trusted reverse proxies, each of which appends to `X-Forwarded-For` who connected to it.
 * Only the last `hops` entries are believed, counted from the right, since a client can send the header itself. The walk ends at the
 * first entry that is missing or no IP address: what a proxy did not write is never returned.
 *
 * @param hops number of trusted proxies; 0 ignores the header
 */
export function forwardedFor(
  header: string | undefined,
  hops: number,
  socketAddress: string | undefined,
): string | undefined {
  let client = socketAddress
  let end = header?.length ?? 0
  for (let hop = 0; header !== undefined && hop < hops && end > 0; hop++) {
    const comma = header.lastIndexOf(',', end - 1)
    const address = parseAddress(header.slice(comma + 1, end).trim())
    if (address === undefined) break
    client = address
    end = comma
  }
  return client
}

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?::\d{1,5})?$/
const IPV6 = /^(?:\[([0-9a-f:.]{2,45})\](?::\d{1,5})?|([0-9a-f:.]{2,45}))$/i

/** The address of an `X-Forwarded-For` entry, which some proxies write with a port; undefined when it is none. */
function parseAddress(entry: string): string | undefined {
  if (IPV4.test(entry)) return entry.split(':', 1)[0]
  const match = IPV6.exec(entry)
  const address = match?.[1] ?? match?.[2]
  if (address === undefined || !address.includes(':')) return undefined
  return URL.canParse(`http://[${address}]`) ? address.toLowerCase() : undefined
}

/**
 * What clients are counted by who can choose their address: an IPv4 address, also where it is written as an IPv6 one, or the first 64
 * bits of an IPv6 address, since every host has the rest to itself (RFC 4291 §2.5.1). Undefined for what is no address.
 */
export function clientNetwork(address: string | undefined): string | undefined {
  if (address === undefined) return undefined
  if (!address.includes(':')) return IPV4.test(address) ? address.split(':', 1)[0] : undefined
  const [plain = ''] = address.toLowerCase().split('%', 1)
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(plain)?.[1]
  if (mapped !== undefined) return mapped
  const [before = '', after] = plain.split('::')
  const head = before === '' ? [] : before.split(':')
  const tail = after === undefined || after === '' ? [] : after.split(':')
  // A dotted end stands for two groups.
  const groups = head.length + tail.length + (plain.includes('.') ? 1 : 0)
  const missing = after === undefined ? 0 : Math.max(0, 8 - groups)
  const all = [...head, ...Array.from({ length: missing }, () => '0'), ...tail]
  if (all.length < 7) return undefined
  return `${all
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`
}
