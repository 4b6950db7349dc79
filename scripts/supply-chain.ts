/** What is checked of the packages this one is built from: lockfiles, install scripts, licenses, and the bill of materials made of them. */

import satisfies from 'spdx-satisfies'

/** What a lockfile (`package-lock.json`, version 3) says of one package. */
export interface LockedPackage {
  readonly name?: string
  readonly version?: string
  readonly resolved?: string
  readonly integrity?: string
  readonly license?: unknown
  readonly dev?: boolean
  readonly link?: boolean
  readonly inBundle?: boolean
  readonly hasInstallScript?: boolean
}

/** A lockfile. */
export interface Lockfile {
  readonly lockfileVersion: number
  readonly packages: Readonly<Record<string, LockedPackage>>
}

/** What of a `package.json` matters here. */
export interface Manifest {
  readonly name?: string
  readonly license?: unknown
  readonly licenses?: unknown
  readonly scripts?: Readonly<Record<string, string>>
  readonly allowScripts?: Readonly<Record<string, boolean>>
}

/** Licenses of what users install with this package: permissive ones, which ask for no more than their text. */
export const SHIPPED_LICENSES: readonly string[] = [
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'ISC',
  'MIT',
]

/** Licenses of tools, of which nothing is shipped: also those that ask for a credit, or for the sources of their own files. */
export const TOOL_LICENSES: readonly string[] = [
  ...SHIPPED_LICENSES,
  'CC-BY-3.0',
  'CC0-1.0',
  'MPL-2.0',
  'Python-2.0',
]

/** npm runs these where the package is installed, or a clone of it is. */
const RUN_AT_INSTALL = ['preinstall', 'install', 'postinstall', 'preprepare', 'prepare', 'postprepare']

const DEPENDENCIES = ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies'] as const

/** Packages of a lockfile by their place, without the root and without links. */
export function packagesOf(lock: Lockfile): [place: string, locked: LockedPackage][] {
  return Object.entries(lock.packages).filter(([place, { link }]) => place !== '' && link !== true)
}

/** The name of the package in a place such as `node_modules/a/node_modules/@scope/b`, unless an alias hides it. */
export function nameOf(place: string, locked: LockedPackage): string {
  return locked.name ?? place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length)
}

/** What is wrong with a lockfile: an address, a package without a SHA-512, or another set of dependencies than the manifest's. */
export function lockfileProblems(lock: Lockfile, manifest: Manifest): string[] {
  const problems: string[] = []
  if (lock.lockfileVersion !== 3) problems.push(`lockfileVersion is ${lock.lockfileVersion}, not 3`)
  for (const [place, { resolved, integrity, inBundle, link }] of Object.entries(lock.packages)) {
    if (resolved !== undefined) problems.push(`${place} has an address (resolved)`)
    if (place === '' || link === true) {
      if (link === true) problems.push(`${place} is a link, which nothing vouches for`)
    }
    // What another package carries inside is covered by that one's hash.
    else if (inBundle !== true && !/(^| )sha512-[\w+/]{86}==/.test(integrity ?? ''))
      problems.push(`${place} has no SHA-512 (integrity)`)
  }
  const root = lock.packages[''] as Readonly<Record<string, unknown>> | undefined
  for (const key of DEPENDENCIES) {
    const declared = JSON.stringify(sorted((manifest as Record<string, unknown>)[key]))
    const locked = JSON.stringify(sorted(root?.[key]))
    if (declared !== locked) problems.push(`${key} are not those of package.json: npm install`)
  }
  return problems
}

/** What would run when packages are installed, and is not refused by name in `allowScripts`; and scripts of our own that would run at a user's. */
export function installScriptProblems(lock: Lockfile, manifest: Manifest): string[] {
  const problems: string[] = []
  for (const name of RUN_AT_INSTALL)
    if (manifest.scripts?.[name] !== undefined)
      problems.push(`the package has a script ${name}, which runs where it is installed`)
  const refused = new Set(
    Object.entries(manifest.allowScripts ?? {}).flatMap(([name, allowed]) => (allowed ? [] : [name])),
  )
  for (const [name, allowed] of Object.entries(manifest.allowScripts ?? {}))
    if (allowed) problems.push(`allowScripts lets ${name} run its install script`)
  const scripted = new Set(
    packagesOf(lock).flatMap(([place, locked]) =>
      locked.hasInstallScript === true ? [nameOf(place, locked)] : [],
    ),
  )
  for (const name of scripted)
    if (!refused.has(name)) problems.push(`${name} has an install script: refuse it in allowScripts`)
  for (const name of refused)
    if (!scripted.has(name)) problems.push(`allowScripts names ${name}, which has no install script`)
  return problems
}

/** What {@link checkLicenses} has to know beside the lockfile. */
export interface LicenseSources {
  /** Whether this is a package that is shipped: then what is not a development dependency is held against the shorter list. */
  readonly ships: boolean
  /** The installed package.json of a place; undefined where it is not installed (another platform's). */
  readonly manifestOf: (place: string) => Manifest | undefined
  /** By `name@version`: what was found by reading, where a package does not say or says it wrongly. */
  readonly reviewed: Readonly<Record<string, string>>
}

/** How many packages have each license, and what is wrong with the others. */
export interface Licenses {
  readonly counts: ReadonlyMap<string, number>
  readonly problems: readonly string[]
}

/** Holds the license of every package against the allow-lists. */
export function checkLicenses(lock: Lockfile, sources: LicenseSources): Licenses {
  const { ships, manifestOf, reviewed } = sources
  const counts = new Map<string, number>()
  const problems: string[] = []
  const unread = new Set(Object.keys(reviewed))
  for (const [place, locked] of packagesOf(lock)) {
    const id = `${nameOf(place, locked)}@${locked.version}`
    const installed = manifestOf(place)
    const said = licenseOf(locked.license) ?? licenseOf(installed?.license ?? installed?.licenses)
    const license = reviewed[id] ?? said
    unread.delete(id)
    const allowed = ships && locked.dev !== true ? SHIPPED_LICENSES : TOOL_LICENSES
    if (license === undefined) problems.push(`${id} names no license`)
    else if (!isAllowed(license, allowed)) problems.push(`${id} has the license ${license}`)
    const installedSays = licenseOf(installed?.license ?? installed?.licenses)
    if (installedSays !== undefined && said !== installedSays)
      problems.push(`${id}: the lockfile says ${said}, the package ${installedSays}`)
    counts.set(license ?? 'unknown', (counts.get(license ?? 'unknown') ?? 0) + 1)
  }
  for (const id of unread) problems.push(`${id} was reviewed, but is not there any more`)
  return { counts, problems }
}

/** A CycloneDX document as `npm sbom` makes it, as far as it is changed or read here. */
export interface Bom {
  metadata: { component: BomComponent }
  components: BomComponent[]
  dependencies: { ref: string; dependsOn?: string[] }[]
}

/** One package in it. */
export interface BomComponent {
  name: string
  version: string
  'bom-ref': string
  purl: string
  hashes?: { alg: string; content: string }[]
  licenses?: unknown[]
  properties?: { name: string; value: string }[]
}

/**
 * The bill of materials of what users install, from that of everything. `npm sbom --omit=dev` would be this, but leaves out each package
 * that a tool depends on as well (npm 11.19: of 20 it names 4).
 */
export function shippedPart(bom: Bom): Bom {
  const isTool = ({ properties = [] }: BomComponent): boolean =>
    properties.some(({ name, value }) => name === 'cdx:npm:package:development' && value === 'true')
  const components = bom.components.filter((component) => !isTool(component))
  const refs = new Set([bom.metadata.component, ...components].map((component) => component['bom-ref']))
  const dependencies = bom.dependencies
    .filter(({ ref }) => refs.has(ref))
    .map((entry) => ({ ...entry, dependsOn: entry.dependsOn?.filter((ref) => refs.has(ref)) ?? [] }))
  return { ...bom, components, dependencies }
}

/** What a bill of materials leaves out of a lockfile's packages, or has too much; and packages in it without license or hash. */
export function bomProblems(bom: Bom, lock: Lockfile, shippedOnly: boolean): string[] {
  const problems: string[] = []
  const due = new Set(
    packagesOf(lock)
      .filter(([, locked]) => !shippedOnly || locked.dev !== true)
      .map(([place, locked]) => `${nameOf(place, locked)}@${locked.version}`),
  )
  const there = new Set(bom.components.map((component) => component['bom-ref']))
  for (const id of due) if (!there.has(id)) problems.push(`${id} is missing in the bill of materials`)
  for (const component of bom.components) {
    const { 'bom-ref': id, purl, hashes, licenses } = component
    if (!due.has(id)) problems.push(`${id} is in the bill of materials, but not in the lockfile`)
    if (!purl.startsWith('pkg:npm/')) problems.push(`${id} has no package URL`)
    if (hashes?.some(({ alg }) => alg === 'SHA-512') !== true) problems.push(`${id} has no SHA-512`)
    if (licenses === undefined || licenses.length === 0) problems.push(`${id} has no license`)
  }
  return problems
}

/** As package.json says it: an SPDX expression, or the forms of long ago. */
function licenseOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value === '' ? undefined : value
  if (Array.isArray(value)) {
    const all = value.map(licenseOf)
    return all.length === 0 || all.includes(undefined) ? undefined : `(${all.join(' OR ')})`
  }
  if (typeof value !== 'object' || value === null || !('type' in value)) return undefined
  return licenseOf(value.type)
}

function isAllowed(license: string, allowed: readonly string[]): boolean {
  try {
    return satisfies(license, [...allowed])
  } catch {
    // Not an SPDX expression.
    return false
  }
}

function sorted(dependencies: unknown): [string, unknown][] {
  return Object.entries(dependencies ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
}
