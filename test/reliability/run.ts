/** `npm run chaos -- <test>`: the reliability tests in full, with figures; what the gate runs of them is in the *.test.ts beside. */

import { availableParallelism, cpus, loadavg } from 'node:os'
import { inspect, parseArgs } from 'node:util'

import { keepFigures } from '../../scripts/figures.ts'
import { Args, type Chaos, type Options } from './chaos.ts'
import { tests } from './tests.ts'

const OPTIONS = {
  short: { type: 'boolean', default: false },
  seed: { type: 'string', default: '1' },
  help: { type: 'boolean', short: 'h', default: false },
} as const

const lines = tests.flatMap(({ name, help }) =>
  help.map(([args, text]) => `  ${`npm run chaos -- ${name} ${args}`.trimEnd().padEnd(40)}  ${text}`),
)

const HELP = `Runs reliability tests in full and writes their figures to bench/results/reliability.json and docs/guarantees.md.

${lines.join('\n')}

--short runs what the gate runs, and is kept out of the figures; --seed 7 makes another run where there is chance in it.
Exits with 1 when a promise was broken.
`

async function main(): Promise<number> {
  // Two tests may mean different things by one option: what it is when it is not given is each one's own.
  const own = tests.flatMap(({ options = {} }) =>
    Object.entries(options).map(([name, { default: _default, ...option }]) => [name, option] as const),
  )
  const options: Options = { ...Object.fromEntries(own), ...OPTIONS }
  const { values, positionals } = parseArgs({ allowPositionals: true, options })
  const help = values['help'] === true
  if (help || positionals.length === 0) {
    process.stdout.write(HELP)
    return help ? 0 : 2
  }
  const chosen = positionals.map((name) => {
    const test = tests.find((each) => each.name === name)
    if (test === undefined)
      throw new RangeError(
        `there is no test '${name}'; there is ${tests.map((each) => each.name).join(', ')}`,
      )
    return test
  })
  let held = true
  for (const test of chosen) {
    try {
      held = (await run(test, new Args({ ...defaultsOf(test), ...values }))) && held
    } catch (error) {
      // The others are run all the same.
      progress('')
      process.stderr.write(`${test.name} could not be finished: ${inspect(error)}\n`)
      held = false
    }
  }
  return held ? 0 : 1
}

function defaultsOf({ options = {} }: Chaos): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).map(([name, option]) => [name, option.default]))
}

async function run(test: Chaos, args: Args): Promise<boolean> {
  const [loadBefore = 0] = loadavg()
  const found = await test.run(args, progress)
  progress('')
  process.stdout.write(`${test.tell(found)}\n`)
  process.stdout.write(
    `${found.violations.length} violations\n${found.violations.map((text) => `  ${text}\n`).join('')}`,
  )
  const key = test.key === undefined ? test.name : test.key(found)
  if (!args.short && key !== undefined) {
    const machine = {
      node: process.version,
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      cores: availableParallelism(),
      loadBefore,
      loadAfter: loadavg()[0] ?? 0,
      date: new Date().toISOString().slice(0, 10),
    }
    keepFigures(key, { ...found, machine })
  }
  return found.violations.length === 0
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[2K${text}`)
}

// An app's own timers keep no process alive, and a test may wait for nothing else.
const alive = setInterval(() => {}, 60_000)
process.exitCode = await main().finally(() => clearInterval(alive))
