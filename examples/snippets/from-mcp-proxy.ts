/** The code of docs/guides/from-mcp-proxy-and-fastmcp.md. */

import { type CreateServer, fromEventStore, runHttp, type SdkEventStore } from 'sojourn'

/** What `startHTTPServer` did. */
export async function instead(createServer: CreateServer, store: SdkEventStore): Promise<void> {
  // #region start
  const handle = await runHttp(createServer, { port: 8080, eventLog: fromEventStore(store) })
  // #endregion start
  // #region stop
  await handle.close()
  // #endregion stop
}

/** What `apiKey` and CORS for everyone did. */
export async function guarded(createServer: CreateServer): Promise<void> {
  // #region key
  await runHttp(createServer, {
    port: 8080,
    corsOrigins: '*',
    authenticate: (request) => {
      const token = request.headers.get('x-api-key')
      if (token === null || token !== process.env['API_KEY']) return new Response(null, { status: 401 })
      return { token, clientId: 'api-key', scopes: [], extra: { sub: 'api-key' } }
    },
  })
  // #endregion key
}
