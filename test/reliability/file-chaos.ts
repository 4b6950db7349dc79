/** A reliability test that has no longer form than its test file: the file is run, and its cases are counted. */

import { type Chaos, count, type Findings } from './chaos.ts'
import { runTests } from './vitest-run.ts'

/** What a run of the file found. */
interface FileFindings extends Findings {
  readonly cases: number
  readonly passed: number
  readonly seconds: number
}

/** The description of a test whose whole form is `<name>.test.ts`; `came` is said where every case passed. */
export function fileChaos(what: {
  readonly name: string
  readonly help: string
  readonly test: string
  readonly done: string
  readonly came: string
}): Chaos<FileFindings> {
  return {
    name: what.name,
    help: [['', what.help]],
    async run(_args, progress) {
      progress(`${what.name}: running its file`)
      const { passed, failed, skipped, seconds, failures } = await runTests([
        '--project=node',
        `test/reliability/${what.name}.test.ts`,
      ])
      const violations = [...failures]
      if (skipped > 0) violations.push(`${skipped} cases were skipped`)
      if (passed + failed === 0 && failures.length === 0) violations.push('no case ran')
      return { cases: passed + failed + skipped, passed, seconds, violations }
    },
    tell: ({ cases, passed, seconds }) =>
      `${what.name.toUpperCase()}: ${passed} of ${cases} cases passed; ${seconds.toFixed(1)} s`,
    row: ({ cases, passed, violations }) => ({
      test: what.test,
      done: what.done,
      came:
        violations.length === 0 ? `${what.came}, in ${count(cases)} cases` : `${passed} of ${cases} cases`,
    }),
  }
}
