/** Who may talk to this server at all: `Host` and `Origin` checks against DNS rebinding (MCP transports, "Security Warning"). */

/** What {@link Guard} is built from; see the options of the same names. */
export interface GuardOptions {
  readonly allowedHosts?: readonly string[] | 'any' | undefined
  readonly allowedOrigins?: readonly string[] | 'any' | undefined
  readonly corsOrigins?: readonly string[] | '*' | undefined
}

/** What {@link Guard.check} finds. */
export type GuardResult =
  | { readonly ok: true }
  | {
      readonly ok: false
      /** For the body of the 403: printable ASCII, bounded. */
      readonly message: string
      /** The option that would allow it, for the log line. */
      readonly option: 'allowedHosts' | 'allowedOrigins'
    }

const PASS: GuardResult = { ok: true }

/** Longest header value repeated in a message, in characters. */
const LONGEST_SHOWN = 100

const OCTET = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
/** Only the forms that browsers send: `127.1` and `0x7f.1` are the same address, but nobody honest writes them. */
const LOOPBACK = new RegExp(`^(?:localhost|127\\.${OCTET}\\.${OCTET}\\.${OCTET}|\\[::1\\])$`)
/** host [":" port] of RFC 9110 §7.2, without the percent-encoding and sub-delims that no DNS name has. */
const HOST = /^([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(?::(\d{1,5}))?$/i
const ORIGIN = /^([a-z][a-z0-9+.-]*):\/\/([^\s/?#@\\]+)$/

interface HostAndPort {
  readonly name: string
  readonly port: string | undefined
}

/**
 * Checks `Host` and `Origin` of every request. Bound to a loopback address, loopback names pass with any port, beside the explicit
 * lists; otherwise only the lists do. Hosts match by name (and by port, where the entry has one), origins as a whole.
 */
export class Guard {
  /** Undefined when any host may. */
  readonly #hosts: readonly HostAndPort[] | undefined
  /** Undefined when any origin may. */
  readonly #origins: ReadonlySet<string> | undefined
  // Nearly all requests of a server name the same host: remember the last good one.
  #lastHost: string | undefined
  #lastLoopback = false

  /** @throws RangeError naming the option and the entry that is no host or no origin */
  constructor(options: GuardOptions) {
    const { allowedHosts = [], allowedOrigins = [], corsOrigins = [] } = options
    this.#hosts = allowedHosts === 'any' ? undefined : allowedHosts.map(hostEntry)
    if (allowedOrigins === 'any' || corsOrigins === '*') {
      this.#origins = undefined
      return
    }
    this.#origins = new Set([
      ...allowedOrigins.map((entry) => originEntry('allowedOrigins', entry)),
      ...corsOrigins.map((entry) => originEntry('corsOrigins', entry)),
    ])
  }

  /**
   * @param host the `Host` header; HTTP/1.1 demands one, so its absence is refused
   * @param origin the `Origin` header; only browsers send one, so its absence passes
   * @param loopback whether the listener is bound to loopback; undefined (not known) counts as no
   */
  check(host: string | undefined, origin: string | undefined, loopback: boolean | undefined): GuardResult {
    const local = loopback === true
    if (!this.#hostAllowed(host, local)) {
      const message = host === undefined ? 'Missing Host header' : `Invalid Host header: ${printable(host)}`
      return { ok: false, message, option: 'allowedHosts' }
    }
    if (origin !== undefined && !this.#originAllowed(origin, local)) {
      return { ok: false, message: `Invalid Origin header: ${printable(origin)}`, option: 'allowedOrigins' }
    }
    return PASS
  }

  #hostAllowed(host: string | undefined, local: boolean): boolean {
    if (this.#hosts === undefined) return true
    if (host === undefined) return false
    if (host === this.#lastHost && local === this.#lastLoopback) return true
    const given = parseHost(host)
    if (given === undefined) return false
    const allowed = (local && LOOPBACK.test(given.name)) || this.#hosts.some((entry) => matches(entry, given))
    if (allowed) {
      this.#lastHost = host
      this.#lastLoopback = local
    }
    return allowed
  }

  #originAllowed(origin: string, local: boolean): boolean {
    if (this.#origins === undefined) return true
    // Scheme and host are case-insensitive (RFC 6454 §4); browsers send them in lower case.
    const lower = origin.toLowerCase()
    if (this.#origins.has(lower)) return true
    if (!local) return false
    const match = ORIGIN.exec(lower)
    if (match?.[1] !== 'http' && match?.[1] !== 'https') return false
    const given = parseHost(match[2] ?? '')
    return given !== undefined && LOOPBACK.test(given.name)
  }
}

/**
 * An origin of an option as browsers send it: lower case, ASCII, without a default port.
 * @throws RangeError naming the option, what it got and what it takes
 */
export function originEntry(option: 'allowedOrigins' | 'corsOrigins', entry: string): string {
  const match = ORIGIN.exec(entry.trim().toLowerCase().replace(/\/$/, ''))
  const url = match === null ? undefined : parseUrl(match[0])
  if (match === null || url === undefined || url.username !== '' || match[2]?.includes('*')) {
    throw new RangeError(
      `${option} takes origins as browsers send them, such as 'https://app.example.com' or 'http://localhost:5173', got ${JSON.stringify(entry)}`,
    )
  }
  // URL has an origin only for the schemes it knows; those of extensions and editors stay as they are.
  return url.origin === 'null' ? match[0] : url.origin
}

/** A value that goes into a message: printable ASCII, at most 100 characters. */
export function printable(value: string): string {
  return value.slice(0, LONGEST_SHOWN).replace(/[^\x20-\x7e]/g, '?')
}

function hostEntry(entry: string): HostAndPort {
  const trimmed = entry.trim()
  const bare = /[/?#@\\*\s]/.test(trimmed) ? undefined : parseUrl(`http://${bracketed(trimmed)}`)
  const parsed = bare === undefined ? undefined : parseHost(bare.hostname)
  if (parsed === undefined) {
    throw new RangeError(
      `allowedHosts takes host names such as 'mcp.example.com' or 'localhost:3000', without scheme, path or '*', got ${JSON.stringify(entry)}`,
    )
  }
  // From the text, not from the URL, which drops port 80.
  return { name: parsed.name, port: /:(\d+)$/.exec(bracketed(trimmed))?.[1]?.replace(/^0+(?=\d)/, '') }
}

/** IPv6 addresses are often configured without the brackets that `Host` has. */
function bracketed(host: string): string {
  return /^[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*$/i.test(host) ? `[${host}]` : host
}

function parseHost(host: string): HostAndPort | undefined {
  const match = HOST.exec(host)
  if (match === null) return undefined
  const [, name = '', port] = match
  if (port !== undefined && Number(port) > 65535) return undefined
  if (name.startsWith('[')) {
    const url = parseUrl(`http://${name}`)
    return url === undefined ? undefined : { name: url.hostname, port }
  }
  return { name: name.toLowerCase().replace(/\.$/, ''), port }
}

function matches(entry: HostAndPort, given: HostAndPort): boolean {
  if (entry.name !== given.name) return false
  if (entry.port === undefined || entry.port === given.port) return true
  // Clients leave out the default port, and which one that is only the scheme tells, which a proxy may have ended.
  return given.port === undefined && (entry.port === '80' || entry.port === '443')
}

function parseUrl(text: string): URL | undefined {
  try {
    return new URL(text)
  } catch {
    return undefined
  }
}
