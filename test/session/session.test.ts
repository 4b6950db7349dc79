/** A session's events: what starts also ends, and nothing else does. */

import { expect, test } from 'vitest'

import type { InitializeEnding } from '../support/fake-server.ts'
import { initialize } from '../support/mcp-wire.ts'
import { SimApp } from '../support/sim-app.ts'
import { VirtualClock } from '../support/virtual-clock.ts'

test.each<InitializeEnding>(['error', 'never', 'throw', 'close'])(
  'an initialize that fails (%s) tells of no request: none was told to have started',
  async (ending) => {
    const app = new SimApp(new VirtualClock(), {}, { initialize: ending })
    const exchange = app.post(undefined, initialize())
    await app.clock.advance(60_000)
    expect(exchange.outcome).toBe('completed')
    expect(app.events.map(({ type }) => type).filter((type) => type !== 'request.refused')).toEqual([])
    await app.manager.close()
    expect(app.leftovers()).toEqual([])
  },
)
