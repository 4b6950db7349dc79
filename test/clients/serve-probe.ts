/** A probe server behind a real socket, with every HTTP request that reached it on record. */

import type { IncomingMessage, ServerResponse } from 'node:http'

import type { SessionEvent } from '../../src/session/events.ts'
import type { AppOptions } from '../../src/types.ts'
import { serve, type Served } from '../support/serve.ts'
import { Inbox } from './inbox.ts'
import { type Generation, type Probe, probe, type Tool } from './probe-server.ts'

/** The four pairs of an official client and an official server. */
export const PAIRS: readonly { client: Generation; server: Generation }[] = [
  { client: 'v1', server: 'v1' },
  { client: 'v1', server: 'v2' },
  { client: 'v2', server: 'v1' },
  { client: 'v2', server: 'v2' },
]

/** One HTTP request, once its answer is over. */
export interface Answered {
  readonly method: string
  readonly status: number
  readonly lastEventId: string | undefined
}

/** A served probe. */
export interface ServedProbe {
  readonly served: Served
  readonly url: URL
  readonly probe: Probe
  /** Requests as they arrive: method, and `Last-Event-ID` where there is one. */
  readonly requests: Inbox<Omit<Answered, 'status'>>
  /** Requests whose response has ended. */
  readonly answered: Inbox<Answered>
  readonly events: Inbox<SessionEvent>
  /** Whether GETs reach the app; may be changed. */
  get: 'open' | 'refused'
  /** The first GET stream was opened. */
  getOpened(): Promise<unknown>
}

/** What stands in front of the app: with `get: 'refused'` something answers every GET with 405, as some gateways do. */
export interface Front {
  get?: 'open' | 'refused'
}

/** Serves a probe of one SDK. */
export async function serveProbe(
  generation: Generation,
  tools: Readonly<Record<string, Tool>>,
  options: AppOptions = {},
  { get = 'open' }: Front = {},
): Promise<ServedProbe> {
  const built = probe(generation, tools)
  const requests = new Inbox<Omit<Answered, 'status'>>('HTTP request')
  const answered = new Inbox<Answered>('HTTP response')
  const events = new Inbox<SessionEvent>('event')
  // A client that is told to come back does so soon: tests wait for it.
  const served = await serve(
    built.createServer,
    { retryInterval: 20, ...options },
    {
      listener: (_app, handle) => (req: IncomingMessage, res: ServerResponse) => {
        const lastEventId = req.headers['last-event-id'] as string | undefined
        const request = { method: req.method ?? '', lastEventId }
        requests.add(request)
        res.once('close', () => answered.add({ ...request, status: res.statusCode }))
        if (result.get === 'refused' && req.method === 'GET') res.writeHead(405, { Allow: 'POST' }).end()
        else handle(req, res)
      },
      fetchListener: (handle) => async (incoming) => {
        const { method, headers } = incoming
        const request = { method, lastEventId: headers.get('last-event-id') ?? undefined }
        requests.add(request)
        const refused = result.get === 'refused' && method === 'GET'
        const response = refused
          ? new Response(null, { status: 405, headers: { Allow: 'POST' } })
          : await handle(incoming)
        return withEnd(response, (status) => answered.add({ ...request, status }))
      },
    },
  )
  const result: ServedProbe = {
    served,
    url: served.url,
    probe: built,
    requests,
    answered,
    events,
    get,
    getOpened: () =>
      events.first((event) => event.type === 'stream.opened' && event.kind === 'get', 'a GET stream'),
  }
  served.app.sessions.subscribe((event) => events.add(event))
  return result
}

/** A response that tells when it has ended: read to its end, or left. */
function withEnd(response: Response, ended: (status: number) => void): Response {
  const { status, body, headers } = response
  if (body === null) {
    ended(status)
    return response
  }
  const reader = body.getReader()
  const watched = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await reader.read()
      if (!done) return controller.enqueue(value)
      ended(status)
      controller.close()
    },
    cancel(reason) {
      ended(status)
      return reader.cancel(reason)
    },
  })
  return new Response(watched, { status, headers })
}
