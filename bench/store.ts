/**
 * What the SQLite store costs: `node --import tsx bench/store.ts [--durability relaxed] [--path FILE] [--appends 100000]`.
 * Goal (P9): at least 30,000 durable appends/s with 64 in flight.
 */

import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parseArgs } from 'node:util'

import { sqliteStore } from '../src/store/sqlite/sqlite-store.ts'

const IN_FLIGHT = 64
const ROW = 242
const SESSIONS = 200

const { values } = parseArgs({
  options: {
    durability: { type: 'string', default: 'full' },
    path: { type: 'string' },
    appends: { type: 'string', default: '100000' },
  },
})

const directory = mkdtempSync(join(tmpdir(), 'sojourn-store-'))
const path = values.path ?? join(directory, 'sessions.db')
const durability = values.durability === 'relaxed' ? 'relaxed' : 'full'
const appends = Number(values.appends)
const store = sqliteStore(path, { durability })
const opened = performance.now()
await store.open(
  { waiting() {}, lost: console.error, failing: console.error, recovered() {} },
  AbortSignal.timeout(60_000),
)
const log = store.eventLog
const keys = Array.from(
  { length: SESSIONS },
  (_, index) => `${'k'.repeat(38)}${String(index).padStart(5, '0')}`,
)
const data = JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params: { data: '' } })
const row = data.replace('"data":""', `"data":"${'x'.repeat(ROW - data.length)}"`)

process.stdout.write(`opened in ${(performance.now() - opened).toFixed(0)} ms, ${durability}\n`)
await append(Math.min(appends, 20_000), 0)
// The goal's two numbers are of a process that does nothing else.
const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
const cpu = process.cpuUsage()
const started = performance.now()
await append(appends, 1_000_000)
const seconds = (performance.now() - started) / 1000
const used = process.cpuUsage(cpu)
delay.disable()
process.stdout.write(
  `appends, ${IN_FLIGHT} in flight, ${ROW} bytes: ${Math.round(appends / seconds)}/s, ` +
    `${((used.user + used.system) / appends).toFixed(1)} us of CPU each, largest stall of the main loop ${(delay.max / 1e6).toFixed(1)} ms\n`,
)
process.stdout.write(
  `file ${(statSync(path).size / 2 ** 20).toFixed(1)} MiB, wal ${(statSync(`${path}-wal`).size / 2 ** 20).toFixed(1)} MiB\n`,
)

for (let position = 1; position <= 50; position++) await log.append('resumed', 0, position, row)
const times: number[] = []
for (let round = 0; round < 2000; round++) {
  const before = performance.now()
  const { events } = await log.read('resumed', 0, 0)
  if (events.length !== 50) throw new Error(`read ${events.length} events`)
  times.push((performance.now() - before) * 1000)
}
times.sort((a, b) => a - b)
process.stdout.write(
  `resume of 50 events: median ${times[1000]?.toFixed(0)} us, p99 ${times[1980]?.toFixed(0)} us\n`,
)
await store.close()
rmSync(directory, { recursive: true, force: true })

async function append(count: number, from: number): Promise<void> {
  let sent = 0
  const client = async (): Promise<void> => {
    while (sent < count) {
      const n = sent++
      await log.append(keys[n % SESSIONS] ?? '', 0, from + Math.floor(n / SESSIONS) + 1, row)
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, client))
}
