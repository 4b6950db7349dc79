/** What an instance is connected to: structurally the `Transport` of both official SDKs, which are guests here. */

import type { JsonRpcMessage, MessageExtra, RequestId, ServerTransport } from '../types.ts'

/** The session side of an instance's transport. */
export interface TransportHost {
  /** The instance sends a message. */
  sendFromInstance(
    transport: InstanceTransport,
    message: JsonRpcMessage,
    relatedRequestId: RequestId | undefined,
  ): Promise<void>
  /** The instance closed its own connection. */
  closedByInstance(transport: InstanceTransport): void
}

/** What SDK v2 hands over so that the transport can refuse a call with 403 before it runs; absent in v1. */
export type ScopeChallengeResolver = (context: { request: unknown; authInfo?: unknown }) => unknown

/** One instance's connection to its session. */
export class InstanceTransport implements ServerTransport {
  onclose: (() => void) | undefined
  /** The SDK's; nothing goes wrong here that it would have to be told. */
  onerror: ((error: Error) => void) | undefined
  onmessage: ((message: JsonRpcMessage, extra?: MessageExtra) => void) | undefined
  readonly sessionId: string | undefined
  /** Set by SDK v2 when it connects; undefined for v1. */
  supportedProtocolVersions: readonly string[] | undefined
  /** Set by SDK v2 when it connects. */
  scopeChallengeResolver: ScopeChallengeResolver | undefined
  /** Who takes what the instance sends; another one while a rebuilt instance catches up. */
  host: TransportHost
  #started = false
  #closed = false

  constructor(host: TransportHost, sessionId: string | undefined) {
    this.host = host
    this.sessionId = sessionId
  }

  /** Whether the instance has connected. */
  get started(): boolean {
    return this.#started
  }

  /** Called by the SDK when it connects. */
  start(): Promise<void> {
    if (this.#started)
      return Promise.reject(new Error('The transport was already started: a server connects once'))
    this.#started = true
    return Promise.resolve()
  }

  /** Called by the SDK for every message it sends. */
  send(message: JsonRpcMessage, options?: { relatedRequestId?: RequestId }): Promise<void> {
    return this.host.sendFromInstance(this, message, options?.relatedRequestId)
  }

  /** Called by the SDK when the server is closed. */
  close(): Promise<void> {
    if (!this.#closed) {
      try {
        this.shut()
      } finally {
        // Whatever the author's onclose does: an instance without a transport answers nothing any more.
        this.host.closedByInstance(this)
      }
    }
    return Promise.resolve()
  }

  /** Lets the instance know that its connection is over; once. */
  shut(): void {
    if (this.#closed) return
    this.#closed = true
    this.onclose?.()
  }

  /** Called by SDK v2 when it connects. */
  setSupportedProtocolVersions(versions: string[]): void {
    this.supportedProtocolVersions = versions
  }

  /** Called by SDK v2 after `initialize`; the session reads the version from the answer, which v1 sends as well. */
  setProtocolVersion(): void {}

  /** Called by SDK v2 when it connects; without it the SDK's per-tool scope checks are silently off. */
  setScopeChallengeResolver(resolver: ScopeChallengeResolver): void {
    this.scopeChallengeResolver = resolver
  }
}
