/** Listening on a TCP port or a Unix socket, with errors that say what to do. */

import { chmod, lstat, unlink } from 'node:fs/promises'
import type { Server } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'

import { SojournError, messageOf } from '../errors.ts'

/** Where to listen: on `socket` where it is given, else on `host` and `port`. */
export interface ListenTarget {
  readonly host: string
  readonly port: number
  readonly socket: string | undefined
}

/** How long the name of a Unix socket may be, in bytes, its closing zero left out. */
export const LONGEST_SOCKET_NAME: number = process.platform === 'linux' ? 107 : 103

/**
 * Resolves once the server listens. A Unix socket that a dead process left behind is replaced; the new one is open to its owner only
 * (mode 0600).
 *
 * @throws SojournError `listen`
 */
export async function startListening(server: Server, target: ListenTarget): Promise<void> {
  const { host, port, socket } = target
  if (socket === undefined) return listening(server, target, () => server.listen({ host, port }))
  // Windows names its pipes in a file system of their own, where nothing is left behind.
  if (process.platform !== 'win32') {
    // Node would cut the name, and listen where nobody looks.
    if (Buffer.byteLength(socket) > LONGEST_SOCKET_NAME)
      throw listenError(target, Object.assign(new Error('too long'), { code: 'EINVAL' }))
    await removeStale(socket)
  }
  await listening(server, target, () => bindPrivately(server, socket))
  if (process.platform !== 'win32') await chmod(socket, 0o600)
}

/** Whether {@link startListening} failed because another program listens there. */
export function isTaken(error: unknown): boolean {
  return (
    error instanceof SojournError && (error.data as { code?: unknown } | undefined)?.code === 'EADDRINUSE'
  )
}

/** The URL of an endpoint on a listening server; a Unix socket's path stands where the host would. */
export function listeningUrl(server: Server, target: ListenTarget, path: string): string {
  const { host, socket } = target
  if (socket !== undefined) return `http+unix://${encodeURIComponent(socket)}${path}`
  const { port } = server.address() as AddressInfo
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}${path}`
}

function listening(server: Server, target: ListenTarget, begin: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => reject(listenError(target, error))
    server.once('error', fail)
    server.once('listening', () => {
      server.removeListener('error', fail)
      resolve()
    })
    begin()
  })
}

// bind() creates the socket file at once; narrowing it only afterwards would leave a moment in which anyone may connect.
function bindPrivately(server: Server, socket: string): void {
  let previous: number | undefined
  try {
    previous = process.umask(0o177)
  } catch {
    // Worker threads may not change the mask: the chmod after listening has to do.
  }
  try {
    server.listen(socket)
  } finally {
    if (previous !== undefined) process.umask(previous)
  }
}

async function removeStale(socket: string): Promise<void> {
  const found = await lstat(socket).catch(() => undefined)
  if (found === undefined) return
  if (!found.isSocket()) {
    throw new SojournError(
      'listen',
      `Cannot listen on ${socket}: a file is there that is not a socket. Remove it, or choose another name.`,
    )
  }
  if (await answers(socket)) {
    throw new SojournError(
      'listen',
      `Cannot listen on ${socket}: another program listens there. Stop it, or choose another name.`,
      { data: { socket, code: 'EADDRINUSE' } },
    )
  }
  await unlink(socket)
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket)
    connection.once('connect', () => {
      connection.destroy()
      resolve(true)
    })
    // Only a refusal shows that nobody listens; whatever else keeps us out may be somebody's.
    connection.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    )
  })
}

function listenError({ host, port, socket }: ListenTarget, cause: unknown): SojournError {
  const where = socket ?? `${host.includes(':') ? `[${host}]` : host}:${port}`
  const { code } = cause as NodeJS.ErrnoException
  const known: Readonly<Record<string, string>> = {
    EADDRINUSE: 'it is in use. Stop the program that uses it, or choose another port (0 takes a free one).',
    EACCES:
      socket === undefined
        ? 'permission denied. Ports below 1024 need privileges: choose a higher one.'
        : 'permission denied. Choose a directory this user may write to.',
    EADDRNOTAVAIL: `this machine has no address ${host}. Choose one of its own, or 127.0.0.1.`,
    ENOTFOUND: `no address is known for the host name ${host}.`,
    ENOENT: 'its directory does not exist.',
    EINVAL: 'the name is too long for a socket.',
  }
  const reason = (code === undefined ? undefined : known[code]) ?? `${messageOf(cause)}.`
  return new SojournError('listen', `Cannot listen on ${where}: ${reason}`, {
    cause,
    data: { host, port, socket, code },
  })
}
