/** The Python SDK and FastMCP as measured processes, in a virtual environment of the benchmark's own. */

import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Process } from './child.ts'
import { BENCH_DIR } from './build.ts'
import { onCore } from './cores.ts'
import type { CpuReading } from '../shared/types.ts'

const ENVIRONMENT = join(BENCH_DIR, '.venv')
const PYTHON = join(ENVIRONMENT, 'bin', 'python')
const REQUIREMENTS = join(BENCH_DIR, 'servers', 'python', 'requirements.txt')

/** How long a server may take to listen, in ms. */
const START_TIMEOUT = 20_000

/** Makes the environment where it is missing; returns why that cannot be, if so. */
export function installPython(): string | undefined {
  const failure = (step: string, { stderr, error }: ReturnType<typeof run>): string =>
    `${step}: ${error?.message ?? String(stderr).trim().split('\n').at(-1) ?? 'failed'}`
  if (!existsSync(PYTHON)) {
    const made = run('python3', ['-m', 'venv', ENVIRONMENT])
    if (made.status !== 0) return failure('no Python here', made)
  }
  const installed = run(PYTHON, ['-m', 'pip', 'install', '--quiet', '-r', REQUIREMENTS])
  return installed.status === 0 ? undefined : failure('pip install failed', installed)
}

function run(file: string, args: readonly string[]): ReturnType<typeof spawnSync> {
  return spawnSync(file, args, {
    encoding: 'utf8',
    env: { ...process.env, PIP_DISABLE_PIP_VERSION_CHECK: '1' },
  })
}

/** Versions of what is measured, by package. */
export function pythonVersions(): Record<string, string> {
  if (!existsSync(PYTHON)) return {}
  const script =
    'import json,platform,importlib.metadata as m\n' +
    'print(json.dumps({"python":platform.python_version(),"mcp (Python)":m.version("mcp"),"fastmcp (Python)":m.version("fastmcp"),"uvicorn":m.version("uvicorn")}))'
  const { stdout, status } = run(PYTHON, ['-c', script])
  return status === 0 ? (JSON.parse(String(stdout)) as Record<string, string>) : {}
}

/** A Python server; its CPU time is read from Linux's accounting. */
export class PythonServer implements Process {
  readonly port: number
  readonly #process: ChildProcess

  private constructor(child: ChildProcess, port: number) {
    this.#process = child
    this.port = port
  }

  /** Starts a script of `servers/python/` and waits until it listens. */
  static async start(core: number | undefined, script: string): Promise<PythonServer> {
    if (!existsSync(PYTHON)) throw new Error('not installed (npm run bench -- --python)')
    const port = await freePort()
    const file = join(BENCH_DIR, 'servers', 'python', script)
    const command = onCore(core, [file, String(port)], PYTHON)
    const child = spawn(command.file, command.args, { stdio: ['ignore', 'ignore', 'pipe'] })
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-500)))
    const deadline = performance.now() + START_TIMEOUT
    while (!(await answers(port))) {
      if (child.exitCode !== null || performance.now() > deadline) {
        child.kill('SIGKILL')
        throw new Error(`it does not listen: ${stderr.trim().split('\n').at(-1)}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    return new PythonServer(child, port)
  }

  ask<T>(command: string): Promise<T> {
    if (command !== 'cpu') return Promise.reject(new Error(`a Python server cannot be asked for ${command}`))
    // `comm` may hold spaces: fields are counted from its closing parenthesis.
    const stat = readFileSync(`/proc/${this.#process.pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const ticks = Number(fields[11]) + Number(fields[12])
    return Promise.resolve({ cpuMicros: ticks * MICROS_PER_TICK } satisfies CpuReading as T)
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const ended = new Promise((resolve) => {
      this.#process.once('exit', resolve)
    })
    this.#process.kill('SIGKILL')
    await ended
  }
}

/** Linux counts process times in hundredths of a second. */
const MICROS_PER_TICK = 10_000

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function answers(port: number): Promise<boolean> {
  try {
    await fetch(`http://127.0.0.1:${port}/`)
    return true
  } catch {
    return false
  }
}
