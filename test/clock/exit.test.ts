/** Nothing of a session keeps a process alive: it ends by itself, without `process.exit`. */

import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'

import { expect, onTestFinished, test } from 'vitest'

import { within } from '../support/deferred.ts'

const TSX = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
const FIXTURE = fileURLToPath(new URL('fixtures/exits.ts', import.meta.url))

/** Runs the fixture; gives its exit code, and how long after its last word it ended. */
async function run(
  mode: string,
): Promise<{ code: number | null; stdout: string; stderr: string; lingered: number }> {
  const child = spawn(process.execPath, ['--import', TSX, FIXTURE, mode], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  let doneAt = 0
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    doneAt = performance.now()
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const code = await within(
    new Promise<number | null>((resolve) => child.once('close', resolve)),
    `the end of the process (${mode})`,
    18_000,
  )
  return { code, stdout, stderr, lingered: performance.now() - doneAt }
}

test.each([
  ['closed', 'when every session was deleted, abandoned or shut down'],
  ['idle', 'when sessions are merely idle and their HTTP server is closed'],
  ['transport', 'when a SessionTransport of its own is merely idle'],
])('%s: a process ends %s', async (mode) => {
  const { code, stdout, stderr, lingered } = await run(mode)
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'done\n', stderr: '' })
  // A timer of ours would be minutes; what the client's connections linger is seconds.
  expect(lingered).toBeLessThan(10_000)
})
