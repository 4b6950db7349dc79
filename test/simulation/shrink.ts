/** Makes the plan of a failing run smaller while it goes on failing: clients, then steps, then conditions. */

import type { PlanLike } from './simulation.ts'

/** Whether a plan still shows what is looked for. */
export type StillFails<P> = (plan: P) => Promise<boolean>

/**
 * Delta debugging over clients and steps, then the plain value of each condition. Runs `fails` at most `budget` times.
 * @returns the smallest failing plan found
 */
export async function shrink<P extends PlanLike>(
  plan: P,
  fails: StillFails<P>,
  plain: Partial<P['conditions']>,
  budget = 400,
): Promise<P> {
  let left = budget
  let best = plan
  const attempt = async (candidate: P): Promise<boolean> => {
    if (left <= 0) return false
    left -= 1
    if (!(await fails(candidate))) return false
    best = candidate
    return true
  }
  let before: number
  do {
    before = sizeOf(best)
    await shrinkClients(() => best, attempt)
    await shrinkSteps(() => best, attempt)
  } while (sizeOf(best) < before && left > 0)
  for (const [name, value] of Object.entries(plain)) {
    const conditions: Readonly<Record<string, unknown>> = { ...best.conditions }
    if (JSON.stringify(conditions[name]) === JSON.stringify(value)) continue
    await attempt({ ...best, conditions: { ...conditions, [name]: value } })
  }
  return best
}

/** How many steps a plan has. */
export function sizeOf(plan: PlanLike): number {
  return plan.clients.reduce((sum, client) => sum + client.steps.length, 0)
}

type Attempt<P> = (candidate: P) => Promise<boolean>

/** A client without steps does nothing, and keeps the numbers of the others. */
async function shrinkClients<P extends PlanLike>(current: () => P, attempt: Attempt<P>): Promise<void> {
  for (let index = 0; index < current().clients.length; index++) {
    if ((current().clients[index]?.steps.length ?? 0) === 0) continue
    await attempt(withSteps(current(), index, () => []))
  }
}

async function shrinkSteps<P extends PlanLike>(current: () => P, attempt: Attempt<P>): Promise<void> {
  for (let index = 0; index < current().clients.length; index++) {
    let chunk = Math.ceil((current().clients[index]?.steps.length ?? 0) / 2)
    while (chunk >= 1) {
      for (let start = 0; start < (current().clients[index]?.steps.length ?? 0);) {
        const from = start
        const size = chunk
        const gone = await attempt(
          withSteps(current(), index, (steps) => [...steps.slice(0, from), ...steps.slice(from + size)]),
        )
        if (!gone) start += chunk
      }
      chunk = chunk === 1 ? 0 : Math.ceil(chunk / 2)
    }
  }
}

function withSteps<P extends PlanLike>(
  plan: P,
  index: number,
  change: (steps: readonly object[]) => readonly object[],
): P {
  const clients = plan.clients.map((client, at) =>
    at === index ? { ...client, steps: change(client.steps) } : client,
  )
  return { ...plan, clients }
}
