/** Very many light clients in one process: connections that are shared by requests, streams that note what they hear, and percentiles. */

import { connect, type Socket } from 'node:net'

import { type HttpAnswer, headerOf, parseAnswer } from '../../bench/load/http-answer.ts'
import { initialize, notification } from '../support/mcp-wire.ts'

/** How long anything is waited for, in milliseconds: what takes longer hangs. */
const DEADLINE = 30_000

const VERSION = '2025-11-25'

/** Header fields of a caller beside those that every request has: who it is, or what proxies say of it. */
export type CallerFields = Readonly<Record<string, string>>

/** A request as bytes. */
export function encode(
  method: 'POST' | 'GET' | 'DELETE',
  { session, cursor, fields = {} }: { session?: string; cursor?: string; fields?: CallerFields } = {},
  message?: object,
): string {
  const body = message === undefined ? '' : JSON.stringify(message)
  const lines = [
    `${method} /mcp HTTP/1.1`,
    'Host: 127.0.0.1',
    `Accept: ${method === 'GET' ? 'text/event-stream' : 'application/json, text/event-stream'}`,
    ...(session === undefined ? [] : [`Mcp-Session-Id: ${session}`, `Mcp-Protocol-Version: ${VERSION}`]),
    ...(cursor === undefined ? [] : [`Last-Event-ID: ${cursor}`]),
    ...Object.entries(fields).map(([name, value]) => `${name}: ${value}`),
    ...(message === undefined
      ? []
      : ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`]),
  ]
  return `${lines.join('\r\n')}\r\n\r\n${body}`
}

/** One kept-alive connection with at most one request on it. */
class Lane {
  readonly #port: number
  readonly #localAddress: string
  #socket: Socket | undefined
  #chunks: Buffer[] = []
  #settle: ((answer: HttpAnswer | Error) => void) | undefined

  constructor(port: number, localAddress: string) {
    this.#port = port
    this.#localAddress = localAddress
  }

  ask(request: string): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const socket = (this.#socket ??= this.#connect())
      const timer = setTimeout(() => socket.destroy(new Error('no answer')), DEADLINE)
      this.#settle = (answer) => {
        clearTimeout(timer)
        this.#settle = undefined
        this.#chunks = []
        if (answer instanceof Error) reject(answer)
        else resolve(answer)
      }
      socket.write(request)
    })
  }

  close(): void {
    this.#socket?.destroy()
  }

  #connect(): Socket {
    const socket = connect({
      port: this.#port,
      host: '127.0.0.1',
      localAddress: this.#localAddress,
      noDelay: true,
    })
    let failure: Error | undefined
    socket.on('error', (error) => (failure = error))
    // A server may close what nobody uses: the next request connects anew.
    socket.on('close', () => {
      if (this.#socket === socket) this.#socket = undefined
      this.#settle?.(failure ?? new Error('the connection was closed'))
    })
    socket.on('data', (chunk) => {
      this.#chunks.push(chunk)
      const answer = parseAnswer(this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks))
      if (answer !== undefined) this.#settle?.(answer)
    })
    return socket
  }
}

/** Connections that are shared: whoever asks gets a free one, or waits for it. */
export class Pool {
  readonly #free: Lane[]
  readonly #lanes: readonly Lane[]
  readonly #waiting: ((lane: Lane) => void)[] = []

  /** `localAddress`: where they come from, any of 127.0.0.0/8. */
  constructor(port: number, size: number, localAddress: string = '127.0.0.1') {
    this.#lanes = Array.from({ length: size }, () => new Lane(port, localAddress))
    this.#free = [...this.#lanes]
  }

  async ask(request: string): Promise<HttpAnswer> {
    const lane = this.#free.pop() ?? (await new Promise<Lane>((resolve) => this.#waiting.push(resolve)))
    try {
      return await lane.ask(request)
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free.push(lane)
      else next(lane)
    }
  }

  /** The id of a new session whose handshake is over. */
  async open(fields: CallerFields = {}): Promise<string> {
    const opened = await this.ask(encode('POST', { fields }, initialize(VERSION)))
    const session = headerOf(opened, 'mcp-session-id')
    if (opened.status !== 200 || session === undefined)
      throw new Error(`initialize was answered with ${opened.status} ${opened.body.slice(0, 200)}`)
    const initialized = notification('notifications/initialized')
    const { status } = await this.ask(encode('POST', { session, fields }, initialized))
    if (status !== 202) throw new Error(`notifications/initialized was answered with ${status}`)
    return session
  }

  close(): void {
    for (const lane of this.#lanes) lane.close()
  }
}

/** Told of a ping, which is to be answered. */
type OnPing = (session: string, id: unknown) => void

/** An open GET stream. It keeps the last event id, counts messages, and answers pings where it is told how. */
export class LightStream {
  readonly session: string
  /** The id of the last event that had one. */
  cursor: string | undefined
  /** Messages heard, pings aside. */
  heard = 0
  /** Why it ended, once it did. */
  gone: Error | undefined
  readonly #socket: Socket
  readonly #onping: OnPing | undefined
  #rest = ''
  #wanted = Number.POSITIVE_INFINITY
  #settle: ((error?: Error) => void) | undefined

  private constructor(socket: Socket, session: string, onping: OnPing | undefined) {
    this.#socket = socket
    this.session = session
    this.#onping = onping
  }

  /** Opens one, or goes on with it after an event; resolves when its head is there and says 200. */
  static open(
    port: number,
    session: string,
    {
      cursor,
      onping,
      fields = {},
    }: { cursor?: string | undefined; onping?: OnPing | undefined; fields?: CallerFields } = {},
  ): Promise<LightStream> {
    return new Promise((resolve, reject) => {
      const request = encode('GET', { session, fields, ...(cursor !== undefined && { cursor }) })
      const socket = connect({ port, host: '127.0.0.1', noDelay: true }, () => socket.write(request))
      const stream = new LightStream(socket, session, onping)
      const timer = setTimeout(() => socket.destroy(new Error('no head')), DEADLINE)
      let failure: Error | undefined
      socket.on('error', (error) => (failure = error))
      socket.on('close', () => {
        clearTimeout(timer)
        stream.gone = failure ?? new Error('the server closed the stream')
        reject(stream.gone)
        stream.#settle?.(stream.gone)
      })
      let head = ''
      const readHead = (chunk: Buffer): void => {
        head += chunk.toString('latin1')
        const end = head.indexOf('\r\n\r\n')
        if (end < 0) return
        clearTimeout(timer)
        socket.off('data', readHead)
        if (!head.startsWith('HTTP/1.1 200')) {
          socket.destroy(new Error(`GET was answered with ${head.slice(9, 300)}`))
          return
        }
        socket.on('data', (data) => stream.#read(data.toString('latin1')))
        stream.#read(head.slice(end + 4))
        head = ''
        resolve(stream)
      }
      socket.on('data', readHead)
    })
  }

  /** Resolves when so many messages were heard in all. */
  async until(count: number): Promise<void> {
    if (this.heard >= count) return
    if (this.gone !== undefined) throw this.gone
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => this.#settle?.(new Error(`heard ${this.heard} of ${count} messages`)),
        DEADLINE,
      )
      this.#wanted = count
      this.#settle = (error) => {
        clearTimeout(timer)
        this.#settle = undefined
        this.#wanted = Number.POSITIVE_INFINITY
        if (error === undefined) resolve()
        else reject(error)
      }
    })
  }

  /** Goes away: orderly, or with a reset. */
  cut(how: 'fin' | 'rst' = 'fin'): void {
    this.#socket.removeAllListeners('close')
    this.#socket.removeAllListeners('data')
    if (how === 'rst') this.#socket.resetAndDestroy()
    else this.#socket.destroy()
  }

  // Chunk sizes are lines of their own between those of events.
  #read(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.startsWith('id:')) this.cursor = line.slice(3).trim()
      else if (line.startsWith('data:') && line.length > 7) this.#message(line.slice(5))
    }
    if (this.heard >= this.#wanted) this.#settle?.()
  }

  #message(data: string): void {
    if (!data.includes('"method":"ping"')) {
      this.heard += 1
      return
    }
    const { id } = JSON.parse(data) as { id: unknown }
    this.#onping?.(this.session, id)
  }
}

/** Does `count` tasks, at most `width` at once. */
export async function inParallel(
  count: number,
  width: number,
  task: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const work = async (): Promise<void> => {
    while (next < count) await task(next++)
  }
  await Promise.all(Array.from({ length: Math.min(width, count) }, work))
}

/**
 * Begins tasks at a steady rate whatever becomes of them, and waits for all. Each is told when it was due: what a server is late by counts
 * for all who waited.
 */
export async function atRate(
  perSecond: number,
  milliseconds: number,
  task: (due: number, index: number) => Promise<void>,
): Promise<void> {
  const began = performance.now()
  const total = Math.round((perSecond * milliseconds) / 1000)
  const running = new Set<Promise<void>>()
  for (let begun = 0; begun < total;) {
    const due = Math.min(total, Math.floor(((performance.now() - began) * perSecond) / 1000) + 1)
    for (; begun < due; begun++) {
      const one: Promise<void> = task(began + (begun * 1000) / perSecond, begun).finally(() =>
        running.delete(one),
      )
      running.add(one)
    }
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  await Promise.all(running)
}

/** Times in milliseconds. */
export interface Times {
  readonly count: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

/** The percentiles of times. */
export function timesOf(values: readonly number[]): Times {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number): number => sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}
