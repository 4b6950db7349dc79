/** `npm run demo`: its chart, and a quick run of the whole. */

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { expect, it } from 'vitest'

import { drawChart } from '../../scripts/demo/chart.ts'

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
  const script = fileURLToPath(new URL('../../scripts/demo/run.ts', import.meta.url))
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    '--import',
    'tsx',
    script,
    '--quick',
  ])
  expect(stdout).toMatch(/^(\d+) clients came; sessions held: # \1 {2}o 0$/m)
  expect(stdout).toMatch(/^Sojourn, idle timeout 1 s +0 /m)
  // In a pipe nothing is drawn twice.
  expect(stdout.match(/clients came/g)).toHaveLength(1)
  expect(stdout).not.toContain('\u001b')
  expect(stderr).toBe('')
}, 60_000)
