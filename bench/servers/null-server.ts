/** The official McpServer without HTTP: connected to a transport that does nothing, and driven in process. */

import { loadEchoServer } from './echo-server.ts'
import {
  assertEcho,
  echoRequest,
  FIRST_ID,
  INITIALIZED,
  initializeRequest,
  PROTOCOL_VERSION,
} from '../shared/echo.ts'
import { cpuMicros } from '../shared/ipc.ts'
import type { DrivenRun, SdkVersion } from '../shared/types.ts'

/** A transport whose messages end in a callback. */
class NullTransport {
  onmessage: ((message: unknown, extra?: unknown) => void) | undefined
  onclose: (() => void) | undefined
  onerror: ((error: Error) => void) | undefined
  #answered: ((message: unknown) => void) | undefined

  start(): Promise<void> {
    return Promise.resolve()
  }

  send(message: unknown): Promise<void> {
    this.#answered?.(message)
    return Promise.resolve()
  }

  close(): Promise<void> {
    this.onclose?.()
    return Promise.resolve()
  }

  ask(message: unknown): Promise<unknown> {
    return new Promise((resolve) => {
      this.#answered = resolve
      this.onmessage?.(message, {})
    })
  }
}

/** Many connected servers that are called in turn. */
export class NullServers {
  readonly #create: () => { connect(transport: unknown): Promise<void> }
  readonly #transports: NullTransport[] = []
  #nextId = FIRST_ID

  private constructor(create: () => { connect(transport: unknown): Promise<void> }) {
    this.#create = create
  }

  /** Loads the SDK; no server is made yet. */
  static async load(sdk: SdkVersion, tools: number): Promise<NullServers> {
    return new NullServers(await loadEchoServer(sdk, tools))
  }

  /** Makes `count` more servers and takes each through its handshake. */
  async open(count: number): Promise<void> {
    for (let made = 0; made < count; made += 1) {
      const transport = new NullTransport()
      await this.#create().connect(transport)
      const answer = (await transport.ask(initializeRequest(0))) as { result?: { protocolVersion?: string } }
      if (answer.result?.protocolVersion !== PROTOCOL_VERSION) {
        throw new Error(`wrong answer to initialize: ${JSON.stringify(answer)}`)
      }
      transport.onmessage?.(INITIALIZED, {})
      this.#transports.push(transport)
    }
  }

  /** Calls the first `sessions` servers, all at once and over again, for `ms` milliseconds. */
  async run({ ms, sessions }: { ms: number; sessions: number }): Promise<DrivenRun> {
    if (this.#transports.length < sessions) await this.open(sessions - this.#transports.length)
    const driven = this.#transports.slice(0, sessions)
    for (const transport of driven) assertEcho(await transport.ask(echoRequest(FIRST_ID)), FIRST_ID)
    const cpu = cpuMicros()
    const began = performance.now()
    let calls = 0
    while (performance.now() - began < ms) {
      await Promise.all(driven.map((transport) => transport.ask(echoRequest((this.#nextId += 1)))))
      calls += driven.length
      // A turn of the event loop per 32 calls, about what HTTP over 32 connections takes too.
      await new Promise(setImmediate)
    }
    return { calls, elapsedMs: performance.now() - began, cpuMicros: cpuMicros() - cpu }
  }
}
