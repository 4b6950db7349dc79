/** The code of docs/guides/choosing-timeouts.md. */

import { runHttp } from 'sojourn'
import type { CreateServer } from 'sojourn'

declare const createServer: CreateServer

export async function byClient(): Promise<void> {
  // #region by-client
  await runHttp(createServer, {
    sessionIdleTimeout: ({ client }) => (client?.name === 'one-call-at-a-time' ? '1m' : '8h'),
    unusedSessionTimeout: '2m',
    maxSessions: 5_000,
  })
  // #endregion by-client
}
