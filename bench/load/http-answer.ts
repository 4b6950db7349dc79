/** Reads one HTTP/1.1 response out of raw bytes. */

/** A whole response. */
export interface HttpAnswer {
  readonly status: number
  /** Start line and header lines as sent. */
  readonly head: string
  readonly body: string
}

const HEAD_END = Buffer.from('\r\n\r\n')
const LAST_CHUNK = Buffer.from('0\r\n\r\n')

/**
 * The response that `bytes` begin with, or undefined while some of it is missing.
 * @throws Error when the bytes are not a response whose length can be known.
 */
export function parseAnswer(bytes: Buffer): HttpAnswer | undefined {
  const headEnd = bytes.indexOf(HEAD_END)
  if (headEnd === -1) return undefined
  const head = bytes.toString('latin1', 0, headEnd)
  const status = Number(head.slice(9, 12))
  const bodyStart = headEnd + HEAD_END.length
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
  if (length !== undefined) {
    const bodyEnd = bodyStart + Number(length)
    return bytes.length < bodyEnd
      ? undefined
      : { status, head, body: bytes.toString('utf8', bodyStart, bodyEnd) }
  }
  if (/\r\ntransfer-encoding: *chunked/i.test(head)) {
    if (!bytes.subarray(-LAST_CHUNK.length).equals(LAST_CHUNK)) return undefined
    const body = unchunk(bytes, bodyStart)
    return body === undefined ? undefined : { status, head, body }
  }
  if (status === 204 || status === 304) return { status, head, body: '' }
  throw new Error(`a response without a length: ${head}`)
}

/** The value of a header, by its name in lower case. */
export function headerOf(answer: HttpAnswer, name: string): string | undefined {
  for (const line of answer.head.split('\r\n')) {
    const colon = line.indexOf(':')
    if (colon !== -1 && line.slice(0, colon).toLowerCase() === name) return line.slice(colon + 1).trim()
  }
  return undefined
}

/** The JSON-RPC messages in a body, whether it is JSON or SSE. */
export function messagesOf(answer: HttpAnswer): unknown[] {
  if (!headerOf(answer, 'content-type')?.startsWith('text/event-stream')) return [JSON.parse(answer.body)]
  return answer.body
    .split(/\r?\n/)
    .filter((line) => line.startsWith('data:') && line.slice(5).trim() !== '')
    .map((line) => JSON.parse(line.slice(5)) as unknown)
}

function unchunk(bytes: Buffer, start: number): string | undefined {
  const parts: Buffer[] = []
  let at = start
  for (;;) {
    const lineEnd = bytes.indexOf('\r\n', at)
    if (lineEnd === -1) return undefined
    const size = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16)
    if (Number.isNaN(size)) throw new Error('a chunk without a size')
    if (size === 0) return Buffer.concat(parts).toString()
    const from = lineEnd + 2
    if (from + size + 2 > bytes.length) return undefined
    parts.push(bytes.subarray(from, from + size))
    at = from + size + 2
  }
}
