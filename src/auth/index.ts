/** `sojourn/auth`: authentication by access tokens of an OAuth authorization server. */

export { bearerAuth, type BearerAuth } from './bearer-auth.ts'
export type { ClientAuthentication } from './introspection.ts'
export type { BearerAuthOptions, IntrospectionOptions } from './options.ts'
