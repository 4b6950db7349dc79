/** The code of docs/guides/under-load.md. */

import { runHttp } from 'sojourn'
import type { CreateServer } from 'sojourn'

declare const createServer: CreateServer

export async function admitting(): Promise<void> {
  // #region rates
  await runHttp(createServer, {
    openRatePerPrincipal: '1/s', // after openBurstPerPrincipal (20) at once
    openRatePerAddress: '10/s', // after openBurstPerAddress (50) at once
    trustedProxies: 1,
  })
  // #endregion rates
}
