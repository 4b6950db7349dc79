/** Settings: precedence, checks, and errors that name the option, what it got and what it takes. */

import { inspect } from 'node:util'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { formatDuration } from '../src/duration.ts'
import { formatValue, readValue } from '../src/setting-value.ts'
import { resolveListenOptions, resolveOptions } from '../src/options.ts'
import { checkTogether } from '../src/settings-together.ts'
import { findSettings, settings } from '../src/settings.ts'
import type { Environment } from '../src/settings.ts'
import { MemorySessionStore } from '../src/store/memory-store.ts'
import type { AppOptions, Logger } from '../src/types.ts'

/** The error of these options, as `Name: message`. */
function refusal(options: unknown, env: Environment = {}): string {
  return thrownBy(() => resolveOptions(options as AppOptions, env))
}

function thrownBy(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    return String(error)
  }
  throw new Error('nothing was thrown')
}

const idle = (options: AppOptions, env: Environment = {}): unknown =>
  resolveOptions(options, env).sessionIdleTimeout

describe('the table', () => {
  it('has each name once, in the three ways it is written', () => {
    for (const name of ['key', 'flag'] as const) {
      expect(new Set(settings.map((setting) => setting[name])).size).toBe(settings.length)
    }
    const setting = settings.find(({ key }) => key === 'sessionIdleTimeout')
    expect(setting).toMatchObject({
      flag: 'session-idle-timeout',
      env: ['SOJOURN_SESSION_IDLE_TIMEOUT'],
      default: 1_800_000,
    })
    expect(settings.find(({ key }) => key === 'port')?.env).toEqual(['SOJOURN_PORT', 'PORT'])
    expect(settings.find(({ key }) => key === 'host')?.env).toEqual(['SOJOURN_HOST', 'HOST'])
  })

  it('has defaults that its own rules take, as text too', () => {
    for (const { rule, flag, default: initial } of settings) {
      if (initial === undefined || (Array.isArray(initial) && initial.length === 0)) continue
      expect(readValue(rule, flag, formatValue(rule, initial)), flag).toEqual(initial)
    }
  })

  it('resolves to the documented defaults', () => {
    expect(resolveOptions({}, {})).toEqual({
      sessionIdleTimeout: 1_800_000,
      unusedSessionTimeout: 300_000,
      handshakeTimeout: 60_000,
      sessionMaxAge: Number.POSITIVE_INFINITY,
      maxSessions: 10_000,
      maxSessionsPerPrincipal: Number.POSITIVE_INFINITY,
      evictableAfter: 300_000,
      initializeTimeout: 60_000,
      detachedRequestTimeout: 600_000,
      undeliveredRequestTimeout: 10_000,
      drainTimeout: 30_000,
      restartGrace: 10_000,
      store: 'memory',
      durability: 'full',
      maxStoreSize: 1024 ** 3,
      sleepAfter: Number.POSITIVE_INFINITY,
      maxAwake: Number.POSITIVE_INFINITY,
      stateless: false,
      protocolEras: 'both',
      instances: 'fresh',
      maxPooledInstances: 1000,
      maxPooledInstancesPerPrincipal: 16,
      pooledInstanceIdleTimeout: 60_000,
      responseMode: 'auto',
      jsonResponseWindow: 25,
      retryInterval: 3000,
      keepAliveInterval: 15_000,
      streamMaxAge: Number.POSITIVE_INFINITY,
      standaloneStream: 'takeover',
      endStreamsOnTokenExpiry: true,
      unsentTimeout: 60_000,
      openRatePerPrincipal: Number.POSITIVE_INFINITY,
      openBurstPerPrincipal: 20,
      openRatePerAddress: Number.POSITIVE_INFINITY,
      openBurstPerAddress: 50,
      maxHeapUsed: 0.85,
      maxBodySize: 4 * 1024 ** 2,
      bodyTimeout: 30_000,
      maxInitializeSize: 16 * 1024,
      maxBatchSize: 100,
      maxStreamsPerSession: 64,
      maxRequestsPerSession: 256,
      maxServerRequestsPerSession: 64,
      maxStreamBuffer: 1024 ** 2,
      maxMessageSize: 16 * 1024 ** 2,
      maxSessionDataSize: 64 * 1024,
      maxSubscriptions: 1000,
      maxSubscriptionUriSize: 2048,
      eventLogMaxBytes: 1024 ** 2,
      eventLogMaxEvents: 1000,
      eventLogMaxAge: 600_000,
      eventLogMaxTotalBytes: 256 * 1024 ** 2,
      allowedHosts: [],
      allowedOrigins: [],
      corsOrigins: [],
      trustedProxies: 0,
      authenticate: undefined,
      principal: undefined,
      eventLog: undefined,
      logger: undefined,
      clock: undefined,
    })
    expect(resolveListenOptions({}, {}).listen).toEqual({
      host: '127.0.0.1',
      port: 3000,
      socket: undefined,
      path: '/mcp',
      healthPath: '/health',
      readyPath: '/ready',
      httpKeepAliveTimeout: 75_000,
      headersTimeout: 30_000,
      maxConnections: 20_000,
      handleSignals: true,
    })
  })
})

describe('sessionIdleTimeout', () => {
  it.each([
    ['5m', 300_000],
    [1, 1],
    [1_800_000, 1_800_000],
    [24.9 * 86_400_000, 24.9 * 86_400_000],
    [2 ** 31, 2 ** 31],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
    ['Infinity', Number.POSITIVE_INFINITY],
  ])('takes %j', (given, milliseconds) => {
    expect(idle({ sessionIdleTimeout: given })).toBe(milliseconds)
  })

  it.each([
    [-1, 'got -1'],
    [0, 'got 0'],
    [Number.NaN, 'got NaN'],
    [Number.NEGATIVE_INFINITY, 'got -Infinity'],
    ['', "got ''"],
    ['5', "got '5' (a string needs a unit)"],
    ['0s', "got '0s'"],
    ['-5m', "got '-5m'"],
    ['5min', "got '5min'"],
  ])('refuses %j as a RangeError', (given, got) => {
    expect(refusal({ sessionIdleTimeout: given })).toBe(
      `RangeError: sessionIdleTimeout must be a positive duration such as '30m' or 1800000 (ms), ${got}`,
    )
  })

  it.each([
    [null, 'null'],
    [true, 'true'],
    [{}, 'an object'],
    [[], 'an array'],
    [5n, '5n'],
  ])('refuses %s as a TypeError', (given, got) => {
    expect(refusal({ sessionIdleTimeout: given })).toBe(
      `TypeError: sessionIdleTimeout must be a positive duration such as '30m' or 1800000 (ms), got ${got}`,
    )
  })

  it('may be a function, whose failures cost nothing but the wish', () => {
    const errors: unknown[] = []
    const logger: Logger = { debug() {}, info() {}, warn() {}, error: (...args) => errors.push(args) }
    const resolved = (timeoutOf: () => unknown): unknown => {
      const timeout = idle({ sessionIdleTimeout: timeoutOf as () => string, logger })
      return typeof timeout === 'function' ? timeout({ principal: undefined, client: undefined }) : undefined
    }
    expect(resolved(() => '2m')).toBe(120_000)
    expect(errors).toHaveLength(0)
    expect(resolved(() => -1)).toBe(1_800_000)
    expect(
      resolved(() => {
        throw new Error('no')
      }),
    ).toBe(1_800_000)
    expect(errors).toHaveLength(2)
    expect(inspect(errors)).toContain('what sessionIdleTimeout returns must be a positive duration')
  })
})

describe('precedence', () => {
  const env = { SOJOURN_SESSION_IDLE_TIMEOUT: '7m' }

  it('is argument, flag, environment, default', () => {
    const wanted = settings.filter(({ key }) => key === 'sessionIdleTimeout')
    const found = (sources: Parameters<typeof findSettings>[1]) =>
      findSettings(wanted, sources).get('sessionIdleTimeout')
    const flags = { 'session-idle-timeout': '8m' }
    expect(found({ arguments: { sessionIdleTimeout: '9m' }, flags, env })).toMatchObject({
      value: 540_000,
      origin: 'argument',
    })
    expect(found({ flags, env })).toMatchObject({
      value: 480_000,
      origin: 'flag',
      name: '--session-idle-timeout',
    })
    expect(found({ env })).toMatchObject({
      value: 420_000,
      origin: 'environment',
      name: 'SOJOURN_SESSION_IDLE_TIMEOUT',
    })
    expect(found({})).toMatchObject({ value: 1_800_000, origin: 'default' })
  })

  it('counts undefined as not given, and an empty variable as not set', () => {
    expect(idle({ sessionIdleTimeout: undefined }, env)).toBe(420_000)
    expect(idle({}, { SOJOURN_SESSION_IDLE_TIMEOUT: ' ' })).toBe(1_800_000)
  })

  it('prefers SOJOURN_PORT and SOJOURN_HOST to PORT and HOST', () => {
    expect(resolveListenOptions({}, { PORT: '8080', HOST: 'localhost' }).listen).toMatchObject({
      port: 8080,
      host: 'localhost',
    })
    expect(resolveListenOptions({}, { PORT: '8080', SOJOURN_PORT: '9090' }).listen.port).toBe(9090)
    expect(resolveListenOptions({ port: 0 }, { PORT: '8080' }).listen.port).toBe(0)
  })
})

describe('text from flags and environment', () => {
  it('needs units, and spells out both readings where one is missing', () => {
    expect(refusal({}, { SOJOURN_SESSION_IDLE_TIMEOUT: '1800' })).toBe(
      "RangeError: SOJOURN_SESSION_IDLE_TIMEOUT=1800: is that 1800 ms or 1800 s? write '1800ms' or '1800s' (30m)",
    )
    expect(refusal({}, { SOJOURN_SESSION_IDLE_TIMEOUT: '5' })).toBe(
      "RangeError: SOJOURN_SESSION_IDLE_TIMEOUT=5: is that 5 ms or 5 s? write '5ms' or '5s'",
    )
    expect(refusal({}, { SOJOURN_MAX_BODY_SIZE: '4' })).toBe(
      "RangeError: SOJOURN_MAX_BODY_SIZE=4: is that 4 bytes or 4 MiB? write '4B' or '4MiB'",
    )
    expect(refusal({}, { SOJOURN_MAX_BODY_SIZE: '4194304' })).toBe(
      "RangeError: SOJOURN_MAX_BODY_SIZE=4194304: is that 4194304 bytes or 4194304 MiB? write '4194304B' (4MiB) or '4194304MiB'",
    )
  })

  it('is told what it must be, by the name it was given under', () => {
    expect(refusal({}, { SOJOURN_SESSION_IDLE_TIMEOUT: '-1s' })).toBe(
      "RangeError: SOJOURN_SESSION_IDLE_TIMEOUT must be a positive duration such as '30m', got '-1s'",
    )
    expect(refusal({}, { SOJOURN_SESSION_IDLE_TIMEOUT: '0' })).toBe(
      "RangeError: SOJOURN_SESSION_IDLE_TIMEOUT must be a positive duration such as '30m', got 0",
    )
    expect(refusal({}, { SOJOURN_STATELESS: 'perhaps' })).toBe(
      "RangeError: SOJOURN_STATELESS must be true or false, got 'perhaps'",
    )
    expect(refusal({}, { SOJOURN_MAX_SESSIONS: '1.5' })).toBe(
      'RangeError: SOJOURN_MAX_SESSIONS must be a whole number of 1 or more, or Infinity, got 1.5',
    )
    expect(refusal({}, { SOJOURN_ALLOWED_HOSTS: 'https://a.example' })).toBe(
      "RangeError: SOJOURN_ALLOWED_HOSTS must be host names without scheme and path such as 'mcp.example.com' or 'localhost:3000', " +
        "separated by commas, or 'any', got 'https://a.example'",
    )
  })

  it('may turn things off and on, and list', () => {
    const resolved = resolveOptions(
      {},
      {
        SOJOURN_SESSION_IDLE_TIMEOUT: 'Infinity',
        SOJOURN_MAX_SESSIONS: 'infinity',
        SOJOURN_DRAIN_TIMEOUT: '0',
        SOJOURN_JSON_RESPONSE: 'yes',
        SOJOURN_ALLOWED_HOSTS: 'a.example, b.example:8080,',
        SOJOURN_ALLOWED_ORIGINS: 'any',
        SOJOURN_CORS_ORIGINS: '*',
      },
    )
    expect(resolved).toMatchObject({
      sessionIdleTimeout: Number.POSITIVE_INFINITY,
      maxSessions: Number.POSITIVE_INFINITY,
      drainTimeout: 0,
      responseMode: 'json',
      allowedHosts: ['a.example', 'b.example:8080'],
      allowedOrigins: 'any',
      corsOrigins: '*',
    })
  })

  it('reads every duration as it is shown', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1 }), (milliseconds) => {
        expect(idle({}, { SOJOURN_SESSION_IDLE_TIMEOUT: formatDuration(milliseconds) })).toBe(milliseconds)
      }),
    )
  })
})

describe('wrong options', () => {
  it('are told apart from misspelled ones', () => {
    expect(refusal({ sesionIdleTimeout: '5m' })).toBe(
      'RangeError: httpApp has no option sesionIdleTimeout. Did you mean sessionIdleTimeout?',
    )
    expect(refusal({ session_idle_timeout: '5m' })).toContain('Did you mean sessionIdleTimeout?')
    expect(refusal({ colour: 'red' })).toBe('RangeError: httpApp has no option colour.')
    expect(refusal({ port: 3000 })).toBe(
      'RangeError: port is an option of runHttp, which listens; httpApp does not',
    )
    expect(thrownBy(() => resolveListenOptions({ prot: 3000 } as never, {}))).toBe(
      'RangeError: runHttp has no option prot. Did you mean port?',
    )
  })

  it.each<[unknown, string]>([
    [{ maxBatchSize: 1.5 }, 'RangeError: maxBatchSize must be a whole number of 1 or more, got 1.5'],
    [{ maxBatchSize: '5' }, "TypeError: maxBatchSize must be a whole number of 1 or more, got '5'"],
    [{ trustedProxies: -1 }, 'RangeError: trustedProxies must be a whole number of 0 or more, got -1'],
    [
      { maxBodySize: '4MB' },
      "RangeError: maxBodySize must be a byte size such as '4MiB' or 4194304 (bytes), got '4MB'",
    ],
    [
      { maxBodySize: Number.POSITIVE_INFINITY },
      "RangeError: maxBodySize must be a byte size such as '4MiB' or 4194304 (bytes), got Infinity",
    ],
    [
      { retryInterval: Number.POSITIVE_INFINITY },
      "RangeError: retryInterval must be a finite duration of 0 or more such as '3s' or 3000 (ms), got Infinity",
    ],
    [
      { responseMode: 'jsn' },
      "RangeError: responseMode must be one of 'auto', 'sse', 'json', got 'jsn'. Did you mean json?",
    ],
    [{ stateless: 'yes' }, "TypeError: stateless must be true or false, got 'yes'"],
    [
      { allowedHosts: 'a.example' },
      "RangeError: allowedHosts must be a list of host names without scheme and path such as 'mcp.example.com' or " +
        "'localhost:3000', or 'any', got 'a.example'",
    ],
    [
      { allowedHosts: ['*'] },
      "RangeError: allowedHosts has '*' among its entries; to take every host, write allowedHosts: 'any'",
    ],
    [
      { corsOrigins: ['a.example'] },
      "RangeError: corsOrigins must be a list of origins as browsers send them such as 'https://app.example.com', or '*', got 'a.example'",
    ],
    [{ authenticate: 'token' }, "TypeError: authenticate must be a function, got 'token'"],
    [{ eventLog: true }, 'TypeError: eventLog must be an EventLog, or false, got true'],
    [
      { logger: {} },
      'TypeError: logger must be an object with the methods debug, info, warn and error, such as console, got an object',
    ],
    [7, 'TypeError: the options of httpApp must be an object, got 7'],
  ])('%j', (options, message) => {
    expect(refusal(options)).toBe(message)
  })

  it.each<[unknown, string]>([
    [{ port: 65_536 }, 'RangeError: port must be a whole number from 0 to 65535, got 65536'],
    [
      { path: 'mcp' },
      "RangeError: path must be a URL path such as '/mcp', without query and fragment, got 'mcp'",
    ],
    [{ handleSignals: 1 }, 'TypeError: handleSignals must be true or false, got 1'],
    [
      { host: '0.0.0.0' },
      "RangeError: host '0.0.0.0' is reachable from other machines: name the hosts this server answers to with allowedHosts, " +
        "such as 'mcp.example.com', or 'any' if a proxy in front checks the Host header",
    ],
  ])('of listening: %j', (options, message) => {
    expect(thrownBy(() => resolveListenOptions(options as never, {}))).toBe(message)
  })

  it('do not make a listener of other machines without allowed hosts, wherever those are given', () => {
    const host = '0.0.0.0'
    expect(resolveListenOptions({ host, allowedHosts: ['a.example'] }, {}).listen.host).toBe(host)
    expect(resolveListenOptions({ host, allowedHosts: 'any' }, {}).listen.host).toBe(host)
    expect(resolveListenOptions({ host }, { SOJOURN_ALLOWED_HOSTS: 'a.example' }).listen.host).toBe(host)
    for (const loopback of ['127.0.0.1', '127.1.2.3', '::1', 'localhost']) {
      expect(resolveListenOptions({ host: loopback }, {}).listen.host).toBe(loopback)
    }
  })
})

describe('rates', () => {
  const rateOf = (openRatePerPrincipal: number | string): number =>
    resolveOptions({ openRatePerPrincipal }, {}).openRatePerPrincipal

  it.each([
    ['10/s', 10],
    ['90 / m', 1.5],
    ['36/h', 0.01],
    ['864/d', 0.01],
    [0.5, 0.5],
    ['Infinity', Number.POSITIVE_INFINITY],
  ])('%j is %j a second', (given, perSecond) => {
    expect(rateOf(given)).toBe(perSecond)
  })

  it.each([
    ['10', "got '10' (a string needs a unit)"],
    ['10/x', "got '10/x'"],
    ['0/s', "got '0/s'"],
    ['-1/s', "got '-1/s'"],
    ['', "got ''"],
    [0, 'got 0'],
    [-1, 'got -1'],
    [Number.NaN, 'got NaN'],
  ])('refuses %j', (given, got) => {
    expect(refusal({ openRatePerPrincipal: given })).toBe(
      `RangeError: openRatePerPrincipal must be a positive rate such as '1/s' or 1 (per second), ${got}`,
    )
  })

  it('takes text only with a unit, and says what it might mean', () => {
    const env = { SOJOURN_OPEN_RATE_PER_PRINCIPAL: '5' }
    expect(refusal({}, env)).toBe(
      "RangeError: SOJOURN_OPEN_RATE_PER_PRINCIPAL=5: is that 5 a second or 5 a minute? write '5/s' or '5/m'",
    )
  })

  it('reads back what it writes', () => {
    const rule = { kind: 'rate', example: '1/s' } as const
    for (const written of ['10/s', '30/m', '7/h', '1/d', 'Infinity']) {
      expect(formatValue(rule, readValue(rule, 'rate', written))).toBe(written)
    }
  })

  it('by address needs the number of proxies, be it 0', () => {
    expect(refusal({ openRatePerAddress: '10/s' })).toBe(
      'RangeError: openRatePerAddress needs trustedProxies, the number of reverse proxies in front: behind one that is not counted all clients ' +
        'have its address, and would share one rate. Set that, 0 where clients connect directly',
    )
    expect(resolveOptions({ openRatePerAddress: '10/s', trustedProxies: 0 }, {}).openRatePerAddress).toBe(10)
    const env = { SOJOURN_TRUSTED_PROXIES: '1' }
    expect(resolveOptions({ openRatePerAddress: '10/s' }, env).openRatePerAddress).toBe(10)
    expect(resolveOptions({ openRatePerAddress: 'Infinity' }, {}).openRatePerAddress).toBe(
      Number.POSITIVE_INFINITY,
    )
  })

  it('are what a burst needs', () => {
    expect(refusal({ openBurstPerPrincipal: 5 })).toBe(
      "RangeError: openBurstPerPrincipal needs openRatePerPrincipal: without a rate there is nothing to exceed. Set that, such as '1/s', or leave this out",
    )
    expect(refusal({ openBurstPerAddress: 5, trustedProxies: 0 })).toContain('needs openRatePerAddress')
  })

  it('say nothing where no session is opened', () => {
    expect(refusal({ stateless: true, openRatePerPrincipal: 1 })).toBe(
      'RangeError: stateless and openRatePerPrincipal exclude each other: a stateless server opens no sessions. Leave one out',
    )
  })
})

describe('options that exclude each other', () => {
  it.each<[AppOptions, Environment, string, string]>([
    [{ stateless: true, sessionIdleTimeout: '5m' }, {}, 'stateless', 'sessionIdleTimeout'],
    [{ stateless: true, sessionIdleTimeout: () => '5m' }, {}, 'stateless', 'sessionIdleTimeout'],
    [
      { stateless: true },
      { SOJOURN_SESSION_IDLE_TIMEOUT: '5m' },
      'stateless',
      'SOJOURN_SESSION_IDLE_TIMEOUT',
    ],
    [{ sessionIdleTimeout: 5 }, { SOJOURN_STATELESS: 'true' }, 'SOJOURN_STATELESS', 'sessionIdleTimeout'],
  ])('stateless and sessionIdleTimeout: %j %j', (options, env, stateless, timeout) => {
    expect(refusal(options, env)).toBe(
      `RangeError: ${stateless} and ${timeout} exclude each other: a stateless server keeps no session that could be idle. Leave one out`,
    )
  })

  it('stateless alone is fine', () => {
    expect(resolveOptions({ stateless: true }, {}).stateless).toBe(true)
    expect(resolveOptions({ stateless: false, sessionIdleTimeout: '5m' }, {}).stateless).toBe(false)
  })

  it.each<[object, Environment, string, string]>([
    [{ durability: 'relaxed' }, {}, 'durability', 'store'],
    [{ durability: 'full', store: 'memory' }, {}, 'durability', 'store'],
    [{ maxStoreSize: '1MiB' }, {}, 'maxStoreSize', 'store'],
    [{ durability: 'relaxed' }, { SOJOURN_STORE: 'memory' }, 'durability', 'SOJOURN_STORE'],
    [{}, { SOJOURN_DURABILITY: 'relaxed' }, 'SOJOURN_DURABILITY', 'store'],
  ])('what a store is told, without a store: %j %j', (options, env, durability, store) => {
    expect(refusal(options, env)).toBe(
      `RangeError: ${durability} needs a store: ${store} is 'memory', which keeps nothing beyond the process. Set ${store}, to 'sqlite:./sessions.db' for one, or leave ${durability} out`,
    )
  })

  it.each([{ durability: 'full' }, { maxStoreSize: '1MiB' }] as const)(
    '%j beside a store that was made already',
    (option) => {
      expect(refusal({ ...option, store: new MemorySessionStore() })).toBe(
        `RangeError: ${Object.keys(option).join()} says nothing about a store that was made already, and store is one. Give it to what makes that store, or leave it out`,
      )
    },
  )

  it('durability with a store is fine', () => {
    const options = { durability: 'relaxed', store: 'sqlite:./sessions.db' } as const
    expect(resolveOptions(options, {}).durability).toBe('relaxed')
    expect(resolveOptions({ durability: 'relaxed' }, { SOJOURN_STORE: 'sqlite:./s.db' }).durability).toBe(
      'relaxed',
    )
  })

  it('jsonResponse and another responseMode given in the same place', () => {
    expect(refusal({ jsonResponse: true, responseMode: 'sse' })).toBe(
      "RangeError: jsonResponse asks for JSON, but responseMode is 'sse': they contradict each other. Leave one out",
    )
    expect(() =>
      checkTogether(findSettings(settings, { flags: { 'json-response': 'true', 'response-mode': 'auto' } })),
    ).toThrow('--json-response asks for JSON, but --response-mode is')
  })

  it('given in different places, the stronger place wins', () => {
    expect(resolveOptions({ jsonResponse: true, responseMode: 'json' }, {}).responseMode).toBe('json')
    expect(resolveOptions({ jsonResponse: true }, { SOJOURN_RESPONSE_MODE: 'sse' }).responseMode).toBe('json')
    expect(resolveOptions({ responseMode: 'sse' }, { SOJOURN_JSON_RESPONSE: 'true' }).responseMode).toBe(
      'sse',
    )
    expect(resolveOptions({ jsonResponse: false }, {}).responseMode).toBe('auto')
  })
})
