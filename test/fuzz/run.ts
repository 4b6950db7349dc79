/** `npm run fuzz`: makes inputs that reach new code and looks whether anything breaks. */

import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { didYouMean } from '../../src/did-you-mean.ts'
import { folderOf, keepCrash, readCorpus, writeCorpus } from './corpus.ts'
import { fuzz, type FuzzState } from './fuzz.ts'
import { TARGETS } from './targets.ts'
import { Watchdog } from './watchdog.ts'

const width = Math.max(...[...TARGETS.keys()].map((name) => name.length))
const HELP = `Fuzzes what strangers, files and stores hand over: inputs that reach new code are kept and changed further.

  npm run fuzz                               every target, ten seconds each
  npm run fuzz -- --seconds 600              longer
  npm run fuzz -- --target request           one of them; may be repeated
  npm run fuzz -- --seed 7                   other inputs
  npm run fuzz -- --keep                     writes inputs that reach something new to test/fuzz/corpus

Targets:
${[...TARGETS.values()].map(({ name, about }) => `  ${name.padEnd(width)}  ${about}`).join('\n')}

An input that breaks something is made small, printed, and kept in test/fuzz/corpus, from where the tests run it for good.
Exits with 1 when something broke.
`

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '10' },
      seed: { type: 'string', default: '1' },
      target: { type: 'string', multiple: true, default: [...TARGETS.keys()] },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(HELP)
    return 0
  }
  const seconds = positive('seconds', values.seconds)
  const seed = positive('seed', values.seed)
  const chosen = values.target.map((name) => {
    const target = TARGETS.get(name)
    if (target === undefined)
      throw new RangeError(`there is no target '${name}'.${didYouMean(name, [...TARGETS.keys()])} There is ${[...TARGETS.keys()].join(', ')}`) // prettier-ignore
    return target
  })
  let broken = 0
  for (const target of chosen) {
    const { name } = target
    const watchdog = new Watchdog(name, fileURLToPath(folderOf(name)))
    const result = await fuzz(target, {
      seconds,
      seed,
      corpus: readCorpus(name),
      watchdog,
      onProgress: (state) => progress(`${name}: ${describe(state)}`),
    })
    await watchdog.close()
    progress('')
    process.stdout.write(`${name.padEnd(width)}  ${describe(result)}; ${result.seconds.toFixed(1)} s\n`)
    for (const { input, problem, alone } of result.found) {
      broken += 1
      const text = Buffer.from(input).toString('latin1')
      process.stdout.write(`\n  ${name} breaks: ${problem.replaceAll('\n', '\n  ')}\n  by ${input.length} bytes (latin1): ${JSON.stringify(text)}\n`) // prettier-ignore
      process.stdout.write(`  kept as ${keepCrash(name, input)}${alone ? '' : '; alone it breaks nothing: what came before it matters'}\n\n`) // prettier-ignore
    }
    if (values.keep) writeCorpus(name, result.inputs)
  }
  return broken === 0 ? 0 : 1
}

function describe({ executions, perSecond, coverage, corpus, findings }: FuzzState): string {
  return `${executions} inputs, ${perSecond}/s, ${coverage} characters of src/ reached, ${corpus} inputs in the corpus, ${findings} findings`
}

function positive(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isFinite(value) || value <= 0)
    throw new RangeError(`--${name} takes a number above 0, got '${text}'`)
  return value
}

let shownAt = 0

/** On a terminal only, and not oftener than it can be read. */
function progress(text: string): void {
  if (!process.stderr.isTTY || (text !== '' && performance.now() - shownAt < 100)) return
  shownAt = performance.now()
  process.stderr.write(`\r\u001B[2K${text}`)
}

try {
  process.exitCode = await main()
} catch (thrown) {
  if (!(thrown instanceof RangeError)) throw thrown
  process.stderr.write(`${thrown.message}\n`)
  process.exitCode = 2
}
