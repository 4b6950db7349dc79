/**
 * Makes true what the npm scripts take for granted, and does nothing where it is true already.
 * `node scripts/ensure.mjs [installed] [built] [bench]`: the dependencies, dist/, the peers that the benchmarks measure against.
 * Everything that it starts writes to stderr: the stdout of `npm start` is the server's own.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const built = ['dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js'].map((file) => join(root, file))
const sources = ['src', 'package.json', 'tsconfig.json', 'tsdown.config.ts'].map((file) => join(root, file))

function run(command, args, cwd = root) {
  const { status, error } = spawnSync(command, args, {
    cwd,
    stdio: ['ignore', process.stderr, process.stderr],
    // npm is a .cmd file on Windows, which only a shell starts.
    shell: process.platform === 'win32',
  })
  if (error !== undefined) console.error(`cannot start ${command}: ${error.message}`)
  if (status !== 0) process.exit(status ?? 1)
}

/** The latest change anywhere below a path, in milliseconds since 1970. A folder's own time tells of files taken away. */
function latestChange(path) {
  const stat = statSync(path)
  if (!stat.isDirectory()) return stat.mtimeMs
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => latestChange(join(path, name))))
}

function distIsCurrent() {
  if (!built.every((file) => existsSync(file))) return false
  const oldest = Math.min(...built.map((file) => statSync(file).mtimeMs))
  return sources.every((source) => latestChange(source) <= oldest)
}

export function ensureInstalled() {
  if (!existsSync(join(root, 'node_modules'))) run('npm', ['ci', '--no-audit', '--no-fund'])
}

export function ensureBuilt() {
  if (distIsCurrent()) return
  if (process.stderr.isTTY) process.stderr.write('building dist/ from src/ …\n')
  // A newcomer who starts the server looks for its address, not for a list of files: only what goes wrong is shown.
  run(process.execPath, [join(root, 'node_modules/tsdown/dist/run.mjs'), '--logLevel', 'error'])
}

export function ensureBench() {
  const bench = join(root, 'bench')
  if (existsSync(join(bench, 'package.json')) && !existsSync(join(bench, 'node_modules'))) {
    run('npm', ['ci', '--no-audit', '--no-fund'], bench)
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const steps = { installed: ensureInstalled, built: ensureBuilt, bench: ensureBench }
  for (const name of process.argv.slice(2)) {
    const step = steps[name]
    if (step === undefined) {
      console.error(`ensure.mjs takes ${Object.keys(steps).join(', ')}; got ${name}`)
      process.exit(2)
    }
    step()
  }
}
