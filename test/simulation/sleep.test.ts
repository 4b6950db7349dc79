/** Two hundred seeds of sleep and wake, and what the checker must find. */

import { describe, expect, test } from 'vitest'

import { Instance } from '../../src/session/instance.ts'
import { Replay } from '../../src/session/replay.ts'
import { Session } from '../../src/session/session.ts'
import { replace } from '../support/replace.ts'
import { simulateSleep, type SleepFault } from './sleep.ts'

test('200 seeds', async () => {
  const broken: string[] = []
  for (let seed = 1; seed <= 200; seed++) {
    for (const text of await simulateSleep(seed)) broken.push(`seed ${seed}: ${text}`)
  }
  expect(broken).toEqual([])
}, 60_000)

/** Changes what a session keeps once it sleeps. */
function afterSleep(change: (session: Session) => void): () => void {
  return replace(Session.prototype, 'sleep', (original) => {
    return function (this: Session) {
      const outcome = original.call(this)
      if (outcome === 'asleep') change(this)
      return outcome
    }
  })
}

const FAULTS: Readonly<Record<string, SleepFault>> = {
  'a waking calls the factory twice': () =>
    replace(Instance, 'create', (original) => async (runtime, host, context, id) => {
      if (context.session.restored) await original.call(Instance, runtime, host, context, id)
      return original.call(Instance, runtime, host, context, id)
    }),
  'an instance sleeps with a running request': () => {
    const original = Object.getOwnPropertyDescriptor(Session.prototype, 'needsInstance') ?? {}
    Object.defineProperty(Session.prototype, 'needsInstance', { get: () => false, configurable: true })
    return () => void Object.defineProperty(Session.prototype, 'needsInstance', original)
  },
  'log level and subscriptions are not replayed': () =>
    replace(Replay.prototype, 'settings', () => () => Promise.resolve()),
  'data is lost': () => afterSleep(({ record }) => (record.data = {})),
  'the log level is lost': () => afterSleep(({ record }) => (record.logLevel = undefined)),
  'numbers of requests to the client begin anew': () =>
    afterSleep(({ record }) => (record.serverRequests = 0)),
  'changes of lists leak from replay': (app) =>
    replace(Replay.prototype, 'sendFromInstance', (original) => {
      return function (this: Replay, transport, message, related) {
        if ('method' in message && message.method.endsWith('list_changed'))
          app()
            .manager.sessions.get(transport.sessionId ?? '')
            ?.notify(message.method)
        return original.call(this, transport, message, related)
      }
    }),
  'nothing sleeps': () => replace(Session.prototype, 'sleep', () => () => 'awake'),
}

describe('the checker finds', () => {
  test.each(Object.keys(FAULTS))('%s', async (name) => {
    for (let seed = 1; seed <= 30; seed++) {
      if ((await simulateSleep(seed, FAULTS[name])).length > 0) return
    }
    expect.fail('thirty seeds did not find it')
  })
})
