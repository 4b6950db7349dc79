/** What a server process needs to know of what it serves. */

import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTcpServer, type AddressInfo } from 'node:net'

/** A server that listens. */
export interface Served {
  readonly port: number
  /** Tells every open GET stream that the tools changed. */
  readonly broadcast?: () => unknown
  /** Resolves when every session sleeps that is to sleep. */
  readonly settled?: () => Promise<void>
}

/** Listens with node:http on a free port of this machine. */
export async function listen(listener: RequestListener): Promise<Served> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return { port: portOf(server) }
}

/** The port that a server listens on. */
export function portOf(server: Pick<Server, 'address'>): number {
  return (server.address() as AddressInfo).port
}

/** A port that is free now, for servers that do not tell which one they took. */
export async function freePort(): Promise<number> {
  const server = createTcpServer()
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const port = portOf(server as unknown as Server)
  await new Promise((resolve) => {
    server.close(resolve)
  })
  return port
}
