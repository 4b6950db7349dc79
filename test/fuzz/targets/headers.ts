/** Header fields and request targets: content negotiation, Host and Origin, the path, the addresses of proxies. */

import { acceptsJsonAndSse, isJsonContentType } from '../../../src/http/accept.ts'
import { Cors } from '../../../src/http/cors.ts'
import { Guard } from '../../../src/http/guard.ts'
import { forwardedFor, parseTarget, singleValue } from '../../../src/http/headers.ts'
import { latin1, must, type Target } from '../target.ts'

/** `Accept` and `Content-Type`. What a client means does not depend on case, nor on what else it takes. */
export const accept: Target = {
  name: 'accept',
  about: 'Accept and Content-Type',
  seeds: [
    'application/json, text/event-stream',
    'application/json;charset=utf-8',
    'application/json; charset="UTF-8"; x="a,\\"b"',
    '*/*;q=0.5, application/json;q=0, text/*;v="1;2";q=1.000',
  ],
  words: ['application/json', 'text/event-stream', '*/*', 'text/*', 'application/*', ';q=0', ';q=0.001', ';q=1', ', ', 'charset=', 'utf-8'], // prettier-ignore
  longest: 4096,
  deadline: 1000,
  open: () => ({
    run(input) {
      const text = latin1(input)
      const taken = acceptsJsonAndSse(text)
      const same = (other: string, what: string): void => {
        const again = acceptsJsonAndSse(other)
        must(
          again.json === taken.json && again.sse === taken.sse,
          `${what}: ${JSON.stringify(taken)} became ${JSON.stringify(again)}`,
        )
      }
      same(text, 'asked again')
      same(` \t${text}\t `, 'with white space around it')
      same(asciiUpper(text), 'in capitals')
      if (!text.includes('"')) {
        same(`image/png, ${text}`, 'after a type that means nothing here')
        same(`${text},image/png;q=0`, 'before one')
        must(
          acceptsJsonAndSse(`${text},application/json,text/event-stream`).json,
          'application/json was added and is not taken',
        )
      }
      if (!/json|\*/i.test(text)) must(!taken.json, 'JSON is taken from a header that does not name it')
      if (!/event-stream|\*/i.test(text)) must(!taken.sse, 'SSE is taken from a header that does not name it')
      const json = isJsonContentType(text)
      must(isJsonContentType(asciiUpper(text)) === json, 'a content type depends on case')
      if (json)
        must(/^application\/json[ \t]*(;|$)/i.test(text.trim()), 'something else than JSON passes as JSON')
    },
  }),
}

/** `Host` and `Origin` against what a URL parser, which browsers have, makes of them. */
export const hosts: Target = {
  name: 'hosts',
  about: 'Host and Origin, against the names that a URL parser sees; what CORS answers',
  seeds: [
    'localhost:3000\nhttp://localhost:5173',
    '127.0.0.1\nhttps://app.example.com',
    '[::1]:80\nhttp://[::1]',
    'mcp.example.com:8443\nnull',
    'localhost.evil.example\nhttp://localhost@evil.example',
  ],
  words: ['localhost', '127.0.0.1', '[::1]', 'mcp.example.com', 'app.example.com', 'evil.example', 'http://', 'https://', 'null', '@', ':80', '.', '/', '#', '\\', '0x7f.1', '%31'], // prettier-ignore
  longest: 512,
  deadline: 1000,
  open() {
    const allowedHosts = ['mcp.example.com', 'pinned.example:8443']
    const allowedOrigins = ['https://app.example.com', 'chrome-extension://abcdef']
    const guard = new Guard({ allowedHosts, allowedOrigins })
    const cors = new Cors(allowedOrigins)
    return {
      run(input) {
        const [host = '', origin, requested = ''] = latin1(input).split('\n')
        for (const loopback of [true, false]) {
          const local = (name: string): boolean => loopback && isLoopback(name)
          const found = guard.check(host, origin, loopback)
          if (!found.ok) {
            must(/^[\x20-\x7e]{0,160}$/.test(found.message), 'a refusal holds more than printable ASCII')
            continue
          }
          const name = parsed(`http://${host}`)
          must(name !== undefined, 'a host passes that is none')
          must(
            local(name) || ['mcp.example.com', 'pinned.example'].includes(name.replace(/\.$/, '')),
            `the host ${name} passes`,
          )
          if (origin === undefined) continue
          const lower = origin.toLowerCase()
          const from = parsed(origin)
          must(
            allowedOrigins.includes(lower) || (/^https?:/.test(lower) && from !== undefined && local(from)),
            `the origin ${from} passes`,
          )
        }
        const answer = cors.preflight(origin, 'POST', requested)
        for (const value of Object.values(answer ?? {}))
          must(!/[\r\n\0]/.test(String(value)), 'a preflight puts a line break in a header')
        const granted = cors.headers(origin)?.['Access-Control-Allow-Origin']
        if (granted !== undefined)
          must(granted === origin, 'CORS names another origin than the one that asks')
      },
    }
  },
}

/** Request targets, fields that may stand only once, and `X-Forwarded-For`. */
export const targets: Target = {
  name: 'targets',
  about: 'request targets, fields that may stand once, X-Forwarded-For',
  seeds: ['/mcp?a=b#c', 'http://host:80/mcp', '*', '10.0.0.1, [::1]:80, 1.2.3.4:5', 'abc, abc'],
  words: ['http://', 'https://', '/mcp', '?', '#', ',', '127.0.0.1', '::1', '[::ffff:1.2.3.4]', ':65535'],
  longest: 2048,
  deadline: 1000,
  open: () => ({
    run(input) {
      const text = latin1(input)
      const target = parseTarget(text)
      if (target !== undefined) {
        const { path, search, authority } = target
        must(path.startsWith('/'), 'a path does not begin with a slash')
        must(!/[?#]/.test(path) && !search.includes('#'), 'a path or query has what is behind it')
        must(search === '' || search.startsWith('?'), 'a query does not begin with a question mark')
        const again = parseTarget(path + search)
        must(again?.path === path && again.search === search, 'a path and query are read differently alone')
        must(authority === undefined || !text.startsWith('/'), 'a target in origin-form has an authority')
      }
      const single = singleValue(text)
      if (single !== 'conflict') must(text.includes(single.value ?? ''), 'a value appears from nowhere')
      const doubled = singleValue(`${text},${text}`)
      if (!text.includes(','))
        must(doubled !== 'conflict' && doubled.value === text.trim(), 'the same value twice is a conflict')
      for (const hops of [0, 1, 3]) {
        const from = forwardedFor(text, hops, '192.0.2.1')
        must(from !== undefined && parsed(`http://${from.includes(':') ? `[${from}]` : from}`) !== undefined, 'an address that is none') // prettier-ignore
        const entries = text.split(',').slice(-hops || text.length)
        must(
          from === '192.0.2.1' || (hops > 0 && entries.some((entry) => entry.toLowerCase().includes(from))),
          'an address is believed that no trusted proxy wrote',
        )
      }
    },
  }),
}

function asciiUpper(text: string): string {
  return text.replace(/[a-z]/g, (letter) => letter.toUpperCase())
}

function parsed(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).hostname : undefined
}

function isLoopback(name: string): boolean {
  return /^(?:localhost\.?|127\.\d+\.\d+\.\d+|\[::1\])$/.test(name)
}
