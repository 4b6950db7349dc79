/** A flood of sessions that the heap has no room for: the process lives, and serves who was there (promises 7 and 10). */

import { type ChildProcess, spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

import { expect, onTestFinished, test } from 'vitest'

import { initialize, notification, POST_HEADERS, rpc } from '../support/mcp-wire.ts'

/** The heap, in MiB: with a MiB for each session the flood does not fit. */
const HEAP = 96
const FLOOD = 120

interface Child {
  readonly url: string
  readonly process: ChildProcess
  /** The lines of its log. */
  readonly log: string[]
  /** How it ended; undefined while it lives. */
  ended: string | undefined
}

async function start(...flags: string[]): Promise<Child> {
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
  const module = fileURLToPath(new URL('./fixtures/heavy-sessions.mjs', import.meta.url))
  const { PATH, HOME } = process.env
  const child = spawn(
    process.execPath,
    [`--max-old-space-size=${HEAP}`, '--import', tsx, main, 'serve', module, '--port=0', ...flags],
    { env: { PATH, HOME }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const log: string[] = []
  child.stderr.setEncoding('utf8').on('data', (text: string) => log.push(...text.split('\n')))
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding('utf8').once('data', (text: string) => resolve(text.trim()))
    child.once('exit', (code) => reject(new Error(`it ended with ${code}: ${log.join('\n').slice(-2000)}`)))
  })
  const started: Child = { url, process: child, log, ended: undefined }
  child.once('exit', (code, signal) => (started.ended = String(signal ?? code)))
  onTestFinished(() => void child.kill('SIGKILL'))
  return started
}

async function send(
  { url }: Child,
  message: object,
  session?: string,
): Promise<{ status: number; session: string; retryAfter: string | null }> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { ...POST_HEADERS, ...(session !== undefined && { 'Mcp-Session-Id': session }) },
    body: JSON.stringify(message),
  })
  await response.text()
  const { headers, status } = response
  return { status, session: headers.get('mcp-session-id') ?? '', retryAfter: headers.get('retry-after') }
}

const use = rpc('tools/call', { name: 'size', arguments: {} })

/** Opens a session and uses it, so that nobody may take it for one that nobody wants. */
async function openUsed(child: Child): Promise<string> {
  const { session } = await send(child, initialize())
  await send(child, notification('notifications/initialized'), session)
  expect((await send(child, use, session)).status).toBe(200)
  return session
}

/** Sessions that come eight at a time, each used, as a crowd of clients would; who got in, and how often which status was given. */
async function flood(
  child: Child,
  meanwhile: () => Promise<void>,
): Promise<{ statuses: Map<number, number>; opened: string[] }> {
  const statuses = new Map<number, number>()
  const opened: string[] = []
  for (let count = 0; count < FLOOD && child.ended === undefined; count += 8) {
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        try {
          const { status, session, retryAfter } = await send(child, initialize())
          statuses.set(status, (statuses.get(status) ?? 0) + 1)
          if (status === 503) expect(retryAfter).toBe('10')
          if (status !== 200) return
          opened.push(session)
          await send(child, use, session)
        } catch {
          // It died: that is what is looked for.
        }
      }),
    )
    await meanwhile()
  }
  return { statuses, opened }
}

test('without maxHeapUsed the flood ends the process: it is one that matters', async () => {
  const child = await start('--max-heap-used=Infinity', '--log-level=error')
  await flood(child, async () => {})
  await expect.poll(() => child.ended, { timeout: 30_000 }).toBe('SIGABRT')
  expect(child.log.join('\n')).toContain('heap')
}, 120_000)

test('with it newcomers are refused, whoever is there is served throughout, and there is room again when some have gone', async () => {
  const child = await start('--log-level=warn', '--log-format=json')
  const sessions = [await openUsed(child), await openUsed(child)]
  const failed: number[] = []
  const { statuses, opened } = await flood(child, async () => {
    for (const session of sessions) {
      // 0: nobody is there.
      const { status } = await send(child, use, session).catch(() => ({ status: 0 }))
      if (status !== 200) failed.push(status)
    }
  })
  expect(child.ended, child.log.join('\n').slice(-4000)).toBeUndefined()
  expect(failed).toEqual([])
  expect([...statuses.keys()].toSorted()).toEqual([200, 503])
  expect(child.log.filter((line) => line.includes('memory is short'))).toHaveLength(1)
  await Promise.all(
    opened.map((id) => fetch(child.url, { method: 'DELETE', headers: { 'Mcp-Session-Id': id } })),
  )
  const retried = async (): Promise<number> => (await send(child, initialize())).status
  await expect.poll(retried, { timeout: 30_000, interval: 100 }).toBe(200)
  const ready = await fetch(new URL('/ready', child.url))
  expect(ready.status).toBe(200)
}, 120_000)
