/**
 * `npm run check:python`: the Python SDK's client runs a session through every tool of examples/everything. Needs Python 3.10 and PyPI: the
 * package `mcp` is installed into a virtual environment under node_modules/.cache, once.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createServer } from '../examples/everything/server.ts'
import { runHttp } from '../src/index.ts'

const PACKAGE = 'mcp==2.3.0'
const scripts = dirname(fileURLToPath(import.meta.url))
const venv = join(scripts, '../node_modules/.cache/sojourn-python')
const python = join(venv, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python')

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  if (error === undefined && status === 0) return
  console.error(`${command} ${args.join(' ')}: ${error?.message ?? `exit code ${status}`}`)
  process.exit(2)
}

if (!existsSync(python)) run(process.platform === 'win32' ? 'python' : 'python3', '-m', 'venv', venv)
run(python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', PACKAGE)

const server = await runHttp(createServer, { port: 0 })
const client = spawn(python, ['-W', 'ignore', join(scripts, 'python-client.py'), server.url], {
  stdio: 'inherit',
})
client.once('exit', async (code, signal) => {
  await server.close()
  process.exitCode = signal === null ? code : 1
})
