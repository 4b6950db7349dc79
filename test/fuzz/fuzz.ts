/** The fuzzer: runs inputs, keeps those that reach something new, and makes those small that break something. */

import { Random } from '../simulation/random.ts'
import { Coverage } from './coverage.ts'
import { Mutator } from './mutate.ts'
import { Broken, type Subject, type Target } from './target.ts'
import type { Watchdog } from './watchdog.ts'

/** How long, and from where. */
export interface FuzzOptions {
  readonly seconds: number
  readonly seed: number
  /** Kept inputs, those that broke something once among them. */
  readonly corpus: readonly Uint8Array[]
  /** Inputs made at most; default any number. */
  readonly executions?: number
  /** Told of each input. */
  readonly watchdog?: Watchdog
  onProgress?(state: FuzzState): void
}

/** How far it is. */
export interface FuzzState {
  readonly executions: number
  readonly perSecond: number
  /** Characters of src/ that were reached. */
  readonly coverage: number
  /** Inputs that each reach something the others do not. */
  readonly corpus: number
  readonly findings: number
}

/** An input that broke something. */
export interface Finding {
  readonly input: Uint8Array
  readonly problem: string
  /** Whether it does so alone, on a fresh subject. */
  readonly alone: boolean
}

/** What a run came to. */
export interface FuzzResult extends FuzzState {
  readonly seconds: number
  readonly found: readonly Finding[]
  /** The corpus after it. */
  readonly inputs: readonly Uint8Array[]
}

/** Findings after which it ends: one defect may show in many ways. */
const MOST_FINDINGS = 5
/** A batch takes so much longer than a look at the coverage. */
const BATCH_PER_LOOK = 10
/** Few enough to find the input again. */
const LARGEST_BATCH = 256
/** Runs that make one finding smaller, and how long they may take, in milliseconds. */
const SHRINK_RUNS = 1000
const SHRINK_TIME = 20_000

/** Fuzzes one target. The same seed makes the same inputs as long as the coverage is the same. */
export async function fuzz(target: Target, options: FuzzOptions): Promise<FuzzResult> {
  const run = new Fuzzer(target, options)
  return run.run()
}

/** Runs every input once, on one subject. Gives what broke. */
export async function replay(target: Target, inputs: readonly Uint8Array[]): Promise<Finding[]> {
  const guarded = new Guarded(target)
  const found: Finding[] = []
  try {
    for (const input of inputs) {
      const problem = await guarded.run(input)
      if (problem !== undefined) found.push({ input, problem, alone: true })
    }
  } finally {
    await guarded.close()
  }
  return found
}

class Fuzzer {
  readonly #target: Target
  readonly #options: FuzzOptions
  readonly #guarded: Guarded
  readonly #mutator: Mutator
  readonly #inputs: Uint8Array[] = []
  readonly #found: Finding[] = []
  readonly #problems = new Set<string>()
  readonly #began = performance.now()
  #executions = 0
  /** How long a look at the coverage takes, in milliseconds. */
  #look = 4
  #coverage: Coverage | undefined

  constructor(target: Target, options: FuzzOptions) {
    this.#target = target
    this.#options = options
    this.#guarded = new Guarded(target, options.watchdog)
    this.#mutator = new Mutator(new Random(options.seed), target.words, target.longest)
  }

  async run(): Promise<FuzzResult> {
    const { seconds, executions = Number.POSITIVE_INFINITY, onProgress } = this.#options
    const coverage = (this.#coverage = await Coverage.begin())
    try {
      await this.#guarded.run(new Uint8Array())
      await coverage.take(true)
      const seeds = this.#target.seeds.map((text) => Buffer.from(text))
      // Small ones first: what a large one reaches besides is its own.
      for (const input of [...seeds, ...this.#options.corpus].sort((a, b) => a.length - b.length)) {
        await this.#execute(input)
        if ((await coverage.take(true)) > 0) this.#inputs.push(input)
      }
      if (this.#inputs.length === 0) this.#inputs.push(...seeds)
      let size = 8
      const due = performance.now() + seconds * 1000
      while (performance.now() < due && this.#executions < executions && this.#found.length < MOST_FINDINGS) {
        const batch = Array.from({ length: size }, () => this.#mutator.next(this.#inputs))
        const perInput = await this.#try(batch)
        size = Math.max(1, Math.min(LARGEST_BATCH, Math.ceil((this.#look * BATCH_PER_LOOK) / perInput)))
        onProgress?.(this.#state())
      }
      return {
        ...this.#state(),
        seconds: (performance.now() - this.#began) / 1000,
        found: this.#found,
        inputs: this.#inputs,
      }
    } finally {
      await coverage.end()
      await this.#guarded.close()
    }
  }

  /** Runs inputs and keeps those that reach something new: the batch is halved until it is one. Gives how long one took, in milliseconds. */
  async #try(batch: readonly Uint8Array[]): Promise<number> {
    const began = performance.now()
    for (const input of batch) await this.#execute(input)
    const ran = performance.now()
    const fresh = (await this.#coverage?.take(batch.length === 1)) ?? 0
    this.#look = 0.8 * this.#look + 0.2 * (performance.now() - ran)
    if (fresh > 0 && batch.length === 1) this.#inputs.push(...batch)
    if (fresh > 0 && batch.length > 1) {
      const middle = batch.length >> 1
      await this.#try(batch.slice(0, middle))
      await this.#try(batch.slice(middle))
      // What was reached by chance alone is not to be looked for again.
      await this.#coverage?.take(true)
    }
    return (ran - began) / Math.max(1, batch.length)
  }

  async #execute(input: Uint8Array): Promise<void> {
    this.#executions += 1
    const problem = await this.#guarded.run(input)
    if (problem === undefined || this.#problems.has(kindOf(problem))) return
    this.#problems.add(kindOf(problem))
    await this.#guarded.reopen()
    if ((await this.#guarded.run(input)) === undefined) {
      this.#found.push({ input, problem, alone: false })
      return
    }
    await this.#guarded.reopen()
    const small = await shrink(input, async (smaller) => {
      const again = await this.#guarded.run(smaller)
      if (again !== undefined) await this.#guarded.reopen()
      return again !== undefined && kindOf(again) === kindOf(problem)
    })
    this.#found.push({ input: small, problem: (await this.#guarded.run(small)) ?? problem, alone: true })
    await this.#guarded.reopen()
  }

  #state(): FuzzState {
    const seconds = (performance.now() - this.#began) / 1000
    return {
      executions: this.#executions,
      perSecond: Math.round(this.#executions / seconds),
      coverage: this.#coverage?.total ?? 0,
      corpus: this.#inputs.length,
      findings: this.#found.length,
    }
  }
}

/** A subject under watch: nothing may be thrown that nobody catches, nothing may take too long. */
class Guarded {
  readonly #target: Target
  readonly #watchdog: Watchdog | undefined
  #subject: Subject | undefined
  #uncaught: unknown[] = []
  readonly #onUncaught = (thrown: unknown): void => void this.#uncaught.push(thrown)

  constructor(target: Target, watchdog?: Watchdog) {
    this.#target = target
    this.#watchdog = watchdog
    process.on('uncaughtException', this.#onUncaught)
    process.on('unhandledRejection', this.#onUncaught)
  }

  /** What the input broke; undefined when nothing. */
  async run(input: Uint8Array): Promise<string | undefined> {
    const { deadline } = this.#target
    const subject = (this.#subject ??= await this.#target.open())
    const began = performance.now()
    this.#watchdog?.begin(input)
    try {
      const running = subject.run(input)
      if (running !== undefined) {
        await within(running, deadline)
        // Rejections are told of when the promises of their turn are through.
        await new Promise((resolve) => setImmediate(resolve))
      }
    } catch (thrown) {
      return thrown instanceof Broken ? thrown.message : `thrown: ${stackOf(thrown)}`
    } finally {
      this.#watchdog?.end()
    }
    const took = performance.now() - began
    if (took > deadline) return `took ${Math.round(took)} ms, which is more than ${deadline} ms`
    if (this.#uncaught.length === 0) return undefined
    const [first] = this.#uncaught
    this.#uncaught = []
    return `nobody caught: ${stackOf(first)}`
  }

  /** Goes on with a fresh subject. */
  async reopen(): Promise<void> {
    const subject = this.#subject
    this.#subject = undefined
    await subject?.close?.()
    this.#uncaught = []
  }

  async close(): Promise<void> {
    await this.reopen()
    process.off('uncaughtException', this.#onUncaught)
    process.off('unhandledRejection', this.#onUncaught)
  }
}

async function within(running: Promise<void>, deadline: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Broken(`did not end within ${deadline} ms`)), deadline)
  })
  try {
    await Promise.race([running, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Makes an input smaller while it goes on failing: pieces are left out, then bytes made plain. */
async function shrink(
  input: Uint8Array,
  fails: (smaller: Uint8Array) => Promise<boolean>,
): Promise<Uint8Array> {
  let best = input
  let left = SHRINK_RUNS
  const due = performance.now() + SHRINK_TIME
  const attempt = async (candidate: Uint8Array): Promise<boolean> => {
    if (performance.now() > due) left = 0
    if (left-- <= 0 || !(await fails(candidate))) return false
    best = candidate
    return true
  }
  for (
    let piece = Math.ceil(best.length / 2);
    piece >= 1 && left > 0;
    piece = piece === 1 ? 0 : Math.ceil(piece / 2)
  ) {
    for (let at = 0; at < best.length && left > 0;) {
      const gone = await attempt(Buffer.concat([best.subarray(0, at), best.subarray(at + piece)]))
      if (!gone) at += piece
    }
  }
  for (let at = 0; at < best.length && left > 0; at++) {
    if (best[at] === 0x61) continue
    const plain = new Uint8Array(best)
    plain[at] = 0x61
    await attempt(plain)
  }
  return best
}

/** Findings that differ in numbers and quotations only are one. */
function kindOf(problem: string): string {
  const plain = problem.replace(/(['"`]).*\1/gs, '')
  return (plain.split('\n')[0] ?? '').replace(/\d+/g, '0').slice(0, 120)
}

function stackOf(thrown: unknown): string {
  return thrown instanceof Error
    ? (thrown.stack ?? thrown.message).split('\n').slice(0, 6).join('\n')
    : String(thrown)
}
