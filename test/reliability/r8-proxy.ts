/** A TCP proxy that cuts to the byte: so many bytes still reach the client, then the connection ends as networks end it. */

import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

import type { Cut } from '../support/tcp-proxy.ts'

/** One connection through the proxy. */
export class CutConnection {
  readonly #client: Socket
  readonly #server: Socket
  #left = Number.POSITIVE_INFINITY
  #how: Cut = 'fin'
  #cut = false
  #tell: (() => void) | undefined

  constructor(client: Socket, server: Socket) {
    this.#client = client
    this.#server = server
    client.setNoDelay(true)
    server.setNoDelay(true)
    client.on('data', (bytes: Buffer) => this.#cut || server.write(bytes))
    server.on('data', (bytes: Buffer) => this.#pass(bytes))
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      socket.on('error', () => {})
      socket.on('end', () => this.#cut || other.end())
      socket.on('close', () => this.#cut || other.destroy())
    }
  }

  /** Lets so many bytes more through to the client, then cuts. Resolves when it is cut. */
  cutAfter(bytes: number, how: Cut): Promise<void> {
    this.#how = how
    this.#left = bytes
    return new Promise((resolve) => {
      this.#tell = resolve
      if (bytes === 0) this.#now()
    })
  }

  /** Ends both sides without ceremony. */
  destroy(): void {
    this.#cut = true
    this.#client.destroy()
    this.#server.destroy()
  }

  #pass(bytes: Buffer): void {
    if (this.#cut) return
    this.#client.write(bytes.subarray(0, Math.min(bytes.length, this.#left)))
    this.#left -= bytes.length
    if (this.#left <= 0) this.#now()
  }

  #now(): void {
    this.#cut = true
    if (this.#how === 'rst') {
      this.#client.resetAndDestroy()
      this.#server.resetAndDestroy()
    } else if (this.#how === 'fin') {
      this.#client.end()
      this.#server.end()
    }
    this.#tell?.()
  }
}

/** A listening proxy. */
export class CutProxy {
  readonly #server: Server
  readonly #connections = new Map<number, CutConnection>()
  readonly #waiting = new Map<number, (connection: CutConnection) => void>()

  private constructor(target: number) {
    this.#server = createServer({ allowHalfOpen: true }, (client) => {
      const upstream = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true })
      const connection = new CutConnection(client, upstream)
      const { remotePort = 0 } = client
      this.#connections.set(remotePort, connection)
      this.#waiting.get(remotePort)?.(connection)
      this.#waiting.delete(remotePort)
      client.on('close', () => {
        if (this.#connections.get(remotePort) === connection) this.#connections.delete(remotePort)
      })
    })
  }

  /** Starts one in front of a local port. */
  static async start(target: number): Promise<CutProxy> {
    const proxy = new CutProxy(target)
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once('error', reject)
      proxy.#server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, resolve)
    })
    return proxy
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** The connection of the client that has this local port. */
  async take(localPort: number): Promise<CutConnection> {
    const there = this.#connections.get(localPort)
    const connection =
      there ?? (await new Promise<CutConnection>((resolve) => this.#waiting.set(localPort, resolve)))
    return connection
  }

  async close(): Promise<void> {
    for (const connection of this.#connections.values()) connection.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}
