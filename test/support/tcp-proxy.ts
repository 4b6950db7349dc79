/** A TCP proxy that tests cut: it stands between a client and a server, and ends connections as networks do. */

import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

import { onTestFinished } from 'vitest'

/**
 * How a connection is cut: `fin` closes it in order, in the middle of whatever was on its way; `rst` resets it; `silence` keeps both
 * ends open and passes nothing on any more, as a pulled cable or a forgetful NAT does.
 */
export type Cut = 'fin' | 'rst' | 'silence'

/** One connection through the proxy. */
export class ProxiedConnection {
  readonly #client: Socket
  readonly #server: Socket
  #request = ''
  #silent = false

  constructor(client: Socket, server: Socket) {
    this.#client = client
    this.#server = server
    client.on('data', (chunk: Buffer) => {
      if (this.#silent) return
      const text = chunk.toString('latin1')
      // A chunk that starts a request starts the record anew: HTTP clients send one after the other.
      this.#request = /^(?:GET|POST|DELETE) /.test(text) ? text : this.#request + text
      server.write(chunk)
    })
    server.on('data', (chunk: Buffer) => {
      if (!this.#silent) client.write(chunk)
    })
    client.on('end', () => this.#silent || server.end())
    server.on('end', () => this.#silent || client.end())
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      socket.on('error', () => {})
      socket.on('close', (failed) => {
        if (this.#silent) return
        if (failed) other.resetAndDestroy()
        else other.end()
      })
    }
  }

  /** The last HTTP request that was sent on it: head and body as far as they came. */
  get request(): string {
    return this.#request
  }

  /** Whether either end is closed. */
  get closed(): boolean {
    return this.#client.destroyed || this.#server.destroyed
  }

  /** Cuts it. */
  cut(how: Cut): void {
    if (how === 'silence') this.#silent = true
    else if (how === 'rst') {
      this.#client.resetAndDestroy()
      this.#server.resetAndDestroy()
    } else {
      this.#client.end()
      this.#server.end()
    }
  }

  /** Resets the client's end only: what a client learns when the network is back after a silence. */
  wakeClient(): void {
    this.#client.resetAndDestroy()
  }

  /** Ends both sides without ceremony. */
  destroy(): void {
    this.#client.destroy()
    this.#server.destroy()
  }
}

/** A listening proxy. */
export interface TcpProxy {
  readonly port: number
  /** `http://127.0.0.1:<port>/mcp` */
  readonly url: URL
  /** Where new connections go; may be changed. */
  target: number
  /** New connections are taken, and passed on when this resolves: what a load balancer does while a server is replaced. */
  held: Promise<unknown> | undefined
  /** Connections that are still open. */
  readonly open: readonly ProxiedConnection[]
  /** The open connection whose last request fits; fails where there is not exactly one. */
  find(request: RegExp): ProxiedConnection
}

/** Starts a proxy to a local port; it ends with the test. */
export async function tcpProxy(target: number): Promise<TcpProxy> {
  const connections = new Set<ProxiedConnection>()
  const server: Server = createServer({ allowHalfOpen: true }, async (client) => {
    client.on('error', () => {})
    if (proxy.held !== undefined) await proxy.held
    const upstream = connect({ port: proxy.target, host: '127.0.0.1', allowHalfOpen: true })
    client.setNoDelay(true)
    upstream.setNoDelay(true)
    connections.add(new ProxiedConnection(client, upstream))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  const proxy: TcpProxy = {
    port,
    url: new URL(`http://127.0.0.1:${port}/mcp`),
    target,
    held: undefined,
    get open() {
      return [...connections].filter((connection) => !connection.closed)
    },
    find(request) {
      const found = this.open.filter((connection) => request.test(connection.request))
      const [connection] = found
      if (connection === undefined || found.length > 1) {
        throw new Error(`${found.length} open connections whose last request fits ${String(request)}`)
      }
      return connection
    },
  }
  onTestFinished(async () => {
    const closed = new Promise((resolve) => server.close(resolve))
    for (const connection of connections) connection.destroy()
    await closed
  })
  return proxy
}
