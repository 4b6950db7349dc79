/** The official conformance suite as a function: installed apart, run under the Node it needs, its results read check by check. */

import { spawn } from 'node:child_process'
import type { SpawnOptions } from 'node:child_process'
import { copyFile, mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const here = import.meta.dirname
const cache = join(here, '.cache')
const marker = join(cache, 'installed.json')
// The suite needs Node 22 (`fs.globSync`); the npm package `node` brings the binary, whatever runs this.
const node = join(cache, 'node_modules/node/bin/node')
const entry = join(cache, 'node_modules/@modelcontextprotocol/conformance/dist/index.js')

/** How long the suite may take, in milliseconds. */
const suiteTimeout = 300_000

/** What the suite notes of the traffic; these are no checks. */
const traces = new Set(['outgoing-request', 'incoming-response', 'incoming-sse-event', 'stream-closed'])

/** One check of one scenario. */
export interface CheckResult {
  readonly scenario: string
  readonly check: string
  /** `SUCCESS`, `FAILURE`, `WARNING`, `SKIPPED` or `INFO`. */
  readonly status: string
  /** What the suite says about it, request and response included. */
  readonly detail: unknown
}

/** Installs the suite into a folder of its own, exactly as the committed lock file has it. Does nothing when that was done. */
export async function installSuite(): Promise<void> {
  const lock = await readFile(join(here, 'suite/package-lock.json'), 'utf8')
  if ((await readFile(marker, 'utf8').catch(() => '')) === lock) return
  console.error('Installing the conformance suite (once)')
  await mkdir(cache, { recursive: true })
  for (const file of ['package.json', 'package-lock.json'])
    await copyFile(join(here, 'suite', file), join(cache, file))
  // The package `node` fetches its binary in an install script.
  const args = ['ci', '--no-audit', '--no-fund', '--ignore-scripts=false']
  await run('npm', args, { cwd: cache, shell: process.platform === 'win32' })
  if (!(await stat(node).catch(() => undefined))) {
    throw new Error('npm installed the package `node` without its binary: its install script did not run')
  }
  await writeFile(marker, lock)
}

/**
 * Runs every scenario of one protocol revision against the server at `url`. The exit code of the suite is not looked at: it
 * tells neither a check that was left out from one that passed, nor a warning from a success.
 * @throws Error when the suite did not get to its end.
 */
export async function runSuite(url: string, specVersion: string, outputName: string): Promise<CheckResult[]> {
  const output = join(cache, 'results', outputName)
  await rm(output, { recursive: true, force: true })
  const args = [
    entry,
    'server',
    '--url',
    url,
    '--suite',
    'all',
    '--spec-version',
    specVersion,
    '--output-dir',
    output,
  ]
  const log = await run(node, args, { cwd: cache }, [0, 1])
  if (!/^Total: /m.test(log)) throw new Error(`the conformance suite broke off:\n${log.slice(-4000)}`)

  const results: CheckResult[] = []
  for (const folder of (await readdir(output)).toSorted()) {
    // `server-<scenario>-<time>`
    const scenario = folder.replace(/^server-/, '').replace(/-\d{4}-\d\d-\d\dT[\d-]+Z$/, '')
    const checks = JSON.parse(await readFile(join(output, folder, 'checks.json'), 'utf8')) as Check[]
    for (const check of checks) {
      if (traces.has(check.id)) continue
      results.push({
        scenario,
        check: check.id,
        status: check.status,
        detail: check.errorMessage ?? check.details,
      })
    }
  }
  return results
}

/** The suite's scenarios for extensions of the protocol, families shortened: a run of a revision leaves them out. */
export async function extensions(): Promise<string[]> {
  const list = await run(node, [entry, 'list'], { cwd: cache })
  const [, servers = ''] = /Server scenarios[^\n]*\n([\s\S]*?)\n\S/.exec(list) ?? []
  const names = Array.from(servers.matchAll(/^\s+- (\S+) \[extension\]/gm), ([, name = '']) => name)
  return [...new Set(names.map((name) => name.replace(/^(tasks|sep-\d+-[a-z]+)-.*/, '$1-*')))]
}

interface Check {
  id: string
  status: string
  errorMessage?: string
  details?: unknown
}

/** Runs a program to its end; gives what it wrote. */
function run(
  command: string,
  args: string[],
  options: SpawnOptions,
  exitCodes: readonly number[] = [0],
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      ...options,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: suiteTimeout,
    })
    let log = ''
    child.stdout?.on('data', (chunk: Buffer) => (log += chunk.toString()))
    child.stderr?.on('data', (chunk: Buffer) => (log += chunk.toString()))
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (code !== null && exitCodes.includes(code)) resolve(log)
      else reject(new Error(`${command} ${args[0]} ended with ${code ?? signal}:\n${log.slice(-4000)}`))
    })
  })
}
