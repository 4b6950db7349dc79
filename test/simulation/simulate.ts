/** Runs one seed, or a plan, against the session manager. */

import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import { makePlan, type Plan } from './plan.ts'
import { type Fault, type MakeManager, type RunResult, World } from './world.ts'

const makeManager: MakeManager = (createServer, options) =>
  new StreamableHTTPSessionManager(createServer, options)

/** How a run is watched. */
export interface SimulateOptions {
  /** Keeps the history's lines, not only its hash. Default false. */
  readonly keepHistory?: boolean
  readonly fault?: Fault | undefined
}

/** Runs a plan. What production code throws where nobody catches it is a broken promise as well. */
export async function simulate(plan: Plan, options: SimulateOptions = {}): Promise<RunResult> {
  const restore = options.fault?.patch?.()
  const uncaught: unknown[] = []
  const onUncaught = (thrown: unknown): void => void uncaught.push(thrown)
  process.on('unhandledRejection', onUncaught)
  process.on('uncaughtException', onUncaught)
  try {
    const world = new World(plan, makeManager, {
      keepHistory: options.keepHistory ?? false,
      fault: options.fault,
    })
    const result = await world.run()
    for (const thrown of uncaught) {
      const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)
      result.recorder.violate('P6', `nobody handled: ${text}`)
    }
    return result
  } finally {
    process.off('unhandledRejection', onUncaught)
    process.off('uncaughtException', onUncaught)
    restore?.()
  }
}

/** Runs a seed. */
export function simulateSeed(seed: number, options: SimulateOptions = {}): Promise<RunResult> {
  return simulate(makePlan(seed), options)
}
