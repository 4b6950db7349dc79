/** One kept-alive socket that asks, waits for the whole answer and asks again. */

import { connect, type Socket } from 'node:net'
import { parseAnswer, type HttpAnswer } from './http-answer.ts'

/** One answer in this many is parsed and checked whole; the others only by status and length. */
const CHECK_EVERY = 256

/** How long a server may take to answer before the round fails, in ms. */
const ANSWER_TIMEOUT = 20_000

/** Builds the bytes of the next request, and checks the answer to the last one. */
export interface Script {
  next(): Buffer
  /** @throws Error when the answer to the last request is wrong. */
  check(answer: HttpAnswer): void
}

/** A client connection of pipelining depth 1. */
export class Connection {
  readonly #socket: Socket
  readonly #chunks: Buffer[] = []
  #received = 0
  #statusOk = false
  /** Length of the answers of a running script; -1 while it is not known. */
  #expected = -1
  #answers = 0
  #onAnswer: ((answer: HttpAnswer | undefined) => void) | undefined
  #onFailure: ((error: Error) => void) | undefined
  #failed: Error | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk) => this.#read(chunk))
    socket.on('error', (error) => this.#fail(error))
    socket.on('close', () => this.#fail(new Error('the server closed the connection')))
    socket.setTimeout(ANSWER_TIMEOUT, () => this.#fail(new Error('the server does not answer')))
  }

  /** Connects to a port of this machine. */
  static open(port: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', noDelay: true })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new Connection(socket))
      })
    })
  }

  /** Sends one request and returns its whole answer. */
  ask(request: Buffer): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#failed !== undefined) return reject(this.#failed)
      this.#expected = -1
      this.#onFailure = reject
      this.#onAnswer = (answer) => {
        this.#onAnswer = undefined
        this.#onFailure = undefined
        if (answer !== undefined) resolve(answer)
      }
      this.#socket.write(request)
    })
  }

  /** Follows a script until `deadline` (`performance.now()` in ms) and returns how many requests were answered. */
  drive(script: Script, deadline: number): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#failed !== undefined) return reject(this.#failed)
      let calls = 0
      this.#expected = -1
      this.#onFailure = reject
      this.#onAnswer = (answer) => {
        calls += 1
        if (answer !== undefined) script.check(answer)
        if (performance.now() < deadline) {
          this.#socket.write(script.next())
        } else {
          this.#onAnswer = undefined
          this.#onFailure = undefined
          resolve(calls)
        }
      }
      this.#socket.write(script.next())
    })
  }

  /** Goes away without a word, as clients do. */
  abandon(): void {
    this.#onFailure = undefined
    this.#socket.destroy()
  }

  #read(chunk: Buffer): void {
    if (this.#received === 0) {
      // "HTTP/1.1 200": the three bytes after the ninth.
      this.#statusOk = chunk.length > 12 && chunk[9] === 0x32 && chunk[10] === 0x30 && chunk[11] === 0x30
    }
    this.#received += chunk.length
    if (this.#received === this.#expected && this.#statusOk && this.#answers % CHECK_EVERY !== 0) {
      this.#finish(undefined)
      return
    }
    this.#chunks.push(chunk)
    // The fast path must not lose what came before: chunks are kept until the answer is whole.
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks)
    try {
      const answer = parseAnswer(bytes)
      if (answer === undefined) return
      this.#expected = bytes.length
      this.#finish(answer)
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #finish(answer: HttpAnswer | undefined): void {
    this.#chunks.length = 0
    this.#received = 0
    this.#answers += 1
    this.#onAnswer?.(answer)
  }

  #fail(error: Error): void {
    this.#failed ??= error
    const failed = this.#onFailure
    this.#onFailure = undefined
    this.#onAnswer = undefined
    this.#socket.destroy()
    failed?.(error)
  }
}
