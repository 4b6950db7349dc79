/** An app on virtual time whose sessions sleep after a second, for tests of sleep and wake. */

import { expect } from 'vitest'

import type { AppOptions, Logger, ServerContext } from '../../src/types.ts'
import { rpc } from './mcp-wire.ts'
import { type FakeFactory, SimApp } from './sim-app.ts'
import { VirtualClock } from './virtual-clock.ts'

/** `sleepAfter` of these apps, in milliseconds. */
export const SLEEP = 1000

/** The app, and what a test wants to know of it. */
export interface SleepApp {
  readonly clock: VirtualClock
  readonly app: SimApp
  /** What each factory call was given. */
  readonly contexts: ServerContext[]
  /** Log lines, level first. */
  readonly logs: string[]
}

/** Makes one; `author` is what the factory does. */
export function sleepApp(options: AppOptions = {}, author: FakeFactory = () => ({})): SleepApp {
  const clock = new VirtualClock({ start: 0 })
  const contexts: ServerContext[] = []
  const logs: string[] = []
  const write =
    (level: string) =>
    (...args: unknown[]): void =>
      void logs.push(`${level} ${String(args[0])}`)
  const logger: Logger = {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  }
  const app = new SimApp(clock, { sleepAfter: SLEEP, logger, ...options }, (context) => {
    contexts.push(context)
    return author(context)
  })
  return { clock, app, contexts, logs }
}

/** A call of the tool `run`. */
export function call(duration = 0, more: object = {}, id: string | number = 'q1'): object {
  return rpc('tools/call', { name: 'run', arguments: { tag: `call ${id}`, duration, ...more } }, id)
}

/** Whether a session has its instance. */
export function awake(app: SimApp, id: string): boolean | undefined {
  return app.manager.sessions.get(id)?.awake
}

/** How often sessions slept and woke. */
export function turns(app: SimApp): { slept: number; woken: number } {
  const count = (type: string): number => app.events.filter((event) => event.type === type).length
  return { slept: count('session.slept'), woken: count('session.woken') }
}

/** Ends the app; nothing may be left of it. */
export async function over({ app, clock }: SleepApp): Promise<void> {
  const closed = app.manager.close()
  for (let turn = 0; turn < 10; turn++) await clock.settle()
  await closed
  expect(app.leftovers()).toEqual([])
}
