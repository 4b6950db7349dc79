/** The one error class of this package and its closed set of codes. */

/**
 * What went wrong, as a closed set; each code's meaning is stable across releases.
 *
 * - `invalid-factory`: `createServer` returned something that is not a server, or one already in use, or asked what a pooled one is not told.
 * - `session-closed`: the session ended before the operation could complete.
 * - `limit-exceeded`: a documented limit refused the operation.
 * - `undeliverable`: a message has no connection it could travel on.
 * - `request-failed`: the client answered a server→client request with a JSON-RPC error.
 * - `timeout`: the operation did not complete within its deadline.
 * - `module-load`: the module given to the command line cannot be loaded.
 * - `listen`: the HTTP server cannot listen where it was told to.
 * - `store-unavailable`: the session store cannot be used, now or at all; the message says why and what to do.
 */
export type SojournErrorCode =
  | 'invalid-factory'
  | 'session-closed'
  | 'limit-exceeded'
  | 'undeliverable'
  | 'request-failed'
  | 'timeout'
  | 'module-load'
  | 'listen'
  | 'store-unavailable'

/** Every error this package throws, except the `RangeError` / `TypeError` of a wrong option. */
export class SojournError extends Error {
  override readonly name = 'SojournError'
  /** Which of the closed set of failures this is. */
  readonly code: SojournErrorCode
  /** Structured detail for programs; the message holds the same for people. */
  readonly data: unknown

  constructor(code: SojournErrorCode, message: string, options?: { cause?: unknown; data?: unknown }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.data = options?.data
  }

  /** Turns anything thrown into a `SojournError`, keeping the original as `cause`. */
  static from(thrown: unknown, code: SojournErrorCode): SojournError {
    if (thrown instanceof SojournError) return thrown
    return new SojournError(code, messageOf(thrown), { cause: thrown })
  }
}

/** The message of whatever was thrown; JavaScript lets anything be thrown. */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message
  try {
    return String(thrown)
  } catch {
    // An object without a prototype has no string form.
    return Object.prototype.toString.call(thrown)
  }
}
