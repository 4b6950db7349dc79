/** `npm run conformance`: the official suite against our fixture, its results compared check by check with committed lists. */

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { runHttp } from 'sojourn'
import type { App, ResponseMode } from 'sojourn'

import { serveBaseline } from './baseline-server.ts'
import type { RunningServer } from './baseline-server.ts'
import { createServer } from './fixture-server.ts'
import { extensions, installSuite, runSuite } from './suite.ts'
import type { CheckResult } from './suite.ts'

const help = `Usage: npm run conformance -- [options]

Runs the official MCP conformance suite against test/conformance/fixture-server.ts, served by Sojourn, and compares each
check with test/conformance/expected-<revision>.json. Exits with 1 when any differs.

  --baseline                 serve the fixture with the official SDK's own transport instead
  --spec-version <revision>  only this revision; may be given more than once
  --update                   write what came out into the lists
  --verbose                  print every check
  --help                     print this`

const specVersions = ['2025-06-18', '2025-11-25', '2026-07-28']

/** `scenario check` → status, and the detail of those that differ. */
type Statuses = Map<string, string>

interface Serving {
  readonly name: string
  serve(): Promise<RunningServer>
  /** Checks whose status rightly is another one than in the lists. */
  exceptions?(specVersion: string): Readonly<Record<string, string>> | undefined
}

// Looks whether three streams work at once, and only notes it when the answers are JSON: by default, quick ones are.
const jsonAnswers = { 'server-sse-multiple-streams server-sse-streams-functional': 'INFO' }

const baseline: Serving = {
  name: 'official transport',
  serve: () => serveBaseline(createServer),
  exceptions: (specVersion) => (specVersion === '2026-07-28' ? jsonAnswers : undefined),
}

const ours: readonly Serving[] = [
  // The official transport streams every answer, and the lists are made with it.
  { name: 'sse', serve: () => serveSojourn('sse') },
  {
    name: 'auto',
    serve: () => serveSojourn('auto'),
    exceptions: () => jsonAnswers,
  },
]

async function serveSojourn(responseMode: ResponseMode): Promise<RunningServer> {
  const options = { port: 0, responseMode, retryInterval: 500, handleSignals: false } as const
  const server: RunningServer & { app: App } = await runHttp(() => createServer(server.app.notify), options)
  return server
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      baseline: { type: 'boolean', default: false },
      'spec-version': { type: 'string', multiple: true, default: specVersions },
      update: { type: 'boolean', default: false },
      verbose: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(help)
    return 0
  }
  await installSuite()

  let differences = 0
  console.log('revision    served by             passed  failed  other  differs')
  for (const serving of values.baseline ? [baseline] : ours) {
    for (const specVersion of values['spec-version']) {
      const results = await serveAndRun(serving, specVersion)
      const actual = statusesOf(results)
      if (values.update && !serving.exceptions) await writeExpected(specVersion, actual)
      const expected = await readExpected(specVersion, serving.exceptions?.(specVersion))
      const differing = compare(expected, actual, results)
      differences += differing.length
      console.log(row(specVersion, serving.name, results, differing.length))
      if (values.verbose) for (const [check, status] of actual) console.log(`  ${status.padEnd(8)} ${check}`)
      for (const line of differing) console.log(`  ${line}`)
    }
  }
  console.log(`Extensions that are not offered, and were not run: ${(await extensions()).join(', ')}`)
  console.log(
    differences === 0 ? 'Every check is as expected' : `${differences} checks differ from what is expected`,
  )
  return differences === 0 ? 0 : 1
}

async function serveAndRun({ name, serve }: Serving, specVersion: string): Promise<CheckResult[]> {
  const server = await serve()
  try {
    return await runSuite(server.url, specVersion, `${specVersion} ${name}`.replaceAll(' ', '-'))
  } finally {
    await server.close()
  }
}

/** A check may occur more than once in a scenario: then its statuses stand side by side. */
function statusesOf(results: readonly CheckResult[]): Statuses {
  const statuses: Statuses = new Map()
  for (const { scenario, check, status } of results) {
    const key = `${scenario} ${check}`
    const before = statuses.get(key)
    statuses.set(key, before === undefined ? status : `${before} ${status}`)
  }
  return new Map([...statuses].toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

function compare(expected: Statuses, actual: Statuses, results: readonly CheckResult[]): string[] {
  const lines: string[] = []
  for (const key of [...new Set([...expected.keys(), ...actual.keys()])].toSorted()) {
    const was = expected.get(key) ?? 'not expected'
    const is = actual.get(key) ?? 'did not run'
    if (was === is) continue
    const details = results
      .filter(({ scenario, check }) => `${scenario} ${check}` === key)
      .map(({ detail }) => detail)
    lines.push(`${key}: expected ${was}, got ${is}${details.length > 0 ? ` ${JSON.stringify(details)}` : ''}`)
  }
  return lines
}

function row(specVersion: string, name: string, results: readonly CheckResult[], differing: number): string {
  const passed = results.filter(({ status }) => status === 'SUCCESS').length
  const failed = results.filter(({ status }) => status === 'FAILURE').length
  const columns = [passed, failed, results.length - passed - failed, differing]
  return `${specVersion}  ${name.padEnd(20)}${columns.map((count, i) => String(count).padStart([8, 8, 7, 9][i] ?? 0)).join('')}`
}

function listOf(specVersion: string): string {
  return join(import.meta.dirname, `expected-${specVersion}.json`)
}

async function readExpected(
  specVersion: string,
  exceptions: Readonly<Record<string, string>> = {},
): Promise<Statuses> {
  const list = JSON.parse(await readFile(listOf(specVersion), 'utf8')) as Record<string, string>
  // An exception changes a line that is there: the older revision has fewer checks.
  return new Map(Object.entries(list).map(([key, status]) => [key, exceptions[key] ?? status]))
}

async function writeExpected(specVersion: string, statuses: Statuses): Promise<void> {
  await writeFile(listOf(specVersion), `${JSON.stringify(Object.fromEntries(statuses), undefined, 2)}\n`)
}

process.exitCode = await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error)
  return 1
})
