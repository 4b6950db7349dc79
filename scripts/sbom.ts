/** `npm run sbom`: the software bill of materials, CycloneDX 1.5 as JSON, from the lockfile alone; nothing is asked of a network. */

import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { Spec, Validation } from '@cyclonedx/cyclonedx-library'

import { type Bom, bomProblems, type Lockfile, shippedPart } from './supply-chain.ts'

const HELP = `Prints what this package is made of as CycloneDX 1.5 (JSON), checked against the schema and the lockfile.

  npm run -s sbom                    what users install with it
  npm run -s sbom -- --all           the tools it is built and tested with as well
  npm run -s sbom -- --out bom.json  into a file
`

const root = fileURLToPath(new URL('..', import.meta.url))

const { values } = parseArgs({
  options: {
    all: { type: 'boolean', default: false },
    out: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false },
  },
})
if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}

const { stdout, stderr, status } = spawnSync(
  'npm',
  ['sbom', '--sbom-format=cyclonedx', '--package-lock-only', '--offline'],
  // npm is a .cmd file on Windows, which only a shell starts.
  { cwd: root, encoding: 'utf8', maxBuffer: 64 * 2 ** 20, shell: process.platform === 'win32' },
)
if (status !== 0) throw new Error(`npm sbom failed: ${stderr}`)
const whole = JSON.parse(stdout) as Bom
// npm takes the name of the folder.
const { component } = whole.metadata
component.name = (JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as { name: string }).name
const bom = values.all ? whole : shippedPart(whole)

const text = `${JSON.stringify(bom, undefined, 2)}\n`
const invalid = await new Validation.JsonStrictValidator(Spec.Version.v1dot5).validate(text)
const lock = JSON.parse(readFileSync(`${root}/package-lock.json`, 'utf8')) as Lockfile
const problems = bomProblems(bom, lock, !values.all)
if (invalid !== null) problems.push(`not valid CycloneDX 1.5: ${JSON.stringify(invalid)}`)
for (const problem of problems) process.stderr.write(`${problem}\n`)
if (problems.length > 0) process.exit(1)

if (values.out === undefined) process.stdout.write(text)
else {
  writeFileSync(values.out, text)
  process.stdout.write(`${values.out}: ${bom.components.length} packages\n`)
}
