/** One HTTP request and its response, whatever the runtime: the seam between the HTTP faces and everything below. */

import type { AuthInfo } from '../types.ts'

/** Why {@link Exchange.readBody} gave no body. */
export type BodyFailure = 'too-large' | 'timeout' | 'aborted'

/** What {@link Exchange.readBody} gives: the bytes, or why there are none. */
export type BodyResult = Uint8Array | BodyFailure

/** Response header fields, names in the case they are written in; a list is one field line per value (`Set-Cookie`). */
export type ResponseHeaders = Readonly<Record<string, string | string[]>>

/**
 * One HTTP exchange. The head of the request is there from the start; the response is either whole ({@link Exchange.respond}) or a
 * stream ({@link Exchange.openStream}, then {@link Exchange.write} and {@link Exchange.end}). Nothing here throws for what a peer did:
 * writing to a connection that is gone does nothing.
 */
export interface Exchange {
  /** The request method as sent, upper case. */
  readonly method: string
  /** The request target as sent, absolute-form included. */
  readonly target: string
  /** The value of a request header field by its lower-case name; repeated fields are joined with `, ` (RFC 9110 §5.3). */
  header(name: string): string | undefined
  /** All request header fields by lower-case name, as handlers of SDK v1 see them in `extra.requestInfo.headers`. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** The address of the peer, behind trusted proxies the one they report; undefined where the runtime does not tell. */
  readonly remoteAddress: string | undefined
  /** Whether the listener is bound to a loopback address or a local socket; undefined where the runtime does not tell. */
  readonly loopback: boolean | undefined
  /** What a framework's own authentication middleware left on the request (`req.auth`). */
  readonly presetAuth: AuthInfo | undefined
  /** The body when a framework already parsed it; undefined when it is still to be read. */
  readonly parsedBody: unknown
  /** The request as a Web-standard `Request` without its body, built when first read. */
  readonly request: Request
  /** Headers and URL as handlers of SDK v1 see them in `extra.requestInfo`. */
  readonly requestInfo: {
    readonly headers: Readonly<Record<string, string | string[] | undefined>>
    readonly url: URL
  }
  /**
   * Reads the whole body, never buffering more than `limit` bytes, giving up `timeout` milliseconds after the call. At most once.
   * `onBody` is called once, later than this returns; what it throws is nobody's to catch.
   */
  readBody(limit: number, timeout: number, onBody: (body: BodyResult) => void): void

  /**
   * Until when whoever asked may be answered with what happens later: wall clock in milliseconds since the Unix epoch; undefined for ever.
   * A stream ends then. Set before responding.
   */
  validUntil: number | undefined
  /** Header fields added to every response of this exchange (CORS, `Connection: close`); set before responding. */
  commonHeaders: ResponseHeaders | undefined
  /** Whether the response is complete or the connection is gone. */
  readonly closed: boolean
  /**
   * Called exactly once, when the exchange is over: `completed` is true when the whole response was handed to the operating system,
   * false when the connection went away first. Set it before anything is awaited.
   */
  onclose: ((completed: boolean) => void) | undefined
  /** Sends a complete response in one write. Later calls do nothing. */
  respond(status: number, headers: ResponseHeaders, body: string): void
  /** Begins a 200 response whose body follows; the head goes out with the first write, or by {@link Exchange.flush}. */
  openStream(headers: ResponseHeaders): void
  /** Adds to the body of an open stream. */
  write(chunk: string): void
  /** Sends the head and what was written so far, where that is still pending. */
  flush(): void
  /** Completes an open stream, optionally with a last chunk in the same write. */
  end(chunk?: string): void
  /** Cuts the connection without completing the response. */
  destroy(): void
  /** Bytes of the response that the operating system has not taken yet. */
  readonly unsentBytes: number
}
