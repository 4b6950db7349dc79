/** Rules about more than one setting: those that exclude each other, and those that say nothing alone. */

import { isLoopback } from './loopback.ts'
import { format } from './setting-value.ts'
import type { FoundSetting, SettingKey } from './settings.ts'

/** Settings that say something about sessions, and nothing where there are none. */
const NEEDING_SESSIONS: Readonly<Partial<Record<SettingKey, string>>> = {
  sessionIdleTimeout: 'keeps no session that could be idle',
  sleepAfter: 'keeps no session that could be idle',
  maxAwake: 'keeps no session that could be idle',
  store: 'keeps no session that could be stored',
  openRatePerPrincipal: 'opens no sessions',
  openRatePerAddress: 'opens no sessions',
}

/** Settings of pooled instances, which say nothing where there are none. */
const NEEDING_POOLS = [
  'maxPooledInstances',
  'maxPooledInstancesPerPrincipal',
  'pooledInstanceIdleTimeout',
] as const

/** Settings of how fast sessions may be opened: which rate each says something about. */
const BURSTS = {
  openBurstPerPrincipal: 'openRatePerPrincipal',
  openBurstPerAddress: 'openRatePerAddress',
} as const

/**
 * Rules about two settings at once.
 *
 * @throws RangeError when both were given and cannot both hold
 */
export function checkTogether(found: ReadonlyMap<SettingKey, FoundSetting>): void {
  checkListening(found)
  checkAuthentication(found)
  const stateless = found.get('stateless')
  if (stateless?.value === true) {
    for (const [key, reason] of Object.entries(NEEDING_SESSIONS)) {
      const other = found.get(key as SettingKey)
      if (other === undefined || other.origin === 'default') continue
      throw new RangeError(
        `${stateless.name} and ${other.name} exclude each other: a stateless server ${reason}. Leave one out`,
      )
    }
  }
  checkStored(found)
  checkPooled(found)
  checkRates(found)
  const json = found.get('jsonResponse')
  const mode = found.get('responseMode')
  if (json === undefined || mode === undefined || json.value !== true || mode.value === 'json') return
  if (mode.origin !== 'default' && mode.origin === json.origin) {
    throw new RangeError(
      `${json.name} asks for JSON, but ${mode.name} is ${format(mode.value)}: they contradict each other. Leave one out`,
    )
  }
}

/** Stands for a store that was given as an object, among settings that are all text. */
export const OWN_STORE = 'sqlite:own'

function checkStored(found: ReadonlyMap<SettingKey, FoundSetting>): void {
  const store = found.get('store')
  if (store === undefined || (store.value !== 'memory' && store.value !== OWN_STORE)) return
  for (const key of ['durability', 'maxStoreSize'] as const) {
    const given = found.get(key)
    if (given === undefined || given.origin === 'default') continue
    throw new RangeError(
      store.value === 'memory'
        ? `${given.name} needs a store: ${store.name} is 'memory', which keeps nothing beyond the process. Set ${store.name}, to 'sqlite:./sessions.db' for one, or leave ${given.name} out`
        : `${given.name} says nothing about a store that was made already, and ${store.name} is one. Give it to what makes that store, or leave it out`,
    )
  }
}

/** Settings that say nothing without an issuer, and those that only one of the ways to check a token needs. */
const NEEDING_ISSUER = [
  ...(['authResource', 'authScopes', 'authAudience', 'authCheck', 'authClockTolerance'] as const),
  ...(['authAllowHttp'] as const),
] as const
const NEEDING_JWT = ['authJwksUri', 'authAlgorithms'] as const
const NEEDING_INTROSPECTION = ['authIntrospectionUri', 'authClientId', 'authClientSecretFile'] as const

function checkAuthentication(found: ReadonlyMap<SettingKey, FoundSetting>): void {
  const given = (key: SettingKey): FoundSetting | undefined => {
    const one = found.get(key)
    return one === undefined || one.origin === 'default' ? undefined : one
  }
  const nameOf = (key: SettingKey): string => found.get(key)?.name ?? key
  const issuer = given('authIssuer')
  if (issuer === undefined) {
    for (const key of [...NEEDING_ISSUER, ...NEEDING_JWT, ...NEEDING_INTROSPECTION]) {
      const other = given(key)
      if (other === undefined) continue
      throw new RangeError(
        `${other.name} needs ${nameOf('authIssuer')}, such as 'https://auth.example.com': without it no access token is checked. Set that, or leave this out`,
      )
    }
    return
  }
  const file = given('authTokens')
  if (file !== undefined)
    throw new RangeError(
      `${issuer.name} and ${file.name} exclude each other: tokens come from the issuer, or stand in the file. Leave one out`,
    )
  if (given('authResource') === undefined)
    throw new RangeError(
      `${issuer.name} needs ${nameOf('authResource')}: the URL of this endpoint as clients have it, such as 'https://mcp.example.com/mcp'. Without it tokens for other servers would be taken`,
    )
  const introspects = found.get('authCheck')?.value === 'introspection'
  for (const key of introspects ? NEEDING_JWT : NEEDING_INTROSPECTION) {
    const other = given(key)
    if (other === undefined) continue
    const way = introspects ? 'jwt' : 'introspection'
    throw new RangeError(
      `${other.name} needs ${nameOf('authCheck')} '${way}': it says nothing where tokens are checked ${introspects ? 'by asking their issuer' : 'by their signature'}. Set that, or leave this out`,
    )
  }
  if (introspects && given('authClientId') === undefined)
    throw new RangeError(
      `${nameOf('authCheck')} 'introspection' needs ${nameOf('authClientId')}: the issuer answers only to who it knows`,
    )
}

function checkPooled(found: ReadonlyMap<SettingKey, FoundSetting>): void {
  const instances = found.get('instances')
  const eras = found.get('protocolEras')
  if (instances?.value === 'pooled') {
    if (eras?.value !== 'legacy') return
    throw new RangeError(
      `${instances.name} 'pooled' and ${eras.name} 'legacy' exclude each other: only requests without a handshake share instances, a session has its own. Leave one out`,
    )
  }
  for (const key of NEEDING_POOLS) {
    const other = found.get(key)
    if (other === undefined || other.origin === 'default') continue
    throw new RangeError(
      `${other.name} needs ${instances?.name ?? 'instances'} 'pooled': without it no instance waits for a request. Set that, or leave this out`,
    )
  }
}

function checkRates(found: ReadonlyMap<SettingKey, FoundSetting>): void {
  for (const [burst, rate] of Object.entries(BURSTS)) {
    const other = found.get(burst as SettingKey)
    const needed = found.get(rate)
    if (other === undefined || other.origin === 'default' || needed?.value !== Number.POSITIVE_INFINITY)
      continue
    throw new RangeError(
      `${other.name} needs ${needed.name}: without a rate there is nothing to exceed. Set that, such as ${format((needed.setting.rule as { example?: string }).example)}, or leave this out`,
    )
  }
  const byAddress = found.get('openRatePerAddress')
  const proxies = found.get('trustedProxies')
  if (
    byAddress === undefined ||
    byAddress.value === Number.POSITIVE_INFINITY ||
    proxies?.origin !== 'default'
  )
    return
  throw new RangeError(
    `${byAddress.name} needs ${proxies.name}, the number of reverse proxies in front: behind one that is not counted all clients have its address, ` +
      `and would share one rate. Set that, 0 where clients connect directly`,
  )
}

/**
 * Whoever listens on a host that other machines reach says which names it answers to.
 *
 * @throws RangeError
 */
export function checkListening(found: ReadonlyMap<SettingKey, FoundSetting>): void {
  const host = found.get('host')
  const hosts = found.get('allowedHosts')
  const socket = found.get('socket')
  if (host === undefined || hosts === undefined || socket?.value !== undefined) return
  const nobody = Array.isArray(hosts.value) && hosts.value.length === 0
  if (isLoopback(String(host.value)) || !nobody) return
  throw new RangeError(
    `${host.name} ${format(host.value)} is reachable from other machines: name the hosts this server answers to with ${hosts.name}, ` +
      `such as 'mcp.example.com', or 'any' if a proxy in front checks the Host header`,
  )
}
