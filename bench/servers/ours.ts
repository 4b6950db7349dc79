/** Sojourn as its users have it: the built package, every check and the memory event log on. */

import type { RequestListener } from 'node:http'
import { loadEchoServer } from './echo-server.ts'
import type { ServerSpec } from '../shared/types.ts'

/** The part of our built entry point that is used; stated here because it need not be built to check these types. */
interface Built {
  httpApp(
    createServer: () => unknown,
    options: { responseMode: string; maxSessions: number },
  ): { node: RequestListener }
}

/** Serves sessions with Sojourn in the mode that `spec` names. */
export async function oursListener(spec: ServerSpec): Promise<RequestListener> {
  const { httpApp } = (await import(spec.dist)) as Built
  const createServer = await loadEchoServer(spec.sdk)
  // Above what the memory rows open; the default of 10,000 would refuse some of them.
  return httpApp(createServer, { responseMode: spec.mode, maxSessions: 50_000 }).node
}
