/** What hostile clients of R20 send, and what each kind must be answered with. */

import { rpc, initialize, notification } from '../support/mcp-wire.ts'
import type { Random } from '../simulation/random.ts'

/** What only a running server knows. */
export interface Known {
  readonly host: string
  readonly session: string
  /** Somebody else's, and an event id of it. */
  readonly foreign: string
  readonly foreignCursor: string
}

/** One request and the answer it must get. */
export interface Shot {
  readonly bytes: Buffer
  readonly status: number
  /** Of the JSON-RPC error; undefined where there is none. */
  readonly code: number | undefined
  /** Whether the connection may end with the answer. */
  readonly ends?: boolean
  /** What the body must hold. */
  readonly holds?: string
}

type Fields = readonly (readonly [name: string, value: string])[]
type Kind = (random: Random, known: Known) => Shot

const FIELDS = { Authorization: 'Bearer alice', Accept: 'application/json, text/event-stream', 'Content-Type': 'application/json' } // prettier-ignore
const PING = JSON.stringify(rpc('ping'))

/** A request of alice to her session, but for the fields that are given; undefined leaves one out. */
function http(
  known: Known,
  method: string,
  body: string | Buffer,
  changed: Readonly<Record<string, string | undefined>> = {},
  more: Fields = [],
  target = '/mcp',
): Buffer {
  const bytes = Buffer.from(body)
  const fields: Record<string, string | undefined> = {
    Host: known.host,
    ...FIELDS,
    'Mcp-Session-Id': known.session,
    'Mcp-Protocol-Version': '2025-11-25',
    ...(bytes.length > 0 && { 'Content-Length': String(bytes.length) }),
    ...changed,
  }
  const lines = [...Object.entries(fields), ...more].flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${value}`])) // prettier-ignore
  return Buffer.concat([
    Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1'),
    bytes,
  ])
}

function word(
  random: Random,
  alphabet = 'abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_',
  longest = 60,
): string {
  return Array.from(
    { length: random.int(1, longest) },
    () => alphabet[random.int(0, alphabet.length - 1)],
  ).join('')
}

/** A POST of alice with other fields. */
function fields(
  status: number,
  code: number | undefined,
  change: (random: Random, known: Known) => Readonly<Record<string, string | undefined>>,
  more: (random: Random, known: Known) => Fields = () => [],
): Kind {
  return (random, known) => ({
    status,
    code,
    bytes: http(known, 'POST', PING, change(random, known), more(random, known)),
  })
}

/** A POST of alice with another body. */
function body(
  status: number,
  code: number | undefined,
  make: (random: Random) => string | Buffer | object,
  changed: Readonly<Record<string, string | undefined>> = {},
): Kind {
  return (random, known) => {
    const made = make(random)
    const text = typeof made === 'string' || Buffer.isBuffer(made) ? made : JSON.stringify(made)
    return { status, code, bytes: http(known, 'POST', text, changed) }
  }
}

/** Bytes that Node's parser refuses: the connection ends. */
function broken(status: number, make: (random: Random, known: Known) => string | Buffer): Kind {
  return (random, known) => ({
    status,
    code: -32000,
    ends: true,
    bytes: Buffer.from(make(random, known) as string, 'latin1'),
  })
}

function other(
  method: string,
  status: number,
  code: number | undefined,
  changed: (random: Random, known: Known) => Readonly<Record<string, string | undefined>> = () => ({}),
  target?: (random: Random) => string,
): Kind {
  return (random, known) => ({
    status,
    code,
    bytes: http(known, method, '', changed(random, known), [], target?.(random)),
  })
}

const NASTY = ['\r', '\n', '\0', '\r\n', '\u2028', '"', '\\', '😀', '\ud800', '__proto__', '<script>']

function nasty(random: Random): string {
  return Array.from({ length: random.int(1, 6) }, () => (random.chance(0.5) ? NASTY[random.int(0, NASTY.length - 1)] : word(random, undefined, 8))).join('') // prettier-ignore
}

const deep = (count: number, open: string, middle: string, close: string): string =>
  open.repeat(count) + middle + close.repeat(count)

/** Every kind by name. */
export const KINDS: Readonly<Record<string, Kind>> = {
  // What is right is served, whatever it looks like.
  'id with CR, LF, NUL': (random, known) => {
    const id = nasty(random)
    return { status: 200, code: undefined, holds: `"id":${JSON.stringify(id)}`, bytes: http(known, 'POST', JSON.stringify(rpc('ping', {}, id))) } // prettier-ignore
  },
  'unknown method': body(200, -32601, (random) => rpc(`x${nasty(random)}`)),
  'notification of anything': body(202, undefined, (random) => notification(`notifications/${nasty(random)}`, { a: nasty(random) })), // prettier-ignore
  'answer to no question': body(202, undefined, (random) => ({
    jsonrpc: '2.0',
    id: nasty(random),
    result: {},
  })),
  'ping 10,000 deep': body(200, undefined, () =>
    PING.replace('}', `,"params":{"x":${deep(10_000, '[', '', ']')}}}`),
  ),
  'call 10,000 deep': body(200, undefined, () => `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":${deep(10_000, '{"a":', '1', '}')}}}`), // prettier-ignore
  'the same header twice': fields(
    200,
    undefined,
    () => ({}),
    (_, { session }) => [['Mcp-Session-Id', session]],
  ),
  // Head.
  // Without '/' or without '*': among a million words one says that anything will do.
  'strange Accept': fields(406, -32000, (random) => ({
    Accept: word(random, random.pick(['abc;=,"*q01. ', 'abc/;=,"q01. '])),
  })),
  'Accept with q=0': fields(406, -32000, () => ({ Accept: 'application/json, text/event-stream;q=0' })),
  'strange Content-Type': fields(415, -32000, (random) => ({
    'Content-Type': word(random, 'abc/;="utf-8json '),
  })),
  'Content-Encoding': fields(415, -32000, (random) => ({ 'Content-Encoding': `gzip${word(random)}` })),
  'foreign Host': fields(403, -32000, (random) => ({ Host: `${word(random)}.example` })),
  'foreign Origin': fields(403, -32000, (random) => ({ Origin: `http://${word(random)}.localhost.example` })),
  'two Hosts': fields(
    403,
    -32000,
    () => ({}),
    () => [['Host', 'evil.example']],
  ),
  'two session ids': fields(
    400,
    -32000,
    () => ({}),
    (random) => [['Mcp-Session-Id', word(random)]],
  ),
  'two Content-Types': fields(
    415,
    -32000,
    () => ({}),
    () => [['Content-Type', 'text/plain']],
  ),
  'two tokens': fields(
    401,
    -32000,
    () => ({}),
    () => [['Authorization', 'Bearer bob']],
  ),
  'no token': fields(401, -32000, () => ({ Authorization: undefined })),
  'unknown token': fields(401, -32000, (random) => ({ Authorization: `Bearer ${word(random)}x` })),
  'no session': fields(400, -32000, () => ({ 'Mcp-Session-Id': undefined })),
  'unknown session': fields(404, -32001, (random) => ({ 'Mcp-Session-Id': word(random) })),
  'session of odd characters': fields(404, -32001, (random) => ({ 'Mcp-Session-Id': `x${word(random, '!#$%&/()=?*+~\u00e4\u00ff{}[]"\\')}` })), // prettier-ignore
  'session __proto__': fields(404, -32001, () => ({ 'Mcp-Session-Id': '__proto__' })),
  'session of somebody else': fields(404, -32001, (_, { foreign }) => ({ 'Mcp-Session-Id': foreign })),
  'unknown version': fields(400, -32000, (random) => ({ 'Mcp-Protocol-Version': `1${word(random)}` })),
  'another path': other(
    'GET',
    404,
    -32000,
    () => ({}),
    (random) => `/x${word(random)}`,
  ),
  'another method': (random, known) => other(random.pick(['PUT', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND']), 405, -32000)(random, known), // prettier-ignore
  // Streams.
  'GET without session': other('GET', 405, -32000, () => ({ 'Mcp-Session-Id': undefined })),
  'GET of an unknown session': other('GET', 404, -32001, (random) => ({ 'Mcp-Session-Id': word(random) })),
  'GET that takes no SSE': other('GET', 406, -32000, () => ({ Accept: 'application/json' })),
  'strange cursor': other('GET', 400, -32000, (random) => ({ 'Last-Event-ID': `x${word(random, 'abc.0123456789-_', 400)}` })), // prettier-ignore
  'cursor of somebody else': other('GET', 400, -32000, (_, { foreignCursor }) => ({
    'Last-Event-ID': foreignCursor,
  })),
  'DELETE without session': other('DELETE', 400, -32000, () => ({ 'Mcp-Session-Id': undefined })),
  'DELETE of somebody else': other('DELETE', 404, -32001, (_, { foreign }) => ({
    'Mcp-Session-Id': foreign,
  })),
  // Bodies.
  'not UTF-8': body(400, -32700, (random) => Buffer.from([0x22, 0x80 + random.int(0, 63), 0xff, 0x22])),
  'not JSON': body(400, -32700, (random) => `{${word(random)}`),
  'not JSON-RPC': body(400, -32600, (random) => JSON.stringify(random.pick<unknown>([null, 1, 'x', [], {}, { a: nasty(random) }, { jsonrpc: '1.0', id: 1, method: 'ping' }]))), // prettier-ignore
  'an id that is none': body(400, -32600, (random) => ({ ...rpc('ping'), id: random.pick<unknown>([null, 1.5, 2 ** 53, {}, [1], true]) })), // prettier-ignore
  '10,000 arrays': body(400, -32600, () => deep(10_000, '[', '', ']')),
  'a batch': body(400, -32600, (random) =>
    Array.from({ length: random.int(1, 200) }, (_, n) => rpc('ping', {}, n)),
  ),
  'initialize on a session': body(400, -32600, () => initialize()),
  'initialize without id': body(400, -32600, () => ({ ...initialize(), id: undefined }), { 'Mcp-Session-Id': undefined }), // prettier-ignore
  'initialize too large': body(400, -32600, () => initialize(undefined, { x: 'x'.repeat(17 * 1024) }), { 'Mcp-Session-Id': undefined }), // prettier-ignore
  'declared too large': (_, known) => ({
    ...{ status: 413, code: -32000, ends: true },
    bytes: http(known, 'POST', '', { 'Content-Length': String(100 * 2 ** 20) }),
  }),
  // What is no HTTP.
  'header with NUL': broken(400, (random, { host }) => `POST /mcp HTTP/1.1\r\nHost: ${host}\r\nMcp-Session-Id: ${word(random)}\0${word(random)}\r\n\r\n`), // prettier-ignore
  'header with CR': broken(400, (random, { host }) => `GET /mcp HTTP/1.1\r\nHost: ${host}\r\nLast-Event-ID: ${word(random)}\r${word(random)}\r\n\r\n`), // prettier-ignore
  'two lengths': broken(400, (_, known) =>
    http(known, 'POST', PING, {}, [['Content-Length', '3']]).toString('latin1'),
  ),
  'length and chunks': broken(400, (_, known) => http(known, 'POST', PING, {}, [['Transfer-Encoding', 'chunked']]).toString('latin1')), // prettier-ignore
  'a chunk of no size': broken(400, (random, known) => http(known, 'POST', '', { 'Transfer-Encoding': 'chunked' }).toString('latin1') + `z${word(random)}\r\n`), // prettier-ignore
  'head of 20 KiB': broken(431, (_, { host }) => `GET /mcp HTTP/1.1\r\nHost: ${host}\r\nX: ${'x'.repeat(20 * 1024)}\r\n\r\n`), // prettier-ignore
  garbage: broken(400, (random) => `\u0016\u0003\u0001${word(random)}\r\n\r\n`),
}
