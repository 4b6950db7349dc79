/** Stored sessions: whatever a store gives back, one session that cannot be read harms no other, and none lives for ever. */

import { createHash } from 'node:crypto'

import { infoOf } from '../../../src/admin/session-info.ts'
import { isObject } from '../../../src/json.ts'
import { SharedJsonPool } from '../../../src/session/shared-json.ts'
import { StreamableHTTPSessionManager } from '../../../src/session/session-manager.ts'
import { recordFromJson } from '../../../src/session/stored-record.ts'
import type { SessionStore, StoredSession } from '../../../src/store/session-store.ts'
import type { RestoredStream } from '../../../src/stream/event-log.ts'
import { MemoryEventLog } from '../../../src/stream/memory-event-log.ts'
import { FakeServer } from '../../support/fake-server.ts'
import { initializeParams, rpc } from '../../support/mcp-wire.ts'
import { SimExchange } from '../../support/sim-exchange.ts'
import { VirtualClock } from '../../support/virtual-clock.ts'
import { must, utf8, type Subject, type Target } from '../target.ts'

const MINUTE = 60_000
/** Short, since each second costs the store a sign of life. */
const IDLE = 5000
const WALL = Date.UTC(2026, 0, 1)
const CAPABILITIES = { tools: { listChanged: true }, logging: {}, resources: { subscribe: true } }

/** A record as it is written. */
const RECORD = {
  form: 1,
  createdAt: WALL - MINUTE,
  protocolVersion: '2025-11-25',
  initialized: true,
  used: true,
  changed: false,
  logLevel: 'info',
  subscriptions: ['file:///a'],
  streams: 3,
  delivered: 2,
  data: { a: [1] },
  initialize: initializeParams(),
  capabilities: CAPABILITIES,
}

const HEALTHY = 'a-healthy-session-that-nobody-touched'
const DAMAGED = 'a-session-whose-record-is-what-it-is'

/** The first line: since when the session is idle, when the last owner lived, and a stream of it; the rest is its record. */
export const records: Target = {
  name: 'records',
  about: 'stored sessions and streams, as a store gives them back after a restart',
  seeds: [
    `{"idleSince":${WALL - 1000},"aliveAt":${WALL},"epoch":2}\n${JSON.stringify(RECORD)}`,
    `{"stream":0,"position":5}\n${JSON.stringify({ ...RECORD, principal: 'alice', subscriptions: undefined })}`,
    `{"aliveAt":${WALL},"stream":4,"position":2,"requests":[1,"a"],"answers":[{"position":1,"id":1}]}\n${JSON.stringify({ ...RECORD, used: false, initialized: false, protocolVersion: '2025-03-26' })}`,
  ],
  words: [...Object.keys(RECORD).map((key) => `"${key}":`), '"idleSince":', '"aliveAt":', '"epoch":', '"stream":', '"position":', '"requests":', '"answers":', '"principal":', '"clientInfo":', '"2025-06-18"', 'true', 'false', 'null', '"x"', '1e999', '-1', '{', '}', '[', ']', ','], // prettier-ignore
  longest: 64 * 1024,
  deadline: 3000,
  open: () => new Restarts(),
}

class Restarts implements Subject {
  async run(input: Uint8Array): Promise<void> {
    const text = utf8(input)
    const end = text.indexOf('\n')
    const head = parsed(text.slice(0, Math.max(0, end)))
    const record = text.slice(end + 1)
    const clock = new VirtualClock({ wall: WALL, turns: 1 })
    const complaints: string[] = []
    const complain = (message: string, details?: { message?: unknown }): void =>
      void complaints.push(`${message}: ${String(details?.message)}`)
    const saved: StoredSession[] = []
    const manager = new StreamableHTTPSessionManager(() => new FakeServer({ clock, tag: 'fake' }), {
      clock,
      store: storeOf(head, record, saved, clock),
      principal: ({ clientId }) => clientId,
      sessionIdleTimeout: IDLE,
      unusedSessionTimeout: IDLE,
      handshakeTimeout: IDLE,
      sessionMaxAge: 24 * 60 * MINUTE,
      sleepAfter: Number.POSITIVE_INFINITY,
      logger: { debug() {}, info() {}, warn() {}, error: complain },
    })
    try {
      await manager.opened
      for (const session of manager.sessions.list()) JSON.stringify(infoOf(session))
      const { principal } = parsed(record)
      const owner = typeof principal === 'string' ? principal : undefined
      const send = async (
        id: string,
        method: string,
        who: string | undefined,
        headers = {},
      ): Promise<SimExchange> => {
        const exchange = new SimExchange(clock, {
          method,
          headers: { ...HEADERS, 'mcp-session-id': id, ...headers },
          body: method === 'POST' ? JSON.stringify(rpc('tools/list')) : '',
          ...(who !== undefined && { authInfo: { token: 't', clientId: who, scopes: [] } }),
        })
        await manager.handle(exchange)
        await clock.advance(100)
        return exchange
      }
      const answers = [
        await send(DAMAGED, 'POST', owner),
        await send(DAMAGED, 'GET', owner, { accept: 'text/event-stream' }),
        await send(DAMAGED, 'POST', 'somebody else'),
      ]
      // The second is an open stream by now, or was refused.
      answers[1]?.drop()
      must(answers[2]?.answeredStatus === 404 || owner === 'somebody else', 'a session answers somebody else')
      for (const { answeredStatus: status } of answers)
        must(
          [200, 404, 409, 503].includes(status ?? 0),
          `a session from the store is answered with ${status}`,
        )
      must((await send(HEALTHY, 'POST', undefined)).answeredStatus === 200, 'a healthy session was lost')
      for (const { record: json } of saved) recordFromJson(json, 'saved', new SharedJsonPool())
      await clock.advance(IDLE - 1000)
      must(manager.sessions.get(HEALTHY) !== undefined, 'a healthy session ended early')
      await clock.advance(IDLE)
      must(manager.sessions.get(HEALTHY) === undefined, 'a healthy session does not end')
      must(manager.sessions.size === 0, 'a session from the store does not end')
      const bad = complaints.find((line) =>
        /unexpectedly|callback failed|left out: (?!The record)/.test(line),
      )
      must(bad === undefined, `the log says ${bad}`)
    } finally {
      await manager.close()
    }
  }
}

const HEADERS = {
  host: 'localhost',
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
}

function storeOf(
  head: Readonly<Record<string, unknown>>,
  record: string,
  saved: StoredSession[],
  clock: VirtualClock,
): SessionStore {
  const { idleSince, aliveAt, epoch, stream, position, requests, answers } = head
  const key = keyOf(DAMAGED)
  const sessions: StoredSession[] = [
    { key, label: DAMAGED.slice(0, 8), record, idleSince: number(idleSince) },
    {
      key: keyOf(HEALTHY),
      label: HEALTHY.slice(0, 8),
      record: JSON.stringify(RECORD),
      idleSince: WALL - 1000,
    },
  ]
  const log = new MemoryEventLog(clock, {
    maxBytes: 2 ** 20,
    maxEvents: 100,
    maxAge: MINUTE,
    maxTotalBytes: 2 ** 22,
  })
  const streams: RestoredStream[] = Number.isSafeInteger(stream)
    ? [
        {
          session: key,
          stream: Number(stream),
          position: number(position) ?? 0,
          requests: Array.isArray(requests)
            ? requests.map((id) => (typeof id === 'number' ? id : String(id)))
            : [],
          answers: Array.isArray(answers) ? answers.filter(isObject).map((answer) => ({ position: number(answer['position']) ?? 0, id: String(answer['id']) })) : [], // prettier-ignore
        },
      ]
    : []
  return {
    eventLog: {
      append: (...[session, stream, position, data]) => log.append(session, stream, position, data),
      read: (...cursor) => log.read(...cursor),
      dropStream: (...stream) => log.dropStream(...stream),
      dropSession: (session) => log.dropSession(session),
      close: () => log.close(),
      async *restore() {
        yield streams
      },
    },
    open: async () => ({ epoch: Math.max(1, Math.trunc(number(epoch) ?? 1)), aliveAt: number(aliveAt) }),
    async *load() {
      yield sessions
    },
    save: async (session) => void saved.push(session),
    touch: async () => {},
    delete: async () => {},
    close: async () => {},
  }
}

function keyOf(id: string): string {
  return createHash('sha256').update(id).digest('base64url')
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' ? value : undefined
}

function parsed(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : {}
  } catch {
    return {}
  }
}
