/** The kinds of simulation there are. */

import { StreamableHTTPSessionManager } from '../../src/session/session-manager.ts'
import { type Conditions, makePlan, type Plan } from './plan.ts'
import type { KindName } from './promises.ts'
import { RESTART_FAULTS } from './restart-faults.ts'
import { makeRestartPlan, PLAIN_RESTART } from './restart-plan.ts'
import { type RestartFault, runRestart } from './restart.ts'
import { SESSION_FAULTS } from './session-faults.ts'
import { type DeliberateFault, type PlanLike, Simulation } from './simulation.ts'
import { SLEEP_FAULTS } from './sleep-faults.ts'
import { makeSleepPlan, PLAIN_SLEEP } from './sleep-plan.ts'
import { runSleep, type SleepFault } from './sleep.ts'
import { type SessionFault, World } from './world.ts'

const PLAIN: Partial<Conditions> = {
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
  admission: {},
  sleep: undefined,
  jitter: { late: 0, early: false },
  stalls: [],
  wallSteps: [],
  shutdownAt: undefined,
  closesAgainAfter: undefined,
}

/** The manager with everything that needs no store: streams, limits, admission, expiry, sleep, drain. */
export const sessions: Simulation<Plan, SessionFault> = new Simulation({
  name: 'sessions',
  makePlan,
  run: (plan, { keepHistory = false, fault }) =>
    new World(plan, (createServer, options) => new StreamableHTTPSessionManager(createServer, options), {
      keepHistory,
      fault,
    }).run(),
  plain: PLAIN,
  faults: SESSION_FAULTS,
})

/** Instances that sleep and fail to wake. */
export const sleep: Simulation<ReturnType<typeof makeSleepPlan>, SleepFault> = new Simulation({
  name: 'sleep',
  makePlan: makeSleepPlan,
  run: runSleep,
  plain: PLAIN_SLEEP,
  faults: SLEEP_FAULTS,
})

/** Processes that die over a slow store that fails at times. */
export const restart: Simulation<ReturnType<typeof makeRestartPlan>, RestartFault> = new Simulation({
  name: 'restart',
  makePlan: makeRestartPlan,
  run: runRestart,
  plain: PLAIN_RESTART,
  faults: RESTART_FAULTS,
})

/** All of them, by name. */
export const SIMULATIONS: Readonly<Record<KindName, Simulation<PlanLike, DeliberateFault>>> = {
  sessions,
  sleep,
  restart,
}
