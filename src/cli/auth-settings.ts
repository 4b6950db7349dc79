/** What the flags and variables of `sojourn serve` say of authentication, as the option `authenticate`. */

import { readFileSync } from 'node:fs'

import type { BearerAuth } from '../auth/bearer-auth.ts'
import type { Log } from '../logging.ts'
import { messageOf } from '../errors.ts'
import { authenticateBearer, readBearerTokens } from '../http/bearer-tokens.ts'
import type { FoundSetting, SettingKey } from '../settings.ts'
import type { Authenticate } from '../types.ts'
import { UsageError } from './arguments.ts'

/** Where the secret of this server may stand besides a file; a flag would show it to everybody on the machine. */
export const CLIENT_SECRET_VARIABLE = 'SOJOURN_AUTH_CLIENT_SECRET'

/** What an option of `bearerAuth` is called here, to name it in errors. */
const SETTING_OF: Readonly<Record<string, SettingKey>> = {
  issuer: 'authIssuer',
  resource: 'authResource',
  requiredScopes: 'authScopes',
  audience: 'authAudience',
  jwksUri: 'authJwksUri',
  algorithms: 'authAlgorithms',
  clockTolerance: 'authClockTolerance',
  'introspection.endpoint': 'authIntrospectionUri',
  allowHttp: 'authAllowHttp',
}

/**
 * The hook; undefined where nothing was said.
 * @throws UsageError naming the flag or variable that is wrong, RangeError for a file that cannot be used; never showing a token or a secret
 */
export async function authenticateFrom(
  found: ReadonlyMap<SettingKey, FoundSetting>,
  env: Readonly<Record<string, string | undefined>>,
  log: Log,
): Promise<Authenticate | undefined> {
  const tokenFile = textOf(found, 'authTokens')
  if (tokenFile !== undefined) return authenticateBearer(readBearerTokens(tokenFile))
  const issuer = textOf(found, 'authIssuer')
  const resource = textOf(found, 'authResource')
  if (issuer === undefined || resource === undefined) return undefined
  // Only who needs it pays for it.
  const { bearerAuth } = await import('../auth/bearer-auth.ts')
  const audience = wordsOf(found, 'authAudience')
  const jwksUri = textOf(found, 'authJwksUri')
  const algorithms = wordsOf(found, 'authAlgorithms')
  const introspection = introspectionFrom(found, env)
  let authenticate: BearerAuth
  try {
    authenticate = bearerAuth({
      issuer,
      resource,
      requiredScopes: wordsOf(found, 'authScopes') ?? [],
      clockTolerance: (found.get('authClockTolerance')?.value as number | undefined) ?? '5s',
      allowHttp: found.get('authAllowHttp')?.value === true,
      ...(audience && { audience }),
      ...(jwksUri !== undefined && { jwksUri }),
      ...(algorithms && { algorithms }),
      ...(introspection && { introspection }),
    })
  } catch (error) {
    throw new UsageError(inWordsOfFlags(messageOf(error), found), { cause: error })
  }
  announce(authenticate, log)
  return authenticate
}

/** An error begins with the option that is wrong, and may name another one that helps. */
function inWordsOfFlags(message: string, found: ReadonlyMap<SettingKey, FoundSetting>): string {
  return message.replace(/^[\w.]+|\ballowHttp\b/g, (option) => {
    const key = SETTING_OF[option]
    return (key !== undefined && found.get(key)?.name) || option
  })
}

function introspectionFrom(
  found: ReadonlyMap<SettingKey, FoundSetting>,
  env: Readonly<Record<string, string | undefined>>,
): { clientId: string; clientSecret: string; endpoint?: string } | undefined {
  if (found.get('authCheck')?.value !== 'introspection') return undefined
  const endpoint = textOf(found, 'authIntrospectionUri')
  return {
    clientId: textOf(found, 'authClientId') ?? '',
    clientSecret: secretFrom(found.get('authClientSecretFile'), env[CLIENT_SECRET_VARIABLE]),
    ...(endpoint !== undefined && { endpoint }),
  }
}

function secretFrom(file: FoundSetting | undefined, variable: string | undefined): string {
  if (typeof file?.value !== 'string') {
    if (variable !== undefined && variable !== '') return variable
    throw new UsageError(
      `introspection needs the secret of this server: in the environment as ${CLIENT_SECRET_VARIABLE}, or in a file that --auth-client-secret-file names`,
    )
  }
  let text: string
  try {
    text = readFileSync(file.value, 'utf8').trim()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new RangeError(`cannot read the file ${file.value} that ${file.name} names: ${code}`)
  }
  if (text === '') throw new RangeError(`the file ${file.value} that ${file.name} names is empty`)
  return text
}

/** A wrong issuer shows at the start; an issuer that starts later than this server does no harm. */
function announce(authenticate: BearerAuth, log: Log): void {
  void authenticate.prepare().catch((error: unknown) =>
    log.warn('the issuer could not be asked yet; requests with a token are answered with 503 until it can', {
      message: messageOf(error),
    }),
  )
}

function textOf(found: ReadonlyMap<SettingKey, FoundSetting>, key: SettingKey): string | undefined {
  const value = found.get(key)?.value
  return typeof value === 'string' ? value : undefined
}

function wordsOf(
  found: ReadonlyMap<SettingKey, FoundSetting>,
  key: SettingKey,
): readonly string[] | undefined {
  const one = found.get(key)
  return one === undefined || one.origin === 'default' ? undefined : (one.value as readonly string[])
}
