/** Seeds of sleep and of restart, whose checkers say in words what broke. */

import { keepHistory } from './history.ts'
import { simulateRestarts, STAKES, type Stakes } from './restart.ts'
import { simulateSleep } from './sleep.ts'

/** Simulations other than that of the session manager as a whole. */
export const KINDS = ['sleep', 'restart'] as const
export type Kind = (typeof KINDS)[number]

/** Failing seeds told of in full. */
const MOST_FAILURES = 60

/** Runs one seed and prints its history. Gives the exit code. */
export async function runOneOf(kind: Kind, seed: number): Promise<number> {
  const { result: wrong, lines } = await keepHistory(() => simulate(kind, seed, {}))
  print(lines.join('\n'))
  print(`\nseed ${seed} of ${kind}: ${lines.length} lines`)
  for (const text of wrong) print(`  ${text}`)
  return wrong.length === 0 ? 0 : 1
}

/** Runs many seeds. Gives the exit code. */
export async function runManyOf(kind: Kind, from: number, count: number): Promise<number> {
  const started = performance.now()
  const stakes: Stakes = {}
  let failed = 0
  for (let seed = from; seed < from + count; seed++) {
    const wrong = await simulate(kind, seed, stakes)
    if (wrong.length > 0 && ++failed <= MOST_FAILURES) {
      progress('')
      print(`\nSeed ${seed} of ${kind} breaks a promise (npm run simulate -- --kind ${kind} --seed ${seed}):`)
      for (const text of wrong.slice(0, 5)) print(`  ${text}`)
    }
    progress(`${kind}: seed ${seed}, ${seed - from + 1} of ${count}, ${failed} failed`)
  }
  progress('')
  const rare = kind === 'restart' ? printStakes(stakes, count) : 0
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  print(`${count - failed} seeds of ${kind} passed, ${failed} failed, in ${seconds} s`)
  return failed === 0 && rare === 0 ? 0 : 1
}

/** Runs a seed. What production code throws where nobody catches it is wrong as well. */
async function simulate(kind: Kind, seed: number, stakes: Stakes): Promise<string[]> {
  const uncaught: string[] = []
  const onUncaught = (thrown: unknown): void => {
    uncaught.push(`nobody handled: ${thrown instanceof Error ? (thrown.stack ?? thrown.message) : thrown}`)
  }
  process.on('unhandledRejection', onUncaught)
  process.on('uncaughtException', onUncaught)
  try {
    const wrong = await (kind === 'sleep' ? simulateSleep(seed) : simulateRestarts(seed, stakes))
    // Rejections are told of after the promises of their turn.
    await new Promise((resolve) => setImmediate(resolve))
    return [...wrong, ...uncaught]
  } catch (thrown) {
    return [`the simulation failed: ${String(thrown)}`, ...uncaught]
  } finally {
    process.off('unhandledRejection', onUncaught)
    process.off('uncaughtException', onUncaught)
  }
}

/** Prints what was at stake. Gives how many things were too rare. */
function printStakes(stakes: Stakes, seeds: number): number {
  // A handful of seeds cannot meet everything.
  const needed = seeds < 100 ? 0 : Math.min(1000, Math.floor(seeds / 4))
  print(`At stake: ${STAKES.map((stake) => `${stake} ${stakes[stake] ?? 0}`).join(' · ')}`)
  const rare = STAKES.filter((stake) => (stakes[stake] ?? 0) < needed)
  for (const stake of rare) print(`  too rare: ${stake}, ${needed} needed`)
  return rare.length
}

/** Prints a line that stays. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Shows how far it is, on a terminal only; an empty text takes it away. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${text}`)
}
