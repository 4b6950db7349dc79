/** An app behind a real socket for the length of one test, which proves at its end that nothing was left behind. */

import { mkdtempSync, rmSync } from 'node:fs'
import { createServer as createHttpServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { expect, onTestFinished } from 'vitest'

import { systemClock } from '../../src/clock.ts'
import { type App, httpApp } from '../../src/http-app.ts'
import type { SessionEvent } from '../../src/session/events.ts'
import type { SessionCounts } from '../../src/session/sessions.ts'
import type { AppOptions, CreateServer, Logger } from '../../src/types.ts'
import { CountingClock } from './counting-clock.ts'
import { within } from './deferred.ts'
import {
  FACE,
  type Face,
  type FetchHandler,
  fetchHandler,
  type Middleware,
  type NodeListener,
} from './face.ts'
import { RawConnection, type RawRequest, type RawResponse } from './raw-http.ts'
import { VirtualClock } from './virtual-clock.ts'

/** How long anything here is waited for, in real milliseconds. */
const DEADLINE = 5000

/** `app.sessions.counts` when all is over: no session, no place taken, no request running. */
export const NOTHING_LEFT: SessionCounts = {
  total: 0,
  active: 0,
  idle: 0,
  awake: 0,
  asleep: 0,
  opening: 0,
  requests: 0,
}

/** What a face that does not know its address is told. */
const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '[::1]']

/** How {@link serve} listens and what it checks. */
export interface ServeOptions {
  /** Address to bind; default `127.0.0.1`. Connections go to 127.0.0.1 all the same. */
  host?: string
  /** What serves the app; default what `SOJOURN_FACE` names, else `app.node`. */
  face?: Face
  /** Authentication as the face's framework has it. */
  middleware?: Middleware
  /** Puts something in front of the face, which it calls as `handle`. */
  listener?: (app: App, handle: NodeListener) => NodeListener
  /** The same where the runtime's own server serves the face. */
  fetchListener?: (handle: FetchHandler) => FetchHandler
  /** What the log must not say: anything that a test does not expect. Default: no check. */
  onLog?: (level: LogLine['level'], message: string, args: readonly unknown[]) => void
}

/** One line of the app's log. */
export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  readonly message: string
  readonly args: readonly unknown[]
}

/** A running app. */
export interface Served {
  readonly app: App
  /** Node's server; fails where the runtime's own serves the face. */
  readonly http: Server
  readonly port: number
  /** `http://127.0.0.1:<port>/mcp` */
  readonly url: URL
  /** The clock it runs on, when the options gave a virtual one; fails otherwise. */
  readonly clock: VirtualClock
  /** What the app logged. */
  readonly logs: readonly LogLine[]
  /** What the app told of, from the start. */
  readonly events: readonly SessionEvent[]
  /** Timers of the app that wait now. */
  readonly timers: number
  /** Waits until the app has told of an event of this type, or of `count` of them; gives the last. */
  until(type: SessionEvent['type'], count?: number): Promise<SessionEvent>
  /** Waits until something holds that no event tells of; looks at every turn of the event loop. */
  waitFor(holds: () => boolean, what: string): Promise<void>
  /** A new raw connection, closed at the end of the test. */
  connect(): Promise<RawConnection>
  /** One request on a connection of its own; resolves with the head of its response. */
  request(request: RawRequest, deadline?: number): Promise<RawResponse>
  /** Ends everything and checks that nothing is left; at the end of the test it happens by itself. */
  close(): Promise<void>
}

/** Serves a factory; everything is closed and checked when the test ends. */
export async function serve(
  createServer: CreateServer,
  options: AppOptions = {},
  { host = '127.0.0.1', face = FACE, middleware, listener, fetchListener, onLog }: ServeOptions = {},
): Promise<Served> {
  const logs: LogLine[] = []
  const events: SessionEvent[] = []
  const clock = options.clock instanceof VirtualClock ? options.clock : undefined
  const counting = clock === undefined ? new CountingClock(options.clock ?? systemClock) : undefined
  const rejections: unknown[] = []
  const onRejection = (reason: unknown): void => void rejections.push(reason)
  process.on('unhandledRejection', onRejection)
  const app = httpApp(createServer, {
    ...(face.node ? {} : { allowedHosts: LOOPBACK_NAMES }),
    ...storeOf(options),
    ...options,
    clock: clock ?? counting,
    logger: options.logger ?? recordingLogger(logs, onLog),
  })
  app.sessions.subscribe((event) => events.push(event))
  const listening = await listen(app, host, { face, middleware, listener, fetchListener })
  const { http, port } = listening
  const connections: RawConnection[] = []
  const timers = (): number => clock?.pending ?? counting?.pending ?? 0

  const waitFor = async (holds: () => boolean, what: string): Promise<void> => {
    const due = performance.now() + DEADLINE
    while (!holds()) {
      if (performance.now() > due) throw new Error(`${what} did not happen within ${DEADLINE} ms`)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  const connect = async (): Promise<RawConnection> => {
    const connection = await RawConnection.open(port)
    connections.push(connection)
    return connection
  }
  let closing: Promise<void> | undefined
  const close = (): Promise<void> => (closing ??= shutDown())
  const shutDown = async (): Promise<void> => {
    try {
      await settleApp(app.close(), clock)
      // Twice, since frameworks do: once by their own hooks, once by the author's.
      await settleApp(app.close(), clock)
      for (let round = 0; round < 2; round++)
        await within(listening.closeFace(), `close() of the face ${face.name}`)
      for (const connection of connections) connection.destroy()
      await within(listening.closeServer(), 'the end of the HTTP server')
      // Sockets tell of their end, and rejections are reported, one turn of the event loop later.
      for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve))
      // A look for waiting input, once begun, cannot be called off: it ends by itself within a fraction of a second.
      const due = performance.now() + 1000
      while (timers() > 0 && clock === undefined && performance.now() < due) {
        await new Promise((resolve) => setImmediate(resolve))
      }
      expect(rejections, 'unhandled rejections').toEqual([])
      expect(app.sessions.counts, 'what is left of sessions').toEqual(NOTHING_LEFT)
      expect(timers(), 'timers left').toBe(0)
    } finally {
      process.off('unhandledRejection', onRejection)
    }
  }
  onTestFinished(close)
  return {
    app,
    get http() {
      if (http === undefined) throw new Error(`the face ${face.name} has no server of Node`)
      return http
    },
    port,
    url: new URL(`http://127.0.0.1:${port}/mcp`),
    get clock() {
      if (clock === undefined) throw new Error('this app runs on real time: give serve() a VirtualClock')
      return clock
    },
    logs,
    events,
    get timers() {
      return timers()
    },
    async until(type, count = 1) {
      const found = (): SessionEvent | undefined => events.filter((event) => event.type === type)[count - 1]
      await waitFor(
        () => found() !== undefined,
        `${count} × ${type} (so far: ${events.map((event) => event.type).join(', ')})`,
      )
      return found() as SessionEvent
    },
    waitFor,
    connect,
    async request(request, deadline) {
      const connection = await connect()
      return connection.request(request, deadline)
    },
    close,
  }
}

/** An app that takes connections. */
interface ListeningApp {
  readonly http: Server | undefined
  readonly port: number
  closeFace(): Promise<unknown>
  closeServer(): Promise<unknown>
}

async function listen(
  app: App,
  host: string,
  { face = FACE, middleware, listener, fetchListener }: ServeOptions,
): Promise<ListeningApp> {
  if (face.mount === undefined) {
    if (face.listen === undefined) throw new Error(`the face ${face.name} serves nothing`)
    const handler = fetchHandler(app, middleware)
    const server = await face.listen(fetchListener?.(handler) ?? handler, host)
    return {
      http: undefined,
      port: server.port,
      closeFace: async () => {},
      closeServer: () => server.close(),
    }
  }
  const mounted = await face.mount(app, middleware)
  const handle = listener?.(app, mounted.listener) ?? mounted.listener
  const http = createHttpServer((req, res) => void handle(req, res))
  // Node's own limits would end slow uploads of a test before the app's do.
  http.requestTimeout = 0
  http.headersTimeout = 0
  await new Promise<void>((resolve, reject) => {
    http.once('error', reject)
    http.listen(0, host, resolve)
  })
  return {
    http,
    port: (http.address() as AddressInfo).port,
    closeFace: () => mounted.close(),
    closeServer() {
      http.closeAllConnections()
      return new Promise((resolve) => http.close(resolve))
    },
  }
}

/** Closing may need turns of the app's own clock. */
async function settleApp(closed: Promise<void>, clock: VirtualClock | undefined): Promise<void> {
  if (clock === undefined) return within(closed, 'app.close()')
  let done = false
  void closed.finally(() => (done = true)).catch(() => {})
  for (let turn = 0; turn < 100 && !done; turn++) await clock.advance(0)
  await within(closed, 'app.close()')
}

/** `SUITE_STORE=sqlite` (of R24) gives a store in a file to every app that runs on real time and has no wish of its own about what is kept. */
function storeOf({ clock, store, eventLog, stateless }: AppOptions): Pick<AppOptions, 'store'> {
  const own = store !== undefined || eventLog !== undefined || stateless === true
  if (process.env['SUITE_STORE'] !== 'sqlite' || own || clock instanceof VirtualClock) return {}
  const folder = mkdtempSync(join(tmpdir(), 'sojourn-serve-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return { store: `sqlite:${join(folder, 'sessions.db')}` }
}

function recordingLogger(logs: LogLine[], onLog: ServeOptions['onLog']): Logger {
  const write =
    (level: LogLine['level']) =>
    (...args: unknown[]): void => {
      const message = String(args[0])
      logs.push({ level, message, args })
      onLog?.(level, message, args)
    }
  return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
}
