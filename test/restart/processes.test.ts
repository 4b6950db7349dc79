/** Official clients, untouched, over the ends and starts of real processes on one SQLite file. Promises 4, 6, 8 and 9. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { describe, expect, test } from 'vitest'

import { directoryWith, runCli, type RunningCli, startCli } from '../cli/run-cli.ts'
import { connect, type ProbeClient, rejection } from '../clients/probe-client.ts'
import { type Deferred, deferred, within } from '../support/deferred.ts'
import { type TcpProxy, tcpProxy } from '../support/tcp-proxy.ts'

const SERVER = fileURLToPath(new URL('fixtures/server.mjs', import.meta.url))
const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/**
 * Clients are to come back soon: after a crash at once, since the proxy keeps them until the next process is there; after a stop not
 * before the process has stopped, on whose connections they would come.
 */
const SOON = ['--retry-interval', '50ms', '--restart-grace', '1s']

/** The GET of a client. */
const GET = /^GET \/mcp/

/** Starting a process may take long on a machine that does a lot at once. */
const PATIENT = 60_000

/** Processes that serve one file, one after the other, behind one address. */
class Service {
  readonly proxy: TcpProxy
  readonly #file: string
  #process: RunningCli
  #gone: Deferred<void> | undefined

  private constructor(file: string, running: RunningCli, proxy: TcpProxy) {
    this.#file = file
    this.#process = running
    this.proxy = proxy
  }

  static async start(): Promise<Service> {
    const file = join(directoryWith({}), 'sessions.db')
    const running = startProcess(file)
    const proxy = await tcpProxy(await portOf(running))
    return new Service(file, running, proxy)
  }

  get process(): RunningCli {
    return this.#process
  }

  /** Ends the process; who comes from now on is kept waiting until there is another. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | NodeJS.Signals | null> {
    this.#gone = deferred()
    this.proxy.held = this.#gone.promise
    this.#process.child.kill(signal)
    return this.#process.exit()
  }

  /** Starts the next process. */
  async restart(): Promise<void> {
    await this.#pass(startProcess(this.#file))
  }

  /** Starts one beside the present one, which has the file. */
  async startBeside(): Promise<{ running: RunningCli; port: number }> {
    const running = startProcess(this.#file)
    return { running, port: await portOf(running) }
  }

  /** From now on this process is the one. */
  async #pass(running: RunningCli): Promise<void> {
    this.replace(running, await portOf(running))
  }

  replace(running: RunningCli, port: number): void {
    this.#process = running
    this.proxy.target = port
    this.proxy.held = undefined
    this.#gone?.resolve()
  }
}

function startProcess(file: string): RunningCli {
  return startCli(['serve', SERVER, '--port', '0', '--store', `sqlite:${file}`, ...SOON], { cwd: ROOT })
}

async function portOf(running: RunningCli): Promise<number> {
  const [, port] = await running.until('stdout', /^http:\/\/127\.0\.0\.1:(\d+)\//m)
  return Number(port)
}

async function status(port: number, path: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`)
  await response.arrayBuffer()
  return response.status
}

/** What the client was told on its GET, in order. */
function said(client: ProbeClient): unknown[] {
  return client.notices.all.flatMap(({ method, params }) =>
    method === 'notifications/message' ? [params?.['data']] : [],
  )
}

/** What the client reported besides the end of a stream, which it then opened again. */
function otherErrors(client: ProbeClient): string[] {
  return client.errors.all
    .map(({ message }) => message)
    .filter((message) => !message.startsWith('SSE stream disconnected'))
}

async function hears(client: ProbeClient, text: string): Promise<void> {
  await client.notices.first(({ params }) => params?.['data'] === text, `the message ${text}`)
}

describe.each(['v1', 'v2'] as const)('the official %s client', (generation) => {
  test(
    'goes on over kill -9 and restart: between calls, in an open GET, in the middle of a call',
    async () => {
      const service = await Service.start()
      const client = await connect(generation, service.proxy.url)
      const id = client.sessionId
      const pids = new Set([await client.call('pid')])
      expect(await client.call('count')).toBe('1')
      await client.call('say', '1')
      await hears(client, '1')

      // Between calls. Its GET ends as well, and is opened again by the client.
      await service.end('SIGKILL')
      await service.restart()
      expect(await client.call('count')).toBe('2')
      pids.add(await client.call('pid'))
      expect(client.sessionId).toBe(id)
      await client.call('say', '2')
      await hears(client, '2')

      // In an open GET that is cut off from a message the log has, so that only a resume can bring it.
      service.proxy.find(GET).cut('silence')
      await client.call('say', '3')
      // Written after the message: when this is answered, both are on disk.
      expect(await client.call('count')).toBe('3')
      const cut = service.proxy.find(GET)
      await service.end('SIGKILL')
      cut.wakeClient()
      await service.restart()
      await hears(client, '3')
      await client.call('say', '4')
      await hears(client, '4')
      expect(said(client)).toEqual(['1', '2', '3', '4'])

      // In the middle of a call: it ends in an error, and the next one is served.
      const began = deferred()
      const failing = rejection(
        client.call('long', undefined, { timeout: PATIENT, onprogress: () => began.resolve() }),
        'the call in flight',
      )
      await within(began.promise, 'progress of the call', PATIENT)
      await service.end('SIGKILL')
      await service.restart()
      const error = await failing
      expect(error.message).toContain('restarted while the request ran')
      expect(await client.call('count')).toBe('4')
      pids.add(await client.call('pid'))
      await client.call('say', '5')
      await hears(client, '5')
      expect(said(client)).toEqual(['1', '2', '3', '4', '5'])
      expect([client.sessionId, pids.size]).toEqual([id, 3])
      // Nothing but the ends of its streams was ever reported to it.
      expect(otherErrors(client)).toEqual([])
    },
    PATIENT,
  )

  test(
    'goes on over SIGTERM and restart, and over a replacement that waits for the file',
    async () => {
      const service = await Service.start()
      const client = await connect(generation, service.proxy.url)
      const id = client.sessionId
      expect(await client.call('count')).toBe('1')
      await client.call('say', '1')
      await hears(client, '1')

      expect(await service.end('SIGTERM')).toBe(0)
      await service.restart()
      expect(await client.call('count')).toBe('2')
      await client.call('say', '2')
      await hears(client, '2')

      const next = await service.startBeside()
      expect([await status(next.port, '/ready'), await status(next.port, '/health')]).toEqual([503, 200])
      expect(await client.call('count')).toBe('3')
      expect(await service.end('SIGTERM')).toBe(0)
      await next.running.until('stderr', /session store is open/)
      expect(await status(next.port, '/ready')).toBe(200)
      service.replace(next.running, next.port)
      expect(await client.call('count')).toBe('4')
      await client.call('say', '3')
      await hears(client, '3')
      expect(said(client)).toEqual(['1', '2', '3'])
      expect(client.sessionId).toBe(id)
      await client.terminate()
      const { child } = service.process
      expect(child.exitCode).toBeNull()
      expect(otherErrors(client)).toEqual([])
    },
    PATIENT,
  )
})

test('a replacement takes over from one that was killed', async () => {
  const service = await Service.start()
  const client = await connect('v2', service.proxy.url)
  expect(await client.call('count')).toBe('1')
  const next = await service.startBeside()
  expect(await status(next.port, '/ready')).toBe(503)
  await service.end('SIGKILL')
  await next.running.until('stderr', /session store is open/)
  service.replace(next.running, next.port)
  expect(await client.call('count')).toBe('2')
})

test('serve on a corrupt file exits with 1 and one paragraph that names the way out', async () => {
  const file = join(directoryWith({}), 'sessions.db')
  writeFileSync(file, 'This is not a database. '.repeat(1000))
  const { code, stdout, stderr } = await runCli(
    ['serve', SERVER, '--port', '0', '--store', `sqlite:${file}`],
    { cwd: ROOT },
  )
  expect([code, stdout]).toEqual([1, ''])
  expect(stderr).toContain(file)
  expect(stderr.trim()).not.toMatch(/\n\s*at /)
  expect(stderr.trim().split('\n\n')).toHaveLength(1)
})
