/** `runHttp()`: an HTTP server around an app, for those who have none: it listens, drains on SIGTERM, and stops. */

import type { Server } from 'node:http'

import { AdminSocket, storeFile } from './admin/admin-socket.ts'
import { type Clock, systemClock } from './clock.ts'
import { httpApp } from './http-app.ts'
import type { App } from './http-app.ts'
import { listeningUrl, startListening } from './http/listen.ts'
import { EndpointServer } from './http/node-server.ts'
import { createLog } from './logging.ts'
import { resolveListenOptions, resolveOptions } from './options.ts'
import type { CreateServer, RunHttpOptions } from './types.ts'

/** A listening server, as {@link runHttp} returns it. */
export interface HttpServerHandle {
  /** Where clients reach the endpoint: `http://127.0.0.1:3000/mcp`; on a Unix socket `http+unix://%2Fpath%2Fto.sock/mcp`. */
  readonly url: string
  /** The app that serves it. */
  readonly app: App
  /** Node's server. */
  readonly server: Server
  /**
   * Stops: no new sessions, running calls may finish within `drainTimeout`, streams end a few at a time, then everything ends.
   * Idempotent; resolves as {@link HttpServerHandle.finished}.
   */
  close(): Promise<void>
  /** Resolves when the server has stopped, whether by {@link HttpServerHandle.close} or by a signal. */
  readonly finished: Promise<void>
  /** As {@link HttpServerHandle.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** Exit codes after a second signal: 128 + the signal's number. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const

/**
 * Serves MCP over HTTP until it is told to stop. SIGTERM and SIGINT drain: `/ready` turns 503, no new sessions open (503), running
 * calls may finish within `drainTimeout`, streams end a few at a time with a hint when to come back; then the process ends by itself, if
 * nothing else keeps it. A second signal ends it at once, with the exit code 143 or 130. `/health` is 200 for as long as the process lives.
 *
 * @throws RangeError, TypeError for a wrong option, naming it
 * @throws SojournError `listen` when the address, port or socket cannot be listened on, `store-unavailable` when the store cannot be used at
 * all
 *
 * @example
 * await runHttp(createServer, { port: 3000, sessionIdleTimeout: '30m' })
 */
export async function runHttp(
  createServer: CreateServer,
  options: RunHttpOptions = {},
): Promise<HttpServerHandle> {
  const { listen, app: appOptions } = resolveListenOptions(options)
  const { drainTimeout, store, unsentTimeout, clock = systemClock } = resolveOptions(appOptions)
  const log = createLog(options.logger)
  const app = httpApp(createServer, appOptions)
  const endpoint = new EndpointServer({
    handler: app.node,
    path: listen.path,
    wellKnownPaths: app.wellKnownPaths,
    healthPath: listen.healthPath,
    readyPath: listen.readyPath,
    ready: () => app.ready,
    keepAliveTimeout: listen.httpKeepAliveTimeout,
    headersTimeout: listen.headersTimeout,
    maxConnections: listen.maxConnections,
    unsentTimeout,
    log,
    clock,
  })
  const { server } = endpoint
  const admin = new AdminSocket({
    sessions: app.sessions,
    ready: () => app.ready,
    socket: listen.adminSocket,
    file: storeFile(store),
    log,
    clock,
  })
  try {
    // Who comes at once finds the sessions of before; where another process still has them, probes are answered until it is gone.
    await app.opened
    await admin.open()
    await startListening(server, listen)
  } catch (error) {
    await admin.close()
    await app.close()
    throw error
  }
  server.on('error', (error) => log.error('the HTTP server reported an error', { error }))

  const { promise: finished, resolve, reject } = withResolvers()
  // Whoever does not wait for the end must not be ended by it.
  finished.catch((error: unknown) => log.error('the server did not stop cleanly', { error }))
  let stopping = false
  const close = (): Promise<void> => {
    if (!stopping) {
      stopping = true
      stop().then(resolve, reject)
    }
    return finished
  }
  const ignoreSignals = listen.handleSignals ? onSignals(clock, close) : () => {}
  async function stop(): Promise<void> {
    try {
      // Connections are taken until the calls are done: clients answer what a running call asks them, and are told 503, over new ones.
      await app.close({ drain: drainTimeout })
      await endpoint.close()
    } finally {
      await admin.close()
      ignoreSignals()
    }
  }
  const url = listeningUrl(server, listen, listen.path)
  return { url, app, server, close, finished, [Symbol.asyncDispose]: close }
}

/** A signal that comes again so soon is the same one, in milliseconds: Ctrl-C reaches a child of npm from the terminal and from npm. */
const SAME_SIGNAL = 250

/** Calls back at the first signal; the second ends the process. The result stops listening. */
function onSignals(clock: Clock, onFirst: () => void): () => void {
  let first: number | undefined
  const listener = (signal: NodeJS.Signals): void => {
    if (first === undefined) {
      first = clock.now()
      onFirst()
    } else if (clock.now() - first >= SAME_SIGNAL) process.exit(SIGNALS[signal as keyof typeof SIGNALS])
  }
  for (const signal of Object.keys(SIGNALS)) process.on(signal, listener)
  return () => {
    for (const signal of Object.keys(SIGNALS)) process.off(signal, listener)
  }
}

// Node 20 has no Promise.withResolvers.
function withResolvers(): { promise: Promise<void>; resolve: () => void; reject: (reason: unknown) => void } {
  let resolve = (): void => {}
  let reject = (_reason: unknown): void => {}
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve
    reject = onReject
  })
  return { promise, resolve, reject }
}
