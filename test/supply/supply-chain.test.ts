/** What this package is built from is named, hashed and licensed, runs nothing when it is installed, and the checks of it see what is wrong. */

import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { describe, expect, test } from 'vitest'

import {
  type Bom,
  bomProblems,
  checkLicenses,
  installScriptProblems,
  type LockedPackage,
  type Lockfile,
  lockfileProblems,
  type Manifest,
  shippedPart,
} from '../../scripts/supply-chain.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const read = (name: string): unknown => JSON.parse(readFileSync(`${root}/${name}`, 'utf8'))
const INTEGRITY = `sha512-${'A'.repeat(86)}==`

/** A lockfile of one dependency. */
function lockOf(locked: LockedPackage, place = 'node_modules/a'): Lockfile {
  return {
    lockfileVersion: 3,
    packages: {
      '': { dependencies: { a: '^1.0.0' } } as LockedPackage,
      [place]: { version: '1.0.0', integrity: INTEGRITY, license: 'MIT', ...locked },
    },
  }
}

const MANIFEST = { dependencies: { a: '^1.0.0' } } as Manifest

describe('the lockfiles of this repository', () => {
  test.each(['', 'bench/'])('%s: every package by its hash, no address, as package.json asks', (folder) => {
    const lock = read(`${folder}package-lock.json`) as Lockfile
    expect(lockfileProblems(lock, read(`${folder}package.json`) as Manifest)).toEqual([])
  })

  test.each(['', 'bench/'])('%s: no install script runs', (folder) => {
    const lock = read(`${folder}package-lock.json`) as Lockfile
    expect(installScriptProblems(lock, read(`${folder}package.json`) as Manifest)).toEqual([])
  })
})

describe('publishing', () => {
  const workflows = join(root, '.github/workflows')
  const texts = readdirSync(workflows).map((name) => readFileSync(join(workflows, name), 'utf8'))

  test('runs actions of which each is named by its commit, and needs no secret', () => {
    const used = texts.flatMap((text) => [...text.matchAll(/uses: *(\S+)/g)].map(([, action]) => action))
    expect(used.length).toBeGreaterThan(4)
    for (const action of used) expect(action).toMatch(/^[\w/-]+@[0-9a-f]{40}$/)
    for (const text of texts) expect(text).not.toContain('secrets.')
  })

  test('says where a version was built', () => {
    expect(read('package.json')).toMatchObject({ publishConfig: { access: 'public', provenance: true } })
    expect(texts.filter((text) => text.includes('id-token: write'))).toEqual([
      expect.stringContaining('npm publish'),
    ])
  })
})

describe('a lockfile', () => {
  test('in order has no problem', () => {
    expect(lockfileProblems(lockOf({}), MANIFEST)).toEqual([])
  })

  test.each<[string, Lockfile, Manifest, string]>([
    ['with an address', lockOf({ resolved: 'https://registry.example/a.tgz' }), MANIFEST, 'has an address'],
    ['with no hash', lockOf({ integrity: '' }), MANIFEST, 'has no SHA-512'],
    [
      'with a weak hash',
      lockOf({ integrity: 'sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=' }),
      MANIFEST,
      'has no SHA-512',
    ],
    ['with a link', lockOf({ link: true }), MANIFEST, 'is a link'],
    ['of another package.json', lockOf({}), { dependencies: { a: '^2.0.0' } } as Manifest, 'npm install'],
  ])('%s is refused', (_, lock, manifest, problem) => {
    expect(lockfileProblems(lock, manifest)).toEqual([expect.stringContaining(problem)])
  })
})

describe('install scripts', () => {
  test('of a dependency have to be refused by name', () => {
    const lock = lockOf({ hasInstallScript: true })
    expect(installScriptProblems(lock, MANIFEST)).toEqual([
      'a has an install script: refuse it in allowScripts',
    ])
    expect(installScriptProblems(lock, { ...MANIFEST, allowScripts: { a: false } })).toEqual([])
    expect(installScriptProblems(lock, { ...MANIFEST, allowScripts: { a: true } })).toHaveLength(2)
  })

  test('of our own would run at our users', () => {
    expect(installScriptProblems(lockOf({}), { ...MANIFEST, scripts: { postinstall: 'true' } })).toHaveLength(
      1,
    )
  })
})

describe('licenses', () => {
  const check = (locked: LockedPackage, installed?: Manifest, reviewed = {}): readonly string[] =>
    checkLicenses(lockOf(locked), { ships: true, manifestOf: () => installed, reviewed }).problems

  test.each(['MIT', '(MIT OR GPL-3.0-only)', '(MIT AND Apache-2.0)'])('%s is fine', (license) => {
    expect(check({ license })).toEqual([])
  })

  test.each(['GPL-3.0-only', '(MIT AND GPL-3.0-only)', 'UNLICENSED', 'SEE LICENSE IN LICENSE', 'MPL-2.0'])(
    '%s is not',
    (license) => {
      expect(check({ license })).toEqual([`a@1.0.0 has the license ${license}`])
    },
  )

  test('of a tool may ask for more than that of what ships', () => {
    expect(check({ license: 'MPL-2.0', dev: true })).toEqual([])
  })

  test('that nobody names is reported with the package', () => {
    expect(check({ license: undefined })).toEqual(['a@1.0.0 names no license'])
    expect(check({ license: undefined }, { license: 'ISC' })).toEqual([])
    expect(check({ license: undefined }, { licenses: [{ type: 'MIT' }] })).toEqual([])
  })

  test('that lockfile and package do not agree on is reported', () => {
    expect(check({ license: 'MIT' }, { license: 'ISC' })).toHaveLength(1)
  })

  test('reviewed counts for one version, and is to go with it', () => {
    expect(check({ license: undefined }, undefined, { 'a@1.0.0': 'MIT' })).toEqual([])
    expect(check({ license: 'MIT' }, undefined, { 'a@0.9.0': 'MIT' })).toHaveLength(1)
  })
})

describe('the bill of materials', () => {
  const lock = read('package-lock.json') as Lockfile
  const shipped = Object.entries(lock.packages).filter(([place, { dev }]) => place !== '' && dev !== true)

  test('is valid, offline, and has each package that users install, with license and hash', () => {
    // The script holds it against the schema and the lockfile, and prints nothing else.
    const tsx = ['--import', 'tsx', 'scripts/sbom.ts']
    const bom = JSON.parse(execFileSync(process.execPath, tsx, { cwd: root, encoding: 'utf8' })) as Bom
    expect(bom.metadata.component).toMatchObject({ name: 'sojourn' })
    const names = bom.components.map(({ name }) => name)
    expect(names).toEqual(expect.arrayContaining(['@modelcontextprotocol/server', 'pino', 'zod', 'jiti']))
    expect(names).not.toContain('vitest')
    expect(names).toHaveLength(shipped.length)
  })

  const component = (name: string, more = {}): Bom['components'][number] => ({
    name,
    version: '1.0.0',
    'bom-ref': `${name}@1.0.0`,
    purl: `pkg:npm/${name}@1.0.0`,
    hashes: [{ alg: 'SHA-512', content: '00' }],
    licenses: [{ license: { id: 'MIT' } }],
    ...more,
  })
  const bomOf = (...components: Bom['components']): Bom => ({
    metadata: { component: component('sojourn') },
    components,
    dependencies: [{ ref: 'sojourn@1.0.0', dependsOn: components.map((c) => c['bom-ref']) }],
  })

  test('without a package, or with one too much, or one that nothing vouches for, is refused', () => {
    expect(bomProblems(bomOf(component('a')), lockOf({}), true)).toEqual([])
    expect(bomProblems(bomOf(), lockOf({}), true)).toHaveLength(1)
    expect(bomProblems(bomOf(component('a'), component('b')), lockOf({}), true)).toHaveLength(1)
    expect(bomProblems(bomOf(component('a', { hashes: [], licenses: [] })), lockOf({}), true)).toHaveLength(2)
  })

  test('of what ships names no tool, nor depends on one', () => {
    const tool = component('b', { properties: [{ name: 'cdx:npm:package:development', value: 'true' }] })
    const { components, dependencies } = shippedPart(bomOf(component('a'), tool))
    expect(components.map(({ name }) => name)).toEqual(['a'])
    expect(dependencies).toEqual([{ ref: 'sojourn@1.0.0', dependsOn: ['a@1.0.0'] }])
  })
})
