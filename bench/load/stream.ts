/** One open GET stream: a socket that counts what it hears. */

import { connect, type Socket } from 'node:net'

/** What tells one notification of the benchmark from the rest of a stream. */
const NOTIFICATION = 'list_changed'

/** How long a stream may take to open, or to hear what it waits for, in ms. */
const TIMEOUT = 30_000

/** A stream from its head on. */
export class EventStream {
  readonly #socket: Socket
  #heard = 0
  #lastEventId: string | undefined
  #rest = ''
  #wanted = Number.POSITIVE_INFINITY
  #resolve: (() => void) | undefined
  #reject: ((error: Error) => void) | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
  }

  /** Opens a stream with the bytes of a GET; resolves when its head is here and says 200. */
  static open(port: number, request: Buffer): Promise<EventStream> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', noDelay: true }, () => socket.write(request))
      const stream = new EventStream(socket)
      socket.setTimeout(TIMEOUT, () => socket.destroy(new Error('the stream hears nothing')))
      socket.on('error', (error) => {
        reject(error)
        stream.#reject?.(error)
      })
      socket.on('close', () => {
        reject(new Error('the server closed the stream'))
        stream.#reject?.(new Error('the server closed the stream'))
      })
      let head = ''
      const readHead = (chunk: Buffer): void => {
        head += chunk.toString('latin1')
        const end = head.indexOf('\r\n\r\n')
        if (end === -1) return
        socket.off('data', readHead)
        socket.setTimeout(0)
        if (!head.startsWith('HTTP/1.1 200')) {
          reject(new Error(`unexpected answer to GET: ${head.slice(0, 200)}`))
          return
        }
        stream.#read(head.slice(end + 4))
        socket.on('data', (data) => stream.#read(data.toString('latin1')))
        resolve(stream)
      }
      socket.on('data', readHead)
    })
  }

  /** The id of the last event that had one. */
  get lastEventId(): string | undefined {
    return this.#lastEventId
  }

  /** Resolves when so many notifications were heard since the last time. */
  hear(count: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`heard ${this.#heard} of ${count}`)), TIMEOUT)
      const done = (settle: () => void) => (): void => {
        clearTimeout(timer)
        this.#wanted = Number.POSITIVE_INFINITY
        settle()
      }
      this.#wanted = count
      this.#resolve = done(resolve)
      this.#reject = (error) => done(() => reject(error))()
      this.#tell()
    })
  }

  /** Goes away without a word. */
  abandon(): void {
    this.#reject = undefined
    this.#socket.removeAllListeners('close').destroy()
  }

  #read(text: string): void {
    const seen = this.#rest + text
    for (let at = seen.indexOf(NOTIFICATION); at !== -1; at = seen.indexOf(NOTIFICATION, at + 1))
      this.#heard += 1
    const id = /(?:^|\n)id: ?([^\r\n]+)\r?\n(?![\s\S]*\nid:)/.exec(seen)?.[1]
    if (id !== undefined) this.#lastEventId = id
    // What was cut in two by the network: kept from the last notification on, so that none counts twice.
    const last = seen.lastIndexOf(NOTIFICATION)
    this.#rest = seen.slice(
      Math.max(seen.lastIndexOf('\n') + 1, last === -1 ? 0 : last + NOTIFICATION.length),
    )
    this.#tell()
  }

  #tell(): void {
    if (this.#heard < this.#wanted) return
    this.#heard -= this.#wanted
    this.#resolve?.()
  }
}
