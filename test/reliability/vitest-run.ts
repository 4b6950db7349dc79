/** Runs test files in a process of their own and counts what came of them. */

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const VITEST = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')

/** What one run of test files came to. */
export interface TestRun {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly seconds: number
  /** A line for each test that failed, and for what kept tests from running at all. */
  readonly failures: readonly string[]
}

interface Report {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
  readonly success: boolean
  readonly testResults: readonly {
    readonly name: string
    readonly message: string
    readonly status: string
    readonly assertionResults: readonly {
      readonly fullName: string
      readonly status: string
      readonly failureMessages?: readonly string[]
    }[]
  }[]
}

/** `arguments_` are vitest's own: files, `--project`, `--mode`. */
export async function runTests(
  arguments_: readonly string[],
  { node = process.execPath, env = {} }: { node?: string; env?: Readonly<Record<string, string>> } = {},
): Promise<TestRun> {
  const folder = mkdtempSync(join(tmpdir(), 'sojourn-tests-'))
  const file = join(folder, 'report.json')
  const began = performance.now()
  try {
    const { code, output } = await new Promise<{ code: number | null; output: string }>((resolve, reject) => {
      const command = [VITEST, 'run', ...arguments_, '--reporter=json', `--outputFile=${file}`]
      const child = spawn(node, command, {
        cwd: ROOT,
        env: { ...process.env, ...env },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      let text = ''
      const keep = (part: string): void => void (text = (text + part).slice(-4000))
      child.stdout.setEncoding('utf8').on('data', keep)
      child.stderr.setEncoding('utf8').on('data', keep)
      child.once('error', reject)
      child.once('close', (exit) => resolve({ code: exit, output: text }))
    })
    const seconds = (performance.now() - began) / 1000
    let report: Report
    try {
      report = JSON.parse(readFileSync(file, 'utf8')) as Report
    } catch {
      const failures = [`no test ran (exit ${code}): ${output.trim().slice(-500)}`]
      return { passed: 0, failed: 0, skipped: 0, seconds, failures }
    }
    return { ...counted(report, code === 0, output), seconds }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function counted(report: Report, fine: boolean, output: string): Omit<TestRun, 'seconds'> {
  const failures = report.testResults.flatMap(({ name, message, status, assertionResults }) => {
    const short = name.replace(ROOT, '')
    const each = assertionResults
      .filter((test) => test.status === 'failed')
      .map(({ fullName, failureMessages = [] }) => `${short}: ${fullName}: ${firstLine(failureMessages[0])}`)
    return status === 'failed' && each.length === 0 ? [`${short}: ${firstLine(message)}`] : each
  })
  // An unhandled rejection fails a run of which every test passed.
  if (!fine && failures.length === 0) failures.push(`the run failed: ${output.trim().slice(-500)}`)
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests,
    skipped: report.numPendingTests + report.numTodoTests,
    failures,
  }
}

function firstLine(text = ''): string {
  return text.split('\n', 1)[0]?.slice(0, 300) ?? ''
}
