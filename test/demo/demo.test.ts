/** `npm run demo`: its chart, and a quick run of each demo. */

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { expect, it } from 'vitest'

import { drawChart } from '../../scripts/demo/chart.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/demo/run.ts', import.meta.url))

function demo(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  return promisify(execFile)(process.execPath, ['--import', 'tsx', SCRIPT, ...args])
}

it('a chart has a place for every sample', () => {
  const series = [
    { mark: '#', values: [0, 1, 2, 3] },
    { mark: 'o', values: [0, 1, -1] },
  ]
  expect(drawChart(series, { samples: 5, height: 4, seconds: 9 })).toEqual([
    '   3.0 |   #',
    '       |  #',
    '       | o',
    '   0.0 |o o',
    '       +-----',
    '        0 9 s',
  ])
})

it('the map keeps every session, Sojourn none', async () => {
  const { stdout, stderr } = await demo('--quick')
  expect(stdout).toMatch(/^(\d+) clients came; sessions held: # \1 {2}o 0$/m)
  expect(stdout).toMatch(/^Sojourn, idle timeout 1 s +0 /m)
  // In a pipe nothing is drawn twice.
  expect(stdout.match(/clients came/g)).toHaveLength(1)
  expect(stdout).not.toContain('\u001b')
  expect(stderr).toBe('')
}, 60_000)

it('a client counts through kill -9, and sessions fall asleep and outlive the process', async () => {
  const { stdout, stderr } = await demo('restart', '--quick')
  expect(stdout).toMatch(/^server {2}=+K\.+=+$/m)
  expect(stdout).toMatch(/^client {2}o+ x+o+$/m)
  expect(stdout).toMatch(/^counted to 10 in one session; \d+ calls found nobody$/m)
  expect(stdout).toMatch(/^awake 0, asleep 150$/m)
  expect(stdout).toMatch(/: 150 of 150 sessions count on to 2$/m)
  expect(stdout.match(/counted to/g)).toHaveLength(1)
  expect(stdout).not.toContain('\u001b')
  expect(stdout).not.toContain('Not as it should be')
  expect(stderr).toBe('')
}, 120_000)

it('says nothing of a pipe that nobody reads to its end', async () => {
  const child = spawn(process.execPath, ['--import', 'tsx', SCRIPT, '--quick'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  child.stdout.destroy()
  let told = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (told += text))
  const [code] = await once(child, 'close')
  expect([code, told]).toEqual([0, ''])
}, 60_000)

it('there is no other', async () => {
  await expect(demo('restat')).rejects.toMatchObject({
    code: 2,
    stderr: 'There is no demo restat: map (the default) or restart.\n',
  })
})
