/** Why a token is not taken. */

/** The token is not good: its client is told 401 `invalid_token`. The message is for the client; it never holds any of the token. */
export class TokenRefused extends Error {
  override readonly name = 'TokenRefused'
}

/** Nobody can tell now whether the token is good: 503. The message is for the log; it never holds a token or a secret. */
export class CheckUnavailable extends Error {
  override readonly name = 'CheckUnavailable'
}
