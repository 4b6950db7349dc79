/** The code of docs/guides/choosing-durability.md. */

import { httpApp, runHttp, sqliteStore } from 'sojourn'
import type { CreateServer } from 'sojourn'

declare const createServer: CreateServer

export async function relaxed(): Promise<void> {
  // #region relaxed
  await runHttp(createServer, {
    store: 'sqlite:./sessions.db',
    durability: 'relaxed',
    maxStoreSize: '4GiB',
  })
  // #endregion relaxed
}

export function own(): void {
  // #region own
  const app = httpApp(createServer, {
    store: sqliteStore('./sessions.db', { durability: 'relaxed', maxSize: '4GiB' }),
  })
  // #endregion own
  void app
}
