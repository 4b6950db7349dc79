/** The administrative socket in one process: when it is there, whom it answers, and what it says. */

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { describe, expect, it, onTestFinished } from 'vitest'

import { administer } from '../../src/admin/administration.ts'
import { AdminSocket, socketBeside, storeFile } from '../../src/admin/admin-socket.ts'
import { systemClock } from '../../src/clock.ts'
import type { Log } from '../../src/logging.ts'
import type { SessionHandle, Sessions } from '../../src/session/sessions.ts'

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), 'sojourn-admin-'))
  onTestFinished(() => rmSync(made, { recursive: true }))
  return made
}

const handle = (label: string, more: Partial<SessionHandle> = {}): SessionHandle =>
  ({
    label,
    client: { name: 'test', version: '1' },
    state: 'idle',
    awake: true,
    createdAt: 0,
    requests: 0,
    streams: 0,
    subscriptions: [],
    data: {},
    protocolVersion: '2025-11-25',
    close: () => true,
    ...more,
  }) as SessionHandle

interface Given {
  handles?: SessionHandle[]
  socket?: string
  file?: string
  ready?: () => boolean
}

/** Its log, its timers, and itself; closed at the end of the test. */
function socketFor({ handles = [], socket, file, ready = () => true }: Given): {
  admin: AdminSocket
  lines: string[]
  timers: (() => void)[]
} {
  const lines: string[] = []
  const timers: (() => void)[] = []
  const write = (message: string, fields?: { message?: unknown }): void =>
    void lines.push(`${message}: ${String(fields?.message)}`)
  const admin = new AdminSocket({
    sessions: { list: () => handles, get: () => undefined } as unknown as Sessions,
    ready,
    socket,
    file,
    log: { debug: write, info: write, warn: write, error: write } as Log,
    clock: {
      ...systemClock,
      setTimer(callback) {
        timers.push(callback)
        return { cancel: () => {} }
      },
    },
  })
  onTestFinished(() => admin.close())
  return { admin, lines, timers }
}

function ask(socketPath: string, method: string, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    request({ socketPath, method, path, agent: false }, (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
      .on('error', reject)
      .end()
  })
}

it('stands beside the file of a store, and nowhere without one', async () => {
  expect(storeFile('memory')).toBeUndefined()
  expect(storeFile({})).toBeUndefined()
  const file = join(directory(), 'sessions.db')
  expect(storeFile(`sqlite:${file}`)).toBe(file)
  expect(socketBeside(file)).toBe(`${file}-admin.sock`)
  const { admin } = socketFor({ file })
  await admin.open()
  expect(existsSync(`${file}-admin.sock`)).toBe(true)
  await admin.close()
  await admin.close()
  expect(existsSync(`${file}-admin.sock`)).toBe(false)
})

it('lists more sessions than are written at once', async () => {
  const socket = join(directory(), 'admin.sock')
  const handles = Array.from({ length: 1234 }, (_, index) => handle(String(index).padStart(8, '0')))
  await socketFor({ handles, socket }).admin.open()
  const administration = await administer({ socket, file: undefined })
  const labels = (await administration.list()).map(({ session }) => session)
  expect(labels).toEqual(handles.map(({ label }) => label))
})

it('ends nothing where a label means several', async () => {
  const socket = join(directory(), 'admin.sock')
  const close = (): boolean => {
    throw new Error('ended')
  }
  await socketFor({
    handles: [handle('ambigous', { close }), handle('ambigous', { close })],
    socket,
  }).admin.open()
  const administration = await administer({ socket, file: undefined })
  await expect(administration.end('ambigous')).rejects.toThrow(
    `2 sessions on the server at ${socket} begin with ambigous. Give the whole id of the one you mean.`,
  )
  await expect(administration.end('somebody-with-a-long-id')).rejects.toThrow(
    'There is no session somebody… on',
  )
})

it('answers what is not for it', async () => {
  const socket = join(directory(), 'admin.sock')
  await socketFor({ socket }).admin.open()
  expect(await ask(socket, 'GET', '/')).toBe(404)
  expect(await ask(socket, 'GET', '/sessions/a/b')).toBe(404)
  expect(await ask(socket, 'DELETE', '/sessions')).toBe(405)
  expect(await ask(socket, 'POST', '/sessions/abcdefgh')).toBe(405)
  expect(await ask(socket, 'GET', '/sessions/%')).toBe(400)
})

it('tells who sleeps, and who is about to wake', async () => {
  const socket = join(directory(), 'admin.sock')
  const handles = [
    handle('asleep', { awake: false, idleSince: 0, expiresIn: 10.4 }),
    handle('waking', { awake: false, state: 'active', requests: 1 }),
    handle('streams', { awake: false, state: 'active', streams: 1 }),
    handle('idle'),
    handle('gone', { state: 'closed' }),
  ]
  await socketFor({ handles, socket }).admin.open()
  const list = await (await administer({ socket, file: undefined })).list()
  expect(list.map(({ session, state }) => [session, state])).toEqual([
    ['asleep', 'asleep'],
    ['waking', 'active'],
    ['streams', 'asleep'],
    ['idle', 'idle'],
  ])
  expect(list[0]).toMatchObject({ idleSince: '1970-01-01T00:00:00.000Z', endsIn: 10 })
})

describe('of a process that waits for the store', () => {
  it('is made when the store is open and the one before has left', async () => {
    const file = join(directory(), 'sessions.db')
    const before = socketFor({ file })
    await before.admin.open()
    let ready = false
    const after = socketFor({ file, handles: [handle('of after')], ready: () => ready })
    await after.admin.open()
    ready = true
    const { lines, timers } = after
    const next = async (): Promise<void> => {
      const count = timers.length
      timers.at(-1)?.()
      await expect.poll(() => timers.length).toBe(count + 1)
    }
    await next()
    expect(lines).toEqual([])
    await next()
    expect(lines).toEqual([expect.stringMatching(/^another program listens on the administrative socket/)])
    await before.admin.close()
    timers.at(-1)?.()
    await expect.poll(() => existsSync(socketBeside(file))).toBe(true)
    expect(await (await administer({ socket: undefined, file })).list()).toHaveLength(1)
  })

  it('is never made when that was given up', async () => {
    const file = join(directory(), 'sessions.db')
    const { admin, timers } = socketFor({ file, ready: () => false })
    await admin.open()
    await admin.close()
    timers.at(-1)?.()
    expect(timers).toHaveLength(1)
    expect(existsSync(socketBeside(file))).toBe(false)
  })
})

describe('where it cannot be', () => {
  it('nobody who did not ask for it is troubled', async () => {
    const file = join(directory(), 'sessions.db')
    writeFileSync(`${file}-admin.sock`, 'precious')
    const { admin, lines } = socketFor({ file })
    await admin.open()
    expect(lines).toEqual([expect.stringMatching(/a file is there that is not a socket/)])
    await admin.close()
    expect(existsSync(`${file}-admin.sock`)).toBe(true)
  })

  it('whoever asked for it is told', async () => {
    const socket = join(directory(), 'x'.repeat(200))
    await expect(socketFor({ socket }).admin.open()).rejects.toThrow('the name is too long for a socket.')
  })
})
