/** Whether the `MCP-Protocol-Version` of a request fits its session (transports, 2025-06-18 and later). */

import { HANDSHAKE_VERSIONS } from '../http/era.ts'
import type { Exchange } from '../http/exchange.ts'
import { singleValue } from '../http/headers.ts'
import type { Refusal } from './refusal.ts'
import { versionRefusal } from './refusals.ts'
import type { Session } from './session.ts'

/** A refusal for a revision that is not spoken here. Absent, or another one that is, the session's own decides. */
export function checkVersion(exchange: Exchange, session: Session): Refusal | undefined {
  const header = singleValue(exchange.header('mcp-protocol-version'))
  if (header === 'conflict') return versionRefusal('two different values', HANDSHAKE_VERSIONS)
  const version = header.value?.trim()
  if (version === undefined || version === session.record.protocolVersion) return undefined
  const supported = session.instance?.transport.supportedProtocolVersions ?? HANDSHAKE_VERSIONS
  return supported.includes(version) || HANDSHAKE_VERSIONS.includes(version)
    ? undefined
    : versionRefusal(version, HANDSHAKE_VERSIONS)
}
