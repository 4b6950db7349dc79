/** Records as a store keeps them: read back as they were, and what is damaged is refused by name. */

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { SharedJsonPool } from '../../src/session/shared-json.ts'
import { newRecord } from '../../src/session/session-record.ts'
import { recordFromJson, recordToJson } from '../../src/session/stored-record.ts'
import type { JsonValue } from '../../src/types.ts'

const RECORD = {
  form: 1,
  principal: 'alice',
  createdAt: 1_767_225_600_000,
  protocolVersion: '2025-11-25',
  initialized: true,
  used: true,
  changed: false,
  streams: 3,
  delivered: 2,
  data: { a: [1] },
  initialize: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } },
  capabilities: { tools: {} },
}

test('what is written is read back as it was', () => {
  const shared = new SharedJsonPool()
  fc.assert(
    fc.property(
      fc.record({
        principal: fc.option(fc.string(), { nil: undefined }),
        createdAt: fc.integer({ min: 0, max: 8.64e15 }),
        initialize: fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 })),
        capabilities: fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 })),
        protocolVersion: fc.string({ minLength: 1 }),
        initialized: fc.boolean(),
        used: fc.boolean(),
        changed: fc.boolean(),
        logLevel: fc.option(fc.string(), { nil: undefined }),
        subscriptions: fc.option(fc.array(fc.string()), { nil: undefined }),
        data: fc.jsonValue({ maxDepth: 3 }),
        streams: fc.nat(),
        delivered: fc.nat(),
      }),
      ({ principal, createdAt, initialize, capabilities, subscriptions, data, ...rest }) => {
        const record = {
          ...newRecord('id', principal, createdAt, shared.hold(JSON.stringify(initialize))),
          ...rest,
          // As JSON says it: -0 is 0 there.
          data: JSON.parse(JSON.stringify(data)) as JsonValue,
          capabilities: shared.hold(JSON.stringify(capabilities)),
          subscriptions: subscriptions === undefined ? undefined : new Set(subscriptions),
        }
        const read = recordFromJson(recordToJson(record), 'id', shared)
        expect({
          ...read,
          initialize: read.initialize.text,
          capabilities: read.capabilities?.text,
        }).toStrictEqual({
          ...record,
          initialize: JSON.stringify(initialize),
          capabilities: JSON.stringify(capabilities),
        })
        expect(recordToJson(read)).toBe(recordToJson(record))
      },
    ),
  )
})

describe('refused by name, so that the session is left out and the others are served', () => {
  test.each([
    ['createdAt', undefined],
    ['createdAt', 'yesterday'],
    ['createdAt', 1e300],
    ['createdAt', null],
    ['streams', undefined],
    ['streams', -1],
    ['streams', 1.5],
    ['streams', 2 ** 60],
    ['delivered', undefined],
    ['delivered', {}],
    ['capabilities', undefined],
    ['capabilities', 7],
    ['capabilities', []],
    ['initialize', []],
    ['principal', 7],
    ['principal', null],
    ['protocolVersion', 20251125],
  ])('%s: %j', (name, value) => {
    const text = JSON.stringify({ ...RECORD, [name]: value })
    expect(() => recordFromJson(text, 'abcdefgh…', new SharedJsonPool())).toThrow(
      expect.objectContaining({
        code: 'store-unavailable',
        message: expect.stringContaining('abcdefgh…') as string,
      }),
    )
  })

  test.each(['"data":{"a":[1]}', '"initialize":{', '"capabilities":{'])(
    'too deep to be walked through: %s',
    (place) => {
      const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
      const name = place.slice(0, place.indexOf(':') + 1)
      const text = JSON.stringify(RECORD).replace(
        place,
        place.endsWith('}') ? `${name}${deep}` : `${place}"x":${deep},`,
      )
      expect(() => recordFromJson(text, 'abcdefgh…', new SharedJsonPool())).toThrow(
        expect.objectContaining({ code: 'store-unavailable' }),
      )
    },
  )
})
