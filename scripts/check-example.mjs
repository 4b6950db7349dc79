/**
 * Does what a newcomer does: `npm start -- --port 0`, then calls the example's tools with the official client, then stops it.
 * One line for each check; exit code 1 if any failed.
 */
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { check, expectEqual, failures, textOf, within } from './checks.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const readyWithin = 120_000
const stopsWithin = 10_000

const serverLog = []
const npm = spawn('npm', ['start', '--', '--port', '0'], {
  cwd: root,
  detached: true, // a process group of its own, so that nothing of it survives this script
  stdio: ['ignore', 'pipe', 'pipe'],
})
const exited = new Promise((resolve) => npm.once('exit', (code, signal) => resolve(code ?? signal)))
const groupAlive = () => {
  try {
    return process.kill(-npm.pid, 0)
  } catch {
    return false
  }
}
process.on('exit', () => {
  if (groupAlive()) process.kill(-npm.pid, 'SIGKILL')
})
npm.stderr.on('data', (chunk) => serverLog.push(String(chunk)))

const ready = new Promise((resolve, reject) => {
  createInterface({ input: npm.stdout }).on('line', (line) => {
    const match = /^http:\/\/127\.0\.0\.1:\d+\/mcp$/.exec(line.trim())
    if (match !== null) resolve(match[0])
  })
  void exited.then((code) => reject(new Error(`npm start ended with ${code} before it was ready`)))
})
ready.catch(() => {}) // told by the first check

let url
await check('npm start -- --port 0 prints the URL', async () => {
  url = await within(readyWithin, 'getting ready', ready)
  return url
})

if (url !== undefined) {
  const client = new Client({ name: 'check-example', version: '1.0.0' })
  const transport = new StreamableHTTPClientTransport(new URL(url))
  const call = async (name, args = {}) => {
    const answer = client.callTool({ name, arguments: args })
    return textOf(await within(10_000, name, answer))
  }
  const numberIn = (text) => Number(/-?\d+(?:\.\d+)?/.exec(text)?.[0] ?? Number.NaN)

  await check('the official client connects', () => within(10_000, 'connecting', client.connect(transport)))
  await check('echo', async () => {
    const text = await call('echo', { text: 'grüß dich' })
    if (!text.includes('grüß dich')) throw new Error(`expected the text back, got ${JSON.stringify(text)}`)
    return text
  })
  await check('add', async () => expectEqual(numberIn(await call('add', { a: 2, b: 40 })), 42))
  await check('count', async () => expectEqual(numberIn(await call('count')), 1))
  await check('count again: the session remembers', async () => expectEqual(numberIn(await call('count')), 2))
  await check('whoami tells the session', async () => {
    const text = await call('whoami')
    const id = transport.sessionId?.slice(0, 8)
    if (id === undefined) throw new Error('the client has no session id')
    if (!text.includes(id)) throw new Error(`expected ${id} in ${JSON.stringify(text)}`)
    return id
  })
  // The client stays connected: a stop must not wait for clients to leave.
  await check('SIGTERM stops it with exit code 0', async () => {
    npm.kill('SIGTERM')
    expectEqual(await within(stopsWithin, 'stopping', exited), 0)
  })
  await check('nothing is left running', () => {
    if (groupAlive()) throw new Error('a process of npm start is still there')
  })
  await client.close().catch(() => {})
}

if (failures() > 0) console.log(`\nthe server's stderr:\n${serverLog.join('')}`)
process.exit(failures() === 0 ? 0 : 1)
