/** `npm run check:supply`: lockfiles, install scripts and licenses of everything that is installed to build, test and measure this package. */

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import {
  checkLicenses,
  installScriptProblems,
  lockfileProblems,
  type Lockfile,
  type Manifest,
  packagesOf,
} from './supply-chain.ts'

/** Read by hand, of exactly these versions. All of them are peers that the benchmarks measure against; nothing of them is shipped. */
const REVIEWED_IN_BENCH: Readonly<Record<string, string>> = {
  // Its LICENSE file is that of MIT.
  '@tmcp/adapter-zod@0.1.7': 'MIT',
  'pipenet@1.4.3': 'MIT',
  // Says `Apache2`.
  'human-readable-ids@1.0.4': 'Apache-2.0',
  // Names an address; its README: public domain, anybody may license it anew.
  'uri-templates@0.2.0': 'CC0-1.0',
}

/** Names no license and carries none: run on our machines by the benchmarks alone, never passed on. */
const WITHOUT_LICENSE_IN_BENCH = ['mcp-lite@0.10.0 names no license']

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'))

interface Folder {
  readonly path: string
  readonly name: string
  readonly ships: boolean
  readonly reviewed: Readonly<Record<string, string>>
  readonly known: readonly string[]
}

/** Checks one folder with a package.json and a lockfile; the number of problems. */
function check({ path, name, ships, reviewed, known }: Folder): number {
  const lock = read(join(path, 'package-lock.json')) as Lockfile
  const manifest = read(join(path, 'package.json')) as Manifest
  const licenses = checkLicenses(lock, {
    ships,
    reviewed,
    manifestOf: (place) => {
      const file = join(path, place, 'package.json')
      return existsSync(file) ? (read(file) as Manifest) : undefined
    },
  })
  const problems = [
    ...lockfileProblems(lock, manifest),
    ...installScriptProblems(lock, manifest),
    ...licenses.problems.filter((problem) => !known.includes(problem)),
  ]
  const counts = [...licenses.counts].sort((a, b) => b[1] - a[1]).map(([license, n]) => `${n} ${license}`)
  console.log(`${name}: ${packagesOf(lock).length} packages: ${counts.join(', ')}`)
  for (const problem of known) if (licenses.problems.includes(problem)) console.log(`  known: ${problem}`)
  for (const problem of problems) console.error(`  FAIL ${problem}`)
  return problems.length
}

const problems =
  check({ path: root, name: 'the package', ships: true, reviewed: {}, known: [] }) +
  check({
    path: join(root, 'bench'),
    name: 'bench',
    ships: false,
    reviewed: REVIEWED_IN_BENCH,
    known: WITHOUT_LICENSE_IN_BENCH,
  })
if (problems > 0) process.exitCode = 1
