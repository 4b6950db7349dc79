/** A store's file without a server: what the command line does with it. */

import { readdirSync } from 'node:fs'
import { join } from 'node:path'

import { afterEach, beforeEach, expect, test } from 'vitest'

import { openSqliteFile } from '../../src/store/sqlite/sqlite-file.ts'
import { sqliteStore } from '../../src/store/sqlite/sqlite-store.ts'
import { logOf, openStore, temporary } from './subjects.ts'

let directory: ReturnType<typeof temporary>
let path: string

beforeEach(() => {
  directory = temporary()
  path = join(directory.path, 'sessions.db')
})

afterEach(() => directory.remove())

test('a stopped file is listed, searched and closed in; a running one is left to its server', async () => {
  const store = sqliteStore(path)
  await openStore(store)
  for (const [key, label] of [
    ['k1', 'aaaaaaaa'],
    ['k2', 'bbbbbbbb'],
    ['k3', 'bbbbbbbb'],
  ] as const)
    await store.save({ key, label, record: '{}', idleSince: 5 })
  await logOf(store).append('k2', 0, 1, '"2"')
  await store.touch(4711, [])
  await expect(openSqliteFile(path)).rejects.toThrow(/is used by a running server/)
  await store.close()

  const file = await openSqliteFile(path)
  expect(file.aliveAt).toBe(4711)
  expect([...file.sessions()].map(({ key }) => key)).toEqual(['k1', 'k2', 'k3'])
  expect(file.find('bbbbbbbb').map(({ key }) => key)).toEqual(['k2', 'k3'])
  expect(file.find('k1')).toEqual([{ key: 'k1', label: 'aaaaaaaa', record: '{}', idleSince: 5 }])
  expect(file.find('nobody')).toEqual([])
  file.delete('k2')
  file.close()
  file.close()

  const again = sqliteStore(path)
  const { aliveAt } = await openStore(again)
  expect(aliveAt).toBe(4711)
  const left: string[] = []
  for await (const batch of again.load()) left.push(...batch.map(({ key }) => key))
  expect(left).toEqual(['k1', 'k3'])
  expect((await logOf(again).read('k2', 0, 0)).events).toEqual([])
  await again.close()
})

test('a file that is not there is not made', async () => {
  await expect(openSqliteFile(path)).rejects.toMatchObject({
    code: 'store-unavailable',
    message: `There is no session store ${path}.`,
  })
  expect(readdirSync(directory.path)).toEqual([])
})
