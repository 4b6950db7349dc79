/** Makes the plan of a failing run smaller while it goes on failing: clients, then steps, then conditions. */

import type { ClientPlan, Plan, Step } from './plan.ts'

/** Whether a plan still shows what is looked for. */
export type StillFails = (plan: Plan) => Promise<boolean>

/**
 * Delta debugging over clients and steps, then the plain value of each condition. Runs `fails` at most `budget` times.
 * @returns the smallest failing plan found
 */
export async function shrink(plan: Plan, fails: StillFails, budget = 400): Promise<Plan> {
  let left = budget
  let best = plan
  const attempt = async (candidate: Plan): Promise<boolean> => {
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
  await shrinkConditions(() => best, attempt)
  return best
}

/** How many steps a plan has. */
export function sizeOf(plan: Plan): number {
  return plan.clients.reduce((sum, client) => sum + client.steps.length, 0)
}

type Attempt = (candidate: Plan) => Promise<boolean>

/** A client without steps does nothing, and keeps the numbers of the others. */
async function shrinkClients(current: () => Plan, attempt: Attempt): Promise<void> {
  for (let index = 0; index < current().clients.length; index++) {
    if ((current().clients[index]?.steps.length ?? 0) === 0) continue
    await attempt(withSteps(current(), index, () => []))
  }
}

async function shrinkSteps(current: () => Plan, attempt: Attempt): Promise<void> {
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

async function shrinkConditions(current: () => Plan, attempt: Attempt): Promise<void> {
  const plain: Partial<Plan['conditions']> = {
    sessionMaxAge: Number.POSITIVE_INFINITY,
    maxSessions: 100,
    maxSessionsPerPrincipal: Number.POSITIVE_INFINITY,
    responseMode: 'auto',
    keepAliveInterval: Number.POSITIVE_INFINITY,
    streamMaxAge: Number.POSITIVE_INFINITY,
    standaloneStream: 'takeover',
    maxStreamBuffer: 1024 * 1024,
    maxRequestsPerSession: 256,
    maxStreamsPerSession: 64,
    jitter: { late: 0, early: false },
    stalls: [],
    wallSteps: [],
    shutdownAt: undefined,
  }
  for (const [name, value] of Object.entries(plain)) {
    const { conditions } = current()
    if (JSON.stringify(conditions[name as keyof typeof conditions]) === JSON.stringify(value)) continue
    await attempt({ ...current(), conditions: { ...conditions, [name]: value } })
  }
  const { conditions } = current()
  if (conditions.log.kind !== 'memory')
    await attempt({ ...current(), conditions: { ...conditions, log: { ...conditions.log, kind: 'memory' } } })
}

function withSteps(plan: Plan, index: number, change: (steps: readonly Step[]) => readonly Step[]): Plan {
  const clients: ClientPlan[] = plan.clients.map((client, at) =>
    at === index ? { ...client, steps: change(client.steps) } : client,
  )
  return { ...plan, clients }
}
