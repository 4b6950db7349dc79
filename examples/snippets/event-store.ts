/** The code of docs/guides/from-a-map-of-transports.md that is about event stores. */

import { type App, type CreateServer, fromEventStore, httpApp, type SdkEventStore } from 'sojourn'

/** An app whose events an existing store keeps. */
export function withStore(createServer: CreateServer, store: SdkEventStore): App {
  // #region store
  const mcp = httpApp(createServer, { eventLog: fromEventStore(store) })
  // #endregion store
  return mcp
}
