/** The command line taken apart. */

import { describe, expect, it } from 'vitest'

import { parseArguments, UsageError } from '../../src/cli/arguments.ts'

const parse = (...args: string[]) => parseArguments('sojourn serve', args, ['help'])

describe('flags', () => {
  it('are taken in every form', () => {
    expect(parse('server.ts', '--port', '0', '--host=::1', '--stateless', '--no-json-response')).toEqual({
      positionals: ['server.ts'],
      flags: { port: '0', host: '::1', stateless: 'true', 'json-response': 'false' },
      switches: new Set(),
    })
    expect(parse('--stateless=false').flags).toEqual({ stateless: 'false' })
    expect(parse('-h').switches).toEqual(new Set(['help']))
    expect(parse('--', '--port').positionals).toEqual(['--port'])
  })

  it('that are lists add up, of others the last counts', () => {
    const { flags } = parse(
      '--allowed-hosts',
      'a.example',
      '--allowed-hosts',
      'b.example',
      '--port',
      '1',
      '--port',
      '2',
    )
    expect(flags).toEqual({ 'allowed-hosts': 'a.example,b.example', port: '2' })
  })

  it.each([
    [
      ['--prot', '0'],
      'sojourn serve has no flag --prot. Did you mean --port? `sojourn serve --help` lists all.',
    ],
    [
      ['--sessionIdleTimeout', '5m'],
      'sojourn serve has no flag --sessionIdleTimeout. Did you mean --session-idle-timeout? `sojourn serve --help` lists all.',
    ],
    [
      ['--no-port'],
      'sojourn serve has no flag --no-port. Did you mean --port? `sojourn serve --help` lists all.',
    ],
    [['-p', '0'], 'sojourn serve has no flag -p. `sojourn serve --help` lists all.'],
    [['--port'], '--port needs a value. Write --port=VALUE where the value begins with a dash.'],
    [
      ['--host', '--port', '0'],
      '--host needs a value. Write --host=VALUE where the value begins with a dash.',
    ],
    [
      ['--response-mode'],
      '--response-mode needs a value: one of auto, sse, json. Write --response-mode=VALUE where the value begins with a dash.',
    ],
  ])('%j are wrong usage', (args, message) => {
    expect(() => parse(...args)).toThrow(new UsageError(message))
  })

  it('may have a negative number as value, for the check to refuse', () => {
    expect(parse('--port', '-1').flags).toEqual({ port: '-1' })
  })
})
